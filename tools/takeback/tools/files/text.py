"""Text and its bytes: which encoding a file has, and the way there and back without losing a byte. Pure.

Only encodings that can be told with certainty are text here: UTF-8 with or without a byte-order mark, and UTF-16 with one.
Everything else is bytes; guessing a code page would change a file behind its owner's back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Encoding = Literal["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"]

MARKS: dict[Encoding, bytes] = {"utf-8-sig": b"\xef\xbb\xbf", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
"""The byte-order mark of each encoding that has one."""

BREAK = re.compile(r"\r\n|\n|\r")
"""A line break. The separators that `str.splitlines` knows besides are ordinary characters of a line."""


class NotText(Exception):
    """The bytes are in none of the encodings above."""


@dataclass(frozen=True, slots=True)
class Text:
    """A decoded file. `encoded()` of it gives exactly the bytes it came from."""

    text: str
    """Without the byte-order mark, with the line breaks as they are."""
    encoding: Encoding

    def encoded(self) -> bytes:
        """The bytes, with the byte-order mark if the encoding has one."""
        return MARKS.get(self.encoding, b"") + self.text.encode(codec(self.encoding))


def codec(encoding: Encoding) -> str:
    """Python's name for the encoding without its mark."""
    return "utf-8" if encoding == "utf-8-sig" else encoding


def encoding_of(head: bytes) -> Encoding:
    """The encoding that the first bytes announce; without a mark that is UTF-8 (which the rest may belie)."""
    for encoding, mark in MARKS.items():
        if head.startswith(mark):
            return encoding
    return "utf-8"


def decode(content: bytes) -> Text:
    """Decode a whole file.

    :raises NotText: it is binary, or in an encoding that cannot be told with certainty.
    """
    encoding = encoding_of(content)
    try:
        return Text(content[len(MARKS.get(encoding, b"")) :].decode(codec(encoding)), encoding)
    except UnicodeDecodeError as error:
        raise NotText(f"byte {error.start} is not {codec(encoding).upper()}") from error


def _breaks(text: str, end: int) -> int:
    return text.count("\n", 0, end) + text.count("\r", 0, end) - text.count("\r\n", 0, end)


def line_at(text: str, position: int) -> int:
    """The number of the line, counted from 1, in which a position lies."""
    return 1 + _breaks(text, position)


def count(text: str) -> int:
    """How many lines there are."""
    return _breaks(text, len(text)) + (text[-1:] not in ("", "\n", "\r"))


def lines(text: str) -> Iterator[str]:
    """The lines, each with its break. A break at the end opens no further line."""
    start = 0
    for found in BREAK.finditer(text):
        yield text[start : found.end()]
        start = found.end()
    if start < len(text):
        yield text[start:]
