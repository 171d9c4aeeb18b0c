"""The writing side of the SQLite journal: one thread, one transaction at a time, one fsync for all that wait together.

Callers of `append` put their entries down. In the next turn of the event loop the thread is told that something is there; when
it gets to it, it takes all that waits by then into one transaction, and tells each caller what became of its entry. A
caller that is cancelled takes nothing with it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext

from takeback.journal import tables
from takeback.journal.anchors import AnchorFile
from takeback.journal.connection import Connection, translated
from takeback.journal.kept import Kept
from takeback.journal.keys import Key, KeyRing
from takeback.journal.log import Heard, JournalBroken, JournalBusy, JournalError, KeyUnavailable
from takeback.journal.oslock import FileLock, LockWait
from takeback.journal.schema import WAL_RESET_SAFE
from takeback.journal.tables import Batch, Entry, Written

Work = Callable[[sqlite3.Connection], Batch]

_Waiting = tuple[Entry, "asyncio.Future[Written]"]


class Writer:
    """See the module's docstring."""

    def __init__(
        self,
        connection: Connection,
        *,
        ring: KeyRing,
        lock: FileLock,
        anchors: AnchorFile | None,
        identity: str,
    ) -> None:
        self.connection = connection
        self.transactions = 0
        self.broken: str | None = None
        self.unanchored: str | None = None
        self.hear: Heard | None = None
        """Told of every batch, in the event loop."""
        self._ring, self._lock, self._anchors, self._identity = ring, lock, anchors, identity
        self._waiting: deque[_Waiting] = deque()
        self._told = False
        self._kept = Kept()
        self._to_anchor: dict[str, tuple[int, bytes]] = {}

    def check(self) -> None:
        """:raises JournalBroken: a write failed, so nothing is acknowledged any more."""
        if self.broken is not None:
            raise JournalBroken(self.broken)

    # -- in the event loop ------------------------------------------------------------------------------------------

    def put(self, entry: Entry) -> asyncio.Future[Written]:
        """Have an entry written together with whatever else is put down by then."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Written] = loop.create_future()
        self._waiting.append((entry, outcome))
        if not self._told:
            # in the next turn, so that callers that run in this one come along
            self._told = True
            loop.call_soon(self._send, loop)
        return outcome

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._told:
            self.connection.send(lambda connection: self._take(connection, loop))

    async def transact(self, work: Work) -> Batch:
        """Do other work in a transaction of its own, after what was sent before."""

        def alone(connection: sqlite3.Connection) -> Batch:
            self._kept.forget()  # the work may change anything
            return self._in_transaction(connection, work)

        return await self.connection.call(alone)

    async def empty_wal(self) -> None:
        """Write the WAL back and cut it."""

        def work(connection: sqlite3.Connection) -> None:
            with self._against_wal_reset():
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        await self.connection.call(work)

    async def close(self) -> None:
        """Finish what was put down and let go of the file."""
        if self._told:
            self._send(asyncio.get_running_loop())

        def leave(connection: sqlite3.Connection) -> None:
            # the last connection to close writes the WAL back, which is a checkpoint like any other
            with self._against_wal_reset():
                connection.close()

        await self.connection.call(leave)
        await self.connection.close()

    # -- in the thread ----------------------------------------------------------------------------------------------

    def _take(self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        # this order: whoever puts something down too late for this turn finds that nobody is on the way for it
        self._told = False
        waiting = list(_drained(self._waiting))
        if not waiting:
            return
        entries = [entry for entry, _ in waiting]
        results: list[Written] | BaseException
        try:
            batch = self._in_transaction(
                connection, lambda open: tables.write_batch(open, entries, self.key, self._kept)
            )
            results = batch.written
        except BaseException as error:  # every caller of the batch is told
            results = error
        loop.call_soon_threadsafe(_tell, waiting, results, self.hear)

    def _in_transaction(self, connection: sqlite3.Connection, work: Work) -> Batch:
        self.check()  # an earlier batch may have failed while this one waited
        try:
            with self._against_wal_reset():
                batch = self._committed(connection, work)
        except LockWait as error:
            raise JournalBusy(str(error)) from error
        self._anchor(batch)
        return batch

    def _against_wal_reset(self) -> nullcontext[None]:
        if sqlite3.sqlite_version_info < WAL_RESET_SAFE:
            return self._lock.held()  # type: ignore[return-value]  # both are context managers of nothing
        return nullcontext()

    def _committed(self, connection: sqlite3.Connection, work: Work) -> Batch:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise translated(error) from error  # nothing was written yet
        try:
            batch = work(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            self._kept.forget()
            self._roll_back(connection, error)
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise
        self.transactions += 1
        return batch

    def _roll_back(self, connection: sqlite3.Connection, cause: BaseException) -> None:
        if not connection.in_transaction:
            return
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self.broken = f"a transaction could not be rolled back ({error})"
            raise JournalBroken(self.broken) from cause

    def _failed(self, error: sqlite3.Error) -> JournalError:
        meant = translated(error)
        if isinstance(meant, JournalBroken):
            # after a failed fsync the system may have thrown the pages away and call the next one a success
            self.broken = str(meant)
        return meant

    def _anchor(self, batch: Batch) -> None:
        if self._anchors is None:
            return
        self._to_anchor.update(batch.heads)
        if not self._to_anchor:
            return
        try:
            self._anchors.append(self._identity, batch.position, self._to_anchor)
        except (OSError, LockWait) as error:
            # the events are durable; to refuse them now would be the untruth
            self.unanchored = str(error)
        else:
            self._to_anchor, self.unanchored = {}, None

    def key(self, newest: str | None) -> Key:
        """The key for new events, given the one of the newest event (called inside the transaction)."""
        if self._ring.empty or (newest is not None and self._ring.find(newest) is None):
            self._ring.reload()  # another process may have made or rotated it
        if newest is not None and self._ring.find(newest) is None:
            raise KeyUnavailable(f"the journal is chained with key {newest}, which is missing")
        return self._ring.current


def _drained(waiting: deque[_Waiting]) -> Iterator[_Waiting]:
    while waiting:
        yield waiting.popleft()


def _tell(waiting: list[_Waiting], results: list[Written] | BaseException, hear: Heard | None) -> None:
    for index, (_, outcome) in enumerate(waiting):
        if outcome.done():
            continue  # its caller was cancelled
        if isinstance(results, BaseException):
            outcome.set_exception(results)
        else:
            outcome.set_result(results[index])
    if hear is not None and not isinstance(results, BaseException):
        # those who were told above go on in the next turn, so this comes before; a fault in it keeps nobody waiting
        hear([recorded for written in results for recorded in written.recorded])
