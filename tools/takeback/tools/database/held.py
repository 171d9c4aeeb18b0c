"""Which SQLite files this process is writing to just now: nobody in it may open and close them in another way meanwhile.

POSIX drops all of a process's locks on a file when the process closes any descriptor of it
(https://www.sqlite.org/howtocorrupt.html, 2.2.1).
"""

from __future__ import annotations

import os
from collections import Counter
from threading import Lock

Inode = tuple[int, int]
_held: Counter[Inode] = Counter()
_lock = Lock()


def hold(there: os.stat_result) -> Inode:
    """From now on; give back what this returns to `release`."""
    inode = (there.st_dev, there.st_ino)
    with _lock:
        _held[inode] += 1
    return inode


def release(inode: Inode) -> None:
    """Not any more."""
    with _lock:
        _held[inode] -= 1
        if not _held[inode]:
            del _held[inode]


def is_held(there: os.stat_result) -> bool:
    """Whether it is being written to."""
    return (there.st_dev, there.st_ino) in _held
