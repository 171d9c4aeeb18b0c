"""What a captured SQLite statement costs, and its undo, beside the plain statement. Prints one JSON document.

Beside them, in the same run and on the same disk: triggers that write the old rows down, and a copy of the whole file. The
statement and its capture are measured alone; what the journal adds to a call is measured in `journal.py`.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
from _setting import QUICK, Row, finish, median, say, scratch

from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import LimitSettings, Settings, WorkspaceSettings
from takeback.tools.database.port import Bounds, Statement
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.database.sqlite.database import SqliteDatabase
from takeback.tools.system import Swapped

ROWS = 1_000_000 if not QUICK else 200_000
GOALS = {1: 1.3, 100: 1.4, 10_000: 2.0, ROWS: 2.5}
UNDO = 600_000
BOUNDS = Bounds(seconds=600, returned_rows=1, returned_bytes=1, capture_rows=10**8, capture_bytes=2**31)
UPDATE = "UPDATE t SET a = a + 1 WHERE id <= ?"
MIB = 1024 * 1024


def plant(path: Path) -> None:
    """A table of a million rows of about sixty bytes."""
    with_rows = apsw.Connection(str(path))
    with_rows.execute("PRAGMA journal_mode = WAL")
    with_rows.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a INTEGER, b TEXT, c REAL)")
    with_rows.execute(
        "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < ?)"
        " INSERT INTO t SELECT n, n * 7, 'the text of row ' || n, n / 3.0 FROM i",
        (ROWS,),
    )
    with_rows.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with_rows.close()


def plain(path: Path, rows: int) -> None:
    """The statement as any program runs it, from opening to closing."""
    connection = apsw.Connection(str(path))
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(UPDATE, (rows,))
    connection.execute("COMMIT")
    connection.close()


def with_triggers(path: Path) -> None:
    """What writes old rows down by itself."""
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE IF NOT EXISTS undo(id INTEGER, a INTEGER, b TEXT, c REAL)")
    connection.execute(
        "CREATE TRIGGER kept BEFORE UPDATE ON t BEGIN INSERT INTO undo VALUES (old.id, old.a, old.b, old.c); END"
    )
    connection.close()


async def timed(work: Callable[[], Awaitable[object] | None], rounds: int) -> list[float]:
    """Seconds of each round."""
    times: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = work()
        if found is not None:
            await found
        times.append(time.perf_counter() - start)
    return times


@asynccontextmanager
async def opened(folder: Path):
    """An engine below the folder."""
    (folder / "work").mkdir()
    limits = LimitSettings(object_bytes=2048 * MIB, store_bytes=64 * 1024 * MIB)
    settings = Settings(
        data=folder / "data",
        workspace=WorkspaceSettings(roots=(folder / "work",)),
        key_file=folder / "key" / "journal.json",
        anchor_file=folder / "key" / "anchors",
        limits=limits,
        triggers=TriggerSettings.off(),  # they count all the same
    )
    engine = await Engine.open(settings)
    try:
        yield engine
    finally:
        await engine.close()


async def main() -> None:
    """All rows of the table."""
    rows: list[Row] = []
    with scratch() as folder:
        paths = {name: folder / f"{name}.db" for name in ("plain", "captured", "triggers")}
        plant(paths["plain"])
        for name in ("captured", "triggers"):
            shutil.copy(paths["plain"], paths[name])
        with_triggers(paths["triggers"])
        async with opened(folder) as engine:
            objects = engine.core.objects
            database = SqliteDatabase.configured(
                "bench", DatabaseSettings(url=f"sqlite://{paths['captured']}"), folder / "data", objects
            )
            for count, goal in GOALS.items():
                rounds = 200 if count <= 100 else 20 if count <= 10_000 else 3
                rounds = rounds if not QUICK else max(2, rounds // 4)
                say(f"{count:,} rows, {rounds} rounds …")
                done = []

                async def captured(count: int = count, done: list[object] = done) -> None:
                    execution = await database.execute([Statement(UPDATE, [count])], BOUNDS)
                    await objects.put_blobs(execution.blobs)
                    done.append(await execution.commit())

                async def captured_without_store(count: int = count) -> None:
                    execution = await database.execute([Statement(UPDATE, [count])], BOUNDS)
                    await execution.commit()

                ours: list[float] = []
                theirs: list[float] = []
                triggered: list[float] = []
                copied: list[float] = []
                for turn in range(rounds):  # in turn, so that what else the machine does falls on all alike
                    theirs += await timed(lambda count=count: plain(paths["plain"], count), 1)
                    work = captured if turn == rounds - 1 else captured_without_store
                    ours += await timed(work, 1)
                    triggered += await timed(lambda count=count: plain(paths["triggers"], count), 1)
                    if turn < 3:
                        copied += await timed(lambda: shutil.copy(paths["plain"], folder / "copy.db") and None, 1)
                rows.append(
                    Row(
                        f"SQLite UPDATE of {count:,} rows, captured",
                        median(ours),
                        "ms",
                        median(theirs),
                        "the plain statement",
                        goal,
                        note=f"with triggers {median(triggered):.1f} ms; a copy of the file {median(copied):.1f} ms",
                    )
                )
                [effects] = done
                start = time.perf_counter()
                swapped = await database.swap([effect.reversed() for effect in reversed(effects)])
                took = time.perf_counter() - start
                assert isinstance(swapped, Swapped), swapped
                if count >= 10_000:
                    rows.append(
                        Row(
                            f"SQLite undo of {count:,} rows, compared and read back",
                            count / took,
                            "rows/s",
                            None,
                            "",
                            UNDO,
                            at_least=True,
                        )
                    )
    finish("sqlite", rows)


if __name__ == "__main__":
    asyncio.run(main())
