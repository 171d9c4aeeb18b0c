"""Taking one change out of an event and leaving another's in it."""

import pytest

from takeback.tools.calendar.merge import Met, merge_events


def event(*lines, more=()):
    inside = ["BEGIN:VEVENT", "UID:a", *lines, "END:VEVENT"]
    return "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", *inside, *more, "END:VCALENDAR", ""]).encode()


def override(at, *lines):
    return ["BEGIN:VEVENT", "UID:a", f"RECURRENCE-ID:{at}", f"DTSTART:{at}", *lines, "END:VEVENT"]


START = "DTSTART:20260301T100000Z"
DAY = "20260308T100000Z"


def test_another_property_stays():
    base, wanted = event(START, "SUMMARY:ours"), event(START, "SUMMARY:old")
    assert merge_events(base, wanted, event(START, "SUMMARY:ours", "X-A;B=c:d")) == event(
        START, "SUMMARY:old", "X-A;B=c:d"
    )


def test_what_stood_there_before_is_put_back_as_it_was_folded():
    base, wanted = event(START), event(START, "SUMMARY:o\r\n ld")
    assert merge_events(base, wanted, event(START, "LOCATION:x")) == event(START, "LOCATION:x", "SUMMARY:o\r\n ld")


@pytest.mark.parametrize(
    ("base", "wanted", "present", "where"),
    [
        (["SUMMARY:ours"], ["SUMMARY:old"], ["SUMMARY:theirs"], "SUMMARY"),
        (["SUMMARY:ours"], [], ["SUMMARY:theirs"], "SUMMARY"),
        (["SUMMARY;LANGUAGE=de:ours"], ["SUMMARY:old"], ["SUMMARY;LANGUAGE=en:ours"], "SUMMARY"),
        (
            ["DTEND:20260301T110000Z"],
            ["DTEND:20260301T120000Z"],
            ["DTEND:20260301T110000Z", "RRULE:FREQ=DAILY"],
            "RRULE",
        ),
        (["ATTENDEE:a"], [], ["ATTENDEE;PARTSTAT=ACCEPTED:a"], "ATTENDEE"),
    ],
)
def test_the_same_property_meets(base, wanted, present, where):
    met = merge_events(event(START, *base), event(START, *wanted), event(START, *present))
    assert isinstance(met, Met)
    assert where in met.what


def test_guests_answer_for_themselves():
    base = event(START, "ATTENDEE:a", "ATTENDEE:b", "ATTENDEE:c")
    present = event(START, "ATTENDEE:A", "ATTENDEE;PARTSTAT=ACCEPTED:b", "ATTENDEE:c", "ATTENDEE:d")
    wanted = event(START, "ATTENDEE:a", "ATTENDEE:b")
    assert merge_events(base, wanted, present) == event(
        START, "ATTENDEE:A", "ATTENDEE;PARTSTAT=ACCEPTED:b", "ATTENDEE:d"
    )


def test_both_made_the_same_is_no_conflict():
    base, wanted = event(START, "SUMMARY:ours", "LOCATION:ours"), event(START, "SUMMARY:old", "LOCATION:old")
    assert merge_events(base, wanted, event(START, "SUMMARY:old", "LOCATION:ours")) == wanted


def test_counters_never_meet_and_stay():
    base, wanted = event(START, "SEQUENCE:1", "SUMMARY:ours"), event(START, "SEQUENCE:0", "SUMMARY:old")
    assert merge_events(base, wanted, event(START, "SEQUENCE:2", "SUMMARY:ours", "LOCATION:x")) == event(
        START, "SEQUENCE:2", "SUMMARY:old", "LOCATION:x"
    )


def test_another_occurrence_stays_and_the_same_meets():
    ours, theirs = override(DAY, "SUMMARY:ours"), override("20260315T100000Z", "SUMMARY:theirs")
    rule = "RRULE:FREQ=WEEKLY"
    base, wanted = event(START, rule, more=ours), event(START, rule)
    assert merge_events(base, wanted, event(START, rule, more=[*ours, *theirs])) == event(START, rule, more=theirs)
    met = merge_events(base, wanted, event(START, rule, more=override(DAY, "SUMMARY:ours", "LOCATION:x")))
    assert isinstance(met, Met)
    assert DAY in met.what


def test_an_override_meets_a_move_of_the_series():
    base, wanted = event("DTSTART:20260301T110000Z", "RRULE:FREQ=WEEKLY"), event(START, "RRULE:FREQ=WEEKLY")
    theirs = event("DTSTART:20260301T110000Z", "RRULE:FREQ=WEEKLY", more=override("20260308T110000Z"))
    assert isinstance(merge_events(base, wanted, theirs), Met)


def test_an_alarm_stays():
    alarm = ["BEGIN:VALARM", "TRIGGER:-PT5M", "END:VALARM"]
    base, wanted = event(START, "SUMMARY:ours"), event(START, "SUMMARY:old")
    assert merge_events(base, wanted, event(START, "SUMMARY:ours", *alarm)) == event(START, "SUMMARY:old", *alarm)


def test_a_zone_that_is_used_is_not_taken_away():
    zone = ["BEGIN:VTIMEZONE", "TZID:A", "END:VTIMEZONE"]
    other = ["BEGIN:VTIMEZONE", "TZID:B", "END:VTIMEZONE"]
    base, wanted = event(START, more=[*other, *zone]), event(START, more=other)
    present = event(START, "X-WHEN;TZID=A:20260301T100000", more=[*other, *zone])
    assert isinstance(merge_events(base, wanted, present), Met)


WEEKLY = "RRULE:FREQ=WEEKLY;COUNT=5"
MOVED = override(DAY, "SUMMARY:moved")


@pytest.mark.parametrize("exdate", [f"EXDATE:20260315T100000Z,{DAY}", "EXDATE;TZID=Europe/Berlin:20260308T110000"])
def test_an_occurrence_that_one_leaves_out_and_the_other_has_moved_meets(exdate):
    base, out = event(START, WEEKLY), event(START, WEEKLY, exdate)
    theirs = event(START, WEEKLY, more=MOVED)
    for wanted, present in ((out, theirs), (theirs, out)):
        met = merge_events(base, wanted, present)
        assert isinstance(met, Met)
        assert DAY in met.what


def test_another_occurrence_may_be_left_out_and_what_was_hidden_before_stays_as_it_was():
    base, out = event(START, WEEKLY), event(START, WEEKLY, "EXDATE:20260315T100000Z")
    merged = merge_events(base, out, event(START, WEEKLY, more=MOVED))
    assert merged == event(START, WEEKLY, "EXDATE:20260315T100000Z", more=MOVED)
    hidden = event(START, WEEKLY, f"EXDATE:{DAY}", more=MOVED)
    assert merge_events(hidden, event(START, WEEKLY, f"EXDATE:{DAY}", "SUMMARY:a", more=MOVED), hidden) != hidden
