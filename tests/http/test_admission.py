"""Who is let in, and with what: tokens, names, origins, sizes, and requests that are none."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.http.conftest import Build
from tests.http.house import (
    ADA,
    BOB,
    ENVELOPE,
    FRAME,
    ISSUER,
    MINE,
    RESOURCE,
    House,
    Issuer,
    call_body,
    call_headers,
    headers,
)
from tests.signs import appeared

from takeback.server.mcp.http_jwt import LEEWAY_SECONDS

LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": ENVELOPE}}


def ask(house: House, token: str | None, **more: str) -> httpx2.Response:
    return httpx2.post(house.url, json=LIST, headers=headers(token, mcp_method="tools/list") | more, timeout=30)


# --- tokens -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [ADA, BOB, MINE])
def test_a_known_token_lets_in(house: House, token: str) -> None:
    assert ask(house, token).status_code == 200


def test_without_a_token_one_is_told_where_to_get_one(house: House) -> None:
    answer = ask(house, None)
    assert answer.status_code == 401
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith("Bearer ")
    assert 'resource_metadata="https://takeback.example.org/.well-known/oauth-protected-resource/mcp"' in challenge
    assert "error=" not in challenge


@pytest.mark.parametrize(
    "given",
    [
        "Bearer wrong",
        f"Bearer {ADA}x",
        f"Bearer {ADA[:-1]}",
        f"Basic {ADA}",
        ADA,
        "Bearer",
        f"Bearer {ADA} {ADA}",
    ],
)
def test_what_is_no_known_token_lets_nobody_in(house: House, given: str) -> None:
    answer = ask(house, None, authorization=given)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert ADA not in answer.text


def test_a_token_in_the_address_is_not_one(house: House) -> None:
    answer = httpx2.post(f"{house.url}?access_token={ADA}", json=LIST, headers=headers(None))
    assert answer.status_code == 401


def test_the_scheme_may_be_written_in_any_case(house: House) -> None:
    assert ask(house, None, authorization=f"bEARER {ADA}").status_code == 200


def test_two_tokens_are_too_many(house: House) -> None:
    given = [*headers(ADA).items(), ("authorization", f"Bearer {BOB}")]
    assert httpx2.post(house.url, json=LIST, headers=given).status_code == 400


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_every_method_needs_a_token(house: House, method: str) -> None:
    assert httpx2.request(method, house.url, headers=headers(None)).status_code == 401


def test_nothing_is_said_of_tokens_in_the_log_or_the_data_directory(house: House, issuer: Issuer) -> None:
    signed = issuer.token("carol")
    assert ask(house, signed).status_code == 200
    assert ask(house, "wrong-but-long-enough-to-be-one").status_code == 401
    everything = "".join(house.said).encode()
    for file in house.data.rglob("*"):
        everything += file.read_bytes() if file.is_file() else b""
    for token in (ADA, BOB, MINE, signed, "wrong-but-long-enough"):
        assert token.encode() not in everything


# --- tokens of an issuer ------------------------------------------------------------------------------------------------


def test_a_signed_token_lets_in(house: House, issuer: Issuer) -> None:
    assert ask(house, issuer.token()).status_code == 200
    assert ask(house, issuer.token(key=issuer.rsa, alg="RS256", kid="two")).status_code == 200
    assert ask(house, issuer.token(aud=["https://elsewhere.example.org", RESOURCE])).status_code == 200
    assert ask(house, issuer.token(scope=None, scp=["takeback"])).status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"exp": int(time.time()) - 3600}, id="expired"),
        {"exp": None},
        pytest.param({"nbf": int(time.time()) + 3600}, id="not yet"),
        {"aud": "https://other.example.org/mcp"},
        {"aud": "https://takeback.example.org"},
        {"aud": None},
        {"iss": "https://evil.example.org"},
        {"iss": ISSUER + "/"},
        {"iss": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "carol\nroot"},
        {"sub": "c" * 1000},
        {"client_id": 7},
    ],
    ids=str,
)
def test_a_signed_token_that_says_something_else_lets_nobody_in(
    house: House, issuer: Issuer, claims: dict[str, Any]
) -> None:
    assert ask(house, issuer.token(**claims)).status_code == 401


def test_a_token_that_the_issuer_did_not_sign_lets_nobody_in(house: House, issuer: Issuer) -> None:
    pem = issuer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for forged in (
        issuer.token(key=issuer.other),
        issuer.token(key=issuer.other, kid="unknown"),
        issuer.token(key=issuer.rsa, alg="RS256", kid="one"),
        issuer.token(key=issuer.rsa, alg="PS256", kid="two"),
        issuer.shared("secret-secret-secret-secret-secret", "shared"),
        issuer.shared(pem, "one"),
        issuer.token(key="", alg="none"),
        issuer.token().rpartition(".")[0] + ".",
        issuer.token()[:-4] + "AAAA",
    ):
        assert ask(house, forged).status_code == 401


def test_a_signed_token_without_the_scope_is_not_enough(house: House, issuer: Issuer) -> None:
    for scope in ("openid", "takeback-not", "", None):
        answer = ask(house, issuer.token(scope=scope))
        assert answer.status_code == 403
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
        assert 'scope="takeback"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("path", ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"])
def test_what_is_protected_is_published(house: House, path: str) -> None:
    answer = httpx2.get(house.url.removesuffix("/mcp") + path)
    assert answer.status_code == 200
    assert answer.json() == {
        "resource": RESOURCE,
        "authorization_servers": [ISSUER],
        "scopes_supported": ["takeback"],
        "bearer_methods_supported": ["header"],
        "resource_name": "takeback",
    }


# --- names and origins --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:80", "[::1]:8765", "takeback.example.org"])
def test_the_server_answers_to_its_names(house: House, host: str) -> None:
    assert ask(house, ADA, host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.org", "localhost.evil.example.org", "evil.example.org:8765", "127.0.0.1.nip.io", "localhost:8765@evil",
        "127.0.0.1:", "localhost:x", "localhost:99999", "[::1", "takeback.example.org.evil", "0.0.0.0", "2130706433", "",
    ],
)  # fmt: skip
def test_what_is_meant_for_another_name_is_not_for_us(house: House, host: str) -> None:
    answer = ask(house, ADA, host=host)
    assert answer.status_code == 421
    assert httpx2.get(house.url, headers={"host": host}).status_code == 421, "nor without a token"


def test_pages_of_the_server_and_of_the_configuration_may_address_it(house: House) -> None:
    own = urlsplit(house.url).netloc
    for origin in (f"http://{own}", "https://app.example.org"):
        assert ask(house, ADA, origin=origin).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.org", "null", "http://localhost:1", "https://app.example.org.evil", "https://app.example.org/x",
        "http://app.example.org", "https://app.example.org:444", "file://", "https://app.example.org@evil", "",
    ],
)  # fmt: skip
def test_other_pages_may_not(house: House, origin: str) -> None:
    assert ask(house, ADA, origin=origin).status_code == 403


def test_there_is_nothing_elsewhere(house: House) -> None:
    root = house.url.removesuffix("/mcp")
    for path in ("/", "/mcp/", "/mcp/x", "/metrics", "//mcp", "/.well-known/openid-configuration"):
        assert httpx2.get(root + path, headers=headers(ADA)).status_code == 404
    assert httpx2.put(house.url, headers=headers(ADA)).status_code == 405


# --- what is sent -------------------------------------------------------------------------------------------------------


def big(size: int) -> bytes:
    return json.dumps(call_body("write_file", {"path": "big.txt", "content": "x" * size})).encode()


def test_a_body_that_is_too_large_is_refused_and_changes_nothing(house: House) -> None:
    def pieces() -> Any:
        body = big(2 * FRAME)
        yield from (body[start : start + 5000] for start in range(0, len(body), 5000))

    for content in (big(FRAME), big(2 * FRAME), pieces()):
        answer = httpx2.post(house.url, content=content, headers=call_headers(ADA, "write_file"))
        assert answer.status_code == 413
        assert str(FRAME) in answer.json()["error"]["message"]
    assert not (house.workspace / "big.txt").exists()


def raw(house: House, *lines: str) -> socket.socket:
    parts = urlsplit(house.url)
    assert parts.hostname
    assert parts.port
    made = socket.create_connection((parts.hostname, parts.port), timeout=30)
    made.sendall("\r\n".join((*lines, "")).encode())
    return made


def status(connection: socket.socket) -> int:
    with connection, connection.makefile("rb") as file:
        line = file.readline()
        return int(line.split()[1]) if line else 0


def test_a_body_that_is_announced_far_too_large_is_not_waited_for(house: House) -> None:
    host = f"Host: {urlsplit(house.url).netloc}"
    for token, expected in ((ADA, 413), ("wrong", 401)):
        lines = ["POST /mcp HTTP/1.1", host, f"Authorization: Bearer {token}", "Content-Length: 999999999999", ""]
        assert status(raw(house, *lines)) == expected


def test_headers_that_are_too_large_are_refused(house: House) -> None:
    connection = raw(house, "GET /mcp HTTP/1.1", "Host: localhost", *(f"X-{n}: {'x' * 1000}" for n in range(100)))
    assert status(connection) in (400, 431)


def test_two_lengths_are_refused(house: House) -> None:
    lines = ["POST /mcp HTTP/1.1", "Host: localhost", "Content-Length: 5", "Content-Length: 6", ""]
    assert status(raw(house, *lines)) == 400


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe{\x00}\x00", -32700),
        ('{"jsonrpc":"2.0","id":1,"method":"tools/list"}'.encode("utf-16"), -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":NaN}}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":"\\ud800"}}', -32700),
        (b'[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"tools/list"}', -32600),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"}",
            -32600,
        ),
    ],
)
def test_what_is_no_message_is_answered_as_such(house: House, body: bytes, code: int) -> None:
    answer = httpx2.post(house.url, content=body, headers=headers(ADA))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


def test_a_second_request_under_an_id_that_is_at_work_is_refused(house: House) -> None:
    async def ask_twice() -> None:
        house.shut_the_gate()
        legacy = {"mcp_protocol_version": "2025-11-25"}
        client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
        call = {"name": "set_slowly", "arguments": {"key": "twice", "value": "1"}}
        slow = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call}
        async with httpx2.AsyncClient(timeout=30) as http:
            begun = await http.post(
                house.url,
                json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client},
                headers=headers(MINE, **legacy),
            )
            mine = headers(MINE, mcp_session_id=begun.headers["mcp-session-id"], **legacy)
            first = asyncio.create_task(http.post(house.url, json=slow, headers=mine))
            await appeared(house.gate / "committing")
            assert (await http.post(house.url, json=slow, headers=mine)).status_code == 409
            (house.gate / "go").touch()
            assert '"applied"' in (await first).text

    asyncio.run(ask_twice())


def test_who_is_slow_is_not_waited_for(build: Build) -> None:
    house = build(http="request_seconds = 0.3")
    host = f"Host: {urlsplit(house.url).netloc}"
    silent = raw(house)
    by_line = raw(house, "POST /mcp HTTP/1.1", host)
    lines = ["POST /mcp HTTP/1.1", host, f"Authorization: Bearer {MINE}", "Content-Type: application/json"]
    body = raw(house, *lines, "Content-Length: 50", "", '{"jsonrpc":')
    chunked = raw(house, *lines, "Transfer-Encoding: chunked", "", "4", '{"js')
    assert (status(silent), status(by_line)) == (0, 0)
    assert (status(body), status(chunked)) == (408, 408)
    assert ask(house, MINE).status_code == 200


def test_who_takes_nothing_of_an_answer_is_given_up(build: Build) -> None:
    house = build(http="request_seconds = 0.3")
    body = json.dumps(call_body("say_much", {"to": 20_000_000})).encode()
    lines = [f"{name}: {value}" for name, value in call_headers(MINE, "say_much").items()]
    host = f"Host: {urlsplit(house.url).netloc}"
    connection = raw(house, "POST /mcp HTTP/1.1", host, *lines, f"Content-Length: {len(body)}", "", body.decode())
    given_up = select.poll()
    given_up.register(connection, 0)  # only whether the other side has broken off; nothing is read
    [(_, event)] = given_up.poll(30_000)
    assert event & (select.POLLERR | select.POLLHUP)
    connection.close()


def test_more_connections_than_are_served_are_turned_away(build: Build) -> None:
    house = build(http="connections = 4")
    waiting = [raw(house) for _ in range(3)]
    assert ask(house, MINE).status_code == 200
    waiting += [raw(house) for _ in range(2)]
    assert ask(house, MINE).status_code == 503
    with pytest.raises(ConnectionResetError):
        while len(waiting) < 30:
            waiting.append(raw(house))
        waiting[-1].recv(1)
    for connection in waiting:
        connection.close()


def test_a_stream_ends_when_the_token_does(house: House, issuer: Issuer) -> None:
    filter = {"notifications": {"resourceSubscriptions": ["takeback://runs"]}, "_meta": ENVELOPE}
    listen = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": filter}
    for life in (2, 8, 32):  # on a busy machine a short one may be over before it has been looked at
        token = issuer.token(exp=int(time.time()) - LEEWAY_SECONDS + life)
        with httpx2.stream(
            "POST", house.url, json=listen, headers=headers(token, mcp_method="subscriptions/listen")
        ) as stream:
            told = stream.read().decode()
        if stream.status_code == 200 and "acknowledged" in told:
            break
    else:
        pytest.fail(f"{stream.status_code}: {told}")
    assert ask(house, token).status_code == 401
