"""The trash: where exchanged objects lie, one per mount, so that going there is a rename and costs nothing.

In the data directory where a rename between it and the workspace works (the same mount), else in `.takeback/` at the top of
the mount: 0700, with a `.gitignore` of `*`, reserved to us. In there each data directory has a folder of its own, because
none knows what another one needs. An object lies under the random name of its *slot*; the refs of the journaled states know
which. What somebody else wrote and an undo could not put anywhere stays as `kept-…`, never collected.

Which slots are needed is known to the collector from before it began, and an old act may be taken back in that very moment:
then what lay in a slot is in the workspace, and what stood there is in the slot. So nothing is destroyed under the name of a
slot: what is old and not needed is first given one that no state knows (`doomed-…`), while no act uses what has lain in a slot
for long.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, suppress
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
_FIRST: Final = b"trash"
"""The folder in a `.takeback` that earlier versions shared; who has it noted goes on with it."""
_DOOMED: Final = b"doomed-"
"""How names begin of what is being destroyed; the inode and the name that it had follow."""
SETTLED_NS: Final = 60 * 10**9
"""What has lain in a slot for less is out of a collector's reach by far, so an act on it needs not hold it off."""


def _note(home: str) -> bytes:
    return blake3(home.encode()).hexdigest(length=16).encode()


def _facts(there: os.stat_result) -> tuple[int, int, int]:
    return there.st_dev, there.st_ino, there.st_ctime_ns


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

    def __init__(self, calls: Calls, names: Names, data: bytes, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._calls, self._names, self._lock, self._clock = calls, names, Lock(), clock
        self._use = os.fsdecode(os.path.join(data, b"trash.lock"))
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

    def settled(self, slot: Slot) -> bool:
        """Whether something has lain there for so long that a collector may want it."""
        there = self._calls.lstat(slot.folder, slot.name)
        return there is not None and self._clock() - there.st_ctime_ns > SETTLED_NS

    def in_use(self) -> AbstractContextManager[bool]:
        """While inside, no collector of this data directory takes anything out of a slot."""
        return self._held(exclusive=False)

    def _held(self, *, exclusive: bool) -> AbstractContextManager[bool]:
        """An act waits for a collector, which holds it for the moment of a rename; a collector waits for nobody."""
        from takeback.checkpoints.oslock import held  # what it is made of differs by platform

        return held(self._use, exclusive=exclusive, wait=not exclusive)

    def collect(self, keep: Collection[tuple[str, str]], older_than_ns: int) -> int:
        """Destroy all slots but these and those touched lately; bytes freed. What an act may use is left for the next time.

        A death leaves what was being destroyed under its own name, and the next collection goes on with it.
        """
        freed = 0
        limit = self._clock() - older_than_ns
        for trash in self._all():
            for name in self._calls.names(trash.folder):
                slot = name.split(b".", 1)[0].decode("ascii", "replace")
                there = self._calls.lstat(trash.folder, name)
                if name.startswith(KEPT) or (trash.home, slot) in keep or there is None:
                    continue
                begun = name.startswith(_DOOMED)
                if there.st_ctime_ns > limit and not begun:
                    continue
                try:
                    doomed = name if begun else self._doom(trash, name, there)
                    freed += self._destroy(trash, doomed) if doomed is not None else 0
                except (OSError, RecursionError) as error:
                    log.warning("%s in the trash could not be destroyed: %s", name.decode("ascii", "replace"), error)
        self._used = None
        return freed

    def _doom(self, trash: Trash, name: bytes, looked: os.stat_result) -> bytes | None:
        """Take it out of its slot; the name that it has then. `None`: it is in use, or is not what was looked at any more."""
        doomed = b"%s%x-%s" % (_DOOMED, looked.st_ino, name)
        with self._held(exclusive=True) as alone:
            there = self._calls.lstat(trash.folder, name) if alone else None
            if there is None or _facts(there) != _facts(looked):
                return None
            self._calls.take(trash.folder, name, trash.folder, doomed)
        return doomed

    def _destroy(self, trash: Trash, doomed: bytes) -> int:
        """Destroy it, unless it is something else than was meant to be; bytes freed. What cannot be destroyed goes back."""
        inode, _, name = doomed[len(_DOOMED) :].partition(b"-")
        there = self._calls.lstat(trash.folder, doomed)
        if there is None:
            return 0
        if b"%x" % there.st_ino != inode:
            # an act that is not held off (clocks can jump) has put something else there in the very instant
            self._put_back(trash, doomed, name)
            return 0
        size = self._size(trash.folder, doomed)
        try:
            self._calls.remove_tree(trash.folder, doomed)
        except (OSError, RecursionError) as error:
            log.warning("%s in the trash could not be destroyed: %s", name.decode("ascii", "replace"), error)
            size -= self._size(trash.folder, doomed)
            self._put_back(trash, doomed, name)
        return max(0, size)

    def _put_back(self, trash: Trash, doomed: bytes, name: bytes) -> None:
        try:
            self._calls.place(trash.folder, doomed, trash.folder, name)
        except FileExistsError:
            kept = self.keep(Slot(trash, doomed))
            log.warning("%s in the trash is taken; what lay there is kept as %s", name.decode("ascii", "replace"), kept)

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
        notes = (name for name in self._calls.names(self._homes) if not name.startswith(b"."))
        for home in sorted({"", *(self._noted(name)[1] for name in notes)}):
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
                ours = self._folder_at(home)
                if ours is None:
                    return None
                place = self._names.locate(home)
                folder = self._calls.open_below(place.root_dir, (*place.parts, RESERVED, ours))
            except (OSError, TargetError):
                return None  # its mount, or its root, is not there today
            return self._open.setdefault(home, Trash(home, folder))

    def _make(self, home: str, above: Dir) -> Trash:
        before, ours = self._calls.stat_folder(above), self._take_folder_at(home)
        with suppress(FileExistsError):
            self._calls.mkdir(above, RESERVED, 0o700)
        with self._calls.open_folder(above, RESERVED) as folder:
            # whatever exists already: another process may be making the same
            with suppress(FileExistsError), os.fdopen(self._calls.open_file(folder, _IGNORE, OPEN_NEW), "wb") as file:
                file.write(b"*\n")
            with suppress(FileExistsError):
                self._calls.mkdir(folder, ours, 0o700)
            self._calls.sync_folder(folder)
        self._calls.utime_folder(above, before.st_atime_ns, before.st_mtime_ns)
        self._calls.sync_folder(above)
        trash = self._named(home)
        if trash is None:
            raise FileNotFoundError(2, "the trash could not be opened", home)
        return trash

    def _noted(self, note: bytes) -> tuple[bytes, str]:
        """Of one trash elsewhere: its folder in the `.takeback`, and the folder whose `.takeback` that is."""
        fd = self._calls.open_file(self._homes, note, os.O_RDONLY)
        with os.fdopen(fd, "rb") as file:
            folder, _, home = file.read().rpartition(b"\0")
        return folder or _FIRST, home.decode()

    def _folder_at(self, home: str) -> bytes | None:
        """Which folder there is this data directory's; `None`: it has none."""
        try:
            return self._noted(_note(home))[0]
        except FileNotFoundError:
            return None

    def _take_folder_at(self, home: str) -> bytes:
        """The same, chosen now if need be: noted durably before anything can lie there."""
        known = self._folder_at(home)
        if known is not None:
            return known
        folder = b"%s-%s" % (_FIRST, os.urandom(4).hex().encode())
        scratch = b".%s" % os.urandom(8).hex().encode()
        with os.fdopen(self._calls.open_file(self._homes, scratch, OPEN_NEW), "wb") as file:
            file.write(folder + b"\0" + home.encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            self._calls.place(self._homes, scratch, self._homes, _note(home))
        except FileExistsError:  # another process was first
            self._calls.unlink(self._homes, scratch)
            return self._noted(_note(home))[0]
        self._calls.sync_folder(self._homes)
        return folder
