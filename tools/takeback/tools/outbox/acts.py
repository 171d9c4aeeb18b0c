"""Acts of other tools that wait in the outbox: a `CompensableTool` that declares `hold` is done later, as mail is sent later.

What waits is a JSON document with the arguments and the memo, the same that the journal keeps; whoever does the act has nothing
else. Inside the window the act is taken back like a held message. Once it is done, it is taken back by the tool's `compensate`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from pydantic import BaseModel, Field, JsonValue

from takeback.checkpoints.objects import SMALL, ObjectStore
from takeback.journal.states import Effect
from takeback.tools.adapt import OPAQUE_AFTER, OPAQUE_BEFORE, SHOWN, MemoPrepared
from takeback.tools.contract import AnyTool, CompensableTool, Result, SwapPrepared
from takeback.tools.outbox.port import SYSTEM, Outgoing
from takeback.tools.outbox.rows import due
from takeback.tools.outbox.settings import OutboxSettings
from takeback.tools.outbox.system import OutboxSystem

PREFIX: Final = "act:"
"""Carriers of held acts are called `act:TOOL`."""
REASON: Final = "Once it is done, it can only be made up for by a follow-up act."


class HeldAct(Result):
    """What a tool that holds its act answers instead of its result, which there is not yet."""

    outbox_id: str = Field(description="The act in the outbox, as list_outbox answers it.")
    hold_seconds: float = Field(description="It is done so many seconds after the call, unless it is taken back.")


def carrier_of(tool: str) -> str:
    """Who does the held acts of a tool."""
    return PREFIX + tool


def holds(tool: AnyTool) -> bool:
    """Whether the tool's acts wait in the outbox."""
    return isinstance(tool, CompensableTool) and tool.hold > 0


class HeldPrepared(SwapPrepared):
    """A call that is ready to wait."""

    later: tuple[Effect, ...]
    """What the act will change once it is done: what policies and scopes are about."""
    shows: Sequence[Any]

    async def preview(self) -> Sequence[Any]:
        return [*self.shows, *await super().preview()]


async def hold(
    prepared: MemoPrepared, outbox: OutboxSystem, objects: ObjectStore, *, reference: str, settings: OutboxSettings
) -> HeldPrepared:
    """Let a prepared call wait in the outbox instead of being done at once.

    :param reference: the id of the action.
    :raises Refused: nobody here can do it later.
    """
    tool = cast("CompensableTool[Any, Any, Any]", prepared.tool)
    seconds = max(settings.minimum_seconds, min(tool.hold, settings.maximum_seconds))
    shows = await prepared.preview()
    title = shows[0].title if shows else tool.title
    document: dict[str, Any] = {
        "tool": tool.name,
        "arguments": prepared.arguments.model_dump(mode="json"),
        "memo": prepared.memo,
    }
    data = json.dumps(document, ensure_ascii=True, sort_keys=True).encode("ascii")
    blobs: Mapping[str, bytes] = {}
    if len(data) <= SMALL:
        content, blobs = objects.small(data)
    else:
        content = await objects.put(data)
    waiting = Outgoing(
        carrier=carrier_of(tool.name),
        content=content,
        size=len(data),
        sender="",
        recipients=(),
        subject=title,
        reference=reference,
        memo={
            "objects": [[effect.system, effect.object] for effect in prepared.effects],
            SHOWN: next((effect.after.ref.get(SHOWN, "") for effect in prepared.effects), ""),
        },
    )
    effects = await outbox.hold([(waiting, seconds)], objects)

    def result(made: Sequence[Effect]) -> BaseModel:
        return HeldAct(outbox_id=made[0].object, hold_seconds=seconds)

    held = HeldPrepared(
        outbox,
        effects,
        result=result,
        summary=lambda made: f"Put into the outbox: {title}; to be done at {due(made)}.",
        blobs=blobs,
        how=f"Call it off before it is done; afterwards: {tool.how}",
        reversibility="compensable",
        reason=REASON,
    )
    held.memo, held.later, held.shows = prepared.memo, prepared.effects, shows
    return held


def read(content: bytes) -> tuple[dict[str, JsonValue], JsonValue]:
    """Arguments and memo of a held act.

    :raises ValueError: it is none.
    """
    document = json.loads(content)
    if not isinstance(document, dict) or not {"arguments", "memo"} <= document.keys():
        raise ValueError("this is no held act")
    known = cast("dict[str, Any]", document)
    return known["arguments"], known["memo"]


def done_effects(message: Outgoing) -> tuple[Effect, ...]:
    """What a held act changes once it is done: nobody can look at it but its tool."""
    told = message.memo
    named = told.get("objects") if isinstance(told, dict) else None
    return tuple(
        Effect(system=str(place[0]), object=str(place[1]), before=OPAQUE_BEFORE, after=OPAQUE_AFTER)
        for place in (named if isinstance(named, list) else ())
        if isinstance(place, list) and len(place) == 2
    )


def is_act(message: Outgoing) -> bool:
    """Whether a message in the outbox is the act of a tool."""
    return message.carrier.startswith(PREFIX)


def foreseen(effects: Iterable[Effect]) -> tuple[Effect, ...]:
    """The effects, with what a held act will change in the place of its holding: what rules are about."""
    told: list[Effect] = []
    for effect in effects:
        given = effect.after.ref.get("message") if effect.system == SYSTEM and effect.before.absent else None
        if isinstance(given, dict) and str(given.get("carrier", "")).startswith(PREFIX):
            told += done_effects(Outgoing.model_validate(given, strict=False))
        else:
            told.append(effect)
    return tuple(told)
