"""Times of events: local time with an IANA zone, UTC, floating, or a date. From and to content lines, and to instants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from takeback.tools.calendar.lines import Component, Line, line

Kind = Literal["date", "floating", "utc", "zoned"]
NONE: Final[Mapping[str, tzinfo]] = MappingProxyType({})
"""No zones of its own."""

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Not those of the machine's language: the rest of the sentence is English."""
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}\Z")
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)")
_TIME = re.compile(r"(\d{8})T(\d{6})(Z?)")
_DURATION = re.compile(r"([+-]?)P(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,8})H)?(?:(\d{1,8})M)?(?:(\d{1,8})S)?)?")


@dataclass(frozen=True, slots=True)
class When:
    """A moment as a calendar says it."""

    local: datetime
    """Without a zone, as it stands there; midnight for dates."""
    kind: Kind
    zone: str = ""
    """TZID as it is written, for `zoned`."""

    def instant(self, default: tzinfo, zones: Mapping[str, tzinfo] = NONE) -> datetime:
        """In UTC.

        :param default: the zone of floating times, of dates, and of zones that nobody knows.
        :param zones: those that the calendar itself defines.
        """
        own = UTC if self.kind == "utc" else default
        if self.kind == "zoned":
            own = zone_of(self.zone) or zones.get(self.zone) or zone_like(self.zone) or default
        return self.local.replace(tzinfo=own).astimezone(UTC)

    def said(self) -> str:
        """As agents read and pass it: 2026-03-01, 2026-03-01T10:00:00, 2026-03-01T10:00:00Z."""
        if self.kind == "date":
            return self.local.date().isoformat()
        return self.local.isoformat() + ("Z" if self.kind == "utc" else "")

    def for_people(self) -> str:
        """As people say it: Thu 3 Dec 2026, Thu 3 Dec 2026 14:00 Europe/Berlin."""
        day = f"{_DAYS[self.local.weekday()]} {self.local.day} {_MONTHS[self.local.month - 1]} {self.local.year}"
        if self.kind == "date":
            return day
        zone = {"utc": " UTC", "zoned": f" {self.zone}"}.get(self.kind, "")
        return f"{day} {self.local:%H:%M}{zone}"

    def value(self) -> str:
        """As a property's value."""
        if self.kind == "date":
            return self.local.strftime("%Y%m%d").zfill(8)
        return self.local.strftime("%Y%m%dT%H%M%S").zfill(15) + ("Z" if self.kind == "utc" else "")

    def params(self) -> tuple[tuple[str, str], ...]:
        """The parameters that go with it."""
        if self.kind == "date":
            return (("VALUE", "DATE"),)
        return (("TZID", self.zone),) if self.kind == "zoned" else ()

    def at(self, local: datetime) -> When:
        """Another moment said in the same way."""
        return replace(self, local=local)

    def line(self, name: str) -> Line:
        """The property."""
        return line(name, self.value(), self.params())


def zone_of(name: str) -> ZoneInfo | None:
    """The zone of that IANA name; `None` if there is none."""
    if _ZONE.match(name) is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


@lru_cache(maxsize=256)
def zone_like(name: str) -> ZoneInfo | None:
    """The zone that a program means by a name of its own: "/mozilla.org/…/Europe/Berlin", "W. Europe Standard Time"."""
    if name.startswith("/"):
        parts = name.split("/")
        found = (zone_of("/".join(parts[-count:])) for count in (3, 2, 1))
        return next((zone for zone in found if zone is not None), None)
    from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

    return zone_of(WINDOWS_TO_OLSON.get(name, ""))


def moment(value: str, zone: str = "") -> When:
    """A value of DTSTART, RECURRENCE-ID …

    :raises ValueError: it is none.
    """
    value = value.strip()
    if (found := _TIME.fullmatch(value)) is not None:
        local = datetime.strptime(found[1] + found[2], "%Y%m%d%H%M%S")
        return When(local, "utc") if found[3] else When(local, "zoned" if zone else "floating", zone)
    if (found := _DATE.fullmatch(value)) is not None:
        day = date(int(found[1]), int(found[2]), int(found[3]))
        return When(datetime(day.year, day.month, day.day), "date")
    raise ValueError(f"{value[:40]!r} is no date or time")


def moments(lines: list[Line]) -> list[When]:
    """The values of EXDATE and RDATE lines; of periods their starts."""
    return [
        moment(each.partition("/")[0], found.param("TZID"))
        for found in lines
        for each in found.value.split(",")
        if each.strip()
    ]


def start_of(event: Component) -> When:
    """DTSTART.

    :raises ValueError: there is none.
    """
    found = event.line("DTSTART")
    if found is None:
        raise ValueError("the event has no DTSTART")
    return moment(found.value, found.param("TZID"))


def recurrence_id(event: Component) -> When | None:
    """RECURRENCE-ID, of an override."""
    found = event.line("RECURRENCE-ID")
    return None if found is None else moment(found.value, found.param("TZID"))


def end_of(event: Component) -> When:
    """DTEND, or what DURATION makes of DTSTART, or what RFC 5545 says when there is neither."""
    start = start_of(event)
    if (found := event.line("DTEND")) is not None:
        return moment(found.value, found.param("TZID"))
    if (found := event.line("DURATION")) is not None:
        return start.at(start.local + duration(found.value))
    return start.at(start.local + timedelta(days=1)) if start.kind == "date" else start


def duration(text: str) -> timedelta:
    """A DURATION.

    :raises ValueError: it is none.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text[:40]!r} is no duration")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups()[1:])
    length = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    return -length if found[1] == "-" else length


def said(text: str, zone: str) -> When:
    """What an agent says: a date, or a time in the zone ("floating": in none), or in UTC with a Z.

    :raises ValueError: it is none; the message says what to pass.
    """
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return When(datetime.fromisoformat(text), "date")
        if re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z?", text):
            local = datetime.fromisoformat(text.removesuffix("Z"))
            if text.endswith("Z"):
                return When(local, "utc")
            return When(local, "floating") if zone == "floating" else When(local, "zoned", zone)
    except ValueError:
        pass
    raise ValueError(f"{text[:40]!r} is no date (2026-03-01), local time (2026-03-01T10:00) or UTC time (…T09:00Z)")
