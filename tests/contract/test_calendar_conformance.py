"""The calendar tools and their system pass the kit, on the calendar in the data directory."""

import contextlib
import dataclasses
import sqlite3

import pytest
import pytest_asyncio

from takeback.tools.calendar.family import CalendarFamily
from takeback.tools.calendar.read_tools import GetEventTool, ListCalendarsTool, ListEventsTool
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.calendar.write_tools import CreateEventTool, DeleteEventTool, UpdateEventTool
from takeback.tools.conformance import SystemConformance, ToolConformance, World, kit_services
from takeback.tools.outbox.port import Carrier


class Nowhere(Carrier):
    name = "mail:default"

    async def deliver(self, message, content):
        raise AssertionError("nothing is sent here")


def event(uid, summary, *more):
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//somebody//else//EN",
        "BEGIN:VEVENT",
        f"UID:{uid}",
        "DTSTAMP:20260101T000000Z",
        "DTSTART:20260302T100000Z",
        "DTEND:20260302T103000Z",
        f"SUMMARY:{summary}",
        "X-COLOUR;X-WHY=because:blue",
        *more,
        "END:VEVENT",
        "END:VCALENDAR",
        "",
    ]
    return "\r\n".join(lines).encode()


@pytest.fixture(params=[False, True], ids=["native", "portable"])
def services(request, tmp_path):
    return dataclasses.replace(kit_services(tmp_path), portable_files=request.param)


@pytest.fixture
def folder(services):
    folder = services.data / "calendar" / "default"
    folder.mkdir(parents=True)
    (folder / "standup.ics").write_bytes(
        event("standup", "Standup", "RRULE:FREQ=WEEKLY;COUNT=9", "ATTENDEE:mailto:a@b.c")
    )
    (folder / "lunch.ics").write_bytes(event("lunch", "Lunch"))
    return folder


@pytest_asyncio.fixture
async def family(services, folder):
    family = await CalendarFamily.open(services)
    yield family
    await family.close()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".ics"}


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".ics")


class CalendarTool(ToolConformance):
    @pytest.fixture
    def tool(self, family):
        return next(tool for tool in family.tools if isinstance(tool, self.tool_class))

    @pytest.fixture
    def world(self, folder):
        return World(lambda: contents(folder), leftovers=lambda: hidden(folder))

    @pytest.fixture
    def objects(self, services):
        return services.objects

    @pytest.fixture
    def systems(self, family):
        return family.systems


class TestListCalendars(CalendarTool):
    tool_class = ListCalendarsTool
    examples = [{}]


class TestListEvents(CalendarTool):
    tool_class = ListEventsTool
    examples = [{"calendar": "default", "start": "2026-03-01", "end": "2026-04-01", "query": "stand"}]
    refused = [
        {"calendar": "nowhere", "start": "2026-03-01", "end": "2026-04-01"},
        {"calendar": "default", "start": "2026-03-01", "end": "2026-02-01"},
        {"calendar": "default", "start": "today", "end": "2026-04-01"},
    ]


class TestGetEvent(CalendarTool):
    tool_class = GetEventTool
    examples = [{"calendar": "default", "event_id": "standup"}]
    refused = [{"calendar": "default", "event_id": "../standup"}, {"calendar": "default", "event_id": "nothing"}]


class ChangingTool(CalendarTool):
    @pytest.fixture
    def world(self, folder):
        def edit():
            for path in list(folder.glob("*.ics")):
                path.write_bytes(event(path.stem, "theirs", "LOCATION:theirs"))
            for name in ("standup", "lunch"):
                (folder / f"{name}.ics").write_bytes(event(name, "theirs", "LOCATION:theirs"))

        return World(lambda: contents(folder), foreign_edit=edit, leftovers=lambda: hidden(folder))


class TestCreateEvent(ChangingTool):
    tool_class = CreateEventTool
    examples = [
        {
            "calendar": "default",
            "summary": "A",
            "start": "2026-03-01T10:00",
            "end": "2026-03-01T11:00",
            "timezone": "Europe/Berlin",
        },
        {
            "calendar": "default",
            "summary": "B",
            "start": "2026-03-01",
            "end": "2026-03-02",
            "recurrence": "FREQ=YEARLY",
        },
    ]
    refused = [
        {"calendar": "default", "summary": "A", "start": "2026-03-01", "end": "2026-03-01"},
        {
            "calendar": "default",
            "summary": "A",
            "start": "2026-03-01",
            "end": "2026-03-02",
            "recurrence": "FREQ=SECONDLY",
        },
        {
            "calendar": "default",
            "summary": "A",
            "start": "2026-03-01T10:00",
            "end": "2026-03-02T10:00",
            "timezone": "Mars/X",
        },
    ]


class TestUpdateEvent(ChangingTool):
    # a split of a series writes two files, one after the other: that is held to its promises in test_calendar of the engine
    tool_class = UpdateEventTool
    examples = [
        {"calendar": "default", "event_id": "standup", "summary": "Sit-down"},
        {"calendar": "default", "event_id": "standup", "summary": "Once", "occurrence": "2026-03-09T10:00:00Z"},
        {"calendar": "default", "event_id": "standup", "location": "There", "range": "all"},
    ]
    refused = [
        {"calendar": "default", "event_id": "standup"},
        {"calendar": "default", "event_id": "standup", "summary": "x", "occurrence": "2026-03-10T10:00:00Z"},
        {"calendar": "default", "event_id": "lunch", "summary": "x", "range": "following"},
    ]


class TestDeleteEvent(ChangingTool):
    tool_class = DeleteEventTool
    examples = [
        {"calendar": "default", "event_id": "lunch"},
        {"calendar": "default", "event_id": "standup", "occurrence": "2026-03-09T10:00:00Z"},
        {"calendar": "default", "event_id": "standup", "occurrence": "2026-03-16T10:00:00Z", "range": "following"},
    ]
    refused = [
        {"calendar": "default", "event_id": "nothing"},
        {"calendar": "default", "event_id": "lunch", "range": "this"},
    ]


class Told(CalendarTool):
    """The same tools where guests are told by messages that are held along with the event."""

    # the kit takes back each system by itself; what holds two of them together is the engine's (its test_guests)
    test_what_others_changed_is_kept = None

    @pytest.fixture
    def services(self, tmp_path):
        services = dataclasses.replace(
            kit_services(tmp_path), calendars={"default": CalendarSettings(mailbox="default")}
        )
        services.outbox.carriers = {"mail:default": Nowhere()}
        yield services
        services.outbox.close()

    @pytest.fixture
    def world(self, folder, services):
        def edit():
            for name in ("standup", "lunch"):
                (folder / f"{name}.ics").write_bytes(event(name, "theirs", "LOCATION:theirs"))

        def snapshot():
            with contextlib.closing(sqlite3.connect(services.data / "outbox" / "outbox.db")) as db:
                there = db.execute("SELECT name FROM sqlite_master WHERE name = 'messages'").fetchone()
                rows = "SELECT id, message FROM messages WHERE status <> 'CANCELLED' ORDER BY id"
                return contents(folder), db.execute(rows).fetchall() if there else []

        (services.data / "outbox").mkdir(exist_ok=True)
        return World(snapshot, foreign_edit=edit, leftovers=lambda: hidden(folder))

    @pytest.fixture
    def systems(self, family, services):
        return (*family.systems, services.outbox)


class TestCreateEventAndTell(Told):
    tool_class = CreateEventTool
    examples = [{**TestCreateEvent.examples[0], "attendees": ["ada@example.org"], "hold_seconds": 60}]
    refused = [
        {**TestCreateEvent.examples[0], "attendees": ["ada@example.org"], "hold_seconds": 1e9},
        {**TestCreateEvent.examples[0], "attendees": ["ada@example.org"], "summary": "=?utf-8?q?a=0D=0ABcc:_b@c.d?="},
        {**TestCreateEvent.examples[0], "attendees": ["ada@example"]},
    ]


class TestUpdateEventAndTell(Told):
    tool_class = UpdateEventTool
    examples = [{"calendar": "default", "event_id": "standup", "summary": "Sit-down", "attendees": ["e@f.gh"]}]


class TestDeleteEventAndTell(Told):
    tool_class = DeleteEventTool
    examples = [{"calendar": "default", "event_id": "standup"}]


class TestCalendarSystem(SystemConformance):
    contents = [
        ("default//standup.ics", event("standup", "Changed")),
        ("default//lunch.ics", event("lunch", "Brunch", "LOCATION:Here")),
        ("default//new.ics", event("new", "New")),
    ]
    foreign = event("foreign", "theirs", "LOCATION:theirs")

    @pytest.fixture
    def system(self, family):
        return family.systems[0]

    @pytest.fixture
    def world(self, folder):
        return World(lambda: contents(folder))

    @pytest.fixture
    def missing(self):
        return "default//nothing.ics"

    async def test_crash_at_any_line_of_swap_can_be_settled(self, system, world, effects):
        """Each event by itself: a folder cannot replace several files in one step, which `swap` says in its warnings."""
        for effect in effects:
            await super().test_crash_at_any_line_of_swap_can_be_settled(system, world, [effect])
