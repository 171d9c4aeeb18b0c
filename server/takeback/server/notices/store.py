"""The notices' own file: how far the journal was looked through, and where each notice to each channel stands.

Changed by compare-and-set only, and durable before anybody acts on it. What an event is told by is put in together with the
place up to which the journal was read, so that each event is taken up exactly once, whichever process reads it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar, cast

from takeback.journal.sidefile import SideFile
from takeback.server.notices.settings import Kind

T = TypeVar("T")
Status = Literal["PENDING", "SENDING", "SENT", "DEAD", "UNKNOWN", "SETTLED"]
"""SENDING: somebody is at it, or died while they were. DEAD: given up. UNKNOWN: nobody knows whether it arrived, and it is
not sent again. SETTLED: a person has closed what DEAD or UNKNOWN had left open."""
FAILED: Final[tuple[Status, ...]] = ("DEAD", "UNKNOWN")

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS place (id INTEGER PRIMARY KEY CHECK (id = 1), position INTEGER NOT NULL) STRICT",
    """
    CREATE TABLE IF NOT EXISTS notices (
        position INTEGER NOT NULL,
        channel TEXT NOT NULL,
        run_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        status TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        next_at REAL NOT NULL,
        changed_at REAL NOT NULL,
        detail TEXT NOT NULL DEFAULT '',
        told INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (position, channel)
    ) STRICT, WITHOUT ROWID
    """,
)
_COLUMNS: Final = "position, channel, run_id, kind, status, attempts, next_at, changed_at, detail, told"


class NoticesUnavailable(Exception):
    """The notices' file cannot be used now: locked for too long, or the disk is full. Nothing has changed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One notice to one channel. Times are seconds since 1970."""

    position: int
    """Of the event that it tells of."""
    channel: str
    run_id: str
    kind: Kind
    status: Status
    attempts: int
    next_at: float
    """Not tried before."""
    changed_at: float
    detail: str
    told: bool
    """Whether the journal has heard of how it ended."""

    @property
    def about(self) -> str:
        """What the journal calls it."""
        return f"{self.kind} at {self.position}"

    @property
    def object(self) -> str:
        """What an open item about it calls it."""
        return f"{self.position}/{self.channel}"


@dataclass(frozen=True, slots=True)
class Due:
    """A notice to be put in."""

    position: int
    run_id: str
    kind: Kind
    channels: tuple[str, ...]


class NoticeStore:
    """The file that holds the notices.

    :raises NoticesUnavailable: by everything that it does.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._side = SideFile(file, _prepare)

    def close(self) -> None:
        """Let go of the file."""
        self._side.close()

    # -- where the journal was read up to -------------------------------------------------------------------------------

    async def begin(self, position: int) -> int:
        """Where reading goes on: `position` if nothing was read yet, for what is over is no news."""

        def work(db: sqlite3.Connection) -> int:
            db.execute("INSERT OR IGNORE INTO place VALUES (1, ?)", (position,))
            return int(db.execute("SELECT position FROM place").fetchone()[0])

        return await self._write(work)

    async def advance(self, read_from: int, to: int, due: Sequence[Due], now: float) -> bool:
        """Put notices in and go on to a position; `False`: another process has read from there already."""

        def work(db: sqlite3.Connection) -> bool:
            moved = db.execute("UPDATE place SET position = ? WHERE position = ?", (to, read_from)).rowcount
            if not moved:
                return False
            db.executemany(
                "INSERT OR IGNORE INTO notices (position, channel, run_id, kind, status, next_at, changed_at)"
                " VALUES (?, ?, ?, ?, 'PENDING', ?, ?)",
                [
                    (each.position, channel, each.run_id, each.kind, now, now)
                    for each in due
                    for channel in each.channels
                ],
            )
            return True

        return await self._write(work)

    # -- notices --------------------------------------------------------------------------------------------------------

    async def rows(self, *status: Status, channel: str | None = None) -> list[Row]:
        """Those in one of these statuses (all without one), oldest first."""

        def work(db: sqlite3.Connection) -> list[Row]:
            where, values = ["1"], list[str]()
            if status:
                where.append(f"status IN ({', '.join('?' * len(status))})")
                values += status
            if channel is not None:
                where.append("channel = ?")
                values.append(channel)
            found = db.execute(
                f"SELECT {_COLUMNS} FROM notices WHERE {' AND '.join(where)} ORDER BY position, channel",  # noqa: S608 -- made of our own words
                values,
            )
            return [_row(each) for each in found]

        return await self._read(work)

    async def move(
        self,
        row: Row,
        status: Status,
        *,
        only: tuple[Status, ...],
        now: float,
        detail: str = "",
        attempts: int | None = None,
        next_at: float | None = None,
    ) -> bool:
        """Compare and set; whether it was so."""

        def work(db: sqlite3.Connection) -> bool:
            done = db.execute(
                "UPDATE notices SET status = ?, changed_at = ?, detail = ?, attempts = ?, next_at = ?, told = 0"  # noqa: S608 -- only marks
                f" WHERE position = ? AND channel = ? AND status IN ({', '.join('?' * len(only))})",
                (
                    status, now, detail, row.attempts if attempts is None else attempts,
                    row.next_at if next_at is None else next_at, row.position, row.channel, *only,
                ),
            )  # fmt: skip
            return bool(done.rowcount)

        return await self._write(work)

    async def told(self, row: Row) -> None:
        """Note that the journal has heard of it."""
        await self._write(
            lambda db: db.execute(
                "UPDATE notices SET told = 1 WHERE position = ? AND channel = ? AND status = ?",
                (row.position, row.channel, row.status),
            )
        )

    async def forget(self, before: float) -> None:
        """Forget what arrived or was settled so long ago."""
        await self._write(
            lambda db: db.execute(
                "DELETE FROM notices WHERE told = 1 AND status IN ('SENT', 'SETTLED') AND changed_at < ?", (before,)
            )
        )

    # -- inside ---------------------------------------------------------------------------------------------------------

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await _usable(self._side.write(work))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await _usable(self._side.read(work))


def _prepare(db: sqlite3.Connection) -> None:
    for table in _TABLES:
        db.execute(table)


async def _usable(work: Awaitable[T]) -> T:
    try:
        return await work
    except (sqlite3.OperationalError, OSError) as error:
        raise NoticesUnavailable(f"the notices' file cannot be used: {error}") from error


def _row(found: tuple[object, ...]) -> Row:
    position, channel, run_id, kind, status, attempts, next_at, changed_at, detail, told = found
    return Row(
        position=cast("int", position), channel=str(channel), run_id=str(run_id), kind=cast("Kind", kind),
        status=cast("Status", status), attempts=cast("int", attempts), next_at=cast("float", next_at),
        changed_at=cast("float", changed_at), detail=str(detail), told=bool(told),
    )  # fmt: skip
