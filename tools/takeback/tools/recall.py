"""What the journal knows of a family's objects: its own records are a cache of that, made anew if they are lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from takeback.journal.states import Effect


@dataclass(frozen=True, slots=True)
class Recalled:
    """The newest effect on an object."""

    effect: Effect
    certain: bool
    """It was concluded. Else it was begun, and nobody knows yet what came of it."""


Recall = Callable[[str, str], Awaitable[Mapping[str, Recalled]]]
"""Told a system and the object above them, the newest effect on each object below it, by object."""


async def nothing(system: str, above: str) -> Mapping[str, Recalled]:
    """Where there is no journal."""
    return {}
