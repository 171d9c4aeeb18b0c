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

A message keeps its key for ever, wherever it goes. Where a server numbers it anew with every move, the store remembers which
number belongs to which key, durably and before it moves anything, and `look` finds it there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
    """Of the raw bytes, or of so much of them that no other message has it."""
    size: int
    ref: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """What the store needs beyond that to put it back exactly. Compared like everything else."""

    @property
    def unsure(self) -> str:
        """Why nobody can tell where it lies, as half a sentence. Nothing can be done with it then. Empty: it lies there."""
        return str(self.ref.get("unsure", ""))


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
    """Where each message is now: its key, or the one that a store would give it if it saw it there for the first time."""
    already: bool = False
    """There was nothing to do."""
    warnings: tuple[str, ...] = ()
    """What the store could not promise."""


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


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for; all of it has to hold. Texts are parts, in upper or lower case."""

    query: str = ""
    """In sender, recipients, subject or text."""
    sender: str = ""
    to: str = ""
    subject: str = ""
    since_ns: int | None = None
    before_ns: int | None = None
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """Messages that may fit, the latest first; whoever asked looks at them once more."""

    found: tuple[Found, ...]
    note: str = ""
    """What is to be known about it."""
    searched: bool = False
    """`Wanted.query` was looked for in the whole text already."""


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

    async def search(self, folder: str | None, wanted: Wanted) -> Listing:
        """Messages of a folder or of all that may fit, narrowed as far as the store can without reading them.

        :raises Refused: there is no such folder, or it cannot be searched for that.
        """
        return Listing(tuple(await self.listed(folder)))

    @abstractmethod
    async def roles(self) -> Mapping[Role, str]:
        """What the folders for sent, drafted and deleted mail are called here; they need not be there yet."""

    async def holds(self, folder: str, message_id: str) -> bool:
        """Whether a message with that Message-ID lies in the folder."""
        from takeback.tools.email.reading import head_of

        if folder not in {each.name for each in await self.folders()}:
            return False
        found = await self.listed(folder)
        for start in range(0, len(found), 100):
            heads = await self.head([each.key for each in found[start : start + 100]], 64 * 1024)
            if any(head is not None and head_of(head).message_id == message_id for head in heads):
                return True
        return False

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
