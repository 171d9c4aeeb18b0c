"""Who is told what of a change: cases that take more than one message."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from takeback.tools.calendar.itip import broken, correcting, notices
from takeback.tools.calendar.itip_objects import Notice, check
from takeback.tools.calendar.lines import NotICalendar, line

NOW = datetime(2026, 12, 1, tzinfo=UTC)
ME = line("ORGANIZER", "mailto:me@example.org")


def event(*more: str, start: str = "20270301T100000Z", sequence: int = 0) -> list[str]:
    return ["BEGIN:VEVENT", "UID:u", f"DTSTART:{start}", f"SEQUENCE:{sequence}", *more, "END:VEVENT"]


def series(guests: str, *, sequence: int = 0) -> list[str]:
    return event(
        "SUMMARY:All", "RRULE:FREQ=WEEKLY", *(f"ATTENDEE:mailto:{each}@x.org" for each in guests), sequence=sequence
    )


def one(guests: str, *, sequence: int = 0) -> list[str]:
    at = "20270308T100000Z"
    people = (f"ATTENDEE:mailto:{each}@x.org" for each in guests)
    return event(f"RECURRENCE-ID:{at}", "SUMMARY:One", *people, start=at, sequence=sequence)


def calendar(*events: list[str]) -> bytes:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", *(each for event in events for each in event), "END:VCALENDAR", ""]
    return "\r\n".join(lines).encode()


def short(found: list[Notice]) -> list[tuple[str, str, int, str, bool]]:
    return [
        (
            each.method,
            "".join(guest.local for guest in each.recipients),
            each.sequence,
            ("series" if b"SUMMARY:All" in each.calendar else "") + ("one" if b"SUMMARY:One" in each.calendar else ""),
            each.known,
        )
        for each in found
    ]


def test_who_is_taken_out_of_the_series_and_keeps_an_occurrence_hears_of_both_in_order():
    before, after = calendar(series("ab"), one("ab")), calendar(series("a", sequence=1), one("ab"))
    told = notices(before, after, organizer=ME, now=NOW)
    assert short(told) == [
        ("CANCEL", "b", 1, "series", True),
        ("REQUEST", "a", 1, "seriesone", True),
        ("REQUEST", "b", 1, "one", True),
    ]
    assert b"STATUS" not in told[0].calendar, "it takes place, without them"
    put_right = calendar(series("ab", sequence=2), one("ab", sequence=2))
    for message in told:
        people = [guest.spec for guest in message.recipients]
        back = correcting(message.calendar, put_right, people, highest=1, organizer=ME, now=NOW)
        assert short(back) == [("REQUEST", people[0][0], 2, "seriesone", True)]


def test_who_was_let_into_the_series_and_had_an_occurrence_before_gets_that_back_alone():
    before, after = calendar(series("a"), one("ab")), calendar(series("ab", sequence=1), one("ab"))
    told = notices(before, after, organizer=ME, now=NOW)
    assert short(told) == [("REQUEST", "b", 1, "seriesone", True), ("REQUEST", "a", 1, "seriesone", True)]
    back = correcting(told[0].calendar, before, ["b@x.org"], highest=1, organizer=ME, now=NOW)
    assert short(back) == [("CANCEL", "b", 2, "series", True), ("REQUEST", "b", 3, "one", True)]


def test_guests_of_one_occurrence_are_sent_that_one():
    assert short(notices(None, calendar(series("a"), one("b")), organizer=ME, now=NOW)) == [
        ("REQUEST", "a", 0, "seriesone", False),
        ("REQUEST", "b", 0, "one", False),
    ]
    gone = notices(calendar(series("a"), one("ab")), None, organizer=ME, now=NOW)
    assert short(gone) == [("CANCEL", "a", 1, "series", True), ("CANCEL", "b", 1, "one", True)]
    assert all(b"STATUS:CANCELLED" in each.calendar for each in gone)


def test_a_message_is_true_as_long_as_the_calendar_says_so():
    invited = notices(None, calendar(series("ab")), organizer=ME, now=NOW)[0].calendar
    cancelled = notices(calendar(series("ab")), None, organizer=ME, now=NOW)[0].calendar
    assert broken(invited, calendar(series("a")), ["a@x.org", "b@x.org"]) == ""
    assert "no longer guests" in broken(invited, calendar(series("a")), ["b@x.org"])
    assert "not in the calendar" in broken(invited, None, ["a@x.org"])
    assert broken(cancelled, None, ["a@x.org"]) == ""
    assert broken(cancelled, calendar(series(""), one("a")), ["a@x.org"]) == "", "a guest of one occurrence alone"
    assert "again" in broken(cancelled, calendar(series("a")), ["a@x.org"])


def test_nothing_is_said_of_what_guests_do_not_see():
    before = calendar(event("ATTENDEE:mailto:a@x.org"))
    after = calendar(event("ATTENDEE;PARTSTAT=ACCEPTED:mailto:a@x.org", "X-MINE:1", "BEGIN:VALARM", "END:VALARM"))
    assert notices(before, after, organizer=ME, now=NOW) == []


@pytest.mark.parametrize("odd", ["SUMMARY:a\x00b", "SUMMARY:a\x85b", "SUMMARY:a\u2028b", 'X-A;CN="a^nb":c'])
def test_the_last_gate_lets_no_hidden_line_pass(odd: str):
    data = "\r\n".join(["BEGIN:VCALENDAR", "METHOD:REQUEST", "BEGIN:VEVENT", odd, "END:VEVENT", "END:VCALENDAR", ""])
    with pytest.raises(NotICalendar):
        check(data.encode(), "REQUEST", 1)
