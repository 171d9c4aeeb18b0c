"""Python's collector of cycles, told to look less often while very many values are held."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

_SELDOM: Final = 50_000
"""New containers before the collector looks; what Python does by itself is 700."""


@contextmanager
def seldom_collected() -> Generator[None]:
    """While inside, cycles are looked for seldom.

    A plan of ten thousand steps is a million values, none of them in a cycle, and to look through them all again and again
    is half of the time that a rollback takes.
    """
    before = gc.get_threshold()
    if not gc.isenabled() or before[0] >= _SELDOM:
        yield
        return
    gc.set_threshold(_SELDOM, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
