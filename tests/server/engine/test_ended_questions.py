"""Questions of a run that has ended are void at once, and say why to whoever answers them all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.server.engine.test_judged_back import names, three

from takeback.journal.events import ApprovalRequested
from takeback.journal.ids import RunId, new_approval_id
from takeback.journal.views import ApprovalView
from takeback.server.engine import runs
from takeback.server.engine.answers import EngineError
from takeback.server.engine.approvals import Wanted, find_or_ask
from takeback.server.engine.voiding import expired, sweep


async def finished(bench: Bench, run: str) -> None:
    await bench.engine.finish_run(ALICE, run)


async def failed(bench: Bench, run: str) -> None:
    await bench.engine.finish_run(ALICE, run, status="failed")


async def taken_back(bench: Bench, run: str) -> None:
    assert (await bench.back(run_id=run)).status == "complete"


async def left_alone(bench: Bench, run: str) -> None:
    await runs.finish_idle(bench.engine.core, await bench.engine.core.run(ALICE, run))


End = Callable[[Bench, str], Awaitable[None]]


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (finished, "the run has finished"),
        (failed, "the run has failed"),
        (taken_back, "the run was rolled back"),
        (left_alone, "the run has finished"),
    ],
)
async def test_a_question_is_void_with_the_end_of_its_run_and_says_why(
    open_bench: OpenBench, end: End, why: str
) -> None:
    bench = await open_bench()
    run = await bench.start()
    await bench.set(run, "a", "1")
    asked = await bench.call("announce", run, text="Hello")
    assert asked.approval_id is not None
    await end(bench, run)
    assert await bench.engine.approvals(ALICE) == []
    assert (await bench.engine.get_run(ALICE, run)).pending_approvals == []
    [void] = await bench.engine.approvals(ALICE, status="expired")
    assert (void.approval_id, void.why) == (asked.approval_id, why)
    detail = await bench.engine.get_run(ALICE, run, view="journal")
    [event] = [event for event in detail.journal or [] if event["type"] == "approval.expired"]
    assert event["why"] == why
    assert asked.approval_id not in (await bench.engine.get_run(ALICE, run, view="report")).report.text
    for answer in (bench.engine.approve, bench.engine.deny):
        with pytest.raises(EngineError, match=rf"is void: {why}\.") as refused:
            await answer(ALICE, asked.approval_id, lane="test")
        assert refused.value.code == "not_open"


async def test_a_question_about_the_way_back_outlives_the_end_of_the_run_until_it_is_taken_back(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    bench, run = await three(open_bench, tmp_path, "ask")
    await bench.back(run_id=run)
    await finished(bench, run)
    [asked] = await bench.engine.approvals(ALICE)
    await bench.engine.approve(ALICE, asked.approval_id, lane="test")
    assert (await bench.back(run_id=run)).status == "complete" and names(bench) == []


async def test_nothing_is_asked_in_a_run_that_has_ended_meanwhile(open_bench: OpenBench) -> None:
    bench = await open_bench()
    run = RunId(await bench.start())
    await finished(bench, run)
    with pytest.raises(EngineError) as refused:
        await find_or_ask(bench.engine.core, Wanted(run, ALICE, "announce", "a", "b", "May it?", "why"))
    assert refused.value.code == "run_ended"
    assert await bench.engine.approvals(ALICE, status=None) == []


async def test_one_that_is_answered_in_that_very_moment_leaves_no_other_open(open_bench: OpenBench) -> None:
    bench = await open_bench()
    core, run = bench.engine.core, RunId(await bench.start())
    await finished(bench, run)
    for number in range(3):
        left = ApprovalRequested(
            run_id=run, at=core.now(), approval_id=new_approval_id(), subject="action", tool="announce", caller=ALICE,
            argument_digest=f"{number}", target_digest="b", question="May it?", reason="why",
            expires_at=core.now() + timedelta(hours=1),
        )  # fmt: skip
        await core.journal.append([left])
    append = core.journal.append

    async def another_answers_first(*given: Any, **more: Any) -> Any:
        core.journal.append = append  # type: ignore[method-assign] -- once; the real journal is behind it
        [first, *_] = await core.journal.find(ApprovalView, run_id=run, status="requested")
        await append([expired(core, first, "another one was there")])
        return await append(*given, **more)

    core.journal.append = another_answers_first  # type: ignore[method-assign] -- as above
    await sweep(core, run, "finished")
    assert await core.journal.find(ApprovalView, run_id=run, status="requested") == []


async def test_a_question_that_an_earlier_version_left_open_says_that_its_run_has_ended(open_bench: OpenBench) -> None:
    bench = await open_bench()
    core, run = bench.engine.core, RunId(await bench.start())
    await finished(bench, run)
    left = ApprovalRequested(
        run_id=run, at=core.now(), approval_id=new_approval_id(), subject="action", tool="announce", caller=ALICE,
        argument_digest="a", target_digest="b", question="May it?", reason="why",
        expires_at=core.now() + timedelta(hours=1),
    )  # fmt: skip
    await core.journal.append([left])
    with pytest.raises(EngineError, match=r"is void: the run has finished\."):
        await bench.engine.approve(ALICE, left.approval_id, lane="test")
    assert await bench.engine.approvals(ALICE) == []
