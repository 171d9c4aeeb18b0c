"""The person at this machine, who decides about mail as one does with `takeback outbox`: at the engine's desk.

It is carried out by the sender that `takeback outbox run` is, too, beside the server. The demo holds the sender's lock, so
there is no other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from takeback.server.cli.session import caller
from takeback.server.engine.desk import Desk
from takeback.server.engine.engine import Engine
from takeback.server.engine.sender import Sender
from takeback.server.settings import Settings


async def send_now(settings: Settings, message: str) -> None:
    """Let a message go out at once, as `takeback outbox send-now` does."""
    async with _sending(settings) as desk:
        await desk.send_now(caller(), message)


async def approve(settings: Settings, message: str) -> None:
    """Consent to a correction, as `takeback outbox approve` does."""
    async with _sending(settings) as desk:
        await desk.approve(caller(), message)


async def read(settings: Settings, message: str) -> bytes:
    """A message as it would go out, as `takeback outbox show` does."""
    async with _engine(settings) as engine:
        return await engine.desk.content(await engine.desk.row(caller(), message)) or b""


@asynccontextmanager
async def _sending(settings: Settings) -> AsyncGenerator[Desk]:
    async with _engine(settings) as engine:
        yield engine.desk
        sender = Sender(engine.core)
        await sender.start()
        await sender.round()


@asynccontextmanager
async def _engine(settings: Settings) -> AsyncGenerator[Engine]:
    engine = await Engine.open(settings, recover=False)
    engine.core.persons_door = True
    try:
        yield engine
    finally:
        await engine.close()
