"""A connection with a thread of its own, and what an error of SQLite means for whoever asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

import aiosqlite

from takeback.journal.log import JournalBroken, JournalBusy, JournalError, JournalFull
from takeback.journal.oslock import LockWait
from takeback.journal.schema import BUSY_SECONDS

T = TypeVar("T")


class Connection(aiosqlite.Connection):
    """Whole pieces of work are sent to the thread, never single statements: each hop between threads costs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        # connected before: a connector that fails would leave a thread behind that nobody waits for
        super().__init__(lambda: connection, iter_chunk_size=64)

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work in the connection's thread, after what was sent before."""
        return await self._execute(work, self._conn)  # type: ignore[no-any-return, no-untyped-call]  # aiosqlite leaves it untyped

    def send(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Have the work done in the connection's thread and do not wait. The work itself tells whoever has to know."""
        connection = self._conn
        self._tx.put_nowait((None, lambda: work(connection)))  # pyright: ignore[reportUnknownMemberType]  # aiosqlite leaves it untyped


def translated(error: sqlite3.Error | LockWait) -> JournalError:
    """What an error of SQLite means for the caller."""
    if isinstance(error, LockWait):
        return JournalBusy(str(error))
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return JournalFull("the disk is full; the journal wrote nothing")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalBusy(f"another process kept the journal for {BUSY_SECONDS:g} s")
    if primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return JournalBroken(f"the journal's disk failed ({error})")
    return JournalError(f"the journal's database refused ({error})")
