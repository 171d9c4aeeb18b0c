"""Lines out of a file: from its bytes where they are loaded, else streamed, so that a log of any size can be read in parts."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from itertools import islice

from takeback.tools.contract import ToolError
from takeback.tools.files.text import MARKS, Encoding, NotText, Text, codec, count, encoding_of, lines

_HEAD = 64 * 1024
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive lines of a text."""

    content: str
    encoding: Encoding
    lines: int
    total: int | None
    """Lines of the whole text; `None` if its end was not reached."""
    more: bool
    """Whether there are lines behind these."""


def looks_binary(content: bytes) -> bool:
    """Whether bytes that may decode are no text all the same: they hold a NUL and announce no two-byte encoding."""
    return b"\0" in content and encoding_of(content) not in ("utf-16-le", "utf-16-be")


def part_of(text: Text, offset: int, limit: int | None) -> Part:
    """The lines after the first `offset`, at most `limit`."""
    if offset == 0 and limit is None:
        total = count(text.text)
        return Part(text.text, text.encoding, total, total, more=False)
    every = list(lines(text.text))
    chosen = every[offset : None if limit is None else offset + limit]
    return Part("".join(chosen), text.encoding, len(chosen), len(every), offset + len(chosen) < len(every))


def stream_part(fd: int, offset: int, limit: int, *, most: int) -> Part:
    """The same out of an open file, without loading more than the lines asked for. Blocking; leaves the file open.

    :param most: characters that may be answered.
    :raises NotText: it is binary, or in another encoding.
    :raises ToolError: the first line is too long by itself.
    """
    with os.fdopen(fd, "rb", closefd=False) as raw:
        raw.seek(0)
        head = raw.read(_HEAD)
        if looks_binary(head):
            raise NotText("it holds zero bytes")
        encoding = encoding_of(head)
        raw.seek(len(MARKS.get(encoding, b"")))
        # newline="" splits at \n, \r\n and \r, and hands them over as they are
        with io.TextIOWrapper(raw, codec(encoding), "strict", newline="") as text:
            try:
                return _part(text, encoding, offset, limit, most)
            except UnicodeDecodeError as error:
                raise NotText(f"it is not {codec(encoding).upper()}") from error


def _part(text: io.TextIOWrapper, encoding: Encoding, offset: int, limit: int, most: int) -> Part:
    skipped = 0
    while skipped < offset:
        piece = text.readline(_PIECE)
        if not piece:
            return Part("", encoding, 0, skipped, more=False)
        skipped += _ends_line(piece, text)
    chosen: list[str] = []
    size = 0
    for line in islice(iter(lambda: text.readline(most + 1), ""), limit):
        size += len(line)
        if size > most and chosen:
            return Part("".join(chosen), encoding, len(chosen), None, more=True)
        if size > most:
            raise ToolError(
                f"Line {offset + 1} is longer than what may be read at once ({most:,} characters).",
                advice="Search the file for what you need instead.",
                code="too_large",
            )
        chosen.append(line)
    more = bool(text.read(1))
    return Part("".join(chosen), encoding, len(chosen), None if more else offset + len(chosen), more)


def _ends_line(piece: str, text: io.TextIOWrapper) -> bool:
    """Whether a piece of a long line is its last one. A CRLF may have been cut in two: then its other half is passed over."""
    if piece.endswith("\r") and len(piece) == _PIECE:
        here = text.tell()
        if text.read(1) != "\n":
            text.seek(here)
    return len(piece) < _PIECE or piece.endswith(("\n", "\r"))
