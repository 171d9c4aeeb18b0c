"""Content of files and of states: what stands there, what lies in the trash, what the object store holds."""

from __future__ import annotations

import stat

from takeback.checkpoints.objects import ObjectError
from takeback.journal.states import State, altered
from takeback.tools.files.basis import rebuilt
from takeback.tools.files.calls import Dir
from takeback.tools.files.capture import content_of
from takeback.tools.files.fingerprint import HASHED, Measured, measure, way_of
from takeback.tools.files.paths import Place
from takeback.tools.files.refusals import refuse
from takeback.tools.files.workbench import Workbench
from takeback.tools.system import TargetError


class Reader:
    """Reads with one workbench, in a worker thread."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench

    def read_file(self, place: Place, limit: int) -> tuple[bytes, State]:
        """Content and state of a regular file, of the same moment.

        :raises Refused: no file, or larger than `limit` bytes.
        """
        parent = self.bench.parent(place) if place.parts else None
        there = self.bench.calls.lstat(parent, place.name) if parent is not None else None
        if place.parts and there is None:
            raise refuse("not_found", f"{place.shown} does not exist.", "List its folder to see what is there.")
        if there is not None and there.st_size > limit:
            raise refuse(
                "too_large",
                f"{place.shown} has {there.st_size:,} bytes, more than the {limit:,} that are read at once.",
                "Work on it with another program, or raise read_bytes under [limits].",
            )
        found = self._whole(parent, place, limit) if parent is not None else None
        if found is None or found.data is None or found.state.kind != "file":
            kind = "a symlink" if found is not None and found.state.kind == "symlink" else "a folder"
            raise refuse("not_a_file", f"{place.shown} is {kind}, not a file.", "Name a file.")
        return found.data, found.state.model_copy(update={"ref": {"at": place.object}})

    def read_small(self, place: Place, limit: int) -> tuple[bytes, State] | None:
        """The same of a file of at most `limit` bytes; `None`: it is something else."""
        parent = self.bench.parent(place) if place.parts else None
        there = self.bench.calls.lstat(parent, place.name) if parent is not None else None
        if parent is None or there is None or not stat.S_ISREG(there.st_mode) or there.st_size > limit:
            return None
        found = self._whole(parent, place, limit)
        if found.data is None or found.state.kind != "file":
            return None  # it has become something else since
        return found.data, altered(found.state, ref={"at": place.object})

    def _whole(self, parent: Dir, place: Place, limit: int) -> Measured:
        found = measure(self.bench.calls, parent, place.name, keep=True, read_to=limit)
        if found.state.absent:
            raise refuse(
                "not_found", f"{place.shown} does not exist any more.", "List its folder to see what is there."
            )
        return found

    def content(self, state: State) -> bytes | None:
        """The bytes of a state of a file, from wherever they can still be had and are what the digest says."""
        if state.kind != "file":
            return None
        for source in (self._in_slot, self._in_store, self._in_place, self._rebuilt):
            found = source(state)
            if found is not None:
                return found
        return None

    def _in_slot(self, state: State) -> bytes | None:
        slot = self.bench.trashes.slot(dict(state.ref))
        return None if slot is None else self._matching(slot.folder, slot.name, state)

    def _in_place(self, state: State) -> bytes | None:
        at = state.ref.get("at")
        if not isinstance(at, str):
            return None
        try:
            place = self.bench.names.locate(at)
            parent = self.bench.parent(place)
        except (TargetError, OSError):
            return None
        return None if parent is None else self._matching(parent, place.name, state)

    def _matching(self, d: Dir, name: bytes, state: State) -> bytes | None:
        there = self.bench.calls.lstat(d, name)
        if there is None or there.st_size > HASHED or there.st_size != state.size:
            return None
        try:
            found = measure(self.bench.calls, d, name, way_of(state.digest), keep=True)
        except TargetError:
            return None
        same = found.state.content == state.content if state.content else found.state.same(state)
        return found.data if same else None

    def _in_store(self, state: State) -> bytes | None:
        image = state.ref.get("image")
        if not isinstance(image, dict) or (state.size or 0) > HASHED:
            return None
        try:
            return content_of(image, self.bench.get)
        except ObjectError:
            return None

    def _rebuilt(self, state: State) -> bytes | None:
        told = state.ref.get("base")
        if not isinstance(told, dict):
            return None
        try:
            stored = self.bench.get(str(told["object"]))
        except ObjectError:
            return None
        if "against" not in told:
            return rebuilt(stored, None, state.content)
        slot = self.bench.trashes.slot(dict(state.ref))
        if slot is None:
            return None
        against = measure(self.bench.calls, slot.folder, slot.name, keep=True)
        if against.data is None or against.state.content != told["against"]:
            return None
        return rebuilt(stored, against.data, state.content)


def standing(bench: Workbench, place: Place, present: State) -> Measured | None:
    """The file that is `present`, with its content: at its place, or where it lies ready; `None` if it is in neither.

    While a rollback is planned, what one step merges lies in a slot, and what it moves has its old name; the next step goes
    on from there.
    """
    lies = present.ref.get("lies")
    for ref in (dict(present.ref), dict(lies) if isinstance(lies, dict) else {}):
        at = ref.get("at")
        there = bench.names.locate(at) if isinstance(at, str) else place
        folder, slot = bench.parent(there), bench.trashes.slot({**ref})
        for where, name in ((folder, there.name), (slot and slot.folder, slot.name if slot else b"")):
            found = measure(bench.calls, where, name, way_of(present.digest), keep=True) if where else None
            if found is not None and found.state.same(present):
                return found
    return None
