"""What an earlier process left is settled at the start of this one: waited for briefly, then beside the first calls.

A system that is away must not keep a server from answering. Until it is back, the runs that are concerned stay sealed and what
is in doubt stays so, exactly as while another process on the same data directory is at it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from takeback.server.engine.faults import fault

log = logging.getLogger(__name__)

RECOVERY_SECONDS: Final = 2.0
"""A server answers its client after so long, whatever there is to settle."""
_LET_GO_SECONDS: Final = 0.7


class Recovery:
    """One recovery at work."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.create_task(work)

    async def wait(self, seconds: float) -> None:
        """Wait until it is over, or for so long; from then on it goes on by itself.

        :raises Exception: what stopped it within that time.
        """
        await asyncio.wait({self._task}, timeout=seconds)
        if self._task.done():
            self._task.result()
            return
        log.warning("Settling what an earlier process left takes longer; it goes on beside the first calls.")
        self._task.add_done_callback(_ended)

    async def stop(self) -> None:
        """What is not finished stays begun, and the next start goes on with it."""
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_LET_GO_SECONDS)


def _ended(recovery: asyncio.Task[None]) -> None:
    """Say how it ended: nobody waits for it."""
    if not recovery.cancelled() and (error := recovery.exception()) is not None:
        log.error("What an earlier process left could not be settled: %s", fault(error))
