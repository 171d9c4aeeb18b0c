"""An event loop whose every choice comes from a seed: which ready callback is next, and when a thread gets on.

There is nothing else: no sockets, no threads, no waiting. Time is virtual, and jumps to the next timer when nothing is ready.
Work for a thread is done in the loop at a moment of the seed's choosing, as one indivisible step; work for one thread
in its order. The same seed gives the same schedule.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar
from unittest.mock import patch

import aiosqlite.core
import anyio.from_thread
import anyio.to_thread

T = TypeVar("T")
STEPS = 200_000
"""More than any story here takes."""


class StandsStill(AssertionError):
    """Everybody waits for somebody else, or goes round in circles for ever."""


class Killed(BaseException):
    """The process is gone, at this point of the schedule."""


class SeededLoop(asyncio.AbstractEventLoop):
    """Made for one story in a process of its own; run it with `run`."""

    def __init__(self, seed: int, *, dies_at: int | None = None) -> None:
        """`dies_at` is the number of the step before which everything ends, without another word."""
        self.dice = random.Random(seed)
        self.steps = 0
        self.trace: list[int] = []
        """Which of the ready callbacks was taken, step by step."""
        self.errors: list[dict[str, Any]] = []
        """What went wrong where nobody was waiting for it."""
        self._dies_at = dies_at
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._time, self._number, self._since = 0.0, 0, 0
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- from outside -----------------------------------------------------------------------------------------------------

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        """Run the story to its end.

        :raises StandsStill: it has none.
        :raises Killed: `dies_at` was reached.
        """
        self._since = self.steps
        asyncio._set_running_loop(self)
        asyncio.set_event_loop(self)
        try:
            return self.until(story)
        finally:
            asyncio._set_running_loop(None)
            asyncio.set_event_loop(None)

    def until(self, work: Coroutine[Any, Any, T]) -> T:
        """Let things go on until this is done: what a thread does that waits for the loop."""
        task = self.create_task(work)
        while not task.done():
            self._step()
        return task.result()

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """Tasks that nobody waited for."""
        return [task for task in self._tasks if not task.done()]

    def _step(self) -> None:
        if not self._ready:
            self._next_timers()
        if not self._ready:
            waiting = "\n".join(repr(task) for task in self.unfinished())
            raise StandsStill(f"nothing can go on any more:\n{waiting}")
        self.steps += 1
        if self.steps == self._dies_at:
            raise Killed
        if self.steps - self._since > STEPS:
            raise StandsStill(f"no end after {STEPS} steps")
        index = self.dice.randrange(len(self._ready)) if len(self._ready) > 1 else 0
        self.trace.append(index)
        handle = self._ready.pop(index)
        if not handle.cancelled():
            handle._run()  # type: ignore[attr-defined] -- what every loop does with a handle

    def _next_timers(self) -> None:
        while self._timers and not self._ready:
            self._time = max(self._time, self._timers[0][0])
            while self._timers and self._timers[0][0] <= self._time:
                timer = heapq.heappop(self._timers)[2]
                if not timer.cancelled():
                    self._ready.append(timer)

    # -- the port -----------------------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._time

    def call_soon(self, callback: Callable[..., object], *given: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, given, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # there are no other threads

    def call_later(
        self, delay: float, callback: Callable[..., object], *given: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._time + delay, callback, *given, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *given: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, given, self, context)
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def get_task_factory(self) -> None:
        """Tasks are just tasks."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *given: Any) -> asyncio.Future[Any]:
        outcome = self.create_future()
        self.call_soon(settle, outcome, lambda: func(*given))
        return outcome

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""


def settle(outcome: asyncio.Future[Any] | None, work: Callable[[], Any]) -> None:
    """Do what a thread would, and tell whoever waits for it, if they still do."""
    try:
        result = work()
    except Exception as error:
        if outcome is not None and not outcome.done():
            outcome.set_exception(error)
        return
    if outcome is not None and not outcome.done():
        outcome.set_result(result)


class ThreadQueue:
    """What aiosqlite hands its thread, and that thread: a piece of work is done when the loop gets to it."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[asyncio.Future[Any] | None, Callable[[], Any]]] = deque()

    def put_nowait(self, item: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
        self._waiting.append(item)
        asyncio.get_running_loop().call_soon(self._one)

    def _one(self) -> None:
        settle(*self._waiting.popleft())


class NoThread:
    """In place of `threading.Thread`, where a `ThreadQueue` does its work."""

    def __init__(self, target: Callable[..., object], args: tuple[object, ...]) -> None: ...

    def start(self) -> None: ...


@contextmanager
def no_threads() -> Iterator[None]:
    """Whatever would be handed to a thread is done in the loop."""
    with (
        patch.object(aiosqlite.core, "Thread", NoThread),
        patch.object(aiosqlite.core, "SimpleQueue", ThreadQueue),
        patch.object(anyio.to_thread, "run_sync", in_a_thread),
        patch.object(anyio.from_thread, "run", out_of_a_thread),
    ):
        yield


async def in_a_thread(func: Callable[..., T], *given: Any, **how: Any) -> T:
    """In place of `anyio.to_thread.run_sync`."""
    return await asyncio.get_running_loop().run_in_executor(None, func, *given)


def out_of_a_thread(func: Callable[..., Coroutine[Any, Any, T]], *given: Any) -> T:
    """In place of `anyio.from_thread.run`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SeededLoop)
    return loop.until(func(*given))
