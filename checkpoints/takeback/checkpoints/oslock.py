"""A file lock that separates tasks, threads and processes, and is gone with its process. Nothing of it is on disk."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int, *, exclusive: bool, wait: bool) -> bool:
        # byte locks of Windows have no shared mode; exclusive is the safe reading of both
        while True:
            try:
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            except OSError:
                if not wait:
                    return False
                time.sleep(0.001)
            else:
                return True

else:
    import fcntl

    def _lock(fd: int, *, exclusive: bool, wait: bool) -> bool:
        # flock belongs to the open file, so each holder opens its own
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True


@contextmanager
def held(path: str, *, exclusive: bool = True, wait: bool = True) -> Generator[bool, None, None]:
    """Hold the lock of this file while inside. Blocks the thread, so keep what is done inside short.

    :param wait: if false and somebody else holds it, yields `False` at once, without the lock.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        yield _lock(fd, exclusive=exclusive, wait=wait)
    finally:
        os.close(fd)  # closing lets go
