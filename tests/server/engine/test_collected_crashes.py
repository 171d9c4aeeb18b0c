"""A stop before and after each journaled step and each swap while a plan is carried out or a stage published."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.server.engine.many import actions
from tests.server.engine.reaper import Died, Reaper, interpose
from tests.server.engine.test_crashes import until_untouched
from tests.server.engine.test_file_crashes import folder, open_engine, plant
from tests.tools.files_system.signature import signature

from takeback.journal.views import ApprovalView, CollectedCall, OpenItem, RunView

__all__ = ["folder"]  # a fixture

AFTER = {"a": "1"}
BEFORE = {"b": "old"}


async def test_a_plan_is_carried_out_to_its_end_whenever_the_process_dies(open_bench: OpenBench) -> None:
    async def prepare(bench: Bench) -> str:
        bench.memory.edit("b", "old")
        run = await bench.start(mode="plan")
        await bench.call("set_value", run, key="a", value="1")
        await bench.call("delete_value", run, key="b")
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
        if view.status == "open":  # before it had begun, or between its last act and the end of the run
            done = await bench.engine.finish_run(ALICE, run)
            assert done.error is None, "the consent had not been spent"
        assert bench.memory.texts() == AFTER
        made = [action.tool for action in await actions(bench, run) if action.stands]
        assert made == ["set_value", "delete_value"], "each once"
        assert not await journal.find(CollectedCall, status=("collected", "begun"))
        assert {approval.status for approval in await journal.find(ApprovalView, run_id=view.run_id)} == {"used"}
        assert (await bench.back(run_id=run)).status == "complete" and bench.memory.texts() == BEFORE

    assert await until_untouched(open_bench, prepare, carry_out, check) >= 16


async def test_staged_files_are_all_there_or_none_of_them_whenever_the_process_dies(folder: Path) -> None:
    for n in range(1, 200):
        place = folder / str(n)
        place.mkdir()
        plant(place / "work")
        before = signature(place / "work", folder_times=False)
        first = await open_engine(place, False)
        run = await first.start(mode="staged")
        await first.call("write_file", run, path="x/y.txt", content="new")
        await first.call("edit_file", run, path="x/y.txt", edits=[{"old_text": "new", "new_text": "newer"}])
        await first.call("move_file", run, source="d", destination="e")
        reaper = Reaper(n)
        interpose(first.engine.core, reaper)
        with suppress(Died):
            await first.engine.finish_run(ALICE, run)
        second = await open_engine(place, False)
        try:
            work = place / "work"
            if signature(work, folder_times=False) == before:
                assert (await second.engine.finish_run(ALICE, run)).error is None, n
            assert (work / "x" / "y.txt").read_text() == "newer" and not (work / "d").exists(), n
            assert (work / "e" / "sub" / "g").exists(), n
            assert not await second.engine.core.journal.find(CollectedCall, status=("collected", "begun")), n
            assert (await second.back(run_id=run)).status == "complete", n
            assert signature(work, folder_times=False) == before, n
            assert (await second.engine.core.journal.verify()).sound
        finally:
            await second.engine.close()
            reaper.dead = False
            await first.engine.close()
        shutil.rmtree(place)
        if reaper.count < n:
            assert n > 16
            return
    raise AssertionError("the scenario never ran through")


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
