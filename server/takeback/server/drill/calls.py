"""Which calls of a run can be made again in a sandbox, and with which arguments. Values only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from takeback.journal.redaction import is_redacted
from takeback.journal.states import Effect
from takeback.journal.views import ActionView

Elsewhere = Callable[[Effect], str]
"""Why the object of an effect cannot be copied into a sandbox; empty if it can."""

_SHORTEST: Final = 8
"""Characters from which a text is an id or a digest that is told apart from ordinary words."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A call to be made again."""

    action_id: str
    tool: str
    arguments: dict[str, JsonValue]
    answer: dict[str, JsonValue]
    """What its caller was told, ids and digests among it."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A call that is not made again, and why."""

    action_id: str
    tool: str
    why: str


def choose(actions: Iterable[ActionView], elsewhere: Elsewhere) -> tuple[list[Repeat], list[LeftOut]]:
    """Part what took effect in a run into what a sandbox can hold and what it cannot.

    :param actions: in their order. Those that changed nothing (refused, failed, shadowed) are passed over.
    """
    repeats: list[Repeat] = []
    left: list[LeftOut] = []
    for action in actions:
        if action.status != "applied":
            continue
        why = _obstacle(action, elsewhere)
        if why:
            left.append(LeftOut(action.id, action.tool, why))
        else:
            told: dict[str, JsonValue] = {"result": dict(action.answer), "digest": action.digest}
            repeats.append(Repeat(action.id, action.tool, dict(action.requested), told))
    return repeats, left


def _obstacle(action: ActionView, elsewhere: Elsewhere) -> str:
    if not action.effects:
        return "what it changed is known to its tool alone, so it cannot be brought into a sandbox"
    for effect in action.effects:
        why = elsewhere(effect)
        if why:
            return why
    if any(is_redacted(text) for text in texts(dict(action.requested))):
        return "an argument was a secret, which the journal does not keep"
    return ""


def texts(value: JsonValue) -> Iterable[str]:
    """All texts in a value, names of fields left aside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts(each)


def changed(value: JsonValue, change: Callable[[str], str]) -> JsonValue:
    """The same value with every text changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [changed(each, change) for each in value]
    if isinstance(value, dict):
        return {name: changed(each, change) for name, each in value.items()}
    return value


class Learned:
    """Ids and digests that are others in the sandbox: an event made again has another id, which later calls have to name."""

    def __init__(self) -> None:
        self._instead: dict[str, str] = {}

    def compare(self, then: JsonValue, now: JsonValue) -> None:
        """Note what an answer says otherwise than it did then."""
        if isinstance(then, str) and isinstance(now, str):
            if then != now and len(then) >= _SHORTEST:
                self._instead[then] = now
        elif isinstance(then, list) and isinstance(now, list):
            for before, after in zip(then, now, strict=False):
                self.compare(before, after)
        elif isinstance(then, dict) and isinstance(now, dict):
            for name in then.keys() & now.keys():
                self.compare(then[name], now[name])

    def applied(self, arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """The arguments as they have to be here."""
        found = changed(arguments, lambda text: self._instead.get(text, text))
        assert isinstance(found, dict), json.dumps(found)
        return found
