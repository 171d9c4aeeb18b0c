"""A tool whose act waits, as a client sees it: the answer fits the schema that the tool is listed with."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from mcp_types import TextResourceContents
from tests import ticketing
from tests.server.mcp.eras import Connect, data, words

from takeback.server.settings import Settings, ToolSettings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"tools": ToolSettings(modules=(Path(ticketing.__file__),))})


async def test_a_held_act_is_answered_listed_and_called_off(connect: Connect) -> None:
    async with connect() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        held = await client.call_tool("open_ticket", {"text": "It is cold."})
        answer = data(held)
        assert answer["status"] == "held"
        assert answer["release_at"] in words(held)
        schema = tools["open_ticket"].output_schema
        assert schema is not None
        jsonschema.validate(answer, schema)
        [row] = data(await client.call_tool("list_outbox", {}))["messages"]
        assert row["outbox_id"] == answer["result"]["outbox_id"]
        [shown] = (await client.read_resource("takeback://outbox")).contents
        assert isinstance(shown, TextResourceContents)
        assert json.loads(shown.text)[0]["subject"].endswith('{"text":"It is cold."}')
        run = data(await client.call_tool("get_run", {"run_id": answer["run_id"]}))
        assert (run["actions"][0]["status"], run["actions"][0]["release_at"]) == ("held", answer["release_at"])
        back = await client.call_tool("rollback_run", {"actions": [answer["action_id"]]})
        assert [step["outcome"] for step in data(back)["steps"]] == ["restored"]
