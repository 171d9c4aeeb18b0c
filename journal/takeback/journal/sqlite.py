"""The journal in SQLite: one file, several processes, every acknowledged event durable.

Writing has a connection of its own (`writer.py`) and reading others, so that a question never waits for a write. A question
about a few rows is answered on the spot; a longer one in a thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from takeback.journal import rows, stored, tables
from takeback.journal.anchors import AnchorFile
from takeback.journal.chain import Row, draft
from takeback.journal.connection import Connection, translated
from takeback.journal.events import BaseEvent, Recorded
from takeback.journal.ids import RunId
from takeback.journal.keys import KeyFile, KeyRing, KeyStore
from takeback.journal.log import Journal, JournalError, Verification, ViewKey
from takeback.journal.oslock import FileLock, LockWait
from takeback.journal.schema import BUSY_SECONDS, connect_reader, connect_writer
from takeback.journal.tables import Entry
from takeback.journal.verification import verify_sqlite
from takeback.journal.views import ActionView, AnyView
from takeback.journal.writer import Writer

V = TypeVar("V", bound=AnyView)
T = TypeVar("T")

_BLOB_CHUNK: Final = 500

_FEW: Final = 50
"""Up to so many views are read without a hop to another thread, which would cost more than the reading."""


class Unreadable(JournalError):
    """Somebody changed the journal behind its back, or its disk did."""

    advice = "Run `takeback verify`: it names what was changed."


class SqliteJournal(Journal):
    """See the module's docstring. Made by `open`."""

    def __init__(
        self,
        path: Path,
        *,
        reader: Connection,
        quick: sqlite3.Connection,
        writer: Writer | None,
        ring: KeyRing,
        lock: FileLock | None,
        anchors: AnchorFile | None,
        identity: str,
    ) -> None:
        self.path = path
        self.identity = identity
        """Random id of this journal: under it its heads are anchored."""
        self._reader, self._quick, self._writer = reader, quick, writer
        self._ring, self._lock, self._anchors = ring, lock, anchors
        self._closed = False
        if writer is not None:
            writer.hear = self._told

    @property
    def transactions(self) -> int:
        """Write transactions so far, each of which cost one fsync."""
        return 0 if self._writer is None else self._writer.transactions

    @property
    def broken(self) -> str | None:
        """Why nothing is acknowledged any more; `None` while all is well."""
        return None if self._writer is None else self._writer.broken

    @property
    def unanchored(self) -> str | None:
        """Why the newest heads could not be anchored; `None` while they are. They are tried again with the next commit."""
        return None if self._writer is None else self._writer.unanchored

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
        opened: list[Connection] = []
        quick: sqlite3.Connection | None = None
        try:
            if not read_only:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=BUSY_SECONDS)
                opened.append(await _started(await asyncio.to_thread(_connected, path, lock)))
            opened.append(await _started(await asyncio.to_thread(connect_reader, path)))
            quick = await asyncio.to_thread(connect_reader, path, busy_seconds=0)
            identity, events = await opened[-1].call(_identity)
            if not read_only and ring.empty and events == 0:
                await asyncio.to_thread(ring.create)
        except BaseException as error:
            for connection in opened:
                await connection.close()
            if quick is not None:
                quick.close()
            if lock is not None:
                lock.close()
            if isinstance(error, sqlite3.Error | LockWait):
                raise translated(error) from error
            raise
        anchors = None if anchor_file is None else AnchorFile(anchor_file)
        writer = None
        if lock is not None:
            writer = Writer(opened[0], ring=ring, lock=lock, anchors=anchors, identity=identity)
        return cls(
            path,
            reader=opened[-1],
            quick=quick,
            writer=writer,
            ring=ring,
            lock=lock,
            anchors=anchors,
            identity=identity,
        )

    # -- writing ----------------------------------------------------------------------------------------------------

    async def append(
        self,
        events: Sequence[BaseEvent],
        *,
        blobs: Mapping[str, bytes] | None = None,
        expect: Mapping[ViewKey, int] | None = None,
    ) -> Sequence[Recorded]:
        writer = self._writable()
        written = await writer.put(Entry([draft(event) for event in events], dict(blobs or {}), dict(expect or {})))
        if written.refused is not None:
            raise written.refused
        return written.recorded

    def _told(self, recorded: Sequence[Recorded]) -> None:
        for listener in self.listeners:
            listener(recorded)

    def _writable(self) -> Writer:
        if self._closed:
            raise JournalError("the journal is closed")
        if self._writer is None:
            raise JournalError("the journal was opened for reading only")
        self._writer.check()
        return self._writer

    def rotate_key(self) -> str:
        """From here on chain new events with a fresh key; its id. Old events stay verifiable."""
        return self._ring.rotate()

    async def erase(self, positions: Sequence[int], *, by: str, why: str, at: datetime) -> None:
        writer, wanted = self._writable(), sorted(set(positions))

        def work(connection: sqlite3.Connection) -> tables.Batch:
            return tables.erase(connection, wanted, by=by, why=why, at=at, key=writer.key)

        await writer.transact(work)
        # what was erased still lies in the WAL until that is written back and cut
        await writer.empty_wal()

    # -- reading ----------------------------------------------------------------------------------------------------

    async def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Answer a question that may take a while, in the reader's thread."""
        self._check_open()
        try:
            return await self._reader.call(lambda connection: _at_one_moment(connection, work))
        except sqlite3.Error as error:
            raise translated(error) from error

    async def _ask_quickly(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Answer a question about a few rows on the spot: a reader of a WAL waits for nobody."""
        self._check_open()
        try:
            return _at_one_moment(self._quick, work)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise translated(error) from error
        except sqlite3.Error as error:
            raise translated(error) from error
        # it does wait while another process recovers the WAL or closes it
        return await self._ask(work)

    def _check_open(self) -> None:
        if self._closed:
            raise JournalError("the journal is closed")

    async def read(self, run_id: RunId | None = None, *, after: int = 0, limit: int = 1000) -> Sequence[Recorded]:
        def work(connection: sqlite3.Connection) -> list[Recorded]:
            if run_id is None:
                found = rows.rows(connection, after=after, limit=limit)
            else:
                found = rows.rows_of_run(connection, run_id, after=after, limit=limit)
            return [row.recorded() for row in found]

        return await self._ask(work)

    async def chain_rows(self, run_id: RunId, *, after: int = 0, limit: int = 1000) -> Sequence[Row]:
        """The events of one run as they lie in the chain, with what it takes to verify them elsewhere."""
        return await self._ask(lambda connection: list(rows.rows_of_run(connection, run_id, after=after, limit=limit)))

    async def get(self, kind: type[V], id: str) -> V | None:
        return await self._ask_quickly(lambda connection: stored.view(connection, kind, id))

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
        ask = self._ask if limit is None or limit > _FEW else self._ask_quickly
        return await ask(
            lambda connection: stored.find(
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
        self,
        system: str,
        objects: Iterable[str],
        *,
        nested: bool = False,
        after: int = 0,
        besides: Collection[str] = (),
    ) -> Sequence[ActionView]:
        asked = list(objects)
        return await self._ask(
            lambda connection: stored.touching(connection, system, asked, nested=nested, after=after, besides=besides)
        )

    async def position(self) -> int:
        return await self._ask_quickly(lambda connection: rows.newest(connection)[0])

    async def heads(self, run_ids: Sequence[RunId] | None = None) -> Mapping[RunId, tuple[int, str]]:
        ask = self._ask if run_ids is None or len(run_ids) > _FEW else self._ask_quickly
        return await ask(lambda connection: rows.heads(connection, run_ids))

    # -- small objects ----------------------------------------------------------------------------------------------

    async def blob(self, name: str) -> bytes | None:
        def work(connection: sqlite3.Connection) -> bytes | None:
            found = connection.execute("SELECT data FROM blobs WHERE name = ?", (name,)).fetchone()
            return None if found is None else bytes(found[0])

        return await self._ask_quickly(work)

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

        await self._writable().transact(work)
        return freed

    # -- care -------------------------------------------------------------------------------------------------------

    async def verify(self) -> Verification:
        self._ring.reload()
        anchors = [] if self._anchors is None else self._anchors.read(self.identity)
        try:
            return await asyncio.to_thread(verify_sqlite, self.path, self._ring, anchors)
        except sqlite3.Error as error:
            raise translated(error) from error

    async def rebuild(self) -> int:
        count = 0

        def work(connection: sqlite3.Connection) -> tables.Batch:
            nonlocal count
            count = tables.refold(connection)
            return tables.Batch([], {}, 0)

        await self._writable().transact(work)
        return count

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._quick.close()
        await self._reader.close()
        if self._writer is not None:
            await self._writer.close()
        if self._lock is not None:
            self._lock.close()
        if self._anchors is not None:
            self._anchors.close()


async def _started(connection: sqlite3.Connection) -> Connection:
    started = Connection(connection)
    await started
    return started


def _connected(path: Path, lock: FileLock) -> sqlite3.Connection:
    with lock.held():
        return connect_writer(path)


def _at_one_moment(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN")  # several statements of one question see one moment
    try:
        return work(connection)
    except ValueError as error:
        raise Unreadable("what the journal holds cannot be read") from error
    finally:
        connection.execute("COMMIT")


def _identity(connection: sqlite3.Connection) -> tuple[str, int]:
    (identity,) = connection.execute("SELECT value FROM meta WHERE name = 'journal'").fetchone()
    return str(identity), rows.newest(connection)[0]
