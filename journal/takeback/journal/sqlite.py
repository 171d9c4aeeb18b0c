"""The journal in SQLite: one file, several processes, every acknowledged event durable.

Calls of `append` that come while a transaction is under way wait together and share the next one: N callers, one fsync.
Writing has a connection of its own and reading another, so that a question never waits for a disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import aiosqlite

from takeback.journal import tables
from takeback.journal.anchors import AnchorFile
from takeback.journal.chain import Row, draft
from takeback.journal.events import BaseEvent, Recorded
from takeback.journal.ids import RunId
from takeback.journal.keys import Key, KeyFile, KeyRing, KeyStore
from takeback.journal.log import (
    Journal,
    JournalBroken,
    JournalBusy,
    JournalError,
    JournalFull,
    KeyUnavailable,
    Verification,
    ViewKey,
)
from takeback.journal.oslock import FileLock, LockWait
from takeback.journal.schema import BUSY_SECONDS, WAL_RESET_SAFE, connect_reader, connect_writer
from takeback.journal.tables import Entry, Written
from takeback.journal.verification import verify_sqlite
from takeback.journal.views import ActionView, AnyView

V = TypeVar("V", bound=AnyView)
T = TypeVar("T")

_BLOB_CHUNK: Final = 500


class _Connection(aiosqlite.Connection):
    """A connection with its own thread, to which whole pieces of work are sent: each hop between threads costs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        # connected before: a connector that fails would leave a thread behind that nobody waits for
        super().__init__(lambda: connection, iter_chunk_size=64)

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work in the connection's thread."""
        return await self._execute(work, self._conn)  # type: ignore[no-any-return, no-untyped-call]  # aiosqlite leaves it untyped


class SqliteJournal(Journal):
    """See the module's docstring. Made by `open`."""

    def __init__(
        self,
        path: Path,
        *,
        reader: _Connection,
        writer: _Connection | None,
        ring: KeyRing,
        lock: FileLock | None,
        anchors: AnchorFile | None,
        identity: str,
    ) -> None:
        self.path = path
        self.identity = identity
        """Random id of this journal: under it its heads are anchored."""
        self.transactions = 0
        """Write transactions so far, each of which cost one fsync."""
        self.broken: str | None = None
        """Why nothing is acknowledged any more; `None` while all is well."""
        self.unanchored: str | None = None
        """Why the newest heads could not be anchored; `None` while they are. They are tried again with the next commit."""
        self._reader, self._writer = reader, writer
        self._ring, self._lock, self._anchors = ring, lock, anchors
        self._waiting: list[tuple[Entry, asyncio.Future[Written]]] = []
        self._draining: asyncio.Task[None] | None = None
        self._exclusive = asyncio.Lock()
        self._to_anchor: dict[str, tuple[int, bytes]] = {}
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        key_file: Path,
        anchor_file: Path | None,
        read_only: bool = False,
        keys: KeyStore | None = None,
    ) -> SqliteJournal:
        """Open the journal, making it (and its key) if there is none yet.

        :param key_file: where the chain's keys lie; outside the data directory.
        :param anchor_file: where heads are anchored; best on another disk. `None` anchors nowhere.
        :param read_only: needs no key and writes nothing; a journal must be there.
        :param keys: instead of the key file, for example `OsKeyring`.
        :raises KeyUnavailable: the keys cannot be read. That they are gone is said by the first `append`.
        :raises JournalError: the file is not a journal, or one of a newer takeback.
        """
        store = keys or KeyFile(key_file)
        ring = KeyRing.load(store)
        lock: FileLock | None = None
        writer: _Connection | None = None
        reader: _Connection | None = None
        try:
            if not read_only:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=BUSY_SECONDS)
                held = lock

                def connect() -> sqlite3.Connection:
                    with held.held():
                        return connect_writer(path)

                writer = _Connection(await asyncio.to_thread(connect))
                await writer
            reader = _Connection(await asyncio.to_thread(connect_reader, path))
            await reader
            identity, events = await reader.call(_identity)
            if not read_only and ring.empty and events == 0:
                await asyncio.to_thread(ring.create)
        except BaseException as error:
            for connection in (reader, writer):
                if connection is not None:
                    await connection.close()
            if lock is not None:
                lock.close()
            if isinstance(error, sqlite3.Error | LockWait):
                raise _translated(error) from error
            raise
        anchors = None if anchor_file is None else AnchorFile(anchor_file)
        return cls(path, reader=reader, writer=writer, ring=ring, lock=lock, anchors=anchors, identity=identity)

    # -- writing ----------------------------------------------------------------------------------------------------

    async def append(
        self,
        events: Sequence[BaseEvent],
        *,
        blobs: Mapping[str, bytes] | None = None,
        expect: Mapping[ViewKey, int] | None = None,
    ) -> Sequence[Recorded]:
        self._check_writable()
        entry = Entry([draft(event) for event in events], dict(blobs or {}), dict(expect or {}))
        outcome: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, outcome))
        if self._draining is None:
            # a task of its own, so that a caller that is cancelled does not take the transaction with it
            self._draining = asyncio.create_task(self._drain(), name="takeback journal")
        written = await outcome
        if written.refused is not None:
            raise written.refused
        return written.recorded

    async def _drain(self) -> None:
        try:
            while self._waiting:
                async with self._exclusive:
                    waiting, self._waiting = self._waiting, []
                    await self._commit(waiting)
        finally:
            self._draining = None

    async def _commit(self, waiting: list[tuple[Entry, asyncio.Future[Written]]]) -> None:
        entries = [entry for entry, _ in waiting]
        try:
            batch = await self._transact(lambda connection: tables.write_batch(connection, entries, self._key))
            results: list[Written] | Exception = batch.written
        except Exception as error:  # every caller of the batch is told
            results = error
        for index, (_, outcome) in enumerate(waiting):
            if outcome.done():
                continue  # its caller was cancelled
            if isinstance(results, Exception):
                outcome.set_exception(results)
            else:
                outcome.set_result(results[index])

    async def _transact(self, work: Callable[[sqlite3.Connection], tables.Batch]) -> tables.Batch:
        """Do work in one write transaction, and anchor what it wrote."""
        self._check_writable()
        assert self._writer is not None
        return await self._writer.call(lambda connection: self._in_transaction(connection, work))

    def _in_transaction(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], tables.Batch]
    ) -> tables.Batch:
        self._check_writable()  # an earlier batch may have failed while this one waited
        try:
            with self._against_wal_reset():
                batch = self._committed(connection, work)
        except LockWait as error:
            raise JournalBusy(str(error)) from error
        self._anchor(batch)
        return batch

    def _against_wal_reset(self) -> nullcontext[None]:
        if self._lock is not None and sqlite3.sqlite_version_info < WAL_RESET_SAFE:
            return self._lock.held()  # type: ignore[return-value]  # both are context managers of nothing
        return nullcontext()

    def _committed(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], tables.Batch]
    ) -> tables.Batch:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _translated(error) from error  # nothing was written yet
        try:
            batch = work(connection)
            connection.execute("COMMIT")
        except BaseException as error:
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
        translated = _translated(error)
        if isinstance(translated, JournalBroken):
            # after a failed fsync the system may have thrown the pages away and call the next one a success
            self.broken = str(translated)
        return translated

    def _anchor(self, batch: tables.Batch) -> None:
        if self._anchors is None:
            return
        self._to_anchor.update(batch.heads)
        if not self._to_anchor:
            return
        try:
            self._anchors.append(self.identity, batch.position, self._to_anchor)
        except (OSError, LockWait) as error:
            # the events are durable; to refuse them now would be the untruth
            self.unanchored = str(error)
        else:
            self._to_anchor, self.unanchored = {}, None

    def _key(self, newest: str | None) -> Key:
        """The key for new events, given the one of the newest event (called inside the transaction)."""
        if self._ring.empty or (newest is not None and self._ring.find(newest) is None):
            self._ring.reload()  # another process may have made or rotated it
        if newest is not None and self._ring.find(newest) is None:
            raise KeyUnavailable(f"the journal is chained with key {newest}, which is missing")
        return self._ring.current

    def rotate_key(self) -> str:
        """From here on chain new events with a fresh key; its id. Old events stay verifiable."""
        return self._ring.rotate()

    def _check_writable(self) -> None:
        if self._closed:
            raise JournalError("the journal is closed")
        if self._writer is None:
            raise JournalError("the journal was opened for reading only")
        if self.broken is not None:
            raise JournalBroken(self.broken)

    async def erase(self, positions: Sequence[int], *, by: str, why: str, at: datetime) -> None:
        wanted = sorted(set(positions))

        def work(connection: sqlite3.Connection) -> tables.Batch:
            return tables.erase(connection, wanted, by=by, why=why, at=at, key=self._key)

        async with self._exclusive:
            await self._transact(work)
            assert self._writer is not None
            # what was erased still lies in the WAL until that is written back and cut
            await self._writer.call(self._empty_wal)

    def _empty_wal(self, connection: sqlite3.Connection) -> None:
        with self._against_wal_reset():
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # -- reading ----------------------------------------------------------------------------------------------------

    async def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise JournalError("the journal is closed")

        def snapshot(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN")  # several statements of one question see one moment
            try:
                return work(connection)
            finally:
                connection.execute("COMMIT")

        try:
            return await self._reader.call(snapshot)
        except sqlite3.Error as error:
            raise _translated(error) from error

    async def read(self, run_id: RunId | None = None, *, after: int = 0, limit: int = 1000) -> Sequence[Recorded]:
        def work(connection: sqlite3.Connection) -> list[Recorded]:
            if run_id is None:
                found = tables.rows(connection, after=after, limit=limit)
            else:
                found = tables.rows_of_run(connection, run_id, after=after, limit=limit)
            return [row.recorded() for row in found]

        return await self._ask(work)

    async def chain_rows(self, run_id: RunId, *, after: int = 0, limit: int = 1000) -> Sequence[Row]:
        """The events of one run as they lie in the chain, with what it takes to verify them elsewhere."""
        return await self._ask(
            lambda connection: list(tables.rows_of_run(connection, run_id, after=after, limit=limit))
        )

    async def get(self, kind: type[V], id: str) -> V | None:
        return await self._ask(lambda connection: tables.view(connection, kind, id))

    async def find(
        self,
        kind: type[V],
        *,
        run_id: RunId | None = None,
        status: str | Sequence[str] | None = None,
        before: int | None = None,
        after: int | None = None,
        limit: int | None = None,
        oldest_first: bool = False,
    ) -> Sequence[V]:
        statuses = [status] if isinstance(status, str) else status
        return await self._ask(
            lambda connection: tables.find(
                connection,
                kind,
                run_id=run_id,
                statuses=statuses,
                before=before,
                after=after,
                limit=limit,
                oldest_first=oldest_first,
            )
        )

    async def touching(
        self, system: str, objects: Iterable[str], *, nested: bool = False, after: int = 0
    ) -> Sequence[ActionView]:
        asked = list(objects)
        return await self._ask(
            lambda connection: tables.touching(connection, system, asked, nested=nested, after=after)
        )

    async def position(self) -> int:
        return await self._ask(lambda connection: tables.newest(connection)[0])

    async def heads(self, run_ids: Sequence[RunId] | None = None) -> Mapping[RunId, tuple[int, str]]:
        return await self._ask(lambda connection: tables.heads(connection, run_ids))

    # -- small objects ----------------------------------------------------------------------------------------------

    async def blob(self, name: str) -> bytes | None:
        def work(connection: sqlite3.Connection) -> bytes | None:
            found = connection.execute("SELECT data FROM blobs WHERE name = ?", (name,)).fetchone()
            return None if found is None else bytes(found[0])

        return await self._ask(work)

    async def blob_names(self) -> AsyncIterator[tuple[str, int]]:
        last = ""
        while True:
            start = last
            chunk: list[tuple[str, int]] = await self._ask(
                lambda connection, start=start: connection.execute(  # type: ignore[misc]  # bound per turn of the loop
                    "SELECT name, length(data) FROM blobs WHERE name > ? ORDER BY name LIMIT ?", (start, _BLOB_CHUNK)
                ).fetchall()
            )
            for name, size in chunk:
                yield name, size
            if len(chunk) < _BLOB_CHUNK:
                return
            last = chunk[-1][0]

    async def drop_blobs(self, names: Sequence[str]) -> int:
        freed = 0

        def work(connection: sqlite3.Connection) -> tables.Batch:
            nonlocal freed
            for name in dict.fromkeys(names):
                found = connection.execute("SELECT length(data) FROM blobs WHERE name = ?", (name,)).fetchone()
                if found is not None:
                    connection.execute("DELETE FROM blobs WHERE name = ?", (name,))
                    freed += int(found[0])
            return tables.Batch([], {}, 0)

        async with self._exclusive:
            await self._transact(work)
        return freed

    # -- care -------------------------------------------------------------------------------------------------------

    async def verify(self) -> Verification:
        self._ring.reload()
        anchors = [] if self._anchors is None else self._anchors.read(self.identity)
        try:
            return await asyncio.to_thread(verify_sqlite, self.path, self._ring, anchors)
        except sqlite3.Error as error:
            raise _translated(error) from error

    async def rebuild(self) -> int:
        count = 0

        def work(connection: sqlite3.Connection) -> tables.Batch:
            nonlocal count
            count = tables.refold(connection)
            return tables.Batch([], {}, 0)

        async with self._exclusive:
            await self._transact(work)
        return count

    async def close(self) -> None:
        if self._closed:
            return
        while self._draining is not None:
            await asyncio.shield(self._draining)
        self._closed = True
        await self._reader.close()
        if self._writer is not None:
            await self._writer.call(self._leave)
            await self._writer.close()
        if self._lock is not None:
            self._lock.close()
        if self._anchors is not None:
            self._anchors.close()

    def _leave(self, connection: sqlite3.Connection) -> None:
        # the last connection to close writes the WAL back, which is a checkpoint like any other
        with self._against_wal_reset():
            connection.close()


def _identity(connection: sqlite3.Connection) -> tuple[str, int]:
    (identity,) = connection.execute("SELECT value FROM meta WHERE name = 'journal'").fetchone()
    return str(identity), tables.newest(connection)[0]


def _translated(error: sqlite3.Error | LockWait) -> JournalError:
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
