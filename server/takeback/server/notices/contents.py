"""What a notice says: the lead of the report, in a few lines. Secrets are taken out, and no link carries a token."""

from __future__ import annotations

import os
from typing import Any, cast

from takeback.journal.events import (
    ApprovalRequested,
    BaseEvent,
    Caller,
    MailMoved,
    Recorded,
    RollbackFinished,
    RunContained,
    RunFinished,
    RunStalled,
    TriggerFired,
)
from takeback.journal.redaction import redact, redact_text
from takeback.journal.views import ApprovalView, OpenItem, RollbackView, RunView
from takeback.server.engine.core import Core, rfc3339
from takeback.server.engine.quoting import MARK
from takeback.server.engine.reporting import report_run
from takeback.server.engine.rollback_report import rollback_report
from takeback.server.engine.told import steps_told
from takeback.server.engine.wording import full_stop, name, sentence, shown_lines
from takeback.server.notices.channel import Notice
from takeback.server.notices.settings import Kind
from takeback.server.principal import local_principal

MOST_FAILED = 3
MOST_LINES = 6
TITLE = 120


def kind_of(event: BaseEvent | None) -> Kind | None:
    """What an event is told as; `None`: it is no news. A rollback's end is looked at once more, for there are several kinds."""
    match event:
        case RunFinished(status="failed"):
            return "run_failed"
        case RunContained():
            return "run_contained"
        case RunStalled(over=False):
            return "run_stalled"
        case TriggerFired(
            answer="warn"
        ):  # each stronger answer is told as what it does: a run contained, or taken back
            return "trigger_fired"
        case RollbackFinished():
            return "rollback_ended"
        case ApprovalRequested():
            return "approval_waits"
        case MailMoved(type="mail.late" | "mail.unknown"):
            return "mail_waits"
        case _:
            return None


async def news(core: Core, recorded: Recorded) -> Kind | None:
    """As `kind_of`, with what the journal knows: what a person resolved by hand is no news to them, and that the parts of a run
    are contained with it is told with it."""
    event = recorded.event
    kind = kind_of(event)
    if isinstance(event, RunContained):
        return None if await _with_another(core, event, recorded.position) else kind
    if isinstance(event, RollbackFinished):
        view = await core.journal.get(RollbackView, event.rollback_id)
        return kind if view is not None and view.kind in ("rollback", "redo") else None
    return kind


async def _with_another(core: Core, event: RunContained, position: int) -> bool:
    """Whether a run was contained as a part of another: then it stands right behind that one, for the same reason."""
    run = await core.journal.get(RunView, event.run_id)
    if run is None or run.parent_run_id is None or position < 2:
        return False
    before = await core.journal.read(after=position - 2, limit=1)
    other = before[0].event if before else None
    return isinstance(other, RunContained) and (other.reason, other.by) == (event.reason, event.by)


async def notice_of(core: Core, recorded: Recorded, identity: str) -> Notice | None:
    """The notice of an event, as things stand now; `None` if there is nothing to tell any more: the event was erased, or what
    waited for a person has been answered.

    :param identity: of the journal, so that ids of notices differ between journals.
    """
    event = recorded.event
    run = await core.journal.get(RunView, recorded.run_id)
    kind = kind_of(event)
    if event is None or run is None or kind is None or await _answered(core, event):
        return None
    title, lines, data = await _told(core, run, event)
    salt = os.urandom(16)
    body = shown_lines("\n".join([*lines, f"Look at it: takeback show {run.id}"]))
    goal = sentence(run.goal)
    common = {"run_id": run.id, "goal": goal, "status": run.status, "at": rfc3339(event.at)}
    return Notice(
        id=f"{identity}-{recorded.position}",
        kind=kind,
        title=redact_text(sentence(f"takeback: {title}"), salt)[:TITLE],
        body=redact_text(body, salt),
        data=cast("dict[str, Any]", redact({**common, **data}, salt)),
        place=await _place(core, run, event),
    )


async def _place(core: Core, run: RunView, event: BaseEvent) -> str:
    """Where the local page has what this is about; nowhere if it is not its person's."""
    if not core.may_see(Caller(principal=local_principal(), client="", client_version=""), run):
        return ""
    match event:
        case ApprovalRequested():
            return f"/approvals/{event.approval_id}"
        case MailMoved():
            return f"/mail/{event.message_id}"
        case RollbackFinished():
            left = await _left_open(core, event)
            return f"/open/{left[0].id}" if len(left) == 1 else f"/rollbacks/{event.rollback_id}"
        case _:
            return f"/runs/{run.id}"


async def _answered(core: Core, event: BaseEvent) -> bool:
    if not isinstance(event, ApprovalRequested):
        return False
    view = await core.journal.get(ApprovalView, event.approval_id)
    return view is None or view.status != "requested" or view.expires_at <= core.now()


async def _told(core: Core, run: RunView, event: BaseEvent) -> tuple[str, list[str], dict[str, Any]]:
    goal = sentence(run.goal)
    match event:
        case ApprovalRequested():
            everything = event.question.splitlines()
            asked = [line for line in everything if not line.startswith(MARK)][
                :MOST_LINES
            ]  # no text of mail in a notice
            left = len(everything) - len(asked)
            lines = [
                *asked,
                *(
                    [f"… and {left} more lines: read them all before you answer (takeback approvals)."]
                    if left > 0
                    else []
                ),
                f"Until {rfc3339(event.expires_at)}: takeback approve {event.approval_id}, or takeback deny"
                f" {event.approval_id}.",
            ]
            return f"may {event.tool} do this? {goal}", lines, {"approval_id": event.approval_id, "tool": event.tool}
        case TriggerFired():
            what = event.trigger.replace("_", " ")
            why = sentence(str(event.evidence.get("why") or what))
            lines = [
                full_stop(why[:1].upper() + why[1:]),
                f"Look whether this is what you want. To stop it: takeback contain {run.id} --reason …",
            ]
            return f"something looks wrong ({what}): {goal}", lines, {"trigger": event.trigger}
        case RollbackFinished():
            return await _rollback(core, event, goal)
        case MailMoved():
            return await _mail(core, event)
        case _:
            word = "was given up" if run.status == "failed" else f"is {run.status.replace('_', ' ')}"
            report = await report_run(core, run, whole=False)
            lines = [report.done[0], *report.failed[:MOST_FAILED], f"First: {report.first_step}"]
            return f"the run {word}: {goal}", lines, {"report": report.model_dump(mode="json", exclude={"text"})}


async def _rollback(core: Core, event: RollbackFinished, goal: str) -> tuple[str, list[str], dict[str, Any]]:
    view = await core.journal.get(RollbackView, event.rollback_id)
    steps = await steps_told(core, view) if view is not None else []
    text = rollback_report(steps, event.status, [], "rollback" if view is None else view.kind)
    items = await _left_open(core, event)
    lines = [line for line in text.splitlines() if line][:MOST_LINES]
    if items:
        lines.append(f"{len(items)} of it waits for a person: takeback open")
    what = "redo" if view is not None and view.kind == "redo" else "rollback"
    counts = [{"object": step.object, "outcome": step.outcome} for step in steps[:100]]
    return (
        f"a {what} is {event.status}: {goal}",
        lines,
        {"rollback_id": event.rollback_id, "rollback_status": event.status, "open_items": len(items), "steps": counts},
    )


async def _left_open(core: Core, event: RollbackFinished) -> list[OpenItem]:
    found = await core.journal.find(OpenItem, run_id=event.run_id, status="open")
    return [item for item in found if item.rollback_id == event.rollback_id]


async def _mail(core: Core, event: MailMoved) -> tuple[str, list[str], dict[str, Any]]:
    row = await core.outbox.get(event.message_id)
    what, whom = "", ""
    if row is not None:
        what = f" {name(row.message.subject)}"
        whom = f" to {sentence(', '.join(row.message.recipients) or row.message.carrier)}"
    unknown = event.type == "mail.unknown"
    fact = (
        f"Nobody knows whether the message{what}{whom} went out"
        if unknown
        else f"The message{what}{whom} was not sent and waits for you"
    )
    lines = [full_stop(f"{fact}: {sentence(event.detail)}" if event.detail else fact)]
    lines.append(f"takeback outbox show {event.message_id}")
    title = "nobody knows whether a message went out" if unknown else "a message waits for you"
    return title, lines, {"message_id": event.message_id, "message_status": event.type.removeprefix("mail.")}
