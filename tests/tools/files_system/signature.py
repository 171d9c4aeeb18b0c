"""What a tree of files is, told by means of its own: nothing here is shared with what it checks."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any


def signature(root: Path, *, folder_times: bool = True, inodes: bool = False) -> dict[bytes, Any]:
    """Each object's type, mode, owner, mtime, attributes, content, holes; and which names are one file."""
    top = os.fsencode(root)
    told: dict[bytes, Any] = {}
    groups: dict[tuple[int, int], list[bytes]] = {}

    def tell(path: bytes) -> None:
        there = os.lstat(path)
        kind = stat.S_IFMT(there.st_mode)
        is_folder = kind == stat.S_IFDIR
        attributes = sorted(
            (key, os.getxattr(path, key, follow_symlinks=False)) for key in os.listxattr(path, follow_symlinks=False)
        )
        facts: list[Any] = [oct(there.st_mode), there.st_uid, there.st_gid, attributes]
        facts.append(there.st_mtime_ns if folder_times or not is_folder else None)
        if inodes:
            facts.append(there.st_ino)
        if kind == stat.S_IFREG:
            with open(path, "rb") as file:
                facts += [there.st_size, hashlib.sha256(file.read()).hexdigest(), holes(file.fileno(), there.st_size)]
        elif kind == stat.S_IFLNK:
            facts.append(os.readlink(path))
        if not is_folder and there.st_nlink > 1:
            groups.setdefault((there.st_dev, there.st_ino), []).append(path[len(top) :])
        told[path[len(top) :]] = facts

    tell(top)
    for folder, folders, files in os.walk(top, followlinks=False):
        if b".takeback" in folders:
            folders.remove(b".takeback")
        for name in folders + files:
            tell(os.path.join(folder, name))
    told[b"//links"] = sorted(sorted(names) for names in groups.values())
    return told


def holes(fd: int, size: int) -> list[tuple[int, int]]:
    """The data extents."""
    found: list[tuple[int, int]] = []
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError:
            break
        offset = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, offset))
    return found


def difference(a: dict[bytes, Any], b: dict[bytes, Any]) -> dict[bytes, Any]:
    """Only what differs, for people."""
    return {key: (a.get(key), b.get(key)) for key in a.keys() | b.keys() if a.get(key) != b.get(key)}
