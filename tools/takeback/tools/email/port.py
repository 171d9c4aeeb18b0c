"""The port of a mailbox: messages found by opaque keys, changed by compare-and-set only.

What a message is (its raw bytes) never changes. Where it lies does: folder, flags, and whatever else the store needs to put it
back exactly (`ref`). One verb, `change`, makes the four acts of mail out of two placements:

==========  =========  ========
before      after      act
==========  =========  ========
placed      placed     flag or move it
absent      placed     put it there (a draft, a delivery)
placed      absent     take it away (only what this program put there: mail of others goes to Trash)
==========  =========  ========

A store may give a message another key when it moves (IMAP: uidvalidity and uid of the new folder); the answer then says the new
one, and `look` finds a message under each key that it ever had.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import JsonValue

Flag = Literal["seen", "answered", "flagged", "draft", "passed", "deleted"]
Role = Literal["inbox", "sent", "drafts", "trash", ""]
INBOX: Final = "INBOX"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a message lies, and what it is."""

    folder: str
    flags: frozenset[str]
    """Flags by the store's own letters or words, so that unknown ones survive."""
    date_ns: int
    """When the store got it (INTERNALDATE)."""
    digest: str
    """Of the raw bytes."""
    size: int
    ref: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """What the store needs beyond that to put it back exactly. Compared like everything else."""


@dataclass(frozen=True, slots=True)
class Change:
    """One message, as it is expected to be and as it shall be."""

    key: str
    before: Placement | None
    after: Placement | None
    content: bytes | None = None
    """The raw bytes, if there is nothing before."""


@dataclass(frozen=True, slots=True)
class Made:
    """All changes are in the mailbox, durably."""

    keys: tuple[str, ...]
    already: bool = False
    """There was nothing to do."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Nothing was changed: a message is not as it was expected to be."""

    present: tuple[Placement | None, ...]
    why: str


@dataclass(frozen=True, slots=True)
class FolderInfo:
    """A folder of the mailbox."""

    name: str
    messages: int
    unseen: int


@dataclass(frozen=True, slots=True)
class Found:
    """A message in a list; nothing of it was read yet."""

    key: str
    folder: str
    flags: frozenset[str]
    date_ns: int
    size: int


class MailStore(ABC):
    """One mailbox with its folders. All errors are `TargetError`. Nothing that looks marks a message as seen."""

    local: bool
    """It lies on this machine."""

    @abstractmethod
    async def folders(self) -> Sequence[FolderInfo]:
        """All folders, INBOX first."""

    @abstractmethod
    async def listed(self, folder: str | None) -> Sequence[Found]:
        """Messages of a folder or of all, the latest first.

        :raises Refused: there is no such folder.
        """

    @abstractmethod
    async def head(self, keys: Sequence[str], limit: int) -> Sequence[bytes | None]:
        """The first `limit` raw bytes of each; `None` for one that is not there."""

    @abstractmethod
    async def raw(self, key: str, limit: int) -> tuple[Placement, bytes] | None:
        """A message with its bytes; `None` if it is not there.

        :raises Refused: it is larger than `limit`.
        """

    @abstractmethod
    async def look(self, keys: Sequence[str]) -> Sequence[Placement | None]:
        """Where the messages are; `None` for one that is not there."""

    @abstractmethod
    def marked(self, placement: Placement, *, add: Sequence[Flag] = (), remove: Sequence[Flag] = ()) -> Placement:
        """The placement with other flags. Pure."""

    @abstractmethod
    def moved(self, placement: Placement, folder: str) -> Placement:
        """The placement in another folder. Pure."""

    @abstractmethod
    def merged(self, base: Placement, wanted: Placement, present: Placement) -> Placement | str:
        """`present` without what leads from `wanted` to `base` (our change); or why that cannot be. Pure."""

    @abstractmethod
    def flag_names(self, flags: frozenset[str]) -> Sequence[Flag]:
        """The flags that have a name everywhere, in the order of `Flag`."""

    @abstractmethod
    def fresh(
        self, content: bytes, digest: str, folder: str, flags: Sequence[Flag], seed: str
    ) -> tuple[str, Placement]:
        """Key and placement of a message that is to be put there. The same seed gives the same key."""

    @abstractmethod
    async def change(self, changes: Sequence[Change]) -> Made | Moved:
        """Make all of them true, or none. Safe to repeat: what is as wanted already stays, and the rest is finished.

        Folders in `Placement.folder` that do not exist yet are made if they are those of a role (Sent, Drafts, Trash).

        :raises Unavailable: proven: nothing has changed.
        :raises TargetError: it is not known what came of it; look.
        """

    async def close(self) -> None:
        """Let go of connections."""
