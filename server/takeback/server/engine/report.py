"""What became of a run or of a rollback, in words for people.

Pure: views in, text out. The accomplished comes first; the word "restored" stands only where an outcome says so. Every name
that somebody else may have chosen (objects, goals, steps, messages) is shown with its invisible characters escaped.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from takeback.checkpoints.checkpoint import remaining_steps
from takeback.journal.views import ActionView, CheckpointView, OpenItem, RunView
from takeback.server.engine.answers import FailureReport, OpenItemAnswer, StepAnswer

if TYPE_CHECKING:
    from takeback.journal.states import Effect

MOST = 20
"""Lines of one part of a report; more are counted."""
TIMELINE = 40
LINE = 300
"""Characters of one piece of somebody else's text."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANK = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\u034f\u180b\u180c\u180d\u180f")
"""Characters that are letters or marks by name, and cannot be seen."""


def shown(text: str) -> str:
    """Text so that what is read is what is there: control, bidirectional, zero-width and other invisible characters escaped.

    One line comes out, whatever goes in.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if _hidden(character) else character for character in text)


def shown_lines(text: str) -> str:
    """As `shown`, for text of several lines (a diff): line breaks and tabs stay."""
    return "\n".join("\t".join(map(shown, line.split("\t"))) for line in text.split("\n"))


def _hidden(character: str) -> bool:
    return (
        unicodedata.category(character) in _HIDDEN
        or character in _BLANK
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def sentence(text: str) -> str:
    """Somebody's text as one line of a report: white space collapsed, invisible characters escaped, cut if it is long."""
    line = shown(" ".join(text.split()))
    return line if len(line) <= LINE else line[: LINE - 1] + "…"


def name(text: str) -> str:
    """A name in a report, set off from the sentence so that it cannot pass for a part of it."""
    return "`" + sentence(text).replace("`", "\\x60") + "`"


def _full_stop(text: str) -> str:
    return text if not text or text[-1] in ".!?…" else text + "."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _bounded(lines: Iterable[str], most: int = MOST) -> list[str]:
    everything = list(lines)
    if len(everything) <= most:
        return everything
    return [*everything[: most - 1], f"… and {len(everything) - most + 1} more."]


# --- a run ------------------------------------------------------------------------------------------------------------


def failure_report(
    run: RunView,
    actions: Sequence[ActionView],
    open_items: Sequence[OpenItem],
    now: datetime,
    *,
    mail: Mapping[str, str] | None = None,
) -> FailureReport:
    """What became of a run: done, preserved, failed, left to do, and the first thing to do now.

    :param actions: all of the run, in any order.
    :param open_items: what waits for a person; those that are resolved are passed over.
    :param mail: by act that held messages: one sentence about where they are by now.
    """
    mail = mail or {}
    ordered = sorted(actions, key=lambda action: action.position)
    items = [item for item in open_items if item.status == "open"]
    standing = [action for action in ordered if action.stands]
    left = remaining_steps(run, standing, _end_of(run, ordered))
    failures = _failures(ordered)
    doubtful = [action for action in ordered if action.status in ("intended", "in_doubt")]

    done = _done(run, standing, left, mail)
    preserved = _preserved(ordered, items)
    failed = _bounded(_failed(run, failures, doubtful, items))
    remaining = _bounded([*(f"The step {name(step)}." for step in left), *map(_to_settle, items)])
    first = _first_step(run, failures, doubtful, items, left, standing)
    text = _text(run, now, ordered, done, preserved, failed, remaining, first, mail)
    return FailureReport(
        done=done, preserved=preserved, failed=failed, remaining=remaining, first_step=first, text=text
    )


def _end_of(run: RunView, actions: Sequence[ActionView]) -> CheckpointView:
    position = actions[-1].position if actions else run.version
    return CheckpointView(id="", run_id=run.run_id, version=run.version, position=position, at=run.started_at)


def _done(run: RunView, standing: Sequence[ActionView], left: Sequence[str], mail: Mapping[str, str]) -> list[str]:
    applied = [action for action in standing if action.status == "applied"]
    if run.steps:
        head = f"{len(run.steps) - len(left)} of {len(run.steps)} steps done."
    elif applied:
        head = f"{_counted(len(applied), 'action')} done."
    else:
        head = "Nothing has been changed."
    return _bounded([head, *(_told(action, action.summary or _what(action), mail) for action in applied)])


def _told(action: ActionView, what: str, mail: Mapping[str, str]) -> str:
    return " ".join(part for part in (_full_stop(sentence(what)), mail.get(action.id, "")) if part)


def _what(action: ActionView) -> str:
    objects = ", ".join(shown(effect.object) for effect in action.effects[:3])
    return f"{action.tool}: {objects}" if objects else action.tool


def _failures(actions: Sequence[ActionView]) -> list[ActionView]:
    # a call that failed and was then made again with success is no failure of the run
    made_good: set[tuple[str, str | None, str]] = set()
    found: list[ActionView] = []
    for action in reversed(actions):
        key = (action.tool, action.step, repr(sorted(action.requested.items(), key=lambda item: item[0])))
        if action.status == "applied":
            made_good.add(key)
            if action.step:
                made_good.add((action.tool, action.step, ""))
        elif action.status in ("failed", "denied"):
            nameless = (action.tool, action.step, "") if action.step and not action.requested else key
            if key not in made_good and nameless not in made_good:
                found.append(action)
    return found[::-1]


def _failed(
    run: RunView, failures: Sequence[ActionView], doubtful: Sequence[ActionView], items: Sequence[OpenItem]
) -> Iterable[str]:
    match run.status:
        case "contained" | "quarantined":
            yield _full_stop(f"The run was {run.status}: {sentence(run.why or 'no reason was given')}")
        case "stalled":
            yield _full_stop(f"The run has stalled: {sentence(run.why or 'nobody has moved for a long time')}")
        case "failed":
            yield _full_stop(f"The run was given up: {sentence(run.summary or run.why or 'no reason was given')}")
        case _:
            pass
    for action in failures:
        step = f" in the step {name(action.step)}" if action.step else ""
        verb = "was not allowed" if action.status == "denied" else "failed"
        yield _full_stop(f"{action.tool} {verb}{step}: {sentence(action.error or 'no reason was recorded')}")
    named = {item.action_id for item in items if item.kind == "in_doubt"}
    for action in doubtful:
        if action.id not in named:
            objects = ", ".join(name(effect.object) for effect in action.effects[:3])
            yield f"Nobody knows whether {action.tool} took effect{' on ' + objects if objects else ''}."
    for item in items:
        words = {
            "conflict": "was not taken back, because somebody else changed it",
            "failed": "could not be taken back",
            "in_doubt": "is in doubt",
            "irreversible": "cannot be taken back",
            "denied": "was not allowed to be taken back",
        }
        yield _full_stop(f"{name(item.object)} {words[item.kind]}: {sentence(item.why)}")


def _preserved(actions: Sequence[ActionView], items: Sequence[OpenItem]) -> list[str]:
    first: dict[tuple[str, str], tuple[ActionView, Effect]] = {}
    for action in actions:
        if action.stands and action.reversibility == "reversible":
            for effect in action.effects:
                if effect.before.kind != "opaque" and not effect.before.same(effect.after):
                    first.setdefault((effect.system, effect.object), (action, effect))
    lines: list[str] = []
    for action, effect in first.values():
        if effect.before.absent:
            lines.append(f"{name(effect.object)} is new and stands; taking back {action.id} removes it.")
        elif effect.before.kind in ("file", "row", "event", "message", "text"):
            lines.append(
                f"The {effect.before.kind} {name(effect.object)} as it was before this run is kept: put it back with "
                f"restore_version, version {action.id}:before."
            )
        else:
            lines.append(
                f"{name(effect.object)} as it was before this run is kept: take back {action.id} with rollback_run."
            )
    back: dict[str, int] = Counter(
        action.taken_back_by for action in actions if action.taken_back_by is not None and not action.stands
    )
    for rollback, number in back.items():
        lines.append(f"What {_counted(number, 'taken-back action')} had made is kept: redo_rollback with {rollback}.")
    for item in items:
        if item.kind == "conflict":
            lines.append(f"All versions of {name(item.object)} that are in conflict are kept, under {item.id}.")
    last = next((a for a in reversed(actions) if a.stands and a.checkpoint_id), None)
    if last is not None:
        lines.append(f"Everything up to here: checkpoint {last.checkpoint_id}; go on from it with resume_from.")
    if len(lines) <= MOST:
        return lines
    # the checkpoint is what reaches everything, so it is never the one that is left out
    kept = lines[: MOST - 2]
    return [*kept, f"… and {len(lines) - len(kept) - 1} more.", lines[-1]]


def _to_settle(item: OpenItem) -> str:
    return _full_stop(f"Settle {item.id} ({name(item.object)}): {sentence(item.next_step)}")


def _first_step(
    run: RunView,
    failures: Sequence[ActionView],
    doubtful: Sequence[ActionView],
    items: Sequence[OpenItem],
    left: Sequence[str],
    standing: Sequence[ActionView],
) -> str:
    urgent = sorted(items, key=lambda item: item.kind != "in_doubt")
    if urgent:
        return _to_settle(urgent[0])
    if doubtful:
        return f"Find out whether {doubtful[0].tool} took effect, before anything is repeated."
    if run.status in ("contained", "quarantined"):
        return f"Look at what it did; then roll it back with rollback_run, or let it go on: takeback release {run.id}."
    if failures and run.status in ("open", "stalled", "failed"):
        last = failures[-1]
        return _full_stop(sentence(last.advice) or f"Mend what made {last.tool} fail, then call it again")
    if left and run.status in ("open", "stalled"):
        return f"Go on with the step {name(left[0])}."
    if left and standing:
        return f"Go on with the step {name(left[0])} in a new run: resume_from with the checkpoint above."
    return "Nothing needs to be done."


def _text(
    run: RunView,
    now: datetime,
    actions: Sequence[ActionView],
    done: Sequence[str],
    preserved: Sequence[str],
    failed: Sequence[str],
    remaining: Sequence[str],
    first: str,
    mail: Mapping[str, str],
) -> str:
    parts = [
        f"# {sentence(run.goal)}",
        f"Run {run.id} is {run.status.replace('_', ' ')}, as of {_day(now)} {_clock(now)} UTC.",
        f"**First: {first}**",
    ]
    for title, lines in (
        ("Done", done),
        ("Kept", preserved),
        ("Failed", failed),
        ("Left to do", remaining),
        ("What happened when", _timeline(actions, mail)),
    ):
        if lines:
            parts += [f"## {title}", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def _timeline(actions: Sequence[ActionView], mail: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    day = ""
    for action in actions[-TIMELINE:]:
        today = _day(action.at)
        at = _clock(action.at) if today == day else f"{today} {_clock(action.at)}"
        day = today
        what = action.summary or action.error or _what(action)
        back = f" Taken back since: {action.undo_outcome}." if action.undo_outcome and not action.stands else ""
        status = "held" if action.id in mail and action.status == "applied" else action.status.replace("_", " ")
        lines.append(f"{at}, {action.tool}, {status}: {_told(action, what, mail)}{back}")
    if len(actions) > TIMELINE:
        lines.insert(0, f"… {len(actions) - TIMELINE} earlier ones; get_run with view journal shows all.")
    return lines


def _day(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def _clock(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%H:%M:%S")


# --- a rollback -------------------------------------------------------------------------------------------------------

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


def rollback_report(steps: Sequence[StepAnswer], status: str, open_items: Sequence[OpenItemAnswer]) -> str:
    """What a rollback did, or (status `planned` or `pending_approval`) would do.

    Said from the outcomes of the steps, whatever the status claims.
    """
    planned = status in ("planned", "pending_approval")
    words = _WOULD if planned else _SAID
    parts = [_headline(steps, planned)]
    if status == "pending_approval":
        parts.append("A person has to agree before it begins.")
    if status == "failed":
        parts.append("The rollback itself failed; the lines below say how far it came.")
    # what needs attention comes before what went well, so that no bound on the lines can hide it
    ordered = sorted(steps, key=lambda step: step.outcome in _GOOD)
    if ordered:
        parts.append(
            "\n".join(f"- {line}" for line in _bounded((_step_line(step, words) for step in ordered), 2 * MOST))
        )
    if open_items:
        settle = (
            _full_stop(
                f"{name(item.object)} ({item.conflict_id}): {_full_stop(sentence(item.why))} {sentence(item.next_step)}"
            )
            for item in open_items
        )
        parts += ["Open until somebody settles it:", "\n".join(f"- {line}" for line in _bounded(settle))]
    return "\n\n".join(parts) + "\n"


def _headline(steps: Sequence[StepAnswer], planned: bool) -> str:
    if not steps:
        return "There is nothing to take back."
    good = [step for step in steps if step.outcome in _GOOD]
    bad = len(steps) - len(good)
    if planned:
        head = f"A plan, nothing has been done: {len(good)} of {_counted(len(steps), 'action')} can be taken back"
        return head + (f", {bad} cannot." if bad else ".")
    if not good:
        return f"Nothing was taken back: none of {_counted(len(steps), 'action')}."
    counts = Counter[str]([step.outcome or "" for step in good])
    how = ", ".join(f"{counts[word]} {word.replace('_', ' ')}" for word in _GOOD if counts[word])
    if bad:
        return f"{len(good)} of {_counted(len(steps), 'action')} taken back ({how}); {bad} not."
    return f"{'All' if len(good) > 1 else 'The'} {_counted(len(good), 'action')} taken back ({how})."


def _step_line(step: StepAnswer, words: dict[str | None, str]) -> str:
    objects = list(dict.fromkeys(step.objects or ([step.object] if step.object else [])))
    what = ", ".join(map(name, objects[:3])) + (f" and {len(objects) - 3} more" if len(objects) > 3 else "")
    line = f"{what} ({step.tool}): {words[step.outcome]}" if what else f"{step.tool}: {words[step.outcome]}"
    return _full_stop(f"{line}. {sentence(step.why)}" if step.why else line)
