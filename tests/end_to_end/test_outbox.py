"""A message that outlives the chat it was written in: held by a server, sent by a process of its own when its time has come."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from tests import paper
from tests.end_to_end.test_chat_and_terminal import act, chat, terminal

from takeback.checkpoints.oslock import held

PATIENCE = 60
"""Seconds after which a test gives up, not what it waits for."""


@pytest.fixture(autouse=True)
def configured(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        f"[tools]\nmodules = [{json.dumps(paper.__file__)}]\n[outbox]\nhold_seconds = 1\n"
    )


async def post(client: Client, **more: Any) -> str:
    arguments = {"to": ["bob@example.org"], "subject": "Hi", "body": "hello", "hold_seconds": 1, **more}
    answer = await act(client, "post", **arguments)
    assert answer["status"] == "held"
    return str(answer["result"]["messages"][0])


def letters(folder: Path) -> list[str]:
    file = folder / "data" / "paper" / "letters"
    return file.read_text().splitlines() if file.exists() else []


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while not true():  # noqa: ASYNC110 -- what another process does, nobody can be told of
            await anyio.sleep(0.05)


def nobody_sends(folder: Path) -> bool:
    with held(os.fspath(folder / "data" / "outbox" / "sender.lock"), wait=False) as idle:
        return idle


async def messages(folder: Path) -> list[dict[str, Any]]:
    code, page = await terminal(folder, "outbox", "--all")
    assert code == 0
    return list(page["messages"])


async def test_what_a_chat_holds_is_sent_after_the_chat_has_ended(tmp_path: Path):
    async with chat(tmp_path) as client:
        id = await post(client, hold_seconds=3)
        [resource] = (await client.read_resource("takeback://outbox")).contents
        [shown] = json.loads(resource.text)  # type: ignore[union-attr]  # it is text
        assert (shown["id"], shown["status"], shown["subject"]) == (id, "HELD", "Hi")
        assert letters(tmp_path) == []
    await until(lambda: bool(letters(tmp_path)))
    await until(lambda: nobody_sends(tmp_path))
    assert len(letters(tmp_path)) == 1
    [message] = await messages(tmp_path)
    assert (message["id"], message["status"]) == (id, "SENT")


async def test_what_is_taken_back_at_the_terminal_never_leaves(tmp_path: Path):
    async with chat(tmp_path) as client:
        await post(client, hold_seconds=60)
        code, back = await terminal(tmp_path, "rollback", "--last", "1", "--yes")
        assert (code, [step["outcome"] for step in back["steps"]]) == (0, ["restored"])
    await until(lambda: nobody_sends(tmp_path))
    assert letters(tmp_path) == []
    assert [message["status"] for message in await messages(tmp_path)] == ["CANCELLED"]


async def test_a_person_sends_cancels_and_looks_at_the_terminal(tmp_path: Path):
    async with chat(tmp_path) as client:
        now, never = await post(client, hold_seconds=3600), await post(client, hold_seconds=3600)
        code, page = await terminal(tmp_path, "outbox", "show", now)
        assert (code, page["status"]) == (0, "HELD")
        assert "hello" in page["content"]
        assert (await terminal(tmp_path, "outbox", "hold-longer", never, "--seconds", "60"))[0] == 0
        assert (await terminal(tmp_path, "outbox", "cancel", never))[1]["status"] == "CANCELLED"
        assert (await terminal(tmp_path, "outbox", "send-now", now))[0] == 0
    await until(lambda: nobody_sends(tmp_path))
    assert {message["id"]: message["status"] for message in await messages(tmp_path)} == {
        now: "SENT",
        never: "CANCELLED",
    }


@pytest.mark.parametrize(
    ("mode", "ends"), [("die before", "LATE"), ("die after", "SENT"), ("die after, blind", "UNKNOWN")]
)
async def test_a_sender_that_is_killed_while_it_delivers_sends_nothing_twice(tmp_path: Path, mode: str, ends: str):
    folder = tmp_path / "data" / "paper"
    folder.mkdir(parents=True)
    (folder / "mode").write_text(mode.removesuffix(", blind"))
    async with chat(tmp_path) as client:
        await post(client)
    await until(lambda: (tmp_path / "data" / "outbox" / "outbox.db").exists())
    await until(lambda: (tmp_path / "data" / "outbox" / "sender.log").exists())
    while (await messages(tmp_path))[0]["status"] == "HELD":
        pass  # each look takes a process
    await until(lambda: nobody_sends(tmp_path))
    assert (await messages(tmp_path))[0]["status"] == "SENDING"
    (folder / "mode").write_text("blind" if mode.endswith("blind") else "well")
    code, _ = await terminal(tmp_path, "outbox", "run")
    assert code == 0
    [message] = await messages(tmp_path)
    assert message["status"] == ends
    assert len(letters(tmp_path)) == (0 if mode == "die before" else 1)


async def test_a_second_sender_ends_at_once_and_a_stopped_one_leaves_what_is_held(tmp_path: Path):
    async with chat(tmp_path) as client:
        await post(client, hold_seconds=3600)
    await until(lambda: not nobody_sends(tmp_path))
    assert await terminal(tmp_path, "outbox", "run") == (0, {"ended": "another"})
    os.kill(int((tmp_path / "data" / "outbox" / "sender.pid").read_text()), signal.SIGTERM)
    await until(lambda: nobody_sends(tmp_path))
    assert [message["status"] for message in await messages(tmp_path)] == ["HELD"]
