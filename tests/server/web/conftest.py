"""A world and its page for each file; a browser where one is asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from tests.server.web.world import Page, World, page_of, world_in

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    async with world_in(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(world: World) -> AsyncGenerator[Page]:
    async with page_of(world.settings, world.site.parent) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncGenerator[Any]:
    """A real one, without a window. Absent, these tests are skipped; with `CI` they fail instead."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium (.ci/run installs Debian's)")
        pytest.skip("there is no Chromium on this machine (on Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    async with playwright.async_playwright() as driver:
        # as root there is no sandbox to be had; what is opened is this page alone
        alone = ["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else []
        opened = await driver.chromium.launch(executable_path=found, args=[*alone, "--disable-dev-shm-usage"])
        yield opened
        await opened.close()
