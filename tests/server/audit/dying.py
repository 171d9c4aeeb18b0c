"""Streams the journal of a data directory and is killed at a step: `python dying.py SETTINGS STEP TIMES`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from takeback.server.audit.auditor import Auditor
from takeback.server.engine.engine import Engine
from takeback.server.settings import Settings


async def main(settings: str, step: str, times: int) -> None:
    engine = await Engine.open(Settings.model_validate_json(Path(settings).read_text()), recover=False)
    auditor = Auditor(engine.core)
    auditor.sinks[0].most = 5
    left = times

    def die(at: str) -> None:
        nonlocal left
        left -= at == step
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    auditor.on_step = die
    await auditor.drain(auditor.sinks[0])


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
