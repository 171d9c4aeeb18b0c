"""Files of the workspace that SQLite has open in this process, whose descriptors nobody else may close meanwhile.

POSIX drops all of a process's locks on a file when the process closes any descriptor of it
(https://www.sqlite.org/howtocorrupt.html, 2.2.1). So whoever has read such a file hands its descriptor to `close`, and it
stays open until SQLite has let go of the file.
"""

from __future__ import annotations

import os
from collections import Counter
from threading import Lock

Inode = tuple[int, int]
_held: Counter[Inode] = Counter()
_waiting: dict[Inode, list[int]] = {}
_lock = Lock()


def hold(there: os.stat_result) -> Inode:
    """From now on; give back what this returns to `release`."""
    inode = (there.st_dev, there.st_ino)
    with _lock:
        _held[inode] += 1
    return inode


def release(inode: Inode) -> None:
    """Not any more; descriptors that waited for it are closed with the last one."""
    with _lock:
        _held[inode] -= 1
        if not _held[inode]:
            del _held[inode]
            for fd in _waiting.pop(inode, ()):
                os.close(fd)


def close(fd: int) -> None:
    """Close a descriptor of a file in the workspace, or leave it to the last `release` of that file."""
    with _lock:
        if _held:
            there = os.fstat(fd)
            inode = (there.st_dev, there.st_ino)
            if inode in _held:
                _waiting.setdefault(inode, []).append(fd)
                return
        os.close(fd)
