"""Engines to test on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import Bench, OpenBench, settings_for

from takeback.server.engine.engine import Engine


@pytest.fixture
async def open_bench(tmp_path: Path) -> AsyncGenerator[OpenBench, None]:
    opened: list[Engine] = []

    async def open_one(*, recover: bool = True, **more: Any) -> Bench:
        engine = await Engine.open(settings_for(tmp_path, **more), recover=recover)
        engine.core.retry_pauses = (0.0, 0.0)
        opened.append(engine)
        return Bench(engine, tmp_path / "work")

    yield open_one
    for engine in opened:
        await engine.close()


@pytest.fixture
async def bench(open_bench: OpenBench) -> Bench:
    return await open_bench()
