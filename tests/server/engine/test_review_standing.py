"""Whether an action stands, what is open, and what a report says about it: as a look at the world would tell."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench
from tests.server.engine.many import action, approved, failing, status, with_many

from takeback.journal.events import RollbackStep
from takeback.journal.views import RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.policy_rules import Rule, RulesPolicy
from takeback.server.engine.settle import settle_all
from takeback.tools.contract import UNKNOWN
from takeback.tools.system import Unavailable


async def drifted_pair(bench: Bench) -> tuple[str, str, str]:
    """Two objects changed by one action, one of which a person changed since; run, action, conflict."""
    with_many(bench)
    bench.memory.edit("a", "a before")
    bench.memory.edit("b", "b before")
    run = await bench.start()
    done = await bench.done("set_many", run, values={"a": "a after", "b": "b after"})
    bench.memory.edit("a", "a, by a person")
    answer = await bench.back(run_id=run)
    assert bench.memory.texts() == {"a": "a, by a person", "b": "b after"}
    (item,) = answer.open_items
    return run, str(done.action_id), item.conflict_id


async def test_an_action_of_which_a_part_is_still_there_stands_after_its_conflict_was_left(bench: Bench) -> None:
    run, done, conflict = await drifted_pair(bench)
    await bench.engine.resolve_conflict(ALICE, conflict, "theirs")
    assert bench.memory.get("b") == "b after" and (await action(bench, done)).stands
    assert (await bench.back(run_id=run, dry_run=True)).steps


async def test_taking_ours_puts_the_rest_of_the_action_back_too(bench: Bench) -> None:
    _, done, conflict = await drifted_pair(bench)
    await bench.engine.resolve_conflict(ALICE, conflict, "ours")
    assert bench.memory.texts() == {"a": "a before", "b": "b before"}
    assert not (await action(bench, done)).stands


async def test_a_resolution_never_takes_what_a_person_made_of_the_other_object(bench: Bench) -> None:
    _, done, conflict = await drifted_pair(bench)
    bench.memory.edit("b", "b, by a person")
    await bench.engine.resolve_conflict(ALICE, conflict, "ours")
    assert bench.memory.texts() == {"a": "a before", "b": "b, by a person"}
    assert (await action(bench, done)).status == "applied"


async def test_leaving_what_another_run_blocked_does_not_say_that_it_is_gone(bench: Bench) -> None:
    first, second = await bench.start("first"), await bench.start("second")
    done = await bench.set(first, "a", "1")
    await bench.set(second, "b", "2")
    await bench.set(second, "a", "2")
    blocked = await bench.back(run_id=first)
    (item,) = blocked.open_items
    await bench.back(run_id=second)
    assert bench.memory.get("a") == "1"
    try:
        await bench.engine.resolve_conflict(ALICE, item.conflict_id, "theirs")
    except EngineError as error:
        assert error.code == "not_open"
    assert (await action(bench, done.action_id)).stands
    assert (await bench.back(run_id=first)).status == "complete" and bench.memory.texts() == {}


async def test_ours_of_a_conflict_in_a_redo_lets_the_action_stand_again(bench: Bench) -> None:
    run = await bench.start()
    done = await bench.set(run, "a", "by the agent")
    first = await bench.back(run_id=run)
    bench.memory.edit("a", "by a person")
    again = await bench.engine.redo(ALICE, str(first.rollback_id))
    (item,) = again.open_items
    await bench.engine.resolve_conflict(ALICE, item.conflict_id, "ours")
    assert bench.memory.get("a") == "by the agent" and (await action(bench, done.action_id)).stands
    assert (await bench.back(actions=[done.action_id])).status == "complete"


async def test_what_a_later_rollback_did_is_not_open_any_more(bench: Bench) -> None:
    run = await bench.start()
    await approved(bench, "post_note", run, text="hello")
    await bench.done("post_note", run, text="hello")

    def fail(step: str) -> None:
        if step == "delete":
            raise ConnectionError("the board is away")

    bench.memory.on_step = fail
    await bench.back(run_id=run)
    await bench.back(run_id=run)
    assert len(await bench.engine.open_items(ALICE)) == 1
    bench.memory.on_step = lambda step: None
    assert (await bench.back(run_id=run)).status == "complete"
    assert await bench.engine.open_items(ALICE) == []


async def in_doubt(bench: Bench, run: str) -> tuple[str, str]:
    """A note of which nobody knows whether it was posted; action and open item."""
    await approved(bench, "post_note", run, text="hello")
    tool: Any = bench.engine.core.tools["post_note"]

    async def unknown(memo: Any) -> Any:
        return UNKNOWN

    tool.happened = unknown

    def fail(name: str) -> None:
        if name == "posted":
            raise ConnectionResetError("gone")

    bench.memory.on_step = fail
    broken = await bench.call("post_note", run, text="hello", idempotency_key="k")
    bench.memory.on_step = lambda step: None
    assert broken.status == "in_doubt"
    (item,) = await bench.engine.open_items(ALICE, run_id=run)
    return str(broken.action_id), item.conflict_id


async def test_a_doubt_that_was_made_up_for_is_over_and_is_not_made_up_for_again(bench: Bench) -> None:
    run = await bench.start()
    doubted, _ = await in_doubt(bench, run)
    assert (await bench.back(run_id=run)).status == "complete" and bench.memory.notes() == {}
    found = await action(bench, doubted)
    assert found.status != "in_doubt" and not found.stands
    assert await bench.engine.open_items(ALICE) == []
    with pytest.raises(EngineError) as caught:
        await bench.back(run_id=run)
    assert caught.value.code == "nothing"


@pytest.mark.parametrize(("choice", "is_there"), [("theirs", True), ("ours", False)])
async def test_a_doubt_settled_by_a_person_stays_settled(open_bench: OpenBench, choice: Any, is_there: bool) -> None:
    bench = await open_bench()
    run = await bench.start()
    doubted, conflict = await in_doubt(bench, run)
    await bench.engine.resolve_conflict(ALICE, conflict, choice)
    found = await action(bench, doubted)
    assert found.status == ("applied" if is_there else "not_applied") and found.stands is is_there
    again = await open_bench()
    assert await again.engine.open_items(ALICE) == []
    repeated = await again.call("post_note", run, text="hello", idempotency_key="k")
    assert repeated.status == ("replayed" if is_there else "pending_approval")


async def test_a_doubt_about_an_object_is_settled_by_what_is_there(bench: Bench) -> None:
    with_many(bench)
    run = await bench.start()

    def fail(name: str) -> None:
        if name == "swap":
            bench.memory.edit("a", "1")
            raise ConnectionResetError("gone")

    bench.memory.on_step = fail
    answer = await bench.call("set_many", run, values={"a": "1", "b": "1"})
    bench.memory.on_step = lambda step: None
    assert answer.status in ("in_doubt", "failed")
    items = await bench.engine.open_items(ALICE)
    if not items:
        return
    await bench.engine.resolve_conflict(ALICE, items[0].conflict_id, "theirs")
    found = await action(bench, answer.action_id)
    assert found.status == "applied" and [effect.object for effect in found.effects] == ["a"]
    assert (await bench.back(run_id=run)).status == "complete" and bench.memory.texts() == {}


async def test_a_bound_plan_stays_bound_when_another_process_finishes_it(open_bench: OpenBench) -> None:
    lines = "one\ntwo\nthree\nfour\nfive\n"
    one = await open_bench()
    one.memory.edit("a", lines)
    run = await one.start()
    await one.set(run, "a", lines.replace("one", "ONE"))
    digest = (await one.back(run_id=run, dry_run=True)).plan_digest

    class Died(BaseException):
        pass

    journal, dead = one.engine.core.journal, False
    append = journal.append

    async def dying(events: Any, **more: Any) -> Any:
        nonlocal dead
        dead = dead or any(isinstance(event, RollbackStep) for event in events)
        if dead:
            raise Died
        return await append(events, **more)

    journal.append = dying  # type: ignore[method-assign] -- a fault, not a mock
    with pytest.raises(BaseException):  # noqa: B017 -- death comes through groups or bare
        await one.back(run_id=run, plan_digest=digest)
    edited = lines.replace("one", "ONE").replace("five", "five, by a person")
    one.memory.edit("a", edited)
    two = await open_bench()
    assert two.memory.get("a") == edited
    (item,) = await two.engine.open_items(ALICE)
    assert item.kind == "conflict"


async def test_a_resolution_finished_after_a_crash_says_the_same_as_one_without(open_bench: OpenBench) -> None:
    bench = await open_bench()
    bench.memory.edit("a", "one\n")
    run = await bench.start()
    done = await bench.set(run, "a", "two\n")
    bench.memory.edit("a", "theirs\n")
    conflict = (await bench.back(run_id=run)).open_items[0].conflict_id

    class Died(BaseException):
        pass

    async def die(*args: Any) -> Any:
        bench.engine.core.journal.append = die  # type: ignore[method-assign] -- nothing is written any more
        raise Died

    bench.memory.swap = die  # type: ignore[method-assign] -- the process dies there
    with pytest.raises(Died):
        await bench.engine.resolve_conflict(ALICE, conflict, "ours")
    again = await open_bench()
    assert again.memory.get("a") == "one\n" and await again.engine.open_items(ALICE) == []
    assert not (await action(again, done.action_id)).stands


async def test_a_foreign_rollback_is_as_unknown_as_any(bench: Bench) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    rollback = str((await bench.back(run_id=run)).rollback_id)
    said: list[tuple[str, str, str]] = []
    for wanted in (rollback, "rbk_nope"):
        with pytest.raises(EngineError) as caught:
            await bench.engine.redo(BOB, wanted)
        said.append((caught.value.code, caught.value.message.replace(wanted, "X"), caught.value.advice))
    assert said[0] == said[1]


async def test_the_ids_of_foreign_runs_are_not_told(bench: Bench) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    await bench.done("set_value", None, caller=BOB, key="a", value="2")
    for dry_run in (True, False):
        answer = await bench.back(run_id=run, dry_run=dry_run)
        assert answer.other_runs == [] and bench.memory.get("a") == "2"
        foreign = [
            one for one in await bench.engine.core.journal.find(RunView) if one.owner.principal != ALICE.principal
        ]
        assert all(one.id not in answer.model_dump_json() for one in foreign)


async def test_a_contained_run_does_not_act_again_by_way_of_a_redo_a_version_or_a_resolution(bench: Bench) -> None:
    bench.memory.edit("c", "before\n")
    run = await bench.start()
    first = await bench.set(run, "a", "1")
    await bench.set(run, "c", "after\n")
    bench.memory.edit("c", "theirs\n")
    back = await bench.back(run_id=run)
    (item,) = back.open_items
    await bench.engine.contain_run(ALICE, run, "it loops")
    for act in (
        lambda: bench.engine.redo(ALICE, str(back.rollback_id)),
        lambda: bench.engine.restore_version(ALICE, "a", f"{first.action_id}:after"),
        lambda: bench.engine.resolve_conflict(ALICE, item.conflict_id, "content", content="anything"),
    ):
        with pytest.raises(EngineError) as caught:
            await act()
        assert caught.value.code == "contained"
    assert bench.memory.texts() == {"c": "theirs\n"} and await status(bench, run) == "contained"
    await bench.engine.resolve_conflict(ALICE, item.conflict_id, "ours")
    assert bench.memory.texts() == {"c": "before\n"}


async def test_a_contained_run_puts_earlier_versions_back_over_what_it_left_and_over_nothing_else(bench: Bench) -> None:
    older = await bench.start()
    await bench.set(older, "b", "1")
    late = await bench.set(older, "b", "2")
    await bench.engine.finish_run(ALICE, older)
    run = await bench.start()
    await bench.set(run, "a", "1")
    second = await bench.set(run, "a", "2")
    await bench.engine.contain_run(ALICE, run, "it loops")
    bench.memory.edit("a", "put right by a person")
    with pytest.raises(EngineError, match="not as it left it"):
        await bench.engine.restore_version(ALICE, "a", f"{second.action_id}:before")
    with pytest.raises(EngineError, match="of the same client is contained"):
        await bench.engine.restore_version(ALICE, "b", f"{late.action_id}:before")
    assert bench.memory.texts() == {"a": "put right by a person", "b": "2"}
    bench.memory.edit("a", "2")
    await bench.engine.restore_version(ALICE, "a", f"{second.action_id}:before")
    assert bench.memory.texts() == {"a": "1", "b": "2"}


async def test_nor_does_its_client_by_way_of_what_runs_that_are_over_have_left(bench: Bench) -> None:
    bench.memory.edit("c", "before\n")
    earlier = await bench.start()
    first = await bench.set(earlier, "a", "1")
    await bench.set(earlier, "c", "after\n")
    bench.memory.edit("c", "theirs\n")
    back = await bench.back(run_id=earlier)
    (item,) = back.open_items
    await bench.engine.finish_run(ALICE, earlier)
    run = await bench.start()
    await bench.engine.contain_run(ALICE, run, "it loops")
    acts = (
        lambda: bench.engine.redo(ALICE, str(back.rollback_id)),
        lambda: bench.engine.restore_version(ALICE, "a", f"{first.action_id}:after"),
        lambda: bench.engine.resolve_conflict(ALICE, item.conflict_id, "content", content="anything"),
    )
    for act in acts:
        with pytest.raises(EngineError, match="of the same client is contained"):
            await act()
    assert bench.memory.texts() == {"c": "theirs\n"}
    bench.engine.core.persons_door = True  # a person can
    for act in acts:
        await act()
    assert bench.memory.texts() == {"a": "1", "c": "anything"}


async def test_taking_a_contained_run_back_does_not_let_its_client_go_on_in_a_fresh_run(bench: Bench) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    await bench.engine.contain_run(ALICE, run, "it loops")
    fresh = await bench.start()
    await bench.back(run_id=run)
    assert (await bench.call("set_value", fresh, key="b", value="1")).status == "denied"
    assert bench.memory.texts() == {}


async def test_while_a_contained_run_is_taken_back_its_client_is_held_too(bench: Bench) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    await bench.engine.contain_run(ALICE, run, "it loops")
    fresh = await bench.start()
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(step: str) -> None:
        if step == "swap":
            reached.set()
            await go_on.wait()

    bench.memory.on_step = hold
    back = asyncio.create_task(bench.back(run_id=run))
    await reached.wait()
    answer = await bench.call("set_value", fresh, key="b", value="1")
    go_on.set()
    await back
    assert answer.status == "denied" and bench.memory.texts() == {}


async def test_a_child_begun_after_its_parent_was_contained_may_not_act_for_any_client(bench: Bench) -> None:
    run = await bench.start()
    await bench.engine.contain_run(ALICE, run, "it loops")
    other = ALICE.model_copy(update={"client": "another"})
    child = await bench.engine.start_run(other, "go on", parent_run_id=run)
    answer = await bench.call("set_value", child.run_id, caller=other, key="a", value="1")
    assert answer.status == "denied" and bench.memory.texts() == {}


async def test_a_child_contained_for_itself_is_not_released_with_its_parent(bench: Bench) -> None:
    run = await bench.start()
    child = await bench.start(parent_run_id=run)
    await bench.engine.contain_run(ALICE, child, "the child loops")
    await bench.engine.contain_run(ALICE, run, "the parent loops")
    await bench.engine.release_run(ALICE, run)
    assert await status(bench, run) == "open" and await status(bench, child) == "contained"


async def test_containment_reaches_past_any_number_of_other_contained_runs(bench: Bench) -> None:
    mine = await bench.start()
    await bench.engine.contain_run(ALICE, mine, "it loops")
    for number in range(55):
        other = await bench.engine.start_run(BOB, str(number))
        await bench.engine.contain_run(BOB, other.run_id, "another one")
    fresh = await bench.start()
    assert (await bench.call("set_value", fresh, key="a", value="1")).status == "denied"


async def test_an_unreachable_system_hides_nothing_of_a_rollback_that_was_done_before_resuming(bench: Bench) -> None:
    run = await bench.start()
    first = await bench.set(run, "a", "1")
    await bench.set(run, "b", "1")
    real = bench.memory.swap

    async def then_away(effects: Any) -> Any:
        done = await real(effects)
        failing(bench, "look", lambda: Unavailable("out of reach"), at=lambda n: True)
        return done

    bench.memory.swap = then_away  # type: ignore[method-assign] -- a fault
    brief = await bench.engine.resume_from(ALICE, str(first.checkpoint_id), restore=True)
    assert brief.rollback and brief.rollback.status == "complete" and brief.run_id
    assert any("looked at" in line for line in [*brief.drift, brief.text])


async def test_no_system_is_asked_about_an_act_that_only_its_tool_could_tell_of(open_bench: OpenBench) -> None:
    bench = await open_bench()
    run = await bench.start()
    doubted, _ = await in_doubt(bench, run)
    two = await open_bench(recover=False)
    core = two.engine.core
    core.tools = {name: tool for name, tool in core.tools.items() if name != "post_note"}

    asked: list[Any] = []

    async def swap(effects: Any) -> Any:
        asked.append(effects)
        raise Unavailable("it should not have been asked")

    two.memory.swap = swap  # type: ignore[method-assign] -- it is not to be called
    assert await settle_all(core) == [] and asked == []
    found = await action(two, doubted)
    assert found.status == "in_doubt"


async def test_a_refusal_counts_however_many_other_questions_were_asked_since(bench: Bench) -> None:
    run = await bench.start()
    pending = await bench.call("announce", run, text="the one that matters")
    await bench.engine.deny(ALICE, str(pending.approval_id), lane="test")
    for number in range(205):
        await bench.call("announce", run, text=str(number))
    assert (await bench.call("announce", run, text="the one that matters")).status == "denied"


@pytest.mark.parametrize("person", [True, False])
async def test_what_nobody_can_look_at_is_not_called_a_persons_word_if_a_program_said_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, person: bool
) -> None:
    def lost(*_: object) -> None:
        raise RuntimeError("the line is dead")

    monkeypatch.setattr(bench.engine.core.tools["announce"], "apply", lost)
    run = await bench.start()
    pending = await bench.call("announce", run, text="Hear")
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    assert (await bench.call("announce", run, text="Hear")).status == "in_doubt"
    [item] = await bench.engine.open_items(ALICE)
    bench.engine.core.persons_door = person
    settled = await bench.engine.resolve_conflict(ALICE, item.conflict_id, "ours")
    assert settled.steps[0].why == "it is not there, " + (
        "a person said" if person else f"test for {ALICE.principal} said"
    )


async def test_what_a_person_had_to_agree_to_is_not_brought_back_without_them(bench: Bench) -> None:
    bench.engine.core.policy = RulesPolicy([Rule.model_validate({"id": "ask", "then": "ask"})])
    run = await bench.start()
    call = {"key": "a", "value": "agreed to"}
    pending = await bench.call("set_value", run, **call)
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    done = await bench.call("set_value", run, **call)
    back = await bench.back(run_id=run)
    assert (done.status, back.status, bench.memory.texts()) == ("applied", "complete", {})
    for act in (
        lambda: bench.engine.redo(ALICE, str(back.rollback_id)),
        lambda: bench.engine.restore_version(ALICE, "a", f"{done.action_id}:after"),
    ):
        with pytest.raises(EngineError, match="for one time"):
            await act()
    assert bench.memory.texts() == {}
    bench.engine.core.persons_door = True
    await bench.engine.redo(ALICE, str(back.rollback_id))
    assert bench.memory.texts() == {"a": "agreed to"}


async def test_nor_is_it_by_ours_of_a_conflict_that_a_redo_left(bench: Bench) -> None:
    bench.engine.core.policy = RulesPolicy([Rule.model_validate({"id": "ask", "then": "ask"})])
    bench.memory.edit("a", "before\n")
    run = await bench.start()
    call = {"key": "a", "value": "agreed to\n"}
    pending = await bench.call("set_value", run, **call)
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    await bench.call("set_value", run, **call)
    back = await bench.back(run_id=run)
    bench.memory.edit("a", "by a person\n")
    bench.engine.core.persons_door = True
    (item,) = (await bench.engine.redo(ALICE, str(back.rollback_id))).open_items
    bench.engine.core.persons_door = False
    with pytest.raises(EngineError, match="for one time"):
        await bench.engine.resolve_conflict(ALICE, item.conflict_id, "ours")
    await bench.engine.contain_run(ALICE, run, "odd")
    with pytest.raises(EngineError, match="is contained"):
        await bench.engine.resolve_conflict(ALICE, item.conflict_id, "ours")
    assert bench.memory.texts() == {"a": "by a person\n"}
