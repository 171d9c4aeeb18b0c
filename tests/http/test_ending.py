"""The end of a call and of the server: what was done is in the journal as it happened."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from tests.http.conftest import Build
from tests.http.house import ADA, MINE, House, call_body, call_headers, data
from tests.signs import appeared

from takeback.journal.events import Caller
from takeback.server.engine.engine import Engine
from takeback.server.principal import local_principal
from takeback.server.settings import Settings

ME = Caller(principal=local_principal())


async def journaled(house: House, *, recover: bool) -> list[dict[str, Any]]:
    """The actions of the newest run, as the next process finds them."""
    engine = await Engine.open(Settings.load(house.config, roots=[house.workspace], data=house.data), recover=recover)
    try:
        [run] = (await engine.list_runs(ME)).runs
        return (await engine.get_run(ME, run.run_id)).actions
    finally:
        await engine.close()


def begin(http: httpx2.AsyncClient, house: House, tool: str, token: str = MINE, **arguments: str) -> asyncio.Task[Any]:
    body, headers = call_body(tool, arguments), call_headers(token, tool)
    return asyncio.create_task(http.post(house.url, json=body, headers=headers))


async def ended(house: House) -> int:
    return await asyncio.to_thread(house.process.wait, 6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_server_without_work_whatever_is_still_connected(build: Build, number: int) -> None:
    house = build()
    async with (
        house.connected(MINE, "modern") as modern,
        house.connected(MINE, "legacy") as legacy,
        modern.listen(resource_subscriptions=["takeback://runs"]),
        httpx2.AsyncClient(timeout=30) as http,
    ):
        call = begin(http, house, "wait_forever")
        await appeared(house.gate / "waiting")
        call.cancel()  # a read whose client has gone is no work either
        await asyncio.wait({call})
        await legacy.list_tools()
        house.process.send_signal(number)
        assert await ended(house) == 0
    assert "still at work" not in "".join(house.said)
    assert "Traceback" not in "".join(house.said)


async def test_an_act_that_is_nearly_done_concludes_and_is_answered(build: Build) -> None:
    house = build()
    async with httpx2.AsyncClient(timeout=30) as http:
        call = begin(http, house, "set_slowly", key="a", value="1")
        await appeared(house.gate / "committing")
        house.process.terminate()
        await _refusing(house)
        (house.gate / "go").touch()
        answer = (await call).json()["result"]["structuredContent"]
    assert answer["status"] == "applied"
    assert await ended(house) == 0
    [action] = await journaled(house, recover=False)
    assert (action["action_id"], action["status"]) == (answer["action_id"], "applied")


async def _refusing(house: House) -> None:
    """Wait until the server takes nothing new."""
    async with asyncio.timeout(10):
        while True:
            try:
                async with httpx2.AsyncClient() as other:
                    await other.get(house.url)
            except httpx2.ConnectError:
                return


async def test_an_act_that_does_not_come_to_an_end_is_cut_off_and_settled_at_the_next_start(build: Build) -> None:
    house = build()
    async with httpx2.AsyncClient(timeout=30) as http:
        call = begin(http, house, "set_slowly", key="a", value="1")
        await appeared(house.gate / "committing")
        house.process.terminate()
        await ended(house)
        with pytest.raises(httpx2.HTTPError):
            (await call).raise_for_status()
    [action] = await journaled(house, recover=True)
    assert not action["stands"]
    assert action["status"] == "not_applied", "it had not taken effect, and the journal says so"


async def test_a_client_that_goes_away_has_cancelled_and_the_journal_says_what_became_of_it(house: House) -> None:
    house.shut_the_gate()
    async with house.connected(ADA, "modern") as client, httpx2.AsyncClient(timeout=30) as http:
        run = data(await client.call_tool("start_run", {"goal": "give it up"}))["run_id"]
        call = begin(http, house, "set_slowly", ADA, key="given-up", value="1", run_id=run)
        await appeared(house.gate / "committing")
        call.cancel()
        await asyncio.wait({call})
        (house.gate / "go").touch()
        async with asyncio.timeout(20):
            while (row := await _only_action(client, run))["status"] not in ("applied", "failed", "not_applied"):
                pass
        taken = await client.call_tool("rollback_run", {"run_id": run})
        assert data(taken)["status"] == "complete" if row["status"] == "applied" else taken.is_error
    verified = [sys.executable, "-m", "takeback", "verify", "--data", str(house.data), "--config", str(house.config)]
    assert subprocess.run(verified, capture_output=True).returncode == 0


async def _only_action(client: Any, run: str) -> dict[str, Any]:
    [action] = data(await client.call_tool("get_run", {"run_id": run}))["actions"]
    return action


async def test_a_cancelled_call_of_the_older_protocol_leaves_the_session_usable(house: House) -> None:
    house.shut_the_gate()
    async with house.connected(ADA, "legacy") as client:
        waiting = asyncio.create_task(client.call_tool("wait_forever", {}))
        await appeared(house.gate / "waiting")
        waiting.cancel()
        await asyncio.wait({waiting})
        assert (await client.list_tools()).tools


async def test_two_servers_on_one_data_directory_see_the_same_runs(build: Build) -> None:
    first, second = build(), build()
    async with first.connected(MINE, "modern") as one, second.connected(MINE, "legacy") as other:
        made = data(await one.call_tool("start_run", {"goal": "shared"}))["run_id"]
        assert data(await other.call_tool("get_run", {"run_id": made}))["run"]["goal"] == "shared"
        await other.call_tool("write_file", {"path": "x.txt", "content": "x", "run_id": made})
        assert data(await one.call_tool("rollback_run", {"run_id": made}))["status"] == "complete"


def test_a_port_that_is_taken_is_said_in_one_sentence(house: House) -> None:
    port = house.url.split(":")[2].split("/")[0]
    done = subprocess.run([*house.command, "--http", "--port", port], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "Traceback" not in done.stderr
