"""One sender's life: alone, until nothing is held or it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Literal

from takeback.server.engine.detached import alone
from takeback.server.engine.engine import Engine
from takeback.server.engine.recovery import RECOVERY_SECONDS
from takeback.server.engine.sender import Sender
from takeback.server.settings import Settings
from takeback.server.watching import watched
from takeback.tools.outbox.store import OutboxStore

if TYPE_CHECKING:
    from takeback.server.notices.desktop import Entry

Ended = Literal["nothing_held", "stopped", "another"]


async def send_all(settings: Settings, entry: Entry | None = None) -> Ended:
    """Send until nothing is held any more; `another` at once if another sender is at work.

    SIGTERM and SIGINT end it after the message that is being sent.

    :param entry: lets the person of this machine in at the local page.
    :raises Exception: as `Engine.open` and `Sender.run`.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows: no handlers in the loop
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store = OutboxStore(settings.data / "outbox" / "outbox.db")
    try:
        while True:
            async with alone(settings.data) as mine:
                if not mine:
                    return "another"
                engine = await Engine.open(settings, recover_within=RECOVERY_SECONDS)
                try:
                    async with watched(engine.core, settings, entry=entry):
                        await Sender(engine.core, stop=stop).run()
                finally:
                    await engine.close()
            # somebody may have put a message in after the last look, and found the lock taken
            if stop.is_set():
                return "stopped"
            if not await store.read(lambda rows: rows.find(("HELD", "SENDING"))):
                return "nothing_held"
    finally:
        store.close()
