"""Frames that nobody sends by accident: each is answered or refused, and the next good one is served."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.protocol.conftest import ENVELOPE, Raw, Start


def request(id: object, method: str = "tools/list", **params: Any) -> bytes:
    params["_meta"] = ENVELOPE
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode()


def call(id: object, tool: str, **arguments: Any) -> bytes:
    return request(id, "tools/call", name=tool, arguments=arguments)


def nested(depth: int) -> bytes:
    deep = "[" * depth + "]" * depth
    return call(5, "write_file", path="deep.txt", content="DEEP").replace(b'"DEEP"', deep.encode())


NUMBER = "9" * 5000

REFUSED: list[tuple[str, bytes, object, int | None]] = [
    # what it is, the frame, the id of the answer, its error's code (none: a result that says isError)
    ("half a character", request(5).replace(b"tools/list", b"tools/\\ud800"), 5, -32700),
    ("half a character in an argument", call(5, "read_file", path="X").replace(b'"X"', b'"\\udfff"'), 5, -32700),
    ("a byte order mark", b"\xef\xbb\xbf" + request(5), None, -32700),
    ("UTF-16", request(5).decode().encode("utf-16-le").replace(b"\n", b""), None, -32700),
    ("a zero byte between", request(5).replace(b'"method"', b'\x00"method"'), None, -32700),
    ("two objects on a line", request(5) + request(6), None, -32700),
    ("a comment", request(5) + b" // please", None, -32700),
    ("single quotes", b"{'jsonrpc':'2.0','id':5,'method':'tools/list'}", None, -32700),
    ("infinity", call(5, "list_runs", limit=1).replace(b'"limit": 1', b'"limit": Infinity'), 5, -32700),
    ("another version", request(5).replace(b'"2.0"', b'"1.0"'), 5, -32600),
    ("a version that is a number", request(5).replace(b'"2.0"', b"2.0"), 5, -32600),
    ("no method", b'{"jsonrpc":"2.0","id":5}', None, -32600),
    ("a method that is a list", b'{"jsonrpc":"2.0","id":5,"method":["tools/list"]}', 5, -32600),
    ("parameters that are a text", b'{"jsonrpc":"2.0","id":5,"method":"tools/list","params":"all"}', 5, -32600),
    ("parameters that are a list", b'{"jsonrpc":"2.0","id":5,"method":"tools/list","params":[1]}', 5, -32600),
    ("an id that is a fraction", request(5).replace(b'"id": 5', b'"id": 5.5'), None, -32600),
    ("an id that is true", request(5).replace(b'"id": 5', b'"id": true'), None, -32600),
    ("an id that is a list", request(5).replace(b'"id": 5', b'"id": [5]'), None, -32600),
    (
        "a request without an envelope",
        b'{"jsonrpc":"2.0","id":5,"method":"tools/list","params":{"_meta":7}}',
        5,
        -32602,
    ),
    ("arguments nested too deeply", nested(5000), 5, -32600),
    ("arguments nested a little", nested(60), 5, None),
    (
        "an enormous number",
        call(5, "list_runs", limit=1).replace(b'"limit": 1', f'"limit": {NUMBER}'.encode()),
        5,
        -32600,
    ),
    ("a number beyond all floats", call(5, "list_runs", limit=1).replace(b'"limit": 1', b'"limit": 1e999'), 5, None),
    ("a path with a zero byte", call(5, "read_file", path="a\0b"), 5, None),
    ("a path of a hundred thousand", call(5, "read_file", path="a" * 100_000), 5, None),
    ("a path of a thousand folders", call(5, "write_file", path="a/" * 1000, content="x"), 5, None),
    ("a hundred thousand unknown arguments", call(5, "read_file", **{f"x{n}": n for n in range(50_000)}), 5, None),
    ("no arguments at all", request(5, "tools/call", name="write_file"), 5, None),
    ("a tool without a name", call(5, ""), 5, None),
    ("a tool of an odd name", call(5, "read_file\n\x1b[2J"), 5, None),
]


@pytest.fixture
def served(start: Start) -> Callable[[], Raw]:
    """A connection whose era is settled."""

    def make() -> Raw:
        client = start()
        client.send(request("first") + b"\n")
        assert client.answer_to("first")["result"]["tools"]
        return client

    return make


def test_each_hostile_frame_is_refused_and_the_next_one_is_served(served: Callable[[], Raw], workspace: Path) -> None:
    client = served()
    for what, frame, id, code in REFUSED:
        assert b"\n" not in frame, what
        client.send(frame + b"\n")
        answer = client.answer()
        assert answer["id"] == id, what
        if code is None:
            assert answer.get("result", {}).get("isError") or answer["error"]["code"] == -32602, (what, answer)
        else:
            assert answer["error"]["code"] == code, (what, answer)
        client.send(request("next") + b"\n")
        assert client.answer()["id"] == "next", what
    assert [path.name for path in workspace.iterdir()] == ["notes.txt"]
    assert not b"".join(client.errors).count(b"Traceback")


UNANSWERED = [
    b'{"jsonrpc":"2.0","method":"notifications/no-such"}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"never asked"}}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":{"a":1}}}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled"}',
    b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":"much"}}',
    b'{"jsonrpc":"2.0","id":77,"result":{"action":"accept","content":{"approve":true}}}',
    b'{"jsonrpc":"2.0","id":77,"error":{"code":1,"message":"no"}}',
    b"   ",
]


@pytest.mark.parametrize("legacy", [False, True])
def test_what_asks_for_nothing_is_not_answered(start: Start, legacy: bool) -> None:
    client = start(legacy=legacy)
    for frame in UNANSWERED:
        client.send(frame + b"\n")
    client.ask("next", "tools/list")
    assert client.answer()["id"] == "next"


def test_the_largest_argument_that_fits_is_taken(served: Callable[[], Raw], workspace: Path) -> None:
    client = served()
    content = "ä" * 400_000
    client.send(
        json.dumps(json.loads(call(1, "write_file", path="big.txt", content=content)), ensure_ascii=False).encode()
    )
    client.send(b"\n")
    assert client.answer()["result"]["structuredContent"]["status"] == "applied"
    assert (workspace / "big.txt").read_text() == content
    client.call(2, "rollback_run", last=1)
    assert client.answer()["result"]["structuredContent"]["status"] == "complete"
    assert not (workspace / "big.txt").exists()


def test_an_act_that_is_sent_twice_under_one_id_and_key_happens_once(
    served: Callable[[], Raw], workspace: Path
) -> None:
    client = served()
    client.call("run", "start_run", goal="twice")
    run = client.answer()["result"]["structuredContent"]["run_id"]
    frame = call(1, "write_file", path="once.txt", content="x", run_id=run, idempotency_key="one") + b"\n"
    client.send(frame * 3)
    told = [client.answer() for _ in range(3)]
    assert {answer["id"] for answer in told} == {1}
    kept = [answer["result"]["structuredContent"]["status"] for answer in told if "result" in answer]
    refused = [answer["error"]["code"] for answer in told if "error" in answer]
    assert kept.count("applied") == 1
    assert set(kept) <= {"applied", "replayed"}
    assert set(refused) <= {-32600}
    client.call(2, "get_run", run_id=run)
    assert len(client.answer()["result"]["structuredContent"]["actions"]) == 1


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_done_to_the_bytes_of_a_frame_the_server_goes_on(
    served: Callable[[], Raw], workspace: Path, seed: int
) -> None:
    chance = random.Random(seed)
    client = served()
    good = [
        call(5, "read_file", path="notes.txt"),
        call("five", "list_runs", limit=3),
        request(5, "resources/read", uri="takeback://runs"),
        request(5, "prompts/list"),
    ]
    for number in range(100):
        frame = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(frame))
            match chance.randrange(4):
                case 0:
                    frame[at] = chance.choice([*range(10), *range(11, 256)])
                case 1:
                    del frame[at : at + chance.randint(1, 20)]
                case 2:
                    frame[at:at] = frame[: chance.randint(1, 30)]
                case _:
                    frame[at:at] = chance.choice([b'"', b"{", b"}", b"\\", b"[", b",", b"\xff", b"\\ud83d", b"null"])
            frame = frame or bytearray(b"{")
        client.send(bytes(frame).replace(b"\n", b"") + b"\n")
        client.send(request(f"after {number}", "prompts/list") + b"\n")
        assert client.answer_to(f"after {number}")["result"]["prompts"]
    assert client.process.poll() is None
    assert [path.name for path in workspace.iterdir()] == ["notes.txt"]
    assert not b"".join(client.errors).count(b"Traceback")
