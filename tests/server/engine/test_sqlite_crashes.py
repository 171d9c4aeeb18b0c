"""A process that dies in the middle of statements, rollbacks and redos on a SQLite database; and what the next one finds."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.crash.ports import HOW, Faults, How
from tests.crash.shim import every
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.server.engine.reaper import Died
from tests.tools.database.sqlite.outside import Outside, difference

from takeback.journal.log import JournalError
from takeback.journal.views import ActionView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.settings import LimitSettings, ToolSettings

SCHEMA = """
CREATE TABLE parent(id INTEGER PRIMARY KEY AUTOINCREMENT, name, amount);
CREATE TABLE child(k TEXT PRIMARY KEY NOT NULL, parent INTEGER REFERENCES parent(id) ON DELETE CASCADE);
CREATE TABLE bare(x, y);
INSERT INTO parent(name) VALUES ('a'), ('b'), ('c');
INSERT INTO child VALUES ('x', 1), ('y', 2);
"""
MANY = (
    "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 150) INSERT INTO bare SELECT n, n FROM i"
)
STATEMENTS = (
    "DELETE FROM parent WHERE id = 1",
    MANY,
    "ALTER TABLE parent ADD COLUMN more DEFAULT 1",
    "UPDATE bare SET x = 0",
)


@pytest.fixture
def folder() -> Iterator[Path]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="takeback-", dir=base))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    with Outside() as other:
        yield other


async def open_bench(folder: Path) -> Bench:
    limits = LimitSettings(ballast_bytes=4096, step_seconds=20)
    engine = await Engine.open(settings_for(folder, tools=ToolSettings(), limits=limits))
    engine.core.retry_pauses = ()
    return Bench(engine, folder / "work")


def plant(outside: Outside, folder: Path, mode: str) -> Path:
    outside.close()
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "work").mkdir(parents=True)
    path = folder / "work" / "app.db"
    outside.run(path, f"PRAGMA journal_mode = {mode}")
    outside.script(path, SCHEMA)
    return path


async def story(bench: Bench, run: str, note: Any) -> None:
    """Four statements, all of it back, all of it again."""
    for sql in STATEMENTS:
        answer = await bench.call("execute_sql", run, database="app.db", sql=sql)
        if answer.status != "applied":
            return
        note()
    back = await bench.back(run_id=run)
    if back.status != "complete":
        return
    note()
    redone = await bench.engine.redo(ALICE, str(back.rollback_id))
    if redone.status == "complete":
        note()


async def the_worlds(outside: Outside, folder: Path, mode: str) -> list[dict[str, Any]]:
    """What the database is like after each step of the story, undisturbed."""
    path = plant(outside, folder, mode)
    worlds = [outside.dump(path)]
    bench = await open_bench(folder)
    try:
        await story(bench, await bench.start(), lambda: worlds.append(outside.dump(path)))
    finally:
        await bench.engine.close()
    assert len(worlds) == len(STATEMENTS) + 3
    return worlds


async def check(outside: Outside, folder: Path, run: str, worlds: list[dict[str, Any]], acknowledged: int) -> None:
    """The next process finds one of the worlds, none older than what was acknowledged, and can take all of it back."""
    path = folder / "work" / "app.db"
    bench = await open_bench(folder)  # recovers
    try:
        now = outside.dump(path)
        steps = [index for index, world in enumerate(worlds) if world == now]
        rolling_back = acknowledged >= len(STATEMENTS)
        assert steps or rolling_back, [difference(world, now) for world in worlds]
        if acknowledged < len(STATEMENTS):
            assert steps[0] in (acknowledged, acknowledged + 1)
            standing = [
                action
                for action in await bench.engine.core.journal.find(ActionView, run_id=run)
                if action.stands and action.effects
            ]
            assert len(standing) == steps[0], "the journal tells another story than the database"
        try:
            back = await bench.back(run_id=run)
        except EngineError as error:
            assert error.code == "nothing"
        else:
            assert back.status == "complete", back.report
        assert outside.dump(path) == worlds[0], difference(worlds[0], outside.dump(path))
        outside.check(path)
        left = await bench.engine.open_items(ALICE, run_id=run)
        assert not [item for item in left if item.kind == "in_doubt"]
    finally:
        await bench.engine.close()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("mode", ["wal", "delete"])
async def test_the_next_process_finds_what_the_journal_tells(
    folder: Path, outside: Outside, mode: str, how: How
) -> None:
    worlds = await the_worlds(outside, folder / "one", mode)
    step = every(5)
    for n in range(1 + (len(how) + len(mode)) % step, 200, step):
        plant(outside, folder / "one", mode)
        bench = await open_bench(folder / "one")
        run, done = await bench.start(), list[int]()
        faults = Faults(n, how)
        faults.interpose(bench.engine.core)
        with contextlib.suppress(Died, JournalError, EngineError, OSError, BaseExceptionGroup):
            await story(bench, run, lambda done=done: done.append(1))
        faults.dead = faults.broken = False
        faults.at = 0
        await bench.engine.close()
        try:
            await check(outside, folder / "one", run, worlds, len(done))
        except BaseException as error:
            error.add_note(f"call {n} {how}, {len(done)} acknowledged")
            raise
        if faults.count < n:
            return
    raise AssertionError("the story never ran through")


_KILLED = r"""
import asyncio, json, os, signal, sys
from pathlib import Path
import apsw
from tests.server.engine import test_sqlite_crashes as tests

folder, run, at, when = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
count = 0
real = apsw.Connection.execute

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Connection(apsw.Connection):
    def execute(self, sql, *rest, **more):
        global count
        if sql != "COMMIT":
            return super().execute(sql, *rest, **more)
        count += 1
        if count == at and when == "before":
            die()
        found = super().execute(sql, *rest, **more)
        if count == at and when == "after":
            die()
        return found

apsw.Connection = Connection

async def main():
    bench = await tests.open_bench(folder)
    await tests.story(bench, run, lambda: print("done", flush=True))
    await bench.engine.close()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is not there")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_process_killed_around_a_commit_is_settled_by_the_next(
    folder: Path, outside: Outside, when: str
) -> None:
    worlds = await the_worlds(outside, folder / "one", "wal")
    for n in range(1, 40, every(3)):
        plant(outside, folder / "one", "wal")
        bench = await open_bench(folder / "one")
        run = await bench.start()
        await bench.engine.close()
        ended = subprocess.run(
            [sys.executable, "-c", _KILLED, str(folder / "one"), run, str(n), when],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[3],
        )
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
        await check(outside, folder / "one", run, worlds, ended.stdout.count("done"))
        if ended.returncode == 0:
            assert n > len(STATEMENTS)
            return
    raise AssertionError("the story never ran through")


async def test_rows_that_somebody_changed_after_a_death_are_a_persons_to_settle(folder: Path, outside: Outside) -> None:
    path = plant(outside, folder / "one", "wal")
    bench = await open_bench(folder / "one")
    run = await bench.start()
    Faults(2, "stops before").interpose(bench.engine.core)  # the intent is written, the outcome never
    with contextlib.suppress(Died):
        await bench.call("execute_sql", run, database="app.db", sql="UPDATE parent SET amount = 5 WHERE id = 2")
    await bench.engine.core.journal.close()
    outside.run(path, "UPDATE parent SET amount = 6 WHERE id = 2")
    second = await open_bench(folder / "one")
    try:
        [item] = await second.engine.open_items(ALICE, run_id=run)
        assert item.kind == "in_doubt"
        assert "changed" in item.why
        assert outside.run(path, "SELECT amount FROM parent WHERE id = 2") == [[6]]
    finally:
        await second.engine.close()
