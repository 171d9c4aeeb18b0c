"""The parts that decide: what is text, who is let in, which form is good, when it is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from takeback.server.web import letters, texts
from takeback.server.web.address import Address, alone, before, running, tell
from takeback.server.web.forms import FORM_SECONDS, Forms, Sending
from takeback.server.web.html import Exact, e, render
from takeback.server.web.idle import Idle
from takeback.server.web.visitors import KEY_SECONDS, SESSION_SECONDS, Visitors


class Clock:
    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("<script>", "&lt;script&gt;"),
        ("a & b", "a &amp; b"),
        ("one\n\ttwo", "one\n\ttwo"),
        ("\u202eevil\u200b\x00\r", "\\u202eevil\\u200b\\x00\\r"),
        ("\u2028", "\\u2028"),
    ],
)
def test_text_is_never_markup_and_hides_nothing(text: str, html: str):
    assert render(e("p", text)) == f"<p>{html}</p>"
    assert render([text, [text]]) == html * 2


def test_attributes_cannot_be_left_and_nothing_invisible_is_in_them():
    made = render(e("a", href='" onclick="x\u200b\n', class_="c", hidden=True, id=None, disabled=False))
    assert made == '<a href="&quot; onclick=&quot;x\\u200b\\n" class="c" hidden></a>'


def test_what_is_edited_is_only_escaped():
    assert render(Exact("\u200b</textarea>\r\n")) == "\u200b&lt;/textarea&gt;\r\n"


def test_a_key_opens_once_and_not_for_long(tmp_path: Path):
    clock = Clock()
    visitors = Visitors(tmp_path / "page", clock)
    session = visitors.enter(key := visitors.key())
    assert session is not None
    assert visitors.enter(key) is None
    late = visitors.key()
    clock.at += KEY_SECONDS
    assert visitors.enter(late) is None
    assert visitors.known(session)
    assert Visitors(tmp_path / "page", clock).known(session), "a page that is opened again knows its browsers"
    assert not visitors.known(key)
    clock.at += SESSION_SECONDS - KEY_SECONDS
    assert not visitors.known(session)
    visitors.key()
    assert len(list((tmp_path / "page").rglob("*/*"))) == 1, "what has run out is removed"


@pytest.mark.parametrize("token", ["", ".", "..", "../keys", "x" * 42, "x" * 44, "é" * 43, "a/b" + "x" * 40])
def test_what_is_no_token_is_not_looked_for(tmp_path: Path, token: str):
    visitors = Visitors(tmp_path)
    visitors.key()
    assert visitors.enter(token) is None
    assert not visitors.known(token)
    visitors.leave(token)
    assert len(list((tmp_path / "keys").iterdir())) == 1


def test_a_form_is_sent_once_from_where_it_was_shown_to_where_it_belongs():
    clock = Clock()
    forms = Forms(clock)
    token = forms.token("me", "/a")
    for session, place, given in (
        ("you", "/a", token),
        ("me", "/b", token),
        ("me", "/a", token + "0"),
        ("me", "/a", ""),
    ):
        assert forms.spend(session, place, given) is Sending.FOREIGN
    assert Forms(clock).spend("me", "/a", token) is Sending.FOREIGN, "of another process"
    assert forms.spend("me", "/a", token) is Sending.GOOD
    for _ in range(3):
        forms.spend("me", "/a", forms.token("me", "/a"))
    assert forms.spend("me", "/a", token) is Sending.SPENT
    late = forms.token("me", "/a")
    clock.at += FORM_SECONDS
    assert forms.spend("me", "/a", late) is Sending.FOREIGN
    assert forms.spend("me", "/a", token) is Sending.FOREIGN, "what is forgotten is too old by then"


def test_a_page_is_open_while_it_holds_its_lock_and_has_said_where(tmp_path: Path):
    assert running(tmp_path) is None
    with alone(tmp_path) as mine:
        assert mine
        assert running(tmp_path) is None
        where = Address(8123, before(tmp_path).base)
        tell(tmp_path, where)
        assert running(tmp_path) == where
        with alone(tmp_path) as second:
            assert not second
        assert running(tmp_path) == where
    assert running(tmp_path) is None
    assert before(tmp_path) == where


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"port": "80", "base": "//evil.example"}', '{"port": -1, "base": "/a/../b12345"}']
)
def test_a_place_that_is_written_down_wrong_is_not_believed(tmp_path: Path, text: str):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "address.json").write_text(text)
    found = before(tmp_path)
    assert found.port == 0
    assert found.base.removeprefix("/").isalnum()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"one\ntwo\n", "one\ntwo\n"),
        (b"one\r\ntwo\r\n", "one\ntwo\n"),
        ("ü\t\n".encode(), "ü\t\n"),
        (b"", ""),
        (b"one\r\ntwo\n", None),
        (b"one\rtwo", None),
        (b"\xff", None),
        ("\u200b".encode(), None),
        (b"\x00", None),
        ("\ufeffbom".encode(), None),
        (b"x" * (texts.EDITED_CHARACTERS + 1), None),
        (None, None),
    ],
)
def test_only_what_a_browser_gives_back_unharmed_is_edited(content: bytes | None, text: str | None):
    found = texts.editable(content)
    assert (found.text if found else None) == text
    if found is not None and content is not None:
        sent_by_a_browser = found.text.replace("\n", "\r\n")
        assert found.encoded(sent_by_a_browser).encode() == content


def test_lines_that_differ_are_marked():
    assert texts.changed_lines("a\nb\nc", "a\nx\nc\nd") == {1, 3}
    assert texts.changed_lines("a\n" * 2000, "b\n" * 2000) == frozenset()


@pytest.mark.parametrize(
    ("content", "text", "attached"),
    [
        (b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
         b"=E2=82=AC\r\n", "€\n", []),
        (b"Content-Type: text/html\r\n\r\n<b>x</b>", None, []),
        (b"Content-Type: text/plain; charset=klingon\r\n\r\nx", None, []),
        (b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nhello\r\n--b\r\nContent-Type: image/png\r\n'
         b"Content-Disposition: attachment; filename=a.png\r\n\r\nx\r\n--b--\r\n", "hello", ["a.png"]),
        (b"", "", []),
        (b"\xff\x00", "\ufffd\x00", []),
    ],
)  # fmt: skip
def test_a_message_is_shown_as_its_recipient_reads_it(content: bytes, text: str | None, attached: list[str]):
    assert letters.read(content) == (text, attached)


def test_a_page_on_demand_ends_when_nobody_needs_it():
    clock = Clock()
    opened, person = Idle(600, server=True, now=clock), Idle(600, server=False, now=clock)
    assert not opened.over(waiting=True)
    clock.at += 600
    assert not opened.over(waiting=True), "the agent still waits"
    assert opened.over(waiting=False)
    assert person.over(waiting=True), "nobody's call is answered any more"
    opened.seen()
    opened.server_gone()
    assert not opened.over(waiting=False), "somebody looks at it"
    clock.at += 600
    assert opened.over(waiting=True)
    unseen = Idle(600, server=True, now=clock)
    unseen.server_gone()
    assert unseen.over(waiting=True), "nobody can know of it any more"
