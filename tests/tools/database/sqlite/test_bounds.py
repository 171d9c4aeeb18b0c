"""What is too much to be kept is said and asked about before it happens; a caller who goes leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.tools.database.sqlite.outside import Outside

from takeback.server.engine.engine import Engine
from takeback.server.settings import ToolSettings
from takeback.tools.database.port import Bounds, Statement
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.database.sqlite.execution import Runner
from takeback.tools.database.sqlite.opening import DatabaseFile
from takeback.tools.database.sqlite.threads import in_thread

BOUNDS = Bounds(seconds=600, returned_rows=1, returned_bytes=1, capture_rows=10**9, capture_bytes=10**9)
MANY = "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 300) INSERT INTO log SELECT n, n, n FROM i"


@pytest.fixture
async def narrow(folder: Path, db: Path) -> AsyncIterator[Bench]:
    """An engine that keeps little of the database `app`."""
    databases = {
        "app": DatabaseSettings(url=f"sqlite://{db}", capture_rows=200, capture_bytes=20_000),
        "looked_at": DatabaseSettings(url=f"sqlite://{db}", read_only=True),
    }
    engine = await Engine.open(settings_for(folder, tools=ToolSettings(), databases=databases))
    yield Bench(engine, folder / "work")
    await engine.close()


@pytest.mark.parametrize("sql", [MANY, "CREATE TABLE more(x)"])
async def test_what_cannot_be_kept_waits_for_a_person(narrow: Bench, db: Path, outside: Outside, sql: str) -> None:
    run, before = await narrow.start(), outside.dump(db)
    shown = await narrow.call("execute_sql", run, database="app", sql=sql, dry_run=True)
    assert (shown.status, shown.reversibility) == ("shadowed", "irreversible")
    answer = await narrow.call("execute_sql", run, database="app", sql=sql)
    assert answer.status == "pending_approval", answer
    assert answer.question is not None
    assert "capture_" in answer.question
    assert outside.dump(db) == before
    await narrow.engine.approve(ALICE, str(answer.approval_id), lane="cli")
    done = await narrow.call("execute_sql", run, database="app", sql=sql)
    assert done.status == "applied", done
    after = outside.dump(db)
    assert after != before
    back = await narrow.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["irreversible"]
    assert outside.dump(db) == after


async def test_a_database_that_may_only_be_read_is(narrow: Bench, db: Path, outside: Outside) -> None:
    before = outside.dump(db)
    answer = await narrow.call("execute_sql", await narrow.start(), database="looked_at", sql="DELETE FROM child")
    assert answer.error is not None
    assert answer.error.code == "read_only"
    assert outside.dump(db) == before


async def test_a_caller_who_goes_stops_the_statement(bench: Bench, db: Path, outside: Outside) -> None:
    before = outside.dump(db)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT INTO log SELECT i, 1, 2 FROM n"
    runner = Runner(
        DatabaseFile(lambda: (str(db), db.lstat()), db.parent / "none", "app.db"), [Statement(endless)], BOUNDS
    )
    work, begun = runner.go, asyncio.Event()
    loop = asyncio.get_running_loop()

    def go() -> object:
        loop.call_soon_threadsafe(begun.set)
        return work()

    task = asyncio.create_task(in_thread(go, runner.clock.stop))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task  # when the thread has ended
    assert outside.dump(db) == before
    await bench.done("execute_sql", database="app.db", sql="DELETE FROM log")


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
async def test_texts_of_other_encodings_come_back(bench: Bench, outside: Outside, encoding: str) -> None:
    path = bench.work / "wide.db"
    outside.run(path, f"PRAGMA encoding = '{encoding}'")
    outside.script(path, "CREATE TABLE t(k TEXT PRIMARY KEY NOT NULL, v); INSERT INTO t VALUES ('ключ', '値 😀');")
    before = outside.run(path, "SELECT hex(k), hex(v) FROM t")
    run = await bench.start()
    await bench.done("execute_sql", run, database="wide.db", sql="UPDATE t SET v = 'ü'")
    await bench.done("execute_sql", run, database="wide.db", sql="DELETE FROM t WHERE k = ?", parameters=["ключ"])
    await bench.done("execute_sql", run, database="wide.db", sql="CREATE TABLE u(x)")
    back = await bench.back(run_id=run)
    assert back.status == "complete", back.report
    assert outside.run(path, "SELECT hex(k), hex(v) FROM t") == before
    outside.close()
