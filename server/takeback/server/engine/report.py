"""What became of a run, in words for people: what was accomplished, what is kept, what failed, what is left, what to do first.

Pure: views in, text out. The accomplished comes first, and nothing is called done of which a part failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from takeback.journal.views import ActionView, ApprovalView, CheckpointView, OpenItem, RollbackView, RunView
from takeback.server.engine.answers import ByHand, Download, FailureReport, StepTold
from takeback.server.engine.rollback_report import rollback_report
from takeback.server.engine.steps import Progress, Step, about, failures, progress_of
from takeback.server.engine.timeline import timeline
from takeback.server.engine.wording import (
    MOST,
    bounded,
    clock,
    counted,
    day,
    full_stop,
    lasted,
    listed,
    name,
    sentence,
    shown,
    shown_lines,
)

if TYPE_CHECKING:
    from pydantic import JsonValue

    from takeback.journal.states import Effect

__all__ = [
    "Around",
    "asked",
    "failure_report",
    "name",
    "rollback_report",
    "sentence",
    "shown",
    "shown_lines",
    "value_in_words",
]

MOST_NAMED = 5
VALUE = 120
"""Characters of one argument in a sentence; the structured report has what the journal keeps of it."""


@dataclass(frozen=True, slots=True)
class Around:
    """What else is known about a run, and how its tools and objects are called."""

    checkpoints: Sequence[CheckpointView] = ()
    rollbacks: Sequence[RollbackView] = ()
    approvals: Sequence[ApprovalView] = ()
    """Questions that a person has not answered yet."""
    mail: Mapping[str, str] = field(default_factory=dict[str, str])
    """By act that put messages into the outbox: one sentence about where they are, as the journal has heard."""
    messages: Sequence[str] = ()
    """Where what it put into the outbox stands now, a sentence each."""
    inherited: Sequence[ActionView] = ()
    """Acts of the runs that it was forked from."""
    downloads: Sequence[Download] = ()
    since: datetime | None = None
    """When the run came into its present status."""
    titles: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of tools, by name."""
    display: Callable[[str, str], str] = lambda system, object: object
    """System and object to the name that people use."""

    def tool(self, action: ActionView) -> str:
        """What was called, in words."""
        return sentence(self.titles.get(action.tool, action.tool))

    def object(self, system: str, object: str) -> str:
        """An object's name in a sentence."""
        return name(self.display(system, object))


def failure_report(
    run: RunView,
    actions: Sequence[ActionView],
    open_items: Sequence[OpenItem],
    now: datetime,
    around: Around | None = None,
) -> FailureReport:
    """What became of a run: done, preserved, failed, left to do, and the first thing to do now.

    :param actions: all of the run, in any order.
    :param open_items: what waits for a person; those that are resolved are passed over.
    :param mail: by act that held messages: one sentence about where they are by now.
    """
    around = around or Around()
    ordered = sorted(actions, key=lambda action: action.position)
    items = [item for item in open_items if item.status == "open"]
    progress = progress_of(run, ordered, around.checkpoints, inherited=around.inherited)
    failing = _failing(progress, ordered)
    doubtful = [action for action in ordered if action.status in ("intended", "in_doubt")]

    done = _done(run, ordered, progress, around)
    preserved = _preserved(ordered, items, around)
    failed = bounded(_failed(run, failing, doubtful, items, around))
    remaining = bounded(_remaining(progress, failing, items, around))
    first = _first_step(run, failing, doubtful, items, progress, ordered, around)
    told = FailureReport(
        done=done,
        preserved=preserved,
        failed=failed,
        remaining=remaining,
        first_step=first,
        status=run.status,
        since=None if around.since is None else around.since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        steps=[StepTold(step=step.name, status=step.status) for step in progress.steps],
        by_hand=[_by_hand(action, around) for action in failing[-MOST:]],
        downloads=list(around.downloads),
        timeline=timeline(ordered, around.rollbacks, around.tool, _ending(run, around), around.mail, around.display),
    )
    return told.model_copy(update={"text": _text(run, now, told, around)})


def _ending(run: RunView, around: Around) -> tuple[datetime, str] | None:
    return None if around.since is None or run.status == "open" else (around.since, run.status)


def _failing(progress: Progress, actions: Sequence[ActionView]) -> list[ActionView]:
    """What failed and was not made good; in a step of which its agent said that it is done, nothing counts as failing."""
    settled = {action.id for step in progress.steps if step.status == "done" for action in step.tried}
    return [action for action in failures(actions) if action.id not in settled]


# --- done -------------------------------------------------------------------------------------------------------------


def _done(run: RunView, actions: Sequence[ActionView], progress: Progress, around: Around) -> list[str]:
    applied = [action for action in actions if action.stands and action.status == "applied"]
    if run.steps:
        head = f"{progress.done} of {len(run.steps)} steps done."
    elif applied:
        head = f"{counted(len(applied), 'action')} done."
    else:
        head = "Nothing has been changed."
    lines = [_summary(action, bool(run.steps), around) for action in applied]
    notes = [
        f"The step {name(step.name)} was worked at {step.times + 1} times." for step in progress.steps if step.times
    ]
    if progress.unplanned:
        notes.append(f"Not in the plan, but worked at: {listed([name(step) for step in progress.unplanned])}.")
    return bounded([head, *lines, *around.messages, *notes])


def _summary(action: ActionView, planned: bool, around: Around) -> str:
    told = full_stop(sentence(action.summary or _what(action, around)))
    if not around.messages and action.id in around.mail:
        told = f"{told} {around.mail[action.id]}"
    return f"In the step {name(action.step)}: {told}" if planned and action.step else told


def _what(action: ActionView, around: Around) -> str:
    objects = ", ".join(shown(around.display(effect.system, effect.object)) for effect in action.effects[:3])
    return f"{around.tool(action)}: {objects}" if objects else around.tool(action)


# --- kept -------------------------------------------------------------------------------------------------------------


def _preserved(actions: Sequence[ActionView], items: Sequence[OpenItem], around: Around) -> list[str]:
    first: dict[tuple[str, str], tuple[ActionView, Effect]] = {}
    new: dict[str, list[Effect]] = {}
    for action in actions:
        if action.stands and action.reversibility == "reversible":
            for effect in action.effects:
                place = (effect.system, effect.object)
                if effect.before.kind != "opaque" and not effect.before.same(effect.after) and place not in first:
                    first[place] = (action, effect)
                    if effect.before.absent:
                        new.setdefault(action.id, []).append(effect)
    lines: list[str] = []
    for action, effect in first.values():
        object = around.object(effect.system, effect.object)
        if effect.before.absent:
            if own := new.pop(action.id, None):
                lines.append(_new(action, own, around))
        elif effect.before.kind in ("file", "row", "event", "message", "text"):
            lines.append(
                f"The {effect.before.kind} {object} as it was before this run is kept: put it back with "
                f"restore_version, version {action.id}:before."
            )
        else:
            lines.append(f"{object} as it was before this run is kept: take back {action.id} with rollback_run.")
    back: dict[str, int] = Counter(
        action.taken_back_by for action in actions if action.taken_back_by is not None and not action.stands
    )
    for rollback, number in back.items():
        lines.append(f"What {counted(number, 'taken-back action')} had made is kept: redo_rollback with {rollback}.")
    for item in items:
        if item.kind == "conflict":
            lines.append(
                f"All versions of {around.object(item.system, item.object)} that are in conflict are kept, under {item.id}."
            )
    last = next((a for a in reversed(actions) if a.stands and a.checkpoint_id), None)
    if last is not None:
        lines.append(f"Everything up to here: checkpoint {last.checkpoint_id}; go on from it with resume_from.")
    if len(lines) <= MOST:
        return lines
    # the checkpoint is what reaches everything, so it is never the one that is left out
    kept = lines[: MOST - 2]
    return [*kept, f"… and {len(lines) - len(kept) - 1} more.", lines[-1]]


def _new(action: ActionView, effects: Sequence[Effect], around: Around) -> str:
    if action.summary and effects[0].after.kind in ("event", "message"):  # their names are nothing that one could say
        return f"{sentence(action.summary).rstrip('.')}: it stands; taking back {action.id} removes it."
    names = [around.object(effect.system, effect.object) for effect in effects]
    several = len(names) > 1
    if len(names) > MOST_NAMED:
        names = [*names[: MOST_NAMED - 1], f"{len(names) - MOST_NAMED + 1} more"]
    verbs = "are new and stand" if several else "is new and stands"
    return f"{listed(names)} {verbs}; taking back {action.id} removes {'them' if several else 'it'}."


# --- failed -----------------------------------------------------------------------------------------------------------


def _failed(
    run: RunView,
    failing: Sequence[ActionView],
    doubtful: Sequence[ActionView],
    items: Sequence[OpenItem],
    around: Around,
) -> Iterable[str]:
    match run.status:
        case "contained" | "quarantined":
            yield full_stop(f"The run was {run.status}: {sentence(run.why or 'no reason was given')}")
        case "stalled":
            yield full_stop(f"The run has stalled: {sentence(run.why or 'nobody has moved for a long time')}")
        case "failed":
            yield full_stop(f"The run was given up: {sentence(run.summary or run.why or 'no reason was given')}")
        case _:
            pass
    for action in failing:
        step = f" in the step {name(action.step)}" if action.step else ""
        verb = "was not allowed" if action.status == "denied" else "failed"
        yield full_stop(
            f"{asked(action, around.titles)} {verb}{step}: {sentence(action.error or 'no reason was recorded')}"
        )
    named = {item.action_id for item in items if item.kind == "in_doubt"}
    for action in doubtful:
        if action.id not in named:
            objects = listed([around.object(effect.system, effect.object) for effect in action.effects[:3]])
            yield f"Nobody knows whether {around.tool(action)} took effect{' on ' + objects if objects else ''}."
    for item in items:
        yield _open(item, around)


def asked(action: ActionView, titles: Mapping[str, str]) -> str:
    """The call, by what it does and what it was about."""
    subject = [value_in_words(value) for value in about(action.requested).values()]
    called = sentence(titles.get(action.tool, action.tool))
    return f"{called} ({', '.join(subject)})" if subject else called


def _open(item: OpenItem, around: Around) -> str:
    if item.system in ("outbox", "notices"):  # its reason is a whole sentence, about a message and not about an undo
        return full_stop(sentence(item.why[:1].upper() + item.why[1:]))
    words = {
        "conflict": "was not taken back, because somebody else changed it",
        "failed": "could not be taken back",
        "in_doubt": "is in doubt",
        "irreversible": "cannot be taken back",
        "denied": "was not allowed to be taken back",
    }
    return full_stop(f"{around.object(item.system, item.object)} {words[item.kind]}: {sentence(item.why)}")


# --- left to do -------------------------------------------------------------------------------------------------------

_LEFT: Mapping[str, str] = {
    "not_begun": "The step {}.",
    "skipped": "The step {}: it was skipped.",
    "failed": "The step {}: what was tried in it failed.",
    "partly": "The rest of the step {}: only a part of it is done.",
    "taken_back": "The step {}: it was taken back.",
    "in_doubt": "The step {}: nobody knows whether it was done.",
}


def _left(step: Step) -> str:
    return _LEFT[step.status].format(name(step.name))


def _remaining(
    progress: Progress, failing: Sequence[ActionView], items: Sequence[OpenItem], around: Around
) -> Iterable[str]:
    yield from map(_left, progress.left)
    # the newest first: it is what a caller has just been told of, and bounds cut the end
    for action in reversed(failing):
        if action.requested:
            told = [
                f"{shown(key)} {value_in_words(value)}" for key, value in action.requested.items() if value is not None
            ]
            yield f"To do it by hand: {around.tool(action)}, with {listed(told)}."
    for item in items:
        yield _to_settle(item, around)
    for approval in around.approvals:
        yield f"A person has to answer {approval.id}: {full_stop(sentence(approval.question))}"


def _by_hand(action: ActionView, around: Around) -> ByHand:
    return ByHand(
        action_id=action.id,
        tool=action.tool,
        title=around.tool(action),
        step=action.step,
        arguments=action.requested,
        why=action.error,
    )


def value_in_words(value: JsonValue) -> str:
    """A value of an argument in a sentence."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        text = sentence(value)
        return name(text if len(text) <= VALUE else text[: VALUE - 1] + "…")
    if isinstance(value, list):
        words = [value_in_words(each) for each in value[:5]]
        return listed(words) + (f" and {len(value) - 5} more" if len(value) > 5 else "")
    if isinstance(value, dict):
        return listed([f"{shown(key)} {value_in_words(each)}" for key, each in value.items()])
    return str(value)


def _to_settle(item: OpenItem, around: Around) -> str:
    what = around.object(item.system, item.object)
    return full_stop(f"Settle {item.id} ({what}): {sentence(item.next_step)}")


def _first_step(
    run: RunView,
    failing: Sequence[ActionView],
    doubtful: Sequence[ActionView],
    items: Sequence[OpenItem],
    progress: Progress,
    actions: Sequence[ActionView],
    around: Around,
) -> str:
    urgent = sorted((item for item in items if item.system != "notices"), key=lambda item: item.kind != "in_doubt")
    left = progress.left
    if urgent:
        return _to_settle(urgent[0], around)
    if doubtful:
        return f"Find out whether {around.tool(doubtful[0])} took effect, before anything is repeated."
    if run.status in ("contained", "quarantined"):
        return f"Look at what it did; then roll it back with rollback_run, or let it go on: takeback release {run.id}."
    if around.approvals and run.status in ("open", "stalled"):
        return f"Answer the question: takeback approve {around.approvals[0].id}, or takeback deny."
    if failing and run.status in ("open", "stalled", "failed"):
        last = failing[-1]
        otherwise = (
            "Do without it, or ask the person in charge of the policy"
            if last.status == "denied"
            else f"Mend what made {around.tool(last)} fail, then call it again"
        )
        advice = sentence(last.advice) or otherwise
        return full_stop(f"See to the step {name(last.step)}: {advice}" if last.step else advice)
    if left and run.status in ("open", "stalled"):
        return f"Go on with the step {name(left[0].name)}."
    if left and any(action.stands for action in actions):
        return f"Go on with the step {name(left[0].name)} in a new run: resume_from with the checkpoint above."
    if left and run.status in ("finished", "failed"):
        return f"Begin with the step {name(left[0].name)} in a new run, if it is still wanted."
    if any(item.system == "notices" for item in items):
        return _to_settle(next(item for item in items if item.system == "notices"), around)
    return "Nothing needs to be done."


# --- the whole --------------------------------------------------------------------------------------------------------


def _text(run: RunView, now: datetime, told: FailureReport, around: Around) -> str:
    span = timedelta(0) if around.since is None else now - around.since
    so_long = f" It has been so for {lasted(span)}." if span >= timedelta(minutes=1) else ""
    parts = [
        f"# {sentence(run.goal)}",
        f"Run {run.id} is {run.status.replace('_', ' ')}, as of {day(now)} {clock(now)} UTC.{so_long}",
        f"**First: {told.first_step}**",
    ]
    fetch = [f"{name(each.name)}, {each.what}: {each.uri}" for each in told.downloads]
    for title, lines in (
        ("Done", told.done),
        ("Kept", told.preserved),
        ("To download", fetch),
        ("Failed", told.failed),
        ("Left to do", told.remaining),
        ("What happened when", told.timeline),
    ):
        if lines:
            parts += [f"## {title}", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"
