"""Guests of events: told by messages that are held with the act, never if it is taken back in time, and put right otherwise."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import SMTP as SMTP_POLICY
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.server.engine.guest_house import GUESTS, MEETING, SERIES, House, house

from takeback.journal.ids import RunId
from takeback.journal.views import ActionView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.engine.policy_rules import MoreThan, Rule, RulesPolicy, When
from takeback.server.settings import ToolSettings
from takeback.tools.calendar.settings import CalendarSettings, check_names
from takeback.tools.system import Refused

__all__ = ["house"]


async def test_an_invitation_is_held_and_taken_back_before_any_guest_hears_of_it(house: House):
    run = await house.bench.start()
    answer = await house.bench.call("create_event", run, calendar="work", attendees=GUESTS, **MEETING)
    assert (answer.status, answer.reversibility) == ("held", "compensable")
    assert answer.release_at is not None
    assert answer.result is not None
    assert answer.result["told"] == GUESTS
    assert answer.result["guests_told"] is True
    assert len(house.contents()) == 1
    [row] = await house.rows()
    assert (row.status, row.id) == ("HELD", answer.result["outbox_ids"][0])  # type: ignore[index,call-overload] -- JSON
    back = await house.bench.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["restored"], back.report
    assert house.contents() == {}
    assert await house.send() == []
    assert await house.statuses() == ["CANCELLED"]
    assert (await house.engine.redo(ALICE, back.rollback_id)).status == "complete"
    [heard] = await house.send()
    assert heard.short == ("REQUEST", tuple(GUESTS), 0, "")


async def test_guests_get_the_event_as_their_programs_read_it(house: House):
    run = await house.bench.start()
    made = await house.act(
        "create",
        run,
        attendees=GUESTS,
        **{**MEETING, "summary": "Grüße, alle; hier"},
        description="two\nlines",
        location="R2",
    )
    [heard] = await house.send()
    assert heard.uid == made["event_id"]
    assert (heard.organizer, heard.attendees) == ("me@example.org", tuple(GUESTS))
    assert (heard.subject, heard.summary) == ("Invitation: Grüße, alle; hier", "Grüße, alle; hier")
    for each in ("Grüße, alle; hier", "2027-03-01T10:00:00", "Europe/Berlin", "R2", "two", "me@example.org"):
        assert each in heard.text
    assert b"Bcc" not in house.sink.taken[0][1]


async def test_an_invitation_that_went_out_is_cancelled_with_a_persons_consent(house: House):
    run = await house.bench.start()
    await house.act("create", run, attendees=GUESTS, **MEETING)
    await house.send()
    planned = await house.bench.back(run_id=run, dry_run=True)
    assert [step.outcome for step in planned.steps] == ["irreversible"]
    assert "it went out at" in planned.steps[0].why
    assert len(house.contents()) == 1
    back = await house.bench.back(run_id=run)
    assert (back.status, [step.outcome for step in back.steps]) == ("partial", ["irreversible"])
    assert "all else is as it was before" in back.steps[0].why
    assert house.contents() == {}
    [item] = await house.items()
    assert item.kind == "irreversible"
    assert "takeback outbox approve" in item.next_step
    assert await house.send() == [], "nothing leaves without consent"
    again = await house.bench.back(run_id=run)
    assert [step.outcome for step in again.steps] == ["irreversible"]
    assert await house.statuses() == ["SENT", "WAITING"], "proposed once"
    with pytest.raises(EngineError, match="it is not brought back"):
        await house.engine.redo(ALICE, back.rollback_id)
    [heard] = await house.agree()
    assert heard.short == ("CANCEL", tuple(GUESTS), 1, "")
    assert (heard.status, heard.attendees, heard.organizer) == ("CANCELLED", tuple(GUESTS), "me@example.org")
    assert "Review" not in heard.subject
    assert await house.items() == []
    [action] = await house.core.journal.find(ActionView, run_id=RunId(run))
    assert not action.stands


async def test_each_guest_hears_what_concerns_them_and_each_is_put_right(house: House):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **MEETING)
    await house.send()
    before = house.contents()
    other = await house.bench.start()
    await house.act(
        "update", other, event_id=made["event_id"], summary="Other", attendees=["ada@example.org", "eve@example.org"]
    )
    heard = await house.send()
    assert sorted(each.short for each in heard) == [
        ("CANCEL", ("bob@example.com",), 1, ""),
        ("REQUEST", ("ada@example.org",), 1, ""),
        ("REQUEST", ("eve@example.org",), 1, ""),
    ]
    assert {each.to[0]: each.subject.partition(":")[0] for each in heard} == {
        "ada@example.org": "Updated invitation",
        "eve@example.org": "Invitation",
        "bob@example.com": "Cancelled",
    }
    assert {each.status for each in heard} == {""}, "the event itself takes place"
    back = await house.bench.back(run_id=other)
    assert [step.outcome for step in back.steps] == ["irreversible"]
    [(name, now)] = house.contents().items()
    assert now == before[name].replace(b"SEQUENCE:0", b"SEQUENCE:2"), "all else is as it was"
    heard = await house.agree()
    assert sorted((each.method, each.to, each.summary, each.sequence >= 2) for each in heard) == [
        ("CANCEL", ("eve@example.org",), "Other", True),
        ("REQUEST", ("ada@example.org",), "Review", True),
        ("REQUEST", ("bob@example.com",), "Review", True),
    ]
    assert await house.items() == []


async def test_a_deleted_event_that_guests_were_told_of_comes_back_newer_than_its_cancellation(house: House):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **MEETING)
    await house.send()
    before = house.contents()
    other = await house.bench.start()
    await house.act("delete", other, event_id=made["event_id"])
    [heard] = await house.send()
    assert heard.short == ("CANCEL", tuple(GUESTS), 1, "")
    await house.bench.back(run_id=other)
    assert house.contents() == {name: data.replace(b"SEQUENCE:0", b"SEQUENCE:2") for name, data in before.items()}
    [heard] = await house.agree()
    assert heard.short == ("REQUEST", tuple(GUESTS), 2, "")


async def test_a_run_whose_guests_were_told_twice_is_taken_back_whole_with_rising_numbers(house: House):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **MEETING)
    await house.send()
    await house.act("update", run, event_id=made["event_id"], summary="Other")
    await house.send()
    back = await house.bench.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["irreversible", "irreversible"]
    assert house.contents() == {}
    heard = {each.method: each for each in await house.agree()}
    assert heard["REQUEST"].summary == "Review"
    assert 1 < heard["REQUEST"].sequence < heard["CANCEL"].sequence
    assert await house.items() == []
    # the same event made anew must not look older than its own cancellation
    await house.act("create", run, attendees=GUESTS, **MEETING)
    [again] = await house.send()
    assert again.uid == heard["CANCEL"].uid
    assert again.sequence > heard["CANCEL"].sequence


OCCURRENCE = "2027-03-15T10:00"


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("update", {"occurrence": OCCURRENCE, "location": "R2"}, [("REQUEST", 1, "2027-03-15")]),
        ("update", {"occurrence": OCCURRENCE, "range": "all", "location": "R2"}, [("REQUEST", 1, "")]),
        (
            "update",
            {"occurrence": OCCURRENCE, "range": "following", "location": "R2"},
            [("REQUEST", 1, ""), ("REQUEST", 1, "")],
        ),
        ("delete", {"occurrence": OCCURRENCE}, [("CANCEL", 1, "2027-03-15")]),
        ("delete", {"occurrence": OCCURRENCE, "range": "following"}, [("REQUEST", 1, "")]),
        ("delete", {}, [("CANCEL", 1, "")]),
    ],
    ids=["one", "series", "following", "one gone", "following gone", "all gone"],
)
async def test_parts_of_a_series_are_told_and_taken_back(
    house: House, tool: str, arguments: dict[str, Any], expected: list[tuple[str, int, str]]
):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **SERIES)
    await house.send()
    before = house.contents()
    for late in (False, True):
        other = await house.bench.start()
        await house.act(tool, other, event_id=made["event_id"], **arguments)
        if not late:
            back = await house.bench.back(run_id=other)
            assert back.status == "complete", back.report
            assert house.contents() == before
            assert await house.send() == []
            continue
        heard = await house.send()
        assert sorted((each.method, each.sequence, each.occurrence) for each in heard) == expected
        assert {each.to for each in heard} == {tuple(GUESTS)}
        await house.bench.back(run_id=other)
        [(name, now)] = house.contents().items()
        assert now == before[name].replace(b"SEQUENCE:0", b"SEQUENCE:2"), "back to the last byte but for its number"
        put_right = await house.agree()
        assert all(each.sequence > 1 for each in put_right)
        assert {each.method for each in put_right if each.uid == made["event_id"]} == {"REQUEST"}
        gone = [each for each in put_right if each.uid != made["event_id"]]
        assert [each.method for each in gone] == ["CANCEL"] * (len(expected) - 1)
        assert await house.items() == []


async def test_a_guests_answer_is_kept(house: House):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **MEETING)
    await house.send()
    other = await house.bench.start()
    await house.act("update", other, event_id=made["event_id"], summary="Other", attendees=[*GUESTS, "eve@example.org"])
    house.person(made["event_id"], b"ATTENDEE;RSVP=TRUE:mailto:ada", b"ATTENDEE;PARTSTAT=ACCEPTED:mailto:ada")
    back = await house.bench.back(run_id=other)
    assert [step.outcome for step in back.steps] == ["merged"], back.report
    assert await house.send() == []
    [data] = house.contents().values()
    assert b"PARTSTAT=ACCEPTED:mailto:ada" in data
    assert b"SUMMARY:Review" in data
    assert b"eve" not in data


async def test_what_cannot_be_merged_is_left_and_its_message_waits_for_a_person(house: House):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **MEETING)
    await house.send()
    first = house.contents()
    other = await house.bench.start()
    await house.act("update", other, event_id=made["event_id"], summary="Ours")
    house.person(made["event_id"], b"SUMMARY:Ours", b"SUMMARY:Theirs")
    before = house.contents()
    back = await house.bench.back(run_id=other)
    assert [step.outcome for step in back.steps] == ["conflict"]
    assert house.contents() == before
    assert await house.statuses() == ["LATE", "SENT"]
    assert await house.send() == []
    [item] = await house.items()
    chosen = await house.engine.resolve_conflict(ALICE, item.id, "ours")
    assert chosen.status == "complete", chosen
    assert house.contents() == first
    assert await house.statuses() == ["CANCELLED", "SENT"], "the message goes with what it is about"
    actions = await house.core.journal.find(ActionView, run_id=RunId(other))
    assert [action.stands for action in actions] == [False]


async def test_a_conflict_over_what_guests_were_told_proposes_nothing_until_it_is_settled(house: House):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **MEETING)
    await house.send()
    other = await house.bench.start()
    await house.act("update", other, event_id=made["event_id"], summary="Ours")
    await house.send()
    house.person(made["event_id"], b"SUMMARY:Ours", b"SUMMARY:Theirs")
    back = await house.bench.back(run_id=other)
    assert [step.outcome for step in back.steps] == ["conflict"]
    assert "still holds" in back.steps[0].why
    assert await house.statuses() == ["SENT", "SENT"]
    [item] = await house.items()
    chosen = await house.engine.resolve_conflict(ALICE, item.id, "ours")
    assert "roll back once more" in chosen.steps[0].why
    again = await house.bench.back(run_id=other)
    assert [step.outcome for step in again.steps] == ["irreversible"]
    [heard] = await house.agree()
    assert (heard.method, heard.summary, heard.sequence) == ("REQUEST", "Review", 2)
    assert await house.items() == []


async def test_each_message_of_an_act_is_reported_as_what_it_is(house: House):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=[*GUESTS, "cy@example.org"], **MEETING)
    await house.send()
    before = house.contents()
    other = await house.bench.start()
    await house.act(
        "update", other, event_id=made["event_id"], summary="Other", attendees=["ada@example.org", "eve@example.org"]
    )
    held = {row.message.recipients[0]: row.id for row in await house.rows() if row.status == "HELD"}
    assert len(held) == 3
    outbox = house.core.outbox
    assert await outbox.move(held["ada@example.org"], "SENT", only=("HELD",))
    assert await outbox.move(held["eve@example.org"], "UNKNOWN", only=("HELD",))
    assert await outbox.move(held["bob@example.com"], "LATE", only=("HELD",))
    back = await house.bench.back(run_id=other)
    [step] = back.steps
    assert step.outcome == "irreversible"
    for each in ("the message to ada@example.org went out", "nobody knows whether the message to eve@example.org"):
        assert each in step.why
    assert "bob" not in step.why, "that one was cancelled"
    [(name, now)] = house.contents().items()
    assert now == before[name].replace(b"SEQUENCE:0", b"SEQUENCE:2")
    status = {row.message.recipients[0]: row.status for row in await house.rows() if not row.corrects}
    assert (status["bob@example.com"], status["eve@example.org"]) == ("CANCELLED", "UNKNOWN")
    assert [each.short[:2] for each in await house.agree()] == [("REQUEST", ("ada@example.org",))]
    assert await house.items() != [], "eve is still open"
    await house.engine.desk.settle(ALICE, held["eve@example.org"], sent=True)
    again = await house.bench.back(run_id=other)
    assert [step.outcome for step in again.steps] == ["irreversible"]
    assert [each.short[:2] for each in await house.agree()] == [("CANCEL", ("eve@example.org",))]
    assert await house.items() == []


async def test_a_lost_reply_is_no_ground_to_call_the_event_back_or_to_say_so(house: House):
    run = await house.bench.start()
    await house.act("create", run, attendees=GUESTS, **MEETING)
    house.sink.hang_up = True
    await house.send()
    house.sink.hang_up = False
    assert await house.statuses() == ["UNKNOWN"]
    back = await house.bench.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["failed"]
    assert "nobody knows" in back.steps[0].why
    assert house.contents() == {}
    assert await house.statuses() == ["UNKNOWN"], "nothing is proposed on a guess"


async def test_what_a_person_has_changed_by_hand_meanwhile_is_not_announced_as_if_it_were_so(house: House):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **MEETING)
    [kept] = house.contents().values()
    path = house.folder / f"{made['event_id']}.ics"
    path.unlink()
    assert await house.send() == []
    [row] = await house.rows()
    assert (row.status, row.detail) == ("LATE", "the event is not in the calendar any more")
    path.write_bytes(kept)
    await house.engine.desk.send_now(ALICE, row.id)
    assert [each.method for each in await house.send(1)] == ["REQUEST"]
    await house.act("delete", run, event_id=made["event_id"])
    path.write_bytes(kept)
    assert await house.send() == []
    assert await house.statuses() == ["LATE", "SENT"]


async def test_an_event_of_somebody_else_is_theirs_to_announce(house: House):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **MEETING)
    await house.send()
    house.person(made["event_id"], b"mailto:me@example.org", b"mailto:boss@example.org")
    await house.look(made["event_id"])
    answer = await house.bench.done("update_event", run, calendar="work", event_id=made["event_id"], summary="Mine")
    assert answer.reversibility == "reversible"
    assert any("No guest is told" in each for each in answer.warnings)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ATTENDEE;RSVP=TRUE:mailto:ada", b'ATTENDEE;CN="Ada^nATTENDEE:mailto:x@y.z":mailto:ada'),
        (b"ATTENDEE;RSVP=TRUE:mailto:ada", b'ATTENDEE;CN="Ada%0d%0aBcc: x@y.z":mailto:ada'),
        (b"SUMMARY:Review", b"SUMMARY:=?utf-8?q?a=0D=0ABcc:_x@y.z?="),
        (b"SUMMARY:Review", b"SUMMARY:Review\\nBcc: x@y.z"),
        (b"SUMMARY:Review", b"SUMMARY:Review\x0bBcc: x@y.z"),
        (b"SUMMARY:Review", b"SUMMARY:Review\r\nLOCATION:a\xe2\x80\xa8Bcc"),
    ],
    ids=["CN", "CN encoded", "encoded word", "line break", "control", "separator"],
)
async def test_what_could_become_a_line_of_its_own_is_sent_to_nobody(house: House, old: bytes, new: bytes):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **MEETING)
    await house.send()
    house.person(made["event_id"], old, new)
    await house.look(made["event_id"])
    before = house.contents()
    answer = await house.bench.call("update_event", run, calendar="work", event_id=made["event_id"], description="x")
    assert answer.status == "failed", answer
    assert answer.error is not None
    assert answer.error.code in ("bad_text", "invalid"), answer.error
    assert house.contents() == before
    assert await house.statuses() == ["SENT"]


@pytest.mark.parametrize(
    "guest",
    [
        "ATTENDEE:mailto:ada%0d%0aBcc:x@y.z",
        "ATTENDEE:mailto:a@b",
        "ATTENDEE:urn:uuid:1",
        "ATTENDEE:mailto:<a@b.cd>,<c@d.ef>",
        "ATTENDEE;SCHEDULE-AGENT=NONE:mailto:ada@example.org",
    ],
)
async def test_a_guest_whom_no_mail_can_reach_is_named_as_not_told(house: House, guest: str):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **MEETING)
    await house.send()
    house.person(made["event_id"], b"ATTENDEE;RSVP=TRUE:mailto:ada@example.org", guest.encode())
    await house.look(made["event_id"])
    answer = await house.bench.call("update_event", run, calendar="work", event_id=made["event_id"], location="x")
    assert answer.status == "held", answer
    assert any("Some guests are not told of this: nothing is sent to" in each for each in answer.warnings)
    [heard] = await house.send()
    assert heard.to == ("bob@example.com",)


async def test_guests_see_no_alarms_and_nothing_that_is_only_for_servers(house: House):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **MEETING)
    await house.send()
    house.person(
        made["event_id"],
        b"END:VEVENT",
        b"X-PRIVATE:mine\r\nBEGIN:VALARM\r\nACTION:DISPLAY\r\nTRIGGER:-PT5M\r\nDESCRIPTION:psst\r\nEND:VALARM\r\nEND:VEVENT",
    )
    house.person(made["event_id"], b"RSVP=TRUE:mailto:ada", b"SCHEDULE-STATUS=1.1:mailto:ada")
    await house.look(made["event_id"])
    await house.act("update", run, event_id=made["event_id"], location="R2")
    await house.send()
    part = list(message_from_bytes(house.sink.taken[-1][1], policy=SMTP_POLICY).iter_parts())[1]
    text = part.get_payload(decode=True)
    for each in (b"VALARM", b"X-PRIVATE", b"SCHEDULE-", b"psst"):
        assert each not in text


async def test_how_many_guests_are_told_counts_for_policies_and_consent_is_for_them(house: House):
    few = Rule(id="few", when=When(more_than=MoreThan(recipients=1)), then="deny")
    house.core.policy = RulesPolicy([few])
    denied = await house.bench.call("create_event", None, calendar="work", attendees=GUESTS, **MEETING)
    assert denied.status == "denied", denied
    assert house.contents() == {}
    assert await house.rows() == []


async def test_without_a_window_a_person_is_asked_and_their_consent_is_good_for_the_same_call(house: House):
    run = await house.bench.start()
    call: dict[str, Any] = {"calendar": "work", "attendees": GUESTS, "hold_seconds": 0, **MEETING}
    asked = await house.bench.call("create_event", run, **call)
    assert asked.status == "pending_approval"
    assert "ada@example.org, bob@example.com" in str(asked.question)
    assert asked.approval_id is not None
    await house.engine.approve(ALICE, asked.approval_id, lane="test")
    answer = await house.bench.call("create_event", run, **call)
    assert answer.status == "held", answer
    assert len(await house.send(1)) == 1


async def test_the_calendar_of_the_data_directory_can_tell_guests_on_this_machine(tmp_path: Path):
    settings = settings_for(
        tmp_path,
        tools=ToolSettings(off=("files", "database")),
        calendars={"default": CalendarSettings(mailbox="default", organizer="Anna Berg <anna@example.org>")},
    )
    engine = await Engine.open(settings)
    try:
        bench = Bench(engine, tmp_path / "work")
        answer = await bench.call("create_event", None, calendar="default", attendees=["me@localhost"], **MEETING)
        assert answer.status == "held", answer
        assert any("only on this machine" in each for each in answer.warnings)
        [path] = (tmp_path / "data" / "calendar" / "default").glob("*.ics")
        assert b'ORGANIZER;CN="Anna Berg":mailto:anna@example.org' in path.read_bytes()
    finally:
        await engine.close()


async def test_a_mailbox_that_is_not_there_is_told_at_the_start(tmp_path: Path):
    calendars = {"default": CalendarSettings(mailbox="nowhere")}
    with pytest.raises(Refused, match="there is no such mailbox"):
        await Engine.open(settings_for(tmp_path, tools=ToolSettings(off=("files", "database")), calendars=calendars))


def test_only_the_default_calendar_needs_no_place_and_an_organizer_needs_a_mailbox():
    with pytest.raises(ValueError, match="needs either a path or a url"):
        check_names({"work": CalendarSettings(mailbox="default")})
    with pytest.raises(ValueError, match="an organizer needs the mailbox"):
        CalendarSettings(organizer="a@b.cd")


async def test_what_was_said_first_of_an_event_is_heard_first(house: House):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, hold_seconds=300, **MEETING)
    house.wall += 1
    await house.act("update", run, event_id=made["event_id"], summary="Other", hold_seconds=120)
    assert await house.send(181) == [], "an update waits for the invitation"
    assert [each.short[::2] for each in await house.send(300)] == [("REQUEST", 0), ("REQUEST", 1)]
