"""Frames: every line is a message, or a refusal that names its request where that can be known."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import INVALID_REQUEST, PARSE_ERROR, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from takeback.server.mcp.frames import FrameSplitter, Oversized, Refused, decode

LIMIT = 10_000


def frames_of(chunks: list[bytes], limit: int = LIMIT) -> list[bytes | Oversized]:
    splitter = FrameSplitter(limit)
    found = [frame for chunk in chunks for frame in splitter.feed(chunk)]
    return [*found, *splitter.close()]


def request(**members: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", **members}).encode()


@given(
    lines=st.lists(st.binary(min_size=1, max_size=40).filter(lambda b: b"\n" not in b and b.strip())), cuts=st.data()
)
def test_lines_come_out_whole_however_the_bytes_arrive(lines: list[bytes], cuts: st.DataObject) -> None:
    stream = b"\n".join(lines)
    chunks: list[bytes] = []
    while stream:
        size = cuts.draw(st.integers(min_value=1, max_value=len(stream)))
        chunks.append(stream[:size])
        stream = stream[size:]
    assert frames_of(chunks) == lines


def test_a_line_at_the_limit_passes_and_one_byte_more_does_not() -> None:
    assert frames_of([b"x" * LIMIT + b"\n"]) == [b"x" * LIMIT]
    assert isinstance(frames_of([b"x" * (LIMIT + 1) + b"\n"])[0], Oversized)


def test_a_line_that_is_too_long_is_not_kept_in_memory_and_the_next_one_is_read() -> None:
    splitter = FrameSplitter(1000)
    for _ in range(1000):
        assert list(splitter.feed(b"x" * 1000)) == []
        assert len(splitter._held) <= 1000  # pyright: ignore[reportPrivateUsage] -- memory is what this is about
    found = list(splitter.feed(b"\n" + request() + b"\n"))
    assert isinstance(found[0], Oversized)
    assert found[1:] == [request()]


@pytest.mark.parametrize("text", ['{"jsonrpc":"2.0","id":%s,"method":"m","params":{"a":"%s"}}',
                                  '{"method":"m","params":{"id":99,"a":"%s"},"jsonrpc":"2.0","id":%s}'])  # fmt: skip
@pytest.mark.parametrize("id", [7, "seven"])
def test_a_request_that_is_too_long_is_refused_under_its_own_id(text: str, id: int | str) -> None:
    padding = "x" * LIMIT
    values = (json.dumps(id), padding) if text.startswith('{"jsonrpc') else (padding, json.dumps(id))
    [frame] = frames_of([(text % values).encode() + b"\n"])
    assert decode(frame, LIMIT) == Refused(
        id, INVALID_REQUEST, f"The message is larger than {LIMIT} bytes; send less at once"
    )


def test_an_id_deep_inside_a_message_that_is_too_long_is_not_taken_for_its_own() -> None:
    text = '{"method":"m","id":7,"params":{"a":"%s","jsonrpc":"2.0","id":99}}' % ("x" * LIMIT)
    [frame] = frames_of([text.encode() + b"\n"])
    refused = decode(frame, LIMIT)
    assert isinstance(refused, Refused)
    assert refused.id is None


def test_requests_notifications_and_responses_are_told_apart() -> None:
    assert isinstance(decode(request(), LIMIT), JSONRPCRequest)
    assert isinstance(decode(b'{"jsonrpc":"2.0","method":"notifications/x"}', LIMIT), JSONRPCNotification)
    assert isinstance(decode(b'{"jsonrpc":"2.0","id":1,"result":{}}', LIMIT), JSONRPCResponse)


@pytest.mark.parametrize(
    ("frame", "id", "code", "fact"),
    [
        (b"garbage", None, PARSE_ERROR, "not valid JSON"),
        (b'{"jsonrpc":"2.0","id":7,"method":"m"', None, PARSE_ERROR, "not valid JSON"),
        (b'{"jsonrpc":"2.0","id":7,"method":"m\xff"}', 7, PARSE_ERROR, "not valid UTF-8"),
        (b'{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":"\\ud800"}}', 7, PARSE_ERROR, "half a character"),
        (b'{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":NaN}}', 7, PARSE_ERROR, "NaN and Infinity"),
        (b'{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":-Infinity}}', 7, PARSE_ERROR, "NaN and Infinity"),
        (b'[{"jsonrpc":"2.0","id":7,"method":"m"}]', None, INVALID_REQUEST, "batches are not taken"),
        (b'{"jsonrpc":"1.0","id":7,"method":"m"}', 7, INVALID_REQUEST, "not a valid JSON-RPC"),
        (b'{"jsonrpc":"2.0","id":7,"method":3}', 7, INVALID_REQUEST, "not a valid JSON-RPC"),
        (b'{"jsonrpc":"2.0","id":7,"method":"m","params":[1]}', 7, INVALID_REQUEST, "not a valid JSON-RPC"),
        (b'{"jsonrpc":"2.0","id":null,"method":"m"}', None, INVALID_REQUEST, "id of a request"),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"m"}', None, INVALID_REQUEST, "id of a request"),
        (b'{"jsonrpc":"2.0","id":true,"method":"m"}', None, INVALID_REQUEST, "id of a request"),
        (b'{"jsonrpc":"2.0","id":7,"result":3}', None, INVALID_REQUEST, "request, notification or response"),
        (b"\xef\xbb\xbf", None, PARSE_ERROR, "not valid JSON"),
        (b"\x00\x00", None, PARSE_ERROR, "not valid JSON"),
    ],
)
def test_what_is_no_message_is_refused_with_the_reason(frame: bytes, id: object, code: int, fact: str) -> None:
    refused = decode(frame, LIMIT)
    assert isinstance(refused, Refused)
    assert (refused.id, refused.code) == (id, code)
    assert fact in refused.message


@pytest.mark.parametrize("depth", [300, 900, 5_000, 200_000])
def test_a_message_that_is_nested_too_deeply_is_refused_under_its_id(depth: int) -> None:
    frame = b'{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":' + b"[" * depth + b"]" * depth + b"}}"
    refused = decode(frame, 10**7)
    assert isinstance(refused, Refused)
    assert refused.id == 7
    assert "nested too deeply" in refused.message


def test_the_words_nan_and_infinity_may_stand_in_texts() -> None:
    assert isinstance(decode(request(params={"text": "NaN, Infinity"}), LIMIT), JSONRPCRequest)


@given(st.binary(max_size=200))
def test_no_bytes_whatsoever_crash_the_decoder(frame: bytes) -> None:
    decode(frame, LIMIT)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "result", "x"]), inner)
        ),
    )
)
def test_no_json_whatsoever_crashes_the_decoder(value: object) -> None:
    decode(json.dumps(value).encode(), LIMIT)
