"""What the application behind the gate is given: a principal and a message, and no token."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from takeback.server.mcp import identity
from takeback.server.mcp.http_gate import PATH, Gate
from takeback.server.mcp.http_names import Names
from takeback.server.mcp.http_tokens import KnownTokens, digest_of
from takeback.server.mcp.identity import NotAuthenticated, acting_as, caller_of, present_principal

TOKEN = "a-token-of-enough-characters"
MESSAGE = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


class Behind:
    """Notes what reaches it."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []
        self.principals: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.bodies.append((await receive())["body"])
        self.principals.append(present_principal())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


def gate(behind: Any) -> Gate:
    known = KnownTokens({digest_of(TOKEN): "token:ada"})
    return Gate(behind, Names("127.0.0.1"), (known,), body_bytes=1000, seconds=5)


def asked(gate: Gate) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=gate),
        base_url="http://127.0.0.1:8765",
        headers={"authorization": f"Bearer {TOKEN}", "cookie": "session=secret"},
    )


async def test_the_token_stays_outside() -> None:
    behind = Behind()
    async with asked(gate(behind)) as http:
        assert (await http.post(PATH, json=MESSAGE)).status_code == 200
    [scope] = behind.scopes
    assert not {b"authorization", b"cookie"} & {name for name, _ in scope["headers"]}
    assert TOKEN not in repr(scope) + scope["user"].access_token.model_dump_json()
    assert behind.principals == ["token:ada"]
    assert json.loads(behind.bodies[0]) == MESSAGE


async def test_when_it_closes_it_takes_nothing_new_and_waits_for_what_is_at_work() -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        arrived.set()
        await go.wait()
        await Behind()(scope, receive, send)

    closing = gate(slow)
    async with asked(closing) as http:
        call = asyncio.create_task(http.post(PATH, json=MESSAGE))
        await arrived.wait()
        closing.close()
        refused = await http.post(PATH, json=MESSAGE)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert not await closing.settled(0)
        go.set()
        assert await closing.settled(5)
        assert (await call).status_code == 200


async def test_what_is_cut_off_is_answered_as_that() -> None:
    arrived = asyncio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        arrived.set()
        await asyncio.Event().wait()

    cutting = gate(endless)
    async with asked(cutting) as http:
        call = asyncio.create_task(http.post(PATH, json=MESSAGE))
        await arrived.wait()
        cutting.cut()
        assert (await call).status_code == 503
    assert await cutting.settled(0)


def test_where_somebody_has_to_be_known_nobody_is_taken_for_the_processs_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_required", True)
    with pytest.raises(NotAuthenticated):
        caller_of()
    with acting_as("token:ada"):
        assert caller_of().principal == "token:ada"
    with pytest.raises(NotAuthenticated):
        caller_of()
