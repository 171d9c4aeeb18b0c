"""Changing a file where it is, for files with several hard links (or an owner that cannot be given to a new file).

The before- and after-images lie in the object store. A note in the data directory, locked while the writing process lives, says
what is being written, so that a file which a crash left half-written is recognised and brought back to what it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pydantic import JsonValue

from takeback.journal.states import Effect, State
from takeback.tools.files.calls import OPEN_NEW, OPEN_READ, OPEN_WRITE, Calls, Dir
from takeback.tools.files.capture import Get, Image, blocks_of, content_of, file_image, number, xattrs_of
from takeback.tools.files.fingerprint import measure, way_of
from takeback.tools.files.paths import Place
from takeback.tools.files.steps import CannotGoBack, Drift, Standing, Step, Workbench

NOTES = b"in-place"


class InPlace(Step):
    """A file's bytes and metadata become those of an image."""

    def __init__(self, bench: Workbench, effect: Effect, notes: Dir) -> None:
        self.effects = (effect,)
        self._bench, self._effect, self._notes = bench, effect, notes
        self._place = bench.names.locate(effect.object)
        self._before = effect.before

    def standing(self) -> Standing:
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
            os.close(fd)
        before = self._effect.before
        return before.model_copy(update={"objects": names, "ref": {**before.ref, "image": image}})

    def kept(self) -> Mapping[int, State]:
        return {id(self._effect): self._before}

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
        note = os.urandom(10).hex().encode()
        earlier = present.ref.get("image")
        lock = _write_note(calls, self._notes, note, self._effect.object, earlier, image)
        try:
            fd = calls.open_file(parent, self._place.name, OPEN_WRITE)
            try:
                if not measure(calls, parent, self._place.name, way_of(present.digest)).state.same(present):
                    calls.unlink(self._notes, note)
                    raise Drift(f"{self._place.shown} was changed by somebody else.")
                try:
                    write_over(calls, fd, parent, self._place, image, self._bench.get)
                except OSError:
                    if isinstance(earlier, dict):
                        write_over(calls, fd, parent, self._place, earlier, self._bench.get)
                        calls.unlink(self._notes, note)
                    raise
            finally:
                os.close(fd)
            calls.unlink(self._notes, note)
        finally:
            os.close(lock)
        if not self._look(wanted).same(wanted):
            raise Drift(f"{self._place.shown} was changed by somebody else in the same instant.")

    def refs(self) -> Sequence[dict[str, JsonValue]]:
        return ({"at": self._effect.object, "in_place": True},)


def write_over(calls: Calls, fd: int, parent: Dir, place: Place, image: Image, get: Get) -> None:
    """Content first (writing clears set-user-id and capabilities), then mode, attributes and time; durable."""
    size = number(image, "size")
    blocks = blocks_of(image)
    for offset, _, name in blocks:
        calls.pwrite(fd, get(name), offset)
    if any(a + length != b for (a, length, _), (b, _, _) in pairwise(blocks)) or (
        sum(length for _, length, _ in blocks) < size
    ):
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
        calls.remove_xattr(parent, place.name, key)
    for key, value in wanted.items():
        if present.get(key) != value:
            os.setxattr(fd, key, value)
    mtime = number(image, "mtime")
    calls.utime(parent, place.name, there.st_atime_ns, mtime)
    calls.sync(fd)


# -- after a crash -------------------------------------------------------------------------------------------------------


def _write_note(calls: Calls, notes: Dir, note: bytes, object_id: str, before: Any, after: Image) -> int:
    fd = calls.open_file(notes, note, OPEN_NEW)
    _try_lock(fd)
    calls.pwrite(fd, json.dumps({"object": object_id, "before": before, "after": after}).encode(), 0)
    calls.sync(fd)
    return fd


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


def mend(bench: Workbench, notes: Dir) -> None:
    """Bring files that a crash left half-written back to what they were. Leaves alone what a living process writes."""
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
            told: Any = json.loads(text) if text.endswith(b"}") else None
            if told is not None and isinstance(told["before"], dict):
                _mend_one(bench, str(told["object"]), told["before"], told["after"])
            bench.calls.unlink(notes, note)
        finally:
            os.close(fd)


def _mend_one(bench: Workbench, object_id: str, before: Image, after: Image) -> None:
    place = bench.names.locate(object_id)
    parent = bench.parent(place)
    if parent is None:
        return
    found = measure(bench.calls, parent, place.name, "blake3", keep=True)
    if found.data is None or found.state.kind != "file":
        return
    old, new = content_of(before, bench.get), content_of(after, bench.get)
    if not _half(found.data, old, new):
        return
    fd = bench.calls.open_file(parent, place.name, OPEN_WRITE)
    try:
        write_over(bench.calls, fd, parent, place, before, bench.get)
    finally:
        os.close(fd)


def _half(data: bytes, old: bytes, new: bytes) -> bool:
    """Whether the data is what a stop in the middle of writing `new` over `old` leaves: pages of either."""
    if len(data) not in {len(old), len(new), max(len(old), len(new))}:
        return data == new[: len(data)]
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
