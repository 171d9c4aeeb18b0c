"""Stops the world before or after the n-th call that changes something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from takeback.tools.files.calls import Calls
from takeback.tools.files.system import FileSystem

CHANGING = [
    "link", "rename", "unlink", "rmdir", "mkdir", "symlink", "pwrite", "truncate", "utime", "utime_folder", "chmod",
    "chown", "set_xattr", "sync", "sync_folder",
]  # fmt: skip


class Died(BaseException):
    """The process is no more."""


class Fuse:
    """Burns at one call."""

    def __init__(self, system: FileSystem, at: int, *, after: bool, error: BaseException | None = None) -> None:
        self.left, self.after, self.burnt = at, after, False
        self.error = error or Died()
        calls: Any = system._calls
        for name in CHANGING + (["exchange", "place"] if calls.one_step else []):
            setattr(calls, name, self._wrapped(getattr(calls, name)))

    def _wrapped(self, call: Any) -> Any:
        def wrapped(*given: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self.after:
                self.burnt = True
                raise self.error
            result = call(*given)
            if self.left == 0:
                self.burnt = True
                raise self.error
            return result

        return wrapped


@contextmanager
def between_calls(calls: Calls, at: int, act: Callable[[], None]) -> Iterator[list[str]]:
    """Do something just before the n-th call that changes something; the list says before which, if it came to that."""
    seen: list[str] = []
    left = at

    def wrapped(name: str, call: Any) -> Any:
        def before(*given: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                seen.append(name)
                act()
            return call(*given)

        return before

    names = CHANGING + (["exchange", "place"] if calls.one_step else [])
    for name in names:
        setattr(calls, name, wrapped(name, getattr(calls, name)))
    try:
        yield seen
    finally:
        for name in names:
            delattr(calls, name)
