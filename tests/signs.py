"""Waiting for a sign of another process: a file that it makes.

The only place where tests look again and again, because a file system tells nobody that a file has come to be.
"""

from __future__ import annotations

import time
from pathlib import Path

import anyio

SECONDS = 60
"""After so long something hangs; how fast things are is no matter of tests."""
_PAUSE = 0.005


def until(path: Path) -> None:
    """Wait until it is there."""
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(_PAUSE)


async def appeared(path: Path) -> None:
    """As `until`, and lets others go on meanwhile."""
    with anyio.fail_after(SECONDS):
        while not path.exists():  # noqa: ASYNC110 -- see the module's docstring
            await anyio.sleep(_PAUSE)
