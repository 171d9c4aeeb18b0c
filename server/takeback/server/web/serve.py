"""The page's process: from the socket to an orderly end.

Two kinds: `takeback web` in a terminal stays until it is interrupted; one that was opened on demand ends when nobody needs it.
There is one per data directory. It ends on SIGTERM and SIGINT within five seconds, as the servers do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Final, Literal

from takeback.journal.events import Caller
from takeback.server.mcp.discretion import log_to_stderr
from takeback.server.mcp.ending import CLOSE_SECONDS, KILL_SECONDS, SETTLE_SECONDS, ForcedEnd, first, on_signals
from takeback.server.mcp.http_wire import Listener, listening_socket
from takeback.server.principal import local_principal
from takeback.server.settings import Settings, SettingsError
from takeback.server.web import address
from takeback.server.web.address import Address
from takeback.server.web.bench import Bench
from takeback.server.web.entering import visitors_of
from takeback.server.web.gate import PageGate
from takeback.server.web.idle import Idle
from takeback.server.web.site import Site

CONNECTIONS: Final = 64
REQUEST_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 10.0
"""How often a page that was opened on demand looks whether it is needed."""
_END_SECONDS: Final = 0.8

Ended = Literal["stopped", "idle", "another"]

_log = logging.getLogger("takeback")


async def serve_page(
    settings: Settings, ready: Callable[[Address], None], *, idle: Idle | None = None, server: bool = False
) -> Ended:
    """Serve the page until it is stopped or, with `idle`, not needed any more; `another`: there is one already.

    :param ready: called once, when it can be reached.
    :param server: the other end of standard input is the server that has opened the page.
    :raises SettingsError: the port that is configured is taken.
    :raises Exception: as `Engine.open`.
    """
    log_to_stderr()
    stop, forced = asyncio.Event(), ForcedEnd()
    with on_signals(stop), address.alone(settings.data) as mine:
        if not mine:
            return "another"
        before = address.before(settings.data)
        with contextlib.closing(_listening(settings.web.port, before.port)) as listening:
            where = Address(int(listening.getsockname()[1]), before.base)
            address.tell(settings.data, where)
            return await _serve(settings, listening, where, ready, idle, stop, forced, server)


async def _serve(
    settings: Settings,
    listening: socket.socket,
    where: Address,
    ready: Callable[[Address], None],
    idle: Idle | None,
    stop: asyncio.Event,
    forced: ForcedEnd,
    server: bool,
) -> Ended:
    bench, visitors = Bench(settings), visitors_of(settings)
    caller = Caller(principal=local_principal(), client="takeback page", client_version=version("takeback"))
    site = Site(bench, visitors, caller, where.base)
    gate = PageGate(
        site, visitors, where, seconds=REQUEST_SECONDS, seen=idle.seen if idle is not None else lambda: None
    )
    async with bench.at_work():  # what cannot be opened is told before anybody is sent here
        pass
    listener = Listener.of(gate, seconds=REQUEST_SECONDS, connections=CONNECTIONS)
    serving = asyncio.create_task(listener.serve(sockets=[listening]))
    gone = asyncio.Event()
    if server:
        _watch_input(gone)
    watching = asyncio.create_task(_watch(bench, caller, settings, idle, gone)) if idle is not None else None
    ready(where)
    over = asyncio.Event()
    if watching is not None:
        watching.add_done_callback(lambda _: over.set())
    await first(serving, stop, over)
    forced.after(KILL_SECONDS)
    listener.stop_listening()
    orderly = await bench.settled(SETTLE_SECONDS)
    if watching is not None:
        watching.cancel()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await bench.close()
    except TimeoutError:
        orderly = False
        _log.warning("The journal is left as it is; the next start settles what was in flight.")
    listener.should_exit = True
    await asyncio.wait({serving}, timeout=_END_SECONDS)
    if orderly:
        forced.not_needed()
    return "stopped" if stop.is_set() else "idle"


async def _watch(bench: Bench, caller: Caller, settings: Settings, idle: Idle, gone: asyncio.Event) -> None:
    """Ends when the page is not needed any more."""
    while settings.data.exists():
        try:
            async with bench.at_work() as engine:
                waiting = bool(await engine.approvals(caller))
        except Exception as error:  # it is looked at again
            _log.warning("The page could not look whether it is needed: %s", type(error).__name__)
            waiting = False
        if idle.over(waiting=waiting):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(LOOK_SECONDS, settings.web.idle_seconds)):
                await gone.wait()
                idle.server_gone()
                gone.clear()


def _watch_input(gone: asyncio.Event) -> None:
    """Set the event when standard input ends: then the server that holds its other end is gone."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(OSError, ValueError):
            while sys.stdin.buffer.read(4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop has ended before
            loop.call_soon_threadsafe(gone.set)

    threading.Thread(target=read, daemon=True).start()


def _listening(wanted: int, before: int) -> socket.socket:
    """A socket on the wanted port; else on the one that the page had before; else on a free one."""
    if wanted:
        try:
            return listening_socket(address.HOST, wanted)
        except OSError as error:
            raise SettingsError(
                f"The page cannot listen on port {wanted}: {error.strerror or error}.",
                "Choose another one with --port or [web] port (0 takes a free one).",
            ) from error
    try:
        return listening_socket(address.HOST, before)
    except OSError:  # somebody else has it by now
        return listening_socket(address.HOST, 0)
