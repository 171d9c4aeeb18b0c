"""The engine behind the page: one, with all folders that servers of this data directory were started with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from takeback.server.engine.detached import keep_sending
from takeback.server.engine.engine import Engine
from takeback.server.engine.recovery import RECOVERY_SECONDS
from takeback.server.mcp.ending import Beside
from takeback.server.roots import remembered, together
from takeback.server.settings import Settings, WorkspaceSettings
from takeback.server.watching import watched
from takeback.server.web.entering import entry_on_demand


class Bench:
    """Opens the engine when it is first needed, and another one when a server has come with a folder that this one lacks."""

    def __init__(self, settings: Settings) -> None:
        self._given = settings
        self._engine: Engine | None = None
        self._care: Beside | None = None
        self._telling = AsyncExitStack()
        self._roots: Sequence[Path] = ()
        self._at_work = 0
        self._opening = asyncio.Lock()
        self._quiet = asyncio.Event()
        self._quiet.set()

    @asynccontextmanager
    async def at_work(self) -> AsyncGenerator[Engine]:
        """The engine, which stays open while inside.

        :raises Exception: as `Engine.open`.
        """
        async with self._opening:
            engine = await self._fitting()
            self._at_work += 1
            self._quiet.clear()
        try:
            yield engine
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._quiet.set()

    async def _fitting(self) -> Engine:
        data = self._given.data
        roots = together(data, self._given.workspace.roots, remembered(data))
        if self._engine is not None and roots != self._roots and not self._at_work:
            await self.close()
        if self._engine is None:
            settings = self._given.model_copy(update={"workspace": WorkspaceSettings(roots=roots)})
            self._engine = await Engine.open(settings, recover_within=RECOVERY_SECONDS)
            self._engine.core.persons_door = True
            self._roots = roots
            self._care = Beside(self._engine.tend())  # as every server that stays up does
            await keep_sending(self._engine, settings)
            entry = entry_on_demand(settings)
            # what happens on the page is told to those who are not at it
            await self._telling.enter_async_context(watched(self._engine.core, settings, entry=entry))
        return self._engine

    async def settled(self, within: float) -> bool:
        """Wait until nothing is asked of the engine; false if that takes longer."""
        try:
            async with asyncio.timeout(within):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Let go of the engine."""
        care, self._care = self._care, None
        engine, self._engine = self._engine, None
        if care is not None:
            await care.end()
        if engine is not None:
            await self._telling.aclose()
            await engine.close()
