"""Consent: asked for in the way the client knows, used once, never made up by a client."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import ElicitRequestParams, ElicitResult, InputRequiredResult
from tests.server.mcp.eras import Connect, data, words

from takeback.journal.events import Caller
from takeback.server.engine.engine import Engine
from takeback.server.mcp.app import TakebackServer
from takeback.server.mcp.approval_lanes import QUESTION, ApprovalLanes
from takeback.server.principal import local_principal

ME = Caller(principal=local_principal(), client="test")
CALL = {"text": "hello everybody"}


class Person:
    """Answers questions, and remembers them."""

    def __init__(self, *answers: ElicitResult) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        return self.answers.pop(0)


YES = ElicitResult(action="accept", content={"approve": True})
NO = ElicitResult(action="decline")
UNTICKED = ElicitResult(action="accept", content={"approve": False})
NOTHING_SAID = ElicitResult(action="accept", content={})
PUT_ASIDE = ElicitResult(action="cancel")


def announced(engine: Engine) -> list[str]:
    system: Any = engine.core.systems["memory"]
    return list(system.notes("announcement").values())


async def test_a_person_is_asked_and_the_act_happens_once(connect: Connect, engine: Engine) -> None:
    person = Person(YES)
    async with connect(elicitation_callback=person) as client:
        result = await client.call_tool("announce", CALL)
    assert data(result)["status"] == "applied", words(result)
    assert announced(engine) == ["hello everybody"]
    assert len(person.asked) == 1
    assert "irreversible" in person.asked[0]
    [used] = await engine.approvals(ME, status="used")
    assert used.by


@pytest.mark.parametrize("answer", [NO, UNTICKED])
async def test_a_refusal_is_final_for_this_call(connect: Connect, engine: Engine, answer: ElicitResult) -> None:
    person = Person(answer)
    async with connect(elicitation_callback=person) as client:
        result = await client.call_tool("announce", CALL)
        assert result.is_error
        assert data(result)["status"] == "denied"
        again = await client.call_tool("announce", CALL)
        assert data(again)["status"] == "denied"
    assert announced(engine) == []
    assert len(person.asked) == 1


@pytest.mark.parametrize("answer", [PUT_ASIDE, NOTHING_SAID])
async def test_an_answer_that_says_nothing_leaves_the_question_open(
    connect: Connect, engine: Engine, answer: ElicitResult
) -> None:
    async with connect(elicitation_callback=Person(*[answer] * 20)) as client:
        try:
            result = await client.call_tool("announce", CALL)
        except RuntimeError:
            pass  # the modern client goes on asking, up to its own bound of rounds
        else:
            assert data(result)["status"] == "pending_approval"
    assert announced(engine) == []
    assert [info.status for info in await engine.approvals(ME)] == ["requested"]


async def test_without_a_way_to_ask_the_call_is_answered_at_once_as_pending(connect: Connect, engine: Engine) -> None:
    async with connect() as client:
        result = await client.call_tool("announce", CALL)
        approval = data(result)["approval_id"]
        assert result.is_error
        assert data(result)["status"] == "pending_approval"
        assert f"takeback approve {approval}" in words(result)
        assert announced(engine) == []
        await engine.approve(ME, approval, lane="command line")
        again = await client.call_tool("announce", CALL)
        assert data(again)["status"] == "applied"
        third = await client.call_tool("announce", CALL)
        assert data(third)["status"] == "pending_approval"
        assert data(third)["approval_id"] != approval
    assert announced(engine) == ["hello everybody"]


async def test_no_call_waits_longer_than_its_bound_for_a_person(engine: Engine, server: TakebackServer) -> None:
    import anyio

    lanes = ApprovalLanes(engine, wait_seconds=0.05)
    [*_, extension] = server._extensions  # pyright: ignore[reportPrivateUsage] -- no other way to shorten the wait
    extension._lanes = lanes  # type: ignore[attr-defined] -- the seam for lanes of one's own

    async def never(context: Any, params: ElicitRequestParams) -> ElicitResult:
        await anyio.sleep_forever()
        raise AssertionError("nobody wakes it")

    async with Client(server, mode="legacy", elicitation_callback=never) as client:
        result = await client.call_tool("announce", CALL)
    assert data(result)["status"] == "pending_approval"
    assert announced(engine) == []


@pytest.mark.parametrize("era", ["modern"], indirect=True)
class TestRoundTrips:
    """The modern way, by hand: question out, answer in."""

    async def ask(self, client: Client) -> InputRequiredResult:
        asked = await client.session.call_tool("announce", CALL, allow_input_required=True)
        assert isinstance(asked, InputRequiredResult)
        assert asked.request_state
        return asked

    async def say(
        self, client: Client, state: str | None, answer: ElicitResult = YES, call: dict[str, str] = CALL
    ) -> Any:
        return await client.session.call_tool(
            "announce", call, allow_input_required=True, input_responses={QUESTION: answer}, request_state=state
        )

    async def test_the_answer_comes_with_the_state_of_its_question(self, connect: Connect, engine: Engine) -> None:
        async with connect(elicitation_callback=Person()) as client:
            asked = await self.ask(client)
            assert data(await self.say(client, asked.request_state))["status"] == "applied"
        assert announced(engine) == ["hello everybody"]

    async def test_answers_without_the_state_are_not_looked_at(self, connect: Connect, engine: Engine) -> None:
        async with connect(elicitation_callback=Person()) as client:
            assert isinstance(await self.say(client, None), InputRequiredResult)
        assert announced(engine) == []
        assert [info.status for info in await engine.approvals(ME)] == ["requested"]

    async def test_a_replayed_answer_does_nothing_twice(self, connect: Connect, engine: Engine) -> None:
        async with connect(elicitation_callback=Person()) as client:
            asked = await self.ask(client)
            await self.say(client, asked.request_state)
            replay = await self.say(client, asked.request_state)
            assert isinstance(replay, InputRequiredResult), "asked anew, by a new approval"
        assert announced(engine) == ["hello everybody"]

    async def test_a_state_is_void_for_other_arguments_and_if_it_was_changed(
        self, connect: Connect, engine: Engine
    ) -> None:
        async with connect(elicitation_callback=Person()) as client:
            asked = await self.ask(client)
            assert asked.request_state
            with pytest.raises(MCPError, match="requestState"):
                await self.say(client, asked.request_state, call={"text": "something else"})
            with pytest.raises(MCPError, match="requestState"):
                await self.say(client, asked.request_state[:-4] + "AAAA")
            with pytest.raises(MCPError, match="requestState"):
                await self.say(client, data_approval(await engine.approvals(ME)))
        assert announced(engine) == []

    async def test_a_question_survives_the_process_that_asked_it(
        self, connect: Connect, engine: Engine, settings: Any
    ) -> None:
        from takeback.server.mcp.app import build_server

        async with connect(elicitation_callback=Person()) as client:
            asked = await self.ask(client)
        later = build_server(engine, settings)
        async with Client(later, elicitation_callback=Person()) as client:
            assert data(await self.say(client, asked.request_state))["status"] == "applied"


def data_approval(found: Any) -> str:
    return str(found[0].approval_id)
