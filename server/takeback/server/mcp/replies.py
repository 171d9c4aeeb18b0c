"""Answers of the engine as results of tool calls: the structured value, and the same in a few plain words.

Many clients show a model only the words, so the words carry what the next call needs: the ids, the error with its advice.
What tools return is data: nothing here turns it into an instruction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, cast

from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, PrivateAttr

from takeback.server.engine.answers import (
    CallAnswer,
    EngineError,
    ErrorInfo,
    FailureReport,
    ReadAnswer,
    RollbackAnswer,
    StartedRun,
)

_SAID_ONLY_IF_THERE: Final = frozenset(
    {"release_at", "approval_id", "question", "preview", "error", "report", "run_status", "diff", "journal", "shadow"}
)
"""Fields that are left out of the structured answer while they are null; all others are always there."""

HEAD_KEY: Final = "io.github.takeback/head"
"""Where an answer's `_meta` names the head of the run's chain: an anchor outside the data directory."""

LINES_TOLD = 3
"""Lines of each part of a report that are told in words with a failed call."""
STEPS_TOLD = 20
"""Steps of a rollback that are told in words; the structured answer has all."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A call that waits for a person."""

    approval_id: str
    question: str


class Reply(CallToolResult):
    """The result of a tool call that knows whether it waits for a person."""

    _pending: Pending | None = PrivateAttr(default=None)

    @property
    def pending(self) -> Pending | None:
        """The consent without which nothing was done."""
        return self._pending

    @property
    def leaves_open(self) -> bool:
        """Whether something was taken back, and part of it waits for a person."""
        answer: dict[str, Any] = self.structured_content or {}
        return bool(answer.get("rollback_id") and answer.get("open_items"))

    def waiting_for(self, pending: Pending) -> Reply:
        """The same result, marked as waiting."""
        self._pending = pending
        return self


def structured(answer: BaseModel) -> dict[str, Any]:
    """The structured form: everything that is promised, without empty extras."""
    return _lean(answer.model_dump(mode="json"))


def _lean(value: dict[str, Any]) -> dict[str, Any]:
    lean = {key: item for key, item in value.items() if item is not None or key not in _SAID_ONLY_IF_THERE}
    nested = lean.get("rollback")
    if isinstance(nested, dict):
        lean["rollback"] = _lean(cast(dict[str, Any], nested))
    return lean


def reply(answer: BaseModel, *words: str, is_error: bool = False) -> Reply:
    """A result from an answer and what to say about it."""
    return Reply(
        content=[TextContent(type="text", text=text) for text in words if text],
        structured_content=structured(answer),
        is_error=is_error,
    )


def refusal(code: str, message: str, advice: str = "") -> Reply:
    """An error that the model can mend: one sentence of fact, one of advice."""
    error = ErrorInfo(code=code, message=message, advice=advice)
    return Reply(
        content=[TextContent(type="text", text=_sentences(message, advice))],
        structured_content={"error": error.model_dump(mode="json")},
        is_error=True,
    )


def refused(error: EngineError) -> Reply:
    """The engine's refusal as a result."""
    return refusal(error.code, error.message, error.advice)


def as_json(value: object) -> str:
    """Compact JSON for the words of an answer."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_reply(answer: ReadAnswer) -> Reply:
    """What a reading tool found. Text content stands in the words as it is, everything else as JSON."""
    if answer.error is not None:
        return refusal(answer.error.code, answer.error.message, answer.error.advice)
    result = answer.result or {}
    content = result.get("content")
    words = [as_json(result)]
    if isinstance(content, str) and result.get("encoding", "utf-8") == "utf-8":
        words = [content, as_json({key: value for key, value in result.items() if key != "content"})]
    return Reply(content=[TextContent(type="text", text=text) for text in words], structured_content=dict(result))


def call_reply(answer: CallAnswer) -> Reply:
    """What an acting tool did, or why not."""
    result = reply(answer, _call_words(answer), is_error=answer.is_error)
    if answer.head is not None:
        result.meta = {HEAD_KEY: answer.head}
    if answer.status == "pending_approval" and answer.approval_id:
        result.waiting_for(Pending(answer.approval_id, answer.question or answer.summary))
    return result


def _call_words(answer: CallAnswer) -> str:
    lines: list[str] = []
    match answer.status:
        case "pending_approval":
            lines.append(waiting_words(answer.approval_id or "", answer.question or answer.summary))
        case "denied" | "failed" | "in_doubt":
            error = answer.error
            lines.append(_sentences(error.message, error.advice) if error is not None else answer.summary)
            if answer.report is not None:
                lines += _standing(answer.report)
        case "shadowed":
            lines += ["Nothing was done. It would:", *answer.preview] if answer.preview else [answer.summary]
        case "replayed":
            lines.append(_sentences("Done before, not done again", answer.summary))
        case "held":
            until = "" if not answer.release_at or answer.release_at in answer.summary else answer.release_at
            lines.append(_sentences(answer.summary, f"Held until {until}" if until else ""))
        case "applied" | "staged":
            lines.append(answer.summary)
    lines.append(_ids(answer))
    lines += [f"Note: {warning}" for warning in answer.warnings]
    return "\n".join(line for line in lines if line)


def _standing(report: FailureReport) -> list[str]:
    """Where the run stands, in a line each: a failed call is no reason to read a whole report."""
    parts = (("So far", report.done), ("Preserved", report.preserved), ("Left to do", report.remaining))
    told = [f"{name}: {' '.join(lines[:LINES_TOLD])}" for name, lines in parts if lines]
    return [*told, f"First: {report.first_step}"] if report.first_step else told


def _ids(answer: CallAnswer) -> str:
    if not answer.run_id:
        return ""
    if answer.error is not None and answer.error.code == "not_found" and answer.action_id is None:
        return ""  # there is no such run
    words = f"run_id {answer.run_id}"
    if answer.action_id:
        words += f", action_id {answer.action_id}"
    if answer.checkpoint_id:
        words += f", checkpoint_id {answer.checkpoint_id}"
    if answer.undo is not None and not answer.is_error and answer.status != "shadowed":
        until = f" (until {answer.undo.until})" if answer.undo.until else ""
        words += f". To take it back: rollback_run{until}"
    return f"{words}."


PAGE_KEY: Final = "io.github.takeback/page"
"""Where an answer's `_meta` names the place on the local page at which a person decides."""


def with_link(result: Reply, link: str, words: str) -> Reply:
    """The same result, with a link for the person. It carries no key: whoever follows it has to be known there."""
    result.content = [*result.content, TextContent(type="text", text=f"{words} {link}")]
    result.meta = {**(result.meta or {}), PAGE_KEY: link}
    return result


def waiting_words(approval_id: str, question: str) -> str:
    """What to say where nobody can be asked from here."""
    return (
        f"Nothing was done: pending approval {approval_id}. {question}\n"
        f"A person approves it with `takeback approve {approval_id}`; then repeat exactly the same call."
    )


def rollback_reply(answer: RollbackAnswer) -> Reply:
    """What a rollback did, would do, or waits for."""
    result = reply(answer, rollback_words(answer), is_error=answer.is_error)
    return mark_pending(result, answer)


def mark_pending(result: Reply, answer: RollbackAnswer | None) -> Reply:
    """Mark a result as waiting if its rollback does."""
    if answer is not None and answer.status == "pending_approval" and answer.approval_id:
        return result.waiting_for(Pending(answer.approval_id, answer.question or "Take this back?"))
    return result


def not_ended(answer: StartedRun) -> Reply:
    """A run that could not be ended as wanted: it waits for a person, or stopped on the way."""
    error = answer.error
    words = [] if error is None else [_sentences(error.message, error.advice)]
    if answer.approval_id:
        words = [waiting_words(answer.approval_id, answer.question or "")]
    words += [f"Made: {sentence}" for sentence in answer.made]
    result = reply(answer, "\n".join(words), f"Run {answer.run_id} is {answer.status}.", is_error=True)
    return result.waiting_for(Pending(answer.approval_id, answer.question or "")) if answer.approval_id else result


def rollback_words(answer: RollbackAnswer) -> str:
    """The rollback in plain words."""
    lines: list[str] = []
    if answer.status == "pending_approval":
        lines.append(waiting_words(answer.approval_id or "", answer.question or ""))
    if answer.error is not None:
        lines.append(_sentences(answer.error.message, answer.error.advice))
    elif answer.status == "planned":
        lines.append("Nothing was done; this is the plan.")
    if answer.report:
        lines.append(answer.report)
    else:
        for step in answer.steps[:STEPS_TOLD]:
            lines.append(f"- {step.object}: {step.outcome or 'planned'}{f' ({step.why})' if step.why else ''}")
        if len(answer.steps) > STEPS_TOLD:
            lines.append(f"- and {len(answer.steps) - STEPS_TOLD} more")
    if answer.status == "planned" and answer.plan_digest:
        lines.append(f"To do it, repeat the call with plan_digest {answer.plan_digest}.")
    for item in answer.open_items:
        if item.conflict_id in answer.report:
            continue
        lines.append(f"Open: {item.conflict_id} {item.object}: {_sentences(item.why, item.next_step)}")
    if answer.other_runs:
        lines.append(f"Runs in the way, to be named in cascade: {', '.join(answer.other_runs)}.")
    if answer.retracted:
        lines.append(f"Answers that no longer hold: {', '.join(answer.retracted)}.")
    ids = [
        f"{name} {value}"
        for name, value in (("rollback_id", answer.rollback_id), ("run_id", answer.run_id))
        if value is not None
    ]
    lines.append(_status(answer, ids))
    return "\n".join(line for line in lines if line)


def _status(answer: RollbackAnswer, ids: list[str]) -> str:
    tail = f"; {', '.join(ids)}" if ids else ""
    return f"Status: {answer.status}{tail}."


def _sentences(*parts: str) -> str:
    return " ".join(part if part.endswith((".", "!", "?", ":")) else f"{part}." for part in parts if part)
