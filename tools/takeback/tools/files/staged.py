"""What the file system hands to the file tools: facts about files, and prepared changes. Values only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from takeback.journal.states import Effect, Reversibility

Kind = Literal["file", "directory", "symlink", "other"]


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that the file tools may touch."""

    name: str
    """Unique among the roots; a relative path may begin with it."""
    path: Path
    """Absolute, links resolved."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What the folder says of one object; links are not followed."""

    object: str
    name: str
    """The last component, escaped like object ids."""
    kind: Kind
    size: int
    """Bytes of content; of a link, of its target's name."""
    mode: int
    """Permission bits."""
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    nlink: int
    target: str | None = None
    """Where a symlink points, as it is written there."""

    @property
    def is_link(self) -> bool:
        """Whether this is a symlink."""
        return self.kind == "symlink"


async def nothing_to_discard() -> None:
    """For preparations that left nothing anywhere."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A prepared change that nobody else can see yet. Swap the effects, or call `discard`."""

    effects: tuple[Effect, ...]
    """What the act was asked about comes last."""
    blobs: Mapping[str, bytes]
    """Small images, to be made durable together with the intent."""
    discard: Callable[[], Awaitable[None]] = nothing_to_discard
    """Removes what was staged. May be called twice; harmless once the effects are swapped."""
    warnings: tuple[str, ...] = ()
    reversibility: Reversibility = "reversible"
    reason: str = ""
    """Why it is not `reversible`; empty if it is."""
    how: str = "Put the earlier state back."
