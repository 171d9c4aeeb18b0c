"""Whatever comes in: every request with an id gets an answer, and the server goes on."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import Any

import pytest
from tests.protocol.conftest import Start
from tests.signs import SECONDS

LIMIT = 1_000_000

BAD = [
    (b"garbage\n", None, -32700),
    (b"\xff\xfe\x00\n", None, -32700),
    (b'{"jsonrpc":"2.0","id":5,"method":"tools/list","params":{"a":"\xff"}}\n', 5, -32700),
    (b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"a":NaN}}\n', 5, -32700),
    (b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", 5, -32600),
    (b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"a":"' + b"x" * LIMIT + b'"}}\n', 5, -32600),
    (b'{"method":"tools/call","params":{"a":"' + b"x" * LIMIT + b'"},"jsonrpc":"2.0","id":"last"}\n', "last", -32600),
    (b'[{"jsonrpc":"2.0","id":5,"method":"tools/list"}]\n', None, -32600),
    (b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}\n', None, -32600),
    (b'{"id":5,"method":"tools/list"}\n', 5, -32600),
    (b"3\n", None, -32600),
]


@pytest.mark.parametrize("legacy", [False, True])
def test_bad_frames_are_answered_and_the_next_good_one_is_served(start: Start, legacy: bool) -> None:
    client = start(legacy=legacy)
    for frame, id, code in BAD:
        client.send(frame)
        answer = client.answer()
        assert (answer["id"], answer["error"]["code"]) == (id, code), frame[:80]
    client.ask(9, "tools/list")
    assert client.answer_to(9)["result"]["tools"]


def test_bad_frames_before_the_first_request_do_not_decide_the_era(start: Start) -> None:
    client = start()
    client.send(b"\n\r\n   \ngarbage\n")
    assert client.answer()["error"]["code"] == -32700
    client.ask(1, "server/discover")
    assert "2026-07-28" in client.answer_to(1)["result"]["supportedVersions"]


def test_an_id_that_is_in_use_is_refused_so_that_nothing_is_done_twice(start: Start) -> None:
    client = start()
    client.call(1, "wait_forever")
    client.call(1, "write_file", path="twice.txt", content="x")
    answer = client.answer_to(1)
    assert answer["error"]["code"] == -32600
    client.tell("notifications/cancelled", requestId=1)
    client.call(1, "list_runs")
    assert client.answer_to(1)["result"]["structuredContent"]["runs"] == []


@pytest.mark.parametrize("legacy", [False, True])
def test_unknown_methods_and_malformed_parameters_are_answered(start: Start, legacy: bool) -> None:
    client = start(legacy=legacy)
    client.ask(1, "no/such/method")
    assert client.answer_to(1)["error"]["code"] == -32601
    client.ask(2, "tools/call", name=3)
    assert client.answer_to(2)["error"]["code"] == -32602
    client.ask(3, "resources/read")
    assert client.answer_to(3)["error"]["code"] == -32602
    client.ask("4", "tools/call", name="list_runs", arguments="none")
    assert client.answer_to("4")["error"]["code"] == -32602


@pytest.mark.parametrize("legacy", [False, True])
def test_a_tool_that_there_is_not_is_answered_with_the_closest_ones(start: Start, legacy: bool) -> None:
    client = start(legacy=legacy)
    client.call(1, "write_fil", path="a", content="b")
    error = client.answer_to(1)["error"]
    assert error["code"] == -32602
    assert error["message"].startswith("There is no tool `write_fil`; closest are `write_file`")
    client.call(2, "list_runs")
    assert client.answer_to(2)["result"]["structuredContent"]["runs"] == []


def test_an_answer_that_is_too_large_is_an_error_and_not_silence(start: Start) -> None:
    client = start()
    client.call(1, "say_much", to=2 * LIMIT)
    assert "Ask for less" in client.answer_to(1)["error"]["message"]
    client.call(2, "say_much", to=10)
    assert client.answer_to(2)["result"]["structuredContent"] == {"text": "x" * 10}


def test_many_requests_at_once_are_all_answered(start: Start) -> None:
    client = start()
    count = 300
    frames: list[bytes] = []
    for number in range(count):
        params: dict[str, Any] = {"name": "count_up", "arguments": {"to": number}}
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        frames.append(json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode())
    client.send(b"\n".join(frames) + b"\n")
    answers = {client.answer()["id"] for _ in range(count)}
    assert answers == set(range(count))


def test_a_frame_may_arrive_in_pieces_and_without_a_last_newline(start: Start) -> None:
    client = start()
    for byte in json.dumps(
        {
            "jsonrpc": "2.0", "id": 1, "method": "server/discover",
            "params": {"_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            }},
        }
    ).encode():  # fmt: skip
        client.send(bytes([byte]))
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert client.answer()["id"] == 1
    assert client.process.wait(timeout=SECONDS) == 0


def test_a_slow_reader_gets_everything_that_was_answered_before_the_end(start: Start) -> None:
    client = start()
    for number in range(5):
        client.call(number, "say_much", to=100_000)
    assert client.process.stdin is not None
    client.process.stdin.close()
    answers = [client.answer() for _ in range(5)]
    assert sorted(answer["id"] for answer in answers) == [0, 1, 2, 3, 4]
    assert all(len(answer["result"]["structuredContent"]["text"]) == 100_000 for answer in answers)
    assert client.process.wait(timeout=SECONDS) == 0


def test_one_socket_may_be_input_and_output(command: list[str]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen(command, stdin=theirs, stdout=theirs) as process:
        theirs.close()
        ours.sendall(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n{"jsonrpc":"2.0","id":2,"method":"no/such"}\n')
        with ours.makefile("rb") as lines:
            assert {json.loads(lines.readline())["id"], json.loads(lines.readline())["id"]} == {1, 2}
            ours.shutdown(socket.SHUT_WR)
            assert lines.read() == b""
        assert process.wait(timeout=SECONDS) == 0
