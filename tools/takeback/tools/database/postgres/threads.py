"""Blocking work of the driver in threads, cancelled at the server and waited for to its true end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

import anyio
import anyio.to_thread

from takeback.tools.database.postgres.driver import Connection

T = TypeVar("T")


@runtime_checkable
class Droppable(Protocol):
    """What holds something open until it is dropped."""

    def drop(self) -> None:
        """Let go of it."""
        ...


class Watch:
    """What one piece of work uses, so that it can be stopped: its connections, and how long it may take."""

    def __init__(self, seconds: float | None = None) -> None:
        self._connections: list[Connection] = []
        self._ends = None if seconds is None else time.monotonic() + seconds
        self.stopped = False

    def add(self, connection: Connection) -> Connection:
        """This connection is used by the work."""
        self._connections.append(connection)
        if self.stopped:
            connection.cancel()
        return connection

    def left_ms(self) -> int:
        """Milliseconds that are left, at least one; 0 if there is no bound (as PostgreSQL's timeouts read it)."""
        return 0 if self._ends is None else max(1, int((self._ends - time.monotonic()) * 1000))

    def stop(self) -> None:
        """Ask the server to stop all of it."""
        self.stopped = True
        for connection in self._connections:
            connection.cancel()


async def in_thread(work: Callable[[], T], watch: Watch) -> T:
    """Run in a thread. Cancelled, it is stopped at the server, its end is waited for, and then the cancellation goes on."""
    task = asyncio.ensure_future(anyio.to_thread.run_sync(work))
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        # from here on the scope keeps anyio's repeated cancellation away, the loop a plain `task.cancel()`
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(watch.stop)
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            if task.exception() is None:
                await anyio.to_thread.run_sync(leave, task.result())
        raise
    return task.result()


def leave(result: object) -> None:
    """What was prepared for somebody who is not there any more is dropped."""
    for each in result if isinstance(result, tuple) else (result,):  # pyright: ignore[reportUnknownVariableType] -- of anything
        if isinstance(each, Droppable):
            each.drop()
