"""Plan-then-act: calls are shown and put down; a person consents to the whole; exactly that is done, or it stops."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench
from tests.server.engine.many import actions, status
from tests.server.engine.reaper import Died, Reaper, interpose
from tests.server.engine.test_policy import written

from takeback.checkpoints.retention import collect
from takeback.checkpoints.store import FileObjectStore
from takeback.journal.events import RunMode
from takeback.journal.views import ActionView, ApprovalView, CollectedCall
from takeback.server.engine import collecting
from takeback.server.engine.answers import StartedRun
from takeback.server.engine.runs import tidy
from takeback.server.settings import ToolSettings


async def finish(bench: Bench, run: str, **more: Any) -> StartedRun:
    return await bench.engine.finish_run(ALICE, run, **more)


async def agreed(bench: Bench, run: str) -> StartedRun:
    """Ask, let a person consent, ask again."""
    pending = await finish(bench, run)
    assert pending.error is not None and pending.error.code == "pending_approval", pending
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    return await finish(bench, run)


async def collected(bench: Bench, run: str) -> list[str]:
    found = await bench.engine.core.journal.find(CollectedCall, oldest_first=True)
    return [call.status for call in found if call.run_id == run]


@pytest.fixture
async def files(open_bench: OpenBench) -> Bench:
    return await open_bench(tools=ToolSettings())


async def test_nothing_is_done_before_a_person_has_consented_and_then_all_of_it_in_order(bench: Bench) -> None:
    bench.memory.edit("b", "old")
    run = await bench.start(mode="plan")
    assert (await bench.call("set_value", run, key="a", value="1")).status == "shadowed"
    assert (await bench.call("delete_value", run, key="b")).status == "shadowed"
    assert bench.memory.texts() == {"b": "old"}
    pending = await finish(bench, run)
    assert bench.memory.texts() == {"b": "old"} and await status(bench, run) == "open"
    assert pending.question is not None and pending.question.splitlines()[0] == "Carry out 2 steps, in this order:"
    assert [line[:2] for line in pending.question.splitlines()[1:]] == ["1.", "2."]
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    done = await finish(bench, run, summary="both")
    assert done.error is None and done.status == "finished" and len(done.made) == 2
    assert bench.memory.texts() == {"a": "1"}
    made = await actions(bench, run)
    assert [action.tool for action in made] == ["set_value", "delete_value"]
    assert {action.approval_id for action in made} == {pending.approval_id}
    assert await collected(bench, run) == ["carried_out", "carried_out"]
    assert (await bench.back(run_id=run)).status == "complete" and bench.memory.texts() == {"b": "old"}


async def test_one_consent_carries_out_one_plan_once(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    await bench.call("announce", run, text="hello")
    assert (await agreed(bench, run)).error is None
    assert [view.status for view in await bench.engine.core.journal.find(ApprovalView)] == ["used"]
    other = await bench.start(mode="plan")
    await bench.call("announce", other, text="hello")
    again = await finish(bench, other)
    assert again.error is not None and again.error.code == "pending_approval"
    assert list(bench.memory.notes("announcement").values()) == ["hello"]


async def test_a_plan_that_grew_after_the_consent_is_asked_about_anew(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    await bench.call("set_value", run, key="a", value="1")
    first = await finish(bench, run)
    await bench.engine.approve(ALICE, str(first.approval_id), lane="test")
    await bench.call("announce", run, text="not in what was consented to")
    second = await finish(bench, run)
    assert second.error is not None and second.error.code == "pending_approval"
    assert second.approval_id != first.approval_id and "2 steps" in str(second.question)
    assert bench.memory.texts() == {} and not bench.memory.notes("announcement")


async def test_what_changed_between_consent_and_carrying_out_voids_the_consent(bench: Bench) -> None:
    bench.memory.edit("a", "as shown")
    run = await bench.start(mode="plan")
    await bench.call("set_value", run, key="a", value="new")
    first = await finish(bench, run)
    await bench.engine.approve(ALICE, str(first.approval_id), lane="test")
    bench.memory.edit("a", "somebody else's")
    second = await finish(bench, run)
    assert (
        second.error is not None and second.error.code == "pending_approval" and second.approval_id != first.approval_id
    )
    assert bench.memory.get("a") == "somebody else's"


async def test_it_stops_at_the_first_difference_and_says_what_was_made(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    for key in ("a", "b", "c"):
        await bench.call("set_value", run, key=key, value="1")
    pending = await finish(bench, run)
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    swap = bench.memory.swap

    async def meddled(effects: Any) -> Any:  # a person saves b while a is made
        result = await swap(effects)
        bench.memory.edit("b", "theirs")
        return result

    bench.memory.swap = meddled  # type: ignore[method-assign] -- somebody else's act at the worst moment
    stopped = await finish(bench, run)
    assert stopped.error is not None and stopped.error.code == "differs", stopped
    assert "1 of 3 steps were made" in stopped.error.message and "Step 2" in stopped.error.message
    assert bench.memory.texts() == {"a": "1", "b": "theirs"}
    assert await collected(bench, run) == ["carried_out", "stopped", "stopped"]
    assert await status(bench, run) == "open"
    assert (await finish(bench, run)).status == "finished"


async def test_a_step_that_builds_on_an_earlier_one_is_said_to_be_unseen(files: Bench) -> None:
    run = await files.start(mode="plan")
    await files.call("write_file", run, path="new/a.txt", content="one\n")
    edit = {"path": "new/a.txt", "edits": [{"old_text": "one", "new_text": "two"}]}
    answer = await files.call("edit_file", run, **edit)
    assert answer.status == "shadowed" and any("for certain" in warning for warning in answer.warnings)
    pending = await finish(files, run)
    assert "cannot be shown beforehand" in str(pending.question) and '"new_text": "two"' in str(pending.question)
    await files.engine.approve(ALICE, str(pending.approval_id), lane="test")
    done = await finish(files, run)
    assert done.error is None, done.error
    assert (files.work / "new" / "a.txt").read_text() == "two\n"


async def test_steps_on_the_same_objects_are_made_one_upon_the_other(files: Bench) -> None:
    (files.work / "a.txt").write_text("0")
    run = await files.start(mode="plan")
    await files.call("write_file", run, path="a.txt", content="1")
    second = await files.call("write_file", run, path="a.txt", content="2")
    assert any("as if" in warning for warning in second.warnings)
    await files.call("create_directory", run, path="d")
    await files.call("write_file", run, path="d/x", content="in it")
    done = await agreed(files, run)
    assert done.error is None, done.error
    assert (files.work / "a.txt").read_text() == "2" and (files.work / "d" / "x").read_text() == "in it"
    assert (await files.back(run_id=run)).status == "complete"
    assert sorted(path.name for path in files.work.iterdir()) == ["a.txt"]


async def test_an_unseen_step_that_turns_out_to_need_a_person_is_not_made(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    """Consent covers what was seen, not what hides behind a step that could not be shown."""
    rule = "{id: careful, when: {tools: [edit_file]}, then: ask}"
    bench = await open_bench(**written(tmp_path, rule))
    run = await bench.start(mode="plan")
    await bench.call("write_file", run, path="a.txt", content="one")
    await bench.call("edit_file", run, path="a.txt", edits=[{"old_text": "one", "new_text": "two"}])
    stopped = await agreed(bench, run)
    assert stopped.error is not None and stopped.error.code == "not_seen"
    assert (bench.work / "a.txt").read_text() == "one"
    await bench.call("edit_file", run, path="a.txt", edits=[{"old_text": "one", "new_text": "two"}])
    assert (await agreed(bench, run)).error is None, "now it could be shown"
    assert (bench.work / "a.txt").read_text() == "two"


@pytest.mark.parametrize("mode", ["plan", "staged"])
async def test_statements_that_build_on_one_another_are_said_to_be_uncertain_and_made_in_their_order(
    files: Bench, mode: RunMode
) -> None:
    with sqlite3.connect(files.work / "app.db") as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    connection.close()
    run = await files.start(mode=mode)
    for number, sql in enumerate(
        (
            "INSERT INTO t (v) VALUES ('new')",
            "UPDATE t SET v = 'newer' WHERE v = 'new'",
            "CREATE TABLE u (a)",
            "INSERT INTO u VALUES (1)",
        )
    ):
        answer = await files.call("execute_sql", run, database="app.db", sql=sql)
        assert answer.error is None, answer.error
        assert any("for certain" in text for text in answer.warnings) == (number > 0)
    assert (await files.call("write_file", run, path="b.txt", content="x")).reversibility == "reversible"
    done = await agreed(files, run) if mode == "plan" else await finish(files, run)
    assert done.error is None and len(done.made) == 5, done.error
    connection = sqlite3.connect(files.work / "app.db")
    assert connection.execute("SELECT v FROM t").fetchall() == [("newer",)]
    assert connection.execute("SELECT a FROM u").fetchall() == [(1,)]
    connection.close()
    assert (await files.back(run_id=run)).status == "complete"


async def test_a_call_that_fails_for_its_own_reasons_is_no_step(files: Bench) -> None:
    run = await files.start(mode="plan")
    answer = await files.call("edit_file", run, path="nowhere", edits=[{"old_text": "a", "new_text": "b"}])
    assert answer.status == "failed" and await collected(files, run) == []


async def test_a_plan_can_be_thrown_away_by_ending_the_run_or_taking_it_back(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    await bench.call("set_value", run, key="a", value="1")
    shown = await bench.back(run_id=run, dry_run=True)
    assert shown.status == "planned" and "1 collected call" in shown.report
    assert (await bench.back(run_id=run)).status == "complete"
    assert await collected(bench, run) == ["thrown_away"]
    await bench.call("set_value", run, key="b", value="1")
    assert (await finish(bench, run, status="abandoned")).status == "finished"
    assert await collected(bench, run) == ["thrown_away", "thrown_away"] and bench.memory.texts() == {}


async def test_going_back_to_a_checkpoint_throws_away_what_was_planned_after_it(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    await bench.call("set_value", run, key="a", value="1")
    checkpoint = (await bench.engine.create_checkpoint(ALICE, run, "so far")).checkpoint_id
    await bench.call("set_value", run, key="b", value="1")
    await bench.call("delete_value", run, key="nothing there")
    assert (await bench.back(to_checkpoint=checkpoint)).status == "complete"
    assert await collected(bench, run) == ["collected", "thrown_away"]
    detail = await bench.engine.get_run(ALICE, run)
    assert [row["status"] for row in detail.actions if row["tool"] == "set_value"] == ["collected"]
    with pytest.raises(Exception, match="nothing to take back"):
        await bench.back(to_checkpoint=checkpoint)


async def test_a_plan_for_another_version_of_a_tool_is_not_carried_out(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    await bench.call("set_value", run, key="a", value="1")
    tool: Any = bench.engine.core.tools["set_value"]
    tool.version = "2"
    refused = await finish(bench, run)
    assert refused.error is not None and refused.error.code == "differs" and bench.memory.texts() == {}


async def test_what_a_dead_process_had_begun_can_be_taken_back_before_it_is_completed(open_bench: OpenBench) -> None:
    bench = await open_bench()
    run = await bench.start(mode="plan")
    for key in ("a", "b"):
        await bench.call("set_value", run, key=key, value="1")
    pending = await finish(bench, run)
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    reaper = Reaper(7)  # in the middle
    interpose(bench.engine.core, reaper)
    with pytest.raises(Died):
        await finish(bench, run)
    later = await open_bench(recover=False)
    assert await collected(later, run) == ["begun", "begun"] and later.memory.texts() == {"a": "1"}
    assert (await later.back(run_id=run)).status == "complete" and later.memory.texts() == {}
    assert await collected(later, run) == ["thrown_away", "thrown_away"]


async def test_no_call_slips_into_a_plan_that_is_being_carried_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "WAIT_SECONDS", 0.01)
    run = await bench.start(mode="plan")
    await bench.call("set_value", run, key="a", value="1")
    pending = await finish(bench, run)
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    swap = bench.memory.swap
    meanwhile: list[Any] = []

    async def slipping(effects: Any) -> Any:
        meanwhile.append(await bench.call("set_value", run, key="b", value="1"))
        return await swap(effects)

    bench.memory.swap = slipping  # type: ignore[method-assign] -- another call at the worst moment
    assert (await finish(bench, run)).status == "finished"
    assert [answer.status for answer in meanwhile] == ["failed"] and bench.memory.texts() == {"a": "1"}
    assert await collected(bench, run) == ["carried_out"]


async def test_what_a_plan_will_be_made_from_is_not_collected_as_garbage(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    large = "x" * 100_000
    await bench.call("set_value", run, key="a", value="small")
    await bench.call("set_value", run, key="b", value=large)
    core = bench.engine.core
    assert isinstance(core.objects, FileObjectStore)
    later = core.now() + timedelta(days=365)
    await collect(core.journal, core.objects, now=later, keep_days=0, grace_seconds=-60)
    assert (await agreed(bench, run)).error is None
    assert bench.memory.texts() == {"a": "small", "b": large}


async def test_a_plan_that_nobody_touches_for_a_day_stalls_and_is_not_lost(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    core = bench.engine.core
    real = core.now
    core.now = lambda: real() + timedelta(hours=20)
    await bench.call("set_value", run, key="a", value="1")
    core.now = lambda: real() + timedelta(hours=30)
    await tidy(core)
    assert await status(bench, run) == "open", "it was used ten hours ago"
    core.now = lambda: real() + timedelta(hours=50)
    await tidy(core)
    assert await status(bench, run) == "stalled" and await collected(bench, run) == ["collected"]
    assert (await agreed(bench, run)).status == "finished" and bench.memory.texts() == {"a": "1"}


async def test_a_refused_plan_is_not_carried_out(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    await bench.call("set_value", run, key="a", value="1")
    pending = await finish(bench, run)
    await bench.engine.deny(ALICE, str(pending.approval_id), lane="test")
    refused = await finish(bench, run)
    assert refused.error is not None and refused.error.code == "denied" and bench.memory.texts() == {}


async def test_the_same_key_is_one_step(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    first = await bench.call("set_value", run, key="a", value="1", idempotency_key="k")
    again = await bench.call("set_value", run, key="a", value="1", idempotency_key="k")
    assert again.action_id == first.action_id and await collected(bench, run) == ["collected"]
    other = await bench.call("set_value", run, key="a", value="2", idempotency_key="k")
    assert other.error is not None and other.error.code == "key_reused"


async def test_a_contained_plan_is_frozen(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    await bench.call("set_value", run, key="a", value="1")
    await finish(bench, run)
    await bench.engine.contain_run(ALICE, run, "looks wrong")
    with pytest.raises(Exception, match="contained"):
        await finish(bench, run)
    assert bench.memory.texts() == {}


async def test_nobody_else_can_have_a_plan_carried_out(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    await bench.call("set_value", run, key="a", value="1")
    with pytest.raises(Exception, match="There is no run"):
        await bench.engine.finish_run(BOB, run)


@pytest.mark.parametrize("mode", ["plan", "staged"])
async def test_a_denied_call_is_no_step(bench: Bench, mode: RunMode) -> None:
    run = await bench.start(mode=mode, scope=["only/*"])
    assert (await bench.call("set_value", run, key="a", value="1")).status == "denied"
    assert await collected(bench, run) == [] and not await bench.engine.core.journal.find(ActionView, status="applied")
