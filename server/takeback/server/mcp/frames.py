"""Frames of the stdio transport: bytes into messages, strictly. Pure: no IO.

A frame is one line of UTF-8 JSON. What is too large, not UTF-8, not JSON, nested too deeply or no JSON-RPC message becomes a
`Refused`, with the id of the request where that can be had, so that the sender gets an answer and the connection goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    JSONRPCMessage,
    JSONRPCNotification,
    RequestId,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

_EDGE: Final = 1024
"""Bytes kept of the beginning and the end of a frame that is too large: where the id is written."""

_ID = rb'"id"\s*:\s*(-?\d{1,18}|"[^"\\\x00-\x1f]{0,200}")'
# Only positions that are certainly top level: the members that come before `params` in clients that write the id first,
# and the very end of the object in those that write it last.
_ID_FIRST: Final = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID + rb"\s*,")
_ID_LAST: Final = re.compile(rb',\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID + rb"\s*\}\s*\Z")


@dataclass(frozen=True, slots=True)
class Oversized:
    """A frame that is larger than allowed; its bytes were not kept."""

    head: bytes
    tail: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """A frame that is no message that can be taken."""

    id: RequestId | None
    code: int
    message: str


class FrameSplitter:
    """Cuts a stream of bytes into lines and never holds more than the limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = bytearray()
        self._dropping: Oversized | None = None

    def feed(self, data: bytes) -> Iterator[bytes | Oversized]:
        """The frames that are complete with these bytes. Consume all of it before feeding again."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            yield from self._complete(data[start:end])
            start = end + 1
        self._hold(data[start:])

    def close(self) -> Iterator[bytes | Oversized]:
        """The end of the stream: a last frame without its newline."""
        yield from self._complete(b"")

    def _complete(self, rest: bytes) -> Iterator[bytes | Oversized]:
        self._hold(rest)
        if self._dropping is not None:
            yield self._dropping
            self._dropping = None
        elif self._held.strip():
            yield bytes(self._held)
        self._held.clear()

    def _hold(self, data: bytes) -> None:
        if self._dropping is not None:
            self._dropping = Oversized(self._dropping.head, (self._dropping.tail + data)[-_EDGE:])
            return
        self._held += data
        if len(self._held) > self.limit:
            self._dropping = Oversized(bytes(self._held[:_EDGE]), bytes(self._held[-_EDGE:]))
            self._held.clear()


def decode(frame: bytes | Oversized, limit: int) -> JSONRPCMessage | Refused:
    """The message in a frame, or why there is none."""
    if isinstance(frame, Oversized):
        words = f"The message is larger than {limit} bytes; send less at once"
        return Refused(_seen_id(frame.head, frame.tail), INVALID_REQUEST, words)
    try:
        message = jsonrpc_message_adapter.validate_json(frame, by_name=False)
    except ValidationError:
        return _why_refused(frame)
    if (b"NaN" in frame or b"Infinity" in frame) and (refused := _without_numbers_that_are_none(frame)) is not None:
        return refused
    if isinstance(message, JSONRPCNotification) and b'"id"' in frame and "id" in _object(frame):
        # Something that looks like a notification but has an id waits for an answer.
        return Refused(None, INVALID_REQUEST, "The id of a request must be a string or a whole number")
    return message


def _why_refused(frame: bytes) -> Refused:
    try:
        text = frame.decode("utf-8")
    except UnicodeDecodeError:
        return Refused(_seen_id(frame[:_EDGE], frame[-_EDGE:]), PARSE_ERROR, "The message is not valid UTF-8")
    try:
        value: object = json.loads(text, parse_int=_counted)
    except RecursionError:
        return Refused(_seen_id(frame[:_EDGE], frame[-_EDGE:]), INVALID_REQUEST, "The message is nested too deeply")
    except ValueError:
        return Refused(None, PARSE_ERROR, "The message is not valid JSON")
    if not isinstance(value, dict):
        return Refused(None, INVALID_REQUEST, "The message is not a JSON-RPC 2.0 object; batches are not taken")
    message = cast(dict[str, Any], value)
    if "method" not in message:  # a malformed response: its id is one of ours, and not to be answered under
        return Refused(None, INVALID_REQUEST, "The message is not a JSON-RPC 2.0 request, notification or response")
    known = _id_of(message)
    if _depth(message) > _DEEPEST:
        return Refused(known, INVALID_REQUEST, "The message is nested too deeply")
    try:
        json.dumps(message, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return Refused(known, PARSE_ERROR, "The message has half a character (a lone surrogate) in it")
    return Refused(known, INVALID_REQUEST, "The message is not a valid JSON-RPC 2.0 message")


_DEEPEST: Final = 150
_LONGEST: Final = 1000


def _counted(digits: str) -> int:
    """A number as far as it matters for saying what is wrong: the language refuses to read very long ones."""
    return int(digits[:_LONGEST])


def _depth(value: object) -> int:
    """Levels of nesting, without recursion."""
    deepest = 0
    ahead: list[tuple[object, int]] = [(value, 1)]
    while ahead:
        item, level = ahead.pop()
        deepest = max(deepest, level)
        if isinstance(item, dict):
            ahead += [(child, level + 1) for child in cast(dict[str, object], item).values()]
        elif isinstance(item, list):
            ahead += [(child, level + 1) for child in cast(list[object], item)]
    return deepest


def _without_numbers_that_are_none(frame: bytes) -> Refused | None:
    """NaN and Infinity are no JSON, but parsers like to take them."""

    def refuse(_: str) -> NoReturn:
        raise ValueError

    try:
        json.loads(frame, parse_constant=refuse)
    except (ValueError, RecursionError):
        return Refused(_id_of(_object(frame)), PARSE_ERROR, "NaN and Infinity are not JSON")
    return None


def _object(frame: bytes) -> dict[str, Any]:
    try:
        value: object = json.loads(frame)
    except (ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _id_of(message: dict[str, Any]) -> RequestId | None:
    found = message.get("id")
    return found if isinstance(found, str | int) and not isinstance(found, bool) else None


def _seen_id(head: bytes, tail: bytes) -> RequestId | None:
    """The id as it can be read off the edges of a frame that cannot be parsed."""
    match = _ID_FIRST.match(head) or _ID_LAST.search(tail)
    if match is None:
        return None
    raw = match.group(1)
    try:
        return cast(RequestId, json.loads(raw))
    except ValueError:
        return None
