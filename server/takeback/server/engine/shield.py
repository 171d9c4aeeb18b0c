"""Work that must come to its end even if whoever asked for it has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def shielded(work: Callable[[], Awaitable[T]], *, seconds: float | None = None) -> T:
    """Await `work` to its end, deaf to cancellation; a cancellation meanwhile takes effect when it is done.

    A task of its own, because a scope's shield holds off the cancellation of scopes but not that of the task itself.

    :param seconds: a bound all the same.
    :raises TimeoutError: it took longer than that.
    """

    async def bounded() -> T:
        if seconds is None:
            return await work()
        with anyio.fail_after(seconds):
            return await work()
        raise AssertionError("a scope of our own does not swallow")

    task = asyncio.create_task(bounded())
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                if task.done():
                    break
                cancelled = error
            except BaseException:  # it is raised again below, out of the task
                break
    if cancelled is not None and not task.cancelled() and task.exception() is None:
        raise cancelled
    return task.result()
