"""`takeback connect mailbox` on real servers: what it says of them, and that a password is kept only where it was taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

import keyring
import pytest
from tests.server.cli.conftest import Answered, Desk
from tests.tools.email.imap.boxes import Box
from tests.tools.email.imap.conftest import dovecot_server, imap_certificate  # noqa: F401 -- fixtures
from tests.tools.email.imap.proxy import Proxy
from tests.tools.email.imap.servers import PASSWORD, Server
from tests.tools.email.test_credentials import Kept

from takeback.server.cli.codes import ExitCode

Says = Callable[[Sequence[str]], None]


@pytest.fixture
def ring() -> Iterator[Kept]:
    before, ring = keyring.get_keyring(), Kept()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


@pytest.fixture
def person(dovecot_server: Server) -> Iterator[Box]:  # noqa: F811 -- the fixture
    box = Box(dovecot_server, f"u{uuid4().hex[:12]}").fill(3)
    yield box
    box.close()


def connect(desk: Desk, imap: str, *words: str, username: str = "me", more: str = "") -> Answered:
    text = f'[mailboxes.work]\nimap = "{imap}"\nusername = "{username}"\naddress = "me@example.org"\n{more}\n'
    (desk.settings.data.parent / "config.toml").write_text(text)
    return desk("connect", "mailbox", "work", *words)


def test_a_password_that_was_taken_is_kept_and_what_is_there_is_told(
    desk: Desk,
    person: Box,
    ring: Kept,
    says: Says,
    imap_certificate: object,  # noqa: F811 -- the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{imap_certificate}/cert.pem")
    monkeypatch.setattr("getpass.getpass", lambda _: PASSWORD)
    before = person.tree()
    says([])
    told = connect(desk, f"imaps://localhost:{person.server.tls_port}", username=person.user)
    assert told.code == ExitCode.OK, told.err
    assert "6, with 3 messages" in told.out
    assert "Sent, Drafts, Trash" in told.out
    assert ring.kept == {("takeback", f"mailbox/work {person.user}@localhost"): PASSWORD}
    assert PASSWORD not in told.out + told.err
    assert person.tree() == before


def test_a_wrong_password_a_false_certificate_and_a_host_that_is_away_are_told_and_nothing_is_kept(
    desk: Desk,
    person: Box,
    ring: Kept,
    says: Says,
    imap_certificate: object,  # noqa: F811 -- the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = person.server
    monkeypatch.setattr("getpass.getpass", lambda _: "wrong horse")
    says([])
    for url, certificates, fact in (
        (f"imap://127.0.0.1:{server.port}", f"{imap_certificate}/cert.pem", "does not accept"),
        (f"imap://127.0.0.1:{server.port}", "/dev/null", "cannot be trusted"),
        (f"imaps://localhost:{server.tls_port}", "/dev/null", "cannot be trusted"),
        ("imap://127.0.0.1:1", "/dev/null", "cannot be reached"),
    ):
        monkeypatch.setenv("SSL_CERT_FILE", certificates)
        told = connect(desk, url, username=person.user)
        assert told.code != ExitCode.OK
        assert fact in told.err
        assert "horse" not in told.out + told.err
        assert "Traceback" not in told.err
    assert ring.kept == {}
    told = desk("connect", "mailbox", "home")
    assert told.code != ExitCode.OK
    assert "[mailboxes.NAME]" in told.err


@pytest.mark.parametrize(
    ("lacking", "presented", "said"),
    [
        (
            {b"MOVE", b"UIDPLUS", b"CONDSTORE", b"QRESYNC"},
            b"",
            ["cannot change flags on condition", "copied", "expunges"],
        ),
        (set[bytes](), b"X-GM-EXT-1", ["On Gmail a folder is a label"]),
    ],
)
def test_what_a_server_lacks_is_said_before_anything_is_done_there(
    desk: Desk,
    person: Box,
    ring: Kept,
    lacking: set[bytes],
    presented: bytes,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = Proxy(person.server.port, hide=frozenset(lacking), present=presented)
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    try:
        told = connect(
            desk,
            f"imap://127.0.0.1:{proxy.port}",
            "--json",
            username=person.user,
            more='password_variable = "MAIL_PASSWORD"',
        )
    finally:
        proxy.close()
    assert told.code == ExitCode.OK, told.err
    lacks = json.loads(told.out)["lacks"]
    assert len(lacks) == len(said)
    assert all(any(words in each for each in lacks) for words in said)
    assert ring.kept == {}, "it is in the environment"
