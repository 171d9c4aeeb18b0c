"""Wires: how bytes come in and go out of the process on its standard streams.

While a wire is up, descriptor 0 reads nothing and descriptor 1 writes to standard error, so a stray print, or a child that
inherits them, cannot corrupt the protocol. Two ways, because not every standard stream can be polled: `PolledWire` does without
threads (a thread hop per message costs as much as a journal commit); `ThreadedWire` is for regular files and for Windows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import stat
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

_CHUNK = 256 * 1024
_FULL = 1024 * 1024
"""Unwritten bytes above which a writer waits for the reader at the other end."""


class Wire(ABC):
    """Bytes in both directions. Callbacks are called in the event loop's thread."""

    def __init__(self, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        """
        :param on_end: called once: the input has ended, or nobody reads the output any more.
        """
        self._on_data = on_data
        self._on_end = on_end
        self._told = False
        self._broken = False
        """Nobody reads the output any more; what is written goes nowhere."""
        self._waiting: asyncio.Future[None] | None = None

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send bytes after those before. Never blocks; see `drained`."""

    @abstractmethod
    def unwritten(self) -> int:
        """Bytes that wait to be written."""

    @abstractmethod
    def pause(self) -> None:
        """Take no more input for now."""

    @abstractmethod
    def resume(self) -> None:
        """Take input again."""

    @abstractmethod
    async def close(self, *, within: float) -> None:
        """Write what can be written within so many seconds, and let go."""

    async def drained(self) -> None:
        """Wait while more is unwritten than should be."""
        while self.unwritten() > _FULL and not self._broken:
            await self._progress()

    async def _progress(self) -> None:
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._waiting)

    def _progressed(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        self._waiting = None

    def _end(self, *, broken: bool = False) -> None:
        self._broken = self._broken or broken
        self._progressed()
        if not self._told:
            self._told = True
            self._on_end()


class PolledWire(Wire):
    """For pipes, sockets and terminals on systems whose event loop can poll them."""

    def __init__(self, source: int, sink: int, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        """Start reading.

        :raises OSError, NotImplementedError, ValueError: the source cannot be polled.
        """
        super().__init__(on_data, on_end)
        self._loop = asyncio.get_running_loop()
        self._source, self._sink = source, sink
        self._out = bytearray()
        self._reading = self._writing = False
        self.resume()  # first: where streams cannot be polled, the rest does not exist either
        self._blocking = (os.get_blocking(source), os.get_blocking(sink))
        os.set_blocking(source, False)
        os.set_blocking(sink, False)

    def write(self, data: bytes) -> None:
        if self._broken:
            return
        self._out += data
        if not self._writing:
            self._flush()

    def unwritten(self) -> int:
        return len(self._out)

    def pause(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._source)
            self._reading = False

    def resume(self) -> None:
        if not self._reading and not self._told:
            self._loop.add_reader(self._source, self._readable)
            self._reading = True

    def _readable(self) -> None:
        try:
            data = os.read(self._source, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._on_data(data)
        else:
            self.pause()
            self._end()

    def _flush(self) -> None:
        try:
            while self._out:
                written = os.write(self._sink, self._out)
                del self._out[:written]
        except (BlockingIOError, InterruptedError):
            self._wait_for_room()
            return
        except OSError:  # nobody reads any more
            self._out.clear()
            self._stop_writing()
            self.pause()
            self._end(broken=True)
            return
        self._stop_writing()
        self._progressed()

    def _wait_for_room(self) -> None:
        if not self._writing:
            self._loop.add_writer(self._sink, self._flush)
            self._writing = True
        self._progressed()

    def _stop_writing(self) -> None:
        if self._writing:
            self._loop.remove_writer(self._sink)
            self._writing = False

    async def close(self, *, within: float) -> None:
        self.pause()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._out:
                    await self._progress()
        self._stop_writing()
        self._broken = True
        for descriptor, blocking in zip((self._source, self._sink), self._blocking, strict=True):
            with contextlib.suppress(OSError):
                os.set_blocking(descriptor, blocking)


class ThreadedWire(Wire):
    """For streams that cannot be polled: one thread reads, one writes. Both end with the process."""

    def __init__(self, source: int, sink: int, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        super().__init__(on_data, on_end)
        self._loop = asyncio.get_running_loop()
        self._source, self._sink = source, sink
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._unwritten = 0
        self._may_read = threading.Event()
        self._may_read.set()
        self._written = asyncio.Event()
        threading.Thread(target=self._read, name="takeback-stdin", daemon=True).start()
        threading.Thread(target=self._write, name="takeback-stdout", daemon=True).start()

    def write(self, data: bytes) -> None:
        if not self._broken:
            self._unwritten += len(data)
            self._out.put(data)

    def unwritten(self) -> int:
        return self._unwritten

    def pause(self) -> None:
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()

    async def close(self, *, within: float) -> None:
        self.pause()
        self._out.put(None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._written.wait(), within)
        self._broken = True

    def _read(self) -> None:
        data = b"-"
        while data:
            self._may_read.wait()
            try:
                data = os.read(self._source, _CHUNK)
            except OSError:
                data = b""
            if not self._call(self._arrived, data):
                return

    def _write(self) -> None:
        while (data := self._out.get()) is not None:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._sink, view) :]
            except OSError:
                self._call(self._sink_closed)
                break
            self._call(self._left, len(data))
        self._call(self._written.set)

    def _arrived(self, data: bytes) -> None:
        if data:
            self._on_data(data)
        else:
            self._end()

    def _sink_closed(self) -> None:
        self._end(broken=True)

    def _left(self, count: int) -> None:
        self._unwritten -= count
        self._progressed()

    def _call(self, function: Callable[..., object], *arguments: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: the process is about to end
            return False
        return True


class StandardStreams:
    """The process's standard input and output, taken away from everybody else while in use."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._saved = (_duplicate(0), _duplicate(1))
        self.source = _reopened(self._saved[0], os.O_RDONLY)
        self.sink = _reopened(self._saved[1], os.O_WRONLY)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)

    def connect(self, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> Wire:
        """The best wire that these streams allow."""
        try:
            return PolledWire(self.source, self.sink, on_data, on_end)
        except (OSError, NotImplementedError, ValueError):
            return ThreadedWire(self.source, self.sink, on_data, on_end)

    def restore(self) -> None:
        """Give the streams back as they were. A thread may still read the private descriptors: they stay open."""
        sys.stdout.flush()
        for number, saved in enumerate(self._saved):
            with contextlib.suppress(OSError):
                os.dup2(saved, number)


def _duplicate(descriptor: int) -> int:
    """A private copy above the standard range, not inherited by children."""
    copies: list[int] = []
    try:
        while True:
            copy = os.dup(descriptor)
            if copy > 2:
                return copy
            copies.append(copy)
    finally:
        for copy in copies:
            os.close(copy)


def _reopened(descriptor: int, access: int) -> int:
    """The same pipe or terminal, opened anew where the system can do that.

    O_NONBLOCK belongs to the open file, which a parent or a shell may share with us; a fresh one is ours alone.
    """
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISFIFO(mode) or os.isatty(descriptor)) or not os.path.isdir("/proc/self/fd"):
        return descriptor
    flags = access | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:
        return descriptor
