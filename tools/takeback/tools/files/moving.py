"""Moving as a step: a rename from one path to another, with an overwritten destination in the trash.

`F` is what moves, `D` what it overwrites. Where two names can be exchanged in one step the destination is never absent: `F`
waits in the slot, then it changes places with `D`; so neither ever stands under the other's name, where a save would replace
it. Elsewhere `D` goes first. Both intermediate positions are known, so that a crash between the two renames is finished by the
next try, in either direction.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from blake3 import blake3
from pydantic import JsonValue

from takeback.journal.states import Effect, State
from takeback.tools.files.calls import KEPT, Dir
from takeback.tools.files.fingerprint import measure, way_of
from takeback.tools.files.paths import Place
from takeback.tools.files.portable import PortableCalls
from takeback.tools.files.steps import Standing, Step, found_or_restored, in_between, side_ref, unchanged
from takeback.tools.files.trash import Slot
from takeback.tools.files.workbench import UNREADABLE, CannotGoBack, Drift, Workbench


def move_key(effect: Effect) -> tuple[str, str] | None:
    """Source and destination, if the effect is one half of a move."""
    ref = side_ref(effect).get("move")
    return (str(ref["from"]), str(ref["to"])) if isinstance(ref, dict) else None


class Move(Step):
    """`F` goes from `start` to `end`."""

    def __init__(self, bench: Workbench, source: Effect, destination: Effect) -> None:
        self.effects = (source, destination)
        self._bench = bench
        self._forward = source.after.absent
        self._f = source.before if self._forward else source.after
        self._d = destination.before if self._forward else destination.after
        self._source, self._destination = bench.names.locate(source.object), bench.names.locate(destination.object)
        self._start: Place = self._source if self._forward else self._destination
        self._end: Place = self._destination if self._forward else self._source
        self._slot = bench.slot(dict(side_ref(destination)))
        self._arrived: os.stat_result | None = None
        self._lifted = self._turned = False
        """Whether, in the act at work, `F` was taken into the slot; whether `F` and `D` have changed places."""

    def _at(self, place: Place, like: State) -> State:
        return self._bench.look(place, like)

    def _f_at(self, place: Place) -> bool:
        return self._at(place, self._f).same(self._f)

    def _d_at(self, place: Place) -> bool:
        return self._at(place, self._d).same(self._d)

    def _in_slot(self) -> bool:
        if self._slot is None or self._d.absent:
            return self._d.absent
        return self._held_is(self._slot, self._d)

    def _waiting(self) -> bool:
        """Whether `F` lies in the slot, on its way in either direction, and everything else is where it belongs then."""
        if self._slot is None or self._d.absent or not self._bench.calls.one_step:
            return False
        return self._held_is(self._slot, self._f) and self._empty(self._source) and self._d_at(self._destination)

    def standing(self) -> Standing:
        where = self._where()
        return self._where() if where == "other" and self._put_home() else where

    def _put_home(self) -> bool:
        """What lies in the slot of a move that was cut in two and cannot be finished, because somebody has saved since."""
        calls, held = self._bench.calls, self._slot
        source, destination = self._bench.parent(self._source), self._bench.parent(self._destination)
        if held is None or self._d.absent or source is None or destination is None:
            return False
        if calls.lstat(held.folder, held.name) is None:
            return False
        a, b = self._source.name, self._destination.name
        at_source, at_destination = not self._empty(self._source), not self._empty(self._destination)
        if calls.one_step:
            before = self._d_at(self._destination)
            if at_source or not (before or self._held_is(held, self._f)):
                return False  # it is what the destination was that lies there
            if self._forward or not before:
                calls.place(held.folder, held.name, source, a)
            else:
                calls.exchange(destination, b, held.folder, held.name)
            return True
        if at_destination or not at_source:
            return False
        if self._forward:
            calls.place(held.folder, held.name, destination, b)
        elif self._in_slot():
            self._carry(source, a, destination, b)
        return True

    def verify(self) -> None:
        held = self._slot
        if self._d.absent or not self._forward or held is None or self._in_slot():
            return
        if self._bench.calls.lstat(held.folder, held.name) is not None:
            self.back()
            raise Drift(f"{self._destination.shown} was changed by somebody else.")

    def was_made(self) -> bool | None:
        if not self._forward or self._empty(self._source) or not self._d_at(self._destination):
            return None
        held = self._slot if not self._d.absent else None
        return None if held is not None and self._bench.calls.lstat(held.folder, held.name) is not None else False

    def _held_is(self, held: Slot, state: State) -> bool:
        return measure(self._bench.calls, held.folder, held.name, way_of(state.digest)).state.same(state)

    def _where(self) -> Standing:
        if self._slot is not None and not self._d.absent:
            for place in (self._source, self._destination):
                folder = self._bench.parent(place)
                if folder is not None:
                    kept = self._bench.calls.settle(folder, place.name, self._slot.folder, self._slot.name)
                    if kept is not None:
                        self._bench.warnings.append(in_between(place, self._slot, kept))
        self._settle_carry()
        if self._doubled():
            return "between" if self._in_slot() else "other"
        f_start, f_end = self._f_at(self._start), self._f_at(self._end)
        if self._forward:
            if f_start and (self._d_at(self._end) if not self._d.absent else self._empty(self._end)):
                return "before"
            if f_end and self._empty(self._start):
                return "after"
            if f_end and not self._d.absent and self._d_at(self._start):
                return "between"
            if f_start and not self._d.absent and self._empty(self._end) and self._in_slot():
                return "between"
            return "between" if self._waiting() else "other"
        if f_start and self._empty(self._end):
            return "before"
        if f_end and (self._empty(self._start) if self._d.absent else self._d_at(self._start)):
            return "after"
        if f_start and not self._d.absent and self._d_at(self._end):
            return "between"
        if f_end and not self._d.absent and self._empty(self._start) and self._in_slot():
            return "between"
        return "between" if self._waiting() else "other"

    def _doubled(self) -> bool:
        """Whether both names stand for `F`: a rename by link and unlink, cut in two. Finishing it loses nothing."""
        calls, start, end = self._bench.calls, self._bench.parent(self._start), self._bench.parent(self._end)
        if calls.one_step or start is None or end is None:
            return False
        here, there = calls.lstat(start, self._start.name), calls.lstat(end, self._end.name)
        same = here is not None and there is not None and (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
        return same and self._f_at(self._end)

    def _empty(self, place: Place) -> bool:
        folder = self._bench.parent(place)
        return folder is None or self._bench.calls.lstat(folder, place.name) is None

    def present(self) -> Sequence[State]:
        return tuple(
            self._at(place, effect.before)
            for place, effect in zip((self._source, self._destination), self.effects, strict=True)
        )

    def read_back(self) -> Sequence[State]:
        return tuple(
            effect.after
            if place is self._end and unchanged(self._stat(place), self._arrived)
            else self._at(place, effect.after)
            for place, effect in zip((self._source, self._destination), self.effects, strict=True)
        )

    def _stat(self, place: Place) -> os.stat_result | None:
        folder = self._bench.parent(place)
        return None if folder is None else self._bench.calls.lstat(folder, place.name)

    def check(self) -> None:
        if self._d.absent:
            return
        if self._slot is None:
            raise Drift(f"What {self._destination.shown} was before is no longer in the trash.")
        if self._waiting():
            return
        there = self._bench.calls.lstat(self._slot.folder, self._slot.name)
        if self._forward and there is not None and not self._in_slot():
            self._slot = self._bench.trashes.free_slot(self._destination, self._folder(self._destination))
        if not self._forward and not (there is None and self._d_at(self._end)):
            self._slot, _ = found_or_restored(
                self._bench,
                self._destination,
                self._slot,
                self._d,
                lambda: self._bench.trashes.free_slot(self._destination, self._folder(self._destination)),
            )

    def _folder(self, place: Place) -> Dir:
        folder = self._bench.parent(place)
        if folder is None:
            raise Drift(f"The folder of {place.shown} is gone.")
        return folder

    def act(self) -> None:
        self._run(to_end=True)

    def back(self) -> None:
        self._forward = not self._forward
        self._start, self._end = self._end, self._start
        try:
            self._run(to_end=True)
        except Drift as drift:
            raise CannotGoBack(str(drift)) from drift
        finally:
            self._forward = not self._forward
            self._start, self._end = self._end, self._start

    def _run(self, *, to_end: bool) -> None:
        try:
            self._rename()
        except (FileExistsError, FileNotFoundError) as error:
            self._home()
            raise Drift(
                f"{self._start.shown} or {self._end.shown} was changed by somebody else in the same instant."
            ) from error
        try:
            self._arrived = self._stat(self._end)
            moved = self._at(self._end, self._f)
            overwritten = self._in_slot() or not self._forward
        except UNREADABLE as error:
            self._home()
            raise Drift(
                f"{self._start.shown} or {self._end.shown} was changed by somebody else in the same instant."
            ) from error
        if not moved.same(self._f):
            self._home()
            raise Drift(f"{self._start.shown} was changed by somebody else.", {self._start.object: moved})
        if not overwritten:
            self._home()
            raise Drift(f"{self._end.shown} was changed by somebody else.")

    def _rename(self) -> None:
        """From wherever the two are to where they belong; repeatable."""
        calls = self._bench.calls
        start, end = self._folder(self._start), self._folder(self._end)
        a, b = self._start.name, self._end.name
        doubled = self._doubled()
        if doubled or self._d.absent:
            self._carry(start, a, end, b)
        if self._d.absent:
            return
        assert self._slot is not None
        if not doubled and calls.one_step:
            self._turn(start, end, self._slot)
            return
        slot, name = self._slot.folder, self._slot.name
        if self._forward:
            if calls.lstat(slot, name) is None:
                calls.take(end, b, slot, name)
                self._carry(start, a, end, b)
            elif not doubled:
                self._carry(start, a, end, b)
            return
        if calls.lstat(slot, name) is None:
            calls.take(end, b, slot, name)  # `D` lies where `F` belongs
        if calls.lstat(start, a) is not None:
            self._carry(start, a, end, b)
        calls.place(slot, name, start, a)

    def _turn(self, start: Dir, end: Dir, held: Slot) -> None:
        """The same where two names are exchanged in one step: one of the two names is the slot's, always."""
        calls, slot, name, a, b = self._bench.calls, held.folder, held.name, self._start.name, self._end.name
        self._lifted = self._turned = False
        lies, waiting = calls.lstat(slot, name) is not None, self._waiting()
        if not lies and self._f_at(self._end) and self._d_at(self._start):
            calls.take(start, a, slot, name)  # an earlier version put the two in each other's places first
            self._turned = True
        elif self._forward:
            if lies and not waiting:
                calls.place(start, a, end, b)  # where there was no exchange in one step `D` went first
                return
            if not waiting:
                calls.take(start, a, slot, name)
            self._lifted = True
            calls.exchange(end, b, slot, name)
            self._turned = True
        elif not lies:
            calls.take(end, b, slot, name)
            self._turn(start, end, held)
        elif calls.lstat(start, a) is None:
            calls.place(slot, name, start, a)
            self._turned = True
        else:
            if not waiting:
                calls.exchange(start, a, slot, name)
            self._turned = True
            calls.place(slot, name, end, b)

    def _carry(self, start: Dir, a: bytes, end: Dir, b: bytes) -> None:
        calls = self._bench.calls
        if isinstance(calls, PortableCalls):
            spare = self._spare(start)
            if not calls.carry(start, a, end, b, spare.folder, spare.name):
                self._keep_spare(spare)
        else:
            calls.place(start, a, end, b)

    def _spare(self, start: Dir) -> Slot:
        """Where something is laid aside in a move that is not one step: for both directions the same."""
        names = "\0".join((self._source.object, self._destination.object))
        free = self._bench.trashes.free_slot(self._start, start)
        return Slot(free.trash, KEPT + blake3(names.encode()).hexdigest()[:20].encode())

    def _settle_carry(self) -> None:
        calls, start, end = self._bench.calls, self._bench.parent(self._start), self._bench.parent(self._end)
        if not isinstance(calls, PortableCalls) or start is None or end is None:
            return
        spare = self._spare(start)
        if not calls.settle_carry(start, self._start.name, end, self._end.name, spare.folder, spare.name):
            self._keep_spare(spare)

    def _keep_spare(self, spare: Slot) -> None:
        self._bench.warnings.append(in_between(self._start, spare, self._bench.trashes.keep(spare).encode()))

    def _home(self) -> None:
        """After a surprise: everything back to where it came from, by where it is now."""
        calls = self._bench.calls
        start, end = self._bench.parent(self._start), self._bench.parent(self._end)
        if start is None or end is None:
            raise CannotGoBack(f"The folder of {self._start.shown} or {self._end.shown} vanished during a move.")
        a, b = self._start.name, self._end.name
        at_start, at_end = calls.lstat(start, a), calls.lstat(end, b)
        held = self._slot is not None and calls.lstat(self._slot.folder, self._slot.name) is not None
        try:
            if self._d.absent:
                if at_start is None and at_end is not None:
                    self._carry(end, b, start, a)
            elif calls.one_step:
                self._turn_back(start, end)
            elif self._forward:
                self._forward_home(start, end, held, at_start is not None, at_end is not None)
            elif held and at_start is None and at_end is not None:
                self._carry(end, b, start, a)
            elif not held and at_start is not None and at_end is not None:
                self._backward_home(start, end)
        except (FileExistsError, FileNotFoundError) as error:
            raise CannotGoBack(
                f"{self._start.shown} and {self._end.shown} were changed again during a move."
            ) from error

    def _turn_back(self, start: Dir, end: Dir) -> None:
        """Home from wherever `_turn` has come to."""
        calls, held = self._bench.calls, self._slot
        assert held is not None
        slot, name, a, b = held.folder, held.name, self._start.name, self._end.name
        if self._forward:
            if self._turned:
                calls.exchange(end, b, slot, name)
            if self._turned or self._lifted:
                self._back_to(start, a, held)
        elif self._turned:
            if calls.lstat(slot, name) is None:
                calls.take(end, b, slot, name)
            if self._empty(self._start):
                self._back_to(start, a, held)
            elif self._d_at(self._start):
                calls.exchange(start, a, slot, name)
            else:
                self._keep(held)

    def _back_to(self, start: Dir, a: bytes, held: Slot) -> None:
        try:
            self._bench.calls.place(held.folder, held.name, start, a)
        except FileExistsError:
            self._keep(held)

    def _keep(self, held: Slot) -> None:
        self._bench.warnings.append(
            f"{self._start.shown} was saved anew by somebody else while it was being moved; what it had been is "
            f"{self._bench.set_aside(held)}."
        )

    def _backward_home(self, start: Dir, end: Dir) -> None:
        calls, slot = self._bench.calls, self._slot
        assert slot is not None
        a, b = self._start.name, self._end.name
        if self._d_at(self._end):
            calls.take(end, b, slot.folder, slot.name)
        elif not self._d_at(self._start):
            raise CannotGoBack(f"{self._start.shown} and {self._end.shown} were changed again during a move.")
        else:
            calls.take(start, a, slot.folder, slot.name)
            self._carry(end, b, start, a)

    def _forward_home(self, start: Dir, end: Dir, held: bool, at_start: bool, at_end: bool) -> None:
        calls, slot = self._bench.calls, self._slot
        assert slot is not None
        a, b = self._start.name, self._end.name
        if held and at_end and not at_start:
            self._carry(end, b, start, a)
            calls.place(slot.folder, slot.name, end, b)
        elif held and at_start and not at_end:
            calls.place(slot.folder, slot.name, end, b)

    def refs(self) -> Sequence[dict[str, JsonValue]]:
        move: JsonValue = {"from": self._source.object, "to": self._destination.object}
        slot: dict[str, JsonValue] = dict(self._slot.ref) if isinstance(self._slot, Slot) else {}
        return tuple({"at": effect.object, "move": move, **slot} for effect in self.effects)


def moved_from(effects: Sequence[Effect]) -> dict[tuple[str, str], list[Effect]]:
    """The effects that belong to moves, by source and destination."""
    found: dict[tuple[str, str], list[Effect]] = {}
    for effect in effects:
        key = move_key(effect)
        if key is not None:
            found.setdefault(key, []).append(effect)
    return found
