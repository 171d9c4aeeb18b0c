"""A small database beside the journal, for what has to be changed by compare-and-set: the outbox, the notices.

Statements are short, run in a thread and one after the other, and are durable before anybody acts on them. The file is made by
the first who uses it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import anyio.to_thread

from takeback.journal.schema import make_private

BUSY_SECONDS: Final = 10.0

T = TypeVar("T")


class SideFile:
    """One file, and this process's connection to it."""

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
        """
        :param prepare: makes the tables, where they are not there yet. Another process may be doing the same.
        """
        self.path = path
        self._prepare = prepare
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db = None

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in one transaction, durable on return. To its end, whether the caller is cancelled or not.

        :raises sqlite3.OperationalError, OSError: locked for too long, or the disk is full; nothing has changed.
        """

        def committed(db: sqlite3.Connection) -> T:
            db.execute("BEGIN IMMEDIATE")
            try:
                done = work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return done

        return await self.read(committed)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Look, without keeping others from writing.

        :raises sqlite3.OperationalError, OSError: the file cannot be read now.
        """

        def inside() -> T:
            with self._lock:
                return work(self._open())

        return await anyio.to_thread.run_sync(inside)  # a thread is waited for, cancelled or not

    async def shed(self) -> None:
        """Leave nothing behind in the log either of what was deleted. Somebody who reads just now may keep it for a while."""
        with suppress(sqlite3.OperationalError, OSError):  # the next time, then
            await self.read(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)"))

    def _open(self) -> sqlite3.Connection:
        if self._db is not None:
            return self._db
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(self.path)
        db = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA secure_delete=ON")  # what is forgotten does not stay behind in free pages
            db.execute(
                "PRAGMA synchronous=FULL"
            )  # what is being sent must be written down before the first byte leaves
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._db = db
        return db
