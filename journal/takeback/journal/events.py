"""What can happen: one frozen type per event. Events are the only truth; every other table is a fold over them.

Events carry the caller's clock (`at`) for people; order is given by the journal's position, never by clocks.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from takeback.journal.collecting import CallCollected, CollectionBegun, CollectionEnded
from takeback.journal.event_base import BaseEvent as BaseEvent
from takeback.journal.event_base import Caller as Caller
from takeback.journal.guarding import ScopeContained as ScopeContained
from takeback.journal.guarding import ScopeReleased as ScopeReleased
from takeback.journal.ids import ActionId, ApprovalId, CheckpointId, ConflictId, RollbackId, RunId
from takeback.journal.recovering import RunReconciled as RunReconciled
from takeback.journal.states import Compensation, Effect, Frozen, Reversibility, State

RunMode = Literal["act", "shadow", "plan", "staged"]
OnFailure = Literal["report", "rollback"]
UndoOutcome = Literal[
    "restored", "merged", "already_undone", "compensated", "conflict", "failed", "irreversible", "skipped"
]


# --- runs ---------------------------------------------------------------------------------------------------------


class RunStarted(BaseEvent):
    """A task begins. `default` marks the run that calls without a run_id join."""

    type: Literal["run.started"] = "run.started"
    owner: Caller
    goal: str
    steps: tuple[str, ...] = ()
    default: bool = False
    workspace: str = ""
    scope: tuple[str, ...] = ()
    parent_run_id: RunId | None = None
    forked_from: CheckpointId | None = None
    on_failure: OnFailure = "report"
    mode: RunMode = "act"
    recovers: tuple[RunId, ...] = ()
    """A person opened it to go on from these, which stay contained: that does not hold back this one."""


class RunFinished(BaseEvent):
    """A task ends, in the caller's or the server's words."""

    type: Literal["run.finished"] = "run.finished"
    status: Literal["finished", "failed"]
    outcome: Literal["done", "failed", "abandoned", "idle"]
    summary: str = ""


class RunContained(BaseEvent):
    """From here on the run may read (`contained`) or do nothing (`quarantined`)."""

    type: Literal["run.contained"] = "run.contained"
    level: Literal["contained", "quarantined"] = "contained"
    reason: str
    by: str
    alone: bool = False
    """Only this run: its children, and what its client begins now, go on."""


class RunReleased(BaseEvent):
    """A person lets a contained run go on."""

    type: Literal["run.released"] = "run.released"
    by: str
    reason: str = ""


class RunSealed(BaseEvent):
    """A rollback is at work: new acts are refused until it is over."""

    type: Literal["run.sealed"] = "run.sealed"
    rollback_id: RollbackId


class RunReopened(BaseEvent):
    """The rollback is over; `status` is what the run is now."""

    type: Literal["run.reopened"] = "run.reopened"
    rollback_id: RollbackId
    status: Literal["open", "rolled_back", "finished", "failed", "stalled", "contained", "quarantined"]


class RunForked(BaseEvent):
    """Another run continues from a checkpoint of this one."""

    type: Literal["run.forked"] = "run.forked"
    fork_run_id: RunId
    checkpoint_id: CheckpointId


class RunStalled(BaseEvent):
    """Steps remain and nobody has moved for a day."""

    type: Literal["run.stalled"] = "run.stalled"
    reason: str
    over: bool = False
    """Somebody moves again: from here on the run is open."""


# --- actions ------------------------------------------------------------------------------------------------------


class ActionIntended(BaseEvent):
    """Durable before anything becomes visible: what is about to change, and how it will be taken back."""

    type: Literal["action.intended"] = "action.intended"
    action_id: ActionId
    tool: str
    tool_version: str
    caller: Caller
    step: str | None = None
    parent_action_id: ActionId | None = None
    requested: dict[str, JsonValue]
    """Arguments as they came, secrets replaced by salted digests."""
    argument_digest: str
    """Keyed digest of the validated arguments: what idempotency keys and approvals are bound to."""
    effects: tuple[Effect, ...]
    reversibility: Reversibility
    reason: str = ""
    """Why the call is not better reversible than that; empty for `reversible`."""
    memo: JsonValue = None
    """What a compensable tool needs to take the act back, written before the act."""
    compensation: Compensation
    idempotency_key: str | None = None
    policy_rule: str
    approval_id: ApprovalId | None = None
    locks: tuple[str, ...] = ()
    """Objects whose locks the action holds until it is concluded; recovery takes the same ones first."""
    counts: dict[str, int] = {}
    """How much it touches, where the effects do not tell one by one: rows, tables, recipients."""
    tool_schema: str = ""
    """Fingerprint of what the tool says it takes."""
    together: tuple[ActionId, ...] = ()
    """The actions whose effects become visible in the same step as this one's, in their order and itself among them: all or
    none of them. Each begins where the one before it ends. Empty for an action by itself."""


class ActionApplied(BaseEvent):
    """The effect is there, and was read back. Also the automatic checkpoint `checkpoint_id`."""

    type: Literal["action.applied"] = "action.applied"
    action_id: ActionId
    checkpoint_id: CheckpointId
    effects: tuple[Effect, ...]
    """As observed: same objects and digests as intended, with the references that only the act itself could know."""
    outcome: JsonValue = None
    """What a compensable tool's act returned; handed to its compensation."""
    answer: dict[str, JsonValue] = {}
    """What the caller was told under `result`; replayed for a repeated idempotency key. Secrets redacted."""
    summary: str = ""
    digest: str | None = None
    warnings: tuple[str, ...] = ()


class ActionFailed(BaseEvent):
    """Proven: nothing happened."""

    type: Literal["action.failed"] = "action.failed"
    action_id: ActionId
    tool: str
    code: str
    message: str
    advice: str = ""
    step: str | None = None
    requested: dict[str, JsonValue] = {}
    """As in `ActionIntended`, for a call that failed before its intent was written."""
    intended: bool = True
    """False if the call failed before its intent was written (then this is the only event of the action)."""


class ActionShadowed(BaseEvent):
    """A dry run: what would have happened. Nothing did."""

    type: Literal["action.shadowed"] = "action.shadowed"
    action_id: ActionId
    tool: str
    requested: dict[str, JsonValue]
    effects: tuple[Effect, ...]
    reversibility: Reversibility
    reason: str = ""
    summary: str = ""
    step: str | None = None
    how: str = ""
    """How it would have been taken back."""
    policy_rule: str = ""
    would: str = ""
    """What the policy would have decided had it been meant: allow, ask, deny; shadow if a rule wants it only shown."""
    counts: dict[str, int] = {}
    """As in `ActionIntended`."""


class ActionDenied(BaseEvent):
    """Policy or containment said no; nothing happened."""

    type: Literal["action.denied"] = "action.denied"
    action_id: ActionId
    tool: str
    requested: dict[str, JsonValue]
    policy_rule: str
    reason: str
    step: str | None = None


class ActionInDoubt(BaseEvent):
    """Nobody knows yet whether the action took effect. It stays open until somebody settles it."""

    type: Literal["action.in_doubt"] = "action.in_doubt"
    action_id: ActionId
    reason: str


class ActionSettled(BaseEvent):
    """The doubt is over: somebody looked at the world."""

    type: Literal["action.settled"] = "action.settled"
    action_id: ActionId
    outcome: Literal["applied", "not_applied"]
    by: str
    why: str
    checkpoint_id: CheckpointId | None = None
    effects: tuple[Effect, ...] = ()
    returned: JsonValue = None
    """What a compensable tool found its act to have returned."""


class CheckpointNamed(BaseEvent):
    """A position somebody wants to find again."""

    type: Literal["checkpoint.named"] = "checkpoint.named"
    checkpoint_id: CheckpointId
    label: str
    step: str | None = None
    output: JsonValue = None
    next_step: str | None = None
    notes: JsonValue = None
    pinned: bool = False


# --- approvals ----------------------------------------------------------------------------------------------------


class ApprovalRequested(BaseEvent):
    """A person is asked about one exact action or plan."""

    type: Literal["approval.requested"] = "approval.requested"
    approval_id: ApprovalId
    subject: Literal["action", "plan"]
    tool: str
    caller: Caller
    argument_digest: str
    target_digest: str
    """Digest over the effects (or the plan) that were shown; consent is void when it differs."""
    question: str
    """Rendered by the server from the effects; control characters escaped."""
    reason: str
    expires_at: datetime


class ApprovalGranted(BaseEvent):
    """A person consents. Spent by its first use, whatever comes of it."""

    type: Literal["approval.granted"] = "approval.granted"
    approval_id: ApprovalId
    by: str
    lane: str


class ApprovalDenied(BaseEvent):
    """A person refuses."""

    type: Literal["approval.denied"] = "approval.denied"
    approval_id: ApprovalId
    by: str
    lane: str


class ApprovalExpired(BaseEvent):
    """Nobody answered in time, or what was asked about changed meanwhile."""

    type: Literal["approval.expired"] = "approval.expired"
    approval_id: ApprovalId
    why: str = "time"


class ApprovalUsed(BaseEvent):
    """The consent is spent. In the same transaction as the intent it allows."""

    type: Literal["approval.used"] = "approval.used"
    approval_id: ApprovalId
    used_by: str
    """The action or rollback that spent it."""


# --- taking back --------------------------------------------------------------------------------------------------


class RollbackStarted(BaseEvent):
    """A rollback begins; the plan it follows is stored with it."""

    type: Literal["rollback.started"] = "rollback.started"
    rollback_id: RollbackId
    kind: Literal["rollback", "redo", "restore_version", "resolve"]
    by: Caller
    plan: JsonValue
    plan_digest: str
    redoes: RollbackId | None = None
    approval_id: ApprovalId | None = None


class RollbackStep(BaseEvent):
    """One step, written before (`intended`) and after (`concluded`) it touches the world.

    A step takes back the action `action_id` (or, in a redo, brings it back). `effects` are what the step itself does to
    the world, so that a redo is a rollback of them.
    """

    type: Literal["rollback.step"] = "rollback.step"
    rollback_id: RollbackId
    index: int
    phase: Literal["intended", "concluded"]
    action_id: ActionId
    effects: tuple[Effect, ...] = ()
    outcome: UndoOutcome | None = None
    why: str = ""
    attempt: int = 1
    stands: bool | None = None
    """After a concluded step: does the action's effect stand in the world? `None`: as before."""


class RollbackFinished(BaseEvent):
    """The rollback is over. `partial` whenever a single step left something open."""

    type: Literal["rollback.finished"] = "rollback.finished"
    rollback_id: RollbackId
    status: Literal["complete", "partial", "failed"]
    retracted: tuple[ActionId, ...] = ()


class ConflictOpened(BaseEvent):
    """Something a person has to settle, with everything they need. Stays open until `conflict.resolved`."""

    type: Literal["conflict.opened"] = "conflict.opened"
    conflict_id: ConflictId
    kind: Literal["conflict", "failed", "in_doubt", "irreversible", "denied"]
    action_id: ActionId
    rollback_id: RollbackId | None = None
    system: str
    object: str
    base: State | None = None
    """As the action left it."""
    ours: State | None = None
    """What the undo wanted to put there."""
    theirs: State | None = None
    """What stands there now."""
    why: str
    next_step: str


class ConflictResolved(BaseEvent):
    """A person (or a later look at the world) settled it."""

    type: Literal["conflict.resolved"] = "conflict.resolved"
    conflict_id: ConflictId
    choice: Literal["theirs", "ours", "content", "beside", "settled"]
    by: str
    why: str = ""
    rollback_id: RollbackId | None = None


# --- watching, mail, notices, erasure -----------------------------------------------------------------------------


class TriggerFired(BaseEvent):
    """Something looked wrong; what was seen, and what was done about it."""

    type: Literal["trigger.fired"] = "trigger.fired"
    trigger: str
    answer: Literal["warn", "read_only", "contain", "quarantine", "rollback"]
    evidence: dict[str, JsonValue]
    action_id: ActionId | None = None


class MailMoved(BaseEvent):
    """A message in the outbox changed its state."""

    type: Literal["mail.held", "mail.sending", "mail.sent", "mail.unknown", "mail.cancelled", "mail.late"]
    action_id: ActionId
    message_id: str
    release_at: datetime | None = None
    detail: str = ""
    rest_of: str = ""
    """The message of whose recipients these are the ones that it was not taken for, if that is what it is."""


class NoticeSent(BaseEvent):
    """A person was told."""

    type: Literal["notice.sent"] = "notice.sent"
    about: str
    channel: str


class NoticeFailed(BaseEvent):
    """A person could not be told."""

    type: Literal["notice.failed"] = "notice.failed"
    about: str
    channel: str
    why: str


class RunAccessed(BaseEvent):
    """Somebody looked at a run of another principal, or decided about it, because their role lets them."""

    type: Literal["run.accessed"] = "run.accessed"
    by: str
    role: Literal["auditor", "approver", "operator"]
    purpose: Literal["look", "decide", "approve"]


class Erased(BaseEvent):
    """The payloads of these positions were erased on a person's demand; the chain still verifies."""

    type: Literal["erased"] = "erased"
    positions: tuple[int, ...]
    by: str
    why: str
    remains: dict[str, JsonValue] = {}
    """By position: the event without anything that somebody said or did, so that a rebuild gives the same views."""


Event = Annotated[
    RunStarted
    | RunFinished
    | RunContained
    | RunReleased
    | RunSealed
    | RunReopened
    | RunForked
    | RunStalled
    | ActionIntended
    | ActionApplied
    | ActionFailed
    | ActionShadowed
    | ActionDenied
    | ActionInDoubt
    | ActionSettled
    | CheckpointNamed
    | ApprovalRequested
    | ApprovalGranted
    | ApprovalDenied
    | ApprovalExpired
    | ApprovalUsed
    | RollbackStarted
    | RollbackStep
    | RollbackFinished
    | ConflictOpened
    | ConflictResolved
    | TriggerFired
    | MailMoved
    | NoticeSent
    | NoticeFailed
    | RunAccessed
    | Erased
    | ScopeContained
    | ScopeReleased
    | CallCollected
    | CollectionBegun
    | CollectionEnded
    | RunReconciled,
    Field(discriminator="type"),
]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
"""Reads and writes any event as JSON."""


class Recorded(Frozen):
    """An event with its place in the journal."""

    position: int
    """Place in the whole journal, from 1, with no gaps among committed events of one journal."""
    seq: int
    """Place within the run, from 1."""
    mac: str
    """HMAC over this event and its predecessor in the run, hex."""
    key_id: str
    event: Event | None
    """`None` once the payload has been erased."""
    type: str
    run_id: RunId
