"""Which names are the server's, and which pages may address it."""

from __future__ import annotations

import pytest

from takeback.server.mcp.http_names import Authority, Names, authority_of, is_loopback, origin_of


@pytest.mark.parametrize(
    ("bound", "ours", "others"),
    [
        ("127.0.0.1", ["localhost:1", "127.0.0.1", "[::1]:5"], ["192.0.2.1", "example.org", "127.0.0.2", "0.0.0.0"]),
        ("127.0.0.2", ["127.0.0.2:9", "localhost"], ["127.0.0.3"]),
        ("192.0.2.1", ["192.0.2.1", "192.0.2.1:8765"], ["localhost", "127.0.0.1", "192.0.2.2"]),
        ("0.0.0.0", ["192.0.2.1:8765", "localhost", "[2001:db8::1]"], ["example.org", "192.0.2.1.example.org", "1"]),
        ("::", ["[2001:DB8:0::1]:7", "127.0.0.1"], ["example.org"]),
        ("box.example.org", ["box.example.org:1", "BOX.example.org"], ["example.org", "box.example.org.", "localhost"]),
    ],
)
def test_the_names_follow_from_where_it_listens(bound: str, ours: list[str], others: list[str]) -> None:
    names = Names(bound)
    assert [text for text in ours if names.host(text) is None] == []
    assert [text for text in others if names.host(text) is not None] == []


def test_a_configured_name_holds_for_its_port_or_for_all() -> None:
    names = Names("127.0.0.1", hosts=["any.example.org", "one.example.org:8443", "web.example.org:80"])
    for text in (
        "any.example.org",
        "any.example.org:5",
        "one.example.org:8443",
        "web.example.org",
        "web.example.org:80",
    ):
        assert names.host(text)
    for text in ("one.example.org", "one.example.org:8444", "web.example.org:81"):
        assert names.host(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":80",
        "a:b",
        "a:0",
        "a:70000",
        "a b",
        "a@b",
        "[::g]",
        "[1]",
        "::1",
        "a/b",
        "a,b",
        "a:1:2",
        "a\n",
        "é.org",
    ],
)
def test_what_is_no_authority_is_none(text: str) -> None:
    assert authority_of(text) is None


def test_a_usual_port_is_no_other_than_none_said() -> None:
    assert authority_of("a:80") == authority_of("A") == Authority("a", None)
    assert authority_of("a:443", scheme="https") == Authority("a", None)
    assert origin_of("https://a:443") == origin_of("https://a") != origin_of("http://a")


def test_a_page_behind_a_proxy_that_ends_tls_is_the_servers_own() -> None:
    names = Names("127.0.0.1", hosts=["t.example.org"])
    assert names.origin("https://t.example.org", "t.example.org")
    assert not names.origin("https://t.example.org:8443", "t.example.org")


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "::1"])
def test_what_only_this_machine_reaches(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost.example.org", "", "127.0.0.1.nip.io"])
def test_what_others_reach_too(host: str) -> None:
    assert not is_loopback(host)
