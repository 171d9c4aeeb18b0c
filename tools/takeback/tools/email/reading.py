"""A message as it is read: headers decoded, text, attachments listed. Whatever it holds, reading neither fails nor fetches."""

from __future__ import annotations

import email.parser
import email.utils
import re
import unicodedata
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.policy import compat32
from itertools import islice
from typing import Final, cast

MOST_PARTS: Final = 500
LONGEST_NAME: Final = 255
OCTETS: Final = "application/octet-stream"
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_ODD: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")
_HEAD_ENDS = (b"\r\n\r\n", b"\n\n")


@dataclass(frozen=True, slots=True)
class Head:
    """What the headers say. Everything in it was written by whoever sent the message."""

    sender: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    subject: str
    date: str
    """RFC 3339 in UTC if the header can be read, else as it stands there."""
    message_id: str
    in_reply_to: str
    references: tuple[str, ...]
    reply_to: str


@dataclass(frozen=True, slots=True)
class Part:
    """An attachment, as it is called in the message."""

    name: str
    type: str
    size: int


@dataclass(frozen=True, slots=True)
class Content:
    """What a message says."""

    head: Head
    text: str
    from_html: bool
    """The message had no plain text; this was made from its HTML."""
    attachments: tuple[Part, ...]


def head_of(data: bytes) -> Head:
    """The headers; `data` may end anywhere behind them."""
    end = min((at for at in (data.find(mark) for mark in _HEAD_ENDS) if at >= 0), default=len(data))
    message = email.parser.BytesParser(policy=compat32).parsebytes(data[:end] + b"\n\n", headersonly=True)
    return _head(message)


def content_of(data: bytes) -> Content:
    """The whole message."""
    from takeback.tools.email.html import to_text  # not before a message is read

    message = email.parser.BytesParser(policy=compat32).parsebytes(data)
    plain: list[str] = []
    rich: list[str] = []
    attachments: list[Part] = []
    for part in _parts(message):
        payload = _payload(part)
        if _is_attached(part):
            attachments.append(_described(part, payload))
        else:
            text = _decoded(payload, part)
            html = part.get_content_type() == "text/html"
            (rich if html else plain).append(to_text(text) if html else text)
    text = "\n".join(plain).strip("\n")
    from_html = not text.strip() and bool(rich)
    return Content(_head(message), "\n\n".join(rich) if from_html else text, from_html, tuple(attachments))


def attachment_of(data: bytes, number: int) -> tuple[Part, bytes] | None:
    """An attachment with its bytes, as they were attached.

    :param number: its place among `Content.attachments`, from 0.
    """
    message = email.parser.BytesParser(policy=compat32).parsebytes(data)
    attached = (part for part in _parts(message) if _is_attached(part))
    found = next(islice(attached, number, None), None) if number >= 0 else None
    if found is None:
        return None
    payload = _payload(found)
    return _described(found, payload), payload


def _is_attached(part: Message) -> bool:
    text = part.get_content_type() in ("text/plain", "text/html")
    return bool(_file_name(part)) or not text or part.get_content_disposition() == "attachment"


def _described(part: Message, payload: bytes) -> Part:
    kind = part.get_content_type()
    return Part(_file_name(part) or "unnamed", kind if _TYPE.fullmatch(kind) else OCTETS, len(payload))


def _file_name(part: Message) -> str:
    """The name without folders, control characters and what turns text around: nobody is led astray who saves it under it."""
    try:
        given = part.get_filename() or ""
    except (ValueError, LookupError, TypeError):  # an encoding that nobody knows
        given = "unnamed"
    name = _text(given).replace("\\", "/").rpartition("/")[2].strip(". ")
    return "".join("\ufffd" if unicodedata.category(sign) in _ODD else sign for sign in name)[:LONGEST_NAME]


def _parts(message: Message) -> Generator[Message]:
    """The leaves; messages that are attached count as one."""
    waiting: list[Message] = [message]
    seen = 0
    while waiting and seen < MOST_PARTS:
        part = waiting.pop(0)
        seen += 1
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            waiting[:0] = cast("list[Message]", part.get_payload())
        else:
            yield part


def _payload(part: Message) -> bytes:
    if part.is_multipart():  # a message that is attached
        return b"".join(bytes(inner) for inner in cast("list[Message]", part.get_payload()))
    try:
        found = part.get_payload(decode=True)
    except (ValueError, LookupError):
        found = None
    return found if isinstance(found, bytes) else b""


def _decoded(payload: bytes, part: Message) -> str:
    charset = part.get_content_charset() or "utf-8"
    try:
        text = payload.decode(charset, "replace")
    except (LookupError, ValueError):  # a character set that nobody knows
        text = payload.decode("utf-8", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


def _head(message: Message) -> Head:
    def all_of(name: str) -> list[str]:
        return [str(value) for value in message.get_all(name, [])]

    def one(name: str) -> str:
        return _text(next(iter(all_of(name)), ""))

    def people(name: str) -> tuple[str, ...]:
        pairs = email.utils.getaddresses([" ".join(value.split()) for value in all_of(name)])
        return tuple(
            f"{_text(who)} <{_text(address)}>" if who else _text(address) for who, address in pairs if who or address
        )

    return Head(
        sender=", ".join(people("From")),
        to=people("To"),
        cc=people("Cc"),
        subject=one("Subject"),
        date=_date(one("Date")),
        message_id=one("Message-ID"),
        in_reply_to=one("In-Reply-To"),
        references=tuple(one("References").split()),
        reply_to=", ".join(people("Reply-To")),
    )


def _text(value: str) -> str:
    """A header's value, decoded, on one line; bytes that mean nothing are replaced."""
    raw = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        decoded = str(make_header(decode_header(raw)))
    except (ValueError, LookupError, MessageError):
        decoded = raw
    clean = decoded.encode("utf-8", "replace").decode("utf-8")
    return " ".join(clean.replace("\0", "\ufffd").split())


def _date(text: str) -> str:
    try:
        found = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return text
    try:
        moment = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except OverflowError:
        return text
    return moment.isoformat().replace("+00:00", "Z")
