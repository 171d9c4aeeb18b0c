"""Logging that keeps secrets: of an exception only its type and the places it came through, never its text or any values."""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType


def places(error: BaseException) -> str:
    """Where an exception came through, outermost first, one line each."""
    return _places(error.__traceback__)


def _places(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)


class DiscreetFormatter(logging.Formatter):
    """Log lines for standard error."""

    def formatException(  # noqa: N802 -- the name is logging's
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """See the module."""
        kind, _, trace = ei
        return f"{_places(trace)}\n{kind.__name__ if kind is not None else ''}".strip("\n")


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Let warnings and errors go to standard error, unless somebody has set up logging already."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(DiscreetFormatter("takeback: %(levelname)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(level)
