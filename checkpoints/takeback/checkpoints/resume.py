"""What an agent needs in order to go on from a checkpoint: a value, and the same as Markdown. Pure: views in, values out.

Names of steps, summaries and notes were written by models or came from outside: they are shown as data, one line each,
with control characters escaped.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic import JsonValue

from takeback.checkpoints.checkpoint import (
    Assessment,
    Checkpoint,
    ObjectKey,
    PendingApproval,
    Receipt,
    checkpoint_of,
    included,
    receipts,
    remaining_steps,
)
from takeback.journal.ids import ActionId, CheckpointId, RunId
from takeback.journal.views import ActionView, ApprovalView, CheckpointView, RunView

_LINE: Final = 300
_NOTES: Final = 6000


@dataclass(frozen=True, slots=True)
class Done:
    """A step that stands and must not be done again."""

    action_id: ActionId
    step: str | None
    tool: str
    summary: str
    output: JsonValue = None
    """What the caller was told."""
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class ResumeBrief:
    """What an agent continues from."""

    forked_from: CheckpointId
    run_id: RunId
    """The run that the checkpoint belongs to."""
    goal: str
    done: tuple[Done, ...]
    remaining: tuple[str, ...]
    next_step: str | None
    notes: JsonValue
    do_not_repeat: tuple[str, ...]
    """One line each: acts with consequences outside that have happened, or may have."""
    still_there: tuple[Done, ...]
    """What was done after the checkpoint and stands in the world all the same."""
    drift: tuple[str, ...]
    """Objects that somebody else changed."""
    receipts: tuple[Receipt, ...]
    pending_approvals: tuple[PendingApproval, ...]
    checkpoint: Checkpoint
    text: str = ""
    """All of it as Markdown."""


def resume_brief(
    view: CheckpointView,
    run: RunView,
    actions: Iterable[ActionView],
    *,
    assessment: Assessment | None = None,
    approvals: Iterable[ApprovalView] = (),
    inherited: Sequence[Done] = (),
) -> ResumeBrief:
    """Make the brief.

    :param actions: all of the run, in any order, as they are after whatever was rolled back.
    :param assessment: of this checkpoint, for the drift.
    :param inherited: what was done in the runs that this run was itself forked from, oldest first.
    """
    ordered = sorted(actions, key=lambda action: action.position)
    before = [action for action in ordered if included(action, view.position)]
    after = [action for action in ordered if not included(action, view.position)]
    checkpoint = checkpoint_of(view, run, ordered, approvals)
    remaining = remaining_steps(run, before, view, already=(step.step for step in inherited))
    brief = ResumeBrief(
        forked_from=checkpoint.checkpoint_id,
        run_id=run_id_of(run),
        goal=run.goal,
        done=(*inherited, *(_done(action) for action in before if action.stands)),
        remaining=tuple(remaining),
        next_step=view.next_step or (remaining[0] if remaining else None),
        notes=view.notes,
        do_not_repeat=tuple(line for action in ordered if (line := _warning(action)) is not None),
        still_there=tuple(_done(action) for action in after if action.stands),
        drift=tuple(_object(key) for key in assessment.drift) if assessment is not None else (),
        receipts=receipts(ordered),
        pending_approvals=checkpoint.pending_approvals,
        checkpoint=checkpoint,
    )
    return replace(brief, text=as_markdown(brief))


def run_id_of(run: RunView) -> RunId:
    """The run's id under its own type."""
    return RunId(run.id)


def as_markdown(brief: ResumeBrief) -> str:
    """The brief for a model or a person to read."""
    checkpoint = brief.checkpoint
    label = f" “{_line(checkpoint.label)}”" if checkpoint.label else ""
    lines = [f"# Continue: {_line(brief.goal) or 'a task without a stated goal'}", ""]
    lines.append(f"From checkpoint{label} ({checkpoint.checkpoint_id}) of {brief.run_id}.")
    if brief.next_step:
        lines += ["", f"**Next step:** {_line(brief.next_step)}"]
    lines += _section("Remaining steps", (_line(step) for step in brief.remaining))
    lines += _section("Done; do not do these again", (_done_line(step) for step in brief.done))
    lines += _section("Must not be repeated", brief.do_not_repeat)
    lines += _section("Done after the checkpoint and still there", (_done_line(step) for step in brief.still_there))
    lines += _section("Changed by somebody else; look before you touch it", brief.drift)
    lines += _section(
        "Waiting for a person",
        (f"{_line(item.tool)}: {_line(item.question)} ({item.approval_id})" for item in brief.pending_approvals),
    )
    if brief.notes is not None:
        lines += ["", "## Notes made at the checkpoint", "", *_notes(brief.notes)]
    return "\n".join(lines) + "\n"


# -- inside --------------------------------------------------------------------------------------------------------


def _done(action: ActionView) -> Done:
    return Done(
        action_id=ActionId(action.id),
        step=action.step,
        tool=action.tool,
        summary=action.summary,
        output=dict(action.answer) or None,
        idempotency_key=action.idempotency_key,
    )


def _warning(action: ActionView) -> str | None:
    """Why the act must not be repeated; `None` if repeating it does no harm."""
    what = f"{_line(action.tool)}: {_line(action.summary) or 'no summary'} ({action.id})"
    key = f"; idempotency key {_line(action.idempotency_key)}" if action.idempotency_key else ""
    if action.status in ("intended", "in_doubt"):
        return f"{what}{key}: nobody knows whether it happened; look before you act."
    if not action.stands:
        return None
    if action.reversibility == "irreversible":
        return f"{what}{key}: it has happened and cannot be taken back."
    if action.reversibility == "compensable":
        return f"{what}{key}: it has been done, and others may have seen it or will."
    return None


def _done_line(step: Done) -> str:
    name = f"{_line(step.step)}: " if step.step else ""
    key = f" [key {_line(step.idempotency_key)}]" if step.idempotency_key else ""
    return f"{name}{_line(step.summary) or _line(step.tool)}{key}"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    items = [f"- {line}" for line in lines]
    return ["", f"## {title}", "", *items] if items else []


def _notes(notes: JsonValue) -> list[str]:
    text = json.dumps(notes, ensure_ascii=False, indent=2)
    if len(text) > _NOTES:
        return ["```json", _visible(text[:_NOTES]), "```", f"(cut; {len(text)} characters in all)"]
    return ["```json", _visible(text), "```"]


def _object(key: ObjectKey) -> str:
    return f"{key.system}: {_line(key.object)}"


def _line(text: str) -> str:
    """One line for people: white space collapsed, control and invisible characters escaped, cut if it is long."""
    line = _visible(" ".join(text.split()))
    return line if len(line) <= _LINE else line[: _LINE - 1] + "…"


def _visible(text: str) -> str:
    return "".join(
        character
        if character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )
