"""What guests have to be told of a change of an event (RFC 5546): who gets which object by which method. Pure.

A guest who knew of the event gets another message than one who is new to it, so that each message can be made up for by one
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from takeback.tools.calendar.defined import Zones, zones_in
from takeback.tools.calendar.itip_objects import HIGHEST, SENT, Maker, Notice, guest_of, sequence_of
from takeback.tools.calendar.lines import Component, Line, parse
from takeback.tools.calendar.merge import COUNTERS
from takeback.tools.calendar.repeating import like
from takeback.tools.calendar.when import When, end_of, moments, recurrence_id, start_of
from takeback.tools.email.addresses import Address
from takeback.tools.email.addresses import parse as parse_address

Events = Mapping[str, Component]
"""VEVENTs by their RECURRENCE-ID; the master's is empty."""


def notices(before: bytes | None, after: bytes | None, *, organizer: Line, now: datetime) -> list[Notice]:
    """What is to be said of a change from `before` to `after`; nothing if there is no guest, or none sees a difference.

    :param organizer: ORGANIZER where the event has none.
    :raises NotICalendar: one side is none, or says something that must not be sent.
    """
    olds, news = _events(before), _events(after)
    made = Maker(parse(after if after is not None else before or b""), organizer, now)
    if not news:
        return _gone(made, olds)
    if not olds:
        return _whole(made, olds, news)
    changed = {key for key in {*olds, *news} if _seen(olds.get(key)) != _seen(news.get(key))}
    left_out = _left_out(olds, news, zones_in(made.calendar))
    told: list[Notice] = []
    if left_out is not None and left_out.keys() >= {key for key in changed if key and key not in news}:
        for at in left_out.values():
            told += _one_gone(made, at, olds, news)
        changed -= {"", *left_out}
    if "" in changed or any(key not in news for key in changed):
        return _whole(made, olds, news)
    for key in sorted(changed):
        told += _one_changed(made, key, olds, news)
    return told


def correcting(
    sent: bytes, present: bytes | None, recipients: Sequence[str], *, highest: int, organizer: Line, now: datetime
) -> list[Notice]:
    """What those have to be told who were sent something that does not hold any more: how the event stands now.

    :param sent: the iCalendar object that they were sent.
    :param highest: the highest SEQUENCE that anybody was told of this event.
    :raises NotICalendar:
    """
    there, said, method = _events(present), _events(sent), parse(sent).line("METHOD")
    told_of_series = "" in said
    cancelled = method is not None and method.value == "CANCEL"
    if not said or (not there and cancelled):
        return []  # they know that there is none
    guests = _keys_of(there)
    top = max((sequence_of(event) for event in there.values()), default=0)
    number = min(top if top > highest else highest + 1, HIGHEST)
    groups: dict[frozenset[str], dict[str, Address]] = {}
    for each in recipients:
        address = parse_address(each)
        _, keys = guests.get(each.casefold(), (address, frozenset[str]()))
        groups.setdefault(keys, {})[each.casefold()] = address
    notices: list[Notice] = []
    for keys, own in sorted(groups.items(), key=lambda each: sorted(each[0])):
        people, only = tuple(own.values()), set(own)
        parts = [said[""]] if told_of_series else [event for key, event in said.items() if key not in keys]
        if "" not in keys and parts and not (cancelled and keys):
            old = Maker(parse(sent), organizer, now)
            notices.append(
                old.notice("CANCEL", parts, people, known=True, sequence=highest + 1, status=not there, only=only)
            )
        if keys:
            new = Maker(parse(present or b""), organizer, now)
            shown = list(there.values()) if "" in keys else [there[key] for key in sorted(keys)]
            after = number if "" in keys else max(number, highest + 2)
            notices.append(new.notice("REQUEST", shown, people, known=True, sequence=after))
    return notices


def broken(sent: bytes, present: bytes | None, recipients: Sequence[str]) -> str:
    """Why a message that has not gone out is not true any more; empty if it is, as far as can be told.

    :raises NotICalendar:
    """
    there, said, method = _events(present), _events(sent), parse(sent).line("METHOD")
    wanted = {each.casefold() for each in recipients}
    if method is None or method.value != "CANCEL":
        if not there:
            return "the event is not in the calendar any more"
        return "" if wanted & _guests(there.values()).keys() else "its recipients are no longer guests of the event"
    # who is no guest of the series may still be one of an occurrence, and of one that was left out those of the series are
    if "" in said and any("" in keys for id, (_, keys) in _keys_of(there).items() if id in wanted):
        return "the event is in the calendar again, and its recipients are guests of it"
    return ""


# -- what changed ------------------------------------------------------------------------------------------------------------


def _whole(made: Maker, olds: Events, news: Events) -> list[Notice]:
    """The event as it is now, to all who are invited; a cancellation to those who no longer are, be it only to the series."""
    before, now = _keys_of(olds), _keys_of(news)
    number = max(sequence_of(event) for event in news.values())
    out = {id: found for id, found in before.items() if id not in now or ("" in found[1] and "" not in now[id][1])}
    told = _cancelled(made, out, olds, sequence=number, status=False)
    for keys in sorted({found for _, found in now.values()}, key=sorted):
        parts = list(news.values()) if "" in keys else [news[key] for key in sorted(keys)]
        people = {id: guest for id, (guest, found) in now.items() if found == keys}
        for known, some in _alike(people, before):
            # what comes after a cancellation must not look older than it
            own = number if olds and "" not in keys else None
            told.append(made.notice("REQUEST", parts, some, known=known, sequence=own))
    return told


def _alike(
    people: Mapping[str, Address], before: Mapping[str, tuple[Address, frozenset[str]]]
) -> list[tuple[bool, tuple[Address, ...]]]:
    """The people in groups that were invited to the same before, so that each message can be made up for by one other; and
    whether they were invited at all."""
    groups: dict[frozenset[str], list[Address]] = {}
    for id, guest in people.items():
        keys = before[id][1] if id in before else frozenset[str]()
        groups.setdefault(keys, []).append(guest)
    return [(bool(keys), tuple(groups[keys])) for keys in sorted(groups, key=sorted, reverse=True)]


def _gone(made: Maker, olds: Events) -> list[Notice]:
    number = max((sequence_of(event) for event in olds.values()), default=0) + 1
    return _cancelled(made, _keys_of(olds), olds, sequence=number, status=True)


def _cancelled(
    made: Maker, people: Mapping[str, tuple[Address, frozenset[str]]], olds: Events, *, sequence: int, status: bool
) -> list[Notice]:
    told: list[Notice] = []
    for keys in sorted({found for _, found in people.values()}, key=sorted):
        own = {id: guest for id, (guest, found) in people.items() if found == keys}
        parts = [olds[""]] if "" in keys else [olds[key] for key in sorted(keys)]
        told.append(
            made.notice(
                "CANCEL", parts, tuple(own.values()), known=True, sequence=sequence, status=status, only=set(own)
            )
        )
    return told


def _one_gone(made: Maker, at: When, olds: Events, news: Events) -> list[Notice]:
    """One occurrence left out of a series (EXDATE): cancelled for all who were invited to it."""
    occurrence = _occurrence(at, olds, zones_in(made.calendar))
    guests = _guests([occurrence])
    number = max(sequence_of(event) for event in news.values())
    return [
        made.notice("CANCEL", [occurrence], some, known=True, sequence=number, status=True, only=_ids(some))
        for _, some in _alike(guests, _keys_of(olds))
    ]


def _one_changed(made: Maker, key: str, olds: Events, news: Events) -> list[Notice]:
    """One occurrence that differs from its series."""
    event = news[key]
    at = recurrence_id(event)
    assert at is not None, "only overrides have a key"
    earlier = _occurrence(at, olds, zones_in(made.calendar))
    before, now = _guests([earlier]), _guests([event])
    invited = _keys_of(olds)
    told: list[Notice] = []
    for known in (True, False):
        people = {id: guest for id, guest in now.items() if (id in before) is known}
        for _, some in _alike(people, invited):
            told.append(made.notice("REQUEST", [event], some, known=known))
    out = {id: guest for id, guest in before.items() if id not in now}
    number = sequence_of(event)
    for _, some in _alike(out, invited):
        told.append(made.notice("CANCEL", [earlier], some, known=True, sequence=number, status=False, only=_ids(some)))
    return told


def _ids(people: Iterable[Address]) -> set[str]:
    return {guest.spec.casefold() for guest in people}


def _left_out(olds: Events, news: Events, zones: Zones) -> Mapping[str, When] | None:
    """Occurrences that a series was made to leave out, if that is all that was done to the series itself."""
    old, new = olds.get(""), news.get("")
    if old is None or new is None:
        return None
    if [each for each in _seen(old) if each[0] != "EXDATE"] != [each for each in _seen(new) if each[0] != "EXDATE"]:
        return None
    start = start_of(new)
    before = {like(each, start, zones).value(): like(each, start, zones) for each in moments(old.lines("EXDATE"))}
    after = {like(each, start, zones).value(): like(each, start, zones) for each in moments(new.lines("EXDATE"))}
    if not before.keys() < after.keys():
        return None
    named = {
        like(at, start, zones).value(): key for key in olds if key and (at := recurrence_id(olds[key])) is not None
    }
    return {named.get(value, value): at for value, at in after.items() if value not in before}


def _occurrence(at: When, olds: Events, zones: Zones) -> Component:
    """The occurrence as it was: the override, or what the series makes of it."""
    for key, event in olds.items():
        original = recurrence_id(event) if key else None
        if original is not None and like(original, at, zones).local == at.local:
            return event
    series = olds[""]
    made, start, end = series.copy(), start_of(series), end_of(series)
    for name in ("RRULE", "RDATE", "EXDATE", "EXRULE", "DURATION", "DTEND"):
        made.put(name, [])
    made.put("DTSTART", [at.line("DTSTART")])
    made.put("DTEND", [end.at(end.local + (at.local - start.local)).line("DTEND")])
    made.put("RECURRENCE-ID", [at.line("RECURRENCE-ID")])
    return made


# -- reading -----------------------------------------------------------------------------------------------------------------


def _events(data: bytes | None) -> Events:
    if data is None:
        return {}
    found: dict[str, Component] = {}
    for event in parse(data).parts("VEVENT"):
        original = event.line("RECURRENCE-ID")
        found["" if original is None else original.value] = event
    return found


def _guests(events: Iterable[Component]) -> dict[str, Address]:
    """All who can be told by mail, by their address in small letters; without the organizer."""
    found: dict[str, Address] = {}
    for event in events:
        top = event.line("ORGANIZER")
        host = guest_of(top) if top is not None else None
        for item in event.lines("ATTENDEE"):
            guest = guest_of(item)
            if guest is None or item.param("SCHEDULE-AGENT").upper() == "NONE":
                continue  # NONE: whoever invited them tells them in another way (RFC 6638, 7.1)
            if host is None or guest.spec.casefold() != host.spec.casefold():
                found[guest.spec.casefold()] = Address("", guest.local, guest.domain)
    return found


def _keys_of(events: Events) -> dict[str, tuple[Address, frozenset[str]]]:
    """Each guest with the parts of the series that they are invited to."""
    found: dict[str, tuple[Address, frozenset[str]]] = {}
    for key, event in events.items():
        for id, guest in _guests([event]).items():
            found[id] = (guest, found.get(id, (guest, frozenset[str]()))[1] | {key})
    # whoever is invited to the series gets it whole
    return {id: (guest, frozenset({""}) if "" in keys else keys) for id, (guest, keys) in found.items()}


def _seen(event: Component | None) -> list[tuple[str, tuple[tuple[str, str], ...], str]]:
    """What guests see of an event."""
    if event is None:
        return []
    return sorted(
        (item.name, () if item.name in ("ATTENDEE", "ORGANIZER") else tuple(sorted(item.params)), item.value)
        for item in event.items
        if isinstance(item, Line) and item.name in SENT and item.name not in COUNTERS
    )
