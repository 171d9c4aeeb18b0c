"""How a server process comes to its end: asked by a signal, within five seconds, forced if something hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Coroutine, Generator
from types import FrameType
from typing import Any, Final

SETTLE_SECONDS: Final = 3.0
"""What calls in flight get to conclude."""
CLOSE_SECONDS: Final = 0.9
KILL_SECONDS: Final = 4.8
"""After so long the process ends, whatever still holds it. The journal is made for that."""
_LET_GO_SECONDS: Final = 0.2


async def first(task: asyncio.Future[Any], *events: asyncio.Event) -> bool:
    """Wait for the task or one of the events; whether the task was first (or at the same time)."""
    waiters = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait({task, *waiters}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
    return task.done()


class Beside:
    """Work in the background that nothing waits for: neither the start nor the end."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.create_task(work)

    async def end(self) -> bool:
        """Stop it; whether it let go at once."""
        self._task.cancel()
        done, _ = await asyncio.wait({self._task}, timeout=_LET_GO_SECONDS)
        return bool(done)


@contextlib.contextmanager
def on_signals(stop: asyncio.Event) -> Generator[None]:
    """SIGTERM and SIGINT ask for an orderly end; a second one is not waited for."""
    loop = asyncio.get_running_loop()
    asked = False

    def ask() -> None:
        nonlocal asked
        if asked:
            os._exit(130)
        asked = True
        stop.set()

    def in_handler(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(ask)

    names = [
        number for name in ("SIGTERM", "SIGINT", "SIGBREAK") if (number := getattr(signal, name, None)) is not None
    ]
    previous = {number: signal.getsignal(number) for number in names}
    for number in names:
        try:
            loop.add_signal_handler(number, ask)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows: no handlers in the loop
            signal.signal(number, in_handler)
    try:
        yield
    finally:
        for number, handler in previous.items():
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


class ForcedEnd:
    """A call that hangs in a thread, or a disk that does, must not keep the process from ending."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def after(self, seconds: float) -> None:
        """End the process then, whatever it does."""
        self._timer = threading.Timer(seconds, os._exit, (1,))
        self._timer.daemon = True
        self._timer.start()

    def not_needed(self) -> None:
        """Everything has ended as it should."""
        if self._timer is not None:
            self._timer.cancel()
