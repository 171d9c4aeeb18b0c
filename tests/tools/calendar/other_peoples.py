"""Calendars that nobody here wrote: the test data of two libraries, as they come with the installed packages.

They are of Google, Thunderbird, macOS, Outlook, Evolution and many a web site, sound and broken ones. Each event is taken out
of its calendar with what belongs to it, as a sync program would file it.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from takeback.tools.calendar.lines import Component, NotICalendar, parse
from takeback.tools.calendar.system import check_event

LIBRARIES = ("icalendar", "recurring_ical_events")


@dataclass(frozen=True)
class Taken:
    """One event of somebody."""

    source: str
    """Where it comes from."""
    data: bytes

    def __str__(self) -> str:
        return self.source


def calendars() -> Iterator[tuple[str, bytes]]:
    """All calendars of both."""
    for library in LIBRARIES:
        found = importlib.util.find_spec(library)
        assert found is not None and found.origin is not None
        folder = Path(found.origin).parent
        for path in sorted(folder.rglob("*.ics")):
            whole = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
            for number, data in enumerate(re.findall(rb"BEGIN:VCALENDAR.*?END:VCALENDAR\r?\n?", whole, re.DOTALL)):
                yield f"{library}/{path.relative_to(folder)}#{number}", data


def events() -> tuple[list[Taken], list[str]]:
    """Each event that can be one, and what was refused."""
    taken: list[Taken] = []
    refused: list[str] = []
    for source, data in calendars():
        try:
            calendar = parse(data)
        except NotICalendar as error:
            refused.append(f"{source}: {error}")
            continue
        uids = dict.fromkeys(
            found.value for event in calendar.parts("VEVENT") if (found := event.line("UID")) is not None
        )
        for number, uid in enumerate(uids):
            alone = calendar.copy()
            alone.items = [item for item in alone.items if not isinstance(item, Component) or _belongs(item, uid)]
            try:
                check_event(alone.written())
            except NotICalendar as error:
                refused.append(f"{source}: {error}")
                continue
            taken.append(Taken(f"{source}/{number}", alone.written()))
    return taken, refused


def _belongs(item: Component, uid: str) -> bool:
    found = item.line("UID")
    return item.name == "VTIMEZONE" or (item.name == "VEVENT" and found is not None and found.value == uid)
