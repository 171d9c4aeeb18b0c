"""The trash: where exchanged objects lie, one per mount, so that going there is a rename and costs nothing.

In the data directory where a rename between it and the workspace works (the same mount), else in `.takeback/` at the top of
the mount: 0700, with a `.gitignore` of `*`, reserved to us. An object lies under the random name of its *slot*; the refs of the
journaled states know which. What somebody else wrote and an undo could not put anywhere stays as `kept-…`, never collected.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Final

from blake3 import blake3

from takeback.tools.files.calls import KEPT, OPEN_NEW, Calls, Dir, disk_bytes
from takeback.tools.files.paths import RESERVED, Names, Place, escape
from takeback.tools.system import TargetError

log = logging.getLogger(__name__)
_HOMES: Final = b"trash-homes"
_IGNORE: Final = b".gitignore"


@dataclass(frozen=True, slots=True)
class Trash:
    """One trash, held open."""

    home: str
    """Empty for the one in the data directory, else the id of the folder whose `.takeback` it is."""
    folder: Dir


@dataclass(frozen=True, slots=True)
class Slot:
    """A name in a trash, taken or free."""

    trash: Trash
    name: bytes

    @property
    def folder(self) -> Dir:
        """The trash's folder."""
        return self.trash.folder

    @property
    def ref(self) -> dict[str, str]:
        """How states refer to it."""
        return {"slot": self.name.decode("ascii"), "trash": self.trash.home}


class Trashes:
    """All trashes of a workspace."""

    def __init__(self, calls: Calls, names: Names, data: bytes) -> None:
        self._calls, self._names, self._lock = calls, names, Lock()
        self._own = os.path.join(data, b"trash")
        os.makedirs(os.path.join(data, _HOMES), mode=0o700, exist_ok=True)
        self._homes = calls.open_root(os.path.join(data, _HOMES))
        self._open: dict[str, Trash] = {}
        self._left: list[Trash] = []
        self._used: int | None = None
        self._ours()

    def close(self) -> None:
        """Let go of all."""
        for trash in (*self._open.values(), *self._left):
            trash.folder.close()
        self._homes.close()

    def free_slot(self, place: Place, parent: Dir) -> Slot:
        """A new slot in the trash into which objects in this folder can be renamed."""
        return Slot(self._for(place, parent), os.urandom(10).hex().encode())

    def slot(self, ref: dict[str, object]) -> Slot | None:
        """The slot that a state refers to, if its trash is still there."""
        name, home = ref.get("slot"), ref.get("trash")
        if not isinstance(name, str) or not isinstance(home, str):
            return None
        trash = self._named(home)
        return None if trash is None else Slot(trash, name.encode())

    def keep(self, slot: Slot) -> str:
        """Set aside for good what somebody else wrote; the name under which it lies now."""
        name = KEPT + os.urandom(4).hex().encode() + b"-" + slot.name
        self._calls.place(slot.folder, slot.name, slot.folder, name)
        return name.decode("ascii")

    def used(self) -> int:
        """Bytes that lie in the trashes: counted once, then kept up by `grow`."""
        if self._used is None:
            self._used = sum(
                self._size(trash.folder, name) for trash in self._all() for name in self._calls.names(trash.folder)
            )
        return self._used

    def grow(self, size: int) -> None:
        """So many bytes came in (or went out)."""
        if self._used is not None:
            self._used = max(0, self._used + size)

    def collect(self, keep: Collection[tuple[str, str]], older_than_ns: int) -> int:
        """Destroy all slots but these and those touched lately; bytes freed."""
        freed = 0
        limit = time.time_ns() - older_than_ns
        for trash in self._all():
            for name in self._calls.names(trash.folder):
                slot = name.split(b".", 1)[0].decode("ascii", "replace")
                there = self._calls.lstat(trash.folder, name)
                if name.startswith(KEPT) or (trash.home, slot) in keep or there is None or there.st_ctime_ns > limit:
                    continue
                size = self._size(trash.folder, name)
                try:
                    self._calls.remove_tree(trash.folder, name)
                except (OSError, RecursionError) as error:
                    log.warning("%s in the trash could not be destroyed: %s", name.decode("ascii", "replace"), error)
                    size -= self._size(trash.folder, name)
                freed += max(0, size)
        self._used = None
        return freed

    def _size(self, d: Dir, name: bytes) -> int:
        there = self._calls.lstat(d, name)
        if there is None:
            return 0
        if not stat.S_ISDIR(there.st_mode):
            return disk_bytes(there)
        try:
            with self._calls.open_folder(d, name) as folder:
                return sum(self._size(folder, child) for child in self._calls.names(folder))
        except OSError:
            return 0  # a folder nobody may open: its size is not known, and no reason to fail

    # -- where they are -------------------------------------------------------------------------------------------------

    def _all(self) -> Iterator[Trash]:
        homes = {"", *(self._home_of(name) for name in self._calls.names(self._homes))}
        homes.update(escape(os.fsencode(root.path)) for root in self._names.roots)
        for home in sorted(homes):
            trash = self._named(home)
            if trash is not None:
                yield trash

    def _for(self, place: Place, parent: Dir) -> Trash:
        ours = self._ours()
        if self._calls.same_mount(ours.folder, parent):
            return ours
        for depth in range(len(place.parts)):
            above = self._calls.open_below(place.root_dir, place.parts[:depth])
            with above:
                if not self._calls.same_mount(above, parent):
                    continue
                base = escape(os.fsencode(place.root.path))
                home = os.path.join(base, *(escape(part) for part in place.parts[:depth]))
                return self._named(home) or self._make(home, above)
        return ours  # a single file mounted for itself: the rename will say so

    def _ours(self) -> Trash:
        """The one in the data directory; made anew if somebody has deleted it."""
        with self._lock:
            known = self._known("")
            if known is not None:
                return known
            os.makedirs(self._own, mode=0o700, exist_ok=True)
            return self._open.setdefault("", Trash("", self._calls.open_root(self._own)))

    def _known(self, home: str) -> Trash | None:
        """One that is held open and still is where it was; others may be using it, so what is left is closed at the end."""
        known = self._open.get(home)
        if known is None or not self._gone(known):
            return known
        self._left.append(self._open.pop(home))
        self._used = None
        return None

    def _gone(self, trash: Trash) -> bool:
        held = self._calls.stat_folder(trash.folder) if trash.folder.fd >= 0 else None
        if held is not None and held.st_nlink == 0:
            return True
        try:
            there = os.stat(trash.folder.path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # the way there is closed to us by now; what is held open still serves
        return held is not None and (held.st_dev, held.st_ino) != (there.st_dev, there.st_ino)

    def _named(self, home: str) -> Trash | None:
        if not home:
            return self._ours()
        with self._lock:
            known = self._known(home)
            if known is not None:
                return known
            try:
                place = self._names.locate(home)
                folder = self._calls.open_below(place.root_dir, (*place.parts, RESERVED, b"trash"))
            except (OSError, TargetError):
                return None  # its mount, or its root, is not there today
            return self._open.setdefault(home, Trash(home, folder))

    def _make(self, home: str, above: Dir) -> Trash:
        before = self._calls.stat_folder(above)
        with suppress(FileExistsError):
            self._calls.mkdir(above, RESERVED, 0o700)
        with self._calls.open_folder(above, RESERVED) as folder:
            # whatever exists already: another process may be making the same
            with suppress(FileExistsError), os.fdopen(self._calls.open_file(folder, _IGNORE, OPEN_NEW), "wb") as file:
                file.write(b"*\n")
            with suppress(FileExistsError):
                self._calls.mkdir(folder, b"trash", 0o700)
            self._calls.sync_folder(folder)
        self._calls.utime_folder(above, before.st_atime_ns, before.st_mtime_ns)
        self._calls.sync_folder(above)
        note = blake3(home.encode()).hexdigest(length=16).encode()
        with suppress(FileExistsError), os.fdopen(self._calls.open_file(self._homes, note, OPEN_NEW), "wb") as file:
            file.write(home.encode())
        trash = self._named(home)
        if trash is None:
            raise FileNotFoundError(2, "the trash could not be opened", home)
        return trash

    def _home_of(self, note: bytes) -> str:
        fd = self._calls.open_file(self._homes, note, os.O_RDONLY)
        with os.fdopen(fd, "rb") as file:
            return file.read().decode()
