"""Which calls of a stage are made in one step: those that give the same file another content, one after the other.

A call is moved up to the first of its kind only past calls that have nothing to do with the file, so that all of them find what
they would have found in their own order. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from takeback.journal.views import CollectedCall
from takeback.server.engine.collecting import Place, places, touching
from takeback.server.engine.core import Core
from takeback.tools.successive import SuccessiveTool


def units(core: Core, calls: Sequence[CollectedCall]) -> list[list[CollectedCall]]:
    """The calls in the order in which they are made; those of one unit in one step."""
    found: list[list[CollectedCall]] = []
    for call in calls:
        unit = _earlier(core, found, call)
        if unit is not None:
            unit.append(call)
        else:
            found.append([call])
    return found


def _earlier(core: Core, found: Sequence[list[CollectedCall]], call: CollectedCall) -> list[CollectedCall] | None:
    place = _place(core, call)
    if place is None:
        return None
    for unit in reversed(found):
        if _place(core, unit[0]) == place:
            return unit
        if any(_concerns(core, other, place) for other in unit):
            return None
    return None


def _place(core: Core, call: CollectedCall) -> Place | None:
    """The one object that such a call is about."""
    if not isinstance(core.tools.get(call.tool), SuccessiveTool) or len(call.targets) != 1:
        return None
    system, _, object = call.targets[0].partition(":")
    settings = core.settings
    others = [getattr(each, "path", None) for each in (*settings.calendars.values(), *settings.mailboxes.values())]
    if any(path is not None and Path(object).is_relative_to(path) for path in others):
        return None  # it may be an event or a message too, and those are told by other names
    return system, object


def _concerns(core: Core, other: CollectedCall, place: Place) -> bool:
    """Whether what a call does may have to do with a file, other than that it makes a folder above it."""
    targets = [(system, object) for system, _, object in (target.partition(":") for target in other.targets)]
    if other.unseen and not (other.effects or (targets and all(system == place[0] for system, _ in targets))):
        return True  # nobody knows what it will touch
    folders = [effect for effect in other.effects if effect.before.absent and effect.after.kind == "directory"]
    own = {(folder.system, folder.object) for folder in folders} - set(targets)
    there = [*targets, *(each for each in places(other.effects) if each not in own)]
    inside = f"{place[0]}:{place[1]}"  # how a database names the file that it is
    return any(touching(core, place, each) or each[1] == inside or each[1].startswith(inside + "//") for each in there)
