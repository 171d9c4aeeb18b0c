"""Contents of objects for people: what is text, what may be edited in a browser, and what differs. Pure: no IO."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final

from takeback.server.engine.report import shown_lines

SHOWN_CHARACTERS: Final = 64_000
EDITED_CHARACTERS: Final = 128_000
"""A browser sends a character as up to nine bytes, and a request has an end."""
COMPARED_LINES: Final = 3_000


@dataclass(frozen=True, slots=True)
class Written:
    """A content as text, and how its lines end."""

    text: str
    """With plain line breaks."""
    crlf: bool

    def encoded(self, edited: str) -> str:
        """What was edited, with the line ends of this text. Browsers send their own."""
        plain = edited.replace("\r\n", "\n").replace("\r", "\n")
        return plain.replace("\n", "\r\n") if self.crlf else plain


def written(content: bytes | None) -> Written | None:
    """The content if it is text with one kind of line ends."""
    if content is None:
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    crlf = "\r\n" in text
    plain = text.replace("\r\n", "\n") if crlf else text
    if "\r" in plain or (crlf and "\n" in text.replace("\r\n", "")):
        return None
    return Written(plain, crlf)


def editable(content: bytes | None) -> Written | None:
    """The text if a browser can give it back unharmed and a person sees all of it: nothing invisible, not too long."""
    found = written(content)
    if found is None or len(found.text) > EDITED_CHARACTERS or shown_lines(found.text) != found.text:
        return None
    return found


def described(content: bytes | None) -> str:
    """The content as it is shown."""
    if content is None:
        return ""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return f"({len(content):,} bytes that are not text)"
    if len(text) > SHOWN_CHARACTERS:
        return f"{text[:SHOWN_CHARACTERS]}\n(the rest, {len(text) - SHOWN_CHARACTERS:,} characters, is not shown)"
    return text


def changed_lines(base: str, other: str) -> frozenset[int]:
    """Which lines of `other` (counted from 0) are not in `base` where they would have to be. Of very long texts none."""
    one, two = base.split("\n"), other.split("\n")
    if len(one) + len(two) > COMPARED_LINES:
        return frozenset()
    matcher = difflib.SequenceMatcher(None, one, two, autojunk=False)
    return frozenset(
        line
        for kind, _, _, start, end in matcher.get_opcodes()
        if kind in ("replace", "insert")
        for line in range(start, end)
    )


def size(number: int) -> str:
    """Bytes for people."""
    amount = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{number:,} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
