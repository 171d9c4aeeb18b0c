"""The file tools under the engine: what only shows when both work together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.tools.files_tools.test_write_tools import ROUND_TRIPS

from takeback.journal.events import Caller
from takeback.server.engine.answers import CallAnswer, RollbackAnswer
from takeback.server.engine.engine import Call, Engine
from takeback.server.settings import LimitSettings, Settings, WorkspaceSettings

ANNA = Caller(principal="anna", client="tests")


@dataclass
class Desk:
    """An engine and its workspace."""

    engine: Engine
    root: Path

    async def act(self, tool: str, /, *, dry_run: bool = False, **arguments: Any) -> CallAnswer:
        return await self.engine.call(Call(tool, arguments, ANNA, dry_run=dry_run))

    async def did(self, tool: str, /, **arguments: Any) -> CallAnswer:
        answer = await self.act(tool, **arguments)
        assert answer.status == "applied", answer
        return answer

    async def taken_back(self, run: str) -> tuple[RollbackAnswer, RollbackAnswer]:
        plan = await self.engine.rollback(ANNA, run_id=run, dry_run=True)
        return plan, await self.engine.rollback(ANNA, run_id=run, plan_digest=plan.plan_digest)

    async def read(self, path: str) -> dict[str, Any]:
        answer = await self.engine.read(Call("read_file", {"path": path}, ANNA))
        assert answer.result is not None, answer
        return answer.result

    def content(self) -> dict[str, bytes | None]:
        return {
            str(path.relative_to(self.root)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
            for path in sorted(self.root.rglob("*"))
            if ".takeback" not in path.parts
        }


@pytest.fixture(params=["native", "portable"])
async def desk(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    root = tmp_path / "work"
    root.mkdir()
    engine = await Engine.open(
        Settings(
            workspace=WorkspaceSettings(roots=(root,)),
            limits=LimitSettings(ballast_bytes=0),
            data=tmp_path / "data",
            key_file=tmp_path / "key",
            anchor_file=tmp_path / "anchors",
            portable_files=request.param == "portable",
        )
    )
    yield Desk(engine, root)
    await engine.close()


async def test_what_a_caller_does_inside_its_folder_is_no_change_by_somebody_else(desk: Desk) -> None:
    await desk.did("create_directory", path="d")
    await desk.did("write_file", path="d/f", content="x")
    await desk.did("move_file", source="d", destination="e")
    await desk.did("write_file", path="e/g", content="y")
    await desk.did("delete_file", path="e", recursive=True)
    await desk.did("write_file", path="d/f", content="a new one")
    await desk.did("write_file", path="e/g", content="another")


async def test_an_edit_that_was_not_seen_is_not_overwritten(desk: Desk) -> None:
    await desk.did("write_file", path="notes.txt", content="one\n")
    digest = (await desk.read("notes.txt"))["digest"]
    (desk.root / "notes.txt").write_text("somebody else's\n")
    for tool, arguments in (
        ("write_file", {"content": "two\n"}),
        ("edit_file", {"edits": [{"old_text": "else", "new_text": "x"}]}),
        ("delete_file", {}),
    ):
        for expected in ({}, {"expected_digest": digest}):
            answer = await desk.act(tool, path="notes.txt", **arguments, **expected)
            assert (answer.status, answer.error and answer.error.code) == ("failed", "stale_read")
    assert (desk.root / "notes.txt").read_text() == "somebody else's\n"
    seen = await desk.read("notes.txt")
    written = await desk.did("write_file", path="notes.txt", content="two\n", expected_digest=seen["digest"])
    assert written.digest == (await desk.read("notes.txt"))["digest"]


@pytest.mark.parametrize("name", ROUND_TRIPS)
async def test_a_dry_run_shows_the_effect_and_has_none(desk: Desk, name: str) -> None:
    tool, arguments = ROUND_TRIPS[name]
    fill(desk)
    before = desk.content()
    answer = await desk.act(tool, dry_run=True, **arguments)
    assert (answer.status, bool(answer.preview)) == ("shadowed", True), answer
    assert desk.content() == before


@pytest.mark.parametrize("name", ROUND_TRIPS)
async def test_every_act_is_rolled_back_and_redone(desk: Desk, name: str) -> None:
    tool, arguments = ROUND_TRIPS[name]
    fill(desk)
    before = desk.content()
    done = await desk.did(tool, **arguments)
    assert done.undo is not None
    after = desk.content()
    back = await desk.engine.rollback(ANNA, actions=[str(done.action_id)])
    assert (back.status, [step.outcome for step in back.steps]) == ("complete", ["restored"])
    assert desk.content() == before
    again = await desk.engine.redo(ANNA, str(back.rollback_id))
    assert again.status == "complete", again
    assert desk.content() == after


async def test_a_rollback_removes_only_the_agents_lines(desk: Desk) -> None:
    lines = [f"line {number}\n" for number in range(20)]
    (desk.root / "notes.txt").write_text("".join(lines))
    done = await desk.did("edit_file", path="notes.txt", edits=[{"old_text": "line 3\n", "new_text": "agent\n"}])
    theirs = (desk.root / "notes.txt").read_text().replace("line 15\n", "somebody else's\n")
    (desk.root / "notes.txt").write_text(theirs)
    back = await desk.engine.rollback(ANNA, actions=[str(done.action_id)])
    assert [step.outcome for step in back.steps] == ["merged"]
    lines[15] = "somebody else's\n"
    assert (desk.root / "notes.txt").read_text() == "".join(lines)


async def test_of_several_acts_on_a_file_all_are_removed_and_somebody_elses_lines_stay(desk: Desk) -> None:
    file = desk.root / "notes.txt"
    lines = [f"line {number}\n" for number in range(30)]
    file.write_text("".join(lines))
    run = (
        await desk.did("edit_file", path="notes.txt", edits=[{"old_text": "line 3\n", "new_text": "agent\n"}])
    ).run_id
    await desk.did("edit_file", path="notes.txt", edits=[{"old_text": "line 9\n", "new_text": "agent, too\n"}])
    await desk.did("write_file", path="notes.txt", content=file.read_text().replace("line 20\n", ""))
    changed = file.read_text().replace("line 15\n", "somebody else's\n")
    file.write_text(changed)
    plan, back = await desk.taken_back(run)
    for answer in (plan, back):
        assert [step.outcome for step in answer.steps] == ["merged"] * 3, answer
    lines[15] = "somebody else's\n"
    assert (back.status, file.read_text()) == ("complete", "".join(lines))
    again = await desk.engine.redo(ANNA, str(back.rollback_id))
    assert (again.status, file.read_text()) == ("complete", changed)
    once_more = await desk.engine.redo(ANNA, str(again.rollback_id))
    assert (once_more.status, file.read_text()) == ("complete", "".join(lines))


async def test_a_conflict_after_a_merge_is_told_as_what_it_is(desk: Desk) -> None:
    file = desk.root / "notes.txt"
    file.write_text("one\ntwo\nthree\nfour\nfive\n")
    run = (await desk.did("write_file", path="notes.txt", content="agent\ntwo\nthree\nfour\nfive\n")).run_id
    await desk.did("edit_file", path="notes.txt", edits=[{"old_text": "five", "new_text": "agent, too"}])
    file.write_text("somebody else's\ntwo\nthree\nfour\nagent, too\n")
    _, back = await desk.taken_back(run)
    assert [step.outcome for step in back.steps] == ["merged", "conflict"]
    assert "same or neighbouring lines" in back.steps[1].why
    assert file.read_text() == "somebody else's\ntwo\nthree\nfour\nfive\n"


async def test_a_file_with_hard_links_is_taken_back_one_merge_at_a_time(desk: Desk) -> None:
    file = desk.root / "notes.txt"
    lines = [f"line {number}\n" for number in range(30)]
    file.write_text("".join(lines))
    (desk.root / "second.txt").hardlink_to(file)
    run = (
        await desk.did("edit_file", path="notes.txt", edits=[{"old_text": "line 3\n", "new_text": "agent\n"}])
    ).run_id
    await desk.did("edit_file", path="notes.txt", edits=[{"old_text": "line 9\n", "new_text": "agent, too\n"}])
    file.write_text(file.read_text().replace("line 15\n", "somebody else's\n"))
    _, first = await desk.taken_back(run)
    assert [step.outcome for step in first.steps] == ["merged", "conflict"]
    assert "take back once more" in first.steps[1].why
    _, second = await desk.taken_back(run)
    lines[15] = "somebody else's\n"
    assert ([step.outcome for step in second.steps], file.read_text()) == (["merged"], "".join(lines))


async def test_a_file_that_was_moved_goes_back_without_the_agents_lines_and_with_somebody_elses(desk: Desk) -> None:
    lines = [f"line {number}\n" for number in range(30)]
    (desk.root / "notes.txt").write_text("".join(lines))
    run = (
        await desk.did("edit_file", path="notes.txt", edits=[{"old_text": "line 3\n", "new_text": "agent\n"}])
    ).run_id
    await desk.did("create_directory", path="d")
    await desk.did("move_file", source="notes.txt", destination="d/a.txt")
    await desk.did("edit_file", path="d/a.txt", edits=[{"old_text": "line 9\n", "new_text": "agent, too\n"}])
    await desk.did("move_file", source="d/a.txt", destination="b.txt")
    moved = desk.root / "b.txt"
    moved.write_text(moved.read_text().replace("line 15\n", "somebody else's\n"))
    _, back = await desk.taken_back(run)
    lines[15] = "somebody else's\n"
    assert back.status == "complete", back
    assert desk.content() == {"notes.txt": "".join(lines).encode()}


def fill(desk: Desk) -> None:
    for path, content in {
        "notes.txt": "one\ntwo\n", "other.txt": "other\n", "sub/inner.txt": "inner\n", "hard.txt": "one file",
    }.items():  # fmt: skip
        (desk.root / path).parent.mkdir(exist_ok=True)
        (desk.root / path).write_text(content)
    (desk.root / "second-name.txt").hardlink_to(desk.root / "hard.txt")
    (desk.root / "link").symlink_to("notes.txt")
    (desk.root / "empty").mkdir()
