"""Fixtures: a workspace on each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.tools.files_system.world import World


@pytest.fixture(params=["native", "portable"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, request.param == "portable")
    await made.open()
    yield made
    await made.system.close()


@pytest.fixture
def new_world(tmp_path: Path) -> Callable[[bool], World]:
    return lambda portable: World(tmp_path, portable)
