"""What the steps of a swap work with: the folders they have opened, the trash, the object store; and how they give up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.files.calls import Calls, Dir
from takeback.tools.files.capture import Get, Put
from takeback.tools.files.fingerprint import Torn, measure, way_of
from takeback.tools.files.paths import Names, Place
from takeback.tools.files.refusals import Unreachable, refuse
from takeback.tools.files.trash import Slot, Trashes
from takeback.tools.system import Refused, TargetError


class Drift(Exception):
    """An object is not as it should be; the step has changed nothing, or has gone back."""

    def __init__(self, why: str, present: dict[str, State] | None = None) -> None:
        super().__init__(why)
        self.present = present or {}


class CannotGoBack(TargetError):
    """A step was made and could not be unmade; what was there is kept in the trash."""

    code = "half_done"
    advice = "Look at the object before anything else is done with it."


UNREADABLE: Final = (OSError, TargetError, Torn, RecursionError)
"""What looking raises where somebody has put a FIFO or nested folders without end, writes all the time, or locked it away."""


@dataclass(slots=True)
class Workbench:
    """What the steps work with."""

    calls: Calls
    names: Names
    trashes: Trashes
    get: Get
    put: Put
    folders: dict[str, Dir] = field(default_factory=lambda: dict[str, Dir]())
    warnings: list[str] = field(default_factory=lambda: list[str]())
    held: dict[str, Dir] = field(default_factory=lambda: dict[str, Dir]())
    """Those in which the steps were made, while `folders` are being reached by their paths anew."""
    using: ExitStack | None = None
    """Holds collectors off; only where what lies in a slot is old enough for one."""

    def slot(self, ref: dict[str, object]) -> Slot | None:
        """The slot that a state refers to; what lies there stays until `close`."""
        slot = self.trashes.slot(ref)
        return None if slot is None else self.use(slot)

    def use(self, slot: Slot) -> Slot:
        """Make sure that what lies in the slot, if anything does, stays there until `close`."""
        if self.using is None and self.trashes.settled(slot):
            using = ExitStack()
            using.enter_context(self.trashes.in_use())
            self.using = using
        return slot

    def close(self) -> None:
        """Let go of everything."""
        try:
            self.forget()
        finally:
            if self.using is not None:
                using, self.using = self.using, None
                using.close()

    def parent(self, place: Place) -> Dir | None:
        """The folder a place lies in, opened once a swap; `None` if there is none."""
        if not place.parts:
            raise refuse("root", f"{place.shown} is the workspace itself.", "Name something in it.")
        above = self.names.parent(place)
        assert above is not None
        return self.folder(above)

    def folder(self, place: Place) -> Dir | None:
        """The folder at a place; `None` if there is none."""
        if place.object not in self.folders:
            try:
                self.folders[place.object] = self.calls.open_below(place.root_dir, place.parts)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise Unreachable(error, place.shown) from error
        return self.folders[place.object]

    def nearest(self, place: Place) -> Dir:
        """The innermost folder above a place that is there."""
        above = self.names.parent(place)
        while above is not None:
            folder = self.folder(above)
            if folder is not None:
                return folder
            above = self.names.parent(above)
        return place.root_dir

    def set_aside(self, slot: Slot) -> str:
        """Keep for good what somebody else wrote; where it is then, in words."""
        return kept_as(slot, self.trashes.keep(slot))

    def forget(self) -> None:
        """Close the folders; they are opened anew when they are needed again."""
        for folder in (*self.folders.values(), *self.held.values()):
            folder.close()
        self.folders.clear()
        self.held.clear()

    def reach_anew(self, effects: Sequence[Effect]) -> None:
        """Once all steps are made: make sure that the paths lead to the folders in which they were.

        :raises Drift: somebody moved or replaced one meanwhile.
        """
        self.held, self.folders = self.folders, {}
        ours = {effect.object for effect in effects}
        for effect in effects:
            above = self.names.parent(self.names.locate(effect.object))
            held = None if above is None else self.held.get(above.object)
            if above is None or held is None or above.object in ours:
                continue
            try:
                now = self.folder(above)
            except OSError:
                now = None  # a link by now, or closed to us
            if now is None or not same_folder(self.calls.stat_folder(held), self.calls.stat_folder(now)):
                raise Drift(f"The folder {above.shown} was moved or replaced in the same instant.")

    def return_to_held(self) -> None:
        """Work again in the folders in which the steps were made: to take them back."""
        if self.held:
            fresh, self.folders, self.held = self.folders, self.held, {}
            for folder in fresh.values():
                folder.close()

    def look(self, place: Place, like: State) -> State:
        """What stands at the place, measured as `like` was."""
        folder = self.parent(place)
        if folder is None:
            return ABSENT
        return look_at(self.calls, folder, place.name, like)


def kept_as(slot: Slot, name: str) -> str:
    """Where something is that lies beside a slot for good, in words."""
    where = "in the trash of the data directory"
    if slot.trash.home:
        where = f"in {slot.trash.home}/.takeback/{os.fsdecode(os.path.basename(slot.folder.path))}"
    return f"kept {where} as {name}"


def look_at(calls: Calls, d: Dir, name: bytes, like: State) -> State:
    """What stands under the name, measured as `like` was; what cannot be measured is a state of its own, like no other."""
    try:
        return measure(calls, d, name, way_of(like.digest)).state
    except (Refused, PermissionError) as error:
        there = calls.lstat(d, name)
        if there is None:
            return ABSENT
        word = "closed" if isinstance(error, PermissionError) else "other"
        return State(digest=f"{word}:{there.st_dev}:{there.st_ino}:{there.st_mode:o}", kind="other")


def same_folder(a: os.stat_result, b: os.stat_result) -> bool:
    """Whether both are of the same folder."""
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
