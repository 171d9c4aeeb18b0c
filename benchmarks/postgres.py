"""What it costs to see what a statement changed on PostgreSQL, by both ways, beside the plain statement; and to take it back.

Prints one JSON document. The server comes from the wheel that the tests use, with fsync on.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
from _setting import HERE, QUICK, Row, finish, median, say, scratch

sys.path.insert(0, str(HERE.parent))
from tests.postgres_server import drop, fresh, server

from takeback.tools.conformance import kit_services
from takeback.tools.database.port import Bounds, Statement
from takeback.tools.database.postgres.database import PostgresDatabase
from takeback.tools.database.postgres.preparing import prepare
from takeback.tools.database.rows import reversed_effects
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.system import Swapped

BOUNDS = Bounds(seconds=300, returned_rows=10, returned_bytes=10_000, capture_rows=10**7, capture_bytes=1 << 32)
ROWS = 20_000
CHANGED = (1, 100, 10_000)
ROUNDS = 5 if QUICK else 15


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Seconds."""
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start


async def main() -> None:
    """Measure."""
    rows: list[Row] = []
    running = server(18, durable=True)
    name = fresh(running)
    with scratch() as folder, psycopg.connect(running.url(name)) as plain:
        plain.execute("create table t (id int primary key, v text, n numeric, at timestamptz default now())")
        plain.execute(f"insert into t select i, 'value ' || i, i * 1.5 from generate_series(1, {ROWS}) i")
        plain.commit()
        objects = kit_services(Path(folder)).objects
        opened = {
            way: PostgresDatabase("shop", DatabaseSettings(url=running.url(name), capture=way), objects)
            for way in ("snapshot", "triggers")
        }
        prepare(opened["triggers"].connections, act=True)
        for changed in CHANGED:
            text = f"update t set n = n + 1 where id <= {changed}"

            async def alone(text: str = text) -> None:
                plain.execute(text.encode())
                plain.commit()

            say(f"  {changed} rows …")
            taken: dict[str, list[float]] = {"plain": [], "snapshot": [], "triggers": [], "undo": []}
            effects: list[tuple[object, ...]] = []
            for _ in range(ROUNDS if changed < 10_000 else 3):
                taken["plain"].append(await timed(alone))
                for way, database in opened.items():

                    async def seen(
                        database: PostgresDatabase = database,
                        text: str = text,
                        effects: list[tuple[object, ...]] = effects,
                    ) -> None:
                        execution = await database.execute([Statement(text)], BOUNDS)
                        await objects.put_blobs(execution.blobs)
                        effects.append(await execution.commit())

                    taken[way].append(await timed(seen))

                    async def undo(
                        database: PostgresDatabase = database, effects: list[tuple[object, ...]] = effects
                    ) -> None:
                        answer = await database.swap(reversed_effects(effects[-1]))  # type: ignore[arg-type]  # of effects
                        assert isinstance(answer, Swapped)

                    taken["undo"].append(await timed(undo))
            base = median(taken["plain"])
            rows += [
                Row(
                    f"PostgreSQL UPDATE of {changed:,} of {ROWS:,} rows, seen by {way}",
                    median(taken[way]),
                    "ms",
                    base,
                    "the plain UPDATE",
                    goal,
                )
                for way, goal in (("snapshot", 60 if changed == 1 else 20), ("triggers", 40 if changed == 1 else 10))
            ]
            if changed == CHANGED[-1]:
                rows.append(
                    Row(
                        "PostgreSQL undo, compared and read back",
                        1000 * changed / median(taken["undo"]),
                        "rows/s",
                        None,
                        "",
                        10_000,
                        at_least=True,
                    )
                )
        for database in opened.values():
            await database.close()
    drop(running, name)
    finish("postgres", rows)


if __name__ == "__main__":
    asyncio.run(main())
