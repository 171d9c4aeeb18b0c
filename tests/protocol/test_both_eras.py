"""The SDK's own client over real standard streams, in both protocol eras."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import ElicitRequestParams, ElicitResult
from tests.protocol.conftest import Start
from tests.signs import SECONDS

Mode = Literal["auto", "legacy"]


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> Mode:
    return request.param


async def test_a_whole_task_in_one_connection(parameters: StdioServerParameters, mode: Mode, workspace: Path) -> None:
    asked: list[str] = []

    async def person(context: Any, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"approve": True})

    async with Client(parameters, mode=mode, elicitation_callback=person) as client:
        assert client.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"write_file", "rollback_run", "announce"} <= tools
        started: Any = (await client.call_tool("start_run", {"goal": "a task"})).structured_content
        run = started["run_id"]
        written: Any = (
            await client.call_tool("write_file", {"path": "notes.txt", "content": "new\n", "run_id": run})
        ).structured_content
        assert written["status"] == "applied"
        spoken: Any = (await client.call_tool("announce", {"text": "done", "run_id": run})).structured_content
        assert spoken["status"] == "applied"
        assert len(asked) == 1
        back: Any = (await client.call_tool("rollback_run", {"run_id": run})).structured_content
        outcomes = {step["tool"]: step["outcome"] for step in back["steps"]}
        assert outcomes == {"write_file": "restored", "announce": "irreversible"}
        assert back["status"] == "partial"
    assert (workspace / "notes.txt").read_text() == "one\ntwo\nthree\n"


async def test_what_one_process_did_the_next_one_takes_back(
    parameters: StdioServerParameters, mode: Mode, workspace: Path
) -> None:
    async with Client(parameters, mode=mode) as client:
        await client.call_tool("delete_file", {"path": "notes.txt"})
    assert not (workspace / "notes.txt").exists()
    async with Client(parameters, mode=mode) as client:
        shown: Any = (await client.call_tool("rollback_run", {})).structured_content
        assert shown["status"] == "planned"
        done: Any = (await client.call_tool("rollback_run", {"last": 1})).structured_content
        assert done["status"] == "complete"
    assert (workspace / "notes.txt").read_text() == "one\ntwo\nthree\n"


def test_starting_loads_nothing_that_only_other_commands_need() -> None:
    code = (
        "import sys; import takeback.server.mcp.app; "
        "print([m for m in ('typer', 'rich', 'hypothesis', 'pytest', 'keyring', 'jsonschema') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_who_wants_to_be_told_of_tasks_has_to_know_tasks(start: Start) -> None:
    client = start()
    wanted = {"taskIds": ["a"], "resourceSubscriptions": ["takeback://runs"]}
    client.ask(1, "subscriptions/listen", notifications=wanted)
    assert client.answer()["error"]["code"] == -32021
    knows = {"io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}}
    client.ask(2, "subscriptions/listen", notifications=wanted, _meta=knows)
    told = client.answer()
    assert told["method"] == "notifications/subscriptions/acknowledged"
    assert "taskIds" not in told["params"]["notifications"]


def test_who_watches_a_run_is_told_when_it_changes(start: Start) -> None:
    client = start()
    client.ask(1, "subscriptions/listen", notifications={"resourceSubscriptions": ["takeback://runs"]})
    assert client.answer()["method"] == "notifications/subscriptions/acknowledged"
    client.call(2, "write_file", path="a.txt", content="a")
    seen = [client.answer(), client.answer()]
    told = next(message for message in seen if "method" in message)
    assert told["method"] == "notifications/resources/updated"
    assert told["params"]["uri"] == "takeback://runs"
    client.process.terminate()
    assert client.process.wait(timeout=SECONDS) == 0
