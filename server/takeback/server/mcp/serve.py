"""`takeback serve`: one process, one client, on the standard streams, from the first frame to an orderly end.

It ends at the end of the input, on SIGTERM and on SIGINT, within `END_SECONDS`: what is being done is given time to conclude, the rest
is cancelled (and its truth journaled by the engine), then the journal is closed. The process belongs to this function.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

from takeback.server.settings import Settings

END_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 3.0
"""What calls in flight get to conclude."""
UNWIND_SECONDS: Final = 0.4
CLOSE_SECONDS: Final = 0.9
KILL_SECONDS: Final = 4.8
"""After so long the process ends, whatever still holds it. The journal is made for that."""

_log = logging.getLogger("takeback")


class _Discreet(logging.Formatter):
    """Log lines for standard error. Of exceptions only the type and the places: their text may hold data."""

    def formatException(  # noqa: N802 -- the name is logging's
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        kind, _, trace = ei
        return "".join(traceback.format_tb(trace)) + (kind.__name__ if kind is not None else "")


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Let warnings and errors go to standard error, once."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Discreet("takeback: %(levelname)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(level)


async def serve_stdio(settings: Settings) -> int:
    """Serve until the client or the system ends it; the process's exit code.

    :raises Exception: what `Engine.open` raises, before anything is served.
    """
    log_to_stderr()
    # Heavy, and needed from the first frame on; a caller that only wants the settings checked does not pay for it.
    from takeback.server.engine.engine import Engine
    from takeback.server.mcp.app import build_server
    from takeback.server.mcp.transport import StdioTransport

    stop = asyncio.Event()
    with _on_signals(stop), StdioTransport(settings.limits.frame_bytes) as transport:
        opening = asyncio.ensure_future(Engine.open(settings))
        if not await _first(opening, stop):
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await opening).close()
            return 0
        engine = opening.result()
        try:
            transport.start()
            server = build_server(engine, settings)
            serving = asyncio.create_task(server.serve(transport.incoming, transport.outgoing))
            try:
                await _first(serving, stop, transport.ended)
                _end_by_force_after(KILL_SECONDS)
                transport.stop_reading()
                if not await transport.settled(SETTLE_SECONDS):
                    _log.warning("Calls were still at work after %g s and are cancelled.", SETTLE_SECONDS)
            finally:
                transport.incoming.end()
                await _unwind(serving)
            await transport.close(within=0.1)
        finally:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await engine.close()
            except TimeoutError:
                _log.warning("The journal is left as it is; the next start settles what was in flight.")
    return 0


async def _first(task: asyncio.Future[Any], *events: asyncio.Event) -> bool:
    """Wait for the task or one of the events; whether the task was first (or at the same time)."""
    waiters = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait({task, *waiters}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
    return task.done()


async def _unwind(serving: asyncio.Task[None]) -> None:
    """Let the server end by itself now that its input has; then make it."""
    done, _ = await asyncio.wait({serving}, timeout=UNWIND_SECONDS)
    if not done:
        serving.cancel()
        done, _ = await asyncio.wait({serving}, timeout=UNWIND_SECONDS / 2)
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("The connection ended with %s.", type(error).__name__, exc_info=error)


@contextlib.contextmanager
def _on_signals(stop: asyncio.Event) -> Iterator[None]:
    """SIGTERM and SIGINT ask for an orderly end; a second one is not waited for."""
    loop = asyncio.get_running_loop()
    asked = False

    def ask() -> None:
        nonlocal asked
        if asked:
            os._exit(130)
        asked = True
        stop.set()

    names = [number for name in ("SIGTERM", "SIGINT", "SIGBREAK") if (number := getattr(signal, name, None)) is not None]
    previous = {number: signal.getsignal(number) for number in names}
    for number in names:
        try:
            loop.add_signal_handler(number, ask)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows: no handlers in the loop
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(ask))
    try:
        yield
    finally:
        for number, handler in previous.items():
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _end_by_force_after(seconds: float) -> None:
    """A call that hangs in a thread, or a disk that does, must not keep the process from ending."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
