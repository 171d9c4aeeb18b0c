"""When a series takes place: RRULE, RDATE, EXDATE and overrides, expanded within bounds.

Rules are expanded in the local time of DTSTART, as RFC 5545 has it, so that a weekly meeting at ten stays at ten. A rule can be
written so that it never comes to a day, or to one a second; what is more than the bounds allow is cut, and said to be.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from takeback.tools.calendar.defined import Zones, zones_in
from takeback.tools.calendar.lines import Component
from takeback.tools.calendar.rules import LONGEST, Rule, TooMuch, Work, times
from takeback.tools.calendar.when import When, end_of, moment, moments, recurrence_id, start_of, zone_like, zone_of

SECONDS: Final = 5.0
"""Time that one listing may take."""

_PARTS = {
    "FREQ": r"YEARLY|MONTHLY|WEEKLY|DAILY",
    "COUNT": r"[1-9]\d{0,4}",
    "INTERVAL": r"[1-9]\d{0,3}",
    "UNTIL": r"\d{8}(T\d{6}Z?)?",
    "WKST": r"MO|TU|WE|TH|FR|SA|SU",
    "BYDAY": r"([+-]?\d{0,2}(MO|TU|WE|TH|FR|SA|SU),?)+",
    "BYMONTH": r"(\d{1,2},?)+",
    "BYMONTHDAY": r"([+-]?\d{1,2},?)+",
    "BYYEARDAY": r"([+-]?\d{1,3},?)+",
    "BYWEEKNO": r"([+-]?\d{1,2},?)+",
    "BYSETPOS": r"([+-]?\d{1,3},?)+",
    "BYHOUR": r"(\d{1,2},?)+",
    "BYMINUTE": r"(\d{1,2},?)+",
    "BYSECOND": r"(\d{1,2},?)+",
}


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time that an event takes place."""

    event: Component
    """The master, or the override."""
    start: When
    end: When
    original: When | None
    """What names the occurrence: its time by the rule. `None` if the event does not repeat."""


@dataclass(frozen=True, slots=True)
class Series:
    """The events of one resource."""

    master: Component | None
    overrides: tuple[Component, ...]
    zones: Zones = field(default_factory=dict[str, tzinfo], compare=False)
    """That the calendar defines by itself."""

    @classmethod
    def of(cls, calendar: Component) -> Series:
        """Taken from a VCALENDAR."""
        events = calendar.parts("VEVENT")
        master = next((each for each in events if each.line("RECURRENCE-ID") is None), None)
        overrides = tuple(each for each in events if each.line("RECURRENCE-ID") is not None)
        return cls(master, overrides, zones_in(calendar))

    @property
    def repeats(self) -> bool:
        """Whether it takes place more than once."""
        return self.master is not None and any(
            line.value.strip() for name in ("RRULE", "RDATE") for line in self.master.lines(name)
        )

    @property
    def ranges(self) -> tuple[Component, ...]:
        """Overrides that change all that follow too, as some older programs write them."""
        return tuple(each for each in self.overrides if _is_range(each))


def rule_parts(text: str) -> dict[str, str]:
    """A rule of an agent, taken apart.

    :raises ValueError: it is none, or one that is not taken.
    """
    if len(text) > LONGEST:
        raise ValueError("the rule is too long")
    parts: dict[str, str] = {}
    for each in text.upper().split(";"):
        name, equals, value = each.partition("=")
        if not equals or name not in _PARTS or name in parts or re.fullmatch(_PARTS[name], value, re.ASCII) is None:
            raise ValueError(
                f"{each[:40]!r} cannot stand in a recurrence rule (FREQ is YEARLY, MONTHLY, WEEKLY or DAILY)"
            )
        parts[name] = value.rstrip(",")
    if "FREQ" not in parts:
        raise ValueError("a recurrence rule needs FREQ")
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError("a recurrence rule has COUNT or UNTIL, not both")
    Rule.read(text)
    if "UNTIL" in parts:
        moment(parts["UNTIL"])
    return parts


def times_by_rule(
    master: Component, zones: Zones, *, until: datetime, deadline: float = float("inf")
) -> Iterator[When]:
    """DTSTART and what RRULE and RDATE add to it, in order, EXDATE left out; local times up to `until`.

    :param deadline: by `time.monotonic`, when there is one besides the bound of work.
    :raises TooMuch: it cannot be expanded.
    :raises ValueError: a rule or a date cannot be read.
    """
    start = start_of(master)
    gone = {like(each, start, zones).local for each in moments(master.lines("EXDATE"))}
    extra = sorted({like(each, start, zones).local for each in moments(master.lines("RDATE"))} | {start.local})
    rules: list[Iterator[datetime]] = [iter(extra)]
    work = Work()
    for found in master.lines("RRULE"):
        if not found.value.strip():
            continue  # some programs write it for an event that does not repeat
        rule = Rule.read(found.value)
        last = min(_local_until(rule.until, start, zones), until) if rule.until else until
        rules.append(times(rule, start.local, last, work))
    last_one: datetime | None = None
    for local in heapq.merge(*rules):
        if local > until:
            return
        if time.monotonic() > deadline:
            raise TooMuch("there was no time left to expand it")
        if local != last_one and local not in gone:
            yield start.at(local)
        last_one = local


def occurrences(
    calendar: Component, begin: datetime, end: datetime, default: tzinfo, *, deadline: float
) -> Iterator[Occurrence]:
    """What takes place between two instants, by its own time.

    :raises TooMuch, ValueError:
    """
    series = Series.of(calendar)
    zones = series.zones
    for each in series.overrides:
        original = recurrence_id(each)
        assert original is not None
        found = Occurrence(each, start_of(each), end_of(each), original)
        if _within(found, begin, end, default, zones):
            yield found
    if series.master is None:
        return
    start, stop = start_of(series.master), end_of(series.master)
    if not series.repeats:
        found = Occurrence(series.master, start, stop, None)
        if _within(found, begin, end, default, zones):
            yield found
        return
    # some programs name an occurrence in another zone than DTSTART, or a day by a time
    named = {like(_original(each), start, zones).local for each in series.overrides}
    ranges = sorted(
        ((like(_original(each), start, zones).local, each) for each in series.ranges), key=lambda each: each[0]
    )
    until = end.replace(tzinfo=None) + timedelta(days=2)
    # what has ended long before need not be looked at more closely, unless something moves it
    length = max(_length(start, stop, default, zones), timedelta(0))
    early = datetime.min if ranges else _earlier(begin.replace(tzinfo=None), length + timedelta(days=2))
    for at in times_by_rule(series.master, zones, until=until, deadline=deadline):
        if at.local < early or at.local in named:
            continue
        event = next((each for original, each in reversed(ranges) if original <= at.local), series.master)
        found = _occurring(event, at, default, zones)
        if _within(found, begin, end, default, zones):
            yield found


def _occurring(event: Component, at: When, default: tzinfo, zones: Zones) -> Occurrence:
    """The occurrence that the rule has at `at`, as the master has it, or an override of this and all that follow."""
    start, stop = start_of(event), end_of(event)
    here = at
    if recurrence_id(event) is not None:
        moved = start.local - like(_original(event), start, zones).local
        here = start.at(like(at, start, zones).local + moved)
    length = _length(start, stop, default, zones)
    return Occurrence(event, here, stop_at(here, stop, length, start), at)


def _earlier(moment: datetime, by: timedelta) -> datetime:
    return moment - by if moment - datetime.min > by else datetime.min


def _original(override: Component) -> When:
    original = recurrence_id(override)
    assert original is not None
    return original


def _is_range(override: Component) -> bool:
    found = override.line("RECURRENCE-ID")
    return found is not None and found.param("RANGE").upper() == "THISANDFUTURE"


def stop_at(at: When, stop: When, length: timedelta, start: When) -> When:
    """When the occurrence at `at` ends."""
    if start.kind == stop.kind and start.zone == stop.zone:
        return at.at(at.local + (stop.local - start.local))
    return at.at(at.local + length)


def like(each: When, start: When, zones: Zones) -> When:
    """A moment said as DTSTART is said, so that the two can be compared."""
    if each.kind == start.kind and each.zone == start.zone:
        return each
    if start.kind == "date":
        return start.at(each.local.replace(hour=0, minute=0, second=0))
    own: tzinfo | None = (
        UTC if start.kind == "utc" else zone_of(start.zone) or zones.get(start.zone) or zone_like(start.zone)
    )
    if own is None or each.kind in ("date", "floating"):
        return start.at(each.local)
    return start.at(each.instant(UTC, zones).astimezone(own).replace(tzinfo=None))


def _local_until(value: str, start: When, zones: Zones) -> datetime:
    last = moment(value)
    if last.kind == "date" and start.kind != "date":
        return last.local.replace(hour=23, minute=59, second=59)
    return like(last, start, zones).local


def _length(start: When, stop: When, default: tzinfo, zones: Zones) -> timedelta:
    return stop.instant(default, zones) - start.instant(default, zones)


def _within(found: Occurrence, begin: datetime, end: datetime, default: tzinfo, zones: Zones) -> bool:
    at, stop = found.start.instant(default, zones), found.end.instant(default, zones)
    return at < end and (stop > begin or at >= begin)
