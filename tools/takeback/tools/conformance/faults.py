"""Deaths and failures between any two lines of a tool's own code.

A process that is killed runs nothing more, not even `finally`; inside one process that cannot be had, so a death is an
exception that no `except Exception` catches. What the tool then knows is only what it was given, as after a restart.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

MOST_LINES = 200
"""A verb of more lines than that is tried up to there."""


class Died(BaseException):
    """The process is gone."""


class Broke(OSError):
    """The connection to the other side broke just now."""


class LineFault:
    """Raises at the n-th line that is run of some functions."""

    def __init__(self, codes: frozenset[CodeType], at: int, error: BaseException) -> None:
        self._codes, self._at, self._error = codes, at, error
        self._count = 0
        self.fired = False

    def _call(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        return self._line if frame.f_code in self._codes else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        if event == "line" and not self.fired:
            self._count += 1
            if self._count == self._at:
                self.fired = True
                raise self._error
        return self._line

    @contextmanager
    def armed(self) -> Generator[None]:
        """Raise in here. What else was tracing (coverage, a debugger) goes on afterwards."""
        previous = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(previous)


def codes_of(*functions: Any) -> frozenset[CodeType]:
    """The code of functions and of what is defined inside them."""
    found: set[CodeType] = set()
    waiting = [inspect.unwrap(function) for function in functions]
    codes = [getattr(function, "__code__", None) for function in waiting]
    while codes:
        code = codes.pop()
        if isinstance(code, CodeType) and code not in found:
            found.add(code)
            codes.extend(const for const in code.co_consts if isinstance(const, CodeType))
    return frozenset(found)


def own_codes(definition: type, base: type) -> frozenset[CodeType]:
    """The code of all methods that a class and its ancestors below the contract define."""
    own = [cls for cls in definition.__mro__ if issubclass(cls, base) and cls.__module__ != base.__module__]
    return codes_of(*(value for cls in own for value in vars(cls).values() if inspect.isfunction(value)))


async def run_verb(verb: Callable[..., Any], *arguments: Any) -> Any:
    """Call a verb that may be plain or async, in this thread."""
    returned = verb(*arguments)
    return await returned if inspect.isawaitable(returned) else returned
