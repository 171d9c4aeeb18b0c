"""`takeback serve`: one process, one client, on the standard streams, from the first frame to an orderly end.

It ends at the end of the input, on SIGTERM and on SIGINT, within five seconds: what is being done is given time to conclude,
the rest is cancelled (and its truth journaled by the engine), then the journal is closed. The process belongs to this function.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Generator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from takeback.server.mcp.discretion import log_to_stderr
from takeback.server.settings import Settings

if TYPE_CHECKING:
    from takeback.server.mcp.transport import StdioTransport

SETTLE_SECONDS: Final = 3.0
"""What calls in flight get to conclude."""
UNWIND_SECONDS: Final = 0.4
CLOSE_SECONDS: Final = 0.9
KILL_SECONDS: Final = 4.8
"""After so long the process ends, whatever still holds it. The journal is made for that."""

_log = logging.getLogger("takeback")


async def serve_stdio(settings: Settings) -> int:
    """Serve until the client or the system ends it; the process's exit code.

    :raises Exception: what `Engine.open` raises, before anything is served.
    """
    log_to_stderr()
    # Heavy, and needed from the first frame on; a caller that only wants the settings checked does not pay for it.
    from takeback.server.engine.engine import Engine
    from takeback.server.mcp.app import build_server
    from takeback.server.mcp.transport import StdioTransport

    limits = settings.limits
    # An answer has what was read twice, in structure and in words, and JSON escapes some of it.
    answer_bytes = max(limits.frame_bytes, 3 * limits.read_bytes)
    stop, forced = asyncio.Event(), _ForcedEnd()
    with _on_signals(stop), StdioTransport(limits.frame_bytes, answer_bytes) as transport:
        opening = asyncio.ensure_future(Engine.open(settings))
        if not await _first(opening, stop):
            forced.after(KILL_SECONDS)
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await opening).close()
            forced.not_needed()
            return 0
        engine = opening.result()
        orderly = False
        try:
            transport.start()
            serving = asyncio.create_task(build_server(engine, settings).serve(transport.incoming, transport.outgoing))
            await _first(serving, stop, transport.ended)
            forced.after(KILL_SECONDS)
            orderly = await _wind_up(transport, serving)
        finally:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await engine.close()
            except TimeoutError:
                orderly = False
                _log.warning("The journal is left as it is; the next start settles what was in flight.")
    if orderly:
        forced.not_needed()
    return 0


async def _wind_up(transport: StdioTransport, serving: asyncio.Task[None]) -> bool:
    """Let what was asked be answered, then end the server; whether nothing had to be cut off."""
    deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
    transport.stop_reading()
    settled = await transport.settled(SETTLE_SECONDS)
    if not settled:
        _log.warning("Calls were still at work after %g s and are cancelled.", SETTLE_SECONDS)
    transport.incoming.end()
    ended = await _unwind(serving)
    await transport.close(within=max(0.1, deadline - asyncio.get_running_loop().time()))
    return settled and ended


async def _first(task: asyncio.Future[Any], *events: asyncio.Event) -> bool:
    """Wait for the task or one of the events; whether the task was first (or at the same time)."""
    waiters = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait({task, *waiters}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
    return task.done()


async def _unwind(serving: asyncio.Task[None]) -> bool:
    """Let the server end by itself now that its input has; then make it. Whether it did by itself."""
    done, _ = await asyncio.wait({serving}, timeout=UNWIND_SECONDS)
    ended = bool(done)
    if not ended:
        serving.cancel()
        done, _ = await asyncio.wait({serving}, timeout=UNWIND_SECONDS / 2)
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("The connection ended with %s.", type(error).__name__, exc_info=error)
    return ended


@contextlib.contextmanager
def _on_signals(stop: asyncio.Event) -> Generator[None]:
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


class _ForcedEnd:
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
