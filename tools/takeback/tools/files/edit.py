"""Edits of a text: find this, put that. Pure; keeps encoding, byte-order mark and line breaks.

A match is exact but for line breaks: a file with CRLF is found by text with LF, and stays CRLF. New lines get the breaks of the
place where they are put; nothing outside a match is touched. An edit that could mean several places is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile

from takeback.tools.files.text import BREAK, NotText, Text, decode, line_at, lines

_COUNTED = 1000
"""Matches are counted up to here."""
_SHOWN = 5
_COMPARED = 5000
"""Lines that are looked at for the nearest one."""
_WIDTH = 120
"""Characters of a line that are compared and shown."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `old_text` by `new_text`: at the one place where it stands, or everywhere."""

    old_text: str
    new_text: str
    replace_all: bool = False


class EditError(Exception):
    """The edits do not fit the text: one sentence of fact, one of advice, and a word for programs."""

    def __init__(self, message: str, *, advice: str, code: str) -> None:
        super().__init__(message)
        self.advice, self.code = advice, code


def apply_edits(content: bytes, edits: Sequence[Edit]) -> bytes:
    """The content after all edits, each applied to what the one before it left.

    :raises EditError: not text; nothing found; several places found; nothing would change. `code` is `not_text`, `no_match`,
        `ambiguous` or `no_change`.
    """
    if not edits:
        raise EditError(
            "No edit was given.", advice="Pass at least one edit with old_text and new_text.", code="no_change"
        )
    try:
        decoded = decode(content)
    except NotText as error:
        raise EditError(
            f"The file is not text in UTF-8 or UTF-16: {error}.",
            advice="Replace the whole file with write_file and encoding base64.",
            code="not_text",
        ) from error
    text = decoded.text
    for number, edit in enumerate(edits, 1):
        text = _apply(text, edit, f"Edit {number} of {len(edits)}: " if len(edits) > 1 else "")
    if text == decoded.text:
        raise EditError(
            "The edits together leave the file as it is.",
            advice="Leave out edits that undo each other.",
            code="no_change",
        )
    return Text(text, decoded.encoding).encoded()


def _apply(text: str, edit: Edit, which: str) -> str:
    if not edit.old_text:
        raise EditError(
            f"{which}old_text is empty, so it stands nowhere in particular.",
            advice="Name the text to replace; to add text, name a line and repeat it in new_text.",
            code="no_match",
        )
    if surrogate(edit.new_text) is not None:
        raise EditError(
            f"{which}new_text holds half of a surrogate pair, which no encoding can write.",
            advice="Send the whole character.",
            code="invalid",
        )
    find = _finder(edit.old_text)
    if edit.replace_all:
        spans = list(_apart(text, find))
    else:
        spans = list(_everywhere(text, find))
        if len(spans) > 1:
            shown = ", ".join(str(line_at(text, start)) for start, _ in spans[:_SHOWN]) + (
                " …" if len(spans) > _SHOWN else ""
            )
            times = f"{len(spans)} times" if len(spans) < _COUNTED else f"at least {_COUNTED} times"
            raise EditError(
                f"{which}old_text occurs {times} (from lines {shown} on).",
                advice="Add lines around it until it is unique, or set replace_all.",
                code="ambiguous",
            )
    if not spans:
        raise EditError(f"{which}old_text was not found.", advice=_nearest(text, edit.old_text), code="no_match")
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        pieces += (text[done:start], _fitted(text, start, end, edit))
        done = end
    pieces.append(text[done:])
    changed = "".join(pieces)
    if changed == text:
        raise EditError(
            f"{which}new_text is what already stands there.",
            advice="Leave this edit out; line breaks are kept as they are and cannot be changed by an edit.",
            code="no_change",
        )
    return changed


def surrogate(text: str) -> int | None:
    """Where half of a surrogate pair stands in a text that came from outside; `None` if it can be encoded."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


# -- finding ------------------------------------------------------------------------------------------------------------------

_Find = Callable[[str, int], "tuple[int, int] | None"]


def _finder(wanted: str) -> _Find:
    if not BREAK.search(wanted):

        def literally(text: str, start: int) -> tuple[int, int] | None:
            at = text.find(wanted, start)
            return None if at < 0 else (at, at + len(wanted))

        return literally
    pattern = re.compile(r"(?:\r\n|(?<!\r)\n|\r(?!\n))".join(map(re.escape, BREAK.split(wanted))))

    def by_lines(text: str, start: int) -> tuple[int, int] | None:
        found = pattern.search(text, start)
        return found and found.span()

    return by_lines


def _everywhere(text: str, find: _Find) -> Iterator[tuple[int, int]]:
    """All places, overlapping ones too: each of them could be the one that is meant."""
    span = find(text, 0)
    for _ in range(_COUNTED):
        if span is None:
            return
        yield span
        span = find(text, span[0] + 1)


def _apart(text: str, find: _Find) -> Iterator[tuple[int, int]]:
    span = find(text, 0)
    while span is not None:
        yield span
        span = find(text, span[1])


def _nearest(text: str, wanted: str) -> str:
    again = "read the file again and copy the text exactly, blanks included."
    first = next((line.strip() for line in lines(wanted) if line.strip()), "")[:_WIDTH]
    best: tuple[float, int, str] = (0.6, 0, "")
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(first)
    for number, line in enumerate(lines(text), 1):
        if number > _COMPARED or not first:
            break
        matcher.set_seq1(line.strip()[:_WIDTH])
        if (
            matcher.real_quick_ratio() > best[0]
            and matcher.quick_ratio() > best[0]
            and (ratio := matcher.ratio()) > best[0]
        ):
            best = (ratio, number, line.rstrip("\r\n")[:_WIDTH])
    if not best[1]:
        return again.capitalize()
    return f"The nearest is line {best[1]}, {best[2]!r}; {again}"


# -- line breaks -----------------------------------------------------------------------------------------------------------


def _fitted(text: str, start: int, end: int, edit: Edit) -> str:
    """The new text with the line breaks of the place where it goes."""
    matched, new = text[start:end], edit.new_text
    if not BREAK.search(new):
        return new
    here = BREAK.findall(matched)
    if not here:
        around = _break_near(text, start, end)
        return new if around is None else BREAK.sub(around, new)
    if len(set(here)) > 1 and matched == edit.old_text:
        return new  # whoever names a mixture exactly knows which break goes where
    old_lines, new_lines = BREAK.split(matched), BREAK.split(new)
    head = _alike(old_lines, new_lines)
    tail = _alike(old_lines[::-1], new_lines[::-1])
    fitted = [new_lines[0]]
    for index, line in enumerate(new_lines[1:]):
        from_end = len(new_lines) - 2 - index
        if index < min(head, len(here)):
            kept = here[index]
        elif from_end < min(tail, len(here)):
            kept = here[len(here) - 1 - from_end]
        else:
            kept = here[min(head, len(here) - 1)]
        fitted += (kept, line)
    return "".join(fitted)


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _break_near(text: str, start: int, end: int) -> str | None:
    """The break that ends the line of the match, else the one that ends the line before; `None` if the text has none."""
    after = BREAK.search(text, end)
    if after is not None:
        return after.group()
    last = max(text.rfind("\n", 0, start), text.rfind("\r", 0, start))
    if last < 0:
        return None
    return "\r\n" if text[last - 1 : last + 1] == "\r\n" else text[last]
