"""How much is raced: a little always, more under `make races`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.server.engine.bench import ALICE, Bench, settings_for

from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import ToolSettings

FULL = os.environ.get("TAKEBACK_RACES", "") == "full"
"""Whether it is `make races`."""


def measure(everyday: int, full: int) -> int:
    """How much: `full` under `make races`, else `everyday`."""
    return full if FULL else everyday


async def open_files(folder: Path, **more: Any) -> Bench:
    engine = await Engine.open(settings_for(folder, tools=ToolSettings(), triggers=TriggerSettings.off(), **more))
    engine.core.retry_pauses = ()
    return Bench(engine, folder / "work")


__all__ = ["ALICE", "measure", "open_files"]
