"""The end: of the input, by SIGTERM, by SIGINT; with the truth in the journal, and never waited for in vain."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from tests.protocol.conftest import Raw, Start
from tests.signs import SECONDS, until

SIGNALS = [signal.SIGTERM, signal.SIGINT]


def served(client: Raw) -> Raw:
    client.ask("ready", "tools/list")
    client.answer_to("ready")
    return client


def actions(parameters: StdioServerParameters) -> list[dict[str, Any]]:
    """What the next process reads in the journal."""

    async def look() -> list[dict[str, Any]]:
        async with Client(parameters) as client:
            listed: Any = (await client.call_tool("list_runs", {})).structured_content
            run: Any = (await client.call_tool("get_run", {"run_id": listed["runs"][0]["run_id"]})).structured_content
            return run["actions"]

    return asyncio.run(look())


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_an_idle_server(start: Start, number: signal.Signals) -> None:
    client = served(start())
    client.process.send_signal(number)
    assert client.process.wait(timeout=SECONDS) == 0


def test_the_end_of_the_input_ends_an_idle_server(start: Start) -> None:
    client = served(start())
    client.process.stdin.close()  # type: ignore[union-attr] -- it is a pipe
    assert client.process.wait(timeout=SECONDS) == 0


def test_a_client_that_reads_no_more_ends_the_server(start: Start) -> None:
    client = served(start())
    client.process.stdout.close()  # type: ignore[union-attr] -- it is a pipe
    client.call(1, "list_runs")
    assert client.process.wait(timeout=SECONDS) == 0


@pytest.mark.parametrize("how", [*SIGNALS, None])
def test_an_act_that_is_nearly_done_concludes_and_is_answered(
    start: Start, data: Path, parameters: StdioServerParameters, how: signal.Signals | None
) -> None:
    client = start()
    client.call(1, "set_slowly", key="a", value="1")
    gate = data / "slow_tools"
    until(gate / "committing")
    if how is None:
        client.process.stdin.close()  # type: ignore[union-attr] -- it is a pipe
    else:
        client.process.send_signal(how)
    time.sleep(1)  # longer than an end takes that does not wait for it
    (gate / "go").touch()
    assert client.answer_to(1)["result"]["structuredContent"]["status"] == "applied"
    assert client.process.wait(timeout=SECONDS) == 0
    assert [action["status"] for action in actions(parameters)] == ["applied"]


@pytest.mark.parametrize("how", [*SIGNALS, None])
def test_what_hangs_is_not_waited_for_and_its_truth_is_told_by_the_next_start(
    start: Start, data: Path, parameters: StdioServerParameters, how: signal.Signals | None
) -> None:
    client = start()
    client.call(1, "set_slowly", key="a", value="1")
    until(data / "slow_tools" / "committing")
    if how is None:
        client.process.stdin.close()  # type: ignore[union-attr] -- it is a pipe
    else:
        client.process.send_signal(how)
    client.process.wait(timeout=SECONDS)
    [action] = actions(parameters)
    assert action["status"] in ("not_applied", "failed")


def test_a_read_that_hangs_is_answered_as_closed(start: Start, data: Path) -> None:
    client = start()
    client.call(1, "wait_forever")
    until(data / "slow_tools" / "waiting")
    client.process.send_signal(signal.SIGTERM)
    assert client.answer_to(1)["error"]["message"] == "Connection closed"
    assert client.process.wait(timeout=SECONDS) == 0


def test_a_second_signal_ends_at_once(start: Start, data: Path) -> None:
    client = start()
    client.call(1, "wait_forever")
    until(data / "slow_tools" / "waiting")
    client.process.send_signal(signal.SIGINT)
    time.sleep(0.2)  # two signals in one moment would be one
    client.process.send_signal(signal.SIGINT)
    assert client.process.wait(timeout=SECONDS) == 130


@pytest.mark.parametrize("cancel", ["legacy", "modern"])
def test_a_cancelled_act_tells_its_true_outcome_in_the_journal(
    start: Start, data: Path, parameters: StdioServerParameters, cancel: str
) -> None:
    client = start(legacy=cancel == "legacy")
    client.call(1, "set_slowly", key="a", value="1")
    gate = data / "slow_tools"
    until(gate / "committing")
    client.tell("notifications/cancelled", requestId=1, reason="the person lost patience")
    client.ask(2, "tools/list")
    client.answer_to(2)
    (gate / "go").touch()
    client.process.stdin.close()  # type: ignore[union-attr] -- it is a pipe
    assert client.process.wait(timeout=SECONDS) == 0
    assert [action["status"] for action in actions(parameters)] == ["applied"]


def test_nothing_but_the_protocol_comes_out_and_the_streams_stay_as_they_were(
    command: list[str], tmp_path: Path
) -> None:
    # a regular file as input cannot be polled: the other wire
    requests = tmp_path / "requests"
    frame = (
        '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
        '"clientInfo":{"name":"file","version":"1"}}}\n'
    )
    requests.write_text(frame + '{"jsonrpc":"2.0","id":2,"method":"ping"}\n')
    with requests.open("rb") as source:
        done = subprocess.run(command, stdin=source, capture_output=True, timeout=30, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert done.stderr == b""


@pytest.mark.skipif(os.name != "posix", reason="descriptors with flags")
def test_a_shared_pipe_is_not_made_non_blocking_for_its_other_users(start: Start) -> None:
    source, sink = os.pipe()
    try:
        client = start(stdin=source)
        os.write(sink, b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        client.answer()
        assert os.get_blocking(source)
    finally:
        os.close(source)
        os.close(sink)
