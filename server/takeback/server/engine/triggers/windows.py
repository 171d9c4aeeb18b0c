"""Counting within the last so many seconds, at a cost that does not grow with the count. Time is an argument."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from takeback.server.engine.triggers.values import Place, Size

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Amount:
    """Sizes added up: distinct objects and people, and sums of rows."""

    objects: Counter[Place] = field(default_factory=Counter[Place])
    deleted: Counter[Place] = field(default_factory=Counter[Place])
    recipients: Counter[str] = field(default_factory=Counter[str])
    systems: Counter[str] = field(default_factory=Counter[str])
    unnamed: int = 0
    gone: int = 0
    rows: int = 0

    def add(self, size: Size) -> None:
        """One act more."""
        self.objects.update(size.objects)
        self.deleted.update(size.deleted)
        self.recipients.update(size.recipients)
        self.systems.update(size.systems)
        self.unnamed += size.unnamed
        self.gone += size.gone
        self.rows += size.rows

    def take(self, size: Size) -> None:
        """One act less."""
        _less(self.objects, size.objects)
        _less(self.deleted, size.deleted)
        _less(self.recipients, size.recipients)
        _less(self.systems, size.systems)
        self.unnamed -= size.unnamed
        self.gone -= size.gone
        self.rows -= size.rows

    def with_(self, size: Size) -> dict[str, int]:
        """What each count would be with one act more."""
        return {
            "objects": len(self.objects) + _new(self.objects, size.objects),
            "deleted": len(self.deleted) + _new(self.deleted, size.deleted) + self.gone + size.gone,
            "rows": self.rows + size.rows,
            "recipients": len(self.recipients) + _new(self.recipients, size.recipients) + self.unnamed + size.unnamed,
            "systems": len(self.systems) + _new(self.systems, size.systems),
        }


def _less(counter: Counter[K], names: frozenset[K]) -> None:
    for name in names:
        counter[name] -= 1
        if counter[name] <= 0:
            del counter[name]


def _new(known: Counter[K], names: frozenset[K]) -> int:
    return sum(name not in known for name in names)


@dataclass(slots=True)
class Entry:
    """One act in the windows."""

    at: datetime
    size: Size
    call: tuple[str, str] = ("", "")


@dataclass(slots=True)
class Window:
    """Sizes of the acts of the last so many seconds."""

    seconds: float
    amount: Amount = field(default_factory=Amount)
    entries: deque[Entry] = field(default_factory=deque[Entry])

    def add(self, entry: Entry) -> None:
        """An act more."""
        self.entries.append(entry)
        self.amount.add(entry.size)

    def void(self, entry: Entry) -> None:
        """It turned out not to have happened."""
        if entry in self.entries:
            self.entries.remove(entry)
            self.amount.take(entry.size)

    def at(self, now: datetime) -> Amount:
        """What lies in the window that ends now."""
        since = now - timedelta(seconds=self.seconds)
        while self.entries and self.entries[0].at <= since:
            self.amount.take(self.entries.popleft().size)
        return self.amount


@dataclass(slots=True)
class Times(Generic[K]):
    """When something happened of late, by what it was: at most so many times of each are remembered."""

    seconds: float
    most: int
    times: dict[K, deque[datetime]] = field(default_factory=dict[K, "deque[datetime]"])

    def add(self, key: K, at: datetime) -> None:
        """It happened once more."""
        self.times.setdefault(key, deque(maxlen=self.most)).append(at)
        if len(self.times) > 4096:
            self._sweep(at)

    def remove(self, key: K, at: datetime) -> None:
        """It turned out not to have happened."""
        found = self.times.get(key)
        if found is not None and at in found:
            found.remove(at)

    def forget(self, key: K) -> None:
        """It does not count any more."""
        self.times.pop(key, None)

    def count(self, key: K, now: datetime) -> int:
        """How often within the window that ends now; `most` also stands for more."""
        since = now - timedelta(seconds=self.seconds)
        return sum(at > since for at in self.times.get(key, ()))

    def _sweep(self, now: datetime) -> None:
        since = now - timedelta(seconds=self.seconds)
        for key in [key for key, found in self.times.items() if not found or found[-1] <= since]:
            del self.times[key]
