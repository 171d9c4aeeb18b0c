"""`FileObjectStore`: the object store in a folder and in the journal's database.

Where an object lies:

- up to `SMALL` bytes, handed over with `small`: in the journal's database, durable with the intent that needs it;
- everything given to `put` and `put_stream`: a file, also when it is small, because `put` has no intent to travel with.

`get` and `has` look in both. `put` of something that is there already renews its age, so that the collector, which takes only
what has long been unneeded, leaves it alone until an intent names it; `has` promises nothing of the kind.

The quota is over stored (compressed) bytes of files and small objects alike. What is inside `for_undo()` is never refused for
the quota or for the disk's reserve: a rollback may always go on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from anyio import to_thread

from takeback.checkpoints.encoding import decode, encode
from takeback.checkpoints.names import PREFIX, Names, digest_of, load_key
from takeback.checkpoints.objectfiles import AGED_NS, ObjectFiles, is_full
from takeback.checkpoints.objects import (
    SMALL,
    ObjectCorrupt,
    ObjectError,
    ObjectMissing,
    ObjectStore,
    QuotaExceeded,
    Usage,
)
from takeback.checkpoints.usage import Count, Counter
from takeback.journal.log import Journal

BLOCK: Final = 4 * 1024 * 1024
"""Bytes of one object of a stream."""
_DIRECT: Final = 256 * 1024
_FLUSH: Final = 1024 * 1024

_undoing: ContextVar[bool] = ContextVar("takeback_for_undo", default=False)


class NotStored(ObjectError):
    """The disk failed or is full; the object is not there, and nothing else changed."""

    advice = "Free space or mend the disk, then repeat the call."


class FileObjectStore(ObjectStore):
    """See the module's docstring. Make one with `open`."""

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        names: Names,
        *,
        object_bytes: int,
        store_bytes: int,
        ballast_bytes: int,
    ) -> None:
        self.folder = folder
        self.files = ObjectFiles(os.fspath(folder))
        self._journal = journal
        self._names = names
        self._object_bytes, self._store_bytes, self._ballast_bytes = object_bytes, store_bytes, ballast_bytes
        self._counter = Counter(os.fspath(folder))
        self._uncounted: dict[str, int] = {}
        self._uncounted_bytes = 0
        self._recounted: int | None = None

    @classmethod
    async def open(
        cls, folder: Path, journal: Journal, *, object_bytes: int, store_bytes: int, ballast_bytes: int
    ) -> FileObjectStore:
        """Open the store in this folder; make it if there is none.

        :param object_bytes: largest single state that is taken.
        :param store_bytes: the quota over everything stored.
        :param ballast_bytes: what has to stay free on the disk beside what is stored.
        :raises NamesKeyUnavailable: objects are there, but not the key that their names were made with.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_path = folder / "names.key"
        in_use = False
        if not key_path.exists():
            in_use = not ObjectFiles(os.fspath(folder)).empty()
            async for name, _ in journal.blob_names():
                in_use = in_use or name.startswith(PREFIX)
        key = load_key(os.fspath(key_path), lock=os.fspath(folder / "names.lock"), in_use=in_use)
        return cls(
            folder,
            journal,
            Names(key),
            object_bytes=object_bytes,
            store_bytes=store_bytes,
            ballast_bytes=ballast_bytes,
        )

    # -- putting ----------------------------------------------------------------------------------------------------

    def name(self, data: bytes) -> str:
        return self._names.name(data)

    def small(self, data: bytes) -> tuple[str, Mapping[str, bytes]]:
        if len(data) > SMALL:
            raise ValueError(f"{len(data)} bytes are too many for a small object")
        name, stored = self._names.name(data), encode(data)
        if name not in self._uncounted:
            self._uncounted[name] = len(stored)
            self._uncounted_bytes += len(stored)
            if self._uncounted_bytes >= _FLUSH:
                self._count_small()
        return name, {name: stored}

    async def put_blobs(self, blobs: Mapping[str, bytes]) -> None:
        for stored in blobs.values():
            await self.put(decode(stored))

    async def put(self, data: bytes) -> str:
        self._check_size(len(data))
        try:
            if len(data) <= _DIRECT:
                digest = self._put_quick(data)
            else:
                digest = await to_thread.run_sync(self._put_quick, data)
            if digest is None:
                await self._recount()
                digest = await to_thread.run_sync(self._put_or_refuse, data)
        except OSError as error:
            raise _not_stored(error) from error
        return PREFIX + digest

    async def put_stream(self, stream: BinaryIO, size: int) -> tuple[str, ...]:
        self._check_size(size)
        await self.reserve(size)
        names: list[str] = []
        left = size
        while left:
            block = await to_thread.run_sync(_read_block, stream, min(left, BLOCK))
            if not block:
                raise ObjectError(f"the stream ended {left} bytes early; somebody may be writing to the file")
            left -= len(block)
            names.append(await self.put(block))
        return tuple(names)

    async def reserve(self, size: int) -> None:
        if _undoing.get():
            return
        self._check_disk(size)
        if self._fits(size):
            return
        count = await self._recount()
        if count.stored_bytes + size > self._store_bytes:
            raise self._refusal(size, count)

    @contextmanager
    def for_undo(self) -> Generator[None, None, None]:
        """What is stored inside (by this task and those it starts) is not refused for quota or reserve: it serves an undo."""
        token = _undoing.set(True)
        try:
            yield
        finally:
            _undoing.reset(token)

    # -- getting ----------------------------------------------------------------------------------------------------

    async def get(self, name: str) -> bytes:
        digest = digest_of(name)
        if digest is None:
            raise ObjectMissing(f"{name[:80]!r} is not the name of an object")
        damage: list[ObjectCorrupt] = []
        # the file is asked twice, because a collector moves small objects from the database into a file before it drops them
        for ask in (self._file, self._blob, self._file):
            stored = await ask(digest)
            if stored is None:
                continue
            try:
                return self._verified(stored, digest)
            except ObjectCorrupt as error:
                damage.append(error)
        if damage:
            raise damage[0]
        raise ObjectMissing(f"object {name} is not in the store")

    async def has(self, name: str) -> bool:
        digest = digest_of(name)
        if digest is None:
            return False
        if self.files.exists(digest) or await self._journal.blob(name) is not None:
            return True
        return self.files.exists(digest)  # moved from the database to a file in between, as in `get`

    async def names(self) -> AsyncIterator[tuple[str, int]]:
        """Every object: name and stored bytes. One that lies in the database and in a file comes twice."""
        for found in await to_thread.run_sync(lambda: list(self.files.scan())):
            yield PREFIX + found.digest, found.stored_bytes
        async for name, size in self._journal.blob_names():
            if digest_of(name) is not None:
                yield name, size

    async def usage(self) -> Usage:
        count = await self._recount()
        return Usage(count.objects, count.stored_bytes, self._store_bytes)

    # -- collecting -------------------------------------------------------------------------------------------------

    async def drop(self, names: Iterable[str]) -> int:
        wanted = [name for name in names if digest_of(name) is not None]
        _, freed = await to_thread.run_sync(self._remove_files, wanted, None)
        blobs = [name for name in wanted if await self._journal.blob(name) is not None]
        if blobs:
            dropped = await self._journal.drop_blobs(blobs)
            self._counter.add(-len(blobs), -dropped)
            freed += dropped
        return freed

    async def sweep_files(self, names: Sequence[str], *, written_before_ns: int) -> tuple[int, int]:
        """Destroy those of the objects that lie in files and were last put before this moment; number and bytes freed."""
        return await to_thread.run_sync(self._remove_files, names, written_before_ns)

    async def sweep_small(
        self, names: Sequence[str], still_needed: Callable[[], Awaitable[Collection[str]]]
    ) -> tuple[int, int]:
        """Destroy those of the objects that lie in the journal's database; number and bytes freed.

        An intent that is written at this moment may name one of them and, as it is there, not bring it along. So each is first
        saved in a file, then dropped, then the journal is asked once more, and only then the file goes: a crash at any
        point leaves a file that an ordinary sweep takes later.

        :param still_needed: asked after the drop: which names does any intent need that was written up to now?
        """
        saved: dict[str, int] = {}
        for name in names:
            stored = await self._journal.blob(name)
            if stored is None:
                continue
            try:
                await to_thread.run_sync(partial(self.files.write, name.removeprefix(PREFIX), stored, aged=True))
            except OSError as error:
                raise _not_stored(error) from error
            saved[name] = len(stored)
        if not saved:
            return 0, 0
        await self._journal.drop_blobs(list(saved))
        needed = await still_needed()
        gone = [name for name in saved if name not in needed]
        for name in gone:
            # whoever has put the same bytes meanwhile has made the file young, and it stays
            remove = partial(self.files.remove, name.removeprefix(PREFIX), written_before_ns=AGED_NS + 1)
            await to_thread.run_sync(remove)
        freed = sum(saved[name] for name in gone)
        self._counter.add(-len(gone), -freed)
        return len(gone), freed

    # -- inside -----------------------------------------------------------------------------------------------------

    def _check_size(self, size: int) -> None:
        if size > self._object_bytes:
            raise QuotaExceeded(f"{size} bytes are more than one object may have ({self._object_bytes})")

    def _check_disk(self, size: int) -> None:
        # what an effect leaves free must be enough to journal it and to take it back
        free = shutil.disk_usage(self.folder).free - self._ballast_bytes
        if size > free:
            raise QuotaExceeded(
                f"{size} bytes do not fit on the disk: {max(free, 0)} may be used beside the reserve for undoing"
            )

    def _refusal(self, size: int, count: Count) -> QuotaExceeded:
        return QuotaExceeded(
            f"{size} bytes do not fit into the object store: it holds {count.stored_bytes} of {self._store_bytes}"
        )

    def _fits(self, size: int) -> bool:
        count = self._counter.read()
        return count is not None and count.stored_bytes + self._uncounted_bytes + size <= self._store_bytes

    def _put_quick(self, data: bytes) -> str | None:
        """Store; `None` if the count is in doubt or says no, so that it has to be counted anew first."""
        digest = self._names.digest(data)
        if self.files.refresh(digest):
            return digest
        stored = encode(data)
        # small objects on their way to the journal are not in the shared count yet
        if not self._take(len(stored), self._store_bytes - self._uncounted_bytes):
            return None
        self._write(digest, stored)
        return digest

    def _put_or_refuse(self, data: bytes) -> str:
        digest = self._names.digest(data)
        stored = encode(data)
        if not self._take(len(stored), self._store_bytes):
            count = self._counter.read() or Count(0, 0, 0)
            raise self._refusal(len(stored), count)
        self._write(digest, stored)
        return digest

    def _take(self, size: int, quota: int) -> bool:
        if _undoing.get():
            self._counter.add(1, size)
            return True
        self._check_disk(size)
        return self._counter.take(size, quota)

    def _write(self, digest: str, stored: bytes) -> None:
        # should this fail, the count stays too high until the next counting: better than too low
        grown = self.files.write(digest, stored)
        if grown != len(stored):
            self._counter.add(-1, grown - len(stored))

    def _remove_files(self, names: Sequence[str], written_before_ns: int | None) -> tuple[int, int]:
        gone = freed = 0
        for name in names:
            size = self.files.remove(name.removeprefix(PREFIX), written_before_ns=written_before_ns)
            if size is not None:
                self._counter.add(-1, -size)
                gone, freed = gone + 1, freed + size
        return gone, freed

    def _count_small(self) -> None:
        objects, size = len(self._uncounted), self._uncounted_bytes
        self._uncounted.clear()
        self._uncounted_bytes = 0
        self._counter.add(objects, size)

    async def _recount(self) -> Count:
        since = self._counter.read()
        if since is not None and since.serial == self._recounted and not self._uncounted:
            return since
        objects = size = 0
        async for name, stored in self.names():
            self._uncounted_bytes -= self._uncounted.pop(name, 0)
            objects += 1
            size += stored
        count = self._counter.replace(objects, size, since=since)
        self._recounted = count.serial
        return count

    async def _file(self, digest: str) -> bytes | None:
        if self.files.size(digest) > _DIRECT:
            return await to_thread.run_sync(self.files.read, digest)
        return self.files.read(digest)

    async def _blob(self, digest: str) -> bytes | None:
        return await self._journal.blob(PREFIX + digest)

    def _verified(self, stored: bytes, digest: str) -> bytes:
        data = decode(stored)
        if self._names.digest(data) != digest:
            raise ObjectCorrupt(f"the stored bytes of object {PREFIX}{digest} are not what was put there")
        return data


def _read_block(stream: BinaryIO, size: int) -> bytes:
    """Exactly `size` bytes, or fewer at the end; raw streams may answer in pieces."""
    pieces: list[bytes] = []
    while size:
        piece = stream.read(size)
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _not_stored(error: OSError) -> NotStored:
    if is_full(error):
        return NotStored("the disk is full; the object was not stored")
    return NotStored(f"the object could not be stored ({error.strerror or type(error).__name__})")
