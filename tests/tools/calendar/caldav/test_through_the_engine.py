"""A calendar on a real server, used by an agent and taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.server.engine.reaper import Died, Reaper, interpose
from tests.tools.calendar.caldav.conftest import Radicale
from tests.tools.calendar.caldav.odd_server import OddServer, answer

from takeback.journal.ids import RunId
from takeback.journal.views import ActionView
from takeback.server.engine.engine import Engine
from takeback.server.settings import ToolSettings
from takeback.tools.calendar.caldav.store import CaldavStore
from takeback.tools.calendar.port import Resource
from takeback.tools.calendar.settings import CalendarSettings

SERIES = {
    "summary": "Review",
    "start": "2026-12-01T10:00",
    "end": "2026-12-01T11:00",
    "timezone": "Europe/Berlin",
    "recurrence": "FREQ=WEEKLY;COUNT=6",
}


async def test_a_run_on_a_server_is_taken_back_to_the_last_byte(
    radicale: Radicale, store: CaldavStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALENDAR_PASSWORD", radicale.password)
    there = CalendarSettings(url=radicale.url, username=radicale.user, password_variable="CALENDAR_PASSWORD")
    engine = await Engine.open(settings_for(tmp_path, tools=ToolSettings(), calendars={"work": there}))
    bench = Bench(engine, tmp_path / "work")
    try:
        before = await bench.start("what was there before")
        kept = await bench.done("create_event", before, calendar="work", **{**SERIES, "summary": "Kept"})
        event_id = str((kept.result or {})["event_id"])
        whole = await _whole(store)
        assert len(whole) == 1

        run = await bench.start("move everything")
        await bench.done("create_event", run, calendar="work", **SERIES)
        await bench.done(
            "update_event", run, calendar="work", event_id=event_id, occurrence="2026-12-15T10:00", range="this",
            summary="Kept, but later", start="2026-12-15T14:00", end="2026-12-15T15:00",
        )  # fmt: skip
        await bench.done(
            "update_event", run, calendar="work", event_id=event_id, occurrence="2026-12-22T10:00", range="following",
            location="Room 2",
        )  # fmt: skip
        await bench.done("delete_event", run, calendar="work", event_id=event_id, range="all")
        assert await _whole(store) != whole

        answer = await engine.rollback(ALICE, run_id=run)
        assert answer.status == "complete", answer.report
        assert await _whole(store) == whole, "bytes and ETags"
    finally:
        await engine.close()


async def test_a_death_at_any_step_on_a_server_is_settled_by_what_is_there(
    radicale: Radicale, store: CaldavStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALENDAR_PASSWORD", radicale.password)
    there = CalendarSettings(url=radicale.url, username=radicale.user, password_variable="CALENDAR_PASSWORD")
    for at in range(1, 50):
        settings = settings_for(tmp_path, tools=ToolSettings(), calendars={"work": there})
        engine = await Engine.open(settings)
        run = (await engine.start_run(ALICE, f"death {at}")).run_id
        reaper = Reaper(at)
        interpose(engine.core, reaper)
        try:
            await Bench(engine, tmp_path).call(
                "create_event", run, calendar="work", **{**SERIES, "summary": f"Try {at}"}
            )
        except Died:
            pass
        else:
            await engine.close()
            break
        await engine.core.journal.close()  # the process is gone, and what it held with it
        await engine.core.systems["calendar"].close()  # type: ignore[attr-defined] -- the system of calendars
        engine = await Engine.open(settings)
        try:
            action = (await engine.core.journal.find(ActionView, run_id=RunId(run)))[:1]
            stands = bool(action) and action[0].stands
            assert bool(await _whole(store)) == stands, f"death {at}: {action}"
            if stands:
                answer = await engine.rollback(ALICE, run_id=run)
                assert answer.status == "complete", (at, answer.report)
            assert await _whole(store) == []
        finally:
            await engine.close()
    else:
        pytest.fail("it never came to its end")
    assert at > 4


async def test_a_server_that_mails_guests_by_itself_is_sent_nothing_before_a_person_agrees(
    odd: OddServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALENDAR_PASSWORD", "secret")
    odd.says("OPTIONS", answer(200, DAV="1, calendar-access, calendar-auto-schedule"))
    odd.says("GET", answer(404))
    odd.says("REPORT", answer(207, b'<multistatus xmlns="DAV:"/>', Content_Type="application/xml"))
    there = CalendarSettings(url=odd.url, username="anna", password_variable="CALENDAR_PASSWORD")
    engine = await Engine.open(settings_for(tmp_path, tools=ToolSettings(), calendars={"work": there}))
    bench = Bench(engine, tmp_path / "work")
    try:
        run = await bench.start()
        asked = await bench.call("create_event", run, calendar="work", attendees=["eve@example.org"], **SERIES)
        assert asked.status == "pending_approval", asked
        assert "guests" in str(asked.question)
        assert "PUT" not in odd.methods()
    finally:
        await engine.close()


async def test_acts_taken_back_out_of_order_on_a_server_that_orders_lines_are_merged(
    radicale: Radicale, store: CaldavStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALENDAR_PASSWORD", radicale.password)
    there = CalendarSettings(url=radicale.url, username=radicale.user, password_variable="CALENDAR_PASSWORD")
    engine = await Engine.open(settings_for(tmp_path, tools=ToolSettings(), calendars={"work": there}))
    bench = Bench(engine, tmp_path / "work")
    try:
        made = await bench.done("create_event", await bench.start(), calendar="work", location="Room 1", **SERIES)
        event = {"calendar": "work", "event_id": str((made.result or {})["event_id"])}
        whole = await _whole(store)
        run = await bench.start()
        actions = [
            (await bench.done("update_event", run, **event, **change)).action_id
            for change in ({"location": ""}, {"description": "ours"}, {"summary": "ours"})
        ]
        person = (await _whole(store))[0]
        assert person is not None
        data = person.data.replace(b"END:VEVENT", b"X-THEIRS:1\r\nEND:VEVENT")
        assert radicale.person("PUT", person.name, data=data).status_code == 204
        first = await engine.rollback(ALICE, run_id=run, actions=actions[:1])
        assert [step.outcome for step in first.steps] == ["merged"], first.report
        planned = await engine.rollback(ALICE, run_id=run, dry_run=True)
        back = await engine.rollback(ALICE, run_id=run, plan_digest=planned.plan_digest)
        assert [step.outcome for step in back.steps] == ["merged", "merged"], back.report
        now = (await _whole(store))[0]
        assert now is not None and whole[0] is not None
        assert b"X-THEIRS:1" in now.data and b"ours" not in now.data and b"LOCATION:Room 1" in now.data
    finally:
        await engine.close()


async def _whole(store: CaldavStore) -> list[Resource | None]:
    return list(await store.read([name for name, _ in await store.names()]))
