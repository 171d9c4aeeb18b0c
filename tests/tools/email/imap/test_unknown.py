"""Mail of which nobody knows whether it went out, on a server: settled by a copy in its Sent folder, and never sent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiosmtpd.smtp import SMTP, AuthResult
from tests.server.engine.bench import Bench, settings_for
from tests.server.engine.test_email_unknown import HangsUp, Post
from tests.tools.email.imap.boxes import Box

from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import LimitSettings, ToolSettings


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[HangsUp, int]]:
    """Takes any password, then the data, and never says so."""
    handler, loop = HangsUp(), asyncio.get_running_loop()

    def who(*given: Any) -> AuthResult:
        return AuthResult(success=True)

    def session() -> SMTP:
        return SMTP(handler, loop=loop, authenticator=who, auth_require_tls=False)

    running = await loop.create_server(session, "127.0.0.1", 0)
    yield handler, running.sockets[0].getsockname()[1]
    running.close()


async def test_a_lost_reply_is_settled_when_a_copy_lies_in_sent_on_the_server(
    dovecot_box: Box, tmp_path: Path, server: tuple[HangsUp, int]
) -> None:
    handler, port = server
    box = dovecot_box
    engine = await Engine.open(
        settings_for(
            tmp_path,
            tools=ToolSettings(off=("files", "database", "calendar")),
            triggers=TriggerSettings.off(),
            limits=LimitSettings(ballast_bytes=4096, step_seconds=20),
            mailboxes={"work": box.settings(smtp=f"smtp://127.0.0.1:{port}")},
        )
    )
    try:
        post = Post(Bench(engine, tmp_path / "work"), tmp_path)
        _, row = await post.sent()
        assert (row.status, len(handler.taken)) == ("UNKNOWN", 1)
        box.put(9, "Sent", "\\Seen")
        before = box.tree()
        await post.sender().start()
        await post.sender().round()
        assert (await post.row()).status == "UNKNOWN"  # another message there says nothing
        assert len(await post.open_items()) == 1
        assert box.tree() == before
        box.put(8, "Sent", "\\Seen", handler.taken[0])  # the provider's own copy
        with_copy = box.tree()
        await post.sender().start()
        await post.sender().round()
        assert (await post.row()).status == "SENT"
        assert await post.open_items() == []
        assert len(handler.taken) == 1
        assert box.tree() == with_copy, "and no second copy"
    finally:
        await engine.close()
