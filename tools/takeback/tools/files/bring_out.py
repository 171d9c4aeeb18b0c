"""Copies of earlier states, out of the workspace: a file, a link or a whole folder as it was, wherever it can still be had.

For rehearsals and for people who want to look at what was there. Nothing in the workspace or the trash changes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from takeback.journal.states import State
from takeback.tools.files.calls import OPEN_READ, Calls, Dir
from takeback.tools.files.fingerprint import Torn, measure, way_of
from takeback.tools.files.held import close
from takeback.tools.files.reading import Reader
from takeback.tools.files.workbench import Workbench
from takeback.tools.system import TargetError

_BLOCK = 1024 * 1024


def bring_out(bench: Workbench, state: State, destination: str) -> bool:
    """Copy what the state describes to a path that does not exist yet, with its mode and time.

    :returns: whether it could be had; if not, nothing is there.
    """
    for folder, name in _sources(bench, state):
        try:
            same = measure(bench.calls, folder, name, way_of(state.digest)).state.same(state)
        except (OSError, TargetError, Torn):
            continue
        if same:
            copy(bench.calls, folder, name, destination)
            return True
    content = Reader(bench).content(state)
    if content is None:
        return False
    with open(destination, "xb") as file:
        file.write(content)
    return True


def _sources(bench: Workbench, state: State) -> Iterator[tuple[Dir, bytes]]:
    slot = bench.slot(dict(state.ref))
    if slot is not None:
        yield slot.folder, slot.name
    at = state.ref.get("at")
    if isinstance(at, str):
        with suppress(OSError, TargetError):
            place = bench.names.locate(at)
            parent = bench.parent(place)
            if parent is not None:
                yield parent, place.name


def copy(calls: Calls, folder: Dir, name: bytes, destination: str) -> None:
    """Copy a file, a link or a folder with all that is in it; devices and the like are left out."""
    there = calls.lstat(folder, name)
    if there is None:
        raise FileNotFoundError(name)
    if stat.S_ISLNK(there.st_mode):
        os.symlink(calls.readlink(folder, name), os.fsencode(destination))
        return
    if stat.S_ISDIR(there.st_mode):
        os.mkdir(destination, 0o700)
        with calls.open_folder(folder, name) as inside:
            for child in calls.names(inside):
                copy(calls, inside, child, os.path.join(destination, os.fsdecode(child)))
    elif stat.S_ISREG(there.st_mode):
        _copy_file(calls, folder, name, destination)
    else:
        return
    os.chmod(destination, stat.S_IMODE(there.st_mode))
    os.utime(destination, ns=(there.st_atime_ns, there.st_mtime_ns))


def _copy_file(calls: Calls, folder: Dir, name: bytes, destination: str) -> None:
    fd = calls.open_file(folder, name, OPEN_READ)
    try:
        with open(destination, "xb") as file:
            while part := os.read(fd, _BLOCK):
                file.write(part)
    finally:
        close(fd)
