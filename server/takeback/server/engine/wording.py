"""How reports say things: one line, nothing invisible in it, names set off, numbers with their noun.

Every name that somebody else may have chosen (objects, goals, steps, messages) is shown with its invisible characters escaped.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

MOST = 20
"""Lines of one part of a report; more are counted."""
LINE = 300
"""Characters of one piece of somebody else's text."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANK = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\u034f\u180b\u180c\u180d\u180f")
"""Characters that are letters or marks by name, and cannot be seen."""


def shown(text: str) -> str:
    """Text so that what is read is what is there: control, bidirectional, zero-width and other invisible characters escaped.

    One line comes out, whatever goes in.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if _hidden(character) else character for character in text)


def shown_lines(text: str) -> str:
    """As `shown`, for text of several lines (a diff): line breaks and tabs stay."""
    return "\n".join("\t".join(map(shown, line.split("\t"))) for line in text.split("\n"))


def _hidden(character: str) -> bool:
    return (
        unicodedata.category(character) in _HIDDEN
        or character in _BLANK
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def sentence(text: str) -> str:
    """Somebody's text as one line of a report: white space collapsed, invisible characters escaped, cut if it is long."""
    line = shown(" ".join(text.split()))
    return line if len(line) <= LINE else line[: LINE - 1] + "…"


def name(text: str) -> str:
    """A name in a report, set off from the sentence so that it cannot pass for a part of it."""
    return "`" + sentence(text).replace("`", "\\x60") + "`"


def full_stop(text: str) -> str:
    """The text as a sentence."""
    return text if not text or text[-1] in ".!?…" else text + "."


def capital(text: str) -> str:
    """The text as the beginning of a sentence; a name with a dot or a slash in its first word stays as it is spelt."""
    first = text.partition(" ")[0]
    return text if any(sign in first for sign in "./_`") else text[:1].upper() + text[1:]


def counted(number: int, what: str) -> str:
    """ "1 action", "2 actions"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def bounded(lines: Iterable[str], most: int = MOST) -> list[str]:
    """The first lines, and how many more there are."""
    everything = list(lines)
    if len(everything) <= most:
        return everything
    return [*everything[: most - 1], f"… and {len(everything) - most + 1} more."]


def day(at: datetime) -> str:
    """The date of a time, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def clock(at: datetime) -> str:
    """The time of day, in UTC."""
    return at.astimezone(UTC).strftime("%H:%M:%S")


def lasted(span: timedelta) -> str:
    """How long something has been so, in the largest unit that is full: "2 days", "5 minutes"."""
    seconds = max(int(span.total_seconds()), 0)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return counted(seconds // size, unit)
    return counted(seconds, "second")


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
