"""The present, as a fold over the events: what a run, an action, a checkpoint, an approval … is now.

Views are what quick questions are answered from. They hold nothing that the events do not say (`projections.py` makes
them; a rebuild from the events gives the same rows).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from takeback.journal.events import Caller, OnFailure, RunMode, UndoOutcome
from takeback.journal.guarding import HoldKind
from takeback.journal.ids import ActionId, ApprovalId, CheckpointId, RollbackId, RunId
from takeback.journal.states import Compensation, Effect, Frozen, Reversibility, State

RunStatus = Literal["open", "stalled", "sealed", "finished", "failed", "rolled_back", "contained", "quarantined"]
ActionStatus = Literal["intended", "applied", "failed", "shadowed", "denied", "in_doubt", "not_applied"]


class View(Frozen):
    """A row of the present. `version` is the position of the last event folded into it: the value to compare and set."""

    id: str
    run_id: RunId
    version: int


class RunView(View):
    """A task of an agent. Changes only with `run.*` events, so that acts of one run do not invalidate each other."""

    owner: Caller
    goal: str
    status: RunStatus
    started_at: datetime
    steps: tuple[str, ...] = ()
    default: bool = False
    workspace: str = ""
    scope: tuple[str, ...] = ()
    parent_run_id: RunId | None = None
    forked_from: CheckpointId | None = None
    on_failure: OnFailure = "report"
    mode: RunMode = "act"
    ended_at: datetime | None = None
    outcome: str | None = None
    """`done`, `failed`, `abandoned` or `idle` once finished."""
    summary: str = ""
    why: str = ""
    """Why it is contained, stalled or failed."""
    sealed_by: RollbackId | None = None
    before_seal: RunStatus | None = None
    recovers: tuple[RunId, ...] = ()
    """Contained runs that do not hold this one back, because a person opened it to go on from them."""
    alone: bool = False
    """Contained by itself: its children, and what its client begins now, go on."""


class ActionView(View):
    """One call of a wrapped tool. `stands` says whether its effects are (as far as we know) in the world."""

    position: int
    """Of its intent: the order of actions."""
    tool: str
    status: ActionStatus
    at: datetime
    caller: Caller | None = None
    tool_version: str = ""
    concluded_at: datetime | None = None
    step: str | None = None
    parent_action_id: ActionId | None = None
    requested: dict[str, JsonValue] = {}
    argument_digest: str = ""
    effects: tuple[Effect, ...] = ()
    reversibility: Reversibility = "reversible"
    reason: str = ""
    memo: JsonValue = None
    outcome: JsonValue = None
    compensation: Compensation | None = None
    idempotency_key: str | None = None
    policy_rule: str = ""
    approval_id: ApprovalId | None = None
    locks: tuple[str, ...] = ()
    checkpoint_id: CheckpointId | None = None
    answer: dict[str, JsonValue] = {}
    summary: str = ""
    digest: str | None = None
    warnings: tuple[str, ...] = ()
    error_code: str = ""
    error: str = ""
    advice: str = ""
    stands: bool = False
    taken_back_by: RollbackId | None = None
    undo_outcome: UndoOutcome | None = None
    would: str = ""
    """Of a shadowed call: what the policy would have decided (`ActionShadowed.would`)."""
    together: tuple[ActionId, ...] = ()
    """With which it became visible in one step (`ActionIntended.together`)."""


class CheckpointView(View):
    """A position one can go back to or resume from."""

    position: int
    at: datetime
    action_id: ActionId | None = None
    label: str | None = None
    step: str | None = None
    output: JsonValue = None
    next_step: str | None = None
    notes: JsonValue = None
    pinned: bool = False


class ApprovalView(View):
    """A question to a person, and what came of it."""

    status: Literal["requested", "granted", "denied", "expired", "used"]
    subject: Literal["action", "plan"]
    tool: str
    caller: Caller
    argument_digest: str
    target_digest: str
    question: str
    reason: str
    requested_at: datetime
    expires_at: datetime
    by: str = ""
    lane: str = ""
    used_by: str = ""


class StepView(Frozen):
    """How far one step of a rollback has come."""

    index: int
    action_id: ActionId
    run_id: RunId
    phase: Literal["intended", "concluded"]
    position: int
    """Of the event that concluded (or, so far, intended) it."""
    effects: tuple[Effect, ...] = ()
    outcome: UndoOutcome | None = None
    why: str = ""
    attempt: int = 1


class RollbackView(View):
    """A rollback or redo: its plan, its steps, where it stands."""

    status: Literal["running", "complete", "partial", "failed"]
    kind: Literal["rollback", "redo", "restore_version", "resolve"]
    by: Caller
    plan: JsonValue
    plan_digest: str
    started_at: datetime
    position: int
    steps: tuple[StepView, ...] = ()
    redoes: RollbackId | None = None
    redone_by: RollbackId | None = None
    approval_id: ApprovalId | None = None
    ended_at: datetime | None = None
    retracted: tuple[ActionId, ...] = ()


class OpenItem(View):
    """Something a person has to settle (a conflict, a dead letter, a doubt)."""

    status: Literal["open", "resolved"]
    kind: Literal["conflict", "failed", "in_doubt", "irreversible", "denied"]
    action_id: ActionId
    rollback_id: RollbackId | None
    system: str
    object: str
    base: State | None
    ours: State | None
    theirs: State | None
    why: str
    next_step: str
    opened_at: datetime
    choice: str = ""
    resolved_by: str = ""
    resolved_at: datetime | None = None


class CollectedCall(View):
    """A call that was put down for later, in a run whose calls are planned or staged."""

    position: int
    status: Literal["collected", "begun", "carried_out", "stopped", "taken_back", "thrown_away"]
    """`begun`: it is being carried out with the others, or was when the process died."""
    at: datetime
    tool: str
    tool_version: str
    caller: Caller
    step: str | None = None
    idempotency_key: str | None = None
    requested: dict[str, JsonValue] = {}
    arguments: str
    argument_digest: str
    targets: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()
    reversibility: Reversibility = "reversible"
    reason: str = ""
    how: str = ""
    summary: str = ""
    unseen: str = ""
    builds_on: tuple[ActionId, ...] = ()
    counts: dict[str, int] = {}
    bound: str = ""
    policy_rule: str = ""
    decision: str = ""
    approval_id: ApprovalId | None = None
    begun_by: Caller | None = None
    to_finish_with: str = ""
    """Summary with which the run ends once all is carried out."""
    why: str = ""


class KeyView(View):
    """An idempotency key. `id` is `key_id(run, tool, key)`."""

    key: str
    tool: str
    action_id: ActionId
    argument_digest: str
    status: Literal["in_flight", "taken", "in_doubt", "free"]


class Hold(Frozen):
    """Something besides runs that must not act until a person decides."""

    kind: HoldKind
    name: str
    level: Literal["contained", "quarantined"]
    reason: str
    by: str
    since: datetime


class HoldsView(View):
    """All holds there are. One view, so that its version tells whether a look at them is still good."""

    status: Literal["open", "contained"]
    holds: tuple[Hold, ...] = ()

    def of(self, kind: str, name: str) -> Hold | None:
        """The hold of this kind and name."""
        return next((hold for hold in self.holds if hold.kind == kind and hold.name == name), None)

    def without(self, kind: str, name: str) -> tuple[Hold, ...]:
        """The others."""
        return tuple(hold for hold in self.holds if hold.kind != kind or hold.name != name)


def key_id(run_id: RunId, tool: str, key: str) -> str:
    """Where the view of an idempotency key is found. Keys are unique within run and tool."""
    return f"{run_id}/{tool}/{key}"


AnyView = (
    RunView | ActionView | CheckpointView | ApprovalView | RollbackView | OpenItem | KeyView | HoldsView | CollectedCall
)

VIEWS: dict[str, type[AnyView]] = {
    "run": RunView,
    "action": ActionView,
    "checkpoint": CheckpointView,
    "approval": ApprovalView,
    "rollback": RollbackView,
    "open_item": OpenItem,
    "key": KeyView,
    "holds": HoldsView,
    "collected": CollectedCall,
}
"""Name of each kind of view, as stored."""
