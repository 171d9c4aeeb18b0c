"""The file tools of the same process cost a statement none of its locks: nobody else gets to write in between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import Bench

from takeback.journal.events import Caller
from takeback.server.engine.calls import Call
from takeback.tools.files import held

ADA = Caller(principal="ada", client="chat")
ANOTHER_PROGRAM = """\
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0).execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
else:
    print("let in")
"""
READS: list[tuple[str, dict[str, Any]]] = [
    ("read_file", {"path": "app.db"}),
    ("get_file_info", {"path": "app.db"}),
    ("search_files", {"pattern": "*", "content": "parent"}),
    ("list_databases", {}),
]


def another_program(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ANOTHER_PROGRAM, str(path)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(sys.platform != "linux", reason="it counts descriptors as Linux shows them")
@pytest.mark.parametrize(("tool", "arguments"), READS, ids=[tool for tool, _ in READS])
async def test_another_program_waits_for_the_statement_also_after_the_file_was_read(bench: Bench, db, tool, arguments):
    database: Any = bench.engine.core.systems["database"].database(f"files:{db}")  # type: ignore[attr-defined] -- a DatabaseSystem
    await bench.engine.read(Call(tool=tool, arguments=arguments, caller=ADA))
    connection = database.file.connect(write=True)
    before = open_files()
    connection.execute("BEGIN IMMEDIATE")
    answer = await bench.engine.read(Call(tool=tool, arguments=arguments, caller=ADA))
    assert answer.error is None
    assert another_program(db) == "database is locked"
    connection.execute("ROLLBACK")
    connection.close()
    assert another_program(db) == "let in"
    assert open_files() < before, "what waited is closed by now"


async def test_a_descriptor_that_is_closed_at_once_is_what_the_test_above_would_notice(
    bench: Bench, db, monkeypatch: pytest.MonkeyPatch
):
    """The mutant. Not with a write-ahead log: there the locks are on another file."""
    database: Any = bench.engine.core.systems["database"].database(f"files:{db}")  # type: ignore[attr-defined] -- a DatabaseSystem
    connection = database.file.connect(write=True)
    [(mode,)] = list(connection.execute("PRAGMA journal_mode"))
    monkeypatch.setattr(held, "_held", {})
    connection.execute("BEGIN IMMEDIATE")
    await bench.engine.read(Call(tool="read_file", arguments={"path": "app.db"}, caller=ADA))
    seen = another_program(db)
    monkeypatch.undo()
    connection.execute("ROLLBACK")
    connection.close()
    assert seen == ("let in" if mode == "delete" else "database is locked")
