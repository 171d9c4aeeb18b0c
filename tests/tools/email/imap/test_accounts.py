"""Logging in, folders of other layouts, large folders, and copies of what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import ValidationError
from tests.tools.email.imap import servers
from tests.tools.email.imap.boxes import Box, message_id
from tests.tools.email.imap.proxy import Proxy
from tests.tools.email.imap.test_store import keys_of

from takeback.tools.conformance import KitObjects
from takeback.tools.email.credentials import entry, keep_password, password_of
from takeback.tools.email.family import open_store
from takeback.tools.email.imap import reaching, searching
from takeback.tools.email.imap.names import Spot, key_of, numbers, spot_of
from takeback.tools.email.imap.opening import inspect, open_imap
from takeback.tools.email.imap.store import ImapStore
from takeback.tools.email.port import Change, Made, Moved, Wanted
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.email.smtp import SmtpCarrier
from takeback.tools.email.system import MailSystem
from takeback.tools.outbox.port import Outgoing
from takeback.tools.system import Refused, TargetError, Unavailable

LETTER = b"Subject: hi\r\nMessage-ID: <x1@example.org>\r\n\r\nHello\r\n"


@pytest.fixture(scope="module")
def dotted_server(imap_certificate: Path) -> Iterator[servers.Server]:
    why = servers.why_no_dovecot()
    if why:
        pytest.skip(why)
    with servers.dovecot(imap_certificate, separator=".", prefix="INBOX.", trash="Papierkorb") as server:
        yield server


@pytest.fixture
def dotted(dotted_server: servers.Server) -> Iterator[Box]:
    box = Box(dotted_server, f"u{uuid4().hex[:12]}")
    yield box
    box.close()


async def test_folders_below_a_prefix_are_found_by_what_the_server_says_of_them(dotted: Box, tmp_path: Path) -> None:
    dotted.fill(1, ())
    dotted.client.create("INBOX.Archive.2024")
    store = dotted.store(tmp_path)
    roles = await store.roles()
    assert (roles["trash"], roles["sent"]) == ("INBOX.Papierkorb", "INBOX.Sent")
    [key] = (await keys_of(store)).values()
    [now] = await store.look([key])
    assert now is not None
    before = dotted.tree()
    for folder in ("INBOX.Archive.2024", roles["trash"]):
        goal = store.moved(now, folder)
        assert isinstance(await store.change([Change(key, now, goal)]), Made)
        assert await store.look([key]) == [goal]
        assert isinstance(await store.change([Change(key, goal, now)]), Made)
    assert dotted.tree() == before
    await store.close()


async def test_folders_that_are_not_there_are_made_with_the_names_of_the_settings(
    pymap_box: Box, tmp_path: Path
) -> None:
    pymap_box.client.delete("Trash")
    named = pymap_box.settings(trash="Bin/Of the agent")
    store = open_imap("work", named, tmp_path)
    key = (await keys_of(store))[message_id(1)]
    [now] = await store.look([key])
    assert now is not None
    assert (await store.roles())["trash"] == "Bin/Of the agent"
    goal = store.moved(now, "Bin/Of the agent")
    assert isinstance(await store.change([Change(key, now, goal)]), Made)
    assert "Bin/Of the agent" in pymap_box.folders()
    with pytest.raises(Unavailable, match="no folder"):
        await store.change([Change(key, goal, store.moved(goal, "Nowhere"))])
    with pytest.raises(Refused, match="keeps no flag"):
        await store.change([Change(key, goal, store.marked(goal, add=["passed"]))])
    assert await store.look([key]) == [goal]
    await store.close()


async def test_a_password_goes_to_nobody_who_cannot_prove_who_they_are(
    dovecot_box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = dovecot_box.server
    for url in (f"imaps://localhost:{server.tls_port}", f"imap://localhost:{server.port}"):
        its = dovecot_box.settings().model_copy(update={"imap": url})
        monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
        store = open_imap("work", its, tmp_path)
        with pytest.raises(Refused, match="cannot be trusted"):
            await store.folders()
        monkeypatch.undo()
        monkeypatch.setenv("MAIL_PASSWORD", servers.PASSWORD)
    monkeypatch.setattr(reaching, "LOOPBACK", frozenset())
    proxy = Proxy(server.port)
    dovecot_box.port = proxy.port
    with pytest.raises(Refused, match="does not offer TLS"):
        await dovecot_box.store(tmp_path).folders()
    proxy.close()


async def test_a_wrong_password_is_said_and_never_repeated(dovecot_box: Box, tmp_path: Path) -> None:
    store = open_imap("work", dovecot_box.settings(), tmp_path, environment={"MAIL_PASSWORD": "wrong horse"})
    with pytest.raises(Refused, match="does not accept") as refused:
        await store.folders()
    assert "horse" not in f"{refused.value} {refused.value.advice}"
    with pytest.raises(Refused, match="is not set"):
        await open_imap("work", dovecot_box.settings(), tmp_path, environment={}).folders()
    found = await inspect(dovecot_box.settings(), servers.PASSWORD)
    assert (found.messages, found.roles["trash"], found.lacks) == (6, "Trash", [])


async def test_nobody_there_and_nothing_known_are_told_apart(tmp_path: Path) -> None:
    its = MailboxSettings(imap="imap://127.0.0.1:1", username="me", password_variable="P", address="me@example.org")
    store = open_imap("work", its, tmp_path, environment={"P": "x"})
    with pytest.raises(Unavailable, match="cannot be reached"):
        await store.look(["1.1.INBOX"])


def test_the_keyring_gives_a_password_only_to_the_host_it_was_stored_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import keyring

    kept: dict[tuple[str, str], str] = {}
    monkeypatch.setattr(keyring, "set_password", lambda service, name, value: kept.update({(service, name): value}))
    monkeypatch.setattr(keyring, "get_password", lambda service, name: kept.get((service, name)))
    its = MailboxSettings(
        imap="imaps://imap.example.org", smtp="smtps://smtp.example.org", username="me", address="me@example.org"
    )
    keep_password("work", its, its.imap or "", "secret")
    assert password_of("work", its, its.imap or "") == "secret"
    assert entry("work", its, its.imap or "") == "mailbox/work me@imap.example.org"
    moved = its.model_copy(update={"imap": "imaps://evil.example.net"})
    with pytest.raises(Refused, match="no password"):
        password_of("work", moved, moved.imap or "")
    with pytest.raises(Refused):
        password_of("work", its, its.smtp or "")


async def test_of_a_large_folder_only_the_latest_are_fetched_and_that_is_said(
    dovecot_box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("takeback.tools.email.imap.store.MOST", 3)
    monkeypatch.setattr("takeback.tools.email.imap.store.FEWEST", 3)
    monkeypatch.setattr(searching, "WINDOW", 2)
    store = dovecot_box.store(tmp_path)
    listing = await store.search("INBOX", Wanted())
    assert len(listing.found) == 3
    assert "latest" in listing.note or "last" in listing.note
    all_of_them = await store.search("INBOX", Wanted(sender="anna", subject="grüße 2", flags=("seen",)))
    assert len(all_of_them.found) == 1
    assert all_of_them.searched
    with pytest.raises(Refused, match="no folder"):
        await store.search("Nowhere", Wanted())
    assert (await store.search("INBOX", Wanted(query='"\r\nA1 DELETE INBOX'))).found == ()
    await store.close()


@pytest.mark.parametrize("folder", ["INBOX", "Größe/2024", 'a "b" * %', "100%/a:b", ".hidden", "x\ty"])
def test_a_key_leads_back_to_its_spot(folder: str) -> None:
    from takeback.tools.email.maildir.names import is_key

    spot = Spot(folder, 4_294_967_295, 7)
    assert spot_of(key_of(spot)) == spot
    assert is_key(key_of(spot))


def test_a_key_that_nobody_gave_leads_nowhere() -> None:
    assert [spot_of(key) for key in ("1.2", "x.2.INBOX", "1.0.INBOX", "1.2.a%2fb", "takeback.0a")] == [None] * 5
    assert numbers("4,7:9,2") == [4, 7, 8, 9, 2]
    with pytest.raises(ValueError, match="int"):
        numbers("1:*")


@pytest.mark.parametrize(
    "wrong",
    [
        {"imap": "imaps://me:secret@mail.example.org", "username": "me"},
        {"imap": "smtp://mail.example.org", "username": "me"},
        {"imap": "imaps://mail.example.org"},
        {"imap": "imaps://mail.example.org", "username": "me", "path": "/tmp/x"},
        {"imap": "imaps://mail.example.org:99999", "username": "me"},
    ],
)
def test_settings_of_a_server_that_cannot_be_meant_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as refused:
        MailboxSettings.model_validate(wrong)
    assert "secret" not in str(refused.value.errors()[0]["msg"])


def test_a_provider_that_keeps_copies_itself_gets_no_second_one() -> None:
    def its(smtp: str, **more: object) -> MailboxSettings:
        base = {"imap": "imaps://imap.example.org", "username": "me", "address": "me@example.org"}
        return MailboxSettings.model_validate({**base, "smtp": smtp, **more})

    assert not its("smtps://smtp.gmail.com").keeps_copies
    assert not its("smtp://smtp.office365.com").keeps_copies
    assert its("smtps://smtp.notgmail.com").keeps_copies
    assert its("smtps://smtp.gmail.com", sent_copy=True).keeps_copies
    assert not its("smtps://smtp.example.org", sent_copy=False).keeps_copies


def outgoing() -> Outgoing:
    return Outgoing(
        carrier="mail:work",
        content="blake3:x",
        size=len(LETTER),
        sender="me@example.org",
        recipients=("a@example.org",),
        subject="hi",
        reference="<x1@example.org>",
    )


async def test_what_was_sent_lies_in_sent_once_and_what_nobody_knows_is_settled_by_looking_there(
    box: Box, tmp_path: Path
) -> None:
    from aiosmtpd.smtp import SMTP
    from tests.tools.email.test_smtp import Handler

    handler = Handler(DATA="hang up")
    loop = asyncio.get_running_loop()
    smtp = await loop.create_server(lambda: SMTP(handler, loop=loop), "127.0.0.1", 0)
    its = box.settings(smtp=f"smtp://127.0.0.1:{smtp.sockets[0].getsockname()[1]}").model_copy(update={"username": "u"})
    its = its.model_copy(update={"username": box.user})
    system = MailSystem({"work": lambda: open_store(its, tmp_path, False, name="work")}, KitObjects())
    carrier = SmtpCarrier("work", its.model_copy(update={"username": ""}), system, environment={}, seconds=5)
    try:
        with pytest.raises(Exception) as lost:
            await carrier.deliver(outgoing(), LETTER)
        assert isinstance(lost.value, Exception)
        assert await carrier.happened(outgoing()) is None, "no copy says nothing"
        # the provider had put one there by itself, or the person did
        box.put(9, "Sent", "\\Seen", LETTER)
        assert await carrier.happened(outgoing()) is True
        handler.say.clear()
        told = await carrier.deliver(outgoing(), LETTER)
        assert "a copy lies in Sent" in told.detail
        assert sum(each[3] == LETTER for each in box.tree().elements()) == 1
        box.destroy("Sent", "<x1@example.org>")
        for _ in range(2):
            await carrier.deliver(outgoing(), LETTER)
        assert sum(each[3] == LETTER for each in box.tree().elements()) == 1
    finally:
        await system.close()
        smtp.close()


async def test_a_message_of_somebody_else_is_never_destroyed(dovecot_box: Box, tmp_path: Path) -> None:
    store: ImapStore = dovecot_box.store(tmp_path)
    key = (await keys_of(store))[message_id(1)]
    [now] = await store.look([key])
    before = dovecot_box.tree()
    with pytest.raises(TargetError, match="not put there by takeback"):
        await store.change([Change(key, now, None)])
    # a draft that the person replaced under the same Message-ID is theirs
    fresh, place = store.fresh(LETTER, "", "Drafts", ["draft"], "seed")
    assert isinstance(await store.change([Change(fresh, None, place, LETTER)]), Made)
    dovecot_box.destroy("Drafts", "<x1@example.org>")
    dovecot_box.put(1, "Drafts", "\\Draft", LETTER.replace(b"Hello", b"HELLO"))
    assert await store.look([fresh]) == [None]
    dovecot_box.destroy("Drafts", "<x1@example.org>")
    assert dovecot_box.tree() == before
    # and one that differs only behind what is measured is seen before it would be taken out
    letter = LETTER + b"x" * 100_000 + b"\r\n"
    key, place = store.fresh(letter, "", "Drafts", ["draft"], "long")
    assert isinstance(await store.change([Change(key, None, place, letter)]), Made)
    dovecot_box.destroy("Drafts", "<x1@example.org>")
    date = datetime.fromtimestamp(place.date_ns // 1_000_000_000, UTC).strftime('"%d-%b-%Y %H:%M:%S +0000"')
    dovecot_box.client.append("Drafts", "(\\Draft)", date, letter[:-3] + b"y\r\n")
    theirs = dovecot_box.tree()
    assert isinstance(await store.change([Change(key, place, None)]), Moved)
    assert dovecot_box.tree() == theirs
    await store.close()
