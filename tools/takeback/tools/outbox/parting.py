"""A message that its server takes for some of its recipients only: what goes to them, and the rest. Values only.

Both say in their memos what was left out of them, and the rest whose rest it is. Each is then a message like any other: it
leaves, waits for a person, or is called back, and tells only of its own recipients.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, cast

from pydantic import JsonValue

from takeback.tools.outbox.port import Outgoing

REST_OF: Final = "rest_of"
LEFT_OUT: Final = "left_out"


def rest_of(message: Outgoing) -> str:
    """The message that this one is the rest of; empty if it is none."""
    told = _memo(message.memo).get(REST_OF)
    return told if isinstance(told, str) else ""


def left_out(message: Outgoing) -> tuple[str, ...]:
    """Recipients of the whole message that are none of this part's."""
    told = _memo(message.memo).get(LEFT_OUT)
    return tuple(map(str, cast("list[object]", told))) if isinstance(told, list) else ()


def part(message: Outgoing, recipients: Collection[str], *, rest: str = "") -> Outgoing:
    """What of a message is for some of its recipients.

    :param rest: the id of the message that goes to the others, if this is what is left of it.
    """
    mine = tuple(each for each in message.recipients if each in recipients)
    others = [*left_out(message), *(each for each in message.recipients if each not in recipients)]
    memo: dict[str, JsonValue] = {**_memo(message.memo), LEFT_OUT: cast("JsonValue", others)}
    return message.model_copy(update={"recipients": mine, "memo": memo | ({REST_OF: rest} if rest else {})})


def whole(message: Outgoing) -> Outgoing:
    """The message as it was before any part of it was left out; its recipients may stand in another order."""
    others = left_out(message)
    return bare(message).model_copy(update={"recipients": (*message.recipients, *others)}) if others else message


def bare(message: Outgoing) -> Outgoing:
    """The part as a message of its own: nothing says any more what was left out of it."""
    memo = {name: value for name, value in _memo(message.memo).items() if name not in (REST_OF, LEFT_OUT)}
    return message.model_copy(update={"memo": memo or None}) if left_out(message) else message


def same_but_for_order(one: Outgoing, other: Outgoing) -> bool:
    """Whether two messages say the same to the same people."""
    alike = {"recipients": ()}
    return sorted(one.recipients) == sorted(other.recipients) and one.model_copy(update=alike) == other.model_copy(
        update=alike
    )


def _memo(memo: JsonValue) -> dict[str, Any]:
    return dict(memo) if isinstance(memo, dict) else {}
