"""Death at the n-th call of an interposed journal or system.

The process "dies" by an exception that no code of ours may catch; from then on the dead engine can write nothing any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from takeback.server.engine.core import Core
from takeback.tools.memory_system import MemorySystem
from takeback.tools.system import TargetSystem


class Died(BaseException):
    """The process is gone."""


class Reaper:
    """Counts calls and kills at one of them."""

    def __init__(self, at: int) -> None:
        self.at, self.count, self.dead = at, 0, False

    async def around(self, call: Callable[[], Awaitable[Any]]) -> Any:
        self.check()  # before it takes effect
        result = await call()
        self.check()  # after it took effect
        return result

    def check(self) -> None:
        self.count += 1
        if self.dead or self.count == self.at:
            self.dead = True
            raise Died


def interpose(core: Core, reaper: Reaper) -> None:
    """Let every append and every swap of this engine pass the reaper."""
    append = core.journal.append

    async def dying_append(*args: Any, **more: Any) -> Any:
        return await reaper.around(lambda: append(*args, **more))

    core.journal.append = dying_append  # type: ignore[method-assign] -- a fault, not a mock: the real journal is behind it
    for system in core.systems.values():
        _interpose_swap(system, reaper)


def _interpose_swap(system: TargetSystem, reaper: Reaper) -> None:
    swap, swap_each = system.swap, system.swap_each

    async def dying_swap(*args: Any, **more: Any) -> Any:
        return await reaper.around(lambda: swap(*args, **more))

    async def dying_swap_each(*args: Any, **more: Any) -> Any:
        return await reaper.around(lambda: swap_each(*args, **more))

    system.swap = dying_swap  # type: ignore[method-assign] -- as above
    system.swap_each = dying_swap_each  # type: ignore[method-assign] -- as above


def interpose_board(memory: MemorySystem, reaper: Reaper) -> None:
    """Let every act on the board outside pass the reaper."""

    def dying_step(name: str) -> None:
        if name in ("post", "posted", "delete", "deleted"):
            reaper.check()

    memory.on_step = dying_step
