"""What must not be collected, and why: a pure decision over the journal's views. No clock, no IO.

An action's images are needed while

- its run is live: open, stalled, sealed, contained or quarantined;
- a checkpoint of its run is pinned;
- it is promised (`allowed_until` has not passed);
- something about it is open for a person to settle, or nobody knows whether it happened;
- a rollback that is needed took part of it back;
- it, or the end of its run, is younger than `keep_days`.

A rollback's images (what a redo brings back) are needed while it is at work, its run is live or pinned, or it is younger
than `keep_days`. Of an action that proved to have no effect nothing is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from takeback.journal.ids import ActionId, RunId
from takeback.journal.states import State
from takeback.journal.views import ActionView, CheckpointView, OpenItem, RollbackView, RunView

Reason = Literal["live_run", "pinned", "promised", "open_item", "in_doubt", "redo", "young"]
"""Why images are kept."""

LIVE_RUNS: Final = frozenset({"open", "stalled", "sealed", "contained", "quarantined"})
_NOTHING_HAPPENED: Final = frozenset({"failed", "shadowed", "denied", "not_applied"})


@dataclass(frozen=True, slots=True)
class Background:
    """What the decision about a single action or rollback depends on beside itself."""

    now: datetime
    keep_days: float
    runs: Mapping[RunId, RunView]
    pinned: frozenset[RunId] = frozenset()
    unsettled: frozenset[ActionId] = frozenset()
    """Actions with an open item."""
    redoable: frozenset[ActionId] = frozenset()
    """Actions that a needed rollback took back."""

    @property
    def cutoff(self) -> datetime:
        """What is younger than this is kept."""
        return self.now - timedelta(days=self.keep_days)

    def run_reason(self, run_id: RunId) -> Reason | None:
        """Why everything of this run is kept, if it is. A run that is not known is taken for a live one."""
        run = self.runs.get(run_id)
        if run is None or run.status in LIVE_RUNS:
            return "live_run"
        if run_id in self.pinned:
            return "pinned"
        return None


def why_action(action: ActionView, background: Background) -> Reason | None:
    """Why the images of this action are needed; `None`: they are not."""
    if action.status in _NOTHING_HAPPENED:
        return None
    if (reason := background.run_reason(action.run_id)) is not None:
        return reason
    if action.status in ("intended", "in_doubt"):
        return "in_doubt"
    if action.id in background.unsettled:
        return "open_item"
    if action.compensation is not None and _not_yet(action.compensation.allowed_until, background.now):
        return "promised"
    if action.id in background.redoable:
        return "redo"
    ended = background.runs[action.run_id].ended_at
    if max(moment for moment in (action.at, action.concluded_at, ended) if moment is not None) > background.cutoff:
        return "young"
    return None


def why_rollback(rollback: RollbackView, background: Background) -> Reason | None:
    """Why what this rollback (or redo) took out of the world is needed; `None`: it is not."""
    if rollback.status == "running":
        return "live_run"
    if (reason := background.run_reason(rollback.run_id)) is not None:
        return reason
    if (rollback.ended_at or rollback.started_at) > background.cutoff:
        return "young"
    return None


@dataclass(slots=True)
class ToKeep:
    """What is needed, and why."""

    actions: dict[ActionId, Reason] = field(default_factory=lambda: dict[ActionId, Reason]())
    rollbacks: dict[str, Reason] = field(default_factory=lambda: dict[str, Reason]())
    items: tuple[OpenItem, ...] = ()


def background_of(
    *,
    runs: Iterable[RunView],
    checkpoints: Iterable[CheckpointView],
    rollbacks: Iterable[RollbackView],
    open_items: Iterable[OpenItem],
    now: datetime,
    keep_days: float,
) -> Background:
    """Gather what decisions depend on. `now` carries a time zone."""
    first = Background(
        now=now.astimezone(UTC),
        keep_days=keep_days,
        runs={RunId(run.id): run for run in runs},
        pinned=frozenset(checkpoint.run_id for checkpoint in checkpoints if checkpoint.pinned),
        unsettled=frozenset(item.action_id for item in open_items if item.status == "open"),
    )
    needed = (rollback for rollback in rollbacks if why_rollback(rollback, first) is not None)
    return Background(
        now=first.now,
        keep_days=keep_days,
        runs=first.runs,
        pinned=first.pinned,
        unsettled=first.unsettled,
        redoable=frozenset(step.action_id for rollback in needed for step in rollback.steps),
    )


def what_to_keep(
    *,
    runs: Iterable[RunView],
    checkpoints: Iterable[CheckpointView],
    actions: Iterable[ActionView],
    rollbacks: Iterable[RollbackView],
    open_items: Iterable[OpenItem],
    now: datetime,
    keep_days: float,
) -> ToKeep:
    """Decide about everything at once. See the module's docstring for the rules."""
    rollbacks, open_items = list(rollbacks), list(open_items)
    background = background_of(
        runs=runs,
        checkpoints=checkpoints,
        rollbacks=rollbacks,
        open_items=open_items,
        now=now,
        keep_days=keep_days,
    )
    keep = ToKeep(items=tuple(item for item in open_items if item.status == "open"))
    for action in actions:
        if (reason := why_action(action, background)) is not None:
            keep.actions[ActionId(action.id)] = reason
    for rollback in rollbacks:
        if (reason := why_rollback(rollback, background)) is not None:
            keep.rollbacks[rollback.id] = reason
    return keep


def states_of(view: ActionView | RollbackView | OpenItem) -> list[State]:
    """The states that a view needs to stay restorable."""
    if isinstance(view, ActionView):
        effects = view.effects
    elif isinstance(view, RollbackView):
        effects = tuple(effect for step in view.steps for effect in step.effects)
    else:
        return [state for state in (view.base, view.ours, view.theirs) if state is not None]
    return [state for effect in effects for state in (effect.before, effect.after) if not state.absent]


def _not_yet(until: str | None, now: datetime) -> bool:
    if until is None:
        return False
    try:
        moment = datetime.fromisoformat(until)
    except ValueError:
        return True  # a promise that cannot be read is kept
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) > now
