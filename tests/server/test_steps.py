"""How far a run has come in its plan: pure, from what the journal says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.server.queries_world import World, world

from takeback.journal.events import CheckpointNamed
from takeback.journal.ids import RunId, new_checkpoint_id
from takeback.journal.views import ActionView, CheckpointView, RunView
from takeback.server.engine.steps import Progress, progress_of


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def come(here: World, run_id: RunId) -> Progress:
    run = await here.journal.get(RunView, run_id)
    assert run is not None
    return progress_of(
        run,
        await here.journal.find(ActionView, run_id=run_id),
        await here.journal.find(CheckpointView, run_id=run_id),
    )


async def said(here: World, run_id: RunId, step: str) -> None:
    await here.journal.append(
        [CheckpointNamed(run_id=run_id, at=here.tick(), checkpoint_id=new_checkpoint_id(), label="x", step=step)]
    )


async def status(here: World, run_id: RunId) -> list[str]:
    return [step.status for step in (await come(here, run_id)).steps]


async def test_a_step_of_which_something_failed_is_not_done(here: World) -> None:
    run = await here.run(steps=("one", "two"))
    await here.act(run, "a", "1", step="one")
    await here.fail(run, "No.", step="one", requested={"key": "b"})
    assert await status(here, run) == ["partly", "not_begun"]
    await here.act(run, "c", "1", step="one")  # about something else: it makes nothing good
    assert await status(here, run) == ["partly", "not_begun"]
    await here.act(run, "b", "1", step="one")
    assert await status(here, run) == ["done", "not_begun"]


async def test_a_failure_that_was_made_good_is_none_when_all_is_taken_back(here: World) -> None:
    run = await here.run(steps=("one", "two"))
    await here.fail(run, "No.", step="one", requested={"key": "a"})
    action = await here.act(run, "a", "1", step="one")
    assert await status(here, run) == ["done", "not_begun"]
    await here.take_back(run, action, "a", None)
    assert await status(here, run) == ["taken_back", "not_begun"]


async def test_a_step_that_was_passed_over_is_skipped(here: World) -> None:
    run = await here.run(steps=("one", "two", "three"))
    await here.act(run, "a", "1", step="two")
    assert await status(here, run) == ["skipped", "done", "not_begun"]


async def test_a_step_that_is_planned_twice_is_done_twice(here: World) -> None:
    run = await here.run(steps=("check", "write", "check"))
    await here.act(run, "a", "1", step="check")
    await here.act(run, "b", "1", step="check")
    assert await status(here, run) == ["done", "not_begun", "not_begun"]
    await here.act(run, "c", "1", step="write")
    await here.act(run, "d", "1", step="Check ")
    assert await status(here, run) == ["done", "done", "done"]


async def test_a_second_try_at_a_step_does_not_use_up_the_next_one_of_its_name(here: World) -> None:
    run = await here.run(steps=("check", "write", "check"))
    await here.fail(run, "No.", step="check", requested={"key": "a"})
    await here.act(run, "c", "1", step="write")
    await here.act(run, "a", "1", step="check")
    assert await status(here, run) == ["done", "done", "not_begun"]


async def test_a_step_that_was_worked_at_again_later_is_told_so(here: World) -> None:
    run = await here.run(steps=("write", "send"))
    for step in ("write", "send", "write", "tidy", "tidy"):
        await here.act(run, step, "1", step=step)
    found = await come(here, run)
    assert [step.times for step in found.steps] == [1, 0]
    assert found.unplanned == ("tidy",)
    assert found.done == 2


async def test_a_step_that_was_taken_back_is_not_done_until_it_is_done_anew(here: World) -> None:
    run = await here.run(steps=("one", "two"))
    first = await here.act(run, "a", "1", step="one")
    await here.act(run, "b", "1", step="two")
    await here.take_back(run, first, "a", None)
    assert await status(here, run) == ["taken_back", "done"]
    await here.act(run, "c", "1", step="one")
    assert await status(here, run) == ["partly", "done"]
    await here.act(run, "a", "2", step="one")
    assert await status(here, run) == ["done", "done"]


async def test_a_doubt_is_no_success(here: World) -> None:
    run = await here.run(steps=("one",))
    intended = await here.intend(run, "a", "1", step="one")
    assert intended.step == "one"
    assert await status(here, run) == ["in_doubt"]


async def test_an_agent_says_that_a_step_is_done_with_a_checkpoint(here: World) -> None:
    run = await here.run(steps=("read", "write"))
    await said(here, run, "read")
    act = await here.act(run, "a", "1", step="write")
    await here.fail(run, "No.", step="write", requested={"key": "b"})
    await said(here, run, "write")
    assert await status(here, run) == ["done", "done"]
    await here.fail(run, "No.", step="write", requested={"key": "c"})
    assert await status(here, run) == ["done", "partly"]
    # what it rested on was taken back
    await here.take_back(run, act, "a", None)
    assert await status(here, run) == ["done", "failed"]


async def test_a_run_without_a_plan_has_no_steps(here: World) -> None:
    run = await here.run()
    await here.act(run, "a", "1", step="one")
    assert await come(here, run) == Progress((), ())
