"""An agent at work over stdio, and its user at a terminal beside it: two processes, one journal."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters


def environment(folder: Path) -> dict[str, str]:
    (folder / "config.toml").touch()
    return {
        "TAKEBACK_CONFIG": str(folder / "config.toml"),
        "TAKEBACK_DATA": str(folder / "data"),
        "TAKEBACK_KEY_FILE": str(folder / "key.json"),
        "TAKEBACK_ANCHOR_FILE": str(folder / "anchors"),
    }


@asynccontextmanager
async def chat(folder: Path) -> AsyncIterator[Client]:
    (folder / "site").mkdir(exist_ok=True)
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "takeback", "serve", "--workspace", str(folder / "site")],
        env=environment(folder),
    )
    async with Client(server) as client:
        yield client


async def act(client: Client, tool: str, **arguments: Any) -> Mapping[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer
    assert answer.structured_content is not None
    return answer.structured_content


async def terminal(folder: Path, *words: str) -> tuple[int, Any]:
    done = await anyio.run_process(
        [sys.executable, "-m", "takeback", *words, "--json"],
        env=environment(folder),
        check=False,
        stderr=subprocess.PIPE,
        cwd=folder,
    )
    assert done.stderr == b"", done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


async def test_the_user_takes_back_what_the_agent_did_while_the_chat_goes_on(tmp_path: Path):
    async with chat(tmp_path) as client:
        done = await act(client, "write_file", path="notes.txt", content="from the agent\n")
        code, page = await terminal(tmp_path, "runs")
        assert code == 0
        assert [run["run_id"] for run in page["runs"]] == [done["run_id"]]
        code, taken_back = await terminal(tmp_path, "rollback", "--last", "1", "--yes")
        assert (code, taken_back["status"]) == (0, "complete")
        assert not (tmp_path / "site" / "notes.txt").exists()
        again = await act(client, "write_file", path="notes.txt", content="once more\n")
        assert again["status"] == "applied"
    assert (tmp_path / "site" / "notes.txt").read_text() == "once more\n"


async def test_an_agent_is_not_let_go_on_over_what_the_user_put_back_before_it_has_seen_that(tmp_path: Path):
    async with chat(tmp_path) as client:
        (tmp_path / "site" / "notes.txt").write_text("the user's\n")
        await act(client, "write_file", path="notes.txt", content="the agent's\n")
        assert (await terminal(tmp_path, "rollback", "--yes"))[0] == 0
        unaware = await client.call_tool("write_file", {"path": "notes.txt", "content": "more\n"})
        assert unaware.is_error
        assert unaware.structured_content["error"]["code"] == "stale_read"
        assert (await act(client, "read_file", path="notes.txt"))["content"] == "the user's\n"
        assert (await act(client, "write_file", path="notes.txt", content="more\n"))["status"] == "applied"


async def test_what_the_user_contains_the_agent_cannot_change_until_the_user_releases_it(tmp_path: Path):
    async with chat(tmp_path) as client:
        run_id = (await act(client, "start_run", goal="Tidy up"))["run_id"]
        await act(client, "write_file", path="a.txt", content="a", run_id=run_id)
        assert (await terminal(tmp_path, "contain", run_id, "--reason", "odd"))[0] == 0
        refused = await client.call_tool("write_file", {"path": "b.txt", "content": "b", "run_id": run_id})
        assert refused.is_error
        assert not (tmp_path / "site" / "b.txt").exists()
        assert (await act(client, "read_file", path="a.txt"))["content"] == "a"
        assert (await terminal(tmp_path, "release", run_id))[0] == 0
        await act(client, "write_file", path="b.txt", content="b", run_id=run_id)


async def test_no_tool_lets_an_agent_approve_or_release(tmp_path: Path):
    async with chat(tmp_path) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
    assert not {name for name in names if any(word in name for word in ("approve", "release", "deny", "erase"))}


async def test_several_chats_share_one_journal_and_the_terminal_sees_them_all(tmp_path: Path):
    async with chat(tmp_path) as one, chat(tmp_path) as two:
        async with anyio.create_task_group() as group:
            for client, letter in ((one, "a"), (two, "b")):
                for number in range(5):
                    content = f"{letter}{number}"
                    group.start_soon(lambda c=client, t=content: act(c, "write_file", path=f"{t}.txt", content=t))
        code, found = await terminal(tmp_path, "verify", "--objects")
        assert (code, found["sound"]) == (0, True)
        code, page = await terminal(tmp_path, "runs")
        assert sum(run["standing"] for run in page["runs"]) == 10


async def test_the_server_ends_when_its_client_goes_and_leaves_a_sound_journal(tmp_path: Path):
    async with chat(tmp_path) as client:
        await act(client, "write_file", path="notes.txt", content="x")
    code, found = await terminal(tmp_path, "doctor")
    assert code == 0, found
    assert found["sound"]


@pytest.mark.parametrize("roots", [[], ["--workspace", "/nonexistent/folder"]])
async def test_a_server_that_cannot_begin_says_why_on_standard_error_only(tmp_path: Path, roots: list[str]):
    done = await anyio.run_process(
        [sys.executable, "-m", "takeback", "serve", *roots], env=environment(tmp_path), check=False
    )
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 2
