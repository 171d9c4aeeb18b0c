"""Work in a thread that hears of its caller's going."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")


async def in_thread(work: Callable[[], T], stop: Callable[[], None]) -> T:
    """Do the work in a thread. A caller who is cancelled has it stopped, and waits until it has ended all the same.

    :param stop: makes the work end soon; called from the caller's thread.
    """
    ended = Event()

    def to_the_end() -> T:
        try:
            return work()
        finally:
            ended.set()

    try:
        return await anyio.to_thread.run_sync(to_the_end, abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        stop()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(ended.wait)
        raise
