"""Mail of which nobody knows whether it went out: settled by looking for its Message-ID, and never sent a second time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiosmtpd.smtp import SMTP
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.tools.email import maildirs

from takeback.journal.views import OpenItem
from takeback.server.engine.sender import Sender
from takeback.server.settings import ToolSettings
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.outbox.rows import Row


class HangsUp:
    """Takes the data, and never says so."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.taken.append(envelope.original_content)
        server.transport.abort()
        return "250 never heard"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[HangsUp, int]]:
    handler, loop = HangsUp(), asyncio.get_running_loop()
    running = await loop.create_server(lambda: SMTP(handler, loop=loop), "127.0.0.1", 0)
    yield handler, running.sockets[0].getsockname()[1]
    running.close()


class Post:
    """A bench with one mailbox, and a sender whose clocks stand."""

    def __init__(self, bench: Bench, box: Path) -> None:
        self.bench, self.core, self.box = bench, bench.engine.core, box
        self.wall = 1_800_000_000.0
        self.core.outbox.now = lambda: self.wall

    def sender(self) -> Sender:
        return Sender(self.core, steady=lambda: self.wall)

    async def sent(self) -> tuple[str, Row]:
        """Send a message, and let its time come."""
        run = await self.bench.start()
        given = {"to": ["me@example.org", "bob@example.net"], "subject": "Hi", "body": "Hello"}
        assert (await self.bench.call("send_email", run, **given)).status == "held"
        await self.bench.engine.desk.send_now(ALICE, (await self.row()).id)
        await self.sender().round()
        return run, await self.row()

    async def row(self) -> Row:
        [row] = await self.core.outbox.rows(ALICE.principal, everything=True)
        return row

    async def open_items(self) -> list[OpenItem]:
        return list(await self.core.journal.find(OpenItem, status="open"))


async def post_of(open_bench: OpenBench, box: Path, **its: Any) -> Post:
    settings = MailboxSettings(path=maildirs.make(box), address="me@example.org", **its)
    return Post(await open_bench(tools=ToolSettings(off=("files", "database")), mailboxes={"work": settings}), box)


async def test_a_lost_reply_is_settled_when_a_copy_lies_in_sent(
    open_bench: OpenBench, tmp_path: Path, server: tuple[HangsUp, int]
):
    handler, port = server
    post = await post_of(open_bench, tmp_path / "box", smtp=f"smtp://127.0.0.1:{port}")
    run, row = await post.sent()
    assert (row.status, len(handler.taken)) == ("UNKNOWN", 1)
    await post.sender().start()
    await post.sender().round()
    assert (await post.row()).status == "UNKNOWN"  # no copy there says nothing
    assert len(await post.open_items()) == 1
    maildirs.put(post.box, "1.other.host:2,S", maildirs.letter(1), folder=".Sent")
    await post.sender().start()
    assert (await post.row()).status == "UNKNOWN"
    maildirs.put(post.box, "2.server.host:2,S", handler.taken[0], folder=".Sent")  # the server's own copy
    await post.sender().start()
    assert (await post.row()).status == "SENT"
    assert await post.open_items() == []
    await post.sender().round()
    assert len(handler.taken) == 1
    back = await post.bench.back(run_id=run)
    assert "a correction" in back.steps[0].why


@pytest.mark.parametrize("reached", ["nobody", "somebody", "everybody"])
async def test_local_mail_that_was_cut_off_is_settled_by_what_lies_in_the_mailboxes(
    open_bench: OpenBench, tmp_path: Path, reached: str, monkeypatch: pytest.MonkeyPatch
):
    post = await post_of(open_bench, tmp_path / "box")
    carrier = post.core.outbox.carriers["mail:work"]
    real = carrier.deliver

    async def cut_off(message: Any, content: bytes) -> Any:
        if reached == "somebody":
            maildirs.put(post.box, "1.host", content, sub="new")
        if reached == "everybody":
            await real(message, content)
        raise ConnectionResetError("the process was stopped")

    monkeypatch.setattr(carrier, "deliver", cut_off)
    _, row = await post.sent()
    assert row.status == "UNKNOWN"
    await post.sender().start()
    assert (await post.row()).status == ("LATE" if reached == "nobody" else "SENT")
    assert await post.open_items() == []
