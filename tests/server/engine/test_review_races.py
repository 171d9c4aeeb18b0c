"""Several callers and several engines at once: nothing done twice, nothing forgotten, and no report about another moment."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench
from tests.server.engine.many import action, actions, approved, status

from takeback.journal.events import RollbackStep
from takeback.journal.views import OpenItem, RollbackView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.settle import settle_all


class Gate:
    """Stops whoever comes to a step of the memory system, until it is opened."""

    def __init__(self, bench: Bench, step: str, *, times: int = 1) -> None:
        self.reached, self.open = asyncio.Event(), asyncio.Event()
        self._step, self._times = step, times
        bench.memory.on_step = self

    async def __call__(self, name: str) -> None:
        if name == self._step and self._times:
            self._times -= 1
            self.reached.set()
            await self.open.wait()


def delayed(bench: Bench, kind: str) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold the first append of an event of this kind back."""
    journal = bench.engine.core.journal
    append = journal.append
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(events: Any, **more: Any) -> Any:
        if not reached.is_set() and any(event.type == kind for event in events):
            reached.set()
            await go_on.wait()
        return await append(events, **more)

    journal.append = slow  # type: ignore[method-assign] -- only slower
    return reached, go_on


async def concluded(bench: Bench, outcome: str) -> int:
    """How many steps of any rollback ended so, by the journal."""
    events = [recorded.event for recorded in await bench.engine.core.journal.read(limit=10_000)]
    return sum(isinstance(event, RollbackStep) and event.outcome == outcome for event in events)


async def test_two_rollbacks_at_once_make_up_for_an_act_once(open_bench: OpenBench) -> None:
    one, two = await open_bench(), await open_bench()
    run = await one.start()
    await approved(one, "post_note", run, text="hello")
    await one.done("post_note", run, text="hello")
    gate = Gate(one, "delete")
    first = asyncio.create_task(one.back(run_id=run))
    await gate.reached.wait()
    second = asyncio.create_task(two.back(run_id=run))
    await asyncio.sleep(0)
    gate.open.set()
    answers = await asyncio.gather(first, second, return_exceptions=True)
    assert await concluded(one, "compensated") == 1
    assert [answer.code for answer in answers if isinstance(answer, EngineError)] in ([], ["nothing"])
    assert await status(one, run) == "rolled_back"


async def test_an_act_that_was_in_flight_when_a_rollback_came_is_taken_back_and_not_called_a_doubt(
    open_bench: OpenBench,
) -> None:
    one, two = await open_bench(), await open_bench()
    run = await one.start()
    await one.set(run, "a", "1")
    gate = Gate(one, "swap")
    act = asyncio.create_task(one.call("set_value", run, key="b", value="1"))
    await gate.reached.wait()
    reached, go_on = delayed(two, "run.sealed")
    back = asyncio.create_task(two.back(run_id=run))
    await reached.wait()
    go_on.set()
    gate.open.set()
    assert (await act).status == "applied"
    answer = await back
    assert [step.outcome for step in answer.steps] == ["restored", "restored"] and answer.status == "complete"
    assert one.memory.texts() == {} and not await one.engine.core.journal.find(OpenItem, status="open")


async def test_an_act_that_came_between_request_and_seal_is_taken_back_too(open_bench: OpenBench) -> None:
    one, two = await open_bench(), await open_bench()
    run = await one.start()
    await one.set(run, "a", "1")
    reached, go_on = delayed(two, "run.sealed")
    back = asyncio.create_task(two.back(run_id=run))
    await reached.wait()
    late = await one.set(run, "late", "1")
    go_on.set()
    answer = await back
    assert answer.run_status == "rolled_back" and one.memory.texts() == {}
    assert (await action(one, late.action_id)).stands is False


async def test_two_redos_at_once_bring_it_back_once(open_bench: OpenBench) -> None:
    one, two = await open_bench(), await open_bench()
    run = await one.start()
    await one.set(run, "a", "1")
    rollback = str((await one.back(run_id=run)).rollback_id)
    reached, go_on = delayed(one, "rollback.started")
    first = asyncio.create_task(one.engine.redo(ALICE, rollback))
    await reached.wait()
    second = asyncio.create_task(two.engine.redo(ALICE, rollback))
    for _ in range(50):
        await asyncio.sleep(0)
    go_on.set()
    answers = await asyncio.gather(first, second, return_exceptions=True)
    assert [answer.code for answer in answers if isinstance(answer, EngineError)] == ["redone"]
    assert one.memory.texts() == {"a": "1"}


async def test_a_run_contained_while_it_is_taken_back_stays_contained(bench: Bench) -> None:
    run = await bench.start()
    first = await bench.set(run, "a", "1")
    await bench.set(run, "b", "1")
    gate = Gate(bench, "swap")
    back = asyncio.create_task(bench.back(to_checkpoint=first.checkpoint_id))
    await gate.reached.wait()
    await bench.engine.contain_run(ALICE, run, "it loops")
    gate.open.set()
    await back
    assert await status(bench, run) == "contained"
    await bench.engine.release_run(ALICE, run)
    assert await status(bench, run) == "open"
    await bench.set(run, "c", "1")


async def test_containment_in_the_last_moment_of_a_rollback_is_not_overruled(open_bench: OpenBench) -> None:
    one, two = await open_bench(), await open_bench()
    run = await one.start()
    first = await one.set(run, "a", "1")
    await one.set(run, "b", "1")
    reached, go_on = delayed(one, "run.reopened")
    back = asyncio.create_task(one.back(to_checkpoint=first.checkpoint_id))
    await reached.wait()
    await two.engine.contain_run(ALICE, run, "it loops")
    go_on.set()
    await back
    assert await status(one, run) == "contained"


async def test_an_earlier_rollback_of_two_runs_is_finished_by_one_process_only(open_bench: OpenBench) -> None:
    one = await open_bench()
    first, second = await one.start("first"), await one.start("second")
    await one.set(first, "a", "1")
    await one.set(second, "a", "2")
    await approved(one, "post_note", first, text="hello")
    await one.done("post_note", first, text="hello")
    reached, _ = delayed(one, "rollback.step")
    dying = asyncio.create_task(one.back(run_id=first, cascade=[second]))
    await reached.wait()
    # the process goes: its locks are let go, and what it was about to write is never written
    two, three = await open_bench(recover=False), await open_bench(recover=False)
    dying.cancel()
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task() and task is not dying and "shielded" in repr(task.get_coro()):
            task.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert await two.engine.core.journal.find(RollbackView, status="running")
    gates = Gate(two, "delete"), Gate(three, "delete")
    backs = [asyncio.create_task(two.back(run_id=first))]
    await gates[0].reached.wait()
    backs.append(asyncio.create_task(three.back(run_id=second)))
    await asyncio.wait([asyncio.create_task(gates[1].reached.wait())], timeout=0.5)
    for gate in gates:
        gate.open.set()
    await asyncio.gather(*backs, return_exceptions=True)
    gates[1].reached.set()
    assert await concluded(two, "compensated") == 1 and two.memory.texts() == {}
    assert await status(two, first) == "rolled_back" and await status(two, second) == "open"


async def test_a_fork_waits_for_what_its_parent_has_in_doubt_before_it_acts_under_the_same_key(bench: Bench) -> None:
    run = await bench.start()
    await approved(bench, "post_note", run, text="hello")

    def fail(name: str) -> None:
        if name == "posted":
            raise ConnectionResetError("gone")

    bench.memory.on_step = fail
    tool: Any = bench.engine.core.tools["post_note"]
    real = tool.happened

    async def nobody_knows(memo: Any) -> Any:
        raise ConnectionError("the board is away")

    tool.happened = nobody_knows
    broken = await bench.call("post_note", run, text="hello", idempotency_key="k")
    assert broken.status == "in_doubt" and len(bench.memory.notes()) == 1
    bench.memory.on_step = lambda step: None
    named = await bench.engine.create_checkpoint(ALICE, run, "here")
    fork = str((await bench.engine.resume_from(ALICE, named.checkpoint_id)).run_id)
    again = await bench.call("post_note", fork, text="hello", idempotency_key="k")
    assert again.error and again.error.code == "in_doubt"
    tool.happened = real
    again = await bench.call("post_note", fork, text="hello", idempotency_key="k")
    assert again.status == "replayed" and len(bench.memory.notes()) == 1


async def test_the_default_run_is_found_again_beside_any_number_of_other_runs(bench: Bench) -> None:
    first = await bench.done("set_value", key="a", value="1")
    for number in range(60):
        await bench.engine.start_run(BOB, str(number))
    assert (await bench.done("set_value", key="b", value="1")).run_id == first.run_id


# What follows needs the pipeline: an act without named objects (a tool whose `targets` answers nothing) holds no lock while it
# is at work, so another process settles it, or takes its run back, as if its process had died.
async def test_an_act_without_objects_is_left_alone_while_a_living_process_is_at_work_on_it(
    open_bench: OpenBench,
) -> None:
    one = await open_bench()
    run = await one.start()
    await approved(one, "post_note", run, text="hello")
    gate = Gate(one, "post")
    act = asyncio.create_task(one.call("post_note", run, text="hello"))
    await gate.reached.wait()
    try:
        two = await open_bench()
        assert not await settle_all(two.engine.core)
        (found,) = await actions(two, run)
        assert found.status == "intended"
    finally:
        gate.open.set()
        await act
