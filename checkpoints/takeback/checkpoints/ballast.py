"""Space set aside: a file that is given up when the disk is full, so that a rollback can go on.

Only a help: that it cannot be made (the disk is already full, a quota, a read-only folder) never stops anything.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_CHUNK: Final = 1024 * 1024


class Ballast:
    """The reserve of one data directory.

    :param size: bytes; 0 means no reserve.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size

    @property
    def present(self) -> bool:
        """Whether the whole reserve is there."""
        try:
            return self._path.stat().st_size >= self._size
        except OSError:
            return self._size == 0

    def ensure(self) -> bool:
        """Put the reserve back if it is gone or short. Call it at the start and after a rollback. Whether it is there now."""
        if self.present:
            return True
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        try:
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                self._fill(fd)
            finally:
                os.close(fd)
            os.replace(beside, self._path)
        except OSError:
            with suppress(OSError):
                beside.unlink()
            return False
        return True

    def release(self) -> bool:
        """Give the reserve up. True if that freed something: then what failed is worth one more try."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return self._size > 0

    def _fill(self, fd: int) -> None:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(fd, 0, self._size)
            except OSError:
                # some file systems know no preallocation; a full disk fails again below
                os.lseek(fd, 0, os.SEEK_SET)
            else:
                return
        left = self._size
        while left > 0:
            # random, because a file system that compresses would not set anything aside for zeros
            left -= os.write(fd, os.urandom(min(left, _CHUNK)))
