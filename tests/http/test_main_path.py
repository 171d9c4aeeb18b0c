"""What a client does all day works over HTTP as it does over standard streams, in both eras."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp_types import ElicitRequestParams, ElicitResult, PromptReference
from tests.http.conftest import Build
from tests.http.house import ADA, BOB, MINE, House, Issuer, data


async def test_an_act_is_done_marked_taken_back_and_brought_back(house: House, era: str) -> None:
    name = f"{era}.txt"
    file = house.workspace / name
    file.write_text("one\n")
    async with house.connected(ADA, era) as client:
        assert {"write_file", "rollback_run"} <= {tool.name for tool in (await client.list_tools()).tools}
        run = data(await client.call_tool("start_run", {"goal": "try it"}))["run_id"]
        written = data(await client.call_tool("write_file", {"path": name, "content": "two\n", "run_id": run}))
        assert written["status"] == "applied"
        named = data(await client.call_tool("create_checkpoint", {"run_id": run, "label": "after two"}))
        await client.call_tool("write_file", {"path": name, "content": "three\n", "run_id": run})
        back = data(await client.call_tool("rollback_run", {"to_checkpoint": named["checkpoint_id"]}))
        assert (back["status"], file.read_text()) == ("complete", "two\n")
        whole = data(await client.call_tool("rollback_run", {"run_id": run}))
        assert (whole["status"], file.read_text()) == ("complete", "one\n")
        again = data(await client.call_tool("redo_rollback", {"rollback_id": whole["rollback_id"]}))
        assert (again["status"], file.read_text()) == ("complete", "two\n")
        report = await client.read_resource(f"takeback://runs/{run}/report")
        assert "try it" in str(report.contents[0])
        offered = await client.complete(
            PromptReference(type="ref/prompt", name="resume"), {"name": "run_id", "value": run[:10]}
        )
        assert run in offered.completion.values


async def test_the_runs_belong_to_whom_the_token_belongs(house: House, issuer: Issuer, era: str) -> None:
    whose = {}
    for token in (ADA, BOB, issuer.token("carol"), MINE):
        async with house.connected(token, era) as client:
            run = data(await client.call_tool("start_run", {"goal": "mine"}))["run_id"]
            detail = data(await client.call_tool("get_run", {"run_id": run}))
            whose[token] = detail["run"]["owner"]
    assert list(whose.values())[:3] == ["token:ada", "token:bob", "oauth:https://issuer.example.org#carol"]
    assert list(whose.values())[3].startswith("local:")


async def test_twenty_clients_with_twenty_calls_each_get_their_own_answers(house: House) -> None:
    async def one(number: int) -> None:
        token, era = (ADA, BOB)[number % 2], ("modern", "legacy")[number // 2 % 2]
        async with house.connected(token, era) as client:
            run = data(await client.call_tool("start_run", {"goal": f"client {number}"}))["run_id"]

            async def call(turn: int) -> None:
                key, value = f"crowd-{number}-{turn % 10}", f"{number}/{turn}"
                if turn < 10:
                    done = data(await client.call_tool("write_file", {"path": key, "content": value, "run_id": run}))
                    assert (done["status"], done["run_id"]) == ("applied", run)
                else:
                    read = data(await client.call_tool("read_file", {"path": key}))
                    assert read["content"] == f"{number}/{turn - 10}"

            await asyncio.gather(*(call(turn) for turn in range(10)))
            await asyncio.gather(*(call(turn) for turn in range(10, 20)))
            detail = data(await client.call_tool("get_run", {"run_id": run}))
            assert detail["run"]["goal"] == f"client {number}"
            assert sorted(name for row in detail["actions"] for name in row["objects"]) == sorted(
                str(house.workspace / f"crowd-{number}-{turn}") for turn in range(10)
            )

    await asyncio.gather(*(one(number) for number in range(20)))


class Person:
    """Answers yes, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        return ElicitResult(action="accept", content={"approve": True})


async def test_a_person_is_asked_through_the_client(house: House, era: str) -> None:
    person = Person()
    async with house.connected(ADA, era, elicitation_callback=person) as client:
        result = await client.call_tool("announce", {"text": f"hello from {era}"})
    assert data(result)["status"] == "applied"
    assert len(person.asked) == 1


async def test_where_a_client_cannot_ask_a_person_consents_at_the_terminal(house: House, era: str) -> None:
    async with house.connected(MINE, era) as client:
        call = {"text": f"{era}, by way of the terminal", "idempotency_key": f"terminal-{era}"}
        waiting = await client.call_tool("announce", call)
        assert data(waiting)["status"] == "pending_approval"
        approval = re.search(r"apr_[a-z2-7]{26}", str(waiting))
        assert approval
        where = ["--data", str(house.data), "--config", str(house.config)]
        command = [sys.executable, "-m", "takeback", "approve", approval[0], "--yes", *where]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert data(await client.call_tool("announce", call))["status"] == "applied"


async def test_a_token_is_made_kept_for_its_owner_alone_and_told_once(build: Build) -> None:
    first = build(token=None)
    assert first.url.startswith("http://127.0.0.1:")
    kept = first.data / "http.token"
    assert kept.stat().st_mode & 0o777 == 0o600
    async with first.connected(kept.read_text().strip(), "modern") as client:
        await client.list_tools()
    first.process.terminate()
    assert first.stopped() == 0
    assert sum(kept.read_text().strip() in line for line in first.said) == 1
    second = build(token=None)
    assert second.url
    second.process.terminate()
    assert second.stopped() == 0
    assert not any(kept.read_text().strip() in line for line in second.said)
    told = subprocess.run(
        [sys.executable, "-m", "takeback", "token", "--data", str(second.data), "--json"],
        capture_output=True,
        text=True,
    )
    assert kept.read_text().strip() in told.stdout


def test_the_server_on_standard_streams_loads_nothing_of_this() -> None:
    probe = (
        "import sys, takeback.server.cli.serve, takeback.server.mcp.serve, takeback.server.mcp.app, "
        "takeback.server.mcp.transport, takeback.server.engine.engine\n"
        "print([name for name in sys.modules if 'takeback.server.mcp.http' in name or 'protocols.http' in name])"
    )
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_nobody_listens_to_the_world_without_saying_who_may_come_in(tmp_path: Path, host: str) -> None:
    (tmp_path / "w").mkdir()
    options = ["--workspace", str(tmp_path / "w"), "--data", str(tmp_path / "d"), "--port", "0", "--host", host]
    done = subprocess.run(
        [sys.executable, "-m", "takeback", "serve", "--http", *options], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 2
    assert "nothing says who may" in done.stderr
