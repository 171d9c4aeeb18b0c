"""Zones that a calendar defines by itself, for names that no list of zones knows. Pure.

Many programs write "W. Europe Standard Time" or "Office" and say in a VTIMEZONE what they mean. Only that is used, and only
where there is no IANA zone of the name.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

from takeback.tools.calendar.lines import Component, parse
from takeback.tools.calendar.rules import Rule, TooMuch, Work, times
from takeback.tools.calendar.when import moment, moments, start_of, zone_of

_LAST: Final = datetime(2100, 1, 1)
"""Changes of the clock after this are not known."""
_OFFSET: Final = re.compile(r"([+-])(\d\d)(\d\d)(\d\d)?")

Zones = Mapping[str, tzinfo]


class Defined(tzinfo):
    """A zone as a VTIMEZONE says it."""

    def __init__(self, name: str, first: timedelta, changes: list[tuple[datetime, timedelta, timedelta]]) -> None:
        """
        :param first: offset before all changes.
        :param changes: local time before the change, offset before it and after it; in order.
        """
        self._name, self._first = name, first
        self._offsets = [after for _, _, after in changes]
        # a local time that is there twice means the first, one that is not there is counted by the offset before (RFC 5545)
        self._local = [at + max(after - before, timedelta(0)) for at, before, after in changes]
        self._instants = [at - before for at, before, _ in changes]

    def utcoffset(self, dt: datetime | None) -> timedelta:
        if dt is None:
            return self._first
        return self._at(bisect_right(self._local, dt.replace(tzinfo=None)))

    def fromutc(self, dt: datetime) -> datetime:
        return dt + self._at(bisect_right(self._instants, dt.replace(tzinfo=None)))

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str:
        return self._name

    def _at(self, changes: int) -> timedelta:
        return self._offsets[changes - 1] if changes else self._first


def zones_in(calendar: Component) -> Zones:
    """The zones that are defined in a calendar and known nowhere else. What cannot be read is left out."""
    found: dict[str, tzinfo] = {}
    for zone in calendar.parts("VTIMEZONE"):
        name = zone.line("TZID")
        if name is None or zone_of(name.value) is not None:
            continue
        try:
            found[name.value] = _defined(name.value, zone.written())
        except (ValueError, OverflowError, TooMuch):
            continue
    return found


@lru_cache(maxsize=256)
def _defined(name: str, written: bytes) -> Defined:
    [zone] = parse(b"BEGIN:VCALENDAR\r\n" + written + b"END:VCALENDAR\r\n").parts()
    changes: list[tuple[datetime, timedelta, timedelta]] = []
    work = Work(100_000)
    for part in (*zone.parts("STANDARD"), *zone.parts("DAYLIGHT")):
        before, after = _offset(part, "TZOFFSETFROM"), _offset(part, "TZOFFSETTO")
        start = start_of(part).local
        onsets = {start, *(each.local for each in moments(part.lines("RDATE")))}
        for found in part.lines("RRULE"):
            rule = Rule.read(found.value)
            last = _LAST
            if rule.until:
                until = moment(rule.until)
                last = min(until.local + before if until.kind == "utc" else until.local, last)
            onsets.update(times(rule, start, last, work))
        changes += [(at, before, after) for at in onsets]
    if not changes:
        raise ValueError("it says nothing")
    changes.sort()
    return Defined(name, changes[0][1], changes)


def _offset(part: Component, name: str) -> timedelta:
    line = part.line(name)
    found = _OFFSET.fullmatch(line.value.strip()) if line is not None else None
    if found is None:
        raise ValueError(f"{name} is no offset")
    length = timedelta(hours=int(found[2]), minutes=int(found[3]), seconds=int(found[4] or 0))
    if length >= timedelta(days=1):
        raise ValueError(f"{name} is too far")
    return -length if found[1] == "-" else length
