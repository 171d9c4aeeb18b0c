"""What the parts of the engine share: the journal, the objects, the systems and tools, the locks, the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, Protocol, runtime_checkable

import anyio

from takeback.checkpoints.ballast import Ballast
from takeback.checkpoints.objects import ObjectStore
from takeback.checkpoints.store import FileObjectStore
from takeback.journal.events import BaseEvent, Caller, RunAccessed
from takeback.journal.ids import RunId
from takeback.journal.log import Journal, JournalFull, ViewKey
from takeback.journal.states import Effect
from takeback.journal.views import RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.locks import Locks
from takeback.server.engine.policy import Policy
from takeback.server.roles import Purpose, Role
from takeback.server.settings import Settings
from takeback.tools.contract import AnyTool
from takeback.tools.outbox.system import OutboxSystem
from takeback.tools.system import TargetError, TargetSystem


def utc_now() -> datetime:
    """The wall clock, for people; order never depends on it."""
    return datetime.now(UTC)


def rfc3339(at: datetime) -> str:
    """A time as it is answered: UTC, seconds with milliseconds, `Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@runtime_checkable
class Resolving(Protocol):
    """A system whose objects have short names, such as paths relative to a root."""

    def resolve(self, path: str) -> str:
        """The object's id."""
        ...


@runtime_checkable
class Displaying(Protocol):
    """A system whose objects have names for people, such as paths relative to a root."""

    def display(self, object: str) -> str:
        """The object as a person calls it."""
        ...


@runtime_checkable
class Calling(Protocol):
    """A system whose objects people know by what stands in them, such as the title of an event, and not by their ids."""

    async def called(self, effect: Effect) -> str:
        """The object as people know it, its id behind that."""
        ...


@dataclass(slots=True)
class Core:
    """Handed to each part of the engine."""

    settings: Settings
    journal: Journal
    objects: ObjectStore
    systems: Mapping[str, TargetSystem]
    outbox: OutboxSystem
    """One of the systems."""
    tools: Mapping[str, AnyTool]
    """By name, in the order in which they are listed."""
    locks: Locks
    """On objects."""
    run_locks: Locks
    """On runs: apart from those on objects, which are taken while a run's is held (two names may share a stripe)."""
    collections: Locks
    """On what runs have collected, by run: apart again, because both others are taken while one is held."""
    policy: Policy
    ballast: Ballast
    stage: Callable[[], Mapping[str, AnyTool]] = field(default=dict[str, AnyTool])
    """A new view for a run that stages: tools that show it what it has staged, by name."""
    staging: frozenset[str] = frozenset()
    """Names of those tools."""
    now: Callable[[], datetime] = field(default=utc_now)
    retry_pauses: tuple[float, ...] = (1.0, 4.0, 15.0)
    """Seconds between attempts of an undo step that is out of reach for a moment."""

    persons_door: bool = False
    """A person works through this process (the command line, the page): roles count. An agent has none."""
    _accessed: set[tuple[RunId, Purpose]] = field(default_factory=lambda: set[tuple[RunId, Purpose]]())
    """Runs of others whose use by this process is written down already."""

    asking: anyio.Lock = field(default_factory=anyio.Lock)
    """Held while it is decided whether a person has to be asked."""

    flooded: dict[RunId, datetime] = field(default_factory=lambda: dict[RunId, datetime]())
    """When each run last asked too much, and that was said."""

    nobody: ClassVar[Caller] = Caller(principal="unknown")

    async def record(
        self,
        events: Sequence[BaseEvent],
        *,
        blobs: Mapping[str, bytes] | None = None,
        expect: Mapping[ViewKey, int] | None = None,
    ) -> None:
        """Append what belongs to taking something back: on a full disk the ballast is given up for it.

        :raises JournalError: as `Journal.append`.
        """
        try:
            await self.journal.append(events, blobs=blobs, expect=expect)
        except JournalFull:
            if not self.ballast.release():
                raise
            await self.journal.append(events, blobs=blobs, expect=expect)

    def undoing(self) -> AbstractContextManager[None]:
        """What is stored inside serves an undo, and is not refused for a quota."""
        return self.objects.for_undo() if isinstance(self.objects, FileObjectStore) else nullcontext()

    def may_see(self, caller: Caller, run: RunView) -> bool:
        """Whether the caller may look at this run: its owner may, through whatever client, and whoever has a role for it."""
        return run.owner.principal == caller.principal or self.role(caller, "look") is not None

    def may_answer(self, caller: Caller, owner: str) -> bool:
        """Whether the caller may answer a principal's questions."""
        return owner == caller.principal or self.role(caller, "approve") is not None

    def role(self, caller: Caller, purpose: Purpose) -> Role | None:
        """The role that lets the caller do something with what is somebody else's; at a person's own door only."""
        return self.settings.roles.role_for(caller.principal, purpose) if self.persons_door else None

    async def allows(self, caller: Caller, owner: str, run_id: RunId, purpose: Purpose | None) -> bool:
        """Whether the caller may do something with what belongs to a principal. The use of a role is written down first.

        :param purpose: `None`: only the owner may.
        """
        if owner == caller.principal:
            return True
        role = None if purpose is None else self.role(caller, purpose)
        if role is None or purpose is None:
            return False
        if (run_id, purpose) not in self._accessed:
            event = RunAccessed(run_id=run_id, at=self.now(), by=caller.principal, role=role, purpose=purpose)
            await self.journal.append([event])
            self._accessed.add((run_id, purpose))
        return True

    async def run(self, caller: Caller, run_id: str, purpose: Purpose | None = None) -> RunView:
        """A run that is the caller's, or that their role lets them look at or decide about.

        :raises EngineError: unknown or foreign; both give the same answer.
        """
        run = await self.journal.get(RunView, RunId(run_id))
        if run is None or not await self.allows(caller, run.owner.principal, run.run_id, purpose):
            raise EngineError("not_found", f"There is no run {run_id!r}.", "Call list_runs to see your runs.")
        return run

    def display(self, system: str, object: str) -> str:
        """An object as people call it."""
        owner = self.systems.get(system)
        return owner.display(object) if isinstance(owner, Displaying) else object

    def resolve(self, object: str) -> str:
        """The object that a person or a model means: systems that know short names (paths) are asked in turn.

        The files come last, because any text is a path. What no system can resolve is taken as it stands.
        """
        for system in reversed(list(self.systems.values())):
            if isinstance(system, Resolving):
                try:
                    return system.resolve(object)
                except TargetError:
                    continue
        return object
