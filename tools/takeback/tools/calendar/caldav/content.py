"""What has to be known of iCalendar bytes to recognise them: UIDs, and whether a server has kept an event's meaning. Pure."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

_FOLD: Final = re.compile(rb"\r?\n[ \t]")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
SERVERS_OWN: Final = frozenset({"DTSTAMP", "CREATED", "LAST-MODIFIED", "SEQUENCE"})
"""Properties that servers set as they like; so are those that begin with X-."""


def lines(data: bytes) -> list[str]:
    """Content lines, unfolded."""
    return [each for each in re.split(r"\r?\n", _FOLD.sub(b"", data).decode("utf-8", "replace")) if each]


def uids(data: bytes) -> set[str]:
    """UIDs of all components."""
    found: set[str] = set()
    for line in lines(data):
        head, _, value = line.partition(":")
        if head.partition(";")[0].upper() == "UID":
            found.add(_ESCAPED.sub(r"\1", value))
    return found


def events(data: bytes) -> Counter[tuple[str, ...]]:
    """Properties of the events and of what is inside them, without order, folding and what servers set."""
    found: Counter[tuple[str, ...]] = Counter()
    inside = 0
    for line in lines(data):
        head, _, value = line.partition(":")
        name, *parameters = head.split(";")
        name = name.upper()
        if name == "BEGIN" and (inside or value.upper() == "VEVENT"):
            inside += 1
        if inside and name not in SERVERS_OWN and not name.startswith("X-"):
            found[(name, value, *sorted(parameters))] += 1
        if name == "END" and inside:
            inside -= 1
    return found


def extensions(data: bytes) -> Counter[str]:
    """The X- properties, which a server may have added, and a person too."""
    return Counter(line for line in lines(data) if line[:2].upper() == "X-")
