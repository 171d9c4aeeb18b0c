"""What a door hands to the engine: one request for a wrapped tool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from takeback.journal.events import Caller
from takeback.journal.ids import ActionId, ApprovalId, RollbackId, RunId, new_rollback_id
from takeback.journal.states import Effect, Reversibility

NO_RUN, NO_ACTION = RunId(""), ActionId("")
"""What a reading call belongs to: reads are not journaled."""

Progress = Callable[[float, float | None, str], Awaitable[None]]


ROLLBACK_IDS: Final[ContextVar[Callable[[], RollbackId]]] = ContextVar("rollback_ids", default=new_rollback_id)
"""Gives a rollback its id, at the last moment before it begins. A door may give one that it has written down, or refuse by an
`EngineError`: nothing has changed then."""


async def no_progress(done: float, total: float | None, words: str) -> None:
    """Tell nobody."""


Fits = Callable[[Sequence[Effect], Mapping[str, int], Reversibility], str]
"""Says how what a call would do now differs from what it was collected as; empty if it does not."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A collected call is what is made: nothing that comes through a door can be this."""

    call_id: ActionId
    fits: Fits
    approval_id: ApprovalId | None = None
    """The consent to the whole collection, already spent."""
    shown: bool = True
    """Whether a person saw what it will do; then what the policy asks about has been asked."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a wrapped tool."""

    tool: str
    arguments: dict[str, JsonValue]
    """Of the tool itself, as they came; the four common ones are the fields below."""
    caller: Caller
    run_id: str | None = None
    step: str | None = None
    idempotency_key: str | None = None
    dry_run: bool = False
    progress: Progress = field(default=no_progress)
    carried: Carried | None = None
