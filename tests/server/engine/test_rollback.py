"""Taking back: what is restored, merged, kept, named, and what the reports say about it."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench

from takeback.journal.events import Caller
from takeback.journal.views import ActionView, OpenItem, RunView
from takeback.server.engine.answers import EngineError

LINES = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"


def outcomes(answer: object) -> list[str]:
    return [step.outcome for step in answer.steps]  # type: ignore[attr-defined] -- any answer with steps


async def test_a_whole_run_is_taken_back_exactly(bench: Bench) -> None:
    bench.memory.edit("kept", "there before")
    before = bench.memory.texts()
    run = await bench.start()
    await bench.set(run, "a", "1")
    await bench.set(run, "a", "2")
    await bench.set(run, "kept", "changed")
    await bench.done("delete_value", run, key="a")
    answer = await bench.back(run_id=run)
    assert answer.status == "complete" and answer.run_status == "rolled_back"
    assert outcomes(answer) == ["restored"] * 4 and len(answer.retracted) == 4
    assert bench.memory.texts() == before


async def test_a_finished_run_can_be_taken_back(bench: Bench) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    await bench.engine.finish_run(ALICE, run)
    assert (await bench.back(run_id=run)).run_status == "rolled_back" and bench.memory.texts() == {}


async def test_back_to_a_checkpoint_leaves_what_was_before_it_and_the_run_open(bench: Bench) -> None:
    run = await bench.start()
    first = await bench.set(run, "a", "1")
    await bench.set(run, "a", "2")
    await bench.set(run, "b", "1")
    answer = await bench.back(to_checkpoint=first.checkpoint_id)
    assert answer.status == "complete" and answer.run_status == "open"
    assert bench.memory.texts() == {"a": "1"}
    await bench.set(run, "a", "3")


async def test_one_action_is_taken_back_alone_and_later_ones_stay(bench: Bench) -> None:
    bench.memory.edit("a", LINES)
    run = await bench.start()
    first = await bench.set(run, "a", LINES.replace("one", "ONE"))
    await bench.set(run, "a", LINES.replace("one", "ONE").replace("seven", "SEVEN"))
    answer = await bench.back(actions=[first.action_id])
    assert outcomes(answer) == ["merged"]
    assert bench.memory.get("a") == LINES.replace("seven", "SEVEN")


async def test_the_latest_actions_are_taken_back_by_number(bench: Bench) -> None:
    run = await bench.start()
    for key in "abc":
        await bench.set(run, key, "1")
    assert (await bench.back(last=2)).status == "complete"
    assert bench.memory.texts() == {"a": "1"}


async def test_without_run_and_actions_the_latest_action_is_only_shown(bench: Bench) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    shown = await bench.back()
    assert shown.status == "planned" and shown.plan_digest and bench.memory.get("a") == "1"
    assert (await bench.back(plan_digest=shown.plan_digest)).status == "complete"
    assert bench.memory.get("a") is None


async def test_a_default_run_is_taken_back_whole_only_by_the_digest_of_a_plan_that_was_seen(bench: Bench) -> None:
    run = (await bench.done("set_value", key="a", value="1")).run_id
    shown = await bench.back(run_id=run)
    assert shown.status == "planned" and bench.memory.get("a") == "1"
    assert (await bench.back(run_id=run, plan_digest=shown.plan_digest)).status == "complete"


async def test_a_plan_that_no_longer_fits_is_void(bench: Bench) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    shown = await bench.back(run_id=run, dry_run=True)
    bench.memory.edit("a", "by a person")
    with pytest.raises(EngineError) as caught:
        await bench.back(run_id=run, plan_digest=shown.plan_digest)
    assert caught.value.code == "plan_changed" and bench.memory.get("a") == "by a person"
    assert (await bench.engine.get_run(ALICE, run)).run.status == "open"


class TestForeignEdits:
    async def test_an_edit_elsewhere_in_the_object_is_kept(self, bench: Bench) -> None:
        bench.memory.edit("a", LINES)
        run = await bench.start()
        await bench.set(run, "a", LINES.replace("one", "ONE"))
        bench.memory.edit("a", LINES.replace("one", "ONE").replace("six", "six, by a person"))
        answer = await bench.back(run_id=run)
        assert outcomes(answer) == ["merged"] and answer.status == "complete"
        assert bench.memory.get("a") == LINES.replace("six", "six, by a person")

    async def test_an_edit_at_the_same_place_is_a_conflict_and_nothing_is_touched(self, bench: Bench) -> None:
        bench.memory.edit("a", "one\n")
        run = await bench.start()
        await bench.set(run, "a", "two\n")
        bench.memory.edit("a", "three, by a person\n")
        answer = await bench.back(run_id=run)
        assert outcomes(answer) == ["conflict"] and answer.status == "partial"
        assert bench.memory.get("a") == "three, by a person\n" and len(answer.open_items) == 1
        assert "restored" not in answer.report.lower().split("not restored")[0] or "0" in answer.report

    async def test_an_object_that_is_already_as_before_is_said_to_be(self, bench: Bench) -> None:
        run = await bench.start()
        await bench.set(run, "a", "1")
        bench.memory.edit("a", None)
        assert outcomes(await bench.back(run_id=run)) == ["already_undone"]

    async def test_a_conflict_blocks_only_what_depends_on_it(self, bench: Bench) -> None:
        run = await bench.start()
        await bench.set(run, "a", "1")
        await bench.set(run, "a", "2")
        await bench.set(run, "b", "1")
        bench.memory.edit("a", "by a person")
        answer = await bench.back(run_id=run)
        assert sorted(outcomes(answer)) == ["conflict", "restored", "skipped"]
        assert bench.memory.texts() == {"a": "by a person"}

    async def test_drift_between_plan_and_swap_is_merged_or_kept_never_overwritten(self, bench: Bench) -> None:
        bench.memory.edit("a", LINES)
        run = await bench.start()
        await bench.set(run, "a", LINES.replace("one", "ONE"))

        def person(step: str) -> None:
            if step == "swap":
                bench.memory.on_step = lambda step: None
                bench.memory.edit("a", LINES.replace("one", "ONE").replace("six", "person"))

        bench.memory.on_step = person
        answer = await bench.back(run_id=run)
        assert outcomes(answer) == ["merged"] and bench.memory.get("a") == LINES.replace("six", "person")


class TestConflicts:
    async def conflict(self, bench: Bench) -> str:
        bench.memory.edit("a", "one\n")
        self.run_id = await bench.start()
        await bench.set(self.run_id, "a", "two\n")
        bench.memory.edit("a", "theirs\n")
        answer = await bench.back(run_id=self.run_id)
        return answer.open_items[0].conflict_id

    async def test_all_three_versions_can_be_read(self, bench: Bench) -> None:
        conflict = await self.conflict(bench)
        versions = await bench.engine.conflict_versions(ALICE, conflict)
        assert versions == {"base": b"two\n", "ours": b"one\n", "theirs": b"theirs\n"}

    async def test_keeping_theirs_settles_it_and_a_rollback_has_nothing_left(self, bench: Bench) -> None:
        conflict = await self.conflict(bench)
        await bench.engine.resolve_conflict(ALICE, conflict, "theirs")
        assert bench.memory.get("a") == "theirs\n" and not await bench.engine.open_items(ALICE)
        with pytest.raises(EngineError):
            await bench.back(run_id=self.run_id)

    async def test_taking_ours_keeps_their_version_for_a_redo(self, bench: Bench) -> None:
        conflict = await self.conflict(bench)
        answer = await bench.engine.resolve_conflict(ALICE, conflict, "ours")
        assert bench.memory.get("a") == "one\n"
        await bench.engine.redo(ALICE, str(answer.rollback_id))
        assert bench.memory.get("a") == "theirs\n"

    async def test_a_resolution_can_be_written(self, bench: Bench) -> None:
        conflict = await self.conflict(bench)
        await bench.engine.resolve_conflict(ALICE, conflict, "content", content="both\n")
        assert bench.memory.get("a") == "both\n"

    async def test_the_earlier_version_can_be_saved_beside(self, bench: Bench) -> None:
        conflict = await self.conflict(bench)
        await bench.engine.resolve_conflict(ALICE, conflict, "beside")
        assert bench.memory.get("a") == "theirs\n" and "one\n" in bench.memory.texts().values()

    async def test_what_changed_again_is_not_settled_blindly(self, bench: Bench) -> None:
        conflict = await self.conflict(bench)
        bench.memory.edit("a", "theirs again\n")
        with pytest.raises(EngineError) as caught:
            await bench.engine.resolve_conflict(ALICE, conflict, "ours")
        assert caught.value.code == "drifted" and bench.memory.get("a") == "theirs again\n"
        (item,) = await bench.engine.open_items(ALICE)
        await bench.engine.resolve_conflict(ALICE, item.conflict_id, "ours")
        assert bench.memory.get("a") == "one\n"

    async def test_another_principal_sees_no_conflict(self, bench: Bench) -> None:
        conflict = await self.conflict(bench)
        with pytest.raises(EngineError):
            await bench.engine.resolve_conflict(BOB, conflict, "ours")


class TestRedo:
    async def test_redo_and_undo_alternate_to_any_depth(self, bench: Bench) -> None:
        bench.memory.edit("a", "0")
        run = await bench.start()
        await bench.set(run, "a", "1")
        await bench.set(run, "b", "1")
        done, before = bench.memory.texts(), {"a": "0"}
        answer = await bench.back(run_id=run)
        for depth in range(6):
            assert bench.memory.texts() == before, depth
            answer = await bench.engine.redo(ALICE, str(answer.rollback_id))
            assert answer.status == "complete" and bench.memory.texts() == done, depth
            answer = await bench.engine.redo(ALICE, str(answer.rollback_id))
        assert bench.memory.texts() == before

    async def test_after_a_redo_the_run_can_be_taken_back_again(self, bench: Bench) -> None:
        run = await bench.start()
        await bench.set(run, "a", "1")
        first = await bench.back(run_id=run)
        await bench.engine.redo(ALICE, str(first.rollback_id))
        assert bench.memory.texts() == {"a": "1"}
        again = await bench.back(run_id=run)
        assert again.status == "complete" and bench.memory.texts() == {}

    async def test_one_rollback_is_redone_once(self, bench: Bench) -> None:
        run = await bench.start()
        await bench.set(run, "a", "1")
        first = await bench.back(run_id=run)
        await bench.engine.redo(ALICE, str(first.rollback_id))
        with pytest.raises(EngineError):
            await bench.engine.redo(ALICE, str(first.rollback_id))

    async def test_a_redo_keeps_what_somebody_made_meanwhile(self, bench: Bench) -> None:
        run = await bench.start()
        await bench.set(run, "a", "1")
        first = await bench.back(run_id=run)
        bench.memory.edit("a", "by a person")
        answer = await bench.engine.redo(ALICE, str(first.rollback_id))
        assert outcomes(answer) == ["conflict"] and bench.memory.get("a") == "by a person"


class TestOtherRuns:
    async def test_what_another_run_built_on_blocks_until_it_is_named(self, bench: Bench) -> None:
        first, second = await bench.start("first"), await bench.start("second")
        await bench.set(first, "a", "1")
        await bench.set(second, "a", "2")
        blocked = await bench.back(run_id=first)
        assert outcomes(blocked) == ["skipped"] and blocked.other_runs == [second]
        assert bench.memory.get("a") == "2"
        answer = await bench.back(run_id=first, cascade=[second])
        assert answer.status == "complete" and bench.memory.texts() == {}

    async def test_what_is_blocked_again_is_open_once(self, bench: Bench) -> None:
        first, second = await bench.start("first"), await bench.start("second")
        await bench.set(first, "a", "1")
        await bench.set(second, "a", "2")
        await bench.back(run_id=first)
        again = await bench.back(run_id=first)
        [item] = await bench.engine.open_items(ALICE, run_id=first)
        assert [item.conflict_id] == [each.conflict_id for each in again.open_items]

    async def test_what_a_conflict_found_stays_open_when_it_is_blocked_later(self, bench: Bench) -> None:
        first, second = await bench.start("first"), await bench.start("second")
        await bench.set(first, "a", "1")
        bench.memory.edit("a", "by a person")
        found = await bench.back(run_id=first)
        assert outcomes(found) == ["conflict"]
        another = Caller(principal=ALICE.principal, client="another")  # who has not read it
        assert (await bench.call("set_value", second, caller=another, key="a", value="2")).status == "applied"
        assert outcomes(await bench.back(run_id=first)) == ["skipped"]
        items = {item.conflict_id for item in await bench.engine.open_items(ALICE, run_id=first)}
        assert found.open_items[0].conflict_id in items and len(items) == 2

    async def test_a_second_engine_takes_back_what_the_first_did(self, open_bench: OpenBench) -> None:
        one = await open_bench()
        run = await one.start()
        await one.set(run, "a", "1")
        two = await open_bench()
        assert (await two.back(run_id=run)).status == "complete"
        assert one.memory.texts() == {}

    async def test_a_foreign_run_cannot_be_taken_back(self, bench: Bench) -> None:
        run = await bench.start()
        await bench.set(run, "a", "1")
        with pytest.raises(EngineError) as caught:
            await bench.engine.rollback(BOB, run_id=run)
        assert caught.value.code == "not_found" and bench.memory.get("a") == "1"


class TestWhatCannotBeRestored:
    async def approved(self, bench: Bench, tool: str, run: str) -> None:
        pending = await bench.call(tool, run, text="hello")
        await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
        await bench.done(tool, run, text="hello")

    async def test_a_compensable_act_is_made_up_for_and_called_that(self, bench: Bench) -> None:
        run = await bench.start()
        await self.approved(bench, "post_note", run)
        answer = await bench.back(run_id=run)
        assert outcomes(answer) == ["compensated"] and bench.memory.notes() == {}

    async def test_a_compensation_that_fails_is_an_open_item_and_never_called_done(self, bench: Bench) -> None:
        run = await bench.start()
        await self.approved(bench, "post_note", run)

        def fail(step: str) -> None:
            if step == "delete":
                raise ConnectionError("the board is away")

        bench.memory.on_step = fail
        answer = await bench.back(run_id=run)
        assert outcomes(answer) == ["failed"] and answer.open_items[0].kind == "failed"
        assert len(bench.memory.notes()) == 1
        bench.memory.on_step = lambda step: None
        assert outcomes(await bench.back(run_id=run)) == ["compensated"]

    async def test_an_irreversible_act_is_named_and_the_rest_is_taken_back(self, bench: Bench) -> None:
        run = await bench.start()
        await bench.set(run, "a", "1")
        await self.approved(bench, "announce", run)
        await bench.set(run, "b", "1")
        answer = await bench.back(run_id=run)
        assert sorted(outcomes(answer)) == ["irreversible", "restored", "restored"] and answer.status == "partial"
        assert bench.memory.texts() == {} and answer.open_items[0].kind == "irreversible"

    async def test_spent_consent_stays_spent_after_a_rollback(self, bench: Bench) -> None:
        run = await bench.start()
        await self.approved(bench, "post_note", run)
        await bench.back(run_id=run)
        fresh = await bench.start()
        assert (await bench.call("post_note", fresh, text="hello")).status == "pending_approval"

    async def test_a_tool_that_is_no_longer_installed_is_an_open_item(self, open_bench: OpenBench) -> None:
        from takeback.server.settings import ToolSettings

        one = await open_bench()
        run = await one.start()
        await self.approved(one, "post_note", run)
        two = await open_bench(tools=ToolSettings(off=("files",)))
        answer = await two.back(run_id=run)
        assert outcomes(answer) == ["failed"] and "not installed" in answer.steps[0].why


async def test_acts_are_refused_while_a_rollback_is_at_work(bench: Bench) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(step: str) -> None:
        if step == "swap":
            reached.set()
            await go_on.wait()

    bench.memory.on_step = hold
    task = asyncio.create_task(bench.back(run_id=run))
    await reached.wait()
    answer = await bench.call("set_value", run, key="b", value="1")
    assert answer.error and answer.error.code == "sealed"
    go_on.set()
    assert (await task).status == "complete" and bench.memory.texts() == {}


async def test_two_rollbacks_of_one_run_at_once_do_it_once(bench: Bench) -> None:
    run = await bench.start()
    for key in "abc":
        await bench.set(run, key, "1")
    answers = await asyncio.gather(bench.back(run_id=run), bench.back(run_id=run), return_exceptions=True)
    assert bench.memory.texts() == {}
    complete = [
        answer for answer in answers if not isinstance(answer, BaseException) and "restored" in outcomes(answer)
    ]
    assert len(complete) == 1
    view = await bench.engine.core.journal.get(RunView, run)
    assert view is not None and view.status == "rolled_back"


async def test_rollbacks_and_acts_of_different_runs_do_not_disturb_each_other(bench: Bench) -> None:
    runs = [await bench.start(str(number)) for number in range(4)]
    for run in runs[:2]:
        await bench.set(run, f"{run}/a", "1")

    async def work(run: str) -> None:
        for number in range(5):
            await bench.set(run, f"{run}/{number}", "1")

    await asyncio.gather(*(bench.back(run_id=run) for run in runs[:2]), *(work(run) for run in runs[2:]))
    assert len(bench.memory.texts()) == 10


async def test_on_failure_rollback_takes_a_failed_run_back(bench: Bench) -> None:
    run = await bench.start(on_failure="rollback")
    await bench.set(run, "a", "1")
    ended = await bench.engine.finish_run(ALICE, run, status="failed")
    assert bench.memory.texts() == {} and ended.status == "rolled_back"


class TestResume:
    async def test_a_fork_inherits_the_keys_of_the_steps_it_stands_on(self, bench: Bench) -> None:
        run = await bench.start("build", steps=["one", "two", "three"])
        await bench.set(run, "a", "1", step="one", idempotency_key="k1")
        named = await bench.engine.create_checkpoint(ALICE, run, "after one", next_step="two", notes={"x": 1})
        await bench.set(run, "b", "1", step="two", idempotency_key="k2")
        brief = await bench.engine.resume_from(ALICE, named.checkpoint_id, restore=True)
        assert brief.run_id and brief.remaining == ["two", "three"] and brief.next_step == "two"
        assert [done.step for done in brief.done] == ["one"] and brief.notes == {"x": 1}
        assert bench.memory.texts() == {"a": "1"}
        again = await bench.call("set_value", brief.run_id, key="a", value="1", idempotency_key="k1")
        assert again.status == "replayed"
        await bench.set(brief.run_id, "b", "2", idempotency_key="k2")

    async def test_a_dry_run_opens_nothing(self, bench: Bench) -> None:
        run = await bench.start()
        first = await bench.set(run, "a", "1")
        await bench.set(run, "a", "2")
        brief = await bench.engine.resume_from(ALICE, str(first.checkpoint_id), restore=True, dry_run=True)
        assert brief.run_id is None and brief.rollback and brief.rollback.status == "planned"
        assert bench.memory.get("a") == "2"

    async def test_what_somebody_changed_since_is_listed(self, bench: Bench) -> None:
        run = await bench.start()
        first = await bench.set(run, "a", "1")
        bench.memory.edit("a", "by a person")
        brief = await bench.engine.resume_from(ALICE, str(first.checkpoint_id))
        assert any("a" in line for line in brief.drift)


async def test_a_version_is_restored_across_runs_and_that_can_be_redone_away(bench: Bench) -> None:
    first, second = await bench.start("first"), await bench.start("second")
    one = await bench.set(first, "a", "1")
    await bench.set(second, "a", "2")
    answer = await bench.engine.restore_version(ALICE, "a", f"{one.action_id}:after")
    assert answer.status == "complete" and bench.memory.get("a") == "1"
    await bench.engine.redo(ALICE, str(answer.rollback_id))
    assert bench.memory.get("a") == "2"


async def test_nothing_to_take_back_is_said(bench: Bench) -> None:
    run = await bench.start()
    with pytest.raises(EngineError) as caught:
        await bench.back(run_id=run)
    assert caught.value.code == "nothing" and caught.value.advice


async def test_journal_and_views_agree_after_everything(bench: Bench) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    bench.memory.edit("a", "x")
    await bench.back(run_id=run)
    journal = bench.engine.core.journal
    before = [await journal.find(kind) for kind in (RunView, ActionView, OpenItem)]
    await journal.rebuild()
    assert [await journal.find(kind) for kind in (RunView, ActionView, OpenItem)] == before
    assert (await journal.verify()).sound
