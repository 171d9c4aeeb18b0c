"""The scope of a run: patterns of what it may change. Of files by their paths, of anything else by its system and its name.

=========================  ============================================================================================
`docs/**`                  files; `files:docs/**` says the same
`calendar:default`         a calendar and all that is in it
`email:work`               a mailbox and all that is in it
`outbox:mail:work`         whatever is sent from a mailbox
`outbox:*@example.org`     whatever is sent to such addresses, from whatever mailbox
`database:shop//orders`    a table and its rows (rows of a SQLite file in the workspace go by the file's path, too)
=========================  ============================================================================================

A message has no name before it is there, so it goes by who brings it out and whom it reaches: all of these have to be in scope.
What waits to be done by a tool goes by what that will change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

from takeback.journal.states import Effect
from takeback.server.engine.core import Core, Resolving
from takeback.server.engine.outgoing import holding
from takeback.tools.outbox.port import SYSTEM as OUTBOX
from takeback.tools.system import TargetError

FILES = "files"


@dataclass(frozen=True, slots=True)
class Outside:
    """Something that a call would change and that no pattern of its run names."""

    shown: str
    """As people call it."""
    pattern: str
    """What would allow it."""
    wider: str = ""
    """What would allow it and its like."""

    @property
    def advice(self) -> str:
        """The first step to take."""
        more = f" (or {self.wider}, for all of its kind)" if self.wider else ""
        return f"If it belongs to the task, start a run whose scope also names {self.pattern}{more}."


def resolved(core: Core, given: str) -> str:
    """A pattern as the journal keeps it: with a system where it names one, else as the object that a path means."""
    system, colon, rest = given.partition(":")
    if not colon or system not in core.systems:
        return core.resolve(given)
    whole = core.resolve(given)
    if system == FILES and whole == given:
        return given  # a database that is a file of the workspace is called so in full
    owner = core.systems[system]
    try:
        return f"{system}:{owner.resolve(rest)}" if rest and isinstance(owner, Resolving) else given
    except TargetError:  # a part of a name, or one with wildcards
        return given


def outside(core: Core, scope: Sequence[str], effects: Sequence[Effect]) -> Outside | None:
    """The first thing that lies outside the scope; `None` if nothing does. A scope of nothing bounds nothing."""
    if not scope:
        return None
    for effect in effects:
        for places in _places(effect):
            if not any(_matches(pattern, *place) for pattern in scope for place in places):
                return _told(core, *places[0], new=effect.before.absent)
    return None


def within(pattern: str, scope: Sequence[str]) -> bool:
    """Whether a pattern surely names nothing outside the scope: it stands there, or is about what is below a place of it."""
    return not scope or any(pattern == place or _below(pattern, place) for place in scope)


def _below(pattern: str, place: str) -> bool:
    above = place.removesuffix("/**").rstrip("/")
    return not set("*?[") & set(above) and pattern.startswith(above + "/")


def _places(effect: Effect) -> list[list[tuple[str, str]]]:
    """System and object of all that has to be in scope, each with what else it goes by."""
    if holding([effect]):
        message = cast("dict[str, Any]", effect.after.ref.get("message") or {})
        carrier = str(message.get("carrier", ""))
        return [[(OUTBOX, f"{carrier}/{to}")] for to in message.get("recipients") or ()] or [[(OUTBOX, carrier)]]
    file, inside, _ = effect.object.partition("//")
    if inside and file.startswith(f"{FILES}:"):
        return [[(effect.system, effect.object), (FILES, file.removeprefix(f"{FILES}:"))]]
    return [[(effect.system, effect.object)]]


def _matches(pattern: str, system: str, object: str) -> bool:
    name, colon, rest = pattern.partition(":")
    if colon and name == system and _fits(rest, object):
        return True
    return system != OUTBOX and _fits(pattern, object)


def _fits(pattern: str, object: str) -> bool:
    if pattern.endswith("/**") and object == pattern.removesuffix("/**"):
        return False  # what is below it, not itself
    return object == pattern or object.startswith(pattern.rstrip("/") + "/") or fnmatchcase(object, pattern)


def _told(core: Core, system: str, object: str, *, new: bool) -> Outside:
    if system == OUTBOX:
        carrier, slash, to = object.partition("/")
        return Outside(to or carrier, f"{OUTBOX}:{object}", f"{OUTBOX}:{carrier}" if slash else "")
    shown = core.display(system, object)
    if system == FILES:
        return Outside(shown, f"{FILES}:{shown}")
    place = f"{system}:{object.partition('/')[0]}" if "/" in object else ""
    if new and place:
        return Outside(shown, place)  # its name is another one each time
    return Outside(shown, f"{system}:{object}", place)
