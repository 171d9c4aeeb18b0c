"""What a checkpoint holds, and whether the world still lets one go back to it. Pure: views in, values out.

A checkpoint belongs to a position in the journal. An action belongs to it if its intent was written at or before that position
(`included`), and a rollback to the checkpoint takes back the run's standing actions that do not (`later`). Everybody who
asks "before or after?" asks these two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pydantic import JsonValue

from takeback.journal.events import Caller
from takeback.journal.ids import ActionId, ApprovalId, CheckpointId, RunId
from takeback.journal.states import Effect, State
from takeback.journal.views import ActionView, ApprovalView, CheckpointView, RollbackView, RunView

_UNKNOWN = frozenset({"intended", "in_doubt"})


class ObjectKey(NamedTuple):
    """Names one object of one target system."""

    system: str
    object: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of an act that cannot be taken back and has happened."""

    action_id: ActionId
    tool: str
    at: datetime
    summary: str
    reason: str
    outcome: JsonValue = None
    """What the other side answered (a message id, a booking number)."""


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """A question that a person has not answered yet."""

    approval_id: ApprovalId
    tool: str
    question: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything one needs in order to go back to a position, or to go on from it."""

    checkpoint_id: CheckpointId
    run_id: RunId
    owner: Caller
    at: datetime
    position: int
    label: str | None
    action_id: ActionId | None
    """The action whose conclusion this is; `None` for a named one."""
    summary: str
    """What that action did."""
    step: str | None
    """The step just completed."""
    output: JsonValue
    next_step: str | None
    notes: JsonValue
    pinned: bool
    versions: Mapping[ObjectKey, State]
    """Each object that the run touched, as it should be at this checkpoint."""
    receipts: tuple[Receipt, ...]
    """Irreversible acts up to here."""
    compensated: tuple[ActionId, ...]
    """Actions up to here that were taken back by an act of their own."""
    pending_approvals: tuple[PendingApproval, ...]
    """Questions asked in this run that are open now."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """Whether one can go back to a checkpoint, as the world is now."""

    checkpoint_id: CheckpointId
    verified_safe: bool
    """A rollback to it would restore exactly what was there then."""
    recommended: bool
    """The newest one that is safe. At most one of a run is."""
    drift: tuple[ObjectKey, ...] = ()
    """Objects that are neither as they were then nor as this run has left them."""
    unseen: tuple[ObjectKey, ...] = ()
    """Objects that were not looked at, so that nothing can be said of them."""
    irreversible: tuple[ActionId, ...] = ()
    """Later acts that stay whatever is taken back."""
    in_doubt: tuple[ActionId, ...] = ()
    """Later acts of which nobody knows whether they happened."""


def included(action: ActionView, position: int) -> bool:
    """Whether the action belongs to a checkpoint at this position."""
    return action.position <= position


def later(actions: Iterable[ActionView], position: int) -> list[ActionView]:
    """The standing actions that a rollback to a checkpoint at this position takes back, oldest first."""
    return [action for action in _standing(actions) if not included(action, position)]


def expected_objects(actions: Iterable[ActionView], position: int) -> dict[ObjectKey, State]:
    """What each object that standing actions touched looked like at this position.

    An object touched up to there: as the last of those actions left it. One touched only afterwards: as the first of those
    actions found it.

    :param actions: of one run, in any order; those that do not stand are passed over.
    """
    expected: dict[ObjectKey, State] = {}
    for action, effect in _effects(_standing(actions)):
        key = ObjectKey(effect.system, effect.object)
        if included(action, position):
            expected[key] = effect.after
        else:
            expected.setdefault(key, effect.before)
    return expected


def assess(
    checkpoints: Iterable[CheckpointView],
    actions: Iterable[ActionView],
    present: Mapping[tuple[str, str], State],
    *,
    rollbacks: Iterable[RollbackView] = (),
) -> dict[CheckpointId, Assessment]:
    """Judge the checkpoints of one run against the world.

    A checkpoint is safe if each object that the run touched is either as it was then or as the run's later actions left it (so
    that taking those back restores it exactly), and nothing irreversible or in doubt lies after it. An object inside another
    that the run moved or replaced afterwards is judged by the outer one; a folder in which the run worked afterwards is judged
    by what it changed there.

    :param actions: all of the run, in any order.
    :param present: what was seen of each touched object, by system and object.
    :param rollbacks: what took back part of the run, so that what a merge left behind is not taken for somebody else's.
    """
    actions, checkpoints = list(actions), sorted(checkpoints, key=lambda checkpoint: checkpoint.position)
    world = _World(actions, present, list(rollbacks))
    assessments: dict[CheckpointId, Assessment] = {}
    recommended: CheckpointId | None = None
    for checkpoint in checkpoints:
        assessment = world.judge(CheckpointId(checkpoint.id), checkpoint.position)
        assessments[assessment.checkpoint_id] = assessment
        if assessment.verified_safe:
            recommended = assessment.checkpoint_id
    if recommended is not None:
        best = assessments[recommended]
        assessments[recommended] = Assessment(best.checkpoint_id, verified_safe=True, recommended=True)
    return assessments


def checkpoint_of(
    view: CheckpointView,
    run: RunView,
    actions: Iterable[ActionView],
    approvals: Iterable[ApprovalView] = (),
) -> Checkpoint:
    """Everything the journal says about a checkpoint.

    :param actions: all actions of the run, in any order.
    :param approvals: all questions asked in the run.
    """
    ordered = sorted(actions, key=lambda action: action.position)
    own = next((action for action in ordered if action.id == view.action_id), None)
    before = [action for action in ordered if included(action, view.position)]
    return Checkpoint(
        checkpoint_id=CheckpointId(view.id),
        run_id=view.run_id,
        owner=run.owner,
        at=view.at,
        position=view.position,
        label=view.label,
        action_id=view.action_id,
        summary=own.summary if own is not None else "",
        step=view.step or (own.step if own is not None else None),
        output=view.output if view.output is not None else (dict(own.answer) or None if own is not None else None),
        next_step=view.next_step or next_step(run, before, view),
        notes=view.notes,
        pinned=view.pinned,
        versions=expected_objects(ordered, view.position),
        receipts=receipts(before),
        compensated=tuple(ActionId(action.id) for action in before if action.undo_outcome == "compensated"),
        pending_approvals=pending(approvals),
    )


def receipts(actions: Iterable[ActionView]) -> tuple[Receipt, ...]:
    """The acts among these that cannot be taken back and have happened, oldest first."""
    return tuple(
        Receipt(ActionId(action.id), action.tool, action.at, action.summary, action.reason, action.outcome)
        for action in _standing(actions)
        if action.reversibility == "irreversible" and action.status == "applied"
    )


def pending(approvals: Iterable[ApprovalView]) -> tuple[PendingApproval, ...]:
    """The questions among these that are open."""
    return tuple(
        PendingApproval(ApprovalId(approval.id), approval.tool, approval.question, approval.expires_at)
        for approval in approvals
        if approval.status == "requested"
    )


# -- steps ---------------------------------------------------------------------------------------------------------


def remaining_steps(
    run: RunView, done: Iterable[ActionView], checkpoint: CheckpointView, *, already: Iterable[str | None] = ()
) -> list[str]:
    """The planned steps that are not done at this checkpoint, in order of the plan.

    Steps are told apart by name (case and outer spaces aside). One that is planned twice is done twice: what happened under one
    name without another step in between counts as one. The step that the checkpoint calls the next one is not done.

    :param already: steps done before this run began, in the runs that it was forked from.
    """
    worked: list[str] = []
    for step in (*already, *(action.step for action in _standing(done))):
        name = _plain(step)
        if name and (not worked or worked[-1] != name):
            worked.append(name)
    named = _plain(checkpoint.step)
    if named and named not in worked:
        worked.append(named)
    following = _plain(checkpoint.next_step)
    if following and worked and worked[-1] == following:
        worked.pop()
    left: list[str] = []
    for step in run.steps:
        name = _plain(step)
        if name in worked:
            worked.remove(name)
        else:
            left.append(step)
    return left


def next_step(run: RunView, done: Iterable[ActionView], checkpoint: CheckpointView) -> str | None:
    """What comes next: the checkpoint's own word, else the first planned step that is not done."""
    if checkpoint.next_step:
        return checkpoint.next_step
    left = remaining_steps(run, done, checkpoint)
    return left[0] if left else None


# -- inside --------------------------------------------------------------------------------------------------------


class _World:
    """What the run did and what is there now; asked once per checkpoint."""

    def __init__(
        self,
        actions: Sequence[ActionView],
        present: Mapping[tuple[str, str], State],
        rollbacks: Sequence[RollbackView],
    ) -> None:
        self.present = present
        self.standing = _standing(actions)
        self.doubtful = [action for action in actions if action.status in _UNKNOWN]
        self.touched: dict[ObjectKey, list[tuple[int, Effect]]] = {}
        for action, effect in _effects(self.standing):
            self.touched.setdefault(ObjectKey(effect.system, effect.object), []).append((action.position, effect))
        self.merged: dict[ObjectKey, tuple[int, State]] = {}
        steps = (step for rollback in rollbacks for step in rollback.steps)
        for step in sorted(steps, key=lambda step: step.position):
            if step.phase == "concluded" and step.outcome in ("restored", "merged"):
                for effect in step.effects:
                    self.merged[ObjectKey(effect.system, effect.object)] = (step.position, effect.after)
        self.own = {key: self._own_word_counts(key) for key in self.touched}

    def judge(self, checkpoint_id: CheckpointId, position: int) -> Assessment:
        drift: list[ObjectKey] = []
        unseen: list[ObjectKey] = []
        exact = True
        for key, history in self.touched.items():
            if not self.own[key]:
                continue
            seen = self.present.get(key)
            if seen is None:
                unseen.append(key)
                continue
            first_later = next((effect for at, effect in history if at > position), None)
            last_at, last = history[-1]
            before = [effect for at, effect in history if at <= position]
            wanted = before[-1].after if before else history[0][1].before
            if seen.same(wanted) or (first_later is not None and seen.same(last.after)):
                continue
            merged_at, merge = self.merged.get(key, (0, last.after))
            if merged_at > last_at and seen.same(merge):
                # our own undo left it so; with nothing later to take back it stays as it is
                exact = exact and first_later is None
                continue
            drift.append(key)
        after = [action for action in self.standing if action.position > position]
        irreversible = tuple(ActionId(action.id) for action in after if action.reversibility == "irreversible")
        in_doubt = tuple(ActionId(action.id) for action in self.doubtful if action.position > position)
        return Assessment(
            checkpoint_id,
            verified_safe=exact and not (drift or unseen or irreversible or in_doubt),
            recommended=False,
            drift=tuple(sorted(drift)),
            unseen=tuple(sorted(unseen)),
            irreversible=irreversible,
            in_doubt=in_doubt,
        )

    def _own_word_counts(self, key: ObjectKey) -> bool:
        """Whether the object's present state says something: not if what it lies in, or what lies in it, changed after it."""
        last = self.touched[key][-1][0]
        for other, history in self.touched.items():
            if other.system == key.system and other != key and (_inside(key, other) or _inside(other, key)):
                at = history[-1][0]
                # in one action, the outer object's effect speaks for the inner one's
                if at > last or (at == last and _inside(key, other)):
                    return False
        return True


def _inside(inner: ObjectKey, outer: ObjectKey) -> bool:
    return inner.object.startswith(outer.object.rstrip("/") + "/")


def _standing(actions: Iterable[ActionView]) -> list[ActionView]:
    return sorted((action for action in actions if action.stands), key=lambda action: action.position)


def _effects(actions: Iterable[ActionView]) -> Iterator[tuple[ActionView, Effect]]:
    for action in actions:
        for effect in action.effects:
            yield action, effect


def _plain(step: str | None) -> str:
    return " ".join(step.split()).casefold() if step else ""
