"""A tool that does not exist: an error of the protocol, in words from which a model finds the right one."""

from __future__ import annotations

import pytest
from mcp import MCPError
from mcp_types import INVALID_PARAMS
from tests.server.mcp.eras import Connect

from takeback.server.mcp.app import TakebackServer
from takeback.server.mcp.unknown_tools import unknown_tool

CALLS = [
    ("write_fil", "There is no tool `write_fil`; closest are `write_file`, "),
    ("WriteFile", "There is no tool `WriteFile`; closest are `write_file`, "),
    ("takeback:read_file", "There is no tool `takeback:read_file`; closest are `read_file`, "),
    ("rollback", "There is no tool `rollback`; closest are `rollback_run` and `redo_rollback`."),
    ("zzzz", "There is no tool `zzzz`."),
    ("a\u202eb\nc", "There is no tool `a\\u202eb c`."),
]


async def test_an_unknown_tool_is_answered_with_the_closest_ones_and_an_advice(connect: Connect) -> None:
    async with connect() as client:
        for asked, fact in CALLS:
            with pytest.raises(MCPError) as refused:
                await client.call_tool(asked, {})
            assert refused.value.error.code == INVALID_PARAMS
            assert refused.value.error.message.startswith(fact)
            assert refused.value.error.message.endswith(" List the tools, and call one of them by its exact name.")
        assert not (await client.call_tool("list_runs", {})).is_error


def test_a_name_is_not_repeated_at_any_length(server: TakebackServer) -> None:
    assert len(unknown_tool("write_" * 50_000, ["write_file"]).error.message) < 600
