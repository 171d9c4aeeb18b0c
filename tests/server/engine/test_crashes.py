"""A stop before and after each journaled step and each swap, on the way there and back: nothing lost, nothing half said.

The process "dies" by an exception that no code of ours may catch, raised at the n-th call of an interposed journal or system;
from then on the dead engine can write nothing any more. A new engine opens the same data directory and has to get it right.
n counts up until a scenario runs through untouched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.server.engine.reaper import Died, Reaper, interpose, interpose_board

from takeback.journal.views import ActionView, OpenItem, RollbackView, RunView
from takeback.server.engine.answers import EngineError


async def until_untouched(
    open_bench: OpenBench,
    prepare: Callable[[Bench], Awaitable[Any]],
    dying: Callable[[Bench, Any], Awaitable[Any]],
    check: Callable[[Bench, Any, bool], Awaitable[None]],
) -> int:
    """Run the scenario with a death at the first, second, third … step, until it survives; the number of deaths."""
    for n in range(1, 200):
        bench = await open_bench()
        handed = await prepare(bench)
        reaper = Reaper(n)
        interpose(bench.engine.core, reaper)
        interpose_board(bench.memory, reaper)
        try:
            await dying(bench, handed)
        except Died:
            pass
        except BaseExceptionGroup as group:
            if group.split(Died)[1] is not None:
                raise
        survivor = await open_bench()
        await check(survivor, handed, reaper.dead)
        assert (await survivor.engine.core.journal.verify()).sound
        for action in await survivor.engine.core.journal.find(ActionView):
            assert action.status != "intended", f"death {n} left {action.id} intended"
        for run in await survivor.engine.core.journal.find(RunView):
            assert run.status != "sealed", f"death {n} left {run.id} sealed"
        for rollback in await survivor.engine.core.journal.find(RollbackView):
            assert rollback.status != "running", f"death {n} left {rollback.id} running"
        if not reaper.dead:
            return n - 1
        for key in survivor.memory.texts():
            survivor.memory.edit(key, None)
        for note in survivor.memory.notes():
            survivor.memory.unpin(note)
    raise AssertionError("the scenario never ran through")


async def test_an_act_is_either_there_and_journaled_or_not_there(open_bench: OpenBench) -> None:
    async def prepare(bench: Bench) -> str:
        bench.memory.edit("a", "before")
        return await bench.start()

    async def act(bench: Bench, run: str) -> None:
        await bench.call("set_value", run, key="a", value="after")

    async def check(bench: Bench, run: str, died: bool) -> None:
        text = bench.memory.get("a")
        actions = await bench.engine.core.journal.find(ActionView, run_id=run)  # type: ignore[arg-type] -- an id
        assert text in ("before", "after")
        assert [action.stands for action in actions if action.stands] == ([True] if text == "after" else [])
        if text == "after":
            assert (await bench.back(run_id=run)).status == "complete"
        assert bench.memory.get("a") == "before"

    assert await until_untouched(open_bench, prepare, act, check) >= 6


async def test_a_rollback_is_finished_by_the_next_process(open_bench: OpenBench) -> None:
    async def prepare(bench: Bench) -> str:
        bench.memory.edit("a", "before")
        run = await bench.start()
        for key, value in (("a", "1"), ("b", "1"), ("a", "2")):
            await bench.set(run, key, value)
        await bench.done("delete_value", run, key="b")
        return run

    async def rollback(bench: Bench, run: str) -> None:
        await bench.back(run_id=run)

    async def check(bench: Bench, run: str, died: bool) -> None:
        try:
            answer = await bench.back(run_id=run)  # whatever the dead one had not begun
            assert answer.status == "complete", answer
        except EngineError as error:
            assert error.code == "nothing"
        assert bench.memory.texts() == {"a": "before"}
        assert not await bench.engine.core.journal.find(OpenItem)

    assert await until_untouched(open_bench, prepare, rollback, check) >= 16


async def test_a_redo_is_finished_by_the_next_process(open_bench: OpenBench) -> None:
    async def prepare(bench: Bench) -> tuple[str, str]:
        run = await bench.start()
        await bench.set(run, "a", "1")
        await bench.set(run, "b", "2")
        return run, str((await bench.back(run_id=run)).rollback_id)

    async def redo(bench: Bench, handed: tuple[str, str]) -> None:
        await bench.engine.redo(ALICE, handed[1])

    async def check(bench: Bench, handed: tuple[str, str], died: bool) -> None:
        try:
            await bench.engine.redo(ALICE, handed[1])
        except EngineError as error:
            assert error.code == "redone"
        assert bench.memory.texts() == {"a": "1", "b": "2"}
        assert (await bench.back(run_id=handed[0])).status == "complete" and bench.memory.texts() == {}

    assert await until_untouched(open_bench, prepare, redo, check) >= 10


async def test_a_merge_keeps_the_foreign_edit_through_any_death(open_bench: OpenBench) -> None:
    lines = "one\ntwo\nthree\nfour\nfive\n"

    async def prepare(bench: Bench) -> str:
        bench.memory.edit("a", lines)
        run = await bench.start()
        await bench.set(run, "a", lines.replace("one", "ONE"))
        bench.memory.edit("a", lines.replace("one", "ONE").replace("five", "five, by a person"))
        return run

    async def rollback(bench: Bench, run: str) -> None:
        await bench.back(run_id=run)

    async def check(bench: Bench, run: str, died: bool) -> None:
        try:
            await bench.back(run_id=run)
        except EngineError as error:
            assert error.code == "nothing"
        assert bench.memory.get("a") == lines.replace("five", "five, by a person")

    assert await until_untouched(open_bench, prepare, rollback, check) >= 8


async def test_a_compensation_is_made_once_it_is_said_to_be(open_bench: OpenBench) -> None:
    async def prepare(bench: Bench) -> str:
        run = await bench.start()
        pending = await bench.call("post_note", run, text="hello")
        await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
        return run

    async def post_and_take_back(bench: Bench, run: str) -> None:
        await bench.call("post_note", run, text="hello")
        await bench.back(run_id=run)

    async def check(bench: Bench, run: str, died: bool) -> None:
        actions = await bench.engine.core.journal.find(ActionView, run_id=run)  # type: ignore[arg-type] -- an id
        standing = [action for action in actions if action.stands]
        assert len(standing) == len(bench.memory.notes())
        if standing:
            assert (await bench.back(run_id=run)).status == "complete"
        assert bench.memory.notes() == {}

    assert await until_untouched(open_bench, prepare, post_and_take_back, check) >= 12


async def test_a_resolution_is_finished_or_still_open(open_bench: OpenBench) -> None:
    async def prepare(bench: Bench) -> str:
        bench.memory.edit("a", "one\n")
        run = await bench.start()
        await bench.set(run, "a", "two\n")
        bench.memory.edit("a", "theirs\n")
        return (await bench.back(run_id=run)).open_items[0].conflict_id

    async def resolve(bench: Bench, conflict: str) -> None:
        await bench.engine.resolve_conflict(ALICE, conflict, "ours")

    async def check(bench: Bench, conflict: str, died: bool) -> None:
        item = await bench.engine.core.journal.get(OpenItem, conflict)
        assert item is not None
        if item.status == "open":
            assert bench.memory.get("a") == "theirs\n"
            await bench.engine.resolve_conflict(ALICE, conflict, "ours")
        assert bench.memory.get("a") == "one\n"

    assert await until_untouched(open_bench, prepare, resolve, check) >= 5


@pytest.mark.parametrize("mutant", ["acts before it journals"])
async def test_negative_control_an_engine_that_acts_first_is_caught(open_bench: OpenBench, mutant: str) -> None:
    from takeback.server.engine.acting import Actor

    original = Actor.act

    async def acting_first(self: Any, work: Any, prepared: Any, verdict: Any) -> Any:
        committed = await prepared.commit()
        await self._intend(work, prepared, verdict)
        return await self._conclude(work, prepared, committed)

    Actor.act = acting_first  # type: ignore[method-assign] -- the mutant
    try:
        with pytest.raises(AssertionError):
            await test_an_act_is_either_there_and_journaled_or_not_there(open_bench)
    finally:
        Actor.act = original  # type: ignore[method-assign] -- the mutant's end
