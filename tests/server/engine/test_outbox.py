"""Messages that an act holds: cancelled inside their window, sent once after it, corrected if it was too late."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.server.engine.bench import ALICE, BOB, OpenBench, settings_for
from tests.server.engine.postoffice import PAPER, Post

from takeback.journal.ids import RunId
from takeback.journal.log import JournalBusy
from takeback.journal.views import ActionView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.engine.sender import Sender
from takeback.server.settings import OutboxSection
from takeback.tools.outbox.port import Outgoing
from takeback.tools.system import Unavailable


@pytest.fixture
async def post(open_bench: OpenBench) -> Post:
    return Post(await open_bench(**PAPER))


async def test_a_held_act_says_so_and_when_it_goes_out(post: Post):
    run = await post.bench.start()
    answer = await post.bench.call("post", run, to=["bob@example.org"], subject="Hi", body="x", idempotency_key="k")
    assert (answer.status, answer.reversibility) == ("held", "compensable")
    assert answer.release_at == "2027-01-15T08:02:00.000Z"
    assert answer.undo is not None
    assert answer.undo.until == answer.release_at
    again = await post.bench.call("post", run, to=["bob@example.org"], subject="Hi", body="x", idempotency_key="k")
    assert (again.status, again.action_id, again.release_at) == ("replayed", answer.action_id, answer.release_at)
    assert len(await post.core.outbox.rows(None)) == 1
    assert await post.told(run) == ["mail.held"]


async def test_without_a_window_a_person_is_asked_first(post: Post):
    answer = await post.bench.call("post", to=["bob@example.org"], subject="Hi", body="x", hold_seconds=0)
    assert answer.status == "pending_approval"
    assert await post.core.outbox.rows(None) == []


async def test_what_is_taken_back_inside_its_window_never_leaves_and_can_be_held_again(post: Post):
    run = await post.bench.start()
    id = await post.hold(run)
    back = await post.bench.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["restored"]
    assert await post.status(id) == "CANCELLED"
    await post.send()
    assert post.carrier.letters() == []
    assert (await post.engine.redo(ALICE, back.rollback_id)).status == "complete"
    row = await post.row(id)
    assert (row.status, row.release_at) == ("HELD", post.wall + 120)
    await post.send()
    assert post.carrier.letters() == [row.message.reference]
    assert await post.told(run) == ["mail.held", "mail.cancelled", "mail.held", "mail.sending", "mail.sent"]


async def test_a_message_leaves_once_when_its_time_has_come(post: Post):
    run = await post.bench.start()
    id = await post.hold(run)
    await post.send(119)
    assert post.carrier.letters() == []
    await post.send(1)
    await post.send()
    assert post.carrier.letters() == [(await post.row(id)).message.reference]
    assert await post.status(id) == "SENT"
    await post.new_sender().start()
    assert len(post.carrier.letters()) == 1


async def test_a_wall_clock_that_is_set_forward_does_not_shorten_a_window_that_a_sender_has_seen(post: Post):
    id = await post.hold(await post.bench.start())
    await post.sender.round()
    post.wall += 121
    await post.sender.round()
    assert await post.status(id) == "HELD"
    post.steady += 121
    await post.sender.round()
    assert await post.status(id) == "SENT"


async def test_a_message_that_went_out_is_corrected_with_a_persons_consent(post: Post):
    run = await post.bench.start()
    id = await post.hold(run, subject="Buy now", body="words of a model")
    await post.send()
    plan = await post.bench.back(run_id=run, dry_run=True)
    assert [step.outcome for step in plan.steps] == ["irreversible"], "what is foreseen is what will come of it"
    back = await post.bench.back(run_id=run)
    assert back.status == "partial"
    assert [step.outcome for step in back.steps] == ["irreversible"]
    [item] = await post.open_items()
    [correction] = [row for row in await post.core.outbox.rows(None) if row.corrects == id]
    assert "went out at 2027-01-15T08:02:01.000Z" not in item.next_step
    assert all(part in item.why for part in ("went out at 2027-01-15T08:02:01", "bob@example.org", correction.id))
    assert f"takeback outbox approve {correction.id}" in item.next_step
    await post.send(10_000)
    assert len(post.carrier.letters()) == 1  # nobody has agreed
    assert (await post.bench.back(run_id=run)).status == "partial"  # no second correction is made
    assert len([row for row in await post.core.outbox.rows(None) if row.corrects]) == 1

    await post.engine.desk.approve(ALICE, correction.id)
    await post.sender.round()
    sent = (post.carrier.folder / correction.message.reference.strip("<>")).read_bytes()
    original = (await post.row(id)).message.reference
    assert f"In-Reply-To: {original}\r\n".encode() in sent
    assert f"References: <first@example.org> {original}".encode() in sent.replace(b"\r\n ", b" ")
    assert b"Buy now" not in sent
    assert b"words of a model" not in sent
    assert await post.open_items() == []
    [action] = await post.core.journal.find(ActionView, run_id=RunId(run))
    assert (action.stands, action.undo_outcome) == (False, "compensated")


async def test_if_one_of_two_messages_is_gone_the_other_one_waits_for_a_person(post: Post):
    run = await post.bench.start()
    await post.hold(run, copies=2)
    first, second = await post.core.outbox.rows(None)
    await post.engine.desk.send_now(ALICE, first.id)
    await post.sender.round()
    await post.bench.back(run_id=run)
    await post.send()
    assert await post.status(second.id) == "LATE"
    assert post.carrier.letters() == [first.message.reference]


async def test_a_run_that_is_contained_sends_nothing(post: Post):
    run = await post.bench.start()
    id = await post.hold(run)
    await post.engine.contain_run(ALICE, run, "odd")
    await post.send()
    assert await post.status(id) == "HELD"
    await post.engine.release_run(ALICE, run, "")
    await post.sender.round()
    assert await post.status(id) == "SENT"


async def test_what_is_more_than_an_hour_late_waits_for_a_person(post: Post):
    run = await post.bench.start()
    id = await post.hold(run)
    await post.send(120 + 3601)
    assert await post.status(id) == "LATE"
    assert await post.told(run) == ["mail.held", "mail.late"]
    await post.engine.desk.send_now(ALICE, id)
    await post.sender.round()
    assert await post.status(id) == "SENT"


async def test_what_was_late_can_still_be_taken_back(post: Post):
    run = await post.bench.start()
    id = await post.hold(run)
    await post.send(120 + 3601)
    assert (await post.bench.back(run_id=run)).status == "complete"
    assert await post.status(id) == "CANCELLED"


async def test_what_cannot_be_sent_is_tried_again_with_longer_pauses_and_then_left_to_a_person(post: Post):
    run = await post.bench.start()
    id = await post.hold(run)
    post.carrier.mode = "away"
    await post.send()
    pauses = []
    while await post.status(id) == "HELD":
        pauses.append((await post.row(id)).release_at - post.wall)
        await post.send(pauses[-1])
    assert pauses == [15, 30, 60, 120, 240]
    assert await post.status(id) == "DEAD"
    [item] = await post.open_items()
    assert "could not be sent (6 attempts): nobody answers" in item.why
    post.carrier.mode = "well"
    await post.engine.desk.send_now(ALICE, id)
    assert await post.open_items() == []
    await post.sender.round()
    assert len(post.carrier.letters()) == 1


async def test_what_is_refused_for_good_is_not_tried_again(post: Post):
    id = await post.hold(await post.bench.start())
    post.carrier.mode = "refused"
    await post.send()
    assert await post.status(id) == "DEAD"


@pytest.mark.parametrize("sent", [True, False])
async def test_a_lost_reply_is_unknown_and_is_never_sent_again_by_itself(post: Post, sent: bool):
    run = await post.bench.start()
    id = await post.hold(run)
    post.carrier.mode = "lost, blind"
    await post.send()
    await post.send()
    await post.new_sender().start()
    assert await post.status(id) == "UNKNOWN"
    assert len(post.carrier.letters()) == 1
    [item] = await post.open_items()
    assert f"takeback outbox settle {id}" in item.next_step
    back = await post.bench.back(run_id=run)
    assert (back.status, back.steps[0].outcome) == ("partial", "conflict")
    assert "nobody knows whether" in back.steps[0].why
    await post.engine.desk.settle(ALICE, id, sent=sent)
    assert await post.status(id) == ("SENT" if sent else "LATE")
    assert len(post.carrier.letters()) == 1


async def test_a_lost_reply_is_settled_by_looking_at_the_other_side(post: Post):
    id = await post.hold(await post.bench.start())
    post.carrier.mode = "lost"
    await post.send()
    assert await post.status(id) == "UNKNOWN"
    await post.new_sender().start()
    assert await post.status(id) == "SENT"
    assert await post.open_items() == []


class Stopped(BaseException):
    """The process dies."""


STEPS = ("due", "claimed", "told", "delivered", "noted", "journaled")


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("step", STEPS)
async def test_wherever_the_sender_dies_the_message_is_sent_at_most_once_and_its_end_is_told(
    post: Post, step: str, blind: bool
):
    run = await post.bench.start()
    id = await post.hold(run)
    post.carrier.mode = "well, blind" if blind else "well"
    post.sender.on_step = _die_at(step)
    await post.sender.round()
    post.later(121)
    with pytest.raises(Stopped):
        await post.sender.round()
    post.sender = post.new_sender()
    await post.sender.start()
    await post.send()
    ended = await post.status(id)
    assert ended == ("UNKNOWN" if blind and step in ("told", "delivered") else "LATE" if step == "told" else "SENT")
    assert len(post.carrier.letters()) == (0 if step == "told" else 1)
    assert (await post.told(run))[-1] == f"mail.{ended.lower()}"
    assert (await post.told(run)).count("mail.sent") <= 1
    assert (await post.row(id)).told == ended


def _die_at(step: str) -> Callable[[str], None]:
    def on_step(at: str) -> None:
        if at == step:
            raise Stopped

    return on_step


async def test_of_cancel_and_send_exactly_one_wins_in_200_races(post: Post):
    won = {"SENT": 0, "CANCELLED": 0}
    for turn in range(200):
        run = await post.bench.start()
        id = await post.hold(run)
        await post.sender.round()
        post.later(121)
        before = len(post.carrier.letters())
        async with anyio.create_task_group() as group:
            group.start_soon(_after, turn % 12, post.sender.round)
            group.start_soon(_after, turn // 12, lambda run=run: post.bench.back(run_id=run))
        # what was sealed by the rollback while it was due is sent later, if it was not taken back
        await post.sender.round()
        status = await post.status(id)
        won[status] += 1
        assert len(post.carrier.letters()) - before == (1 if status == "SENT" else 0)
    assert sum(won.values()) == 200
    assert min(won.values()) > 0, won


async def _after(turns: int, act: Callable[[], Any]) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    await act()


async def test_of_500_messages_that_are_taken_back_none_leaves_the_house(post: Post):
    run = await post.bench.start()
    for _ in range(5):
        await post.hold(run, copies=100)
    post.later(119)
    await post.sender.round()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: post.bench.back(run_id=run))
        for _ in range(20):
            await post.sender.round()
    await post.send()
    assert post.carrier.letters() == []
    assert {row.status for row in await post.core.outbox.rows(None, everything=True)} == {"CANCELLED"}


async def test_two_senders_at_once_send_each_message_once(post: Post, tmp_path: Path):
    run = await post.bench.start()
    await post.hold(run, copies=50)
    other = await Engine.open(settings_for(tmp_path, **PAPER), recover=False)
    try:
        other.core.outbox.now = lambda: post.wall
        second = Sender(other.core, steady=lambda: post.steady)
        await post.sender.round()
        await second.round()
        post.later(121)
        async with anyio.create_task_group() as group:
            group.start_soon(post.sender.round)
            group.start_soon(second.round)
    finally:
        await other.close()
    assert len(post.carrier.letters()) == len(set(post.carrier.letters())) == 50


@pytest.mark.parametrize("at", ["belonging", "outcome"])
async def test_a_crash_between_intent_and_outcome_leaves_a_held_message_that_is_known(
    post: Post, open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch, at: str
):
    run = await post.bench.start()
    real = post.core.journal.append

    async def dies(events: Any, **more: Any) -> Any:
        if any(event.type == "action.applied" for event in events):
            raise Stopped
        return await real(events, **more)

    async def dies_at_once(*ids: Any, **more: Any) -> None:
        raise Stopped

    if at == "outcome":
        monkeypatch.setattr(post.core.journal, "append", dies)
    else:
        monkeypatch.setattr(post.core.outbox, "belongs", dies_at_once)
    with pytest.raises(BaseException):  # noqa: B017 -- whatever the death of a process looks like from inside
        await post.hold(run)
    [row] = await post.core.outbox.rows(None)
    await post.send()
    assert post.carrier.letters() == []  # its act is not concluded
    again = Post(await open_bench(**PAPER))
    again.wall, again.steady = post.wall, post.steady
    [action] = await again.core.journal.find(ActionView, run_id=RunId(run))
    assert (action.status, action.stands) == ("applied", True)
    assert await again.told(run) == ["mail.held"]
    await again.send()
    assert await again.status(row.id) == "SENT"


async def test_nobody_sees_or_touches_the_messages_of_somebody_else(post: Post):
    id = await post.hold(await post.bench.start())
    assert await post.engine.desk.rows(BOB) == []
    with pytest.raises(EngineError, match="There is no message"):
        await post.engine.desk.cancel(BOB, id)
    assert [row.id for row in await post.engine.desk.rows(ALICE)] == [id]


async def test_a_person_can_hold_a_message_longer_or_cancel_it(post: Post):
    run = await post.bench.start()
    id = await post.hold(run)
    await post.engine.desk.hold_longer(ALICE, id, 600)
    await post.send()
    assert await post.status(id) == "HELD"
    await post.engine.desk.cancel(ALICE, id)
    await post.send(600)
    assert post.carrier.letters() == []
    back = await post.bench.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["already_undone"]


async def test_windows_are_bounded_by_the_settings(open_bench: OpenBench):
    post = Post(await open_bench(**PAPER, outbox=OutboxSection(minimum_seconds=60, maximum_seconds=300)))
    for seconds in (59, 301):
        answer = await post.bench.call("post", to=["bob@example.org"], subject="", body="", hold_seconds=seconds)
        assert answer.status == "failed"
        assert answer.error is not None
        assert answer.error.code == "refused"


async def test_messages_are_forgotten_when_no_act_refers_to_them_any_more_and_what_waits_never_is(post: Post):
    run = await post.bench.start()
    gone = await post.hold(run)
    await post.send()
    late = await post.hold(run)
    await post.send(120 + 3601)
    states = await post.core.outbox.look([gone, late])
    post.later(1)
    await post.core.outbox.collect(states, older_than_ns=0)
    assert [await post.status(gone), await post.status(late)] == ["SENT", "LATE"]
    await post.core.outbox.collect([], older_than_ns=0)
    assert await post.core.outbox.get(gone) is None
    assert await post.status(late) == "LATE"
    await post.engine.desk.send_now(ALICE, late)
    await post.sender.round()
    assert len(post.carrier.letters()) == 2  # its bytes were kept


async def test_a_sender_waits_for_a_journal_that_is_busy_and_sends_then(post: Post, monkeypatch: pytest.MonkeyPatch):
    run = await post.bench.start()
    id = await post.hold(run)
    real, tries = post.core.journal.append, itertools.count()

    async def busy(events: Any, **more: Any) -> Any:
        if next(tries) < 2:
            raise JournalBusy("somebody else is writing")
        return await real(events, **more)

    monkeypatch.setattr(post.core.journal, "append", busy)
    monkeypatch.setattr("takeback.server.engine.sender.PATIENT_SECONDS", 0)
    monkeypatch.setattr("takeback.server.engine.sender.POLL_SECONDS", 0)
    await post.sender.round()
    post.later(121)
    await post.sender.run()
    assert await post.status(id) == "SENT"
    assert (await post.told(run))[-2:] == ["mail.sending", "mail.sent"]


async def test_a_message_that_is_cancelled_just_before_it_is_claimed_stays_cancelled(post: Post):
    id = await post.hold(await post.bench.start())
    await post.sender.round()
    post.sender.on_step = lambda step: post.engine.desk.cancel(ALICE, id) if step == "due" else None
    await post.send()
    assert await post.status(id) == "CANCELLED"
    assert post.carrier.letters() == []


async def test_a_run_that_is_contained_just_after_its_message_was_claimed_keeps_it(post: Post):
    run = await post.bench.start()
    id = await post.hold(run)
    await post.sender.round()
    post.sender.on_step = lambda step: post.engine.contain_run(ALICE, run, "odd") if step == "claimed" else None
    await post.send()
    assert await post.status(id) == "HELD"
    assert post.carrier.letters() == []
    assert await post.told(run) == ["mail.held"]
    assert (await post.bench.back(run_id=run)).status == "complete"


async def test_what_the_journal_was_told_before_the_sender_died_it_is_not_told_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
):
    run = await post.bench.start()
    id = await post.hold(run)
    real = post.core.outbox.told

    async def dies(id: str, status: Any) -> None:
        if status == "SENT":
            raise Stopped
        await real(id, status)

    monkeypatch.setattr(post.core.outbox, "told", dies)
    with pytest.raises(Stopped):
        await post.send()
    monkeypatch.undo()
    await post.new_sender().start()
    assert await post.told(run) == ["mail.held", "mail.sending", "mail.sent"]
    assert (await post.row(id)).told == "SENT"


async def test_an_outbox_that_fails_right_after_it_took_a_message_leaves_a_doubt_and_no_untrue_answer(
    post: Post, open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
):
    run = await post.bench.start()

    async def away(*ids: Any, **more: Any) -> None:
        raise Unavailable("the outbox cannot be used: disk full")

    monkeypatch.setattr(post.core.outbox, "belongs", away)
    answer = await post.bench.call("post", run, to=["bob@example.org"], subject="Hi", body="x")
    assert answer.status == "in_doubt"
    await post.send()
    assert post.carrier.letters() == []
    monkeypatch.undo()
    await post.engine.recover()
    [row] = await post.core.outbox.rows(None)
    assert (row.status, row.owner) == ("HELD", ALICE.principal)
    await post.sender.round()
    assert await post.status(row.id) == "SENT"
    assert await post.open_items() == []


async def test_a_sender_at_work_looks_again_less_and_less_often_whether_what_broke_off_went_out(post: Post) -> None:
    run = await post.bench.start()
    id = await post.hold(run)
    post.carrier.mode = "lost, blind"
    await post.send()
    await post.send(0)
    assert await post.status(id) == "UNKNOWN"
    looked: list[float] = []
    real, began = post.carrier.happened, post.steady

    async def happened(message: Outgoing) -> bool | None:
        looked.append(post.steady - began)
        return await real(message)

    post.carrier.happened = happened
    for _ in range(60):
        post.later(30)
        await post.sender.round()
    assert looked == [60.0, 180.0, 420.0, 900.0]
    assert await post.status(id) == "UNKNOWN" and len(post.carrier.letters()) == 1
    post.carrier.mode = "well"
    for _ in range(60):
        post.later(30)
        await post.sender.round()
    assert await post.status(id) == "SENT" and len(looked) == 5 and len(post.carrier.letters()) == 1
    assert await post.open_items() == []
