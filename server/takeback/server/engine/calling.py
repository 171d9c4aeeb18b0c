"""How objects are called in what people and agents read: events by their titles, mail by its subject, files by their paths.

What is in a system says it, through the same words that its previews use; the journal has the effects in which it stands.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio

from takeback.journal.redaction import redact_text
from takeback.journal.states import ABSENT, Effect
from takeback.journal.views import ActionView, OpenItem
from takeback.server.engine.answers import OpenItemAnswer
from takeback.server.engine.core import Calling, Core, rfc3339
from takeback.server.engine.faults import fault
from takeback.server.engine.wording import sentence

log = logging.getLogger(__name__)

MOST: Final = 200
"""Objects whose titles are looked up for one answer, half of them the first and half the last; reports name no more."""
FEW: Final = 20
"""The same for what is told of a run beside a failed call."""
SECONDS: Final = 5.0
"""So long a mailbox elsewhere may keep a report waiting for subjects; what it has not said by then goes by its id."""

_SALT = os.urandom(16)
"""Of this process: a secret in a title is shown as one, and need not be recognised again."""

Display = Callable[[str, str], str]
"""System and object to the name that people use."""


def near(core: Core) -> Display:
    """How objects are called where nothing is known of them but their ids: seen from the workspace."""
    roots = [f"{root}{os.sep}" for root in core.settings.workspace.roots]

    def display(system: str, object: str) -> str:
        shown = core.display(system, object)
        for root in roots:
            shown = shown.replace(root, "")
        return shown

    return display


@dataclass(frozen=True, slots=True)
class Names:
    """How objects are called."""

    plain: Display
    titles: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """By system and object: what people know it by, with its id behind that."""

    def __call__(self, system: str, object: str) -> str:
        """The object as people call it."""
        return self.titles.get((system, object)) or self.plain(system, object)

    def title(self, system: str, object: str) -> str:
        """What people know it by; empty if that is its id, or a path."""
        return self.titles.get((system, object), "")


async def known_by(core: Core, effects: Iterable[Effect], *, most: int = MOST) -> Names:
    """How objects are called, by what stands in them: of several effects on one, as the last of them left it.

    :param most: objects whose titles are looked up.
    """
    latest: dict[tuple[str, str], Effect] = {}
    for effect in effects:
        if isinstance(core.systems.get(effect.system), Calling) and effect.after.kind != "opaque":
            latest.pop((effect.system, effect.object), None)
            latest[effect.system, effect.object] = effect
    titles: dict[tuple[str, str], str] = {}
    wanted = list(latest.items())
    if len(wanted) > most:
        wanted = [*wanted[: most // 2], *wanted[-(most // 2) :]]
    with anyio.move_on_after(SECONDS):
        for place, effect in wanted:
            system = core.systems[place[0]]
            assert isinstance(system, Calling), "seen to above"
            try:
                titles[place] = sentence(redact_text(await system.called(effect), _SALT))
            except Exception as error:  # a calendar that is away, bytes that are not kept any more: it goes by its id
                log.info("it could not be looked how %s is called: %s", place[1], fault(error))
    return Names(near(core), titles)


async def known_by_items(core: Core, items: Sequence[OpenItem]) -> Names:
    """How the objects of open items are called."""
    return await known_by(core, await effects_of(core, items))


async def effects_of(core: Core, items: Sequence[OpenItem]) -> list[Effect]:
    """Effects from which it can be told how the objects of open items are called."""
    effects: list[Effect] = []
    for item in items:
        if isinstance(core.systems.get(item.system), Calling):
            action = await core.journal.get(ActionView, item.action_id)
            known = [] if action is None else [each for each in action.effects if each.object == item.object]
            state = item.base or item.theirs or ABSENT
            made = Effect(system=item.system, object=item.object, before=item.ours or ABSENT, after=state)
            effects += known or [made]
    return effects


async def open_item_answers(core: Core, items: Sequence[OpenItem]) -> list[OpenItemAnswer]:
    """What people have to settle, as it is answered."""
    names = await known_by_items(core, items)
    return [
        OpenItemAnswer(
            conflict_id=item.id,
            kind=item.kind,
            run_id=item.run_id,
            action_id=item.action_id,
            system=item.system,
            object=item.object,
            called=names.title(item.system, item.object),
            why=item.why,
            next_step=item.next_step,
            status=item.status,
            opened_at=rfc3339(item.opened_at),
            choice=item.choice,
        )
        for item in items
    ]


def named_alike(names: Names, places: Sequence[tuple[str, str]]) -> list[str]:
    """What people know these objects by, each by its id if by nothing else; empty if they know none by a title."""
    if not any(names.title(*place) for place in places):
        return []
    return [names.title(*place) or place[1] for place in places]
