"""Stops the world before or after the n-th call that changes something."""

from __future__ import annotations

from typing import Any

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
