"""Whatever gets around a guard is refused with one sentence of fact and one of advice, and nothing has changed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.tools.database.sqlite.outside import Outside

from takeback.server.engine.calls import Call
from takeback.server.engine.engine import Engine
from takeback.server.settings import ToolSettings
from takeback.tools.database.settings import DatabaseSettings

ESCAPES = {
    "attach": "ATTACH 'other.db' AS other",
    "attach by expression": "ATTACH (SELECT 'other' || '.db') AS other",
    "detach": "DETACH main",
    "begin": "BEGIN",
    "commit": "COMMIT",
    "end": "END TRANSACTION",
    "rollback": "ROLLBACK",
    "savepoint": "SAVEPOINT mine",
    "release": "RELEASE takeback",
    "two statements": "DELETE FROM child; DELETE FROM parent",
    "a statement and a commit": "DELETE FROM child; COMMIT",
    "a second one behind a comment": "DELETE FROM child; /* ; */ -- ;\n DELETE FROM parent",
    "vacuum": "VACUUM",
    "vacuum into": "VACUUM INTO 'copy.db'",
    "load_extension": "SELECT load_extension('evil')",
    "load_extension in an insert": "INSERT INTO log SELECT load_extension('evil'), 1, 2",
    "fts3_tokenizer": "SELECT fts3_tokenizer('simple')",
    "journal_mode": "PRAGMA journal_mode = OFF",
    "journal_mode by call": "PRAGMA journal_mode(memory)",
    "writable_schema": "PRAGMA writable_schema = ON",
    "synchronous": "PRAGMA main.synchronous = OFF",
    "foreign_keys": "PRAGMA foreign_keys = OFF",
    "pragma function": "SELECT * FROM pragma_journal_mode('off')",
    "trusted schema": "PRAGMA trusted_schema = ON",
    "incremental vacuum": "PRAGMA incremental_vacuum",
    "checkpoint": "PRAGMA wal_checkpoint(TRUNCATE)",
    "locking": "PRAGMA locking_mode = EXCLUSIVE",
    "temporary directory": "PRAGMA temp_store_directory = '.'",
    "encoding": "PRAGMA encoding = 'UTF-16'",
    "optimize": "PRAGMA optimize",
    "temp table": "CREATE TEMP TABLE t(x)",
    "temp trigger": "CREATE TEMP TRIGGER t AFTER INSERT ON parent BEGIN DELETE FROM child; END",
    "schema table": "DELETE FROM sqlite_schema",
    "schema update": "UPDATE sqlite_master SET sql = ''",
    "nothing": " ; ",
    "a comment": "-- DELETE FROM parent",
    "a zero byte": "DELETE FROM child\0; DROP TABLE parent",
    "no SQL": "please delete everything",
    "no such table": "DELETE FROM nobody",
    "a constraint": "INSERT INTO parent(name) VALUES ('a')",
    "a foreign key": "INSERT INTO child(parent) VALUES (99)",
    "a check": "UPDATE parent SET amount = -500",
    "a trigger": "DELETE FROM parent WHERE id = 3",
    "on conflict rollback": "INSERT OR ROLLBACK INTO parent(name) VALUES ('a')",
    "deferred": "CREATE TABLE d(p REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED) STRICT",
}


def check_words(message: str, advice: str) -> None:
    """One sentence each."""
    assert re.fullmatch(r"\S.*\.", message, re.DOTALL), message
    assert re.fullmatch(r"[A-Z].*\.", advice, re.DOTALL), advice
    assert "Traceback" not in message
    assert "apsw" not in message


async def refused(bench: Bench, **arguments: Any) -> Any:
    answer = await bench.call("execute_sql", await bench.start(), **arguments)
    assert answer.status == "failed", answer
    assert answer.error is not None
    check_words(answer.error.message, answer.error.advice)
    return answer.error


@pytest.mark.parametrize("name", ESCAPES)
async def test_an_escape_is_refused_and_nothing_has_changed(
    bench: Bench, db: Path, outside: Outside, name: str
) -> None:
    before, files = outside.dump(db), sorted(os.listdir(bench.work))
    await refused(bench, database="app.db", sql=ESCAPES[name])
    for place in ({"sql": "UPDATE child SET note = 'first'"}, {"sql": "DELETE FROM log"}):
        await refused(bench, database="app.db", statements=[place, {"sql": ESCAPES[name]}])
    assert outside.dump(db) == before
    assert sorted(os.listdir(bench.work)) == files


WRITES = (
    "DELETE FROM child",
    "INSERT INTO log VALUES (1, 2, 3) RETURNING what",
    "WITH x AS (SELECT 1) UPDATE parent SET amount = 1",
    "CREATE TABLE t(x)",
    "PRAGMA user_version = 7",
    "CREATE TEMP TABLE t(x)",
    "EXPLAIN DELETE FROM parent",
    "ANALYZE",
    "REINDEX",
    *(ESCAPES[name] for name in ("attach", "begin", "vacuum into", "load_extension", "journal_mode", "two statements")),
)


@pytest.mark.parametrize("sql", WRITES)
async def test_nothing_that_writes_gets_through_a_query(bench: Bench, db: Path, outside: Outside, sql: str) -> None:
    before = outside.dump(db)
    answer = await query(bench, sql)
    assert answer.error is not None
    check_words(answer.error.message, answer.error.advice)
    assert outside.dump(db) == before


async def query(bench: Bench, sql: str, **more: Any) -> Any:
    call = Call(tool="query_database", arguments={"database": "app.db", "sql": sql} | more, caller=ALICE)
    return await bench.engine.read(call)


async def test_a_query_tells_when_there_is_more(bench: Bench, db: Path) -> None:
    answer = (await query(bench, "SELECT id, name FROM parent ORDER BY id", limit=2)).result
    assert (answer["columns"], answer["rows"], answer["truncated"]) == (["id", "name"], [[1, "a"], [2, "b"]], True)
    sql = "SELECT 9007199254740993, 1e400, x'00ff', NULL, 0.5 WHERE ? = 'ü'"
    answer = (await query(bench, sql, parameters=["ü"])).result
    assert answer["rows"] == [["9007199254740993", "inf", {"base64": "AP8="}, None, 0.5]]
    assert not answer["truncated"]


async def test_a_message_tells_what_the_schema_says_and_nothing_of_other_rows(bench: Bench, db: Path) -> None:
    assert "thirteen stays" in (await refused(bench, database="app.db", sql="DELETE FROM parent WHERE id = 3")).message
    await bench.done(
        "execute_sql",
        database="app.db",
        sql="CREATE TRIGGER leak BEFORE UPDATE ON keyed BEGIN SELECT RAISE(ABORT, old.v || ' was there'); END",
    )
    assert (
        "secret" not in (await refused(bench, database="app.db", sql="UPDATE keyed SET w = 1 WHERE k = 'k2'")).message
    )
    error = await refused(bench, database="app.db", sql="SELECT json_extract('{}', v) FROM keyed WHERE k = 'k2'")
    assert "secret" not in error.message


@pytest.mark.parametrize("sql", ["SELECT 1", "DELETE FROM sqlite_schema WHERE 0", "PRAGMA user_version"])
async def test_what_writes_nothing_leaves_an_empty_file_empty(bench: Bench, sql: str) -> None:
    file = bench.work / "new.db"
    file.touch()
    await bench.call("execute_sql", await bench.start(), database="new.db", sql=sql)
    assert file.read_bytes() == b""


@pytest.mark.parametrize("sql", ["SELECT 1", "CREATE TABLE t(x)"])
async def test_a_file_of_one_byte_is_not_written_over_though_sqlite_would(bench: Bench, sql: str) -> None:
    (bench.work / "tiny.db").write_bytes(b"x")
    error = await refused(bench, database="tiny.db", sql=sql)
    assert error.code == "not_a_database"
    assert (bench.work / "tiny.db").read_bytes() == b"x"


PARAMETERS: dict[str, Any] = {
    "too few": [],
    "too many": [1, 2],
    "a list in it": [[1]],
    "an object that is none": [{"a": 1}],
    "no base64": [{"base64": "!"}],
    "a number that is too large": [2**63],
    "names for places": {"x": 1},
}


@pytest.mark.parametrize("name", PARAMETERS)
async def test_parameters_that_do_not_fit_are_refused(bench: Bench, db: Path, outside: Outside, name: str) -> None:
    before = outside.dump(db)
    error = await refused(bench, database="app.db", sql="DELETE FROM child WHERE id = ?", parameters=PARAMETERS[name])
    assert error.code == "parameters"
    assert outside.dump(db) == before


async def test_values_are_bound_and_never_become_part_of_the_text(bench: Bench, db: Path, outside: Outside) -> None:
    evil = "'); DROP TABLE parent; --"
    sql = "INSERT INTO parent(name, amount) VALUES (:name, :amount)"
    await bench.done("execute_sql", database="app.db", sql=sql, parameters={"name": evil, "amount": True})
    assert outside.run(db, "SELECT name, amount FROM parent WHERE id = 4") == [[evil, 1]]


async def test_a_statement_that_takes_too_long_is_stopped_and_nothing_has_changed(
    folder: Path, db: Path, outside: Outside
) -> None:
    settings = settings_for(
        folder,
        tools=ToolSettings(),
        databases={"app": DatabaseSettings(url=f"sqlite://{db}", statement_seconds=0.2)},
    )
    engine = await Engine.open(settings)
    bench, before = Bench(engine, folder / "work"), outside.dump(db)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT INTO log SELECT i, 1, 2 FROM n"
    try:
        error = await refused(bench, database="app", sql=endless)
        assert error.code == "timeout"
        assert outside.dump(db) == before
        await bench.done("execute_sql", database="app", sql="DELETE FROM log")
    finally:
        await engine.close()


async def test_a_database_that_another_program_is_writing_is_busy_and_can_be_had_later(
    bench: Bench, db: Path, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("takeback.tools.database.sqlite.opening.BUSY_MS", 50)
    outside.run(db, "BEGIN IMMEDIATE")
    outside.run(db, "UPDATE child SET note = 'theirs'")
    error = await refused(bench, database="app.db", sql="DELETE FROM child")
    assert error.code == "unavailable"
    outside.run(db, "COMMIT")
    await bench.done("execute_sql", database="app.db", sql="UPDATE child SET note = note || '!'")
    assert outside.run(db, "SELECT DISTINCT note FROM child") == [["theirs!"]]


# -- files -------------------------------------------------------------------------------------------------------------------


async def test_what_is_no_database_of_the_workspace_is_refused(bench: Bench, folder: Path, db: Path) -> None:
    work = bench.work
    (work / "folder.db").mkdir()
    (work / "text.db").write_text("this is no database, though it is long enough to be looked at as one. " * 20)
    damaged = bytearray(db.read_bytes())
    damaged[100:3000] = b"\xff" * 2900
    (work / "damaged.db").write_bytes(damaged)
    (folder / "outside.db").write_bytes(db.read_bytes())
    (work / "link.db").symlink_to(folder / "outside.db")
    (work / "near.db").symlink_to("app.db")
    (work / "way").symlink_to(folder)
    names = [
        "folder.db",
        "text.db",
        "damaged.db",
        "link.db",
        "near.db",
        "way/outside.db",
        "../outside.db",
        "missing.db",
    ]
    names += [str(folder / "outside.db"), "nowhere/missing.db", "file:app.db?mode=rwc", ":memory:", ""]
    if sys.platform != "win32":
        os.mkfifo(work / "pipe.db")
        names.append("pipe.db")
    files = sorted(os.listdir(work))
    for name in names:
        await refused(bench, database=name, sql="CREATE TABLE t(x)")
        answer = await query(bench, "SELECT 1 FROM parent", database=name)
        assert answer.error is not None, name
        check_words(answer.error.message, answer.error.advice)
    assert sorted(os.listdir(work)) == files


@contextmanager
def frozen(path: Path) -> Iterator[None]:
    """A file or folder that cannot be written: by its mode, or where root does not care for that, by a flag or a mount."""
    if os.geteuid() != 0:
        mode = path.stat().st_mode
        path.chmod(mode & ~0o222)
        yield
        path.chmod(mode)
        return
    # the flag where the file system has it, else a read-only mount of the thing over itself
    ways = (
        ([["chattr", "+i", path]], ["chattr", "-i", path]),
        ([["mount", "--bind", path, path], ["mount", "-o", "remount,ro,bind", path]], ["umount", "-l", path]),
    )
    for making, ending in ways:
        if shutil.which(str(making[0][0])) and not any(
            subprocess.run(each, capture_output=True, check=False).returncode for each in making
        ):
            try:
                yield
            finally:
                subprocess.run(ending, check=True)
            return
    pytest.skip("root can neither flag a file nor mount one here")


@pytest.mark.skipif(sys.platform == "win32", reason="modes mean something else there")
async def test_a_file_that_cannot_be_written_is_read_and_not_changed(bench: Bench, db: Path, outside: Outside) -> None:
    before = outside.dump(db)
    outside.close()
    with frozen(db):
        error = await refused(bench, database="app.db", sql="DELETE FROM child")
        assert error.code == "read_only" and "cannot be written" in error.message
        answer = await query(bench, "SELECT count(*) FROM child")
        assert answer.result["rows"] == [[3]]
    assert outside.dump(db) == before


@pytest.mark.skipif(sys.platform == "win32", reason="modes mean something else there")
async def test_a_file_that_became_read_only_is_not_called_restored(bench: Bench, db: Path, outside: Outside) -> None:
    run = await bench.start()
    await bench.done("execute_sql", run, database="app.db", sql="DELETE FROM log")
    await bench.done("execute_sql", run, database="app.db", sql="UPDATE child SET note = 'ours'")
    there = outside.dump(db)
    outside.close()
    with frozen(db):
        answer = await bench.back(run_id=run)
        assert answer.status != "complete"
        assert [step.outcome for step in answer.steps if "written" in step.why], answer.report
    assert outside.dump(db) == there
    assert (await bench.back(run_id=run)).status == "complete"


async def test_takebacks_own_data_is_no_database_to_work_on(folder: Path, outside: Outside) -> None:
    ways = {"own": "journal.db", "link": "link.db", "hard": "hard.db"}
    probe = await Engine.open(settings_for(folder, tools=ToolSettings()))
    await probe.close()
    [journal] = [path for path in (folder / "data").iterdir() if path.suffix in (".db", ".sqlite", ".sqlite3")]
    (folder / "work" / "link.db").symlink_to(journal)
    os.link(journal, folder / "work" / "hard.db")
    databases = {
        name: DatabaseSettings(url=f"sqlite://{journal if name == 'own' else folder / 'work' / file}")
        for name, file in ways.items()
    }
    engine = await Engine.open(settings_for(folder, tools=ToolSettings(), databases=databases))
    bench = Bench(engine, folder / "work")
    try:
        for name in (*ways, "hard.db", "link.db"):
            error = await refused(bench, database=name, sql="CREATE TABLE t(x)")
            assert error.code in ("own_data", "not_a_file", "symlink_in_path"), (name, error)
    finally:
        await engine.close()


async def test_a_new_database_begins_as_an_empty_file(bench: Bench, outside: Outside) -> None:
    run = await bench.start()
    error = (await bench.call("execute_sql", run, database="new.db", sql="CREATE TABLE t(x)")).error
    assert error is not None
    assert "write_file" in error.advice
    (bench.work / "new.db").touch()
    await bench.done("execute_sql", run, database="new.db", sql="CREATE TABLE t(x)")
    await bench.done("execute_sql", run, database="new.db", sql="INSERT INTO t VALUES (1)")
    assert (await bench.back(run_id=run)).status == "complete"
    assert outside.dump(bench.work / "new.db")["schema"] == []
    outside.close()
