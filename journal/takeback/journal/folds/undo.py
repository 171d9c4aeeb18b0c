"""What rollbacks, their steps and what they leave open make of the views."""

from __future__ import annotations

from takeback.journal import events as e
from takeback.journal.folds.actions import key_becomes
from takeback.journal.folds.parts import Change, Lookup, PlanPart, StepPart, changed, known, step_id
from takeback.journal.states import trusted
from takeback.journal.views import ActionView, OpenItem, RollbackView, StepView


def started(event: e.RollbackStarted, position: int, get: Lookup) -> list[Change]:
    """A rollback begins."""
    view = trusted(
        RollbackView,
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
    plan = trusted(PlanPart, id=event.rollback_id, run_id=event.run_id, version=position, plan=event.plan)
    return [Change("rollback", event.rollback_id, view), Change("plan", event.rollback_id, plan)]


def step_taken(event: e.RollbackStep, position: int, get: Lookup) -> list[Change]:
    """A step is about to be taken, or was; then its action may stand differently."""
    step = trusted(
        StepView,
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
    part = trusted(StepPart, id=id, run_id=event.run_id, version=position, rollback_id=event.rollback_id, step=step)
    changes = [Change("step", id, part)]
    rollback = known(get, RollbackView, event.rollback_id)
    if rollback is not None:
        changes.append(changed(rollback, position))
    if event.phase == "concluded" and event.stands is not None:
        action = known(get, ActionView, event.action_id)
        if action is not None:
            by = None if event.stands else event.rollback_id
            changes.append(changed(action, position, stands=event.stands, taken_back_by=by, undo_outcome=event.outcome))
            if action.status == "applied":
                changes += key_becomes(action, position, get, "taken" if event.stands else "free")
    return changes


def finished(event: e.RollbackFinished, position: int, get: Lookup) -> list[Change]:
    """A rollback is over; a redo says so to what it redid."""
    rollback = known(get, RollbackView, event.rollback_id)
    if rollback is None:
        return []
    changes = [
        changed(rollback, position, status=event.status, ended_at=event.at, retracted=event.retracted),
    ]
    if rollback.kind == "redo" and rollback.redoes is not None and event.status != "failed":
        redone = known(get, RollbackView, rollback.redoes)
        if redone is not None and redone.id != rollback.id:
            changes.append(changed(redone, position, redone_by=event.rollback_id))
    return changes


def opened(event: e.ConflictOpened, position: int, get: Lookup) -> list[Change]:
    """Something is open."""
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


def resolved(event: e.ConflictResolved, position: int, get: Lookup) -> list[Change]:
    """It is settled."""
    item = known(get, OpenItem, event.conflict_id)
    if item is None:
        return []
    return [
        changed(item, position, status="resolved", choice=event.choice, resolved_by=event.by, resolved_at=event.at),
    ]
