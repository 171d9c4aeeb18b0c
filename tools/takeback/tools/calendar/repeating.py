"""When a series takes place: RRULE, RDATE, EXDATE and overrides, expanded within bounds.

Rules are expanded in the local time of DTSTART, as RFC 5545 has it, so that a weekly meeting at ten stays at ten. A rule can be
written so that it never comes to a day, or to one a second; what is more than the bounds allow is cut, and said to be.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from takeback.tools.calendar.lines import Component
from takeback.tools.calendar.when import When, end_of, moments, recurrence_id, start_of, zone_of

STEPS: Final = 50_000
"""Occurrences that are counted through, at most, to come to the wanted ones."""
SECONDS: Final = 5.0
"""Time that one expansion may take."""
LONGEST: Final = 500
"""Characters of a rule."""

_FREQUENT = {"SECONDLY", "MINUTELY", "HOURLY"}
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

    @classmethod
    def of(cls, calendar: Component) -> Series:
        """Taken from a VCALENDAR."""
        events = calendar.parts("VEVENT")
        master = next((each for each in events if each.line("RECURRENCE-ID") is None), None)
        return cls(master, tuple(each for each in events if each.line("RECURRENCE-ID") is not None))

    @property
    def repeats(self) -> bool:
        """Whether it takes place more than once."""
        return self.master is not None and any(self.master.line(name) for name in ("RRULE", "RDATE"))


class TooMuch(ValueError):
    """The rule cannot be expanded within the bounds."""


def rule_parts(text: str) -> dict[str, str]:
    """A rule of an agent, taken apart.

    :raises ValueError: it is none, or one that is not taken.
    """
    if len(text) > LONGEST:
        raise ValueError("the rule is too long")
    parts: dict[str, str] = {}
    for each in text.upper().split(";"):
        name, equals, value = each.partition("=")
        if not equals or name not in _PARTS or name in parts or re.fullmatch(_PARTS[name], value) is None:
            raise ValueError(
                f"{each[:40]!r} cannot stand in a recurrence rule (FREQ is YEARLY, MONTHLY, WEEKLY or DAILY)"
            )
        parts[name] = value.rstrip(",")
    if "FREQ" not in parts:
        raise ValueError("a recurrence rule needs FREQ")
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError("a recurrence rule has COUNT or UNTIL, not both")
    return parts


def times_by_rule(master: Component, *, until: datetime, deadline: float) -> Iterator[When]:
    """DTSTART and what RRULE and RDATE add to it, in order, EXDATE left out; local times up to `until`.

    :raises TooMuch: it cannot be expanded.
    :raises ValueError: a rule or a date cannot be read.
    """
    from dateutil.rrule import rrulestr

    start = start_of(master)
    gone = {like(each, start).local for each in moments(master.lines("EXDATE"))}
    extra = sorted({like(each, start).local for each in moments(master.lines("RDATE"))} | {start.local})
    rules: list[Iterator[datetime]] = [iter(extra)]
    for found in master.lines("RRULE"):
        parts = dict(part.split("=", 1) for part in found.value.upper().split(";") if "=" in part)
        if parts.get("FREQ") in _FREQUENT or len(found.value) > LONGEST:
            raise TooMuch("the rule repeats within a day")
        if "UNTIL" in parts:
            parts["UNTIL"] = _local_until(parts["UNTIL"], start)
        try:
            rules.append(
                iter(rrulestr(";".join(f"{key}={value}" for key, value in parts.items()), dtstart=start.local))
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"the rule {found.value[:80]!r} cannot be read") from error
    last: datetime | None = None
    for steps, local in enumerate(_ordered(rules)):
        if local > until:
            return
        if steps > STEPS or time.monotonic() > deadline:
            raise TooMuch("it repeats too often to be counted through")
        if local != last and local not in gone:
            yield start.at(local)
        last = local


def occurrences(
    calendar: Component, begin: datetime, end: datetime, default: tzinfo, *, deadline: float
) -> Iterator[Occurrence]:
    """What takes place between two instants, by its own time.

    :raises TooMuch, ValueError:
    """
    series = Series.of(calendar)
    named: set[datetime] = set()
    for each in series.overrides:
        original = recurrence_id(each)
        assert original is not None
        named.add(original.instant(default))
        found = Occurrence(each, start_of(each), end_of(each), original)
        if _within(found, begin, end, default):
            yield found
    if series.master is None:
        return
    start, stop = start_of(series.master), end_of(series.master)
    length = _length(start, stop, default)
    if not series.repeats:
        found = Occurrence(series.master, start, stop, None)
        if _within(found, begin, end, default):
            yield found
        return
    until = end.replace(tzinfo=None) + timedelta(days=2)
    for at in times_by_rule(series.master, until=until, deadline=deadline):
        if at.instant(default) in named:
            continue
        found = Occurrence(series.master, at, stop_at(at, stop, length, start), at)
        if _within(found, begin, end, default):
            yield found


def stop_at(at: When, stop: When, length: timedelta, start: When) -> When:
    """When the occurrence at `at` ends."""
    if start.kind == stop.kind and start.zone == stop.zone:
        return at.at(at.local + (stop.local - start.local))
    return at.at(at.local + length)


def like(each: When, start: When) -> When:
    """A moment said as DTSTART is said, so that the two can be compared."""
    if each.kind == start.kind and each.zone == start.zone:
        return each
    if start.kind == "date":
        return start.at(each.local.replace(hour=0, minute=0, second=0))
    own: tzinfo | None = UTC if start.kind == "utc" else zone_of(start.zone)
    if own is None or each.kind in ("date", "floating"):
        return start.at(each.local)
    return start.at(each.instant(UTC).astimezone(own).replace(tzinfo=None))


def _ordered(rules: list[Iterator[datetime]]) -> Iterator[datetime]:
    import heapq

    return iter(heapq.merge(*rules))


def _local_until(value: str, start: When) -> str:
    from takeback.tools.calendar.when import moment

    last = moment(value)
    if last.kind == "date" and start.kind != "date":
        return f"{value}T235959"
    return like(last, start).local.strftime("%Y%m%dT%H%M%S")


def _length(start: When, stop: When, default: tzinfo) -> timedelta:
    return stop.instant(default) - start.instant(default)


def _within(found: Occurrence, begin: datetime, end: datetime, default: tzinfo) -> bool:
    at, stop = found.start.instant(default), found.end.instant(default)
    return at < end and (stop > begin or at >= begin)
