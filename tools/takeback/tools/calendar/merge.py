"""Three-way merge of an event by property: takes our change out and leaves somebody else's. Pure.

Properties of one name in one component are one thing, but for guests, each of whom answers for themselves. Overrides are told
apart by RECURRENCE-ID, alarms and time zones by what they say first. What only counts changes (DTSTAMP, SEQUENCE …) never
clashes: what stands there stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from takeback.tools.calendar.lines import Component, Line, NotICalendar, parse

COUNTERS: Final = frozenset({"DTSTAMP", "SEQUENCE", "LAST-MODIFIED", "CREATED"})
"""Kept as they stand when there was a foreign change: a lower SEQUENCE would be taken for an old version."""
GUEST: Final = "ATTENDEE "
TOGETHER: Final[dict[str, str]] = dict.fromkeys(("DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "EXRULE"), "DTSTART")
"""When it takes place: each of these means something else when another changes, so that changes of any two meet."""


@dataclass(frozen=True, slots=True)
class Met:
    """Both changed the same; in words."""

    what: str


Key = tuple[str, str, int]


def merge_events(base: bytes, wanted: bytes, present: bytes) -> bytes | Met:
    """`present` with the step from `base` to `wanted` made in it, or where they meet.

    :raises NotICalendar: one of them is not iCalendar.
    """
    if present == base:
        return wanted
    if present == wanted or base == wanted:
        return present
    merged = _component(parse(base), parse(wanted), parse(present), "")
    if isinstance(merged, Met):
        return merged
    return merged.written()


def only_counted(base: bytes, present: bytes) -> bool:
    """Whether the two differ in nothing but what counts changes.

    :raises NotICalendar: one of them is not iCalendar.
    """
    one, two = parse(base), parse(present)
    return _same(_uncounted(one), _uncounted(two))


def _uncounted(part: Component) -> Component:
    made = part.copy()
    made.items = [
        _uncounted(item) if isinstance(item, Component) else item
        for item in made.items
        if isinstance(item, Component) or item.name not in COUNTERS
    ]
    return made


def _component(base: Component, wanted: Component, present: Component, where: str) -> Component | Met:
    olds, news, theirs = _properties(base), _properties(wanted), _properties(present)
    names = {*olds, *news, *theirs}
    ours = {name for name in names if _said(olds.get(name)) != _said(news.get(name))}
    foreign = {name for name in names if _said(olds.get(name)) != _said(theirs.get(name))}
    ours_groups = {TOGETHER.get(name, name): name for name in sorted(ours - COUNTERS)}
    for name in sorted(foreign - COUNTERS):
        group = TOGETHER.get(name, name)
        if group in ours_groups and not _same_goal(group, names, news, theirs):
            return Met(f"{name}{where}")
    merged = present.copy()
    for name in sorted(ours - COUNTERS):
        if _said(theirs.get(name)) != _said(news.get(name)):
            _put(merged, name, news.get(name, []))
    return _inside(base, wanted, present, merged, where)


def _inside(base: Component, wanted: Component, present: Component, merged: Component, where: str) -> Component | Met:
    olds, news, theirs = _keyed(base), _keyed(wanted), _keyed(present)
    for key in [*olds, *(key for key in news if key not in olds)]:
        old, new, there = olds.get(key), news.get(key), theirs.get(key)
        if _same(old, new) or _same(there, new):
            continue
        label = f"{where} of {_label(key)}"
        goal: Component | Met | None
        if _same(old, there):
            goal = new
        elif new is None and old is not None and there is not None and _same(_uncounted(old), _uncounted(there)):
            goal = None
        elif old is None or new is None or there is None:
            return Met(f"the whole{label}")
        else:
            goal = _component(old, new, there, label)
        if isinstance(goal, Met):
            return goal
        _replace(merged, key, goal)
    if present.name == "VCALENDAR":
        if _moved(olds, news) and _overrides(olds) != _overrides(theirs):
            return Met("the time of the series and one of its occurrences")
        if _moved(olds, theirs) and _overrides(olds) != _overrides(news):
            return Met("the time of the series and one of its occurrences")
        if not _keeps_zones(merged):
            return Met("the time zone")
        if hidden := _left_out(merged) - _left_out(present) - _left_out(wanted):
            return Met(f"whether the occurrence {min(hidden)} takes place")
    return merged


def _moved(old: dict[Key, Component], new: dict[Key, Component]) -> bool:
    """Whether the series itself takes place at other times, so that an override could lose what it overrides."""
    master = ("VEVENT", "", 0)
    one, two = old.get(master), new.get(master)
    if one is None or two is None:
        return one is not two
    names = {"DTSTART", *TOGETHER}
    return any(_said(one.lines(name)) != _said(two.lines(name)) for name in names - {"DTEND", "DURATION", "EXDATE"})


def _overrides(parts: dict[Key, Component]) -> set[Key]:
    return {key for key in parts if key[0] == "VEVENT" and key[1]}


def _left_out(calendar: Component) -> set[str]:
    """Overrides of occurrences that the series leaves out (EXDATE), which programs then do not show: one side's change would be
    hidden by the other's. Where the two are written in different ways, an override may be."""
    master = _keyed(calendar).get(("VEVENT", "", 0))
    if master is None:
        return set()
    gone = {
        (value.strip(), each.param("TZID"))
        for each in master.lines("EXDATE")
        for value in each.value.split(",")
        if value
    }
    ways = {_way(*each) for each in gone}
    named = [
        (each.value.strip(), each.param("TZID"))
        for part in calendar.parts("VEVENT")
        if (each := part.line("RECURRENCE-ID")) is not None
    ]
    return {each[0] for each in named if each in gone or ways - {_way(*each)}}


def _way(value: str, zone: str) -> tuple[str, bool, bool]:
    return zone, value.endswith("Z"), "T" in value


def _same_goal(group: str, names: set[str], news: dict[str, list[Line]], theirs: dict[str, list[Line]]) -> bool:
    members = {name for name in names if TOGETHER.get(name, name) == group}
    return all(_said(news.get(name)) == _said(theirs.get(name)) for name in members)


def _replace(merged: Component, key: Key, goal: Component | None) -> None:
    there = _keyed(merged).get(key)
    if there is None:
        if goal is not None:
            merged.items.append(goal)
        return
    at = next(index for index, item in enumerate(merged.items) if item is there)
    merged.items[at : at + 1] = [] if goal is None else [goal]


def _keeps_zones(calendar: Component) -> bool:
    """Whether every zone that an event names is still defined, if any is."""
    defined = {zone.value for part in calendar.parts("VTIMEZONE") if (zone := part.line("TZID")) is not None}
    named = {
        item.param("TZID")
        for event in calendar.parts("VEVENT")
        for item in event.items
        if isinstance(item, Line) and item.param("TZID")
    }
    return not defined or named <= defined


def _properties(part: Component) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for item in part.items:
        if isinstance(item, Line):
            found.setdefault(_thing(item), []).append(item)
    return found


def _thing(item: Line) -> str:
    """What a line is one of: guests are told apart by their addresses, because each answers for themselves."""
    return f"{GUEST}{item.value.strip().casefold()}" if item.name == "ATTENDEE" else item.name


def _put(part: Component, name: str, lines: list[Line]) -> None:
    if not name.startswith(GUEST):
        part.put(name, lines)
        return
    others = part.lines("ATTENDEE")
    at = next((index for index, each in enumerate(others) if _thing(each) == name), len(others))
    kept = [each for each in others if _thing(each) != name]
    part.put("ATTENDEE", [*kept[:at], *lines, *kept[at:]])


def _said(lines: list[Line] | None) -> list[object]:
    return sorted((line.said for line in lines or ()), key=repr)


def _keyed(part: Component) -> dict[Key, Component]:
    found: dict[Key, Component] = {}
    for inside in part.parts():
        first = inside.line("RECURRENCE-ID") if inside.name == "VEVENT" else inside.line("TZID") or inside.line("UID")
        text = "" if first is None else first.value
        count = 0
        while (inside.name, text, count) in found:
            count += 1
        found[(inside.name, text, count)] = inside
    return found


def _same(a: Component | None, b: Component | None) -> bool:
    if a is None or b is None:
        return a is b
    if {name: _said(lines) for name, lines in _properties(a).items()} != {
        name: _said(lines) for name, lines in _properties(b).items()
    }:
        return False
    one, two = _keyed(a), _keyed(b)
    return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)


def _label(key: Key) -> str:
    name, text, count = key
    if name == "VEVENT":
        return f"the occurrence {text}" if text else "the event"
    return f"{name}{f' {text}' if text else ''}{f' {count + 1}' if count else ''}"


__all__ = ["COUNTERS", "Met", "NotICalendar", "merge_events", "only_counted"]
