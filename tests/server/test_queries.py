"""Questions about runs, checkpoints, versions and open items."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.server.queries_world import ME, SOMEBODY, World, world

from takeback.journal.events import CheckpointNamed
from takeback.journal.ids import new_checkpoint_id
from takeback.server.engine import queries
from takeback.server.engine.answers import EngineError
from takeback.server.engine.stats import stats


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def test_runs_are_listed_newest_first_with_what_they_did(here: World) -> None:
    first = await here.run(goal="first")
    second = await here.run(goal="second")
    action = await here.act(first, "notes", "1")
    await here.open_item(first, action, "notes")
    page = await queries.list_runs(here.core, ME)
    assert [run.run_id for run in page.runs] == [second, first]
    assert page.cursor is None
    told = page.runs[1]
    assert (told.goal, told.actions, told.standing, told.open_items) == ("first", 1, 1, 1)
    assert told.last_at > told.started_at


async def test_pages_of_runs_join_without_gap_or_repetition(here: World) -> None:
    runs = [await here.run(ME if n % 3 else SOMEBODY) for n in range(11)]
    mine = [run for n, run in enumerate(runs) if n % 3][::-1]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await queries.list_runs(here.core, ME, limit=3, cursor=cursor)
        seen += [run.run_id for run in page.runs]
        await here.run(goal="began while one was paging")
        if (cursor := page.cursor) is None:
            break
    assert seen == mine


async def test_runs_are_found_by_what_they_touched_and_by_when(here: World) -> None:
    early = await here.run()
    late = await here.run()
    await here.act(early, "folder/notes", "1")
    border = here.at.isoformat()
    await here.act(late, "other", "1")
    assert [r.run_id for r in (await queries.list_runs(here.core, ME, touched="folder")).runs] == [early]
    assert [r.run_id for r in (await queries.list_runs(here.core, ME, touched="nothing")).runs] == []
    # the early run's last word is exactly at the border
    assert [r.run_id for r in (await queries.list_runs(here.core, ME, since=border)).runs] == [late, early]
    await here.act(late, "other", "2")
    border = here.at.isoformat()
    assert [r.run_id for r in (await queries.list_runs(here.core, ME, since=border)).runs] == [late]
    for ago in ("90m", "2h", "999999999999999w"):
        assert [r.run_id for r in (await queries.list_runs(here.core, ME, since=ago)).runs] == [late, early]


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": 501},
        {"cursor": "x"},
        {"cursor": "é"},
        {"status": "lost"},
        {"since": "yesterday"},
        {"since": "2026-11-20"},
        {"since": "2x"},
    ],
)
async def test_wrong_questions_are_refused_with_advice(here: World, wrong: dict[str, object]) -> None:
    with pytest.raises(EngineError) as refused:
        await queries.list_runs(here.core, ME, **wrong)  # type: ignore[arg-type] -- wrong arguments are what is tried
    assert refused.value.code == "invalid"
    assert refused.value.advice


@pytest.mark.parametrize("content", [["checkpoints", 3], ["runs", "3"], ["runs", True], ["runs"], {"runs": 3}, 3])
async def test_a_cursor_of_another_list_is_refused(here: World, content: object) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
    with pytest.raises(EngineError):
        await queries.list_runs(here.core, ME, cursor=cursor)


async def test_foreign_and_unknown_runs_give_the_same_answer(here: World) -> None:
    theirs = await here.run(SOMEBODY)
    said: list[str] = []
    for run_id in (theirs, "run_unknown"):
        with pytest.raises(EngineError) as refused:
            await queries.get_run(here.core, ME, run_id)
        said.append(refused.value.message.replace(run_id, "…"))
        with pytest.raises(EngineError):
            await queries.list_checkpoints(here.core, ME, run_id=run_id)
        with pytest.raises(EngineError):
            await queries.open_items(here.core, ME, run_id=run_id)
    assert said[0] == said[1]


async def test_a_run_is_shown_in_four_ways(here: World) -> None:
    run = await here.run(steps=("write", "send"))
    action = await here.act(run, "notes", "one\ntwo\n", step="write")
    await here.ask(run, seconds=60)
    open_question = await here.ask(run, seconds=600)
    here.at = here.at.replace(minute=5)
    summary = await queries.get_run(here.core, ME, run)
    assert [row["action_id"] for row in summary.actions] == [action]
    assert summary.actions[0]["objects"] == ["notes"]
    assert summary.pending_approvals == [open_question]
    assert summary.report is None and summary.diff is None and summary.journal is None

    report = await queries.get_run(here.core, ME, run, view="report")
    assert report.report is not None and report.report.done[0] == "1 of 2 steps done."

    diff = await queries.get_run(here.core, ME, run, view="diff")
    assert diff.diff is not None and "+one" in diff.diff

    journal = await queries.get_run(here.core, ME, run, view="journal")
    assert journal.journal is not None
    assert [row["type"] for row in journal.journal][:3] == ["run.started", "action.intended", "action.applied"]
    assert all(row["mac"] for row in journal.journal)
    json.dumps(journal.journal)


async def test_a_diff_shows_what_stands_and_hides_no_characters(here: World) -> None:
    run = await here.run()
    await here.act(run, "notes", "safe\u202etxt.exe\n")
    back = await here.act(run, "gone", "never seen\n")
    await here.take_back(run, back, "gone", None)
    diff = (await queries.get_run(here.core, ME, run, view="diff")).diff
    assert diff is not None
    assert "safe\\u202etxt.exe" in diff
    assert "never seen" not in diff


async def test_a_diff_that_is_too_long_says_how_much_is_left_out(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "DIFF_CHARACTERS", 300)
    run = await here.run()
    for n in range(9):
        await here.act(run, f"notes{n}", "line\n" * 10)
    diff = (await queries.get_run(here.core, ME, run, view="diff")).diff
    assert diff is not None and diff.endswith("more changes are not shown.")


async def test_a_journal_that_is_too_long_keeps_the_newest_events(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "EVENTS_SHOWN", 4)
    run = await here.run()
    for n in range(5):
        await here.act(run, "notes", str(n))
    journal = (await queries.get_run(here.core, ME, run, view="journal")).journal
    assert journal is not None
    assert journal[0] == {"type": "left_out", "events": 7}
    assert journal[-1]["type"] == "action.applied"


async def test_checkpoints_of_the_latest_run_are_judged_by_the_world(here: World) -> None:
    await here.act(await here.run(), "elsewhere", "1")
    run = await here.run()
    await here.act(run, "notes", "1")
    await here.act(run, "notes", "2")
    page = await queries.list_checkpoints(here.core, ME)
    assert {each.run_id for each in page.checkpoints} == {run}
    assert [each.verified_safe for each in page.checkpoints] == [True, True]
    assert [each.recommended for each in page.checkpoints] == [True, False]
    assert page.checkpoints[0].summary == "Set notes."

    here.system.edit("notes", "somebody else's")
    page = await queries.list_checkpoints(here.core, ME, run_id=run)
    assert [each.verified_safe for each in page.checkpoints] == [False, False]
    assert page.checkpoints[0].drift == ["notes"]
    assert not any(each.recommended for each in page.checkpoints)


async def test_pages_of_checkpoints_join(here: World) -> None:
    run = await here.run()
    for n in range(5):
        await here.act(run, "notes", str(n))
    whole = [each.checkpoint_id for each in (await queries.list_checkpoints(here.core, ME)).checkpoints]
    first = await queries.list_checkpoints(here.core, ME, limit=2)
    second = await queries.list_checkpoints(here.core, ME, limit=3, cursor=first.cursor)
    assert [each.checkpoint_id for each in (*first.checkpoints, *second.checkpoints)] == whole
    assert second.cursor is None
    assert sum(each.recommended for each in (*first.checkpoints, *second.checkpoints)) == 1


async def test_named_checkpoints_carry_their_label(here: World) -> None:
    run = await here.run()
    await here.journal.append(
        [CheckpointNamed(run_id=run, at=here.tick(), checkpoint_id=new_checkpoint_id(), label="before the worst")]
    )
    (only,) = (await queries.list_checkpoints(here.core, ME)).checkpoints
    assert (only.label, only.action_id, only.verified_safe) == ("before the worst", None, True)


async def test_nobody_without_runs_has_checkpoints(here: World) -> None:
    await here.act(await here.run(SOMEBODY), "notes", "1")
    assert (await queries.list_checkpoints(here.core, ME)).checkpoints == []


async def test_versions_come_from_all_runs_one_may_see_each_content_once(here: World) -> None:
    here.system.edit("notes", "zero")
    first = await here.act(await here.run(), "notes", "one")
    await here.act(await here.run(SOMEBODY), "notes", "secret")
    third = await here.act(await here.run(), "notes", "one")
    fourth = await here.act(await here.run(), "notes", "four")
    page = await queries.list_versions(here.core, ME, "notes")
    assert [each.version for each in page.versions] == [
        f"{fourth}:after",
        f"{fourth}:before",
        f"{third}:before",
        f"{first}:before",
    ]
    assert [each.available for each in page.versions] == [True] * 4
    assert page.versions[0].what.endswith("this is what is there now")

    start = await queries.list_versions(here.core, ME, "notes", limit=3)
    rest = await queries.list_versions(here.core, ME, "notes", limit=3, cursor=start.cursor)
    assert [*start.versions, *rest.versions] == page.versions
    assert rest.cursor is None


async def test_a_version_whose_image_is_gone_is_not_called_available(here: World) -> None:
    run = await here.run()
    here.system.edit("notes", "x" * 100_000)
    await here.act(run, "notes", "short")
    names = [name async for name, _ in here.core.objects.names()]
    assert await here.core.objects.drop(names) > 0
    page = await queries.list_versions(here.core, ME, "notes")
    assert [each.available for each in page.versions] == [True, False]


async def test_open_items_are_those_of_runs_one_may_see(here: World) -> None:
    mine, theirs = await here.run(), await here.run(SOMEBODY)
    item = await here.open_item(mine, await here.act(mine, "a", "1"), "a")
    await here.open_item(theirs, await here.act(theirs, "b", "1"), "b")
    for found in (await queries.open_items(here.core, ME), await queries.open_items(here.core, ME, run_id=mine)):
        assert [each.conflict_id for each in found] == [item]
        assert found[0].next_step == "Choose with resolve_conflict."


async def test_stats_count_what_failed_and_what_could_be_taken_back(here: World) -> None:
    assert (await stats(here.core))["actions"]["failure_rate"] is None  # type: ignore[index, call-overload] -- JSON
    run = await here.run()
    back = await here.act(run, "notes", "1")
    await here.act(run, "other", "1")
    await here.act(run, "third", "1")
    await here.fail(run, "no")
    await here.take_back(run, back, "notes", None)
    told = json.loads(json.dumps(await stats(here.core)))
    assert told["actions"]["failure_rate"] == 0.25
    assert told["actions"]["standing"] == 2
    assert told["undo"] == {
        "rollbacks": {"complete": 1},
        "by_outcome": {"restored": 1},
        "success_rate": 1.0,
        "median_seconds": 3.0,
    }
    assert told["runs"] == {"total": 1, "by_status": {"open": 1}}
