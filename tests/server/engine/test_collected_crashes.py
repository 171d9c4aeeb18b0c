"""A stop before and after each journaled step and each swap while a plan is carried out or a stage published."""

from __future__ import annotations

import pytest
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.server.engine.many import actions
from tests.server.engine.test_crashes import until_untouched

from takeback.journal.events import RunMode
from takeback.journal.views import ApprovalView, CollectedCall, OpenItem, RunView

AFTER = {"a": "1"}
BEFORE = {"b": "old"}


@pytest.mark.parametrize("mode", ["plan", "staged"])
async def test_the_world_is_before_or_after_and_what_was_begun_is_completed(
    open_bench: OpenBench, mode: RunMode
) -> None:
    async def prepare(bench: Bench) -> str:
        bench.memory.edit("b", "old")
        run = await bench.start(mode=mode)
        await bench.call("set_value", run, key="a", value="1")
        await bench.call("delete_value", run, key="b")
        if mode == "plan":
            pending = await bench.engine.finish_run(ALICE, run)
            await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
        return run

    async def carry_out(bench: Bench, run: str) -> None:
        await bench.engine.finish_run(ALICE, run, summary="all of it")

    async def check(bench: Bench, run: str, died: bool) -> None:
        journal = bench.engine.core.journal
        view = await journal.get(RunView, run)
        assert view is not None
        assert bench.memory.texts() in (BEFORE, AFTER), "nothing in between is left"
        if bench.memory.texts() == BEFORE:
            assert view.status == "open" and not await actions(bench, run)
            done = await bench.engine.finish_run(ALICE, run)
            assert done.error is None, "the consent had not been spent"
        elif view.status == "open":  # it died between the last act and the end of the run
            done = await bench.engine.finish_run(ALICE, run)
        assert bench.memory.texts() == AFTER
        made = [action.tool for action in await actions(bench, run) if action.stands]
        assert made == ["set_value", "delete_value"], "each once"
        assert not await journal.find(CollectedCall, status=("collected", "begun"))
        if mode == "plan":
            assert {approval.status for approval in await journal.find(ApprovalView, run_id=view.run_id)} == {"used"}
        assert (await bench.back(run_id=run)).status == "complete" and bench.memory.texts() == BEFORE

    assert await until_untouched(open_bench, prepare, carry_out, check) >= 16


async def test_a_stage_that_cannot_be_published_whole_is_not_there_whenever_the_process_dies(
    open_bench: OpenBench,
) -> None:
    async def prepare(bench: Bench) -> str:
        bench.memory.edit("b", "old")
        run = await bench.start(mode="staged")
        await bench.call("set_value", run, key="a", value="1")
        await bench.call("delete_value", run, key="b")
        return run

    async def publish(bench: Bench, run: str) -> None:
        swap = bench.memory.swap

        async def meddled(effects: object) -> object:
            result = await swap(effects)  # type: ignore[arg-type] -- handed on as it came
            if bench.memory.get("a") == "1" and bench.memory.get("b") == "old":
                bench.memory.edit("b", "theirs")  # a person saves it while the first is being made
            return result

        bench.memory.swap = meddled  # type: ignore[method-assign] -- somebody else's act at the worst moment
        await bench.engine.finish_run(ALICE, run)

    async def check(bench: Bench, run: str, died: bool) -> None:
        texts = bench.memory.texts()
        if texts.get("b") == "theirs":
            assert texts == {"b": "theirs"}, "what was made is taken back, what others made stays"
        elif "b" in texts:
            assert texts == BEFORE
        else:
            assert texts == {"a": "1"}, "the next process published it whole"
        assert not await bench.engine.core.journal.find(CollectedCall, status="begun")
        assert not await bench.engine.core.journal.find(OpenItem, status="open")

    assert await until_untouched(open_bench, prepare, publish, check) >= 10
