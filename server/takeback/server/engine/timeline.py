"""What happened in a run, and when: its acts and its rollbacks, in order, in words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from takeback.journal.views import ActionView, RollbackView
from takeback.server.engine.wording import clock, counted, day, full_stop, name, sentence, shown

MOST_TIMES: Final = 40
"""Entries of a timeline; earlier ones are counted."""
_GOOD: Final = frozenset({"restored", "merged", "already_undone", "compensated"})
_KINDS: Final = {
    "rollback": "Rollback",
    "redo": "Redo",
    "restore_version": "An earlier version was put back",
    "resolve": "A person settled what was open",
}


def timeline(
    actions: Sequence[ActionView],
    rollbacks: Sequence[RollbackView],
    called: Callable[[ActionView], str],
    ending: tuple[datetime, str] | None = None,
    mail: Mapping[str, str] | None = None,
    display: Callable[[str, str], str] = lambda system, object: object,
) -> list[str]:
    """One line each, with the date where it changes.

    :param actions: in order.
    :param called: what an action's tool is called.
    :param ending: when the run came into its present status, and which one that is.
    :param mail: by act that held messages: one sentence about where they are by now.
    :param display: system and object to the name that people use.
    """
    entries = [(action.at, action.position, _act(action, called, mail or {}, display)) for action in actions]
    entries += [(rollback.started_at, rollback.position, _rollback(rollback)) for rollback in rollbacks]
    entries.sort(key=lambda entry: entry[1])
    lines: list[str] = []
    today = ""
    for at, _, told in entries[-MOST_TIMES:]:
        lines.append(f"{_time(at, today)}, {told}")
        today = day(at)
    if ending is not None:
        lines.append(f"{_time(ending[0], today)}, the run is {ending[1].replace('_', ' ')}.")
    if len(entries) > MOST_TIMES:
        lines.insert(0, f"… {len(entries) - MOST_TIMES} earlier ones; get_run with view journal shows all.")
    return lines


def _time(at: datetime, today: str) -> str:
    return clock(at) if day(at) == today else f"{day(at)} {clock(at)}"


def _act(
    action: ActionView,
    called: Callable[[ActionView], str],
    mail: Mapping[str, str],
    display: Callable[[str, str], str],
) -> str:
    objects = (shown(display(effect.system, effect.object)) for effect in action.effects[:3])
    what = action.summary or action.error or ", ".join(objects)
    back = f" Taken back since: {action.undo_outcome}." if action.undo_outcome and not action.stands else ""
    step = f" in the step {name(action.step)}" if action.step else ""
    status = "held" if action.id in mail and action.status == "applied" else action.status.replace("_", " ")
    head = f"{called(action)}{step}, {status}"
    told = f"{head}: {full_stop(sentence(what))}" if what else f"{head}."
    return " ".join(filter(None, (told, mail.get(action.id, "")))) + back


def _rollback(rollback: RollbackView) -> str:
    head = f"{_KINDS[rollback.kind]} {rollback.id}, {rollback.status}"
    if rollback.kind not in ("rollback", "redo") or not rollback.steps:
        return f"{head}."
    good = sum(step.outcome in _GOOD for step in rollback.steps)
    done = "taken back" if rollback.kind == "rollback" else "brought back"
    return f"{head}: {good} of {counted(len(rollback.steps), 'action')} {done}."
