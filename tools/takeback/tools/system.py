"""The `TargetSystem` port: what holds objects, and the four verbs that undo, redo, diff, drift and recovery follow from.

A system promises:

- `look` changes nothing and follows no link out of the system.
- `swap` is compare-and-swap: each object is as `before` says, or nothing of it changes. What comes out of the swap is compared
  with `before` once more (somebody may have saved in between) and put back if it is not that. Where the system cannot do
  that in one step, the window is as narrow as it can be and `Swapped.warnings` says so.
- What `swap` brings out is kept, so that the reversed effects it returns can be swapped again: undo and redo are the same act.
- `swap` is safe to repeat after a crash: if the objects are already as `after` says, that is success (`already=True`).
- `merge` is pure in what it decides: it removes only our change and never loses somebody else's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import JsonValue

from takeback.journal.states import Effect, State, altered


class TargetError(Exception):
    """Base of what a target system refuses; `retry` says whether the same call may work a little later."""

    retry: bool = False
    code: str = "target_error"
    advice: str = ""

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        if advice:
            self.advice = advice


class Refused(TargetError):
    """The system cannot or must not do this (a path outside the roots, a device, a name that is not allowed)."""

    code = "refused"


class Unavailable(TargetError):
    """The system is out of reach for now (a lock, a connection, a full disk)."""

    retry = True
    code = "unavailable"


@dataclass(frozen=True, slots=True)
class Swapped:
    """The effects are in the world. `effects` are the same objects and digests, read back, with the references
    under which both sides can be found from now on: reversing and swapping them takes this swap back."""

    effects: tuple[Effect, ...]
    warnings: tuple[str, ...] = ()
    already: bool = False
    """Nothing had to be done: the world was as `after` says."""


@dataclass(frozen=True, slots=True)
class Drifted:
    """Nothing was changed, because an object is not as `before` said. `present` runs parallel to the effects given."""

    present: tuple[State, ...]
    why: str
    warnings: tuple[str, ...] = ()
    """What of `why` has to be told whatever comes next: where something lies that could be put nowhere else."""


@dataclass(frozen=True, slots=True)
class Alone:
    """One act of several was not made, or nobody can say so: `swap` it by itself, which finds out."""

    warnings: tuple[str, ...] = ()
    """What has to be told of the attempt all the same."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Our change can be removed alone. The effects to swap: `before` is what stands there now, `after` the merge."""

    effects: tuple[Effect, ...]
    blobs: tuple[tuple[str, bytes], ...] = ()
    """Small objects that the merged states need, to be stored with the step's intent."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Clash:
    """Our change and somebody else's meet at the same place. Nothing is to be touched."""

    why: str
    proposal: State | None = None
    """A merge with conflict markers, or a guess, for a person to look at. Never applied by itself."""


@dataclass(frozen=True, slots=True)
class Preview:
    """An effect for a person's eyes. Plain text; control characters are escaped by whoever shows it."""

    title: str
    """One line: "change notes.txt (12 lines added, 3 removed)"."""
    diff: str = ""
    """Unified diff or table, possibly cut (then the last line says so)."""


class TargetSystem(ABC):
    """Base class of every system that can look, swap, merge and describe."""

    name: str
    """Unique; stands in every effect."""

    side_by_side: ClassVar[bool] = False
    """Whether objects with different nearest ancestors can be undone at the same time, in any order."""

    def rewrites(self, object: str) -> bool:
        """Whether what is stored there may be spelled otherwise than it was handed in (servers normalise).

        Then `swap` makes sure that what it reads back is what was meant, and its effects tell how the object was left.
        """
        return False

    @abstractmethod
    async def look(self, objects: Sequence[str], like: Sequence[State | None] = ()) -> Sequence[State]:
        """The present states of the objects, in the same order.

        :param like: states to be compared with; measured in the same way, so that equal content gives equal digests.
        :raises TargetError: an object cannot be looked at.
        """

    @abstractmethod
    async def swap(self, effects: Sequence[Effect]) -> Swapped | Drifted:
        """Make all the effects true, in the order given, or none of them.

        :raises Unavailable: could not be tried, or failed on the way and was put back; nothing is changed.
        :raises TargetError: something else; the caller has to look at the world.
        """

    async def swap_each(self, acts: Sequence[Sequence[Effect]]) -> Sequence[Swapped | Alone]:
        """Make several acts that have nothing to do with one another, each as `swap` would: whole or not at all.

        Asked only of systems that are `side_by_side`. Override it where many at once cost less than one after the other.

        :returns: parallel to the acts; whatever did not go through smoothly is `Alone`, and nothing is raised for it.
        """
        made: list[Swapped | Alone] = []
        for effects in acts:
            try:
                result = await self.swap(effects)
            except Exception:  # whatever it was, the act is tried again by itself, and says it then
                result = None
            made.append(result if isinstance(result, Swapped) else Alone())
        return made

    @abstractmethod
    async def merge(self, wanted: Sequence[Effect], present: Sequence[State]) -> Merged | Clash:
        """Three-way merge of one action's wanted effects with what stands there.

        For each effect `before` is the base (as we left it), `after` what we want back, `present` what is there now.
        """

    @abstractmethod
    async def describe(self, effect: Effect) -> Preview:
        """Say what the effect does, for a person."""

    # -- with sensible defaults ---------------------------------------------------------------------------------------

    async def read(self, state: State) -> bytes | None:
        """The content of a state (stored or present), for a person who has to decide. `None`: it has no bytes."""
        return None

    async def write(self, object: str, content: bytes, present: State) -> Effect:
        """Prepare an effect that puts `content` there instead of `present` (a person's resolution of a conflict).

        :raises Refused: this system's objects cannot be written as bytes.
        """
        raise Refused(f"{self.name} objects cannot be replaced by text", advice="Choose theirs or ours.")

    async def beside(self, effect: Effect) -> Effect:
        """Prepare an effect that puts `effect.after` next to the object under a free name (documents that do not merge).

        :raises Refused: there is no "beside" in this system.
        """
        raise Refused(f"{self.name} has no place beside an object", advice="Choose theirs or ours.")

    async def newer(self, effects: Sequence[Effect], memos: Sequence[JsonValue]) -> Merged:
        """Effects that take an act back although messages about it went out: the same, so that what they put back counts as
        newer than what was told (`outbox.port.Corrector`). Decided by the arguments alone, so that a plan keeps its digest.

        :param memos: of those messages.
        """
        return Merged(tuple(effects))

    def at_once(self, acts: Sequence[Sequence[Effect]]) -> Sequence[Effect]:
        """The effects that make acts true in one step which follow each other on one object (the last effect of each)."""
        last = acts[0][-1]
        return (*acts[0][:-1], altered(last, after=acts[-1][-1].after))

    def each_of(self, acts: Sequence[Sequence[Effect]], made: Sequence[Effect]) -> Sequence[tuple[Effect, ...]]:
        """What each of these acts did, as far as it can be told from what a swap of `at_once` has made of all of them."""
        told = [list(act) for act in acts]
        told[0][:-1] = made[:-1]
        told[-1][-1] = altered(told[-1][-1], after=made[-1].after)
        return [tuple(act) for act in told]

    def ancestors(self, object: str) -> Sequence[str]:
        """Objects that this one lives in, nearest first. They are locked shared while this one is changed."""
        return ()

    def locked_as(self, object: str) -> str:
        """The object whose lock stands for this one's: a system that works on something as a whole names the whole."""
        return object

    async def happened(self, effects: Sequence[Effect]) -> bool | None:
        """After a crash: did the commit that was to make these effects true take place?

        `None` (the default): nothing but the objects' states can tell; where somebody has changed them since, a person decides.
        A system that others write to at the same time answers from what it knows of its transactions, because what it finds may
        be somebody's later change.

        :raises TargetError: it cannot be told; a person has to decide.
        """
        return None

    async def collect(self, keep: Collection[State], *, older_than_ns: int) -> int:
        """Destroy what the system keeps for states that are not in `keep` (its trash), if older; bytes freed."""
        return 0

    def pending(self, effects: Iterable[Effect]) -> int:
        """Bytes that the effects keep alive outside the object store, for quotas."""
        return 0
