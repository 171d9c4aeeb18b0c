"""HTTP/1.1 on sockets: uvicorn, with bounds on time that it does not have, and without its hold on the process's signals.

A connection that asks nothing, sends its request line by line, or takes nothing of an answer is given up after a while;
otherwise a few of them would keep everybody out, and a call would hold what it has locked for as long as somebody likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HEADER_BYTES: Final = 32 * 1024
"""Request line and headers together."""
_LET_GO_SECONDS: Final = 1
_NO_LINGER: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class BoundedProtocol(H11Protocol):
    """One connection."""

    seconds = 30.0
    """What a client gets to send the head of its next request, or to take a piece of an answer."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._asking: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._untaken = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > 2 * self.limit_concurrency:
            _break_off(transport)  # not even a refusal: the process has only so many descriptors
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._asking = _stopped(self._asking)
        self._taking = _stopped(self._taking)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._untaken = self.transport.get_write_buffer_size()
        self._taking = _stopped(self._taking) or self.loop.call_later(self.seconds, self._look_whether_taken)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taking = _stopped(self._taking)

    def _watch(self) -> None:
        """The time runs whenever no request is at work, and begins anew only after one was answered."""
        cycle: Any = self.cycle  # none before the first request
        if self.transport.is_closing() or (cycle is not None and not cycle.response_complete):
            self._asking = _stopped(self._asking)
        elif self._asking is None:
            self._asking = self.loop.call_later(self.seconds, self.transport.abort)

    def _look_whether_taken(self) -> None:
        left = self.transport.get_write_buffer_size()
        if left >= self._untaken:
            _break_off(self.transport)
        else:
            self._untaken = left
            self._taking = self.loop.call_later(self.seconds, self._look_whether_taken)


def _break_off(transport: asyncio.Transport) -> None:
    """Let go at once: by a reset, or the system would keep what nobody takes, for as long as nobody does."""
    connection: Any = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None


class Listener(Server):
    """The server on its socket."""

    @classmethod
    def of(cls, app: ASGIApp, *, seconds: float, connections: int) -> Listener:
        """A server for the application.

        :param seconds: as `BoundedProtocol.seconds`.
        :param connections: served at once; more are answered 503.
        """
        bounded = type("BoundedHere", (BoundedProtocol,), {"seconds": seconds})
        return cls(
            Config(
                app,
                http=bounded,
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="error",  # what strangers send is not worth a line each
                access_log=False,
                proxy_headers=False,  # what a header says about where a request comes from is not believed
                server_header=False,
                limit_concurrency=connections + 1,  # uvicorn counts the one that asks
                timeout_keep_alive=max(1, int(seconds)),
                timeout_graceful_shutdown=_LET_GO_SECONDS,
                h11_max_incomplete_event_size=HEADER_BYTES,
                reset_contextvars=True,  # nothing of one request is known to the next on the same connection
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """The process's signals are not this server's."""
        yield

    def stop_listening(self) -> None:
        """Take no new connections; those that are there are served on."""
        for server in self.servers if self.started else ():
            server.close()


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    :raises OSError: the name is unknown, or the port is taken.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        exclusive: int | None = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
        # On Windows SO_REUSEADDR would let another program share the port.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive is None else exclusive, 1)
        made.bind(address)
        made.listen(128)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
