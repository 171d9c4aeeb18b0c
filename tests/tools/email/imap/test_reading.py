"""Reading on a server is what it is on a Maildir: HTML as text, attachments handed out, nothing fetched, nothing marked."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.tools.email import maildirs
from tests.tools.email.imap.boxes import Box
from tests.tools.email.imap.proxy import Proxy

from takeback.tools.conformance import kit_services
from takeback.tools.conformance.world import call_context
from takeback.tools.email.family import EmailFamily
from takeback.tools.email.imap.changing import LABELS
from takeback.tools.email.imap.store import ImapStore
from takeback.tools.email.port import Change, Made
from takeback.tools.email.read_tools import ReadEmailTool
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.registry import Services

LETTER = """From: Eve <eve@example.net>
To: me@example.org
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Message-ID: <html@example.net>
Date: Sun, 05 Nov 2023 10:00:00 +0200
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html; charset=utf-8

<html><head><link rel=stylesheet href="{url}/s.css"><style>p {{background: url({url}/b.png)}}</style>
<script src="{url}/x.js">alert(1)</script></head><body><p>Dear <b>Anna</b>,</p><img src="{url}/pixel.png">
<iframe src="{url}/f"></iframe><p>see you &amp; bye</p></body></html>
--b
Content-Type: message/external-body; access-type=URL; URL="{url}/big.bin"

Content-Type: application/octet-stream

--b
Content-Type: text/plain; name="a.txt"
Content-Disposition: attachment; filename="a.txt"

one
two
--b--
"""


def tools_of(family: EmailFamily) -> dict[str, Any]:
    return {tool.name: tool for tool in family.tools}


async def told(family: EmailFamily, services: Services, mailbox: str) -> tuple[dict[str, Any], bytes]:
    """What the tools answer of the letter, without what each store calls it; and its last attachment."""
    tools, context = tools_of(family), call_context(services.objects)

    async def ask(name: str, **given: Any) -> Any:
        return await tools[name].run(tools[name].arguments.model_validate(given), context)

    await ask("list_mailboxes")
    [found] = (await ask("search_email", mailbox=mailbox, **{"from": "eve"})).messages
    read = await ask("read_email", mailbox=mailbox, message_id=found.message_id)
    reader = tools["read_email"]
    assert isinstance(reader, ReadEmailTool)
    _, data = await reader.attachment(mailbox, found.message_id, len(read.attachments) - 1)
    own = {"message_id", "mailbox", "digest", "note"}
    answer = read.model_dump(exclude=own) | {"flags": found.flags}
    for each in answer["attachments"]:
        each.pop("uri")
    return answer, data


async def test_html_is_text_and_nothing_is_fetched_or_marked_as_on_a_maildir(box: Box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        letter = LETTER.format(url=url).replace("\n", "\r\n").encode()
        box.put(1, "INBOX", "", letter)
        local = maildirs.make(tmp_path / "box")
        maildirs.put(local, "1.host", letter, sub="new")
        before, here = box.tree(), maildirs.tree(local)
        services = dataclasses.replace(
            kit_services(tmp_path),
            mailboxes={"work": box.settings(), "home": MailboxSettings(path=local, address="me@example.org")},
        )
        family = await EmailFamily.open(services)
        try:
            answer, attached = await told(family, services, "work")
            assert (answer, attached) == await told(family, services, "home")
        finally:
            await family.close()
            services.outbox.close()  # type: ignore[attr-defined] -- the kit's own
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert box.tree() == before
    assert maildirs.tree(local) == here
    assert answer["from_html"]
    assert "Dear Anna," in answer["text"]
    assert "see you & bye" in answer["text"]
    assert not any(word in answer["text"] for word in ("http", "alert", "background", "<"))
    assert answer["flags"] == []
    assert attached.split() == [b"one", b"two"]


async def test_a_move_on_gmail_says_what_becomes_of_labels(dovecot_box: Box, tmp_path: Path) -> None:
    proxy = Proxy(dovecot_box.server.port, present=b"X-GM-EXT-1")
    dovecot_box.port = proxy.port
    store: ImapStore = dovecot_box.store(tmp_path)
    key = (await store.listed("INBOX"))[0].key
    [now] = await store.look([key])
    assert now is not None
    flagged = store.marked(now, add=["answered", "draft"])
    for there, goal, said in ((now, flagged, ()), (flagged, store.moved(flagged, "Trash"), (LABELS,))):
        made = await store.change([Change(key, there, goal)])
        assert isinstance(made, Made)
        assert made.warnings == said
    await store.close()
    proxy.close()
