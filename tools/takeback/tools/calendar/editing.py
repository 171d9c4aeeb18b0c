"""What an act makes of an event: only the lines that it means are written anew, everything else stays byte for byte."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from takeback.tools.calendar.defined import Zones
from takeback.tools.calendar.lines import Component, Line, escape, line, parse
from takeback.tools.calendar.repeating import Series, like, rule_parts, times_by_rule
from takeback.tools.calendar.rules import Rule, TooMuch, Work, times
from takeback.tools.calendar.when import When, end_of, moment, moments, recurrence_id, start_of

_TIMES = ("DTSTART", "DTEND", "DURATION")
_REPEATING = ("RRULE", "RDATE", "EXDATE", "EXRULE")
LAST = datetime(9000, 1, 1)


class CannotEdit(ValueError):
    """The act means nothing for this event; `advice` says what does."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be different. `None` leaves a thing as it is; an empty text or list takes it out."""

    summary: str | None = None
    location: str | None = None
    description: str | None = None
    start: When | None = None
    end: When | None = None
    recurrence: str | None = None
    attendees: Sequence[str] | None = None
    zone: Component | None = None
    """VTIMEZONE of the zone of `start` and `end`, if they have one."""


def created(uid: str, change: Change, now: datetime) -> bytes:
    """A new event.

    :raises CannotEdit:
    """
    text = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//takeback//takeback//EN\r\n"
        f"BEGIN:VEVENT\r\nUID:{escape(uid)}\r\nDTSTAMP:{now:%Y%m%dT%H%M%SZ}\r\nCREATED:{now:%Y%m%dT%H%M%SZ}\r\n"
        "SEQUENCE:0\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    calendar = parse(text.encode())
    event = calendar.parts("VEVENT")[0]
    assert change.start is not None and change.end is not None
    _edit(event, change)
    _add_zone(calendar, change)
    _checked(event)
    return calendar.written()


def updated_all(data: bytes, change: Change, now: datetime) -> bytes:
    """The event, or the whole series, changed.

    :raises CannotEdit:
    """
    calendar = parse(data)
    series = Series.of(calendar)
    master = series.master
    if master is None:
        raise CannotEdit("Only single occurrences of this series are here.", "Name one of them by `occurrence`.")
    old = start_of(master)
    if change.start is not None and _named(series):
        if (change.start.kind, change.start.zone) != (old.kind, old.zone):
            raise CannotEdit(
                "Some occurrences of the series were changed or left out, and another zone would lose them.",
                "Keep zone and kind of the start, or make a new series.",
            )
        _shift(calendar, series, old, change.start.local - old.local)
    _edit(master, change)
    _touch(master, now)
    _add_zone(calendar, change)
    if change.start is not None or change.recurrence is not None:
        _checked(master)
    return calendar.written()


def updated_one(data: bytes, at: When, change: Change, now: datetime) -> bytes:
    """One occurrence changed: an override.

    :raises CannotEdit:
    """
    if change.recurrence is not None:
        raise CannotEdit("One occurrence has no recurrence of its own.", "Use range=following or range=all.")
    calendar = parse(data)
    series = Series.of(calendar)
    event = _override(series, at)
    if event is None:
        master = _holding(series, at)
        event = master.copy()
        start, end = start_of(master), end_of(master)
        for name in _REPEATING:
            event.put(name, [])
        event.put("RECURRENCE-ID", [at.line("RECURRENCE-ID")])
        _place(event, at, end.at(end.local + (at.local - start.local)))
        calendar.items.append(event)
    _edit(event, change)
    _touch(event, now)
    _add_zone(calendar, change)
    return calendar.written()


def deleted_one(data: bytes, at: When, now: datetime) -> bytes | None:
    """One occurrence left out; `None` if nothing is left.

    :raises CannotEdit:
    """
    calendar = parse(data)
    series = Series.of(calendar)
    override = _override(series, at)
    if override is not None:
        calendar.items = [item for item in calendar.items if item is not override]
    elif series.master is not None:
        _holding(series, at)
    if series.master is None:
        return calendar.written() if calendar.parts("VEVENT") else None
    series.master.items.insert(_after(series.master, "EXDATE", "RRULE"), at.line("EXDATE"))
    _touch(series.master, now)
    left = Series.of(calendar)
    if not left.overrides and not _any_left(left):
        return None
    return calendar.written()


def cut_before(data: bytes, at: When, now: datetime) -> tuple[bytes | None, int]:
    """The series ended before an occurrence, and how many occurrences by the rule stay. `None`: none does.

    :raises CannotEdit:
    """
    calendar = parse(data)
    series = Series.of(calendar)
    master = _holding(series, at)
    start = start_of(master)
    if start.local >= at.local:
        return None, 0
    before, by_rule = _before(series, at)
    if not by_rule:
        raise CannotEdit(
            "This occurrence was added to the series by hand, so the series cannot go on from it.",
            "Use range=this, or name an occurrence of the rule.",
        )
    for found in master.lines("RRULE"):
        parts = [part for part in found.value.split(";") if part.split("=")[0].upper() not in ("UNTIL", "COUNT")]
        parts.append(f"UNTIL={_until(before[-1], series.zones)}")
        master.put("RRULE", [line("RRULE", ";".join(parts), found.params)])
    for name in ("RDATE", "EXDATE"):
        _keep_dates(series, name, start, lambda each: each.local < at.local)
    _keep_overrides(calendar, series, start, lambda original: original.local < at.local)
    _touch(master, now)
    return calendar.written(), len(before)


def rest_from(data: bytes, at: When, before: int, uid: str, change: Change, now: datetime) -> bytes:
    """The series from an occurrence on, changed, as a series of its own.

    :raises CannotEdit:
    """
    calendar = parse(data)
    series = Series.of(calendar)
    master = _holding(series, at)
    start, end = start_of(master), end_of(master)
    for found in master.lines("RRULE"):
        parts = found.value.split(";")
        for index, part in enumerate(parts):
            name, _, value = part.partition("=")
            if name.upper() == "COUNT":
                parts[index] = f"COUNT={int(value) - before}"
        master.put("RRULE", [line("RRULE", ";".join(parts), found.params)])
    for name in ("RDATE", "EXDATE"):
        _keep_dates(series, name, start, lambda each: each.local >= at.local)
    _keep_overrides(calendar, series, start, lambda original: original.local >= at.local)
    _place(master, at, end.at(end.local + (at.local - start.local)))
    for event in calendar.parts("VEVENT"):
        event.put("UID", [line("UID", escape(uid))])
    return updated_all(calendar.written(), change, now)


def occurrence(data: bytes, text: str) -> When:
    """The occurrence that an agent names by its original start.

    :raises CannotEdit: the event does not repeat, or not then.
    """
    series = Series.of(parse(data))
    if series.master is not None and not series.repeats:
        raise CannotEdit("The event does not repeat.", "Leave out `occurrence`.")
    if series.ranges:
        raise CannotEdit(
            "Another program changed one occurrence of this series together with all that follow; that is only read here.",
            "Use range=all, or make a new series.",
        )
    starts = [start_of(series.master)] if series.master is not None else []
    starts += [original for each in series.overrides if (original := recurrence_id(each)) is not None]
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            local, kind = datetime.fromisoformat(text), "date"
        else:
            local, kind = datetime.fromisoformat(text.removesuffix("Z")), "utc" if text.endswith("Z") else ""
    except ValueError:
        local, kind = LAST, "none"
    start = starts[0]
    if (
        local.tzinfo is not None
        or (kind == "date") != (start.kind == "date")
        or (kind == "utc" and start.kind != "utc")
    ):
        raise CannotEdit(
            f"{text[:40]!r} names no occurrence.",
            f"Pass its original start as list_events gives it, like {start.said()}.",
        )
    at = start.at(local)
    if _override(series, at) is None:
        _holding(series, at)
    return at


# -- inside ------------------------------------------------------------------------------------------------------------------


def _edit(event: Component, change: Change) -> None:
    for name, text in (
        ("SUMMARY", change.summary),
        ("LOCATION", change.location),
        ("DESCRIPTION", change.description),
    ):
        if text is not None:
            there = event.line(name)
            if there is None or there.value != escape(text):
                event.put(name, [line(name, escape(text))] if text else [])
    if change.attendees is not None:
        kept = {_address(found): found for found in event.lines("ATTENDEE")}
        event.put(
            "ATTENDEE",
            [
                kept.get(each.casefold()) or line("ATTENDEE", f"mailto:{each}", (("RSVP", "TRUE"),))
                for each in dict.fromkeys(change.attendees)
            ],
        )
    if change.start is not None or change.end is not None:
        _retime(event, change)
    if change.recurrence is not None:
        event.put("RRULE", [line("RRULE", change.recurrence.upper())] if change.recurrence else [])


def _retime(event: Component, change: Change) -> None:
    if event.line("DTSTART") is None:
        assert change.start is not None and change.end is not None
        start, end = change.start, change.end
    else:
        old, stop = start_of(event), end_of(event)
        start = change.start or old
        end = change.end or (
            start.at(start.local + (stop.local - old.local))
            if (old.kind == "date") == (start.kind == "date")
            else start.at(start.local + timedelta(days=1 if start.kind == "date" else 0, hours=0))
        )
    if (start.kind == "date") != (end.kind == "date"):
        raise CannotEdit("Start and end are of different kinds.", "Pass two dates, or two times.")
    if (start.kind == "floating") != (end.kind == "floating"):
        raise CannotEdit("A floating time and one with a zone cannot be compared.", "Pass both in one way.")
    if end.instant(UTC) < start.instant(UTC) or (start.kind == "date" and end.local <= start.local):
        raise CannotEdit(
            "The event would end before it starts.", "For all-day events, `end` is the day after the last."
        )
    _place(event, start, end)


def _place(event: Component, start: When, end: When) -> None:
    event.put("DTSTART", [start.line("DTSTART")])
    if event.line("DURATION") is not None and event.line("DTEND") is None:
        event.put("DURATION", [])
    if event.line("DTEND") is None:
        event.items.insert(_after(event, "DTSTART"), end.line("DTEND"))
    else:
        event.put("DTEND", [end.line("DTEND")])


def _after(event: Component, *names: str) -> int:
    for name in names:
        found = [at for at, item in enumerate(event.items) if isinstance(item, Line) and item.name == name]
        if found:
            return found[-1] + 1
    return next((at for at, item in enumerate(event.items) if isinstance(item, Component)), len(event.items))


def _touch(event: Component, now: datetime) -> None:
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    event.put("DTSTAMP", [line("DTSTAMP", stamp)])
    event.put("LAST-MODIFIED", [line("LAST-MODIFIED", stamp)])
    found = event.line("SEQUENCE")
    number = int(found.value) if found is not None and re.fullmatch(r"\d{1,9}", found.value.strip()) else 0
    event.put("SEQUENCE", [line("SEQUENCE", str(number + 1))])


def _add_zone(calendar: Component, change: Change) -> None:
    if change.zone is None:
        return
    own = change.zone.line("TZID")
    there = {found.value for zone in calendar.parts("VTIMEZONE") if (found := zone.line("TZID")) is not None}
    if own is not None and own.value not in there:
        at = next(at for at, item in enumerate(calendar.items) if isinstance(item, Component))
        calendar.items.insert(at, change.zone)


def _checked(master: Component) -> None:
    """Hold the start to be an occurrence of its own rule."""
    found = master.line("RRULE")
    if found is None:
        return
    start = start_of(master)
    try:
        rule_parts(found.value)
        first = next(times(Rule.read(found.value), start.local, start.local, Work()), None)
    except ValueError as error:
        raise CannotEdit(f"The recurrence is not taken: {error}.", "Pass a rule like FREQ=WEEKLY;BYDAY=MO.") from error
    if first != start.local:
        raise CannotEdit(
            "The start is no occurrence of the recurrence rule.", "Let the rule fit the start, e.g. the same weekday."
        )


def _holding(series: Series, at: When) -> Component:
    master = series.master
    if master is not None and any(
        each.local == at.local for each in times_by_rule(master, series.zones, until=at.local)
    ):
        return master
    raise CannotEdit(
        f"The event does not take place at {at.said()}.", "Call list_events: pass an `occurrence` that it gives."
    )


def _any_left(series: Series) -> bool:
    """Whether it takes place at all. What cannot be counted through is taken for more."""
    assert series.master is not None
    try:
        return next(times_by_rule(series.master, series.zones, until=LAST), None) is not None
    except TooMuch:
        return True


def _before(series: Series, at: When) -> tuple[list[When], bool]:
    """Occurrences by the rule before `at`, those that EXDATE leaves out included (COUNT counts them too), and whether `at` is
    one itself."""
    assert series.master is not None
    bare = series.master.copy()
    bare.put("EXDATE", [])
    bare.put("RDATE", [])
    found = list(times_by_rule(bare, series.zones, until=at.local))
    return [each for each in found if each.local < at.local], any(each.local == at.local for each in found)


def _override(series: Series, at: When) -> Component | None:
    for each in series.overrides:
        original = recurrence_id(each)
        if original is not None and like(original, at, series.zones).local == at.local:
            return each
    return None


def _named(series: Series) -> bool:
    master = series.master
    return bool(series.overrides) or (master is not None and any(master.line(name) for name in ("RDATE", "EXDATE")))


def _keep_dates(series: Series, name: str, start: When, keep: Callable[[When], bool]) -> None:
    master = series.master
    assert master is not None
    kept: list[Line] = []
    for found in master.lines(name):
        values = found.value.split(",")
        stay = [
            each
            for each in values
            if keep(like(moment(each.partition("/")[0], found.param("TZID")), start, series.zones))
        ]
        if len(stay) == len(values):
            kept.append(found)
        elif stay:
            kept.append(line(name, ",".join(stay), found.params))
    master.put(name, kept)


def _keep_overrides(calendar: Component, series: Series, start: When, keep: Callable[[When], bool]) -> None:
    calendar.items = [
        item
        for item in calendar.items
        if not (
            isinstance(item, Component)
            and item.name == "VEVENT"
            and (original := recurrence_id(item)) is not None
            and not keep(like(original, start, series.zones))
        )
    ]


def _shift(calendar: Component, series: Series, old: When, by: timedelta) -> None:
    """Move what names occurrences along with the series."""
    if not by or series.master is None:
        return
    for name in ("RDATE", "EXDATE"):
        moved = [like(each, old, series.zones) for each in moments(series.master.lines(name))]
        series.master.put(name, [each.at(each.local + by).line(name) for each in moved])
    for each in series.overrides:
        original = recurrence_id(each)
        assert original is not None
        before = like(original, old, series.zones)
        if start_of(each).local == before.local:  # it was changed in other things than its time
            start, end = start_of(each), end_of(each)
            _place(each, start.at(start.local + by), end.at(end.local + by))
        each.put("RECURRENCE-ID", [before.at(before.local + by).line("RECURRENCE-ID")])


def _until(last: When, zones: Zones) -> str:
    """The end of a rule at its last occurrence: a second less than the next one may lie in an hour that no clock shows."""
    if last.kind in ("date", "floating"):
        return last.value()
    return f"{last.instant(UTC, zones):%Y%m%dT%H%M%SZ}"


def _address(found: Line) -> str:
    return found.value.removeprefix("mailto:").removeprefix("MAILTO:").casefold()
