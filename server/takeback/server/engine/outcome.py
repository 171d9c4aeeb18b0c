"""What became of one step of a rollback, and what it leaves open for a person: named, with the reason and the next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from takeback.journal.events import ConflictOpened, UndoOutcome
from takeback.journal.ids import ActionId, RollbackId, new_conflict_id
from takeback.journal.states import Effect, State
from takeback.server.engine.plan import PlanStep
from takeback.server.engine.settle import NEXT_IN_DOUBT
from takeback.tools.outbox.port import SYSTEM

GOOD: frozenset[str] = frozenset({"restored", "merged", "already_undone", "compensated"})
_KINDS = {"conflict": "conflict", "failed": "failed", "irreversible": "irreversible", "skipped": "conflict"}


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one step."""

    step: PlanStep
    outcome: UndoOutcome
    why: str = ""
    effects: tuple[Effect, ...] = ()
    open_item: ConflictOpened | None = None
    warnings: tuple[str, ...] = ()
    """What the system could not promise while it did this."""
    made_way: bool = False
    """It is not good, but its objects are as they were wanted: what lies below it need not wait."""

    @property
    def good(self) -> bool:
        """Nothing is left open by it."""
        return self.outcome in GOOD or (self.outcome == "skipped" and self.open_item is None)

    def warned(self, warnings: tuple[str, ...]) -> Done:
        """The same with more that has to be told."""
        return replace(self, warnings=(*warnings, *self.warnings)) if warnings else self


def left_open(
    step: PlanStep,
    outcome: UndoOutcome,
    why: str,
    kind: str = "",
    *,
    rollback_id: RollbackId,
    at: datetime,
    present: Sequence[State] | None = None,
) -> Done:
    """A step that leaves something open.

    :param kind: of the open item, where the outcome does not say it.
    :param present: what stands there now, parallel to `step.wanted`, where that is not what the plan saw.
    """
    present = present if present is not None else step.present
    index = _culprit(step, present)
    wanted = step.wanted[index] if step.wanted else None
    return Done(
        step,
        outcome,
        why,
        open_item=ConflictOpened.model_validate(
            {
                "run_id": step.run_id,
                "at": at,
                "conflict_id": new_conflict_id(),
                "kind": kind or _KINDS[outcome],
                "action_id": ActionId(step.action_id),
                "rollback_id": rollback_id,
                "system": wanted.system if wanted else step.tool,
                "object": wanted.object if wanted else step.object,
                "base": wanted.before if wanted else None,
                "ours": wanted.after if wanted else None,
                "theirs": present[index] if wanted and index < len(present) else None,
                "why": why,
                "next_step": _next_step(outcome, kind),
            }
        ),
    )


def _culprit(step: PlanStep, present: Sequence[State]) -> int:
    """Index of the effect that a person should look at: the first that is not as we left it."""
    pairs = list(enumerate(zip(step.wanted, present, strict=False)))
    foreign = [index for index, (wanted, now) in pairs if not now.same(wanted.before) and not now.same(wanted.after)]
    foreign.sort(key=lambda index: step.wanted[index].system == SYSTEM)  # of a message there is nothing to choose
    changed = [index for index, (wanted, now) in pairs if not now.same(wanted.before)]
    return next(iter([*foreign, *changed]), 0)


def _next_step(outcome: UndoOutcome, kind: str) -> str:
    if kind == "in_doubt":
        return NEXT_IN_DOUBT
    if kind == "denied":
        return (
            "If it is to go back all the same, consent to it (`takeback approvals`) or change the rule, then roll back "
            "again; else close this with resolve_conflict (theirs)."
        )
    match outcome:
        case "conflict":
            return "Compare the three versions, then call resolve_conflict with theirs, ours, content or beside."
        case "irreversible":
            return "Nothing can undo it: make up for it by hand, then close this with resolve_conflict (theirs)."
        case "skipped":
            return "Settle what it depends on first, then roll back again."
        case _:
            return "Remove the cause, then roll back again; or close this with resolve_conflict (theirs)."
