"""What a preparation gathers: effects, the refs of their states, small images, and what was staged on the way."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from takeback.checkpoints.objects import SMALL, ObjectStore
from takeback.journal.states import Effect, Reversibility, State, altered
from takeback.tools.files.basis import basis_of
from takeback.tools.files.calls import disk_bytes
from takeback.tools.files.capture import small_image
from takeback.tools.files.fingerprint import Measured
from takeback.tools.files.paths import Place
from takeback.tools.files.trash import Slot
from takeback.tools.files.workbench import Workbench

NAME: Final = "files"
Ref = dict[str, JsonValue]


@dataclass(slots=True)
class Draft:
    """What a preparation has gathered so far."""

    effects: list[Effect] = field(default_factory=lambda: list[Effect]())
    blobs: dict[str, bytes] = field(default_factory=lambda: dict[str, bytes]())
    warnings: list[str] = field(default_factory=lambda: list[str]())
    slots: list[tuple[Slot, tuple[int, int]]] = field(default_factory=lambda: list[tuple[Slot, tuple[int, int]]]())
    """What was staged, by device and inode, so that only that is discarded."""
    reversibility: Reversibility = "reversible"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be kept, in bytes."""

    object_bytes: int
    trash_bytes: int
    umask: int


class Drafter:
    """Makes effects and their states, and remembers what was staged."""

    def __init__(self, bench: Workbench, objects: ObjectStore, limits: Limits) -> None:
        self._bench, self._objects, self._limits = bench, objects, limits
        self._calls, self._trashes = bench.calls, bench.trashes

    def _common(self, place: Place, slot: Slot, going: Measured, draft: Draft) -> Ref:
        """What both sides' refs say; and whether what goes to the trash may stay there."""
        common: Ref = {**slot.ref, "at": place.object}
        size = going.state.size or 0
        if going.state.kind == "file" and going.stat is not None and disk_bytes(going.stat) < size:
            size = disk_bytes(going.stat)
            common["bytes"] = size
        if not size or self._trashes.used() + size <= self._limits.trash_bytes:
            return common
        common["drop"] = True
        if size > SMALL or going.state.kind == "directory":  # smaller ones come back from their image
            draft.reversibility = "irreversible"
            draft.reason = (
                f"{place.shown} has {size:,} bytes, more than the trash may still keep "
                f"({self._limits.trash_bytes:,} in all), so it would be destroyed at once."
            )
        return common

    def _imaged(self, measured: Measured, common: Ref, draft: Draft) -> State:
        """The state with its small image, if it has one."""
        image = small_image(measured, self._objects)
        if image is None and measured.stat is not None and measured.state.kind == "directory":
            return with_ref(measured.state, {**common, "top": [measured.stat.st_dev, measured.stat.st_ino]})
        if image is None:
            return with_ref(measured.state, common)
        told, names, blobs = image
        draft.blobs.update(blobs)
        return altered(measured.state, ref={**common, "image": told}, objects=names)

    def _based(self, after: Measured, before: Measured, common: Ref, draft: Draft) -> State:
        """The state with what a later merge needs to know of its content."""
        told = basis_of(after, before, self._objects)
        if told is None:
            return with_ref(after.state, common)
        basis, name, blobs = told
        draft.blobs.update(blobs)
        return altered(after.state, ref={**common, "base": basis}, objects=(name,))

    def _add(self, place: Place, before: State, after: State, draft: Draft) -> None:
        draft.effects.append(Effect(system=NAME, object=place.object, before=before, after=after))

    # -- leaving no trace -------------------------------------------------------------------------------------------------

    def _staged(self, slot: Slot, draft: Draft) -> None:
        there = self._calls.lstat(slot.folder, slot.name)
        if there is not None:
            draft.slots.append((slot, (there.st_dev, there.st_ino)))

    def discard(self, draft: Draft) -> None:
        """Remove what was staged and never swapped in."""
        for slot, identity in draft.slots:
            there = self._calls.lstat(slot.folder, slot.name)
            if there is not None and (there.st_dev, there.st_ino) == identity:
                self._calls.remove_tree(slot.folder, slot.name)
        draft.slots.clear()


def with_ref(state: State, ref: Ref) -> State:
    """The state under another reference."""
    return altered(state, ref=ref)


def with_more(state: State, key: str, value: JsonValue) -> State:
    """The state with one more word in its reference."""
    return altered(state, ref={**state.ref, key: value})


def owner_and_mode(there: os.stat_result) -> JsonValue:
    """What a merge compares besides content, where an act changed it too."""
    return [stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid]
