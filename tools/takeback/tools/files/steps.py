"""The steps that a swap is made of: exchanging a path with its slot, and moving.

Each step can say where the world stands (also in the middle, after a crash), check that it will find what it needs, act, verify
what came out, and go back. Every act is its own inverse: undo and redo run the same code.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal

from blake3 import blake3
from pydantic import JsonValue

from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.files.calls import Calls, Dir, Overtaken
from takeback.tools.files.capture import write_new
from takeback.tools.files.fingerprint import Measured, is_empty, measure, way_of
from takeback.tools.files.paths import Place
from takeback.tools.files.trash import Slot
from takeback.tools.files.workbench import UNREADABLE, CannotGoBack, Drift, Workbench, kept_as, look_at

Standing = Literal["before", "after", "between", "other"]


def side_ref(effect: Effect) -> dict[str, JsonValue]:
    """What both sides' refs say about the exchange; the wanted side's word counts more."""
    return {**effect.before.ref, **effect.after.ref}


class Step(ABC):
    """One indivisible part of a swap."""

    effects: tuple[Effect, ...]

    @abstractmethod
    def standing(self) -> Standing:
        """Where the world is; finishes what a crash cut in two below the level of names."""

    @abstractmethod
    def check(self) -> None:
        """Make sure that what is wanted is there to be had.

        :raises Drift: it is not.
        """

    @abstractmethod
    def act(self) -> None:
        """From before (or between) to after, verified.

        :raises Drift: something else came out; gone back.
        """

    @abstractmethod
    def back(self) -> None:
        """From after to before.

        :raises CannotGoBack: somebody was faster.
        """

    def verify(self) -> None:
        """At `after`, where an earlier try died before it had: make sure that what came out was `before`.

        :raises Drift: somebody had saved in between; gone back.
        """

    def was_made(self) -> bool | None:
        """At `other`: whether it had been made before somebody else was there; `None`: that cannot be told."""
        return None

    def kept(self) -> Mapping[int, State]:
        """Before-states with an image that was taken on the way, by the identity of their effects."""
        return {}

    def made_by_us(self) -> bool:
        """Whether the world stands at `after` because an earlier try of this very step put it there."""
        return False

    @abstractmethod
    def refs(self) -> Sequence[dict[str, JsonValue]]:
        """What the refs of both sides say from now on, parallel to `effects`."""

    @abstractmethod
    def present(self) -> Sequence[State]:
        """What stands there, parallel to `effects`, each measured as its `before` was."""

    @abstractmethod
    def read_back(self) -> Sequence[State]:
        """What stands there once all is done, parallel to `effects`, each measured as its `after` was."""


class Exchange(Step):
    """A path and a slot change places; either side may be empty."""

    def __init__(self, bench: Workbench, effect: Effect) -> None:
        self.effects = (effect,)
        self._bench, self._effect = bench, effect
        self._place = bench.names.locate(effect.object)
        self._slot = bench.slot(dict(side_ref(effect)))
        self._before, self._after = effect.before, effect.after
        self._put: os.stat_result | None = None

    # -- looking ---------------------------------------------------------------------------------------------------------

    def standing(self) -> Standing:
        parent = self._bench.parent(self._place)
        if parent is not None and self._slot is not None:
            kept = self._bench.calls.settle(parent, self._place.name, self._slot.folder, self._slot.name)
            if kept is not None:
                self._bench.warnings.append(in_between(self._place, self._slot, kept))
        if self._same_folder(parent) or self._look(self._before).same(self._before):
            return "before"
        return "after" if self._look(self._after).same(self._after) else "other"

    def _same_folder(self, parent: Dir | None) -> bool:
        """Whether a folder that is to go is the very one; what is in it is verified when it is in the trash."""
        if parent is None or not self._after.absent or way_of(self._before.digest) != "tree":
            return False
        there = self._bench.calls.lstat(parent, self._place.name)
        return there is not None and self._before.ref.get("top") == [there.st_dev, there.st_ino]

    def present(self) -> Sequence[State]:
        return (self._look(self._before),)

    def read_back(self) -> Sequence[State]:
        parent = self._bench.parent(self._place)
        there = self._bench.calls.lstat(parent, self._place.name) if parent is not None else None
        return (self._after if unchanged(there, self._put) else self._look(self._after),)

    def _look(self, like: State) -> State:
        return self._bench.look(self._place, like)

    def check(self) -> None:
        calls, bench = self._bench.calls, self._bench
        parent = bench.parent(self._place)
        if self._slot is None:
            if parent is None and self._after.absent:
                raise Drift(f"The folder of {self._place.shown} is gone.")
            self._slot = self._new_slot(parent)
        there = calls.lstat(self._slot.folder, self._slot.name)
        if self._after.absent:
            if there is not None:
                named = self._named_slot(parent)
                free = calls.lstat(named.folder, named.name) is None
                self._slot = named if free else self._new_slot(parent)
            return
        self._slot, self._put = found_or_restored(
            bench, self._place, self._slot, self._after, lambda: self._new_slot(parent)
        )

    def ready(self) -> bool:
        """Whether what is wanted lies in its slot, so that nothing has to be made for the exchange. Changes nothing."""
        if self._slot is None:
            return False
        found = measure(self._bench.calls, self._slot.folder, self._slot.name, way_of(self._after.digest))
        self._put = found.stat
        return found.state.same(self._after)

    def _new_slot(self, parent: Dir | None) -> Slot:
        if self._slot is None:
            named = self._named_slot(parent)
            if self._bench.calls.lstat(named.folder, named.name) is None:
                return named
        return self._bench.trashes.free_slot(self._place, parent or self._bench.nearest(self._place))

    def _named_slot(self, parent: Dir | None) -> Slot:
        """The slot of an effect that names none, or one that is taken: the same for each try, so that what an earlier one
        brought out is found.
        """
        free = self._bench.trashes.free_slot(self._place, parent or self._bench.nearest(self._place))
        told = "\0".join((self._effect.object, self._before.digest, self._after.digest))
        return Slot(free.trash, blake3(told.encode("utf-8", "surrogatepass")).hexdigest()[:20].encode())

    # -- acting ----------------------------------------------------------------------------------------------------------

    def act(self) -> None:
        calls, parent, slot, name = self._ready()
        try:
            self._turn(calls, parent, slot, name, out=self._before, into=self._after)
        except (FileExistsError, FileNotFoundError) as error:
            raise Drift(f"{self._place.shown} was changed in the same instant.") from error
        if not self._before.absent:
            self._check_out(calls, slot)

    def verify(self) -> None:
        calls = self._bench.calls
        if self._slot is None or (self._after.absent and not self.made_by_us()):
            named = self._named_slot(self._bench.parent(self._place))
            self._slot = named if calls.lstat(named.folder, named.name) is not None else self._slot
        slot = self._slot
        if self._before.absent or slot is None or calls.lstat(slot.folder, slot.name) is None or self.ready():
            return  # nothing is kept of it (any more), or it was somebody else who put there what was wanted
        self._check_out(calls, slot)

    def _check_out(self, calls: Calls, slot: Slot) -> None:
        try:
            came_out = look_at(calls, slot.folder, slot.name, self._before)
            full = way_of(self._before.digest) == "dir" and not is_empty(calls, slot.folder, slot.name)
        except UNREADABLE as error:
            self._give_back()
            raise Drift(f"{self._place.shown} was changed by somebody else in the same instant.") from error
        if not came_out.same(self._before):
            self._give_back()
            raise Drift(f"{self._place.shown} was changed by somebody else.", {self._effect.object: came_out})
        if self._after.absent and full:
            self._give_back()
            raise Drift(f"The folder {self._place.shown} is not empty.", {self._effect.object: occupied(came_out)})

    def back(self) -> None:
        if not self._before.absent:
            self._give_back()
            return
        calls, parent, slot, name = self._ready()
        try:
            calls.take(parent, name, slot.folder, slot.name)
        except FileNotFoundError:
            return  # somebody removed what we had put there: nothing is left to take back
        if not self._ours(calls, slot):
            self._return_theirs(calls, parent, slot, name)

    def _give_back(self) -> None:
        """What came out of the path goes back to it; whoever saved there meanwhile stays."""
        calls, parent, slot, name = self._ready()
        try:
            self._turn(calls, parent, slot, name, out=self._after, into=self._before)
        except (FileExistsError, FileNotFoundError) as error:
            raise CannotGoBack(
                f"{self._place.shown} was changed again while a change was being taken back.",
                advice=f"Compare it with what was there just before, {self._bench.set_aside(slot)}.",
            ) from error
        if not self._after.absent and not self._ours(calls, slot):
            # two saves in a row: the later one came out now, so it goes back and the earlier one is kept
            with suppress(FileNotFoundError, FileExistsError):
                self._exchange(calls, parent, slot, name)
            self._keep(slot)

    def _keep(self, slot: Slot) -> None:
        kept = self._bench.trashes.keep(slot)
        self._bench.warnings.append(in_between(self._place, slot, kept.encode()))

    def _return_theirs(self, calls: Calls, parent: Dir, slot: Slot, name: bytes) -> None:
        try:
            calls.place(slot.folder, slot.name, parent, name)
        except FileExistsError:
            self._keep(slot)

    def _ours(self, calls: Calls, slot: Slot) -> bool:
        """Whether what came back into the slot is what we had put out, untouched."""
        try:
            if not measure(calls, slot.folder, slot.name, way_of(self._after.digest)).state.same(self._after):
                return False
            return way_of(self._after.digest) != "dir" or is_empty(calls, slot.folder, slot.name)
        except UNREADABLE:
            return self._put is not None and unchanged(calls.lstat(slot.folder, slot.name), self._put)

    def _turn(self, calls: Calls, parent: Dir, slot: Slot, name: bytes, *, out: State, into: State) -> None:
        if out.absent:
            calls.place(slot.folder, slot.name, parent, name)
        elif into.absent:
            calls.take(parent, name, slot.folder, slot.name)
        else:
            self._exchange(calls, parent, slot, name)

    def _exchange(self, calls: Calls, parent: Dir, slot: Slot, name: bytes) -> None:
        try:
            calls.exchange(parent, name, slot.folder, slot.name)
        except Overtaken as error:
            self._bench.warnings.append(in_between(self._place, slot, error.kept))
            raise

    def _ready(self) -> tuple[Calls, Dir, Slot, bytes]:
        parent = self._bench.parent(self._place)
        if parent is None:
            raise Drift(f"The folder of {self._place.shown} is gone.")
        assert self._slot is not None
        return self._bench.calls, parent, self._slot, self._place.name

    def made_by_us(self) -> bool:
        calls = self._bench.calls
        if self._slot is None:
            return False
        try:
            held = measure(calls, self._slot.folder, self._slot.name, way_of(self._before.digest)).state
        except UNREADABLE:
            return False
        return held.same(self._before)

    def was_made(self) -> bool | None:
        # the slot tells, whatever stands at the path by now
        if self._slot is None:
            return None
        calls, slot = self._bench.calls, self._slot
        if calls.lstat(slot.folder, slot.name) is None:  # of what was to be made the slot held it until then
            return True if self._before.absent else (False if self._after.absent else None)
        if self.made_by_us():
            return True
        return False if self.ready() else None

    def refs(self) -> Sequence[dict[str, JsonValue]]:
        slot: dict[str, JsonValue] = dict(self._slot.ref) if self._slot is not None else {}
        return ({"at": self._effect.object, **slot},)


def in_between(place: Place, slot: Slot, kept: bytes) -> str:
    """What somebody had saved and somebody saved over while we were at it."""
    return f"What {place.shown} was for an instant in between is {kept_as(slot, kept.decode())}."


def found_or_restored(
    bench: Workbench, place: Place, slot: Slot, wanted: State, new_slot: Callable[[], Slot]
) -> tuple[Slot, os.stat_result | None]:
    """The slot in which the wanted state lies, and its stats: filled from its small image if it is not there any more.

    It is the known slot wherever that can be: what the exchange brings out lies under a name that is journaled then, and the
    next try finds it there if this one dies. A new one serves only where another trash has to.

    :param new_slot: a free one in the trash that serves the place now.
    :raises Drift: it is gone or changed, and there is no image.
    """
    found = measure(bench.calls, slot.folder, slot.name, way_of(wanted.digest))
    there = found.state
    if there.same(wanted):
        return slot, found.stat
    image = wanted.ref.get("image")
    linked = found.stat is not None and there.kind == "file" and found.stat.st_nlink > 1
    if not isinstance(image, dict):
        raise Drift(_lost(place, there, linked=linked))
    if not there.absent:
        kept = bench.set_aside(slot)
        bench.warnings.append(
            f"{place.shown} has been changed under another of its names (hard links), so it comes back as a file of "
            f"its own; what it had become is {kept}."
            if linked
            else f"A program wrote to the earlier {place.shown} after it had been replaced; what it wrote is {kept}."
        )
    fresh = new_slot()
    try:
        write_new(bench.calls, fresh, image, bench.get)
    except BaseException:
        with suppress(OSError):
            bench.calls.remove_tree(fresh.folder, fresh.name)
        raise
    made = _as_wanted(bench, place, fresh, wanted).stat
    if fresh.trash.home != slot.trash.home:
        return fresh, made
    bench.calls.take(fresh.folder, fresh.name, slot.folder, slot.name)
    return slot, made


def why_not_to_be_had(bench: Workbench, effect: Effect) -> str | None:
    """Why what is wanted could not be put there though nobody else has changed anything; `None` if it could."""
    wanted, place = effect.after, bench.names.locate(effect.object)
    if wanted.absent or isinstance(wanted.ref.get("image"), dict):
        return None
    slot = bench.trashes.slot(dict(side_ref(effect)))
    there = ABSENT if slot is None else look_at(bench.calls, slot.folder, slot.name, wanted)
    return None if there.same(wanted) else _lost(place, there, linked=False)


def _lost(place: Place, there: State, *, linked: bool) -> str:
    if there.absent:
        return f"The earlier state of {place.shown} is no longer in the trash."
    if linked:
        return f"The earlier state of {place.shown} was changed under another of its names (hard links)."
    return f"The earlier state of {place.shown} in the trash was changed by a program that still had it open."


def _as_wanted(bench: Workbench, place: Place, fresh: Slot, wanted: State) -> Measured:
    """What was made from an image, if it is what the image was of."""
    made = measure(bench.calls, fresh.folder, fresh.name, way_of(wanted.digest))
    if not made.state.same(wanted):
        bench.calls.remove_tree(fresh.folder, fresh.name)
        raise Drift(f"The earlier state of {place.shown} could not be made again exactly as it was.")
    return made


def unchanged(there: os.stat_result | None, put: os.stat_result | None) -> bool:
    """Whether what stands there is the very thing that was checked a moment ago, untouched since."""
    if there is None or put is None:
        return there is put
    return all(
        getattr(there, fact) == getattr(put, fact)
        for fact in ("st_dev", "st_ino", "st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns")
    )


def occupied(state: State) -> State:
    """A created folder in which there is something now."""
    return state.model_copy(update={"digest": f"{state.digest}:occupied"})
