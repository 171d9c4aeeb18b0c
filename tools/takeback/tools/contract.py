"""The contract of a tool. The taxonomy is a type: pick the base class and you cannot forget the other half.

=====================  ==========================================  =================================================
base class             you write                                   it is taken back by
=====================  ==========================================  =================================================
`ReadTool`             `run`                                       nothing to take back
`ReversibleTool`       `prepare` → `Prepared`                      the target system: swap back, merge, compare-and-swap
`CompensableTool`      `capture`, `apply`, `compensate`            its own follow-up act
`IrreversibleTool`     `capture`, `apply`, `reason`                nothing: a person is asked first
=====================  ==========================================  =================================================

What passes from act to undo is a pydantic value, journaled before the act: undo may run in another process next week.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from takeback.checkpoints.objects import ObjectStore
from takeback.journal.events import Caller
from takeback.journal.ids import ActionId, RunId
from takeback.journal.states import Effect, Reversibility, State
from takeback.tools.recovery import Recovery
from takeback.tools.system import Drifted, Preview, TargetSystem, Unavailable


class Arguments(BaseModel):
    """Base of a tool's arguments: strict types, unknown fields refused. Field descriptions are read by models."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Result(BaseModel):
    """Base of what a tool answers under `result`."""

    model_config = ConfigDict(extra="forbid")


A = TypeVar("A", bound=Arguments)
R = TypeVar("R", bound=BaseModel)
M = TypeVar("M", bound=BaseModel)
O = TypeVar("O", bound=BaseModel)  # noqa: E741 -- outcome; the letters stand for the four verbs' values


class ToolError(Exception):
    """The call cannot be done, and the caller can mend it: one sentence of fact, one of advice. Nothing has changed."""

    def __init__(self, message: str, *, advice: str = "", code: str = "invalid") -> None:
        super().__init__(message)
        self.advice, self.code = advice, code


class Unknown:
    """The process died between intent and outcome: whether the act took effect is not known."""


UNKNOWN = Unknown()


EVERYTHING: Final = "*"
"""Noted in `CallContext.seen` instead of a digest: whatever lies in the object could be seen."""


@dataclass(frozen=True, slots=True)
class Target:
    """An object that a call is about: locked from preparation to conclusion, and held against stale reads."""

    system: str
    object: str
    expected_digest: str | None = None
    """The content digest the caller believes to be there (`expected_digest` of the call)."""


@dataclass(slots=True)
class CallContext:
    """What a tool may use while it works on one call."""

    run_id: RunId
    action_id: ActionId
    caller: Caller
    objects: ObjectStore
    progress: Callable[[float, float | None, str], Awaitable[None]]
    """Tell the caller how far it is: done, total, words."""
    seen: dict[tuple[str, str], str] = field(default_factory=lambda: dict[tuple[str, str], str]())
    """A read tool notes here which content digest of (system, object) it showed, or `EVERYTHING`."""
    targets: Sequence[Target] = ()
    """What the tool's own `targets` named, by the time it prepares; empty while nobody has asked."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What came of `Prepared.commit`."""

    effects: tuple[Effect, ...]
    """Read back from the world: the engine compares their digests with what was intended."""
    result: BaseModel
    summary: str
    """One plain sentence in the past tense: "Wrote notes.txt (1,204 bytes)."."""
    outcome: JsonValue = None
    digest: str | None = None
    """Content digest of the main object as it is now."""
    warnings: tuple[str, ...] = ()


class DriftedBeforeCommit(ToolError):
    """Somebody changed an object between preparation and commit; nothing was done."""

    def __init__(self, drift: Drifted) -> None:
        super().__init__(drift.why, advice="Read the object again, then repeat the call.", code="drifted")
        self.drift = drift


class Prepared(ABC):
    """Work that nobody else can see yet. Leave it without `commit` and it never was.

    An async context manager, entered by the engine. All attributes are set when `prepare` returns.
    """

    effects: tuple[Effect, ...]
    reversibility: Reversibility = "reversible"
    reason: str = ""
    """Why this very call is not `reversible`; empty if it is."""
    how: str = "Put the earlier state back."
    """How it will be taken back, one sentence."""
    counts: Mapping[str, int] = {}
    """How much it touches beyond what the effects tell one by one, for policies: `rows`, `tables`, …"""
    blobs: Mapping[str, bytes] = {}
    """Small before-images, made durable together with the intent."""
    memo: JsonValue = None

    @abstractmethod
    async def commit(self) -> Committed:
        """Make the effect visible in one atomic step and read it back.

        :raises ToolError: proven: nothing happened. Anything else raised here leaves the action in doubt.
        """

    async def discard(self) -> None:
        """Remove every trace of the preparation. Called when left without a commit; may be called twice."""

    async def preview(self) -> Sequence[Preview]:
        """What the commit would do, for a person."""
        return ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.discard()


class Tool(ABC, Generic[A]):
    """Base of all tools; derive from one of the four below."""

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    """At most two sentences and 300 characters: a model reads it in every chat."""
    version: ClassVar[str] = "1"
    arguments: ClassVar[type[Arguments]]
    result: ClassVar[type[BaseModel]]
    destructive: ClassVar[bool] = True
    """The hint of that name: may it remove or overwrite something?"""
    idempotent: ClassVar[bool] = False
    open_world: ClassVar[bool] = False
    timeout: ClassVar[float] = 120.0
    """Seconds for one call, without the time a person takes."""
    recovery: ClassVar[Recovery | None] = None
    """How far its calls can be taken back, for people; left out, what follows from the kind (`recovery.stated`)."""
    family: str = ""
    """Name of the family it was opened in; set by the registry."""

    async def targets(self, arguments: A, context: CallContext) -> Sequence[Target]:
        """The objects the call is about, resolved and checked (names, paths). Changes nothing.

        :raises ToolError: a name does not exist or is not allowed.
        """
        return ()


class ReadTool(Tool[A]):
    """Looks and changes nothing."""

    destructive = False
    idempotent = True

    @abstractmethod
    async def run(self, arguments: A, context: CallContext) -> BaseModel:
        """Answer. Note in `context.seen` what was shown, so that a later act on a changed object is refused as stale.

        :raises ToolError:
        """


class ReversibleTool(Tool[A]):
    """Changes objects of a target system that can swap states."""

    @abstractmethod
    async def prepare(self, arguments: A, context: CallContext) -> Prepared:
        """Do everything that nobody else can see, under the locks of `targets`.

        :raises ToolError:
        """


class MemoTool(Tool[A], Generic[A, M, O]):
    """What compensable and irreversible tools share: systems that cannot prepare."""

    memo: ClassVar[type[BaseModel]]
    """Type of the memo: everything the compensation will need, journaled before the act."""
    outcome: ClassVar[type[BaseModel]]
    """Type of what `apply` returns: answered under `result`, journaled, and handed to the compensation."""
    memo_version: ClassVar[int] = 1
    open_world = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        outcome: type[BaseModel] | None = cls.__dict__.get("outcome")
        if outcome is not None and "result" not in cls.__dict__:
            cls.result = outcome

    @abstractmethod
    async def capture(self, arguments: A, context: CallContext) -> M:
        """Look at what is there and write down what `apply` and the way back need. Changes nothing."""

    @abstractmethod
    async def apply(self, arguments: A, memo: M) -> O:
        """Act. Send idempotency keys derived from the memo, if the other side knows such keys.

        :raises ToolError: proven: nothing happened. Anything else leaves the action in doubt.
        """

    def describe(self, arguments: A, memo: M) -> Preview:
        """What `apply` will do, for a person. Made from the memo, never from a model's words."""
        return Preview(title=f"{self.title}: {arguments.model_dump_json(exclude_defaults=True)}")

    def summary(self, arguments: A, outcome: O) -> str:
        """One plain sentence in the past tense."""
        return f"{self.title}: done."

    async def happened(self, memo: M) -> O | Literal[False] | Unknown:
        """After a crash: did the act take effect? The outcome, `False` for proven no, or `UNKNOWN` (the default)."""
        return UNKNOWN

    @classmethod
    def migrate(cls, memo: JsonValue, version: int) -> JsonValue:
        """Bring a memo that an older version wrote up to `memo_version`."""
        return memo


class CompensableTool(MemoTool[A, M, O]):
    """Acts where nothing can be prepared, and knows the act that makes up for it."""

    how: ClassVar[str] = "Make up for it by a follow-up act."
    """What `compensate` does, one sentence for people: "Delete the note again."."""
    hold: ClassVar[float] = 0.0
    """Seconds that each act waits in the outbox before `apply` is called, by another process, with what the journal kept of the
    arguments and the memo. Inside them it is simply called off. 0: it is done at once, and a person is asked first."""

    @abstractmethod
    async def compensate(self, memo: M, outcome: O | Unknown) -> str:
        """Make up for the act, and say in one sentence what was done. Called again after a crash: be idempotent.

        :param outcome: `UNKNOWN` if the process died before it was recorded: look first.
        :raises Exception: it did not work; it is retried, then left open for a person. Never swallow an error here.
        """


class IrreversibleTool(MemoTool[A, M, O]):
    """Cannot be taken back. A person is asked first."""

    @abstractmethod
    def reason(self, arguments: A, memo: M) -> str:
        """Why it cannot be taken back, in the user's words."""


AnyTool = Tool[Any]


class SwapPrepared(Prepared):
    """The preparation of nearly every reversible tool: effects on one system, committed by its `swap`."""

    def __init__(
        self,
        system: TargetSystem,
        effects: Sequence[Effect],
        *,
        result: Callable[[Sequence[Effect]], BaseModel],
        summary: str | Callable[[Sequence[Effect]], str],
        main: int = -1,
        blobs: Mapping[str, bytes] | None = None,
        how: str = "Put the earlier state back.",
        reversibility: Reversibility = "reversible",
        reason: str = "",
        warnings: Sequence[str] = (),
        discard: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """
        :param result: makes the answer from the effects as they were read back.
        :param summary: what was done, true whenever it is read; or makes that from them, as `result` does.
        :param main: index of the effect whose content digest is answered.
        :param discard: removes what was staged, if the swap is never made.
        """
        self.system = system
        self.effects = tuple(effects)
        self.blobs = dict(blobs or {})
        self.how, self.reversibility, self.reason = how, reversibility, reason
        self._result, self._summary, self._main = result, summary, main
        self._warnings, self._discard = tuple(warnings), discard
        self.attempted = False

    async def commit(self) -> Committed:
        self.attempted = True  # from here on what was staged may be the only copy of the before-image
        try:
            swapped = await self.system.swap(self.effects)
        except Unavailable as error:
            self.attempted = False
            raise ToolError(str(error), advice=error.advice, code=error.code) from error
        if isinstance(swapped, Drifted):
            self.attempted = False
            raise DriftedBeforeCommit(swapped)
        return self.told(swapped.effects, swapped.warnings)

    def told(self, effects: tuple[Effect, ...], warnings: tuple[str, ...]) -> Committed:
        """What came of it, once its effects were read back."""
        after: State | None = effects[self._main].after if effects else None
        return Committed(
            effects=effects,
            result=self._result(effects),
            summary=self._summary if isinstance(self._summary, str) else self._summary(effects),
            digest=None if after is None else after.content,
            warnings=self._warnings + warnings,
        )

    async def discard(self) -> None:
        if not self.attempted and self._discard is not None:
            await self._discard()

    async def preview(self) -> Sequence[Preview]:
        return [await self.system.describe(effect) for effect in self.effects]
