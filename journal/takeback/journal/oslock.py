"""One lock of the operating system on one file: between processes, gone with its holder, never in the way of reading."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_FIRST_WAIT, _LONGEST_WAIT = 0.0002, 0.01

if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


class LockWait(Exception):
    """Somebody else held the lock for the whole time one was willing to wait."""


class FileLock:
    """Exclusive between open `FileLock`s, in one process or in several. One thread uses one of them at a time."""

    def __init__(self, path: Path, *, timeout: float) -> None:
        """`timeout` is in seconds."""
        self._timeout = timeout
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)

    @contextmanager
    def held(self) -> Generator[None]:
        """Hold the lock.

        :raises LockWait: it was not to be had in time.
        """
        if not _try_lock(self._fd):
            self._wait()
        try:
            yield
        finally:
            _unlock(self._fd)

    def _wait(self) -> None:
        until, pause = time.monotonic() + self._timeout, _FIRST_WAIT
        while not _try_lock(self._fd):
            if time.monotonic() >= until:
                raise LockWait(f"another process has held the lock for {self._timeout:g} s")
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_WAIT)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)
