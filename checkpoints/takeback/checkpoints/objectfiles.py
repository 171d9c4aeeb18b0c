"""The files in which objects lie. Synchronous; `store.py` decides what runs in a thread.

An object appears by one rename of a file that is already on disk, and never changes afterwards. `refresh` and the end of
`write` hold the folder's lock shared, `remove` holds it alone: so an object that somebody has just been told is there cannot be
taken by a collector that looked at it a moment earlier.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from takeback.checkpoints.encoding import HEADER_BYTES, plausible
from takeback.checkpoints.names import sync_directory
from takeback.checkpoints.oslock import held

AGED_NS: Final = 1_000_000_000
"""When an `aged` object was written, for the collector: a second after the beginning of time."""
_FANOUT: Final = 2
_BINARY: Final = getattr(os, "O_BINARY", 0)
_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)


class Found(NamedTuple):
    """One file of the store."""

    digest: str
    stored_bytes: int
    written_ns: int
    """When it was last put, by the file system's clock."""


class ObjectFiles:
    """256 folders of files, and one for what is being written."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._temporary = os.path.join(folder, "tmp")
        self._lock = os.path.join(folder, "files.lock")
        self._durable: set[str] = set()
        os.makedirs(self._temporary, mode=0o700, exist_ok=True)

    def path(self, digest: str) -> str:
        """Where the object of this digest lies, if it is there."""
        return os.path.join(self.folder, digest[:_FANOUT], digest)

    def empty(self) -> bool:
        """True if no object was ever stored here."""
        with os.scandir(self.folder) as entries:
            return not any(len(entry.name) == _FANOUT and entry.is_dir() for entry in entries)

    def exists(self, digest: str) -> bool:
        """Whether there is such a file. Says nothing about a moment later; `refresh` does."""
        return os.path.lexists(self.path(digest))

    def size(self, digest: str) -> int:
        """Bytes that the object takes; 0 if it is not there."""
        try:
            return os.lstat(self.path(digest)).st_size
        except FileNotFoundError:
            return 0

    def read(self, digest: str) -> bytes | None:
        """The stored form, unverified; `None` if there is none."""
        try:
            with open(self.path(digest), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def refresh(self, digest: str) -> bool:
        """Whether the object is there, looks whole, and from now on is as young as if written just now. Durable on return."""
        with held(self._lock, exclusive=False):
            if not self._touch(digest):
                return False
        # whoever wrote it may not have come to this yet, or have died before
        sync_directory(os.path.dirname(self.path(digest)))
        return True

    def write(self, digest: str, stored: bytes, *, aged: bool = False) -> int:
        """Write an object durably; the bytes by which the store grew (0: somebody else was first).

        :param aged: it is to count as older than anything, until somebody puts or refreshes it.
        :raises OSError: nothing is there that was not there before.
        """
        final = self.path(digest)
        beside = os.path.join(self._temporary, f"{digest[:16]}-{secrets.token_hex(6)}")
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY | _CLOEXEC, 0o600)
        try:
            try:
                rest = memoryview(stored)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                if hasattr(os, "fchmod"):
                    os.fchmod(fd, 0o400)
                os.fsync(fd)
            finally:
                os.close(fd)
            self._make_folder(os.path.dirname(final))
            with held(self._lock, exclusive=False):
                if self._touch(digest):
                    os.unlink(beside)
                    grown = 0
                else:
                    self._stamp(beside, aged=aged)
                    # no object is there, or a damaged one, which this mends
                    grown = len(stored) - self.size(digest)
                    self._replace(beside, final)
        except BaseException:
            with suppress(OSError):
                _unlink(beside)
            raise
        sync_directory(os.path.dirname(final))
        return grown

    def remove(self, digest: str, *, written_before_ns: int | None = None) -> int | None:
        """Destroy an object unless it was put since; bytes freed, or `None` if it stays or was not there."""
        path = self.path(digest)
        with held(self._lock):
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                return None
            if written_before_ns is not None and found.st_mtime_ns >= written_before_ns:
                return None
            _unlink(path)
        return found.st_size

    def scan(self) -> Iterator[Found]:
        """Every object, in order of digest."""
        for number in range(16**_FANOUT):
            try:
                with os.scandir(os.path.join(self.folder, f"{number:02x}")) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except FileNotFoundError:
                continue
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield Found(entry.name, found.st_size, found.st_mtime_ns)

    def temporary(self) -> Iterator[Found]:
        """What is being written, and what writers that died have left (`digest` is a file name here)."""
        with os.scandir(self._temporary) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield Found(entry.name, found.st_size, found.st_mtime_ns)

    def remove_temporary(self, name: str) -> None:
        """Remove what a dead writer left."""
        with suppress(FileNotFoundError):
            _unlink(os.path.join(self._temporary, name))

    def clock_ns(self) -> int:
        """Now, by the clock that stamps these files (a network disk has its own)."""
        probe = os.path.join(self.folder, "clock")
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | _CLOEXEC, 0o600))
        os.utime(probe)
        return os.stat(probe).st_mtime_ns

    def _touch(self, digest: str) -> bool:
        path = self.path(digest)
        try:
            with open(path, "rb", buffering=0) as file:
                whole = plausible(file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size)
            if whole:
                os.utime(path)
        except FileNotFoundError:
            return False
        return whole

    def _make_folder(self, folder: str) -> None:
        if folder in self._durable:
            return
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        # if it existed, whoever made it may not have come to this yet
        sync_directory(self.folder)
        self._durable.add(folder)

    @staticmethod
    def _stamp(path: str, *, aged: bool) -> None:
        if aged:
            os.utime(path, ns=(AGED_NS, AGED_NS))
        else:
            os.utime(path)

    @staticmethod
    def _replace(source: str, target: str) -> None:
        try:
            os.replace(source, target)
        except PermissionError:
            # Windows does not replace what is read-only
            if os.name != "nt":
                raise
            os.chmod(target, 0o600)
            os.replace(source, target)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except PermissionError:
        # Windows does not remove what is read-only
        if os.name != "nt":
            raise
        os.chmod(path, 0o600)
        os.unlink(path)


def is_full(error: OSError) -> bool:
    """Whether the disk (or the share of it one may use) is full."""
    return error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
