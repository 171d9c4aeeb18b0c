"""What nobody sends by accident, and ends that nobody chose: the same frames and deaths as on the standard streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any

import httpx2
import pytest
from tests.http.conftest import Build
from tests.http.house import ADA, FRAME, MINE, House, call_body, call_headers, data, headers
from tests.protocol.test_hostile_frames import REFUSED, call, request


def headers_for(frame: bytes, token: str = ADA) -> dict[str, str]:
    """As a client would send them along with this, whatever it is."""
    method, name = "tools/list", {}
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        message = json.loads(frame)
        method = str(message.get("method", method))
        given = message.get("params", {}).get("name", "")
        name = {"mcp_name": given} if given.isascii() and given.isprintable() else {}
    return headers(token, mcp_method=method if method.isascii() else "tools/list", **name)


def post(house: House, frame: bytes, token: str = ADA) -> httpx2.Response:
    return httpx2.post(house.url, content=frame, headers=headers_for(frame, token), timeout=20)


@pytest.mark.parametrize(("frame", "code"), [pytest.param(frame, code, id=what) for what, frame, _, code in REFUSED])
def test_each_hostile_frame_is_refused_and_the_next_one_is_served(house: House, frame: bytes, code: int | None) -> None:
    before = sorted(house.workspace.iterdir())
    answer = post(house, frame)
    if len(frame) > FRAME:
        assert answer.status_code == 413
    elif code is not None:
        assert answer.status_code == 400 and answer.json()["error"]["code"] == code, answer.text
    else:
        told = answer.json()
        refused = told.get("result", {}).get("isError") or told["error"]["code"] in (-32602, -32020)
        assert refused, told
    assert post(house, request("next")).json()["result"]["tools"]
    assert sorted(house.workspace.iterdir()) == before
    assert "Traceback" not in "".join(house.said)


def test_a_tool_that_there_is_not_is_answered_with_the_closest_ones(house: House) -> None:
    error = post(house, call(5, "write_fil", path="a", content="b")).json()["error"]
    assert error["code"] == -32602
    assert error["message"].startswith("There is no tool `write_fil`; closest are `write_file`")


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_done_to_the_bytes_of_a_request_the_server_goes_on(house: House, seed: int) -> None:
    chance = random.Random(seed)
    before = sorted(house.workspace.iterdir())
    good = [call(5, "read_file", path="x"), call("five", "list_runs", limit=3), request(5, "prompts/list")]
    for _ in range(60):
        frame = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(frame))
            if chance.random() < 0.5:
                frame[at] = chance.randrange(256)
            else:
                del frame[at : at + chance.randint(1, 20)]
            frame = frame or bytearray(b"{")
        assert post(house, bytes(frame)).status_code < 500
    assert post(house, request("after")).json()["result"]["tools"]
    assert sorted(house.workspace.iterdir()) == before
    assert "Traceback" not in "".join(house.said)


@pytest.mark.parametrize("seed", range(3))
async def test_acts_that_a_kill_cuts_off_stand_exactly_as_the_journal_says(build: Build, seed: int) -> None:
    house, chance = build(), random.Random(seed)
    content = "".join(f"line {number}\n" for number in range(2000))
    acknowledged: list[str] = []
    async with httpx2.AsyncClient(timeout=20) as http:
        body, head = call_body("start_run", {"goal": "many"}), call_headers(MINE, "start_run")
        run = (await http.post(house.url, json=body, headers=head)).json()["result"]["structuredContent"]["run_id"]
        enough, wanted = asyncio.Event(), chance.randint(1, 25)

        async def write(number: int) -> None:
            arguments = {"path": f"{number}.txt", "content": content, "run_id": run}
            body, head = call_body("write_file", arguments, id=number), call_headers(MINE, "write_file")
            with contextlib.suppress(httpx2.HTTPError):
                told = (await http.post(house.url, json=body, headers=head)).json()["result"]["structuredContent"]
                assert told["status"] == "applied"
                acknowledged.append(told["action_id"])
                if len(acknowledged) >= wanted:
                    enough.set()

        writing = asyncio.gather(*map(write, range(30)))
        await enough.wait()
        house.process.kill()
        await writing
    later = build()
    assert later.folder == house.folder
    found: dict[str, Any] = {path.name: path.read_text() for path in later.workspace.iterdir() if path.is_file()}
    async with later.connected(MINE, "legacy") as client:
        actions = data(await client.call_tool("get_run", {"run_id": run}))["actions"]
        standing = {action["action_id"] for action in actions if action["stands"]}
        assert set(acknowledged) <= standing and len(standing) == len(found)
        assert set(found.values()) <= {content}
        assert data(await client.call_tool("rollback_run", {"run_id": run}))["status"] == "complete"
    assert not [path for path in later.workspace.iterdir() if path.is_file()]
