"""How much is raced: a little always, more under `make races`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.server.engine.bench import ALICE, Bench, settings_for

from takeback.server.engine.engine import Engine
from takeback.server.settings import ToolSettings

SCALE = float(os.environ.get("TAKEBACK_RACES", "1"))
"""1 is the everyday measure; `make races` sets 20."""


def times(everyday: int) -> int:
    return max(1, int(everyday * SCALE))


async def open_files(folder: Path, **more: Any) -> Bench:
    engine = await Engine.open(settings_for(folder, tools=ToolSettings(), **more))
    engine.core.retry_pauses = ()
    return Bench(engine, folder / "work")


__all__ = ["ALICE", "open_files", "times"]
