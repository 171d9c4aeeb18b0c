"""Guests of events on a server: told by the outbox where the server tells nobody, and never by both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.tools.calendar.caldav.conftest import Radicale
from tests.tools.calendar.caldav.odd_server import OddServer, Request, answer

from takeback.server.engine.engine import Engine
from takeback.server.engine.policy_rules import Rule, RulesPolicy
from takeback.server.engine.sender import Sender
from takeback.server.settings import ToolSettings
from takeback.tools.calendar.caldav.store import CaldavStore
from takeback.tools.calendar.invitations import calendar_in
from takeback.tools.calendar.port import Resource
from takeback.tools.calendar.settings import CalendarSettings

MEETING = {
    "summary": "Review",
    "start": "2027-03-01T10:00",
    "end": "2027-03-01T11:00",
    "timezone": "Europe/Berlin",
    "recurrence": "FREQ=WEEKLY;COUNT=6",
    "attendees": ["ada@example.org", "bob@example.com"],
}
EVENT = (
    b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:e\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:20270301T100000Z\r\n"
    b"SUMMARY:Old\r\nORGANIZER:mailto:me@localhost\r\n%sEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
AUTO = answer(200, DAV="1, calendar-access, calendar-auto-schedule")


class House:
    """An engine with one calendar whose guests are told from the mailbox of this machine."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.core, self.bench = engine, engine.core, Bench(engine, folder / "work")
        self.wall, self.steady = 1_800_000_000.0, 1000.0
        engine.core.outbox.now = lambda: self.wall
        self.sender = Sender(self.core, steady=lambda: self.steady)
        self.sent = folder / "data" / "mail" / "default" / ".Sent" / "cur"

    async def send(self) -> list[bytes]:
        """The iCalendar objects that leave when the window is over."""
        known = set(self.sent.glob("*")) if self.sent.exists() else set[Path]()
        await self.sender.round()
        self.wall, self.steady = self.wall + 121, self.steady + 121
        await self.sender.round()
        new = sorted(set(self.sent.glob("*")) - known) if self.sent.exists() else []
        return [calendar_in(path.read_bytes()) or b"" for path in new]


async def opened(url: str, user: str, tmp_path: Path) -> House:
    there = CalendarSettings(url=url, username=user, password_variable="CALENDAR_PASSWORD", mailbox="default")
    settings = settings_for(tmp_path, tools=ToolSettings(off=("files", "database")), calendars={"work": there})
    return House(await Engine.open(settings), tmp_path)


@pytest.fixture
async def house(radicale: Radicale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setenv("CALENDAR_PASSWORD", radicale.password)
    made = await opened(radicale.url, radicale.user, tmp_path)
    yield made
    await made.engine.close()


@pytest.fixture
async def scheduled(odd: OddServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """On a server that tells guests by itself, and keeps what it is given."""
    monkeypatch.setenv("CALENDAR_PASSWORD", "secret")
    odd.says("OPTIONS", AUTO)
    odd.says("GET", answer(404))
    odd.says("PUT", answer(201))
    odd.says("DELETE", answer(204))

    def keep(request: Request) -> None:
        if request.method == "PUT":
            odd.says("GET", answer(200, request.body, ETag='"1"'))
        elif request.method == "DELETE":
            odd.says("GET", answer(404))

    odd.on_request = keep
    made = await opened(odd.url, "anna", tmp_path)
    yield made
    await made.engine.close()


async def test_inside_the_window_bytes_and_etags_come_back_and_no_guest_hears(house: House, store: CaldavStore):
    first = await house.bench.call("create_event", None, calendar="work", **MEETING)
    assert first.status == "held"
    assert any("delivers only on this machine" in each for each in first.warnings)
    event_id = str((first.result or {})["event_id"])
    assert len(await house.send()) == 1
    before = await whole(store)
    run = await house.bench.start()
    acts: list[tuple[str, dict[str, Any]]] = [
        ("update_event", {"summary": "Other", "attendees": ["ada@example.org", "eve@example.org"]}),
        ("update_event", {"occurrence": "2027-03-15T10:00", "location": "R2"}),
        ("delete_event", {"occurrence": "2027-03-22T10:00"}),
        ("delete_event", {}),
    ]
    for tool, arguments in acts:
        answered = await house.bench.call(tool, run, calendar="work", event_id=event_id, **arguments)
        assert answered.status == "held", answered
    back = await house.engine.rollback(ALICE, run_id=run)
    assert back.status == "complete", back.report
    assert await whole(store) == before, "bytes and ETags"
    assert await house.send() == []


async def test_what_guests_were_told_is_put_right_from_what_the_server_keeps(house: House, store: CaldavStore):
    first = await house.bench.call("create_event", None, calendar="work", **MEETING)
    await house.send()
    run = await house.bench.start()
    event_id = str((first.result or {})["event_id"])
    await house.bench.call("update_event", run, calendar="work", event_id=event_id, summary="Other")
    [told] = await house.send()
    assert b"SUMMARY:Other" in told
    back = await house.engine.rollback(ALICE, run_id=run)
    assert [step.outcome for step in back.steps] == ["irreversible"], back.report
    [row] = [row for row in await house.core.outbox.rows(None) if row.status == "WAITING"]
    await house.engine.desk.approve(ALICE, row.id)
    [put_right] = await house.send()
    assert b"METHOD:REQUEST" in put_right
    assert b"SUMMARY:Review" in put_right
    assert b"SEQUENCE:2" in put_right
    [resource] = await whole(store)
    assert b"SEQUENCE:2" in (resource or Resource("", b"", "")).data


async def test_a_server_that_mails_by_itself_is_told_to_leave_new_guests_alone(scheduled: House, odd: OddServer):
    run = await scheduled.bench.start()
    answered = await scheduled.bench.call("create_event", run, calendar="work", **MEETING)
    assert answered.status == "held", answered
    [put] = [each for each in odd.seen if each.method == "PUT"]
    assert put.body.count(b"ATTENDEE;SCHEDULE-AGENT=CLIENT") == 2
    [told] = await scheduled.send()
    assert b"SCHEDULE-AGENT" not in told
    assert told.count(b"ATTENDEE") == 2
    event_id = str((answered.result or {})["event_id"])
    changed = await scheduled.bench.call("update_event", run, calendar="work", event_id=event_id, location="R2")
    assert changed.status == "held", "guests that are ours stay ours"


@pytest.mark.parametrize("agent", [b"", b";SCHEDULE-AGENT=SERVER"], ids=["unsaid", "said"])
async def test_guests_whom_the_server_tells_stay_the_servers(scheduled: House, odd: OddServer, agent: bytes):
    odd.says("GET", answer(200, EVENT % (b"ATTENDEE" + agent + b":mailto:ada@example.org\r\n"), ETag='"0"'))
    run = await scheduled.bench.start()
    asked = await scheduled.bench.call("update_event", run, calendar="work", event_id="e", summary="New")
    assert asked.status == "pending_approval", asked
    assert "mails guests by itself" in str(asked.question)
    assert await scheduled.core.outbox.rows(None) == []
    assert "PUT" not in odd.methods()


async def test_guests_whom_the_server_tells_count_as_people_who_are_written_to(scheduled: House, odd: OddServer):
    odd.says("GET", answer(200, EVENT % b"ATTENDEE:mailto:ada@example.org\r\n", ETag='"0"'))
    rule = {"id": "strangers", "when": {"addressed_beyond": ["*@example.com"]}, "then": "deny"}
    scheduled.core.policy = RulesPolicy([Rule.model_validate(rule)])
    arguments = {"calendar": "work", "event_id": "e", "attendees": ["ada@example.org", "eve@example.net"]}
    denied = await scheduled.bench.call("update_event", None, **arguments)
    assert denied.status == "denied", denied
    several = {"id": "several", "when": {"more_than": {"recipients": 2}}, "then": "deny"}
    scheduled.core.policy = RulesPolicy([Rule.model_validate(several)])
    assert (await scheduled.bench.call("update_event", None, **arguments)).status == "pending_approval"
    arguments["attendees"] = ["bob@example.org", "eve@example.net"]  # and she who is left out hears of it too
    assert (await scheduled.bench.call("update_event", None, **arguments)).status == "denied"


async def test_guests_whom_nobody_tells_on_a_server_that_leaves_them_alone_are_told_by_us(
    scheduled: House, odd: OddServer
):
    before = EVENT % b"ATTENDEE;SCHEDULE-AGENT=CLIENT:mailto:ada@example.org\r\n"
    odd.says("GET", answer(200, before, ETag='"0"'))
    run = await scheduled.bench.start()
    answered = await scheduled.bench.call("update_event", run, calendar="work", event_id="e", summary="New")
    assert answered.status == "held", answered
    back = await scheduled.engine.rollback(ALICE, run_id=run)
    assert back.status == "complete", back.report
    assert [each.body for each in odd.seen if each.method == "PUT"][-1] == before
    assert await scheduled.send() == []


async def whole(store: CaldavStore) -> list[Resource | None]:
    """Everything in the calendar."""
    return list(await store.read([name for name, _ in await store.names()]))
