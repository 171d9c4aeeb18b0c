"""Locks on objects, across tasks and processes: gone with their process, never on disk, no fsync.

1,024 striped OS file locks in the data directory. An act holds its objects exclusively and their ancestors shared, from
preparation to conclusion; two acts on one object wait for each other wherever they run. Stripes are taken in sorted order, so
no two holders can wait for each other in a circle.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from blake3 import blake3

STRIPES = 1024
_FIRST_WAIT, _LONGEST_WAIT = 0.0005, 0.05

if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int, exclusive: bool) -> bool:
        # Windows byte locks have no shared mode; exclusive is the safe reading of both
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(fd: int, exclusive: bool) -> bool:
        # flock belongs to the open file, so it also separates tasks of one process
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class LockTimeout(Exception):
    """A lock was not to be had: somebody else held it for the whole time one was willing to wait, or the system refused it."""


class Locks:
    """The lock files of one data directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @staticmethod
    def stripe(name: str) -> int:
        """Which of the stripes a name falls into: the same in every process."""
        return int.from_bytes(blake3(name.encode("utf-8", "surrogatepass")).digest(length=4), "big") % STRIPES

    @asynccontextmanager
    async def hold(
        self, exclusive: Iterable[str], shared: Iterable[str] = (), *, timeout: float | None = 60.0
    ) -> AsyncGenerator[None, None]:
        """Hold locks on all these names; waits for others to let go.

        :param timeout: seconds; `None` waits for ever, 0 does not wait.
        :raises LockTimeout: not to be had in time; none is held then.
        """
        wanted = {self.stripe(name): False for name in shared}
        wanted.update({self.stripe(name): True for name in exclusive})
        held: list[int] = []
        # no cancel scope for what is nearly always to be had at once: the time is only looked at by whoever waits
        until = None if timeout is None else anyio.current_time() + timeout
        try:
            for stripe in sorted(wanted):
                held.append(await self._take(stripe, wanted[stripe], until))
            yield
        finally:
            for fd in held:
                os.close(fd)  # closing lets go

    async def _take(self, stripe: int, exclusive: bool, until: float | None) -> int:
        path, flags = self._folder / f"{stripe:04x}.lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:  # no descriptors left, or no room for one more name
            raise LockTimeout(f"its lock could not be opened ({error.strerror})") from error
        pause = _FIRST_WAIT
        try:
            while not _try_lock(fd, exclusive):
                if until is not None and anyio.current_time() >= until:
                    raise LockTimeout("another call holds the object")
                await anyio.sleep(pause)
                pause = min(pause * 2, _LONGEST_WAIT)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, OSError):
                raise LockTimeout(f"its lock could not be taken ({error.strerror})") from error
            raise
        return fd
