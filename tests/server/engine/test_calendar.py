"""Calendars through the whole engine: acts, foreign edits between them, and everything taken back bit for bit."""

import random

import pytest
import pytest_asyncio
from tests.server.engine.bench import Bench, settings_for

from takeback.server.engine.engine import Engine
from takeback.server.settings import ToolSettings
from takeback.tools.calendar import vdir
from takeback.tools.calendar.lines import parse
from takeback.tools.calendar.vdir import VdirStore
from takeback.tools.system import Unavailable

SERIES = b"""BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Somebody//Else//EN
X-WR-CALNAME:Work
BEGIN:VEVENT
UID:standup
DTSTAMP:20260101T000000Z
DTSTART;TZID=Europe/Berlin:20260302T100000
DURATION:PT30M
RRULE:FREQ=WEEKLY;COUNT=10
EXDATE;TZID=Europe/Berlin:20260316T100000
SUMMARY:Stand-up with a line that is long enough to have been folded by whoever
  wrote it
X-Unknown;X-PARAM="a;b":kept
ATTENDEE;PARTSTAT=ACCEPTED:mailto:ada@example.com
BEGIN:VALARM
ACTION:DISPLAY
TRIGGER:-PT10M
DESCRIPTION:soon
END:VALARM
END:VEVENT
BEGIN:VEVENT
UID:standup
DTSTAMP:20260101T000000Z
RECURRENCE-ID;TZID=Europe/Berlin:20260406T100000
DTSTART;TZID=Europe/Berlin:20260406T140000
DTEND;TZID=Europe/Berlin:20260406T143000
SUMMARY:Afternoon
END:VEVENT
END:VCALENDAR
"""


@pytest_asyncio.fixture
async def bench(tmp_path):
    engine = await Engine.open(settings_for(tmp_path, tools=ToolSettings(off=("files", "database"))))
    engine.core.retry_pauses = ()
    yield Bench(engine, tmp_path / "work")
    await engine.close()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data" / "calendar" / "default"
    folder.mkdir(parents=True)
    (folder / "standup.ics").write_bytes(SERIES)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def starts(bench, begin="2026-03-01", end="2026-07-01"):
    answer = await bench.engine.read(_call("list_events", start=begin, end=end))
    assert answer.result, answer
    return [event["start"] for event in answer.result["events"]]


def _call(tool, **arguments):
    from tests.server.engine.bench import ALICE

    from takeback.server.engine.calls import Call

    return Call(tool=tool, arguments={"calendar": "default", **arguments}, caller=ALICE, run_id=None)


CASES = [
    {"summary": "Other"},
    {"start": "2026-03-02T11:00", "end": "2026-03-02T11:15"},
    {"attendees": ["ada@example.com", "bob@example.com"]},
    {"summary": "Once", "occurrence": "2026-03-09T10:00:00"},
    {"start": "2026-03-10T10:00", "occurrence": "2026-03-09T10:00:00"},
    {"summary": "Again", "occurrence": "2026-04-06T10:00:00"},
    {"summary": "Later", "occurrence": "2026-03-23T10:00:00", "range": "following"},
    {"start": "2026-03-23T12:00", "occurrence": "2026-03-23T10:00:00", "range": "following"},
    {"recurrence": "FREQ=WEEKLY;INTERVAL=2;COUNT=3"},
    None,
    {"occurrence": "2026-03-09T10:00:00"},
    {"occurrence": "2026-04-06T10:00:00"},
    {"occurrence": "2026-03-23T10:00:00", "range": "following"},
]


@pytest.mark.asyncio
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_what_was_changed_comes_back_to_the_last_byte(bench, folder, case):
    before = contents(folder)
    run = await bench.start()
    tool = "update_event" if case and {"summary", "start", "attendees", "recurrence"} & case.keys() else "delete_event"
    answer = await bench.done(tool, run, calendar="default", event_id="standup", **(case or {}))
    assert contents(folder) != before
    assert any("local to this machine" in each for each in answer.warnings)
    assert any("No guest is told" in each for each in answer.warnings)
    after = contents(folder).get("standup.ics", b"")
    for kept in (b'X-Unknown;X-PARAM="a;b":kept\n', b"  wrote it\n") if b"Stand-up" in after else ():
        assert kept in after
    await bench.back(run_id=run)
    assert contents(folder) == before


@pytest.mark.asyncio
async def test_a_split_keeps_number_and_times_of_the_occurrences(bench, folder):
    whole = await starts(bench)
    assert len(whole) == 9 and "2026-04-06T14:00:00" in whole
    await bench.done(
        "update_event",
        await bench.start(),
        calendar="default",
        event_id="standup",
        summary="Later",
        occurrence="2026-03-23T10:00:00",
        range="following",
    )
    assert len(contents(folder)) == 2
    assert await starts(bench) == whole


@pytest.mark.asyncio
async def test_a_moved_series_takes_its_exceptions_along(bench, folder):
    await bench.done(
        "update_event", await bench.start(), calendar="default", event_id="standup", start="2026-03-02T11:00"
    )
    moved = await starts(bench)
    assert len(moved) == 9
    assert "2026-03-16T11:00:00" not in moved and "2026-04-06T14:00:00" in moved and "2026-03-09T11:00:00" in moved


@pytest.mark.asyncio
async def test_a_foreign_edit_of_another_property_stays(bench, folder):
    run = await bench.start()
    await bench.done("update_event", run, calendar="default", event_id="standup", summary="Ours")
    path = folder / "standup.ics"
    path.write_bytes(path.read_bytes().replace(b"kept", b"theirs").replace(b"-PT10M", b"-PT5M"))
    await bench.back(run_id=run)
    now = path.read_bytes()
    assert b"theirs" in now and b"-PT5M" in now and b"Ours" not in now and b"SUMMARY:Stand-up" in now


@pytest.mark.asyncio
async def test_several_acts_are_taken_out_from_under_one_foreign_edit(bench, folder):
    run = await bench.start()
    for change in ({"summary": "Ours"}, {"location": "Ours"}, {"occurrence": "2026-03-09T10:00:00", "summary": "Ours"}):
        await bench.done("update_event", run, calendar="default", event_id="standup", **change)
    path = folder / "standup.ics"
    path.write_bytes(path.read_bytes().replace(b"kept", b"theirs", 1))
    answer = await bench.back(run_id=run)
    assert [step.outcome for step in answer.steps] == ["merged", "merged", "merged"], answer.report
    now = path.read_bytes()
    assert b"theirs" in now and b"Ours" not in now and b"SUMMARY:Stand-up" in now


@pytest.mark.asyncio
async def test_a_foreign_edit_of_the_same_property_is_a_conflict(bench, folder):
    run = await bench.start()
    await bench.done("update_event", run, calendar="default", event_id="standup", summary="Ours")
    path = folder / "standup.ics"
    path.write_bytes(path.read_bytes().replace(b"Ours", b"Theirs"))
    theirs = contents(folder)
    answer = await bench.back(run_id=run)
    assert [step.outcome for step in answer.steps] == ["conflict"]
    assert contents(folder) == theirs


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(12))
async def test_random_histories_are_undone_exactly(bench, folder, seed):
    chance = random.Random(seed)
    before = contents(folder)
    run = await bench.start()
    made = ["standup"]
    for number in range(6):
        if chance.random() < 0.4:
            day = f"2026-05-{chance.randint(1, 9):02}"
            answer = await bench.done(
                "create_event", run, calendar="default", summary=f"E{number}", start=f"{day}T10:00", end=f"{day}T11:00",
                timezone=chance.choice(["Europe/Berlin", "America/New_York", "floating"]), recurrence="FREQ=DAILY;COUNT=5",
            )  # fmt: skip
            made.append(answer.result["event_id"])
            continue
        tool = chance.choice(["update_event", "update_event", "delete_event"])
        listed = (await bench.engine.read(_call("list_events", start="2026-03-01", end="2026-07-01"))).result["events"]
        if not listed:
            break
        event = chance.choice(listed)
        span = chance.choice(["this", "following", "all"]) if event["occurrence"] else "all"
        more = {"occurrence": event["occurrence"], "range": span} if span != "all" else {}
        change = chance.choice([{"summary": f"S{number}"}, {"location": "Here"}, {"description": "a,b;c\nd"}])
        await bench.done(
            tool,
            run,
            calendar="default",
            event_id=event["event_id"],
            **more,
            **(change if tool == "update_event" else {}),
        )
    await bench.back(run_id=run)
    assert contents(folder) == before


@pytest.mark.asyncio
async def test_a_save_in_the_same_instant_is_not_lost(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.ics").write_bytes(SERIES)
    store = VdirStore(folder, tmp_path)
    [there] = await store.read(["a.ics"])
    theirs = SERIES.replace(b"Stand-up", b"Theirs")

    calls = None

    def exchange(*names):
        (folder / "a.ics").write_bytes(theirs)
        store._found.exchange = calls  # only once
        calls(*names)

    calls = store._found.exchange
    store._found.exchange = exchange
    answer = await store.write("a.ics", SERIES.replace(b"Stand-up", b"Ours"), there)
    assert answer.present.data == theirs
    assert contents(folder) == {"a.ics": theirs}


@pytest.mark.asyncio
async def test_links_and_foreign_files_are_left_alone(bench, folder, tmp_path):
    secret = tmp_path / "secret.ics"
    secret.write_bytes(SERIES)
    (folder / "link.ics").symlink_to(secret)
    (folder / "notes.txt").write_text("x")
    (folder / "two.ics").write_bytes(SERIES.replace(b"UID:standup", b"UID:other", 1))
    answer = await bench.engine.read(_call("list_events", start="2026-03-01", end="2026-07-01"))
    assert {event["event_id"] for event in answer.result["events"]} == {"standup"}
    assert any("several events" in each for each in answer.result["unreadable"])
    assert (
        await bench.call("delete_event", await bench.start(), calendar="default", event_id="link")
    ).status == "failed"
    assert secret.read_bytes() == SERIES


def test_what_is_not_edited_is_written_as_it_was():
    assert parse(SERIES).written() == SERIES
    assert parse(SERIES.replace(b"\n", b"\r\n")).written() == SERIES.replace(b"\n", b"\r\n")


@pytest.mark.asyncio
async def test_a_split_that_failed_half_way_leaves_nothing_or_can_be_repeated(bench, folder):
    before = contents(folder)
    system = bench.engine.core.systems["calendar"]
    store = system.store("default")
    write = store.write

    async def full(name, data, expected):
        if expected is None:
            raise OSError("the disk is full")
        return await write(name, data, expected)

    store.write = full
    run = await bench.start()
    arguments = {"event_id": "standup", "summary": "L", "occurrence": "2026-03-23T10:00:00", "range": "following"}
    answer = await bench.call("update_event", run, calendar="default", **arguments)
    assert answer.status != "applied"
    del store.write
    await bench.back(run_id=run)
    assert contents(folder) == before, answer


@pytest.mark.parametrize(
    ("rule", "times"),
    [
        ("FREQ=DAILY;COUNT=10", 10),
        ("FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH", 8),
        ("FREQ=MONTHLY;COUNT=6;BYDAY=1TU", 6),
        ("FREQ=YEARLY;COUNT=4;BYMONTH=9;BYMONTHDAY=1", 4),
        ("FREQ=MONTHLY;BYSETPOS=1;BYDAY=MO,TU,WE;COUNT=3", 3),
    ],
)
@pytest.mark.asyncio
@pytest.mark.parametrize("span", ["this", "following", "all"])
@pytest.mark.parametrize("tool", ["update_event", "delete_event"])
async def test_series_of_each_kind_are_changed_and_taken_back(bench, folder, rule, times, span, tool):
    begin, end = "2026-01-01", "2040-01-01"
    (folder / "standup.ics").unlink()
    made = await bench.done(
        "create_event", await bench.start(), calendar="default", summary="S", recurrence=rule,
        start="2026-09-01T09:00", end="2026-09-01T10:00", timezone="America/New_York",
    )  # fmt: skip
    whole, before = await starts(bench, begin, end), contents(folder)
    assert len(whole) == times
    run = await bench.start()
    more = {} if span == "all" else {"occurrence": whole[2], "range": span}
    change = {"summary": "T"} if tool == "update_event" else {}
    await bench.done(tool, run, calendar="default", event_id=made.result["event_id"], **more, **change)
    gone = {"this": whole[:2] + whole[3:], "following": whole[:2], "all": []}[span]
    assert await starts(bench, begin, end) == (whole if tool == "update_event" else gone)
    await bench.back(run_id=run)
    assert contents(folder) == before


@pytest.mark.parametrize("stays", [False, True], ids=["comes back", "stays full"])
async def test_a_series_that_could_not_be_split_whole_is_as_it_was_or_nobody_is_told_that_nothing_happened(
    bench, folder, monkeypatch, stays
):
    real, first = vdir._stage, []

    def full(calls, at, name, data, mode):
        """Room for the first of the two events; with `stays`, none to put it back either."""
        if data not in first and (first or data == SERIES) and (stays or data != SERIES):
            raise Unavailable("There is no room.", advice="Make room.")
        first.append(data)
        real(calls, at, name, data, mode)

    monkeypatch.setattr(vdir, "_stage", full)
    run = await bench.start()
    answer = await bench.call(
        "update_event",
        run,
        calendar="default",
        event_id="standup",
        occurrence="2026-04-20T10:00:00",
        range="following",
        summary="Ours",
    )
    changed = contents(folder) != {"standup.ics": SERIES}
    assert answer.status == ("in_doubt" if changed else "failed"), (answer, contents(folder))
    assert changed is stays
