"""The stdio transport: the standard streams as message streams for the SDK's server.

Lean, because the transport costs as much as the journal: no thread hops, one pass from bytes to message. Strict: frames are
limited and decoded in `frames.py`, and whatever has an id is answered. It knows which requests are still unanswered, so that
the end of the input does not cut off an act that is nearly done.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

from takeback.server.mcp.frames import FrameSplitter, Oversized, Refused, decode
from takeback.server.mcp.wires import StandardStreams, Wire

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import ReadStream

_log = logging.getLogger(__name__)

_MANY: Final = 1024
"""Messages that may wait to be taken up; above that, input pauses."""

_ENDLESS: Final = frozenset({"subscriptions/listen"})
"""Requests that are answered only when the connection ends."""


class Incoming:
    """The stream of messages from the client, as the SDK's server reads it."""

    def __init__(self) -> None:
        self._messages: deque[SessionMessage] = deque()
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self.wire: Wire | None = None

    def put(self, message: JSONRPCMessage) -> None:
        """Queue a message."""
        if self._ended:
            return
        self._messages.append(SessionMessage(message))
        if len(self._messages) >= _MANY and self.wire is not None:
            self.wire.pause()
        self._wake()

    def end(self) -> None:
        """Nothing comes any more."""
        self._ended = True
        self._wake()

    async def receive(self) -> SessionMessage | Exception:
        """The next message.

        :raises anyio.EndOfStream: there is none any more.
        """
        while not self._messages:
            if self._ended:
                raise anyio.EndOfStream
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message = self._messages.popleft()
        if not self._messages and self.wire is not None and not self._ended:
            self.wire.resume()
        return message

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def aclose(self) -> None:
        self.end()
        self._messages.clear()

    def __aiter__(self) -> ReadStream[SessionMessage | Exception]:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()


class Outgoing:
    """The stream of messages to the client, as the SDK's server writes it."""

    def __init__(self, transport: StdioTransport) -> None:
        self._transport = transport
        self._closed = False

    async def send(self, item: SessionMessage, /) -> None:
        """Write a message.

        :raises anyio.ClosedResourceError: the stream was closed.
        """
        if self._closed:
            raise anyio.ClosedResourceError
        await self._transport.write(item.message)

    async def aclose(self) -> None:
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()


class StdioTransport:
    """The connection to the one client of a stdio server. Use it as a context manager inside a running event loop."""

    def __init__(self, frame_bytes: int, answer_bytes: int) -> None:
        """
        :param frame_bytes: largest message taken.
        :param answer_bytes: largest answer sent.
        """
        self._limit = frame_bytes
        self._answer_limit = answer_bytes
        self._splitter = FrameSplitter(frame_bytes)
        self._streams: StandardStreams | None = None
        self._wire: Wire | None = None
        self._unanswered: dict[RequestId, str] = {}
        self._settled = asyncio.Event()
        self._settled.set()
        self.incoming = Incoming()
        self.outgoing = Outgoing(self)
        self.ended = asyncio.Event()
        """Set when the client is gone: its end of the input or of the output is closed."""

    def __enter__(self) -> Self:
        self._streams = StandardStreams()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._streams is not None:
            self._streams.restore()

    def start(self) -> None:
        """Begin to read."""
        if self._streams is None:
            raise RuntimeError("The transport is used as a context manager")
        self._wire = self._streams.connect(self._arrived, self._gone)
        self.incoming.wire = self._wire

    async def settled(self, within: float) -> bool:
        """Wait until everything that was asked is answered; false if that takes longer."""
        try:
            async with asyncio.timeout(within):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    def stop_reading(self) -> None:
        """Take nothing new; what was asked is still answered."""
        if self._wire is not None:
            self._wire.pause()
        self.incoming.wire = None

    async def close(self, *, within: float) -> None:
        """Write what is still unwritten, for so many seconds at most, and let go."""
        self.incoming.end()
        if self._wire is not None:
            await self._wire.close(within=within)

    async def write(self, message: JSONRPCMessage) -> None:
        """Send a message; wait if the client reads too slowly."""
        data = message.model_dump_json(by_alias=True, exclude_unset=True).encode("utf-8", "replace")
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            if len(data) > self._answer_limit and isinstance(message, JSONRPCResponse):
                data = self._too_large(message.id)
            if message.id is not None:
                self._answered(message.id)
        self._put(data)
        if self._wire is not None:
            await self._wire.drained()

    def _put(self, data: bytes) -> None:
        if self._wire is not None:
            self._wire.write(data + b"\n")

    # -- what comes in ----------------------------------------------------------------------------------------------

    def _arrived(self, data: bytes) -> None:
        for frame in self._splitter.feed(data):
            self._take(frame)

    def _gone(self) -> None:
        for frame in self._splitter.close():
            self._take(frame)
        self.ended.set()

    def _take(self, frame: bytes | Oversized) -> None:
        message = decode(frame, self._limit)
        match message:
            case Refused():
                _log.warning("A message of the client was refused: %s.", message.message)
                self._put(_error(message.id, message.code, message.message))
            case JSONRPCRequest():
                self._requested(message)
            case JSONRPCNotification():
                self._notified(message)
            case JSONRPCResponse() | JSONRPCError():
                self.incoming.put(message)

    def _requested(self, request: JSONRPCRequest) -> None:
        if request.id in self._unanswered:
            # Both would be answered under one id, and one act might be done twice.
            self._put(_error(request.id, INVALID_REQUEST, "A request with this id is still being worked on"))
            return
        if request.method not in _ENDLESS:
            self._unanswered[request.id] = request.method
            self._settled.clear()
        self.incoming.put(request)

    def _notified(self, notification: JSONRPCNotification) -> None:
        if notification.method == "notifications/cancelled":
            cancelled = (notification.params or {}).get("requestId")
            if isinstance(cancelled, str | int):
                self._answered(cancelled)  # the protocol forbids to answer it any more
        self.incoming.put(notification)

    def _answered(self, request: RequestId) -> None:
        self._unanswered.pop(request, None)
        if not self._unanswered:
            self._settled.set()

    def _too_large(self, request: RequestId) -> bytes:
        return _error(
            request,
            INTERNAL_ERROR,
            f"The answer is larger than {self._answer_limit} bytes and was not sent. Ask for less (limit, offset, cursor); "
            "what an act did stands in the journal: get_run",
        )


def _error(request: RequestId | None, code: int, message: str) -> bytes:
    answer = JSONRPCError(jsonrpc="2.0", id=request, error=ErrorData(code=code, message=message))
    return answer.model_dump_json(by_alias=True, exclude_unset=True).encode("utf-8")
