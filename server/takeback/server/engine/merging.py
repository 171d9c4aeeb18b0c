"""Taking out one action's changes where somebody else has changed something too, whatever systems they are in.

Most actions change one system, and its merge decides. Those that hold messages about what they change have effects in the
outbox as well. There each message is looked at by itself: one that waits is cancelled, and one that went out stays, if somebody
can say afterwards how things stand (`outbox.port.Corrector`); then what is put back has to count as newer than what was told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from takeback.journal.states import Effect, State
from takeback.server.engine.core import Core
from takeback.tools.outbox.port import SYSTEM, corrector_of
from takeback.tools.system import Clash, Merged

SPANS: Final = "the action spans several systems and one of them was changed"
GONE: Final = frozenset({"sent", "unknown"})
"""Kinds of the states of messages that went out, or may have."""


@dataclass(frozen=True, slots=True)
class Together:
    """What is to be swapped so that only the action's own changes are taken out."""

    merged: Merged
    remains: str = ""
    """What of it stays all the same, and is to be made up for; empty if nothing does."""


async def merge(core: Core, wanted: Sequence[Effect], present: Sequence[State]) -> Together | Clash:
    """Ask the systems whether our change can be removed alone.

    :raises Exception: whatever a system raises.
    """
    names = list(dict.fromkeys(effect.system for effect in wanted))
    if len(names) == 1:
        answer = await core.systems[names[0]].merge(wanted, present)
        return answer if isinstance(answer, Clash) else Together(answer)
    if SYSTEM not in names:
        return Clash(SPANS)
    # what is not merged stays as it is
    found = [want.model_copy(update={"before": now, "after": now}) for want, now in zip(wanted, present, strict=True)]
    gone: list[str] = []
    memos: list[JsonValue] = []
    for index, (want, now) in enumerate(zip(wanted, present, strict=True)):
        if want.system != SYSTEM:
            continue
        answer = await core.outbox.merge([want], [now])
        if isinstance(answer, Merged):
            found[index] = next(iter(answer.effects), found[index])
        elif want.after.absent and now.kind in GONE and corrector_of(_memo(now)) in core.outbox.correctors:
            gone.append(answer.why)
            memos.append(_memo(now))
        else:
            return answer
    blobs: list[tuple[str, bytes]] = []
    whys: list[str] = []
    for name in names:
        own = [index for index, want in enumerate(wanted) if want.system == name]
        if name == SYSTEM:
            continue
        answer = await core.systems[name].merge([wanted[index] for index in own], [present[index] for index in own])
        if isinstance(answer, Clash):
            return answer
        drifted = any(not present[index].same(wanted[index].before) for index in own)
        whys += [answer.why] if drifted else []
        if memos:
            raised = await core.systems[name].newer(answer.effects, memos)
            answer = Merged(raised.effects, (*answer.blobs, *raised.blobs), answer.why)
        blobs += answer.blobs
        by_object = {effect.object: effect for effect in answer.effects}
        for index in own:
            found[index] = by_object.get(wanted[index].object, found[index])
    remains = "; ".join(dict.fromkeys(gone))
    why = "; ".join(filter(None, [*dict.fromkeys(whys), remains]))
    return Together(Merged(tuple(found), tuple(blobs), why), remains)


def _memo(state: State) -> JsonValue:
    message = state.ref.get("message")
    return message.get("memo") if isinstance(message, dict) else None
