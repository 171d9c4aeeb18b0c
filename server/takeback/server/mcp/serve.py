"""`takeback serve`: one process, one client, on the standard streams, from the first frame to an orderly end.

It ends at the end of the input, on SIGTERM and on SIGINT, within five seconds: what is being done is given time to conclude,
the rest is cancelled (and its truth journaled by the engine), then the journal is closed. The process belongs to this function.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from typing import TYPE_CHECKING, Final

from takeback.server.mcp.discretion import log_to_stderr
from takeback.server.mcp.ending import (
    CLOSE_SECONDS,
    KILL_SECONDS,
    SETTLE_SECONDS,
    Beside,
    ForcedEnd,
    first,
    on_signals,
)
from takeback.server.settings import Settings
from takeback.server.watching import watched

if TYPE_CHECKING:
    from takeback.server.mcp.transport import StdioTransport

UNWIND_SECONDS: Final = 0.4

_log = logging.getLogger("takeback")


async def serve_stdio(settings: Settings) -> int:
    """Serve until the client or the system ends it; the process's exit code.

    :raises Exception: what `Engine.open` raises, before anything is served.
    """
    log_to_stderr()
    gc.disable()  # what a start makes stays: to look through it for garbage, again and again, is a tenth of the start
    # Heavy, and needed from the first frame on; a caller that only wants the settings checked does not pay for it.
    from takeback.server.engine.detached import keep_sending
    from takeback.server.engine.engine import Engine
    from takeback.server.engine.recovery import RECOVERY_SECONDS
    from takeback.server.mcp.app import build_server
    from takeback.server.mcp.transport import StdioTransport
    from takeback.server.web.entering import entry_on_demand
    from takeback.server.web.links import links_of

    limits = settings.limits
    # An answer has what was read twice, in structure and in words, and JSON escapes some of it.
    answer_bytes = max(limits.frame_bytes, 3 * limits.read_bytes)
    stop, forced = asyncio.Event(), ForcedEnd()
    with on_signals(stop), StdioTransport(limits.frame_bytes, answer_bytes) as transport:
        opening = asyncio.ensure_future(Engine.open(settings, recover_within=RECOVERY_SECONDS))
        if not await first(opening, stop):
            forced.after(KILL_SECONDS)
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await opening).close()
            forced.not_needed()
            return 0
        engine = opening.result()
        orderly, care = False, Beside(engine.tend())
        try:
            async with watched(engine.core, settings, entry=entry_on_demand(settings)):
                await keep_sending(engine, settings)
                transport.start()
                server = build_server(engine, settings, links=links_of(settings))
                serving = asyncio.create_task(server.serve(transport.incoming, transport.outgoing))
                gc.freeze()
                gc.set_threshold(10_000, 20, 10)  # a call leaves hardly any rings behind
                gc.enable()
                await first(serving, stop, transport.ended)
                forced.after(KILL_SECONDS)
                orderly = await _wind_up(transport, serving) & await care.end()
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
