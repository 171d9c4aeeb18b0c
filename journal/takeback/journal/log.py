"""The `Journal` port: what the rest of takeback asks of whatever keeps its events.

Small, async and abstract, because there is more than one implementation: SQLite (`sqlite.py`), memory (`memory.py`), and
later PostgreSQL. What an implementation must promise:

- `append` is one transaction: all events, all views, all blobs, or nothing; on return it is durable. Callers that append at
  the same time may share a transaction, but each is judged by its own `expect` and fails alone.
- A cancelled `append` may or may not have happened; the caller asks the journal, never its own memory.
- Positions grow by commit order and a reader never sees position n before n-1.
- After a failed fsync nothing is acknowledged any more (`JournalBroken`) until the journal is opened anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeVar

from takeback.journal.events import BaseEvent, Recorded
from takeback.journal.ids import RunId
from takeback.journal.views import ActionView, AnyView

V = TypeVar("V", bound=AnyView)


Heard = Callable[[Sequence[Recorded]], None]


class JournalError(Exception):
    """Base of what a journal refuses. `advice` is what the reader can do about it."""

    advice: str = "Run `takeback doctor` to see what the journal says about itself."


class Stale(JournalError):
    """A view named in `expect` has another version: somebody else wrote in between. Read again and decide again."""

    advice = "Read the present state again and repeat the call."

    def __init__(self, kind: str, id: str, expected: int, found: int) -> None:
        super().__init__(f"{kind} {id} is at version {found}, not {expected}")
        self.kind, self.id, self.expected, self.found = kind, id, expected, found


class JournalBroken(JournalError):
    """A write or fsync failed: what was being written is unknown, so nothing more is acknowledged."""

    advice = "Free space or mend the disk, then start takeback again; it settles what was in flight."


class JournalFull(JournalError):
    """The disk is full; nothing was written. The same call succeeds once there is space."""

    advice = "Free space on the disk that holds the data directory, then repeat the call."


class JournalBusy(JournalError):
    """Another process kept the journal for itself for too long; nothing was written."""

    advice = "Repeat the call; if it happens again, look for a takeback process that hangs."


class KeyUnavailable(JournalError):
    """The chain's key cannot be had. It is never replaced silently, because then nothing could be verified any more."""

    advice = "Restore the key file, or name its place with TAKEBACK_KEY_FILE."


class ViewKey(NamedTuple):
    """Names one view: its kind (a key of `views.VIEWS`) and id."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that `verify` found wrong."""

    kind: str
    """`changed`, `missing`, `reordered`, `cut_off`, `rolled_back`, `unknown_key`, `projection`."""
    run_id: RunId | None
    position: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` looked at and found."""

    events: int
    runs: int
    erased: int
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        """True if nothing is wrong."""
        return not self.problems


class Journal(ABC):
    """See the module's docstring for the promises."""

    listeners: tuple[Heard, ...] = ()
    """Told, in order, what was appended through this object, once it is durable and before whoever appended it goes on. They
    must be quick, and not raise. What a dying process or another one wrote is not heard: whoever must miss nothing reads
    by position, and takes this for a bell."""

    # -- writing ----------------------------------------------------------------------------------------------------

    @abstractmethod
    async def append(
        self,
        events: Sequence[BaseEvent],
        *,
        blobs: Mapping[str, bytes] | None = None,
        expect: Mapping[ViewKey, int] | None = None,
    ) -> Sequence[Recorded]:
        """Write the events, fold them into the views and store the blobs, durably and in one transaction.

        :param blobs: small objects by name; one that exists already is left as it is.
        :param expect: for each view, the version it must have (0: must not exist); checked inside the transaction.
        :raises Stale: an expectation does not hold; nothing was written.
        :raises JournalBroken: the disk failed; the outcome is unknown.
        """

    @abstractmethod
    async def erase(self, positions: Sequence[int], *, by: str, why: str, at: datetime) -> None:
        """Destroy the payloads at these positions (a person's right), and record that. Views lose them too."""

    # -- reading ----------------------------------------------------------------------------------------------------

    @abstractmethod
    async def read(self, run_id: RunId | None = None, *, after: int = 0, limit: int = 1000) -> Sequence[Recorded]:
        """Events in order of position, those after position `after`; of one run, or of all."""

    @abstractmethod
    async def get(self, kind: type[V], id: str) -> V | None:
        """One view."""

    @abstractmethod
    async def find(
        self,
        kind: type[V],
        *,
        run_id: RunId | None = None,
        status: str | Sequence[str] | None = None,
        before: int | None = None,
        after: int | None = None,
        limit: int | None = None,
        oldest_first: bool = False,
    ) -> Sequence[V]:
        """Views of a kind, by the position at which they were first written: newest first unless said otherwise.

        :param before, after: only views first written before / after this position (both exclusive): the cursor.
        """

    @abstractmethod
    async def touching(
        self,
        system: str,
        objects: Iterable[str],
        *,
        nested: bool = False,
        after: int = 0,
        besides: Collection[str] = (),
    ) -> Sequence[ActionView]:
        """Actions with an effect on one of the objects, oldest first, with intents after position `after`.

        :param nested: also actions on objects below one of them, or on an ancestor of one of them (`/` separates).
        :param besides: ids of actions that are known already and left out.
        """

    @abstractmethod
    async def position(self) -> int:
        """Position of the newest event; 0 if there is none."""

    @abstractmethod
    async def heads(self, run_ids: Sequence[RunId] | None = None) -> Mapping[RunId, tuple[int, str]]:
        """Per run the seq and mac of its newest event: what anchors hold on to."""

    # -- small objects ----------------------------------------------------------------------------------------------

    @abstractmethod
    async def blob(self, name: str) -> bytes | None:
        """A small object by name."""

    @abstractmethod
    def blob_names(self) -> AsyncIterator[tuple[str, int]]:
        """Every small object: name and stored bytes."""

    @abstractmethod
    async def drop_blobs(self, names: Sequence[str]) -> int:
        """Forget small objects (the garbage collector's); bytes freed."""

    # -- care -------------------------------------------------------------------------------------------------------

    @abstractmethod
    async def verify(self) -> Verification:
        """Recompute the whole chain and compare it with the anchors."""

    @abstractmethod
    async def rebuild(self) -> int:
        """Throw the views away and fold them anew from the events; how many views there are."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what is being written and let go of the files."""
