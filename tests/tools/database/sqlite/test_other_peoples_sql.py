"""Statements that nobody here wrote, through `execute_sql` and back: SQLite's own speed test, as apsw ships it, and what
SQLAlchemy's test suite sends."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.other_peoples_sql import recorded, verb
from tests.server.engine.bench import Bench
from tests.tools.database.sqlite.outside import Outside, difference

AT_ONCE = 500
OURS = re.compile(r"\s*(BEGIN|COMMIT|END|PRAGMA|VACUUM)\b", re.IGNORECASE)
"""What a call does itself, or what is refused: how the database is stored, and transactions."""
STATEMENTS = 4000


def script_of(folder: Path) -> list[str]:
    """The statements, as the program writes them out."""
    path = folder / "script.sql"
    told = ["--scale", "1", "--iterations", "1", "--tests", "statements_nobindings", "--unicode", "10"]
    subprocess.run(
        [sys.executable, "-m", "apsw.speedtest", "--apsw", *told, "--dump-sql", str(path)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return list(_split(path.read_text()))


def _split(text: str) -> Iterator[str]:
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            if not OURS.match(statement):
                yield statement
            statement = ""


async def test_a_script_is_carried_out_as_by_another_program_and_taken_back(
    bench: Bench, folder: Path, outside: Outside
) -> None:
    path, other = bench.work / "app.db", folder / "other.db"
    for each in (path, other):
        outside.script(each, "CREATE TABLE mine(id INTEGER PRIMARY KEY, note); INSERT INTO mine VALUES (1, 'before');")
    before = outside.dump(path)
    script = script_of(folder)
    assert len(script) > 1000
    kinds = {statement.split(maxsplit=1)[0].upper() for statement in script}
    assert kinds >= {"CREATE", "INSERT", "UPDATE", "DELETE", "SELECT"}
    step = max(1, len(script) // STATEMENTS)
    run = await bench.start()
    for start in range(0, len(script), AT_ONCE * step):
        several = script[start : start + AT_ONCE]
        await bench.done("execute_sql", run, database="app.db", statements=[{"sql": sql} for sql in several])
        for sql in several:
            outside.run(other, sql)
    # the other program has an older SQLite; what both say must be the same all the same
    theirs, ours = outside.dump(other), outside.dump(path)
    assert ours == theirs, difference(theirs, ours)
    assert (await bench.back(run_id=run)).status == "complete"
    assert outside.dump(path) == before
    outside.check(path)
    outside.close()


SUITE = int(os.environ.get("TAKEBACK_FOREIGN_STATEMENTS", "600"))
"""Of the suite's, run one by one."""


async def test_a_public_test_suite_is_taken_back(bench: Bench, folder: Path, outside: Outside) -> None:
    path = bench.work / "app.db"
    outside.script(path, "CREATE TABLE mine(id INTEGER PRIMARY KEY, note); INSERT INTO mine VALUES (1, 'before');")
    before = outside.dump(path)
    suite = recorded(f"sqlite:///{folder / 'suite.db'}", folder / "suite")
    left_out = {"SELECT", "PRAGMA", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "ATTACH", "DETACH", ""}
    # the suite keeps half of its tables in a second file, which no statement reaches here
    writing = [text for text in suite if verb(text) not in left_out and "test_schema" not in text]
    told: Counter[str] = Counter()
    ran: Counter[str] = Counter()
    run = await bench.start()
    changed = False
    for number, text in enumerate(writing[:SUITE]):
        answer = await bench.call("execute_sql", run, database="app.db", sql=text)
        told[answer.status] += 1
        assert answer.status in ("applied", "failed"), (text, answer)
        if answer.status == "applied":
            ran[verb(text)] += 1
        if number % 100 == 50:  # in the end the suite has tidied up
            changed = changed or outside.dump(path) != before
    print(f"{told.total()} statements: {dict(told)}; ran: {dict(ran)}")
    assert changed
    answer = await bench.back(run_id=run)
    assert answer.status == "complete", answer.report
    assert outside.dump(path) == before, difference(before, outside.dump(path))
    outside.check(path)
    outside.close()
    assert ran.total() >= 0.9 * told.total()
    assert ran["INSERT"] >= 200 and ran["CREATE"] >= 100 and ran["DROP"] >= 100 and ran["DELETE"] >= 40
