"""Watching principals: keeps what all runs together did of late up to date, whichever process wrote it.

What this process writes is heard as it is written, and costs no reading. What another one wrote in between is read when an
intent stands: by then everything that came before it is known, so that no two acts pass a bound together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import anyio

from takeback.journal.events import Recorded
from takeback.server.engine.core import Core
from takeback.server.engine.triggers.principals import HOUR, Principals
from takeback.server.engine.triggers.values import Attempt, Firing

PAGE: Final = 500
EARLY: Final = 4096
"""Events heard after some that nobody has read yet; if there are more they are read, too."""


class Watch:
    """For one engine."""

    def __init__(self, core: Core) -> None:
        settings = core.settings.triggers.principal_radius
        self._core, self._on = core, settings.watches
        self._principals = Principals(settings)
        self._begun = False
        self._early: dict[int, Recorded] = {}
        self._reading = anyio.Lock()

    async def before(self, principal: str, attempt: Attempt) -> list[Firing]:
        """What an act would bring the principal's runs to together, as far as is known yet."""
        if not self._on:
            return []
        if not self._begun:
            await self._read_to(await self._core.journal.position())
        return self._principals.would_pass(principal, attempt)

    async def intended(self, principal: str, position: int) -> list[Firing]:
        """What it came to, with whatever was written before its intent."""
        if not self._on:
            return []
        if self._principals.position < position:
            await self._read_to(position)
        found = self._principals.passed(principal, self._core.now())
        return [firing for firing in found if firing.answer != "warn"]

    def _hear(self, recorded: Sequence[Recorded]) -> None:
        if recorded and recorded[0].position == self._principals.position + 1 and not self._early:
            self._principals.take(recorded)
            return
        if len(self._early) + len(recorded) > EARLY:
            self._early.clear()
        self._early.update({each.position: each for each in recorded})
        while (following := self._early.pop(self._principals.position + 1, None)) is not None:
            self._principals.take([following])

    async def _read_to(self, wanted: int) -> None:
        async with self._reading:
            if not self._begun:
                self._principals.position = await self._an_hour_ago(self._core.now(), wanted)
                self._core.journal.listeners = (*self._core.journal.listeners, self._hear)
                self._begun = True
            while self._principals.position < wanted:
                page = await self._core.journal.read(after=self._principals.position, limit=PAGE)
                if not page:
                    return
                self._principals.take(page)
                self._early = {at: each for at, each in self._early.items() if at > self._principals.position}

    async def _an_hour_ago(self, now: datetime, newest: int) -> int:
        """The position before the first event of the last hour, found by halving."""
        low, high = 0, newest
        while low < high:
            middle = (low + high) // 2
            at = await self._first_time(middle, high)
            if at is None or at > now - HOUR:
                high = middle
            else:
                low = middle + 1
        return low

    async def _first_time(self, after: int, until: int) -> datetime | None:
        """When the first event after a position was that still tells it: what was erased does not."""
        limit = 1
        while after < until:
            page = await self._core.journal.read(after=after, limit=limit)
            if not page:
                return None
            for recorded in page:
                if recorded.event is not None:
                    return recorded.event.at
            after, limit = page[-1].position, PAGE
        return None
