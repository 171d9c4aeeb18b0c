"""Nothing that an agent passes as a text becomes a property, a component or an endless rule."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import icalendar
import pytest
from tests.server.engine.bench import Bench, settings_for

from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import ToolSettings
from takeback.tools.calendar.repeating import rule_parts
from takeback.tools.calendar.rules import Rule, TooMuch, Work, times

REFUSED_CHARACTERS = ["\r", "\r\n", "\x00", "\x0b", "\x0c", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]
INTO = "ATTENDEE:mailto:eve@example.com"
TEXTS = [
    *(f"a{each}{INTO}" for each in REFUSED_CHARACTERS),
    f"a\n{INTO}",
    f"a\n {INTO}",
    "BEGIN:VEVENT",
    "x\nEND:VEVENT\nBEGIN:VEVENT\nUID:other",
    "x\\nEND:VEVENT",
    f"x\\,\\;\\\\n{INTO}",
    "a\\",
    '";X-A=b:c',
    "^n^'^^",
    "\u202egnp.exe",
    "\u2066mixed\u2069",
    "\ufeffafter a mark",
    "javascript:alert(1)",
    "=cmd|' /C calc'!A0",
    "%0d%0a" + INTO,
    "&#13;&#10;" + INTO,
    "=?utf-8?q?a=0D=0A?=",
    "é" * 400,
    "\U0001f600" * 80,
    "a\tb",
    "  leading and trailing  ",
]
OTHERS: list[dict[str, Any]] = [
    *({"attendees": [each]} for each in (
        'eve@example.com";X-A=b', "eve@example.com\r\nX-A:b", "javascript:alert(1)", "mailto:eve@example.com", "eve@", "@b.c",
        "a b@example.com", "eve@example.com,bob@example.com", "eve@example.com\u2028", "<eve@example.com>", "eve@exa mple.com",
        "Eve <eve@example.com>", "e\u0301ve@example.com", "x" * 300 + "@example.com",
    )),
    *({"recurrence": each} for each in (
        "FREQ=SECONDLY", "FREQ=MINUTELY;COUNT=3", "FREQ=HOURLY", "FREQ=DAILY;COUNT=1000000000", "FREQ=DAILY;COUNT=0",
        "FREQ=DAILY;INTERVAL=0", "FREQ=DAILY;INTERVAL=99999999", "FREQ=DAILY\r\nX-A:b",
        f"FREQ=DAILY\n{INTO}", "FREQ=DAILY;X-A=b",
        "FREQ=DAILY;FREQ=DAILY", "FREQ=DAILY;COUNT=2;UNTIL=20270101", "FREQ=DAILY;BYHOUR=99", "FREQ=DAILY;BYMONTHDAY=0",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "FREQ=YEARLY;BYMONTH=13",
        "FREQ=DAILY;BYSECOND=" + ",".join(map(str, range(60))) + ";BYMINUTE=" + ",".join(map(str, range(60)))
        + ";BYHOUR=" + ",".join(map(str, range(24))) + ";BYSETPOS=400",
        "FREQ=DAILY;UNTIL=99999999", "FREQ=DAILY;UNTIL=\uff12\uff10\uff12\uff17\uff10\uff11\uff10\uff11",
        "FREQ=DAILY;COUNT=1\u0660",
        "RRULE:FREQ=DAILY", "FREQ=DAILY;", "=", "FREQ=" + "DAILY," * 100,
    )),
    *({"timezone": each} for each in (
        "Europe/Berlin\r\nX-A:b", "../../etc/passwd", "/etc/localtime", 'Europe/Berlin";X-A=b', "Europe/Berlin:20260101",
        "Mars/X", "/x/Europe/Berlin", "", "W. Europe Standard Time", "Europe/Berlin\x00",
    )),
    *({"start": each} for each in (
        "20260301T100000\r\nX-A:b", "2026-03-01T10:00\n", "2026-13-01", "0000-01-01", "today", "2026-03-01T10:00:00+01:00",
        "\uff12026-03-01", "2026-03-01T25:00",
    )),
    {"summary": "x" * 1001}, {"location": "x" * 1001}, {"description": "x" * 100_001}, {"attendees": ["a@b.c"] * 501},
    {"calendar": "../default"}, {"calendar": "default//x"}, {"X-A": "b"}, {"summary": None}, {"summary": ["a"]},
]  # fmt: skip
GOOD = {"summary": "Good", "start": "2026-03-02T10:00", "end": "2026-03-02T11:00", "timezone": "Europe/Berlin"}
EXPECTED = {
    "UID",
    "DTSTAMP",
    "CREATED",
    "SEQUENCE",
    "SUMMARY",
    "LOCATION",
    "DESCRIPTION",
    "DTSTART",
    "DTEND",
    "LAST-MODIFIED",
}


@pytest.fixture
async def bench(tmp_path: Path):
    (tmp_path / "data" / "calendar" / "default").mkdir(parents=True)
    engine = await Engine.open(
        settings_for(tmp_path, tools=ToolSettings(off=("files", "database", "email")), triggers=TriggerSettings.off())
    )
    yield Bench(engine, tmp_path)
    await engine.close()


def contents(bench: Bench) -> dict[str, bytes]:
    folder = bench.work / "data" / "calendar" / "default"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def is_clean(data: bytes) -> icalendar.Event:
    """The one event in it, as another library reads it."""
    assert data.endswith(b"\r\n") and all(len(line) <= 75 for line in data[:-2].split(b"\r\n"))
    text = data.decode()
    assert re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]", text) is None
    assert "\n" not in text.replace("\r\n", "") and "\r" not in text.replace("\r\n", "")
    calendar = icalendar.Calendar.from_ical(data)
    [event] = calendar.walk("VEVENT")
    assert set(event) <= EXPECTED and not event.subcomponents and not event.errors
    return event


@pytest.mark.parametrize("field", ["summary", "location", "description"])
async def test_a_text_is_refused_or_reads_back_as_it_was(bench: Bench, field: str) -> None:
    run = await bench.start()
    made = await bench.done("create_event", run, calendar="default", **GOOD)
    name = str((made.result or {})["event_id"])
    for text in TEXTS:
        before = contents(bench)
        changed = await bench.call("update_event", run, calendar="default", event_id=name, **{field: text})
        created = await bench.call("create_event", run, calendar="default", **{**GOOD, field: text})
        refused = any(each in text for each in REFUSED_CHARACTERS) or (
            field != "description" and re.search("[\n\t]", text)
        )
        if refused and not (field == "description" and "\r\n" in text):
            assert changed.status == created.status == "failed", (text, changed, created)
            assert contents(bench) == before
            continue
        assert changed.status == created.status == "applied", (text, changed, created)
        for event_id in (name, (created.result or {})["event_id"]):
            found = is_clean(contents(bench)[f"{event_id}.ics"])
            assert str(found[field.upper()]) == text.replace("\r\n", "\n"), text


async def test_whatever_else_is_no_plain_value_is_refused(bench: Bench) -> None:
    run = await bench.start()
    for each in OTHERS:
        answer = await bench.call("create_event", run, **{"calendar": "default", **GOOD, **each})
        assert answer.status == "failed", (each, answer)
        assert answer.error is not None and answer.error.code not in ("internal", "storage"), (each, answer)
    assert contents(bench) == {}


async def test_what_stands_in_parameters_of_others_is_not_let_out_of_them(bench: Bench) -> None:
    folder = bench.work / "data" / "calendar" / "default"
    zone = "a;b:c,d^n^'ü"
    theirs = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//x//EN\r\nBEGIN:VEVENT\r\nUID:a\r\nDTSTAMP:20260101T000000Z\r\n"
        f'DTSTART;TZID="{zone}":20260302T100000\r\nRRULE:FREQ=DAILY;COUNT=9\r\nSUMMARY:x\r\n'
        'ATTENDEE;CN="Eve^nATTENDEE:mailto:x@y.z";X-A="BEGIN:VEVENT":mailto:eve@example.com\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n'
    )
    (folder / "a.ics").write_bytes(theirs.encode())
    run = await bench.start()
    name = {"calendar": "default", "event_id": "a"}
    await bench.done("delete_event", run, **name, occurrence="2026-03-03T10:00:00")
    await bench.done(
        "update_event", run, **name, occurrence="2026-03-04T10:00:00", start="2026-03-04T12:00", location="There"
    )
    await bench.done("update_event", run, **name, occurrence="2026-03-07T10:00:00", range="following", summary="Later")
    for data in contents(bench).values():
        found = re.sub(rb"\r?\n ", b"", data).decode()
        assert re.findall("^(?:DTSTART|EXDATE|RECURRENCE-ID);TZID=(.*):2026", found, re.M) == [f'"{zone}"'] * len(
            re.findall("^(?:DTSTART|EXDATE|RECURRENCE-ID)", found, re.M)
        )
        assert "\nATTENDEE:mailto:x" not in found and found.count("BEGIN:VEVENT\r\n") <= 2
    await bench.back(run_id=run)
    assert contents(bench) == {"a.ics": theirs.encode()}


BOMBS = [
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=WEEKLY;BYMONTH=2;BYMONTHDAY=31",
    "FREQ=YEARLY;BYYEARDAY=366;BYMONTH=1",
    "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MINUTELY;BYHOUR=3;BYMINUTE=7;BYSECOND=9;BYMONTHDAY=31;BYMONTH=11",
    "FREQ=YEARLY;INTERVAL=9999",
]


@pytest.mark.parametrize("rule", BOMBS)
def test_a_rule_that_never_comes_to_a_day_costs_no_more_than_the_days_that_are_asked_for(rule: str) -> None:
    start, last = datetime(2020, 1, 1, 9), datetime(2030, 1, 1)
    assert list(times(Rule.read(rule), start, last, Work(20_000))) in ([], [start])


@pytest.mark.parametrize(
    "rule", ["FREQ=SECONDLY", "FREQ=MINUTELY;BYSECOND=" + ",".join(map(str, range(60))), "FREQ=DAILY;INTERVAL=1"]
)
def test_what_is_too_much_is_said_and_not_counted_through(rule: str) -> None:
    with pytest.raises(TooMuch):
        list(times(Rule.read(rule), datetime(1, 1, 1), datetime(9999, 1, 1), Work()))


async def test_a_listing_with_bombs_in_it_lists_the_others(bench: Bench) -> None:
    folder = bench.work / "data" / "calendar" / "default"
    for number, rule in enumerate((*BOMBS, "FREQ=SECONDLY", "FREQ=DAILY;INTERVAL=0", "FREQ=DAILY;COUNT=999999999999")):
        lines = f"UID:{number}\nDTSTAMP:20260101T000000Z\nDTSTART:20200101T090000Z\nRRULE:{rule}\nSUMMARY:{number}"
        (folder / f"{number}.ics").write_text(f"BEGIN:VCALENDAR\nBEGIN:VEVENT\n{lines}\nEND:VEVENT\nEND:VCALENDAR\n")
    made = await bench.done("create_event", await bench.start(), calendar="default", **GOOD)
    from tests.server.engine.bench import ALICE

    from takeback.server.engine.calls import Call

    for _ in range(2):  # the second one from what was parsed for the first
        answer = await bench.engine.read(
            Call(
                tool="list_events",
                arguments={"calendar": "default", "start": "2026-01-01", "end": "2027-01-01"},
                caller=ALICE,
                run_id=None,
            )
        )
        assert answer.result is not None, answer
        assert [each["event_id"] for each in answer.result["events"]] == [(made.result or {})["event_id"]]
        assert len(answer.result["unreadable"]) == 3


def test_digits_of_other_scripts_are_no_digits() -> None:
    with pytest.raises(ValueError, match="cannot"):
        rule_parts("FREQ=DAILY;COUNT=1\u0660")
