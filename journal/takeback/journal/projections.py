"""The fold: what each event makes of the views. Pure, and the same for every implementation of the journal.

`fold` is given an event and a way to look at the present views, and answers with the views as they are afterwards. An
event about something that is not there changes nothing: a journal of which parts are missing still folds, and `verify` is
what tells that something is wrong.

A rollback of ten thousand steps must not rewrite ten thousand steps with each of them, so a rollback is kept in parts: the
bare `RollbackView`, one `PlanPart`, and one `StepPart` per step. Readers get them put together by `whole`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar, cast

from pydantic import JsonValue

from takeback.journal import events as e
from takeback.journal.events import BaseEvent, Recorded
from takeback.journal.ids import ActionId, RollbackId
from takeback.journal.views import (
    VIEWS,
    ActionView,
    AnyView,
    ApprovalView,
    CheckpointView,
    KeyView,
    OpenItem,
    RollbackView,
    RunStatus,
    RunView,
    StepView,
    View,
    key_id,
)


class PlanPart(View):
    """The plan of the rollback `id`: written once."""

    plan: JsonValue


class StepPart(View):
    """One step of a rollback."""

    rollback_id: RollbackId
    step: StepView


Folded = AnyView | PlanPart | StepPart

KINDS: Final[dict[str, type[Folded]]] = {**VIEWS, "plan": PlanPart, "step": StepPart}
"""Every kind that is stored: the views of the port, and the parts of rollbacks."""

NAMES: Final[dict[type[View], str]] = {view: name for name, view in KINDS.items()}

Lookup = Callable[[str, str], Folded | None]
"""The present view of a kind and id."""

LIVE: Final = frozenset(
    [
        "open",
        "sealed",
        "stalled",
        "contained",
        "quarantined",
        "intended",
        "in_doubt",
        "in_flight",
        "requested",
        "granted",
        "running",
    ]
)
"""Statuses from which something still has to happen: few at any time, so they have an index of their own."""


class Change(NamedTuple):
    """One view as it is after an event."""

    kind: str
    id: str
    view: Folded


V = TypeVar("V", bound=Folded)


def step_id(rollback_id: str, index: int) -> str:
    """Where the part of a step is found; sorts by index."""
    return f"{rollback_id}/{index:08d}"


def status_of(view: Folded) -> str | None:
    """The status that `find` selects by; checkpoints have none."""
    status = getattr(view, "status", None)
    return None if status is None else str(status)


def whole(bare: RollbackView, plan: PlanPart | None, steps: Iterable[StepPart]) -> RollbackView:
    """A rollback put together from its parts."""
    return bare.model_copy(
        update={"plan": plan.plan if plan is not None else None, "steps": tuple(part.step for part in steps)}
    )


def touches(recorded: Recorded) -> Sequence[tuple[str, str]]:
    """System and object of everything that an event says its action changes: what `touching` finds it by."""
    event = recorded.event
    if isinstance(event, e.ActionIntended | e.ActionApplied | e.ActionSettled):
        return tuple(dict.fromkeys((effect.system, effect.object) for effect in event.effects))
    return ()


def fold(recorded: Recorded, get: Lookup) -> list[Change]:
    """The views that change with this event, as they are after it. `recorded.event` must be there (see `erasure.py`)."""
    event = recorded.event
    if event is None:
        return []
    handler = _HANDLERS.get(type(event))
    if handler is None:
        return []
    return handler(event, recorded.position, get)


def _known(get: Lookup, kind: type[V], id: str) -> V | None:
    return cast("V | None", get(NAMES[kind], id))


def _next(view: Folded, position: int, **update: object) -> Change:
    changed = view.model_copy(update={**update, "version": position})
    return Change(NAMES[type(view)], view.id, changed)


# --- runs ---------------------------------------------------------------------------------------------------------


def _run_started(event: e.RunStarted, position: int, get: Lookup) -> list[Change]:
    view = RunView(
        id=event.run_id,
        run_id=event.run_id,
        version=position,
        owner=event.owner,
        goal=event.goal,
        status="open",
        started_at=event.at,
        steps=event.steps,
        default=event.default,
        workspace=event.workspace,
        scope=event.scope,
        parent_run_id=event.parent_run_id,
        forked_from=event.forked_from,
        on_failure=event.on_failure,
        mode=event.mode,
    )
    return [Change("run", event.run_id, view)]


def _run_changed(event: BaseEvent, position: int, get: Lookup) -> list[Change]:
    run = _known(get, RunView, event.run_id)
    if run is None:
        return []
    match event:
        case e.RunFinished():
            status: RunStatus = "failed" if event.outcome == "failed" else "finished"
            return [
                _next(run, position, status=status, ended_at=event.at, outcome=event.outcome, summary=event.summary)
            ]
        case e.RunContained():
            return [_next(run, position, status=event.level, why=event.reason)]
        case e.RunReleased():
            return [_next(run, position, status=_released(run), why=event.reason)]
        case e.RunSealed():
            return [
                _next(run, position, status="sealed", sealed_by=event.rollback_id, before_seal=_unsealed(run)),
            ]
        case e.RunReopened():
            again: dict[str, object] = {"ended_at": None, "outcome": None} if event.status == "open" else {}
            return [_next(run, position, status=event.status, sealed_by=None, before_seal=None, **again)]
        case e.RunStalled():
            return [_next(run, position, status="stalled", why=event.reason)]
        case _:
            return [_next(run, position)]


def _unsealed(run: RunView) -> RunStatus | None:
    return run.before_seal if run.status == "sealed" else run.status


def _released(run: RunView) -> RunStatus:
    if run.sealed_by is not None:
        return "sealed"
    if run.ended_at is None:
        return "open"
    return "failed" if run.outcome == "failed" else "finished"


# --- actions ------------------------------------------------------------------------------------------------------


def _intended(event: e.ActionIntended, position: int, get: Lookup) -> list[Change]:
    action = ActionView(
        id=event.action_id,
        run_id=event.run_id,
        version=position,
        position=position,
        tool=event.tool,
        status="intended",
        at=event.at,
        caller=event.caller,
        tool_version=event.tool_version,
        step=event.step,
        parent_action_id=event.parent_action_id,
        requested=event.requested,
        argument_digest=event.argument_digest,
        effects=event.effects,
        reversibility=event.reversibility,
        reason=event.reason,
        memo=event.memo,
        compensation=event.compensation,
        idempotency_key=event.idempotency_key,
        policy_rule=event.policy_rule,
        approval_id=event.approval_id,
        locks=event.locks,
    )
    changes = [Change("action", event.action_id, action)]
    if event.idempotency_key is not None:
        id = key_id(event.run_id, event.tool, event.idempotency_key)
        key = KeyView(
            id=id,
            run_id=event.run_id,
            version=position,
            key=event.idempotency_key,
            tool=event.tool,
            action_id=event.action_id,
            argument_digest=event.argument_digest,
            status="in_flight",
        )
        changes.append(Change("key", id, key))
    return changes


def _applied(event: e.ActionApplied, position: int, get: Lookup) -> list[Change]:
    action = _known(get, ActionView, event.action_id)
    if action is None:
        return []
    applied = _next(
        action,
        position,
        status="applied",
        stands=True,
        concluded_at=event.at,
        effects=event.effects,
        checkpoint_id=event.checkpoint_id,
        outcome=event.outcome,
        answer=event.answer,
        summary=event.summary,
        digest=event.digest,
        warnings=event.warnings,
    )
    output: JsonValue = dict(event.answer) or None
    return [
        applied,
        _automatic(event.checkpoint_id, event, action, position, output),
        *_key(action, position, get, "taken"),
    ]


def _automatic(checkpoint_id: str, event: BaseEvent, action: ActionView, position: int, output: JsonValue) -> Change:
    view = CheckpointView(
        id=checkpoint_id,
        run_id=event.run_id,
        version=position,
        position=position,
        at=event.at,
        action_id=ActionId(action.id),
        step=action.step,
        output=output,
    )
    return Change("checkpoint", checkpoint_id, view)


def _key(action: ActionView, position: int, get: Lookup, status: str) -> list[Change]:
    if action.idempotency_key is None:
        return []
    key = _known(get, KeyView, key_id(action.run_id, action.tool, action.idempotency_key))
    if key is None or key.action_id != action.id:
        return []  # the key was free in between, and another action uses it now
    return [_next(key, position, status=status)]


def _failed(event: e.ActionFailed, position: int, get: Lookup) -> list[Change]:
    told: dict[str, object] = {
        "status": "failed",
        "concluded_at": event.at,
        "error_code": event.code,
        "error": event.message,
        "advice": event.advice,
    }
    action = _known(get, ActionView, event.action_id)
    if action is not None:
        return [_next(action, position, **told), *_key(action, position, get, "free")]
    action = _unintended(event, event.action_id, position, event.tool, event.step)
    return [_next(action, position, **told)]


def _unintended(event: BaseEvent, action_id: ActionId, position: int, tool: str, step: str | None) -> ActionView:
    return ActionView(
        id=action_id,
        run_id=event.run_id,
        version=position,
        position=position,
        tool=tool,
        status="failed",
        at=event.at,
        concluded_at=event.at,
        step=step,
    )


def _shadowed(event: e.ActionShadowed, position: int, get: Lookup) -> list[Change]:
    action = _unintended(event, event.action_id, position, event.tool, event.step)
    return [
        _next(
            action,
            position,
            status="shadowed",
            requested=event.requested,
            effects=event.effects,
            reversibility=event.reversibility,
            reason=event.reason,
            summary=event.summary,
        )
    ]


def _denied(event: e.ActionDenied, position: int, get: Lookup) -> list[Change]:
    action = _unintended(event, event.action_id, position, event.tool, event.step)
    return [
        _next(
            action,
            position,
            status="denied",
            requested=event.requested,
            policy_rule=event.policy_rule,
            error_code="denied",
            error=event.reason,
        )
    ]


def _in_doubt(event: e.ActionInDoubt, position: int, get: Lookup) -> list[Change]:
    action = _known(get, ActionView, event.action_id)
    if action is None:
        return []
    doubt = _next(action, position, status="in_doubt", concluded_at=event.at, error_code="in_doubt", error=event.reason)
    return [doubt, *_key(action, position, get, "in_doubt")]


def _settled(event: e.ActionSettled, position: int, get: Lookup) -> list[Change]:
    action = _known(get, ActionView, event.action_id)
    if action is None:
        return []
    if event.outcome == "not_applied":
        settled = _next(action, position, status="not_applied", stands=False, concluded_at=event.at)
        return [settled, *_key(action, position, get, "free")]
    settled = _next(
        action,
        position,
        status="applied",
        stands=True,
        concluded_at=event.at,
        effects=event.effects or action.effects,
        outcome=action.outcome if event.returned is None else event.returned,
        checkpoint_id=event.checkpoint_id or action.checkpoint_id,
        error_code="",
        error="",
    )
    changes = [settled, *_key(action, position, get, "taken")]
    if event.checkpoint_id is not None:
        changes.append(_automatic(event.checkpoint_id, event, action, position, None))
    return changes


def _checkpoint(event: e.CheckpointNamed, position: int, get: Lookup) -> list[Change]:
    view = CheckpointView(
        id=event.checkpoint_id,
        run_id=event.run_id,
        version=position,
        position=position,
        at=event.at,
        label=event.label,
        step=event.step,
        output=event.output,
        next_step=event.next_step,
        notes=event.notes,
        pinned=event.pinned,
    )
    return [Change("checkpoint", event.checkpoint_id, view)]


# --- approvals ----------------------------------------------------------------------------------------------------


def _approval_requested(event: e.ApprovalRequested, position: int, get: Lookup) -> list[Change]:
    view = ApprovalView(
        id=event.approval_id,
        run_id=event.run_id,
        version=position,
        status="requested",
        subject=event.subject,
        tool=event.tool,
        caller=event.caller,
        argument_digest=event.argument_digest,
        target_digest=event.target_digest,
        question=event.question,
        reason=event.reason,
        requested_at=event.at,
        expires_at=event.expires_at,
    )
    return [Change("approval", event.approval_id, view)]


_Answer = e.ApprovalGranted | e.ApprovalDenied | e.ApprovalExpired | e.ApprovalUsed


def _approval_answered(event: _Answer, position: int, get: Lookup) -> list[Change]:
    approval = _known(get, ApprovalView, event.approval_id)
    if approval is None:
        return []
    match event:
        case e.ApprovalGranted():
            return [_next(approval, position, status="granted", by=event.by, lane=event.lane)]
        case e.ApprovalDenied():
            return [_next(approval, position, status="denied", by=event.by, lane=event.lane)]
        case e.ApprovalExpired():
            return [_next(approval, position, status="expired")]
        case e.ApprovalUsed():
            return [_next(approval, position, status="used", used_by=event.used_by)]


# --- taking back --------------------------------------------------------------------------------------------------


def _rollback_started(event: e.RollbackStarted, position: int, get: Lookup) -> list[Change]:
    view = RollbackView(
        id=event.rollback_id,
        run_id=event.run_id,
        version=position,
        status="running",
        kind=event.kind,
        by=event.by,
        plan=None,
        plan_digest=event.plan_digest,
        started_at=event.at,
        position=position,
        redoes=event.redoes,
        approval_id=event.approval_id,
    )
    plan = PlanPart(id=event.rollback_id, run_id=event.run_id, version=position, plan=event.plan)
    return [Change("rollback", event.rollback_id, view), Change("plan", event.rollback_id, plan)]


def _rollback_step(event: e.RollbackStep, position: int, get: Lookup) -> list[Change]:
    step = StepView(
        index=event.index,
        action_id=event.action_id,
        run_id=event.run_id,
        phase=event.phase,
        position=position,
        effects=event.effects,
        outcome=event.outcome,
        why=event.why,
        attempt=event.attempt,
    )
    id = step_id(event.rollback_id, event.index)
    part = StepPart(id=id, run_id=event.run_id, version=position, rollback_id=event.rollback_id, step=step)
    changes = [Change("step", id, part)]
    rollback = _known(get, RollbackView, event.rollback_id)
    if rollback is not None:
        changes.append(_next(rollback, position))
    if event.phase == "concluded" and event.stands is not None:
        action = _known(get, ActionView, event.action_id)
        if action is not None:
            by = None if event.stands else event.rollback_id
            changes.append(_next(action, position, stands=event.stands, taken_back_by=by, undo_outcome=event.outcome))
            if action.status == "applied":
                changes += _key(action, position, get, "taken" if event.stands else "free")
    return changes


def _rollback_finished(event: e.RollbackFinished, position: int, get: Lookup) -> list[Change]:
    rollback = _known(get, RollbackView, event.rollback_id)
    if rollback is None:
        return []
    changes = [
        _next(rollback, position, status=event.status, ended_at=event.at, retracted=event.retracted),
    ]
    if rollback.kind == "redo" and rollback.redoes is not None and event.status != "failed":
        redone = _known(get, RollbackView, rollback.redoes)
        if redone is not None and redone.id != rollback.id:
            changes.append(_next(redone, position, redone_by=event.rollback_id))
    return changes


def _conflict_opened(event: e.ConflictOpened, position: int, get: Lookup) -> list[Change]:
    view = OpenItem(
        id=event.conflict_id,
        run_id=event.run_id,
        version=position,
        status="open",
        kind=event.kind,
        action_id=event.action_id,
        rollback_id=event.rollback_id,
        system=event.system,
        object=event.object,
        base=event.base,
        ours=event.ours,
        theirs=event.theirs,
        why=event.why,
        next_step=event.next_step,
        opened_at=event.at,
    )
    return [Change("open_item", event.conflict_id, view)]


def _conflict_resolved(event: e.ConflictResolved, position: int, get: Lookup) -> list[Change]:
    item = _known(get, OpenItem, event.conflict_id)
    if item is None:
        return []
    return [
        _next(item, position, status="resolved", choice=event.choice, resolved_by=event.by, resolved_at=event.at),
    ]


_Handler = Callable[[BaseEvent, int, Lookup], list[Change]]

_HANDLERS: Final[dict[type[BaseEvent], _Handler]] = cast(
    "dict[type[BaseEvent], _Handler]",
    {
        e.RunStarted: _run_started,
        e.RunFinished: _run_changed,
        e.RunContained: _run_changed,
        e.RunReleased: _run_changed,
        e.RunSealed: _run_changed,
        e.RunReopened: _run_changed,
        e.RunForked: _run_changed,
        e.RunStalled: _run_changed,
        e.ActionIntended: _intended,
        e.ActionApplied: _applied,
        e.ActionFailed: _failed,
        e.ActionShadowed: _shadowed,
        e.ActionDenied: _denied,
        e.ActionInDoubt: _in_doubt,
        e.ActionSettled: _settled,
        e.CheckpointNamed: _checkpoint,
        e.ApprovalRequested: _approval_requested,
        e.ApprovalGranted: _approval_answered,
        e.ApprovalDenied: _approval_answered,
        e.ApprovalExpired: _approval_answered,
        e.ApprovalUsed: _approval_answered,
        e.RollbackStarted: _rollback_started,
        e.RollbackStep: _rollback_step,
        e.RollbackFinished: _rollback_finished,
        e.ConflictOpened: _conflict_opened,
        e.ConflictResolved: _conflict_resolved,
    },
)
"""Events that are missing here (triggers, mail, notices, erasures) are read as events only; no view tells of them."""
