"""What detectors are given and what they tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from takeback.journal.states import Effect
from takeback.server.engine.triggers.settings import Answer
from takeback.tools.outbox.port import SYSTEM as OUTBOX

Place = tuple[str, str]
"""System and object."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much one act touches."""

    objects: frozenset[Place] = frozenset()
    deleted: frozenset[Place] = frozenset()
    recipients: frozenset[str] = frozenset()
    unnamed: int = 0
    """Recipients that are only counted."""
    gone: int = 0
    """Objects that the tool says it deletes, though their effects do not (mail goes to Trash)."""
    rows: int = 0

    @property
    def systems(self) -> frozenset[str]:
        """Where the objects are."""
        return frozenset(system for system, _ in self.objects)


NOTHING: Final = Size()


def size_of(effects: Sequence[Effect], counts: Mapping[str, int]) -> Size:
    """How much an act touches, by its effects and by what its tool counted beside them."""
    changing = [effect for effect in effects if effect.verb != "unchanged"]
    # what the same act puts elsewhere is moved, and a message that is called back is nothing that was there before
    there = {(effect.system, effect.after.digest) for effect in changing if not effect.after.absent}
    deleted = frozenset(
        (effect.system, effect.object)
        for effect in changing
        if effect.verb == "deleted" and effect.system != OUTBOX and (effect.system, effect.before.digest) not in there
    )
    recipients = frozenset(name for effect in changing for name in recipients_of(effect))
    rows = sum("row" in (effect.before.kind, effect.after.kind) for effect in changing)
    return Size(
        objects=frozenset((effect.system, effect.object) for effect in changing),
        deleted=deleted,
        recipients=recipients,
        unnamed=max(0, counts.get("recipients", 0) - len(recipients)),
        gone=max(0, counts.get("deleted", 0) - len(deleted)),
        rows=counts.get("rows", rows),
    )


def recipients_of(effect: Effect) -> tuple[str, ...]:
    """Whom a message is addressed to that an effect holds in the outbox."""
    if effect.system != OUTBOX or effect.after.absent:
        return ()
    message = effect.after.ref.get("message")
    named = message.get("recipients") if isinstance(message, dict) else None
    return tuple(str(name).casefold() for name in named) if isinstance(named, list) else ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """An act that is prepared and allowed, and not made yet."""

    tool: str
    version: str
    schema: str
    arguments: str
    """Their digest."""
    size: Size
    at: datetime

    @property
    def call(self) -> tuple[str, str]:
        """What makes two calls the same call."""
        return (self.tool, self.arguments)


@dataclass(frozen=True, slots=True)
class Firing:
    """Something looks wrong: what, why, and what is to be done."""

    trigger: str
    answer: Answer
    why: str
    """A clause for people: "this would be the 26th recipient within a minute, more than 25"."""
    evidence: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    about: str = ""
    """What else it is about, so that a warning about one thing does not silence that about another."""
