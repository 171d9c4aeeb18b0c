"""SQL that nobody here wrote: what SQLAlchemy's own test suite for dialects sends to a database, written down as it runs.

The suite comes with the library (`sqlalchemy.testing.suite`): types, keys, defaults, counters, upserts, generated columns,
constraints, odd names. It runs in a process of its own, against a database of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

_CONFTEST: Final = '''
import json
import os

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

pytest.register_assert_rewrite("sqlalchemy.testing.assertions")
from sqlalchemy.testing.plugin.pytestplugin import *  # the suite's own set-up

out = open(os.environ["TAKEBACK_RECORDED"], "a", encoding="utf-8")


def note(sql):
    out.write(json.dumps(sql) + "\\n")
    out.flush()


@event.listens_for(Pool, "connect")
def connected(connection, record):
    if hasattr(connection, "set_trace_callback"):
        connection.set_trace_callback(note)
        return
    import psycopg

    class Noting(psycopg.ClientCursor):
        """Puts the values into the text, as literals, and writes it down."""

        def execute(self, query, params=None, **more):
            note(self.mogrify(query, params))
            return super().execute(query, params, **more)

        def executemany(self, query, params_seq, **more):
            for params in params_seq:
                self.execute(query, params)

    connection.cursor_factory = Noting
'''
_SETTINGS: Final = """
[sqla_testing]
requirement_cls=sqlalchemy.testing.requirements:SuiteRequirements
profile_file=profiles.txt
"""
_LEFT_OUT: Final = "not Reflection and not HasTable and not HasIndex and not HasSequence and not Isolation"
"""Hundreds of tests that only look at the catalog."""


def recorded(url: str, folder: Path) -> list[str]:
    """Run the suite against the database that a url of SQLAlchemy's names; the statements, in their order."""
    folder.mkdir()
    (folder / "conftest.py").write_text(_CONFTEST)
    (folder / "setup.cfg").write_text(_SETTINGS)
    (folder / "test_suite.py").write_text("from sqlalchemy.testing.suite import *\n")
    out = folder / "recorded"
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "--tb=no", "-c", "setup.cfg", "--rootdir", ".", "-p", "no:asyncio",
            "-p", "no:hypothesispytest", "-p", "no:cacheprovider", "test_suite.py", "-k", _LEFT_OUT, "--dburi", url,
        ],
        cwd=folder, env={**os.environ, "TAKEBACK_RECORDED": str(out)}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    # some of its tests want more than the database has: what they sent before they failed counts too
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    return [statement for line in out.read_text("utf-8").splitlines() if (statement := json.loads(line).strip())]


def verb(statement: str) -> str:
    """Its first word."""
    return statement.lstrip("( ;\n").split(maxsplit=1)[0].upper() if statement.strip("( ;\n") else ""
