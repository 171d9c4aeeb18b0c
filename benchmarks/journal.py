"""What the journal alone costs, beside bare commits through aiosqlite. Prints one JSON document.

Pairs of intent and conclusion (as `write_file` journals them) and pairs of bare commits of as many bytes take turns, so that
whatever else the machine does falls on both alike; the ratios are worth more than the times. Options: `--actions N` (how many
the large journal holds, default 100,000), `--million` (the same as 1,000,000; takes about a quarter of an hour), `--pairs N`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import aiosqlite
from pydantic import JsonValue

from takeback.journal.chain import encode
from takeback.journal.events import ActionApplied, ActionIntended, BaseEvent, Caller, RunStarted
from takeback.journal.ids import RunId, new_action_id, new_checkpoint_id, new_run_id
from takeback.journal.sqlite import SqliteJournal
from takeback.journal.states import Compensation, Effect, State
from takeback.journal.views import ActionView, RunView

CALLER = Caller(principal="local:me", client="benchmark", client_version="1")
SMALL = 1_000
ROUNDS = 200
GROUP = 16
RUN_ACTIONS = 1_000
"""Actions of one run in the large journal, and of one transaction while it is filled."""


def digest(of: object) -> str:
    """A fingerprint that compresses as badly as a real one."""
    return f"blake3:{sha256(str(of).encode()).hexdigest()}"


def state(path: str, of: object) -> State:
    """A file of 4 KiB, as the file tools describe it."""
    name = digest(("object", path, of))
    image: dict[str, JsonValue] = {"kind": "file", "mode": 420, "uid": 0, "gid": 0, "mtime": 1795202550032263705}
    return State(
        digest=digest((path, of)),
        kind="file",
        content=digest(of),
        size=4096,
        objects=(name,),
        ref={"at": path, "slot": name[7:27], "trash": "", "image": {**image, "extents": [[0, 4096, name]]}},
    )


def pair(run_id: RunId, number: int) -> tuple[ActionIntended, ActionApplied]:
    """Intent and conclusion of one overwritten file."""
    at, action_id, path = datetime.now(UTC), new_action_id(), f"/home/me/project/file{number % 20}.txt"
    effects = (Effect(system="files", object=path, before=state(path, number), after=state(path, number + 1)),)
    intended = ActionIntended(
        run_id=run_id,
        at=at,
        action_id=action_id,
        tool="write_file",
        tool_version="1",
        caller=CALLER,
        requested={"path": path, "content": digest(number)[:100]},
        argument_digest=digest(("arguments", number)),
        effects=effects,
        reversibility="reversible",
        compensation=Compensation(strategy="restore", how="Put the earlier content back."),
        policy_rule="default.reversible",
        locks=(f"files:{path}",),
    )
    applied = ActionApplied(
        run_id=run_id,
        at=at,
        action_id=action_id,
        checkpoint_id=new_checkpoint_id(),
        effects=effects,
        answer={"path": path, "size": 4096, "created": False, "digest": digest(number + 1)},
        summary=f"Wrote file{number % 20}.txt (4,096 bytes).",
        digest=digest(number + 1),
    )
    return intended, applied


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds that one piece of work takes."""
    begin = time.perf_counter()
    await work()
    return 1000 * (time.perf_counter() - begin)


class Bare:
    """What anybody would write: a table, a commit for each of two texts."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path) -> Bare:
        connection = await aiosqlite.connect(path, isolation_level=None)
        await connection.execute("PRAGMA journal_mode=WAL")
        await connection.execute("PRAGMA synchronous=FULL")
        await connection.execute("CREATE TABLE events(id INTEGER PRIMARY KEY, payload BLOB NOT NULL)")
        return cls(connection)

    async def append(self, payload: bytes) -> None:
        await self._connection.execute("INSERT INTO events(payload) VALUES (?)", (payload,))

    async def close(self) -> None:
        await self._connection.close()


async def opened(folder: Path) -> SqliteJournal:
    """The journal of a folder."""
    return await SqliteJournal.open(folder / "journal.db", key_file=folder / "key.json", anchor_file=folder / "anchors")


async def filled(journal: SqliteJournal, actions: int) -> RunId:
    """Fill a journal with so many actions; the id of the newest run."""
    run_id = new_run_id()
    for first in range(0, actions, RUN_ACTIONS):
        run_id = new_run_id()
        await journal.append([RunStarted(run_id=run_id, at=datetime.now(UTC), owner=CALLER, goal="fill")])
        for part in range(first, min(first + RUN_ACTIONS, actions), 250):
            events: list[BaseEvent] = []
            for number in range(part, min(part + 250, actions)):
                events += pair(run_id, number)
            await journal.append(events)
    return run_id


async def appends(journal: SqliteJournal, run_id: RunId, bare: Bare, pairs: int) -> dict[str, object]:
    """Pairs of ours beside pairs of bare commits of the same bytes."""
    ours: list[float] = []
    bares: list[float] = []
    for number in range(pairs + 10):
        intended, applied = pair(run_id, number)

        async def journaled(first: BaseEvent = intended, second: BaseEvent = applied) -> None:
            await journal.append([first])
            await journal.append([second])

        payloads = encode(intended), encode(applied)

        async def committed(texts: tuple[bytes, bytes] = payloads) -> None:
            for text in texts:
                await bare.append(text)

        ours.append(await timed(journaled))
        bares.append(await timed(committed))
    ours, bares = ours[10:], bares[10:]
    return {
        "pair_ms": middle(ours),
        "pair_p95_ms": round(sorted(ours)[int(len(ours) * 0.95)], 3),
        "two_bare_commits_ms": middle(bares),
        "ratio": round(statistics.median(ours) / statistics.median(bares), 2),
    }


async def reads(journal: SqliteJournal, run_id: RunId) -> dict[str, object]:
    """Questions to a journal of whatever size."""
    position = await journal.position()
    action = (await journal.find(ActionView, run_id=run_id, limit=1))[0]
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        "last_50_events_of_a_run_ms": lambda: journal.read(run_id, after=position - 50),
        "get_run_ms": lambda: journal.get(RunView, run_id),
        "get_action_ms": lambda: journal.get(ActionView, action.id),
        "actions_on_one_file_ms": lambda: journal.touching(
            "files", ["/home/me/project/file1.txt"], after=position - 50
        ),
        "actions_of_a_run_ms": lambda: journal.find(ActionView, run_id=run_id),
    }
    return {name: middle([await timed(work) for _ in range(ROUNDS // 10)]) for name, work in asked.items()}


async def together(journal: SqliteJournal, run_id: RunId) -> dict[str, object]:
    """Sixteen callers at once."""
    before, begin = journal.transactions, time.perf_counter()

    async def caller(first: int) -> None:
        for number in range(first, first + ROUNDS // 4):
            for event in pair(run_id, number):
                await journal.append([event])

    await asyncio.gather(*(caller(1000 * index) for index in range(GROUP)))
    took, events = time.perf_counter() - begin, GROUP * (ROUNDS // 4) * 2
    return {
        "callers": GROUP,
        "events_per_second": round(events / took),
        "events_per_transaction": round(events / (journal.transactions - before), 1),
    }


async def measured(folder: Path, actions: int, pairs: int) -> dict[str, object]:
    """One journal that holds so many actions before anything is measured."""
    folder.mkdir()
    journal, bare = await opened(folder), await Bare.open(folder / "bare.db")
    try:
        run_id = await filled(journal, actions)
        result = {
            "append": await appends(journal, run_id, bare, pairs),
            "group": await together(journal, run_id),
            "read": await reads(journal, run_id),
        }
    finally:
        await bare.close()
        await journal.close()
    times: list[float] = []
    for _ in range(5):
        begin = time.perf_counter()
        journal = await opened(folder)
        times.append(1000 * (time.perf_counter() - begin))
        await journal.close()
    with closing(sqlite3.connect(folder / "journal.db")) as database:
        (events,) = database.execute("SELECT count(*) FROM events").fetchone()
    return {
        "actions": actions,
        **result,
        "open_ms": middle(times),
        "bytes_per_action": round((folder / "journal.db").stat().st_size / (events / 2)),
    }


def middle(times: list[float]) -> float:
    """The median, in milliseconds."""
    return round(statistics.median(times), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actions", type=int, default=100_000)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--pairs", type=int, default=300)
    given = parser.parse_args()
    large = 1_000_000 if given.million else given.actions
    with tempfile.TemporaryDirectory(prefix="takeback-bench-") as folder:
        small = asyncio.run(measured(Path(folder) / "small", SMALL, given.pairs))
        big = asyncio.run(measured(Path(folder) / "large", large, given.pairs))
    about = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "processors": os.cpu_count()}
    print(json.dumps({"benchmark": "journal", "on": about, "small": small, "large": big}, indent=2))


if __name__ == "__main__":
    main()
