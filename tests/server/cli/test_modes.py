"""What was only shown, and a plan that is agreed to, at a terminal."""

from __future__ import annotations

from typing import Any

from tests.server.cli.conftest import AGENT, Desk

from takeback.server.engine.answers import StartedRun
from takeback.server.engine.engine import Engine


def test_the_log_of_what_was_only_shown_says_how_it_would_have_gone_back(desk: Desk) -> None:
    desk.agent(("write_file", {"path": "a.md", "content": "one\n"}))
    assert desk("shadow").out == "Nothing was only shown.\n"

    async def dry(engine: Engine) -> str:
        return (await engine.start_run(AGENT, "dry", mode="shadow")).run_id

    desk.run_id = desk.ask(dry)
    desk.again(("write_file", {"path": "b.md", "content": "one\n"}), ("delete_file", {"path": "a.md"}))
    told = desk("shadow", desk.run_id)
    assert told.code == 0 and "create b.md" in told.out and "allow" in told.out
    assert "2 of 2 could have been put back exactly" in " ".join(told.out.split())
    calls: list[dict[str, Any]] = desk("shadow", "--json").json["calls"]
    assert [call["tool"] for call in calls] == ["write_file", "delete_file"]
    assert [path.name for path in desk.site.iterdir()] == ["a.md"]


def test_a_plan_is_agreed_to_at_a_terminal_and_then_carried_out(desk: Desk) -> None:
    async def plan(engine: Engine) -> str:
        return (await engine.start_run(AGENT, "plan", mode="plan")).run_id

    async def finish(engine: Engine) -> StartedRun:
        return await engine.finish_run(AGENT, desk.run_id)

    desk.run_id = desk.ask(plan)
    desk.again(("write_file", {"path": "a.md", "content": "one\n"}), ("create_directory", {"path": "d"}))
    assert desk.ask(finish).error.code == "pending_approval"
    [question] = desk("approvals", "--json").json["approvals"]
    assert question["question"].splitlines()[1].startswith("1. create a.md")
    assert "collected" in desk("show", desk.run_id).out
    assert list(desk.site.iterdir()) == []
    assert desk("approve", question["approval_id"], "--yes").code == 0
    assert desk.ask(finish).status == "finished"
    assert sorted(path.name for path in desk.site.iterdir()) == ["a.md", "d"]
