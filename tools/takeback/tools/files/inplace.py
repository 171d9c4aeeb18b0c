"""Changing a file where it is, for files with several hard links (or an owner that cannot be given to a new file).

The before- and after-images lie in the object store. A note in the data directory, locked while the writing process lives, says
what is being written, so that a file which a crash left half-written is recognised and brought back to what it was.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from pydantic import JsonValue

from takeback.checkpoints.objects import ObjectError
from takeback.journal.states import Effect, State
from takeback.tools.files.calls import OPEN_NEW, OPEN_READ, OPEN_WRITE, Calls, Dir
from takeback.tools.files.capture import Get, Image, blocks_of, content_of, file_image, number, xattrs_of
from takeback.tools.files.fingerprint import Torn, measure, way_of
from takeback.tools.files.held import close
from takeback.tools.files.paths import Place
from takeback.tools.files.steps import Standing, Step
from takeback.tools.files.workbench import CannotGoBack, Drift, Workbench
from takeback.tools.system import TargetError

log = logging.getLogger(__name__)
NOTES = b"in-place"
_WRITING_NS: Final = 60_000_000_000
"""So long after its note a file may have been written last; later it was somebody else."""
_CLOCKS_NS: Final = 2_000_000_000
"""So far apart two disks' clocks may be, or the steps in which they tell the time."""


class InPlace(Step):
    """A file's bytes and metadata become those of an image."""

    def __init__(self, bench: Workbench, effect: Effect, notes: Dir) -> None:
        self.effects = (effect,)
        self._bench, self._effect, self._notes = bench, effect, notes
        self._place = bench.names.locate(effect.object)
        self._before = effect.before

    def standing(self) -> Standing:
        where = self._where()
        if where != "before" and self._bench.calls.names(self._notes):
            # perhaps an earlier try was stopped halfway, or its note would have what is taken for done taken back one day
            mend(self._bench, self._notes, self._effect.object)
            return self._where()
        return where

    def _where(self) -> Standing:
        if self._look(self._effect.before).same(self._effect.before):
            return "before"
        return "after" if self._look(self._effect.after).same(self._effect.after) else "other"

    def present(self) -> Sequence[State]:
        return (self._look(self._effect.before),)

    def _look(self, like: State) -> State:
        return self._bench.look(self._place, like)

    def check(self) -> None:
        if not isinstance(self._effect.after.ref.get("image"), dict):
            raise Drift(f"The earlier content of {self._place.shown} was not kept.")
        if not isinstance(self._before.ref.get("image"), dict):
            self._before = self._imaged()

    def _imaged(self) -> State:
        """What stands there, with an image to come back to: whoever swaps may know it by its digest only."""
        calls, parent = self._bench.calls, self._bench.parent(self._place)
        if parent is None:
            raise Drift(f"{self._place.shown} is gone.")
        fd = calls.open_file(parent, self._place.name, OPEN_READ)
        try:
            image, names = file_image(fd, os.fstat(fd), calls.xattrs_of(fd), self._bench.put)
        finally:
            close(fd)
        before = self._effect.before
        return before.model_copy(update={"objects": names, "ref": {**before.ref, "image": image}})

    def kept(self) -> Mapping[int, State]:
        return {id(self._effect): self._before}

    def read_back(self) -> Sequence[State]:
        return (self._look(self._effect.after),)

    def act(self) -> None:
        self._write(self._before, self._effect.after)

    def back(self) -> None:
        try:
            self._write(self._effect.after, self._before)
        except Drift as drift:
            raise CannotGoBack(str(drift)) from drift

    def _write(self, present: State, wanted: State) -> None:
        parent = self._bench.parent(self._place)
        image = wanted.ref.get("image")
        if parent is None or not isinstance(image, dict):
            raise Drift(f"{self._place.shown} is gone.")
        calls = self._bench.calls
        try:
            fd = calls.open_file(parent, self._place.name, OPEN_WRITE)
        except FileNotFoundError as error:
            raise Drift(f"{self._place.shown} is gone.") from error
        try:
            with _noted(calls, self._notes, self._effect.object, present.ref.get("image"), image) as note:
                self._write_to(calls, fd, parent, present, image, note)
            if self._opened(calls, parent, fd) and self._look(wanted).same(wanted):
                return
            self._leave(calls, fd, parent, present, wanted)
        finally:
            close(fd)
        raise Drift(f"{self._place.shown} was changed by somebody else in the same instant.")

    def _write_to(self, calls: Calls, fd: int, parent: Dir, present: State, image: Image, note: Note) -> None:
        """
        :raises Drift: it is not as it should be; nothing was written.
        """
        there = measure(calls, parent, self._place.name, way_of(present.digest)).state
        if not there.same(present) or not self._opened(calls, parent, fd):
            raise Drift(f"{self._place.shown} was changed by somebody else.")
        note.half = True
        try:
            write_over(calls, fd, parent, self._place, image, self._bench.get)
        except (OSError, ObjectError):
            earlier = present.ref.get("image")
            if isinstance(earlier, dict):
                write_over(calls, fd, parent, self._place, earlier, self._bench.get)
                note.half = False
            raise
        note.half = False

    def _opened(self, calls: Calls, parent: Dir, fd: int) -> bool:
        """Whether the name stands for the file that is open (as far as the system tells files apart)."""
        there, here = calls.lstat(parent, self._place.name), os.fstat(fd)
        return there is not None and (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def _leave(self, calls: Calls, fd: int, parent: Dir, present: State, wanted: State) -> None:
        """The name was given to another file meanwhile: the one that was written goes back, if nobody wrote to it since."""
        earlier, image = present.ref.get("image"), wanted.ref.get("image")
        if not isinstance(earlier, dict) or not isinstance(image, dict):
            return
        there = os.fstat(fd)
        if (there.st_size, there.st_mtime_ns) == (number(image, "size"), number(image, "mtime")):
            write_over(calls, fd, parent, self._place, earlier, self._bench.get)

    def refs(self) -> Sequence[dict[str, JsonValue]]:
        return ({"at": self._effect.object, "in_place": True},)


def write_over(calls: Calls, fd: int, parent: Dir, place: Place, image: Image, get: Get) -> None:
    """Content first (writing clears set-user-id and capabilities), then mode, attributes and time; durable.

    All on the open file: its name may be somebody else's by now.
    """
    size = number(image, "size")
    blocks = blocks_of(image)
    for _, _, name in blocks:
        get(name)  # a lost object is known before the first byte is overwritten
    for offset, _, name in blocks:
        calls.pwrite(fd, get(name), offset)
    if _holed(image):
        calls.truncate(fd, 0)  # there are holes: they come back only where nothing was written
        calls.truncate(fd, size)
        for offset, _, name in blocks:
            calls.pwrite(fd, get(name), offset)
    calls.truncate(fd, size)
    there = os.fstat(fd)
    if there.st_mode & 0o7777 != number(image, "mode") and hasattr(os, "fchmod"):
        os.fchmod(fd, number(image, "mode"))
    wanted = dict(xattrs_of(image))
    present = dict(calls.xattrs_of(fd))
    for key in present.keys() - wanted.keys():
        calls.remove_xattr_of(fd, key)
    for key, value in wanted.items():
        if present.get(key) != value:
            os.setxattr(fd, key, value)
    calls.utime_of(fd, parent, place.name, there.st_atime_ns, number(image, "mtime"))
    calls.sync(fd)


def _holed(image: Image) -> bool:
    blocks = blocks_of(image)
    return any(a + length != b for (a, length, _), (b, _, _) in pairwise(blocks)) or (
        sum(length for _, length, _ in blocks) < number(image, "size")
    )


# -- after a crash -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Note:
    """What the note in the data directory is about."""

    half: bool = False
    """Whether the file may be neither what it was nor what it is to be; then the note stays for the next start."""


@contextmanager
def _noted(calls: Calls, notes: Dir, object_id: str, before: Any, after: Image) -> Generator[Note]:
    """While a file is being written, a note says so."""
    name, note = os.urandom(10).hex().encode(), Note()
    fd = calls.open_file(notes, name, OPEN_NEW)
    try:
        _try_lock(fd)
        calls.pwrite(fd, json.dumps({"object": object_id, "before": before, "after": after}).encode(), 0)
        calls.sync(fd)
        calls.sync_folder(notes)
        yield note
    finally:
        try:
            if not note.half:
                _remove_note(calls, notes, name)
        finally:
            os.close(fd)  # and with it the lock: a note that could not be removed is nobody's any more


def _remove_note(calls: Calls, notes: Dir, name: bytes) -> None:
    calls.unlink(notes, name)
    # a note that a power cut brought back would have a finished write taken for a half one, and taken back
    calls.sync_folder(notes)


def _try_lock(fd: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: a file that is open there cannot be opened for writing by another process
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def mend(bench: Workbench, notes: Dir, only: str | None = None) -> None:
    """Bring files that a crash left half-written back to what they were. Leaves alone what a living process writes.

    :param only: this object, and no other, because others may be working on those.
    """
    for note in bench.calls.names(notes):
        try:
            fd = bench.calls.open_file(notes, note, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            if not _try_lock(fd):
                continue
            with os.fdopen(os.dup(fd), "rb") as file:
                text = file.read()
            told: Any = json.loads(text) if text.endswith(b"}") else {}
            if only is not None and told.get("object") != only:
                continue
            try:
                if isinstance(told.get("before"), dict):
                    noted_ns = os.fstat(fd).st_mtime_ns
                    _mend_one(bench, str(told["object"]), told["before"], told["after"], noted_ns)
            except (OSError, TargetError, ObjectError, Torn) as error:
                # another workspace's, or out of reach today: the note waits, and everything else goes on
                log.warning("a file could not be brought back to what it was before a crash: %s", error)
                continue
            _remove_note(bench.calls, notes, note)
        finally:
            os.close(fd)


def _mend_one(bench: Workbench, object_id: str, before: Image, after: Image, noted_ns: int) -> None:
    place = bench.names.locate(object_id)
    parent = bench.parent(place)
    if parent is None:
        return
    found = measure(bench.calls, parent, place.name, "blake3", keep=True)
    if found.data is None or found.stat is None or found.state.kind != "file":
        return
    mtime_ns = found.stat.st_mtime_ns
    if not _ours(mtime_ns, before, after, noted_ns):
        return  # somebody has written to it since, and what they left may well look like a half of ours
    old, new = content_of(before, bench.get), content_of(after, bench.get)
    if found.data == new and mtime_ns == number(after, "mtime"):
        return  # nothing was left to be done: whoever looks finds that it took effect
    if not _half(found.data, old, new, holes=_holed(before) or _holed(after)):
        return
    fd = bench.calls.open_file(parent, place.name, OPEN_WRITE)
    try:
        write_over(bench.calls, fd, parent, place, before, bench.get)
    finally:
        close(fd)


def _ours(mtime_ns: int, before: Image, after: Image, noted_ns: int) -> bool:
    """Whether the last that wrote to a file can have been the writing that was noted then."""
    if mtime_ns in (number(before, "mtime"), number(after, "mtime")):
        return True  # both are given to it at the end; the first is also what it has while nothing has reached the disk
    return -_CLOCKS_NS <= mtime_ns - noted_ns <= _WRITING_NS


def _half(data: bytes, old: bytes, new: bytes, *, holes: bool) -> bool:
    """Whether the data is what a stop in the middle of writing `new` over `old` leaves: pages of either.

    :param holes: it was cut to nothing on the way.
    """
    if len(data) not in {len(old), len(new)}:
        # cutting off is one step, so only what grows is ever between the two
        return (holes and not data) or (len(old) < len(data) < len(new) and data == new[: len(data)])
    page = 4096
    start = 0
    while start < len(data):
        part = data[start : start + page]
        if part not in (old[start : start + page], new[start : start + page]):
            both = (new[start : start + cut] + old[start + cut : start + page] for cut in range(page))
            if part not in (piece[: len(part)] for piece in both):
                return False
        start += page
    return True
