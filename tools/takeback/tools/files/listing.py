"""Facts about what is there, for people and tools: one object, or what is in a folder."""

from __future__ import annotations

import os
import stat

from takeback.tools.files.calls import Dir
from takeback.tools.files.paths import RESERVED, Place, escape
from takeback.tools.files.staged import FileInfo, Kind
from takeback.tools.files.workbench import Workbench


def info_of(bench: Workbench, place: Place) -> FileInfo | None:
    """Facts about a place; `None` if there is nothing. Links are not followed."""
    if not place.parts:
        return _info(place.object, place.shown, bench.calls.stat_folder(place.root_dir), None)
    parent = bench.parent(place)
    return None if parent is None else _info_at(bench, place.object, parent, place.name)


def entries_of(bench: Workbench, place: Place, recursive: bool, limit: int) -> list[FileInfo]:
    """What is in a folder, sorted by name, at most `limit` entries; no link is followed, nothing reserved is shown."""
    found: list[FileInfo] = []
    with bench.calls.open_below(place.root_dir, place.parts) as folder:
        _list(bench, folder, place.object, recursive, limit, found)
    return found


def _list(bench: Workbench, folder: Dir, above: str, recursive: bool, limit: int, found: list[FileInfo]) -> None:
    for name in bench.calls.names(folder):
        if len(found) >= limit:
            return
        if name == RESERVED:
            continue
        info = _info_at(bench, os.path.join(above, escape(name)), folder, name)
        if info is None:
            continue
        found.append(info)
        if recursive and info.kind == "directory":
            try:
                inside = bench.calls.open_folder(folder, name)
            except OSError:
                continue  # gone, exchanged for a link, or not ours to read: listed, not entered
            with inside:
                _list(bench, inside, info.object, recursive, limit, found)


def _info_at(bench: Workbench, object_id: str, folder: Dir, name: bytes) -> FileInfo | None:
    there = bench.calls.lstat(folder, name)
    if there is None:
        return None
    target: str | None = None
    if stat.S_ISLNK(there.st_mode):
        try:
            target = escape(bench.calls.readlink(folder, name))
        except OSError:
            return None
    return _info(object_id, escape(name), there, target)


def _info(object_id: str, name: str, there: os.stat_result, target: str | None) -> FileInfo:
    mode = there.st_mode
    kind: Kind = "other"
    if stat.S_ISREG(mode):
        kind = "file"
    elif stat.S_ISDIR(mode):
        kind = "directory"
    elif stat.S_ISLNK(mode):
        kind = "symlink"
    return FileInfo(
        object=object_id,
        name=name,
        kind=kind,
        size=there.st_size,
        mode=stat.S_IMODE(mode),
        uid=there.st_uid,
        gid=there.st_gid,
        mtime_ns=there.st_mtime_ns,
        ctime_ns=there.st_ctime_ns,
        nlink=there.st_nlink,
        target=target,
    )
