"""What a rollback did, or would do, in words for people. Pure: the outcomes of its steps in, text out.

The word "restored" stands only where an outcome says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from takeback.server.engine.answers import OpenItemAnswer, StepAnswer
from takeback.server.engine.wording import MOST, bounded, capital, counted, full_stop, name, sentence

_GOOD = ("restored", "merged", "already_undone", "compensated")
_SAID: dict[str | None, str] = {
    "restored": "restored",
    "merged": "merged: only this change was removed, what others changed stays",
    "already_undone": "already undone, nothing had to be done",
    "compensated": "compensated by a follow-up act",
    "conflict": "conflict, not touched",
    "failed": "failed",
    "irreversible": "irreversible, it stays",
    "skipped": "skipped",
    None: "not done",
}
_WOULD: dict[str | None, str] = {
    "restored": "would be restored",
    "merged": "would be merged: only this change is removed, what others changed stays",
    "already_undone": "is undone already",
    "compensated": "would be compensated by a follow-up act",
    "conflict": "would not be touched",
    "failed": "would fail",
    "irreversible": "cannot be taken back, it stays",
    "skipped": "would be skipped",
    None: "would not be done",
}
_REDONE: Mapping[str | None, str] = _SAID | {
    "merged": "merged: only this change was made again, what others changed stays",
    "already_undone": "there already, nothing had to be done",
}
_WOULD_REDO: Mapping[str | None, str] = _WOULD | {
    "merged": "would be merged: only this change is made again, what others changed stays",
    "already_undone": "is there already",
    "irreversible": "cannot be brought back",
}
_BACK: Final = {"redo": "brought back"}
"""What a rollback of this kind does to an action, if it does not take it back."""


def rollback_report(
    steps: Sequence[StepAnswer], status: str, open_items: Sequence[OpenItemAnswer], kind: str = "rollback"
) -> str:
    """What a rollback did, or (status `planned` or `pending_approval`) would do.

    Said from the outcomes of the steps, whatever the status claims.

    :param kind: of the rollback; a `redo` brings back what another one took away.
    """
    planned = status in ("planned", "pending_approval")
    words = (_WOULD_REDO if planned else _REDONE) if kind == "redo" else _WOULD if planned else _SAID
    parts = [_headline(steps, planned, _BACK.get(kind, "taken back"))]
    if status == "pending_approval":
        parts.append("A person has to agree before it begins.")
    if status == "failed":
        parts.append("The rollback itself failed; the lines below say how far it came.")
    # what needs attention comes before what went well, so that no bound on the lines can hide it
    ordered = sorted(steps, key=lambda step: step.outcome in _GOOD)
    if ordered:
        parts.append(
            "\n".join(f"- {line}" for line in bounded((_step_line(step, words) for step in ordered), 2 * MOST))
        )
    if open_items:
        settle = (
            full_stop(
                f"{name(item.object)} ({item.conflict_id}): {full_stop(capital(sentence(item.why)))}"
                f" {sentence(item.next_step)}"
            )
            for item in open_items
        )
        parts += ["Open until somebody settles it:", "\n".join(f"- {line}" for line in bounded(settle))]
    return "\n\n".join(parts) + "\n"


def _headline(steps: Sequence[StepAnswer], planned: bool, done: str) -> str:
    if not steps:
        return f"There is nothing to be {done}."
    # what changed nothing is not counted among what could not be taken back
    idle = [step for step in steps if step.outcome == "skipped" and not step.object and not step.objects]
    good = [step for step in steps if step.outcome in _GOOD]
    number = len(steps) - len(idle)
    bad = number - len(good)
    besides = f" {counted(len(idle), 'action')} had changed nothing." if idle else ""
    if not number:
        return f"Nothing {'would be' if planned else 'was'} {done}.{besides}"
    if planned:
        head = f"A plan, nothing has been done: {len(good)} of {counted(number, 'action')} can be {done}"
        return head + (f", {bad} cannot." if bad else ".") + besides
    if not good:
        return f"Nothing was {done}: none of {counted(number, 'action')}.{besides}"
    counts = Counter[str]([step.outcome or "" for step in good])
    how = ", ".join(f"{counts[word]} {word.replace('_', ' ')}" for word in _GOOD if counts[word])
    if bad:
        return f"{len(good)} of {counted(number, 'action')} {done} ({how}); {bad} not.{besides}"
    return f"{'All' if len(good) > 1 else 'The'} {counted(len(good), 'action')} {done} ({how}).{besides}"


def _step_line(step: StepAnswer, words: Mapping[str | None, str]) -> str:
    objects = list(dict.fromkeys(step.objects or ([step.object] if step.object else [])))
    what = ", ".join(map(name, objects[:3])) + (f" and {len(objects) - 3} more" if len(objects) > 3 else "")
    line = f"{what} ({step.tool}): {words[step.outcome]}" if what else f"{step.tool}: {words[step.outcome]}"
    return full_stop(f"{line}. {capital(sentence(step.why))}" if step.why else line)
