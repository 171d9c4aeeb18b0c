"""The port of a calendar: named resources of raw iCalendar bytes, each with an ETag, written by compare-and-swap only.

A resource holds one event whole: its master, all overrides of single occurrences, the time zones. What a resource looked like
is its raw bytes as the store gives them out (never what was sent to it: servers normalise), so that putting them back is exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """One event as the store holds it."""

    name: str
    """Unique in the calendar; "standup.ics"."""
    data: bytes
    """The raw bytes, as a reading gives them."""
    etag: str
    """Changes whenever the bytes do."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Nothing was written: the resource is not as it was expected to be."""

    present: Resource | None
    """What is there now; `None` if there is no such resource."""


class CalendarStore(ABC):
    """One calendar. All errors are `TargetError`: `Unavailable` if nothing was tried or provably nothing happened."""

    local: bool
    """It lies on this machine alone: no guest is told of anything by it."""
    rewrites: bool = False
    """It may spell what it is given otherwise; `write` makes sure that what is read back means the same."""
    mails_by_itself: bool = False
    """The server tells guests of changes (RFC 6638), so that nothing that is written to it can be held."""

    @abstractmethod
    async def names(self) -> Sequence[tuple[str, str]]:
        """Names and ETags of all resources, sorted by name."""

    @abstractmethod
    async def read(self, names: Sequence[str]) -> Sequence[Resource | None]:
        """The resources in the order of the names; `None` for one that is not there."""

    @abstractmethod
    async def find(self, uid: str) -> Resource | None:
        """The resource that holds the event with this UID."""

    @abstractmethod
    async def write(self, name: str, data: bytes, expected: Resource | None) -> Resource | Changed:
        """Put the bytes there, if the resource is still as expected (`None`: absent). Read back before it is answered.

        :raises Refused: the store does not take these bytes or this name; nothing has changed.
        :raises TargetError: it is not known what came of it; look.
        """

    @abstractmethod
    async def remove(self, name: str, expected: Resource) -> Changed | None:
        """Take the resource away, if it is still as expected. `None`: it is gone.

        :raises TargetError: it is not known what came of it; look.
        """

    async def close(self) -> None:
        """Let go of connections."""
