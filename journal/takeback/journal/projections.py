"""The fold: what each event makes of the views. Pure, and the same for every implementation of the journal.

`fold` is given an event and a way to look at the present views, and answers with the views as they are afterwards. An
event about something that is not there changes nothing: a journal of which parts are missing still folds, and `verify` is
what tells that something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, cast

from takeback.journal import collecting as c
from takeback.journal import events as e
from takeback.journal.events import BaseEvent, Recorded
from takeback.journal.folds import actions, approvals, collected, holds, runs, undo
from takeback.journal.folds.parts import (
    KINDS,
    LIVE,
    NAMES,
    Change,
    Folded,
    Lookup,
    PlanPart,
    StepPart,
    status_of,
    step_id,
    whole,
)

__all__ = [
    "KINDS",
    "LIVE",
    "NAMES",
    "Change",
    "Folded",
    "Lookup",
    "PlanPart",
    "StepPart",
    "fold",
    "status_of",
    "step_id",
    "touches",
    "whole",
]


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


_Handler = Callable[[BaseEvent, int, Lookup], list[Change]]

_HANDLERS: Final[dict[type[BaseEvent], _Handler]] = cast(
    "dict[type[BaseEvent], _Handler]",
    {
        e.RunStarted: runs.started,
        e.RunFinished: runs.run_changed,
        e.RunContained: runs.run_changed,
        e.RunReleased: runs.run_changed,
        e.RunSealed: runs.run_changed,
        e.RunReopened: runs.run_changed,
        e.RunForked: runs.run_changed,
        e.RunStalled: runs.run_changed,
        e.ActionIntended: actions.intended,
        e.ActionApplied: actions.applied,
        e.ActionFailed: actions.failed,
        e.ActionShadowed: actions.shadowed,
        e.ActionDenied: actions.denied,
        e.ActionInDoubt: actions.in_doubt,
        e.ActionSettled: actions.settled,
        e.CheckpointNamed: actions.named_checkpoint,
        e.ApprovalRequested: approvals.requested,
        e.ApprovalGranted: approvals.answered,
        e.ApprovalDenied: approvals.answered,
        e.ApprovalExpired: approvals.answered,
        e.ApprovalUsed: approvals.answered,
        e.RollbackStarted: undo.started,
        e.RollbackStep: undo.step_taken,
        e.RollbackFinished: undo.finished,
        e.ConflictOpened: undo.opened,
        e.ConflictResolved: undo.resolved,
        e.ScopeContained: holds.held,
        e.ScopeReleased: holds.held,
        c.CallCollected: collected.collected,
        c.CollectionBegun: collected.begun,
        c.CollectionEnded: collected.ended,
    },
)
"""Events that are missing here (triggers, mail, notices, erasures) are read as events only; no view tells of them."""
