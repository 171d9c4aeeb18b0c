"""What a power cut leaves: the changes that the shim wrote down, unmade where nothing had made them durable.

The model is a journaling file system (ext4, XFS): changes of names and attributes become durable in their order, so a sync of
a file or folder makes everything durable that came before the last such change to it; content becomes durable by a sync of its
own file and by nothing else. Of what was not synced, nothing survives (`dice=None`), or whatever the dice say.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = struct.Struct("<Icc2x4Q6q4I")
_MAGIC = 0x7461B0AC


_NUMBERS = itertools.count()
"""What lies in a grave may be taken out again, so that its number of names says nothing about which are free."""


@dataclass(slots=True)
class Change:
    """One call, and how it is unmade."""

    kind: str
    op: str
    inodes: tuple[int, ...]
    size: int
    offset: int
    times: tuple[int, int]
    mode: int
    path: bytes
    other: bytes
    data: bytes = field(repr=False)


def changes(log: Path) -> list[Change]:
    """What was written down, without what failed."""
    text, at, found = log.read_bytes(), 0, list[Change]()
    while at < len(text):
        magic, kind, op, *rest = _HEAD.unpack_from(text, at)
        assert magic == _MAGIC
        inodes, (size, offset, atime, atime_ns, mtime, mtime_ns, mode, a, b, c) = tuple(rest[:4]), rest[4:]
        at += _HEAD.size
        path, other, data = text[at : at + a], text[at + a : at + a + b], text[at + a + b : at + a + b + c]
        at += a + b + c
        if kind == b"F":
            found.pop()
            continue
        times = (atime * 10**9 + atime_ns, mtime * 10**9 + mtime_ns)
        found.append(Change(kind.decode(), op.decode(), inodes, size, offset, times, mode, path, other, data))
    return found


def cut(log: Path, root: Path, grave: Path, dice: random.Random | None) -> int:
    """Unmake what was not durable; how many changes that was."""
    done = changes(log)
    synced: dict[int, int] = {}
    touched: dict[int, int] = {}
    forced = -1
    for index, change in enumerate(done):
        if change.kind == "S":
            synced[change.inodes[0]] = index
            forced = max(forced, touched.get(change.inodes[0], -1))
        elif change.kind in "MA":
            touched.update(dict.fromkeys(filter(None, change.inodes), index))
    last = forced if dice is None else dice.randint(forced, len(done))
    unmade = [change for index, change in enumerate(done) if change.kind in "MA" and index > last]
    for change in reversed(unmade):
        _unmake_name(change, root, grave)
    content = [
        change
        for index, change in enumerate(done)
        if change.kind == "D" and index > synced.get(change.inodes[0], -1) and (dice is None or dice.random() < 0.5)
    ]
    for change in reversed(content):
        _unmake_content(change, root, grave)
    shutil.rmtree(grave)  # what stays there was removed for good, or never came to be
    return len(unmade) + len(content)


def _unmake_name(change: Change, root: Path, grave: Path) -> None:
    match change.op:
        case "r":
            os.rename(change.other, change.path)
            if change.data:
                os.rename(change.data, change.other)
        case "x":
            aside = os.fsencode(grave / "aside")
            os.rename(change.path, aside)
            os.rename(change.other, change.path)
            os.rename(aside, change.other)
        case "c":
            # the call after which the process died may not have come to it
            if os.path.lexists(change.path):
                os.rename(change.path, os.fsencode(grave / f"unmade-{next(_NUMBERS)}"))
        case "l":
            os.unlink(change.path)
        case "g":
            os.rename(change.other, change.path)
        case "h":
            os.link(_found(change.inodes[1], root, grave), change.path)
        case "d":
            os.mkdir(change.path, change.mode & 0o7777)
        case _:
            path = _found(change.inodes[0], root, grave)
            if path is not None and not os.path.islink(path):
                os.chmod(path, change.mode & 0o7777)
                os.utime(path, ns=change.times)


def _unmake_content(change: Change, root: Path, grave: Path) -> None:
    path = _found(change.inodes[0], root, grave)
    if path is None:
        return
    mode = os.lstat(path).st_mode
    os.chmod(path, 0o600)
    size = change.size
    if change.op == "w":
        # a write makes no file shorter: without it, a file that was cut afterwards is not longer again
        size = min(size, os.lstat(path).st_size)
    with open(path, "r+b") as file:
        file.seek(change.offset)
        file.write(change.data)
        file.truncate(size)
    os.chmod(path, mode & 0o7777)
    os.utime(path, ns=change.times)


def _found(inode: int, root: Path, grave: Path) -> bytes | None:
    for top in (root, grave):
        for folder, folders, files in os.walk(os.fsencode(top)):
            for name in (b".", *folders, *files):
                path = os.path.join(folder, name)
                if os.lstat(path).st_ino == inode:
                    return path
    return None
