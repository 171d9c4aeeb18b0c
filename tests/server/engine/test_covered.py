"""An act that a later act of the same run has undone: taking it back alone changes nothing, and does not forget it."""

from __future__ import annotations

import pytest
from tests.server.engine.bench import Bench, OpenBench

from takeback.journal.views import ActionView
from takeback.server.settings import ToolSettings


@pytest.fixture
async def bench(open_bench: OpenBench) -> Bench:
    return await open_bench(tools=ToolSettings())


async def stands(bench: Bench, action_id: object) -> bool:
    action = await bench.engine.core.journal.get(ActionView, str(action_id))
    assert action is not None
    return action.stands


async def test_what_a_later_act_deleted_does_not_come_back_with_the_run_taken_back(bench: Bench) -> None:
    run = await bench.start()
    made = await bench.done("write_file", run, path="x", content="made by the agent")
    await bench.done("delete_file", run, path="x")
    alone = await bench.back(run_id=run, actions=[str(made.action_id)])
    [step] = alone.steps
    assert step.outcome == "already_undone"
    assert "later act" in step.why
    assert await stands(bench, made.action_id)
    whole = await bench.back(run_id=run)
    assert whole.status == "complete"
    assert not (bench.work / "x").exists()
    assert not await stands(bench, made.action_id)


async def test_a_move_is_not_taken_back_from_under_what_the_run_did_with_what_it_moved(bench: Bench) -> None:
    run = await bench.start()
    (bench.work / "a").write_text("a person's")
    moved = await bench.done("move_file", run, source="a", destination="b")
    await bench.done("delete_file", run, path="b")
    await bench.done("write_file", run, path="b", content="something else")
    alone = await bench.back(run_id=run, actions=[str(moved.action_id)])
    assert alone.status == "partial"
    assert not (bench.work / "a").exists(), "what the run wrote later is not carried to where the file came from"
    whole = await bench.back(run_id=run)
    assert whole.status == "complete", whole.report
    assert (bench.work / "a").read_text() == "a person's"
    assert not (bench.work / "b").exists()


async def test_folders_made_for_a_file_that_was_deleted_again_are_taken_back_after_all(bench: Bench) -> None:
    run = await bench.start()
    made = await bench.done("write_file", run, path="new/deep/x", content="made")
    await bench.done("delete_file", run, path="new/deep/x")
    alone = await bench.back(run_id=run, actions=[str(made.action_id)])
    whole = await bench.back(run_id=run)
    assert whole.status == "complete", (alone.report, whole.report)
    assert not (bench.work / "new").exists()


async def test_what_a_person_undid_is_settled(bench: Bench) -> None:
    run = await bench.start()
    made = await bench.done("write_file", run, path="x", content="made by the agent")
    (bench.work / "x").unlink()
    alone = await bench.back(run_id=run, actions=[str(made.action_id)])
    assert [step.outcome for step in alone.steps] == ["already_undone"]
    assert not await stands(bench, made.action_id)


async def test_bringing_the_later_act_back_and_the_earlier_one_again_ends_where_it_began(bench: Bench) -> None:
    run = await bench.start()
    made = await bench.done("write_file", run, path="x", content="one")
    await bench.done("write_file", run, path="y", content="two")
    gone = await bench.done("delete_file", run, path="x")
    await bench.back(run_id=run, actions=[str(made.action_id)])
    back = await bench.back(run_id=run, actions=[str(gone.action_id)])
    assert back.status == "complete"
    assert (bench.work / "x").read_text() == "one"
    again = await bench.back(run_id=run, actions=[str(made.action_id)])
    assert [step.outcome for step in again.steps] == ["restored"]
    assert not (bench.work / "x").exists()
    assert (bench.work / "y").read_text() == "two"


@pytest.mark.parametrize("made", ["", "one\n"])
async def test_what_a_later_act_did_again_is_not_taken_back_from_under_it(bench: Bench, made: str) -> None:
    run = await bench.start()
    (bench.work / "x").write_text("a person's")

    async def once() -> str:
        if made:
            return str((await bench.done("write_file", run, path="x", content=made)).action_id)
        return str((await bench.done("delete_file", run, path="x")).action_id)

    first = await once()
    between = await bench.done("write_file", run, path="x", content="two")
    again = await once()
    alone = await bench.back(run_id=run, actions=[first, str(between.action_id)])
    assert [step.outcome for step in alone.steps] == ["already_undone", "skipped"], alone.report
    assert alone.steps[1].why == "a later act of the same run did the same again and is not being taken back"
    assert (bench.work / "x").exists() == bool(made)
    assert not made or (bench.work / "x").read_text() == made
    assert await stands(bench, first)
    latest = await bench.back(run_id=run, actions=[again])
    assert (latest.status, (bench.work / "x").read_text()) == ("complete", "two")
    whole = await bench.back(run_id=run)
    assert whole.status == "complete", whole.report
    assert not whole.open_items
    assert (bench.work / "x").read_text() == "a person's"


async def test_what_a_later_act_wrote_again_is_not_written_once_more_under_it(bench: Bench) -> None:
    run = await bench.start()
    await bench.done("write_file", run, path="x", content="five\n")
    between = await bench.done("write_file", run, path="x", content="four\n")
    await bench.done("write_file", run, path="x", content="five\n")
    there = (bench.work / "x").stat()
    [step] = (await bench.back(run_id=run, actions=[str(between.action_id)])).steps
    assert step.outcome == "already_undone"
    assert await stands(bench, between.action_id)
    now = (bench.work / "x").stat()
    assert (now.st_ino, now.st_mtime_ns) == (there.st_ino, there.st_mtime_ns)
    whole = await bench.back(run_id=run)
    assert whole.status == "complete", whole.report
    assert not (bench.work / "x").exists()
