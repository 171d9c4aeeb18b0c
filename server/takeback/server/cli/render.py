"""Answers of the engine as blocks. Pure: no terminal, no clock, no engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from takeback.server.cli.blocks import Block, Cell, Diff, Id, Line, Piece, Places, Table, Tone, line, said
from takeback.server.cli.commands import in_commands
from takeback.server.engine.answers import (
    ApprovalInfo,
    Brief,
    CheckpointPage,
    FailureReport,
    OpenItemAnswer,
    RollbackAnswer,
    RunDetail,
    RunPage,
    StepAnswer,
    VersionPage,
)

_STATUS_TONE: Mapping[str, Tone] = {
    "open": "plain",
    "applied": "good",
    "sent": "good",
    "held": "warn",
    "sending": "warn",
    "late": "warn",
    "unknown": "bad",
    "cancelled": "faint",
    "finished": "good",
    "complete": "good",
    "restored": "good",
    "merged": "good",
    "compensated": "good",
    "already_undone": "faint",
    "skipped": "faint",
    "rolled_back": "faint",
    "planned": "plain",
    "intended": "warn",
    "in_doubt": "warn",
    "stalled": "warn",
    "sealed": "warn",
    "partial": "warn",
    "pending_approval": "warn",
    "requested": "warn",
    "conflict": "bad",
    "failed": "bad",
    "irreversible": "bad",
    "contained": "bad",
    "quarantined": "bad",
}


_TAKEN = frozenset({"restored", "merged", "already_undone", "compensated"})
"""Outcomes of an undo that leave nothing of the act."""
MOST_STEPS = 200
"""Rows that a person still reads; `--json` has them all."""


def status(word: str) -> Cell:
    """A status or outcome word in its tone."""
    return Cell(word, _STATUS_TONE.get(word, "plain"))


def clock(at: str) -> str:
    """An RFC 3339 time without the parts that nobody reads: "2026-11-20 18:31:33Z"."""
    return at.replace("T", " ").partition(".")[0].rstrip("Z") + "Z" if at else ""


def more(cursor: str | None) -> list[Block]:
    """That a list goes on."""
    return [line(Cell("There is more: --cursor", "faint"), cursor)] if cursor else []


def runs(page: RunPage) -> list[Block]:
    """Runs, newest first."""
    if not page.runs:
        return [said("No runs.")]
    rows = tuple(
        (
            Id(run.run_id),
            status(run.status),
            f"{run.standing}/{run.actions}",
            Cell(str(run.open_items), "bad" if run.open_items else "faint"),
            clock(run.last_at),
            run.client,
            run.goal or ("(default run)" if run.default else ""),
        )
        for run in page.runs
    )
    return [Table(("run", "status", "standing", "open", "last", "client", "goal"), rows), *more(page.cursor)]


def timeline(detail: RunDetail) -> list[Block]:
    """One run: what it is, what it did, what is open."""
    run = detail.run
    blocks: list[Block] = [
        line(
            Cell("run", "strong"), Id(run.run_id), status(run.status), f"{run.standing} of {run.actions} actions stand"
        ),
        line(f"{clock(run.started_at)} to {clock(run.last_at)}, by {run.owner} through {run.client}", indent=1),
    ]
    if run.goal:
        blocks.append(line("goal:", run.goal, indent=1))
    if detail.why:
        blocks.append(line("why:", detail.why, indent=1))
    if detail.summary:
        blocks.append(line(detail.summary, indent=1))
    if detail.steps:
        blocks += [
            line(Cell("planned steps:", "strong"), detail.progress),
            *(line(f"{n}.", step, indent=1) for n, step in enumerate(detail.steps, 1)),
        ]
    if detail.actions:
        day = clock(run.started_at)[:11]
        rows = tuple(_action(action, day) for action in detail.actions)
        blocks.append(Table(("at", "action", "tool", "status", "checkpoint", "what"), rows))
    blocks += [line("taken back by", Id(rollback), indent=1) for rollback in detail.rollbacks]
    blocks += open_items(detail.open_items) if detail.open_items else []
    blocks += [line("waits for a person:", Id(approval), indent=1) for approval in detail.pending_approvals]
    if detail.report is not None:
        blocks += report(detail.report)
    return blocks


def _action(action: Mapping[str, object], day: str) -> tuple[Piece, ...]:
    def word(*names: str) -> str:
        return next((str(action[name]) for name in names if action.get(name)), "")

    present = word("status")
    # a redo ends in the same words as a rollback; what it brought back stands
    outcome = "" if action.get("stands") and word("undo_outcome") in _TAKEN else word("undo_outcome")
    release = clock(word("release_at")).removeprefix(day)
    what = word("summary", "error")
    return (
        clock(word("at")).removeprefix(day),
        Id(word("action_id")),
        word("tool"),
        status(outcome or present),
        Id(word("checkpoint_id")),
        f"leaves at {release}: {what}" if release else what,
    )


def report(told: FailureReport) -> list[Block]:
    """What became of a run that did not go well: the accomplished first."""
    parts = (("done", told.done), ("preserved", told.preserved), ("failed", told.failed), ("remaining", told.remaining))
    blocks: list[Block] = []
    if told.since:
        blocks.append(line(told.status.replace("_", " "), Cell("since", "faint"), clock(told.since)))
    for name, sentences in parts:
        if sentences:
            blocks += [said(name, "strong"), *(line(in_commands(sentence), indent=1) for sentence in sentences)]
    if told.first_step:
        blocks.append(line(Cell("first:", "strong"), in_commands(told.first_step)))
    return blocks


def diff(detail: RunDetail) -> list[Block]:
    """What the run changed, as a diff."""
    return [Diff(detail.diff)] if detail.diff else [said("The run has changed nothing that still stands.")]


def checkpoints(page: CheckpointPage) -> list[Block]:
    """Checkpoints, newest first, the recommended one marked."""
    if not page.checkpoints:
        return [said("No checkpoints.")]
    rows = tuple(
        (
            Id(each.checkpoint_id),
            Id(each.run_id),
            clock(each.at),
            Cell("recommended", "good")
            if each.recommended
            else Cell("safe" if each.verified_safe else "drifted" if each.drift else "no", "faint"),
            f"{each.label or each.summary}{' (pinned)' if each.pinned else ''}",
            Places(tuple(each.drift)),
        )
        for each in page.checkpoints
    )
    return [Table(("checkpoint", "run", "at", "safe", "after", "changed by others since"), rows), *more(page.cursor)]


def versions(page: VersionPage) -> list[Block]:
    """Earlier contents, newest first."""
    if not page.versions:
        return [said("No earlier versions are kept.")]
    rows = tuple(
        (
            Id(each.version),
            clock(each.at),
            "" if each.size is None else size(each.size),
            each.tool,
            Id(each.run_id),
            each.what if each.available else "no longer kept",
        )
        for each in page.versions
    )
    return [Table(("version", "at", "size", "tool", "run", "what"), rows), *more(page.cursor)]


def steps(each: Sequence[StepAnswer], *, heading: str = "outcome") -> Table:
    """What became, or would become, of each action; of very many the first, and how many more there are."""
    rows = tuple(
        (
            status(step.outcome or ""),
            Id(step.action_id),
            step.tool,
            Places(tuple(step.called or step.objects) or (step.object,)),
            step.why,
        )
        for step in each[:MOST_STEPS]
    )
    if len(each) > MOST_STEPS:
        rows = (*rows, (Cell("…"), Id(""), f"{len(each) - MOST_STEPS:,} more", Places(()), ""))
    columns = (heading, "action", "tool", "object", "why")
    if not any(row[-1] for row in rows):
        return Table(columns[:-1], tuple(row[:-1] for row in rows))
    return Table(columns, rows)


def plan(answer: RollbackAnswer, *, previews: bool = True) -> list[Block]:
    """What a rollback would do, before anything is done."""
    if not answer.steps:
        return [said("There is nothing to take back.")]
    blocks: list[Block] = [said(f"Plan: {count(len(answer.steps), 'step')}. Nothing has been done yet.", "strong")]
    blocks.append(steps(answer.steps, heading="would be"))
    if previews:
        blocks += [Diff(step.preview) for step in answer.steps[:MOST_STEPS] if step.preview]
    if answer.other_runs:
        blocks.append(
            said("Other runs built on the same objects; name them with --cascade to take them back too:", "warn")
        )
        blocks += [line(Id(run), indent=1) for run in answer.other_runs]
    return blocks


def rollback(answer: RollbackAnswer, back: str = "To bring it back") -> list[Block]:
    """What a rollback did.

    :param back: what taking it back would do.
    """
    blocks: list[Block] = []
    if answer.steps:
        blocks.append(steps(answer.steps))
    if answer.error is not None:
        blocks += [said(answer.error.message, "bad"), said(in_commands(answer.error.advice))]
    if answer.open_items:
        blocks += open_items(answer.open_items)
    if answer.other_runs:
        blocks += [line("in the way:", Id(run), indent=1) for run in answer.other_runs]
    words: list[Piece] = [Cell("rollback", "strong")]
    if answer.rollback_id:
        words.append(Id(answer.rollback_id))
    blocks.append(Line((*words, status(answer.status))))
    if answer.rollback_id and answer.status in {"complete", "partial"} and answer.steps:
        blocks.append(line(Cell(f"{back}: takeback redo", "faint"), Id(answer.rollback_id)))
    return blocks


def brief(answer: Brief) -> list[Block]:
    """What an agent continues from."""
    blocks: list[Block] = []
    if answer.run_id:
        blocks.append(line(Cell("new run", "strong"), answer.run_id))
    blocks.append(line("goal:", answer.goal, indent=1))
    for name, sentences in (
        ("done", [f"{step.tool}: {step.summary}" for step in answer.done]),
        ("remaining", answer.remaining),
        ("do not repeat", answer.do_not_repeat),
        ("changed by others since", answer.drift),
        ("cannot be taken back, and has happened", answer.receipts),
    ):
        if sentences:
            blocks += [said(name, "strong"), *(line(sentence, indent=1) for sentence in sentences)]
    if answer.next_step:
        blocks.append(line(Cell("next:", "strong"), answer.next_step))
    if answer.rollback is not None:
        blocks += plan(answer.rollback) if answer.run_id is None else rollback(answer.rollback)
    return blocks


def open_items(items: Sequence[OpenItemAnswer]) -> list[Block]:
    """What a person has to settle."""
    if not items:
        return [said("Nothing is open.")]
    rows = tuple(
        (
            Id(item.conflict_id),
            status(item.kind),
            Places((item.called or item.object,)),
            item.why,
            in_commands(item.next_step),
        )
        for item in items
    )
    return [Table(("id", "kind", "object", "why", "next step"), rows, title="Open")]


def conflict(item: OpenItemAnswer, versions: Mapping[str, bytes | None]) -> list[Block]:
    """One conflict with its three versions."""
    names = {"base": "as the agent left it", "ours": "what the undo would put back", "theirs": "what is there now"}
    blocks: list[Block] = [
        line(Id(item.conflict_id), status(item.kind), Places((item.called or item.object,))),
        line(item.why, indent=1),
    ]
    for name, meaning in names.items():
        content = versions.get(name)
        blocks.append(said(f"--- {name}: {meaning}", "strong"))
        blocks.append(said("(does not exist)", "faint") if content is None else Diff(_text(content)))
    blocks.append(
        line(Cell("To settle it: takeback resolve", "strong"), Id(item.conflict_id), "--keep theirs|ours|beside")
    )
    return blocks


def _text(content: bytes, limit: int = 64 * 1024) -> str:
    try:
        text = content[:limit].decode("utf-8", errors="strict" if len(content) <= limit else "ignore")
    except UnicodeDecodeError:
        return f"({size(len(content))} that are not text)"
    return text if len(content) <= limit else f"{text}\n(cut after {size(limit)})"


def approvals(asked: Sequence[ApprovalInfo]) -> list[Block]:
    """Questions to a person."""
    if not asked:
        return [said("Nothing waits for a person.")]
    rows = tuple(
        (
            Id(each.approval_id),
            status(each.status),
            each.tool,
            clock(each.expires_at),
            (f"(void: {each.why}) " if each.why else "") + " ".join(each.question.split()),
        )
        for each in asked
    )
    return [Table(("approval", "status", "tool", "until", "question"), rows)]


def approval(asked: ApprovalInfo) -> list[Block]:
    """One question, whole."""
    return [
        line(Id(asked.approval_id), status(asked.status), asked.tool, "in", Id(asked.run_id)),
        Diff(asked.question),
        line("why it is asked:", asked.reason),
    ]


def facts(title: str, pairs: Iterable[tuple[str, object]]) -> list[Block]:
    """A heading, and what is known below it."""
    return [said(title, "strong"), *(line(Cell(f"{name}:", "faint"), str(value), indent=1) for name, value in pairs)]


def count(number: int, noun: str) -> str:
    """ "1 step", "2 steps"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """Bytes for people: "512 B", "1.2 MiB"."""
    amount = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{number:,} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
