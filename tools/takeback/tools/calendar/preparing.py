"""What an act on a calendar prepares: the events that it writes, and the messages about them that it holds for guests.

One action with effects on two systems. The events are written first and the messages held then, so that none has to be called
back because an event could not be written. A crash in between is settled by the events: if they are there the messages are
held, and if not they never were (`engine/settle.py`). A message leaves only when its act is concluded and stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from takeback.journal.states import ABSENT, Effect, Reversibility, State
from takeback.tools.calendar import names
from takeback.tools.calendar.inviting import Held, Inviter, Sending, served, untold
from takeback.tools.calendar.lines import parse
from takeback.tools.calendar.port import CalendarStore, Resource
from takeback.tools.calendar.showing import guests
from takeback.tools.calendar.system import CalendarSystem
from takeback.tools.calendar.toolkit import told
from takeback.tools.contract import Committed, Prepared, SwapPrepared, ToolError
from takeback.tools.email.addresses import BadText
from takeback.tools.outbox.port import Outbox
from takeback.tools.recovery import Recovery, Verb
from takeback.tools.system import Drifted, Preview, TargetError, TargetSystem

HOW_TOLD: Final = (
    "Messages to guests are called back before they leave; later, a correction is sent if a person agrees."
)
WHY_TOLD: Final = "Once guests have been told, they can only be told something else."
WHY_SERVED: Final = "The server mails guests by itself; what they were told cannot be untold."


def taken_back(how: str, *verbs: Verb, unless: str) -> Recovery:
    """What the tools state: an event is put back, and guests are another matter."""
    return Recovery(
        f"{how}; messages to guests are called back before they leave, later a correction is sent if a person agrees",
        unless=unless,
        worse=("compensable",),
        worse_if="guests are told of it: by the calendar's mailbox, or by a server that mails them by itself",
        effects={"calendar": verbs, "outbox": ("created",)},
        counts=("recipients",),
        held=True,
    )


@dataclass(frozen=True, slots=True)
class Side:
    """One event of the act: as it is, and as it shall be."""

    object: str
    before: bytes | None
    after: bytes | None
    sending: Sending | None
    """Who tells its guests, if it is this side that has to."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that an act would do."""

    sides: tuple[Side, ...]
    held: Held
    mails: bool
    """The server tells guests by itself."""
    warnings: tuple[str, ...]


async def planned(
    inviter: Inviter,
    system: CalendarSystem,
    calendar: str,
    store: CalendarStore,
    changes: Sequence[tuple[str, Resource | None, bytes | None]],
    hold_seconds: float | None,
) -> Plan:
    """What writing these would do, guests included.

    :param changes: name, what is there, what is to be there; the main one first.
    :raises ToolError: guests cannot be told of it in this way.
    """
    sides: list[Side] = []
    by_itself = store.mails_by_itself
    held = Held()
    with told():
        for name, resource, data in changes:
            object, there = names.object_of(calendar, name), None if resource is None else resource.data
            sending = inviter.sends(calendar, there, data, server_mails=by_itself)
            if sending is not None and data is not None:
                data = await inviter.arranged(sending, object, there, data, server_mails=by_itself)
            sides.append(Side(object, there, data, sending))
        own = [(side.object, side.before, side.after) for side in sides if side.sending is not None]
        sender = next((side.sending for side in sides if side.sending is not None), None)
        try:
            if sender is not None:
                held = await inviter.hold(sender, own, system.objects, seconds=hold_seconds)
        except BadText as error:
            raise ToolError(str(error), advice=error.advice, code="bad_text") from error
    mails = by_itself and any(served(side.before) or served(side.after) for side in sides if side.sending is None)
    return Plan(tuple(sides), held, mails, tuple(_warnings(store, sides, held, mails=mails)))


def _warnings(store: CalendarStore, sides: Sequence[Side], held: Held, *, mails: bool) -> list[str]:
    warnings: list[str] = []
    if store.local:
        warnings.append("This calendar is local to this machine.")
    if mails:
        warnings.append("The server itself tells the guests of this, and of taking it back.")
    sender = next((side.sending for side in sides if side.sending is not None), None)
    if held.effects and sender is not None and sender.local:
        warnings.append(f"Guests are told from the mailbox {sender.mailbox}, which delivers only on this machine.")
    without: set[str] = set()
    for side in sides:
        for data in (side.before, side.after):
            if data is None or (mails and side.sending is None):
                continue
            without.update(guests(parse(data)) if side.sending is None else untold(data))
    if without:
        nobody = "Some guests are not told of this" if held.effects else "No guest is told of this"
        rest = " and others" if len(without) > 5 else ""
        warnings.append(f"{nobody}: nothing is sent to {', '.join(sorted(without)[:5])}{rest}.")
    return warnings


async def prepared(system: CalendarSystem, outbox: Outbox, plan: Plan, *, result: Any, summary: str) -> EventPrepared:
    """The plan as something to be committed; changes nothing.

    :param result: makes the answer from the effects as they were read back.
    """
    effects: list[Effect] = []
    blobs: dict[str, bytes] = dict(plan.held.blobs or {})
    with told():
        for side in plan.sides:
            before, more = await _image(system, side.before)
            after, others = await _image(system, side.after)
            blobs.update({**more, **others})
            effects.append(Effect(system=system.name, object=side.object, before=before, after=after))
    messages = plan.held.effects
    reversibility: Reversibility = "compensable" if plan.mails or messages else "reversible"
    how = "Put the earlier bytes of the event back." if len(effects) == 1 else "Put the series back as it was."
    swap = SwapPrepared(
        system,
        effects,
        result=result,
        summary=summary,
        main=0,
        blobs=blobs,
        how=f"{how} {HOW_TOLD}" if messages else how,
        reversibility=reversibility,
        reason=WHY_SERVED if plan.mails else WHY_TOLD if messages else "",
        warnings=plan.warnings,
    )
    return EventPrepared(system, outbox, swap, plan)


async def _image(system: CalendarSystem, data: bytes | None) -> tuple[State, Mapping[str, bytes]]:
    return (ABSENT, {}) if data is None else await system.image(data)


def _told(plan: Plan) -> set[str]:
    """Everybody who hears of it, from the server or by the messages that are held."""
    sides = [data for side in plan.sides if side.sending is None for data in (side.before, side.after)]
    by_server = {each.casefold() for data in sides if data is not None and served(data) for each in guests(parse(data))}
    return by_server | {each.casefold() for each in plan.held.recipients}


class EventPrepared(Prepared):
    """Events that are about to be written, and messages that are about to be held. Shown from their bytes, which are stored
    with the intent only."""

    def __init__(self, system: CalendarSystem, outbox: Outbox, swap: SwapPrepared, plan: Plan) -> None:
        assert isinstance(outbox, TargetSystem), "what holds messages swaps them too"
        self._system, self._outbox, self._swap, self._plan = system, outbox, swap, plan
        self.effects = (*swap.effects, *plan.held.effects)
        self.reversibility, self.reason, self.how, self.blobs = swap.reversibility, swap.reason, swap.how, swap.blobs
        if plan.mails:  # no effect names whom a server writes to
            self.counts = {"recipients": len(_told(plan))}

    async def commit(self) -> Committed:
        committed = await self._swap.commit()
        messages = self._plan.held.effects
        if not messages:
            return committed
        held = await self._outbox.swap(messages)
        if isinstance(held, Drifted):
            raise TargetError(f"The messages to the guests could not be held: {held.why}.")
        return replace(committed, effects=(*committed.effects, *held.effects))

    async def preview(self) -> Sequence[Preview]:
        pairs = zip(self._swap.effects, self._plan.sides, strict=True)
        shown = [self._system.shown(effect, side.before, side.after) for effect, side in pairs]
        return [*shown, *[await self._outbox.describe(effect) for effect in self._plan.held.effects]]
