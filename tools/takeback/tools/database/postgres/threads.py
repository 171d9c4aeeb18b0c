"""Blocking work of the driver in threads, cancelled at the server and waited for to its true end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from takeback.tools.database.postgres.driver import Connection

T = TypeVar("T")


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
    cancelled: asyncio.CancelledError | None = None
    # the scope keeps anyio's repeated cancellation away, the loop a plain `task.cancel()`
    task = asyncio.ensure_future(anyio.to_thread.run_sync(work))
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
                await anyio.to_thread.run_sync(watch.stop)
    if cancelled is not None:
        if task.exception() is None:
            leave(task.result())
        raise cancelled
    return task.result()


def leave(result: object) -> None:
    """What was prepared for somebody who is not there any more is dropped."""
    drop = getattr(result, "drop", None)
    if callable(drop):
        drop()
