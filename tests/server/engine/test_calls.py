"""The nine steps of an acting call, as its caller and its journal see them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench

from takeback.journal.views import ActionView, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.calls import Call


async def test_an_act_is_done_journaled_and_answered_with_the_way_back(bench: Bench) -> None:
    run = await bench.start()
    answer = await bench.set(run, "a", "1", step="first")
    assert bench.memory.get("a") == "1"
    assert answer.run_id == run and answer.checkpoint_id and answer.undo and answer.reversibility == "reversible"
    action = await bench.engine.core.journal.get(ActionView, str(answer.action_id))
    assert action is not None and action.status == "applied" and action.stands and action.step == "first"


async def test_a_dry_run_changes_nothing_and_says_what_it_would_do(bench: Bench) -> None:
    run = await bench.start()
    answer = await bench.call("set_value", run, key="a", value="1", dry_run=True)
    assert answer.status == "shadowed" and answer.preview and bench.memory.get("a") is None


async def test_a_run_in_shadow_mode_acts_on_nothing(bench: Bench) -> None:
    run = await bench.start(mode="shadow")
    assert (await bench.call("set_value", run, key="a", value="1")).status == "shadowed"
    assert bench.memory.texts() == {}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"key": "a"}, "value"), ({"key": "a", "value": 1}, "value"), ({"key": "a", "value": "1", "x": 1}, "x")],
)
async def test_arguments_that_do_not_fit_are_refused_by_name(
    bench: Bench, arguments: dict[str, Any], word: str
) -> None:
    answer = await bench.call("set_value", await bench.start(), **arguments)
    assert answer.status == "failed" and answer.error and answer.error.code == "invalid"
    assert word in answer.error.message and bench.memory.texts() == {}


async def test_lone_surrogates_are_refused_with_a_sentence(bench: Bench) -> None:
    answer = await bench.call("set_value", await bench.start(), key="a", value="\ud800")
    assert answer.status == "failed" and answer.error and answer.error.advice


async def test_calls_without_a_run_share_one_default_run(bench: Bench) -> None:
    first = await bench.done("set_value", key="a", value="1")
    second = await bench.done("set_value", key="b", value="1")
    assert first.run_id == second.run_id
    other = await bench.done("set_value", key="c", value="1", caller=BOB)
    assert other.run_id != first.run_id


async def test_a_call_without_run_id_beside_an_open_named_run_is_warned_about(bench: Bench) -> None:
    named = await bench.start("the named task")
    answer = await bench.done("set_value", key="a", value="1")
    assert answer.run_id != named
    assert any(named in warning and answer.run_id in warning for warning in answer.warnings)


async def test_foreign_and_unknown_runs_give_the_same_answer(bench: Bench) -> None:
    run = await bench.start()
    foreign = await bench.call("set_value", run, key="a", value="1", caller=BOB)
    unknown = await bench.call("set_value", "run_nope", key="a", value="1", caller=BOB)
    assert foreign.error and unknown.error
    assert foreign.error.message.replace(run, "X") == unknown.error.message.replace("run_nope", "X")


async def test_an_ended_run_takes_no_more_acts(bench: Bench) -> None:
    run = await bench.start()
    await bench.engine.finish_run(ALICE, run)
    answer = await bench.call("set_value", run, key="a", value="1")
    assert answer.error and answer.error.code == "run_ended" and bench.memory.texts() == {}


async def test_a_contained_run_may_not_act_and_neither_may_a_new_one_of_the_same_client(bench: Bench) -> None:
    run = await bench.start()
    await bench.engine.contain_run(ALICE, run, "it loops")
    assert (await bench.call("set_value", run, key="a", value="1")).status == "denied"
    fresh = await bench.start()
    assert (await bench.call("set_value", fresh, key="a", value="1")).status == "denied"
    await bench.engine.release_run(ALICE, run)
    await bench.set(run, "a", "1")
    await bench.set(fresh, "b", "1")


async def test_an_act_outside_the_scope_of_its_run_is_denied(bench: Bench) -> None:
    run = await bench.start(scope=["docs"])
    await bench.set(run, "docs/a", "1")
    answer = await bench.call("set_value", run, key="src/a", value="1")
    assert answer.status == "denied" and bench.memory.get("src/a") is None


class TestIdempotencyKeys:
    async def test_the_same_call_twice_is_done_once(self, bench: Bench) -> None:
        run = await bench.start()
        first = await bench.set(run, "a", "1", idempotency_key="k")
        bench.memory.edit("a", "edited since")
        again = await bench.call("set_value", run, key="a", value="1", idempotency_key="k")
        assert again.status == "replayed" and again.action_id == first.action_id and again.result == first.result
        assert bench.memory.get("a") == "edited since"

    async def test_other_arguments_under_the_same_key_are_an_error(self, bench: Bench) -> None:
        run = await bench.start()
        await bench.set(run, "a", "1", idempotency_key="k")
        other = await bench.call("set_value", run, key="a", value="2", idempotency_key="k")
        assert other.error and other.error.code == "key_reused" and bench.memory.get("a") == "1"

    async def test_a_failed_call_does_not_consume_its_key(self, bench: Bench) -> None:
        run = await bench.start()
        missing = await bench.call("delete_value", run, key="a", idempotency_key="k")
        assert missing.status == "failed"
        await bench.set(run, "a", "1")
        assert (await bench.call("delete_value", run, key="a", idempotency_key="k")).status == "applied"

    async def test_taking_the_act_back_frees_the_key(self, bench: Bench) -> None:
        run = await bench.start()
        first = await bench.set(run, "a", "1", idempotency_key="k")
        await bench.back(actions=[first.action_id])
        second = await bench.set(run, "a", "1", idempotency_key="k")
        assert second.action_id != first.action_id and bench.memory.get("a") == "1"

    async def test_calls_in_flight_under_one_key_act_once(self, bench: Bench) -> None:
        run = await bench.start()
        answers = await asyncio.gather(
            *(bench.call("post_note", run, text="hello", idempotency_key="k") for _ in range(4))
        )
        waiting = {answer.approval_id for answer in answers if answer.status == "pending_approval"}
        assert len(waiting) >= 1
        for approval in waiting:
            if approval:
                await bench.engine.approve(ALICE, approval, lane="test")
                break
        answers = await asyncio.gather(
            *(bench.call("post_note", run, text="hello", idempotency_key="k") for _ in range(4))
        )
        assert sorted(answer.status for answer in answers).count("applied") == 1
        assert len(bench.memory.notes()) == 1


class TestStaleReads:
    async def read(self, bench: Bench, key: str) -> str:
        answer = await bench.engine.read(Call(tool="get_value", arguments={"key": key}, caller=ALICE))
        assert answer.result is not None
        return str(answer.result["digest"])

    async def test_an_act_on_what_changed_since_it_was_read_is_refused(self, bench: Bench) -> None:
        run = await bench.start()
        bench.memory.edit("a", "one")
        await self.read(bench, "a")
        bench.memory.edit("a", "two, by a person")
        answer = await bench.call("set_value", run, key="a", value="three")
        assert answer.error and answer.error.code == "stale_read" and bench.memory.get("a") == "two, by a person"
        await self.read(bench, "a")
        await bench.set(run, "a", "three")

    async def test_expected_digest_binds_the_act_to_what_was_read(self, bench: Bench) -> None:
        run = await bench.start()
        bench.memory.edit("a", "one")
        digest = await self.read(bench, "a")
        bench.memory.edit("a", "two")
        answer = await bench.call("set_value", run, key="a", value="three", expected_digest=digest)
        assert answer.error and answer.error.code == "stale_read"

    async def test_ones_own_writes_are_not_stale(self, bench: Bench) -> None:
        run = await bench.start()
        for value in ("1", "2", "3"):
            await bench.set(run, "a", value)


class TestApprovals:
    async def test_what_cannot_be_taken_back_waits_for_a_person(self, bench: Bench) -> None:
        run = await bench.start()
        pending = await bench.call("announce", run, text="hello")
        assert pending.status == "pending_approval" and pending.approval_id and pending.is_error
        assert bench.memory.notes("announcement") == {}
        await bench.engine.approve(ALICE, pending.approval_id, lane="test")
        assert (await bench.call("announce", run, text="hello")).status == "applied"
        assert len(bench.memory.notes("announcement")) == 1

    async def test_consent_is_used_once(self, bench: Bench) -> None:
        run = await bench.start()
        pending = await bench.call("announce", run, text="hello")
        await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
        await bench.call("announce", run, text="hello")
        again = await bench.call("announce", run, text="hello")
        assert again.status == "pending_approval" and again.approval_id != pending.approval_id
        assert len(bench.memory.notes("announcement")) == 1

    async def test_consent_to_one_text_is_none_to_another(self, bench: Bench) -> None:
        run = await bench.start()
        pending = await bench.call("announce", run, text="hello")
        await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
        assert (await bench.call("announce", run, text="other")).status == "pending_approval"

    async def test_a_refusal_stays_a_refusal(self, bench: Bench) -> None:
        run = await bench.start()
        pending = await bench.call("announce", run, text="hello")
        await bench.engine.deny(ALICE, str(pending.approval_id), lane="test")
        assert (await bench.call("announce", run, text="hello")).status == "denied"
        assert bench.memory.notes("announcement") == {}

    async def test_another_principal_cannot_consent(self, bench: Bench) -> None:
        run = await bench.start()
        pending = await bench.call("announce", run, text="hello")
        with pytest.raises(EngineError):
            await bench.engine.approve(BOB, str(pending.approval_id), lane="test")

    async def test_consent_runs_out(self, open_bench: OpenBench) -> None:

        bench = await open_bench()
        run = await bench.start()
        pending = await bench.call("announce", run, text="hello")
        await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
        now = bench.engine.core.now
        bench.engine.core.now = lambda: now() + timedelta(hours=1)
        assert (await bench.call("announce", run, text="hello")).status == "pending_approval"


async def test_a_cancelled_call_tells_its_true_outcome_in_the_journal(bench: Bench) -> None:
    run = await bench.start()
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(step: str) -> None:
        if step == "swap":
            reached.set()
            await go_on.wait()

    bench.memory.on_step = hold
    task = asyncio.create_task(bench.call("set_value", run, key="a", value="1"))
    await reached.wait()
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    (action,) = await bench.engine.core.journal.find(ActionView, run_id=await _run_id(bench, run))
    assert action.status == "applied" and bench.memory.get("a") == "1"


async def _run_id(bench: Bench, run: str) -> Any:
    view = await bench.engine.core.journal.get(RunView, run)
    assert view is not None
    return view.run_id


@pytest.mark.parametrize("step", ["swap", "swapped"])
async def test_a_commit_that_breaks_off_is_settled_by_looking_at_the_world(bench: Bench, step: str) -> None:
    run = await bench.start()
    broken = [True]

    def fail(name: str) -> None:
        if name == step and broken:
            broken.clear()
            raise ConnectionResetError("gone")

    bench.memory.on_step = fail
    answer = await bench.call("set_value", run, key="a", value="1")
    there = bench.memory.get("a") == "1"
    assert there == (step == "swapped")
    assert answer.status == ("applied" if there else "failed")


async def test_a_note_whose_reply_was_lost_is_found_and_can_be_made_up_for(bench: Bench) -> None:
    run = await bench.start()
    pending = await bench.call("post_note", run, text="hello")
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")

    def fail(name: str) -> None:
        if name == "posted":
            raise ConnectionResetError("gone")

    bench.memory.on_step = fail
    answer = await bench.call("post_note", run, text="hello")
    assert answer.status == "applied" and len(bench.memory.notes()) == 1
    bench.memory.on_step = lambda step: None
    back = await bench.back(run_id=run)
    assert back.status == "complete" and bench.memory.notes() == {}


async def test_a_failed_call_answers_with_what_is_done_and_what_to_do_first(bench: Bench) -> None:
    run = await bench.start(steps=["one", "two"])
    await bench.set(run, "a", "1", step="one")
    answer = await bench.call("delete_value", run, key="nothing there", step="two")
    assert answer.status == "failed" and answer.error and answer.error.advice
    assert answer.report and answer.report.done and answer.report.failed and answer.report.first_step


async def test_acts_on_one_object_wait_for_each_other(bench: Bench) -> None:
    run = await bench.start()
    await asyncio.gather(*(bench.set(run, "a", str(number)) for number in range(20)))
    back = await bench.back(run_id=run)
    assert back.status == "complete" and bench.memory.get("a") is None


async def test_a_stalled_run_is_open_again_once_somebody_moves(bench: Bench) -> None:
    run = await bench.start(steps=["first", "second"])
    await bench.set(run, "a", "1", step="first")
    now = bench.engine.core.now
    bench.engine.core.now = lambda: now() + timedelta(hours=25)
    await bench.engine.recover()
    stalled = await bench.engine.get_run(ALICE, run, view="report")
    assert stalled.run.status == "stalled" and stalled.report and stalled.report.remaining and stalled.report.first_step
    await bench.set(run, "b", "1", step="second")
    assert (await bench.engine.get_run(ALICE, run)).run.status == "open"


async def test_what_a_contained_run_tried_is_in_its_journal(bench: Bench) -> None:
    run = await bench.start()
    await bench.engine.contain_run(ALICE, run, "it went wrong")
    answer = await bench.call("set_value", run, key="a", value="1")
    assert answer.status == "denied" and bench.memory.get("a") is None
    action = await bench.engine.core.journal.get(ActionView, str(answer.action_id))
    assert action is not None and (action.status, action.run_id, action.tool) == ("denied", run, "set_value")
