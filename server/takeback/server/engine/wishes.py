"""What a rollback or redo is to take back: the wish, how it is kept in the journal, and what a redo wishes for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from takeback.journal.events import Caller
from takeback.journal.ids import RollbackId, RunId
from takeback.journal.states import altered
from takeback.journal.views import ActionView, RollbackView, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core
from takeback.server.engine.gather import entry_of_action, entry_of_step, no_rollback, rollback_view
from takeback.server.engine.plan import Entry, Goal, Plan

Kind = Literal["rollback", "redo"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be taken back, worked out from the request."""

    kind: Kind
    chosen: tuple[Entry, ...]
    goal: Goal
    runs: tuple[RunId, ...]
    whole: frozenset[RunId] = frozenset()
    """Runs that are taken back whole."""
    to_checkpoint: bool = False
    after: int | None = None
    """All that the runs did after this position is wanted, also what comes to be while the request is being read."""
    needs_digest: str = ""
    """Why this is not done without the digest of a plan that was seen; empty if it is."""
    stands_after: bool | None = False
    redoes: RollbackId | None = None
    seen_at: int = -1
    """Position of the journal when the entries were read: as long as it is the same, they are the same."""
    bound: bool = False
    """Somebody consented to exactly one plan, so what drifts while it is executed is a conflict."""


def nothing() -> EngineError:
    """What is said when a wish is empty."""
    return EngineError("nothing", "There is nothing to take back.", "Look at what was done with get_run.")


def check_not_redone(view: RollbackView) -> None:
    """
    :raises EngineError: the rollback was taken back already.
    """
    if view.redone_by is not None:
        raise EngineError(
            "redone",
            f"Rollback {view.id} was taken back by {view.redone_by} already.",
            f"Redo {view.redone_by} instead.",
        )


def stored_plan(plan: Plan, wish: Wish, touched: Sequence[RunId]) -> JsonValue:
    """What a rollback is to do, as the journal keeps it; `restored` reads it back."""
    stored: dict[str, JsonValue] = {
        "plan": _slim(plan),
        "kind": wish.kind,
        "touched": [str(run_id) for run_id in touched],
        "whole": [str(run_id) for run_id in sorted(wish.whole)],
        "to_checkpoint": wish.to_checkpoint,
        "stands_after": wish.stands_after,
        "redoes": wish.redoes,
        "bound": wish.bound,
    }
    return stored


def _slim(plan: Plan) -> JsonValue:
    # a step that puts back exactly what was there says everything three times; once is enough
    steps = [
        altered(step, effects=(), present=()) if step.decision == "restore" and step.effects == step.wanted else step
        for step in plan.steps
    ]
    dumped: JsonValue = altered(plan, steps=tuple(steps)).model_dump(mode="json", exclude_defaults=True)
    return dumped


def _whole(plan: Plan) -> Plan:
    steps = [
        altered(step, effects=step.wanted, present=tuple(effect.before for effect in step.wanted))
        if step.decision == "restore" and not step.effects
        else step
        for step in plan.steps
    ]
    return altered(plan, steps=tuple(steps))


def touched_by(stored: JsonValue) -> tuple[RunId, ...]:
    """The runs that a stored plan seals."""
    touched = stored.get("touched") if isinstance(stored, dict) else None
    return tuple(RunId(str(run_id)) for run_id in touched) if isinstance(touched, list) else ()


def restored(view: RollbackView) -> tuple[Plan, Wish, tuple[RunId, ...]]:
    """What a rollback that was begun is to do, as the journal keeps it.

    :raises ValueError, KeyError: another version wrote it.
    """
    stored = view.plan
    if not isinstance(stored, dict):
        raise ValueError("a rollback keeps its plan as an object")
    plan = _whole(Plan.model_validate_json(json.dumps(stored["plan"])))
    touched = touched_by(stored)
    whole = stored.get("whole")
    stands = stored.get("stands_after")
    wish = Wish(
        kind="redo" if view.kind == "redo" else "rollback",
        chosen=(),
        goal=plan.goal,
        runs=touched,
        whole=frozenset(RunId(str(run_id)) for run_id in whole) if isinstance(whole, list) else frozenset(),
        to_checkpoint=bool(stored.get("to_checkpoint")),
        stands_after=bool(stands) if stands is not None else None,
        redoes=view.redoes,
        bound=stored.get("bound") is True,
    )
    return plan, wish, touched


async def wish_for_redo(core: Core, caller: Caller, rollback_id: str) -> Wish:
    """What a redo takes back: the `restored` and `merged` effects of an earlier rollback (or redo, or restored version).

    :raises EngineError: unknown or foreign, still at work, or brought back already.
    """
    view = await rollback_view(core, rollback_id)
    run = await core.journal.get(RunView, view.run_id)
    if run is None or not await core.allows(caller, run.owner.principal, run.run_id, "decide"):
        raise no_rollback(rollback_id)
    if view.status == "running":
        raise EngineError("busy", f"Rollback {rollback_id} is still at work.", "Wait until it is over.")
    check_not_redone(view)
    entries: list[Entry] = []
    for step in view.steps:
        action = await core.journal.get(ActionView, step.action_id)
        entry = entry_of_step(view, step, action.tool if action else "")
        if entry.reversibility == "reversible" or step.outcome == "compensated":
            entries.append(entry)
    if not entries and any(step.effects for step in view.steps):
        fact = f"What rollback {rollback_id} put back, others are told of or have been: it is not brought back."
        raise EngineError("nothing", fact, "Do it anew instead.")
    if not entries:
        raise EngineError("nothing", f"Rollback {rollback_id} changed nothing.", "There is nothing to redo.")
    return Wish(
        kind="redo",
        chosen=tuple(entries),
        goal=Goal(chosen=tuple(entry.id for entry in entries), kind="redo", label=f"redo of {rollback_id}"),
        runs=tuple(dict.fromkeys(entry.run_id for entry in entries)),
        stands_after=await _stands_after_redo(core, view),
        redoes=RollbackId(view.id),
    )


async def _stands_after_redo(core: Core, view: RollbackView) -> bool | None:
    """A rollback lays the actions down, a redo puts them up again, a redo of a redo lays them down …"""
    stands = True
    while view.kind == "redo" and view.redoes is not None:
        stands = not stands
        view = await rollback_view(core, view.redoes)
    return stands if view.kind == "rollback" else None


def entries_of(actions: Sequence[ActionView]) -> tuple[Entry, ...]:
    """The entries of these actions that stand, or of which nobody knows whether they do."""
    return tuple(
        entry_of_action(action) for action in actions if action.stands or action.status in ("in_doubt", "intended")
    )
