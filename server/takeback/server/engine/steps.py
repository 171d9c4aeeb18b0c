"""How far a run has come in its plan: each planned step, what stands of it, what failed in it, what was taken back. Pure.

Steps are told apart by name (case and outer spaces aside). A step is done if an act of it stands and nothing in it failed
that was not made good later, or if its agent said so with a checkpoint. One that is planned twice is done twice: what
happened under one name without another step in between is one time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import JsonValue

from takeback.journal.views import ActionView, CheckpointView, RunView

StepStatus = Literal["done", "partly", "failed", "in_doubt", "taken_back", "skipped", "not_begun"]

ABOUT: Final = (
    "path",
    "source",
    "destination",
    "key",
    "event_id",
    "message_ids",
    "to",
    "summary",
    "name",
    "table",
    "id",
)
"""Names of arguments that say what a call is about: two calls of one tool that agree in them are tries at the same thing."""
UNKNOWN: Final = frozenset({"intended", "in_doubt"})
FAILED: Final = frozenset({"failed", "denied", "not_applied"})


@dataclass(frozen=True, slots=True)
class Step:
    """One planned step, and how it stands."""

    name: str
    status: StepStatus
    standing: tuple[ActionView, ...] = ()
    failed: tuple[ActionView, ...] = ()
    """What failed in it and was not made good."""
    back: tuple[ActionView, ...] = ()
    """What was taken back of it."""
    tried: tuple[ActionView, ...] = ()
    """Every call in it."""
    times: int = 0
    """How often it was worked at with other steps in between, beyond what the plan says."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The plan of a run against what was done."""

    steps: tuple[Step, ...]
    unplanned: tuple[str, ...]
    """Steps that calls named and the plan does not have, in order, each once."""

    @property
    def done(self) -> int:
        """How many are done."""
        return sum(step.status == "done" for step in self.steps)

    @property
    def left(self) -> tuple[Step, ...]:
        """Those that are not, in order of the plan."""
        return tuple(step for step in self.steps if step.status != "done")


def plain(step: str | None) -> str:
    """A step's name as it is compared."""
    return " ".join(step.split()).casefold() if step else ""


def progress_of(
    run: RunView,
    actions: Iterable[ActionView],
    checkpoints: Iterable[CheckpointView] = (),
    *,
    inherited: Sequence[ActionView] = (),
) -> Progress:
    """How far the run has come.

    :param actions: all of the run, in any order.
    :param checkpoints: of the run; those that were named with a step say that it is done.
    :param inherited: acts of the runs that this one was forked from, up to where it was.
    """
    if not run.steps:
        return Progress((), ())
    ordered = [*inherited, *sorted(actions, key=lambda action: action.position)]
    said = [view for view in checkpoints if view.label is not None and plain(view.step)]
    turns = _turns(ordered, [view for view in said if _holds(run, view, ordered)])
    planned = [plain(step) for step in run.steps]
    places: dict[str, list[int]] = {}
    for place, step in enumerate(planned):
        places.setdefault(step, []).append(place)
    worked: dict[int, list[_Turn]] = {}
    at: dict[str, int] = {}
    for turn in turns:
        own = places.get(turn.name)
        if own is None:
            continue
        now = at.get(turn.name, 0)
        if now + 1 < len(own) and any(each.moved for each in worked.get(own[now], ())):
            now += 1
        at[turn.name] = now
        worked.setdefault(own[now], []).append(turn)
    last = max(worked, default=-1)
    steps = [_step(run.steps[place], worked.get(place, []), place < last) for place in range(len(planned))]
    names = {turn.name: turn.step for turn in reversed(turns) if turn.name not in places}
    return Progress(tuple(steps), tuple(reversed(names.values())))


def failures(actions: Iterable[ActionView]) -> list[ActionView]:
    """What failed or was refused and was not made good by a later call of the same tool about the same thing, oldest first."""
    later: list[ActionView] = []
    found: list[ActionView] = []
    for action in sorted(actions, key=lambda action: action.position, reverse=True):
        if action.status == "applied":  # also if it was taken back since: what is then left is not the failure
            later.append(action)
        elif action.status in FAILED and not any(_makes_good(other, action) for other in later):
            found.append(action)
    return found[::-1]


def about(requested: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Of a call's arguments those that say what it is about."""
    return {name: requested[name] for name in ABOUT if requested.get(name) not in (None, "", [])}


# --- inside -----------------------------------------------------------------------------------------------------------


def _makes_good(later: ActionView, failed: ActionView) -> bool:
    if later.tool != failed.tool or plain(later.step) != plain(failed.step):
        return False
    if not failed.requested:
        return bool(failed.step)  # nothing says what it was about; its step is what it was for
    if later.requested == failed.requested:
        return True
    subject = about(failed.requested)
    return bool(subject) and about(later.requested) == subject


@dataclass(slots=True)
class _Turn:
    """Work under one name with no other step in between."""

    name: str
    step: str
    actions: list[ActionView]
    said: int | None = None
    """Position at which the agent said that the step is done."""

    @property
    def moved(self) -> bool:
        return self.said is not None or any(action.stands for action in self.actions)


def _turns(actions: Sequence[ActionView], said: Iterable[CheckpointView]) -> list[_Turn]:
    turns: list[_Turn] = []
    entries: list[tuple[str, ActionView | CheckpointView]] = [(action.step or "", action) for action in actions]
    entries += [(view.step or "", view) for view in said]
    # what a fork has inherited stands in front, whatever its positions are: sorting is stable, and they are the older ones
    for step, entry in sorted(entries, key=lambda each: each[1].position):
        name = plain(step)
        if not name:
            continue
        if not turns or turns[-1].name != name:
            turns.append(_Turn(name, step, []))
        if isinstance(entry, ActionView):
            turns[-1].actions.append(entry)
        else:
            turns[-1].said = entry.position
    return turns


def _holds(run: RunView, view: CheckpointView, ordered: Sequence[ActionView]) -> bool:
    """Whether what a checkpoint says still holds: it does not where the acts that it rests on were taken back."""
    if run.status == "rolled_back":
        return False
    before = [action for action in ordered if action.position <= view.position and action.status == "applied"]
    return not before or before[-1].stands or before[-1].taken_back_by is None


def _step(name: str, turns: Sequence[_Turn], passed: bool) -> Step:
    actions = [action for turn in turns for action in turn.actions]
    standing = tuple(action for action in actions if action.stands)
    back = tuple(
        action
        for action in actions
        if action.status == "applied" and not action.stands and not any(_again(other, action) for other in standing)
    )
    said = max((turn.said for turn in turns if turn.said is not None), default=None)
    failed = tuple(action for action in failures(actions) if said is None or action.position > said)
    return Step(
        name=name,
        status=_status(actions, standing, failed, back, said, passed),
        standing=standing,
        failed=failed,
        back=back,
        tried=tuple(actions),
        times=max(len([turn for turn in turns if turn.moved]) - 1, 0),
    )


def _again(later: ActionView, back: ActionView) -> bool:
    """Whether what was taken back was done anew since."""
    if later.position < back.position or later.tool != back.tool:
        return False
    subject = about(back.requested)
    return later.requested == back.requested or (bool(subject) and about(later.requested) == subject)


def _status(
    actions: Sequence[ActionView],
    standing: Sequence[ActionView],
    failed: Sequence[ActionView],
    back: Sequence[ActionView],
    said: int | None,
    passed: bool,
) -> StepStatus:
    if any(action.status in UNKNOWN for action in actions):
        return "in_doubt"
    if failed:
        return "partly" if standing else "failed"
    if back and (said is None or any(action.position <= said for action in back)):
        return "partly" if standing else "taken_back"
    if standing or said is not None:
        return "done"
    return "skipped" if passed else "not_begun"
