"""What a command has to say, before it is known whether a terminal or a pipe will take it.

Rendering functions (`render.py`) turn answers into these values; `terminal.py` shows them. Text in them is raw: whatever
shows it escapes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["plain", "strong", "faint", "good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of text, and how it is meant."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Id:
    """An identifier: short on a terminal (prefixes are understood), whole in a pipe."""

    text: str


@dataclass(frozen=True, slots=True)
class Places:
    """Objects: on a terminal paths are shown from the folder one stands in, in a pipe whole."""

    objects: tuple[str, ...]


Piece = str | Cell | Id | Places


@dataclass(frozen=True, slots=True)
class Line:
    """One line; several pieces stand beside each other."""

    pieces: tuple[Piece, ...]
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Piece, ...], ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Diff:
    """A unified diff, or contents: several lines, shown as they are but for what cannot be seen."""

    text: str
    title: str = ""


Block = Line | Table | Diff
Blocks = Sequence[Block]


def line(*pieces: Piece, indent: int = 0) -> Line:
    """A line of pieces."""
    return Line(pieces, indent)


def said(text: str, tone: Tone = "plain", indent: int = 0) -> Line:
    """A line with one tone."""
    return Line((Cell(text, tone),), indent)


def short(id: str) -> str:
    """The first eight characters after the prefix: 40 bits, so that two of them hardly ever meet. A suffix stays."""
    kind, _, rest = id.partition("_")
    token, colon, suffix = rest.partition(":")
    return f"{kind}_{token[:8]}{colon}{suffix}" if rest else id
