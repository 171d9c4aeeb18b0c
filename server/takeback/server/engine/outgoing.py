"""What the engine says of messages that an act holds: whose they are, when they go out, and what the journal hears of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from takeback.journal.events import BaseEvent, MailMoved
from takeback.journal.ids import ActionId, RunId
from takeback.journal.states import Effect, State
from takeback.server.engine.core import Core
from takeback.server.engine.triggers.values import recipients_of
from takeback.tools.contract import Prepared
from takeback.tools.outbox.acts import PREFIX
from takeback.tools.outbox.port import ATTACHED, SYSTEM

MESSAGE: Final = "message"
"""Kind of the state of a message in a mailbox."""
REASON: Final = "Once a message has gone out, it can only be corrected by another one."
HOW: Final = "Cancel the message before it goes out; afterwards a correction is proposed to a person."


def holding(effects: Iterable[Effect]) -> list[Effect]:
    """The effects that hold a message."""
    return [
        effect for effect in effects if effect.system == SYSTEM and effect.before.absent and effect.after.kind == "held"
    ]


def said_as_it_is(prepared: Prepared) -> None:
    """Whoever holds messages is at best compensable, whatever its tool says; and it is counted whom they are addressed to."""
    if people := {name for effect in holding(prepared.effects) for name in recipients_of(effect)}:
        prepared.counts = {**prepared.counts, "recipients": max(len(people), prepared.counts.get("recipients", 0))}
    if prepared.reversibility == "reversible" and holding(prepared.effects):
        prepared.reversibility, prepared.reason, prepared.how = "compensable", prepared.reason or REASON, HOW


def has_window(effects: Iterable[Effect], *, least: float = 0.0) -> bool:
    """Whether every message waits for a while, in which it can be cancelled. False if there is none.

    :param least: seconds that are long enough. The window of a tool's act is chosen by the tool, and not by whoever calls it.
    """
    return bool(held := holding(effects)) and all(_waits(effect.after.ref, least) for effect in held)


def _waits(held: Mapping[str, JsonValue], least: float) -> bool:
    window, message = held.get("window"), held.get("message")
    chosen = isinstance(message, dict) and not str(message.get("carrier", "")).startswith(PREFIX)
    return isinstance(window, float | int) and window > 0 and window >= (least if chosen else 0.0)


def gone_out(wanted: Effect, present: State) -> bool:
    """Whether what is to be called back is a message that has left. An act that waited and was done is made up for instead."""
    if wanted.system != SYSTEM or not wanted.after.absent or present.kind != "sent":
        return False
    message = present.ref.get("message")
    return isinstance(message, dict) and not str(message.get("carrier", "")).startswith(PREFIX)


def new_place(effect: Effect) -> str | None:
    """What a consent to a new message is bound to, since its name is another one each time it is prepared: where it goes.

    What it says is in the arguments, which the consent is bound to as well; of files they say only where these lie, so what is
    in them is part of it. `None`: it is no new message.
    """
    attached = effect.after.ref.get(ATTACHED)
    files = f"\0{attached}" if isinstance(attached, str) else ""
    if holding([effect]):
        given = effect.after.ref.get("message")
        known = given if isinstance(given, dict) else {}
        parts = {name: known.get(name) for name in ("carrier", "sender", "recipients", "memo")}
        return f"new\0{json.dumps(parts, sort_keys=True)}{files}"
    if effect.before.absent and effect.after.kind == MESSAGE:
        return f"new\0{effect.object.partition('/')[0]}{files}"
    return None


def release_of(effects: Iterable[Effect]) -> str | None:
    """When the first of the messages goes out; `None` if there is none."""
    times = [effect.after.ref.get("release_at") for effect in holding(effects)]
    return min((time for time in times if isinstance(time, str)), default=None)


def leaves_soon(summary: str, effects: Iterable[Effect]) -> str:
    """What is answered at once of an act that holds messages: with the seconds of its window, which mean nothing later.

    :param summary: as the journal keeps it.
    """
    held = [(str(effect.after.ref.get("release_at")), effect.after.ref.get("window")) for effect in holding(effects)]
    release_at, window = min(held, key=lambda each: each[0])
    which = "The message" if len(held) == 1 else "The first message"
    moment = "" if release_at in summary else f". {which} leaves at {release_at}"
    return f"{summary.rstrip('.')}{moment}, after {window:,g} s."


def moved(effects: Iterable[Effect], *, run_id: RunId, action_id: ActionId, at: datetime) -> list[BaseEvent]:
    """What the journal hears when these effects came about."""
    events: list[BaseEvent] = []
    for effect in effects:
        if effect.system != SYSTEM or effect.before.same(effect.after):
            continue
        held = effect.after.kind == "held"
        if not held and not effect.after.absent:
            continue
        release = release_of([effect])
        events.append(
            MailMoved(
                type="mail.held" if held else "mail.cancelled",
                run_id=run_id,
                at=at,
                action_id=action_id,
                message_id=effect.object,
                release_at=datetime.fromisoformat(release) if release else None,
            )
        )
    return events


async def belong(core: Core, effects: Sequence[Effect], *, run_id: str, action_id: str, owner: str) -> None:
    """Tell the outbox whose messages these are: before that they do not go out."""
    if held := holding(effects):
        ids = [effect.object for effect in held]
        await core.outbox.belongs(ids, run_id=run_id, action_id=action_id, owner=owner)
