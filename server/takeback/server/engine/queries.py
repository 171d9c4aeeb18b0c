"""Questions about runs, checkpoints, versions and open items: reading only, for one caller, in bounded pages.

Foreign and unknown ids give the same answer. Cursors are opaque to those who pass them on, and checked when they come back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, get_args

from takeback.checkpoints.objects import ObjectError
from takeback.journal.events import Caller, Recorded
from takeback.journal.ids import RunId
from takeback.journal.states import Effect
from takeback.journal.views import (
    ActionView,
    ApprovalView,
    CollectedCall,
    OpenItem,
    RollbackView,
    RunStatus,
    RunView,
)
from takeback.server.engine.answers import (
    ApprovalInfo,
    EngineError,
    OpenItemAnswer,
    RunDetail,
    RunPage,
    RunSummary,
)
from takeback.server.engine.calling import open_item_answers
from takeback.server.engine.core import Core, rfc3339
from takeback.server.engine.listings import list_checkpoints, list_versions
from takeback.server.engine.pages import Visible, began, check_limit, cursor_of, place_of, runs_newest_first, time_of
from takeback.server.engine.report import sentence, shown, shown_lines
from takeback.server.engine.reporting import progress, report_run
from takeback.server.engine.shadows import WAITING, call_row, shadow_log
from takeback.server.engine.voiding import why_void
from takeback.server.engine.whereabouts import Whereabouts, foremost, messages_of
from takeback.tools.system import TargetError

ACTIONS_SHOWN = 500
EVENTS_SHOWN = 1000
DIFF_CHARACTERS = 200_000

__all__ = [
    "approval_info",
    "event_row",
    "get_run",
    "list_checkpoints",
    "list_runs",
    "list_versions",
    "open_items",
    "run_summary",
]

RunViewName = Literal["summary", "report", "diff", "journal", "shadow"]


# --- from views to answers --------------------------------------------------------------------------------------------


def run_summary(run: RunView, actions: Sequence[ActionView], open_items: int = 0) -> RunSummary:
    """A run in a list.

    :param actions: all of the run.
    :param open_items: how many things wait for a person.
    """
    times = [run.started_at, *(action.concluded_at or action.at for action in actions)]
    if run.ended_at is not None:
        times.append(run.ended_at)
    return RunSummary(
        run_id=run.id,
        goal=run.goal,
        status=run.status,
        owner=run.owner.principal,
        client=run.owner.client,
        default=run.default,
        started_at=rfc3339(run.started_at),
        last_at=rfc3339(max(times)),
        actions=len(actions),
        standing=sum(action.stands for action in actions),
        open_items=open_items,
    )


async def approval_info(core: Core, approval: ApprovalView) -> ApprovalInfo:
    """A question to a person, as it is answered."""
    return ApprovalInfo(
        approval_id=approval.id,
        run_id=approval.run_id,
        status=approval.status,
        tool=approval.tool,
        question=approval.question,
        reason=approval.reason,
        requested_at=rfc3339(approval.requested_at),
        expires_at=rfc3339(approval.expires_at),
        by=approval.by,
        why=await why_void(core, approval),
    )


def _action_row(action: ActionView, messages: Sequence[Whereabouts] = ()) -> dict[str, Any]:
    first = foremost(messages) if action.status == "applied" else None
    row: dict[str, Any] = {
        "action_id": action.id,
        "at": rfc3339(action.at),
        "tool": action.tool,
        "status": first.status if first is not None else action.status,
        "objects": [effect.object for effect in action.effects],
        "reversibility": action.reversibility,
        "stands": action.stands,
    }
    optional = {
        "step": action.step,
        "summary": action.summary,
        "error": action.error,
        "advice": action.advice,
        "reason": action.reason,
        "checkpoint_id": action.checkpoint_id,
        "taken_back_by": action.taken_back_by,
        "undo_outcome": action.undo_outcome,
        "idempotency_key": action.idempotency_key,
        "release_at": rfc3339(first.release_at) if first is not None and first.release_at is not None else "",
        "messages": [message.shown() for message in messages],
    }
    return row | {key: value for key, value in optional.items() if value}


# --- runs -------------------------------------------------------------------------------------------------------------


async def list_runs(
    core: Core,
    caller: Caller,
    *,
    status: str | None = None,
    touched: str | None = None,
    since: str | None = None,
    principal: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> RunPage:
    """The caller's runs, newest first.

    :param touched: only runs with an action on this object, or on one above or below it.
    :param since: only runs in which something happened since (RFC 3339, or so long ago: 2h, 3d).
    :param principal: only this one's, of those that the caller may see.
    :raises EngineError: a status, time, limit or cursor that is none.
    """
    check_limit(limit)
    if status is not None and status not in get_args(RunStatus):
        raise EngineError(
            "invalid", f"There is no status {shown(status)!r}.", f"One of {', '.join(get_args(RunStatus))}."
        )
    after = None if since is None else time_of(since, core.now())
    before = None if cursor is None else place_of("runs", cursor, int)[0]
    wanted = None if touched is None else await _touching_runs(core, touched)
    found: list[RunSummary] = []
    last: RunView | None = None
    if wanted is not None and not wanted:
        return RunPage(runs=[])
    async for run in runs_newest_first(core, caller, status=status, before=before):
        if (wanted is not None and run.run_id not in wanted) or principal not in (None, run.owner.principal):
            continue
        actions = await core.journal.find(ActionView, run_id=run.run_id)
        items = await core.journal.find(OpenItem, run_id=run.run_id, status="open")
        summary = run_summary(run, actions, len(items))
        if after is not None and datetime.fromisoformat(summary.last_at) < after:
            continue
        if len(found) == limit:
            assert last is not None
            return RunPage(runs=found, cursor=cursor_of("runs", await began(core, last)))
        found.append(summary)
        last = run
    return RunPage(runs=found)


async def _touching_runs(core: Core, object: str) -> set[RunId]:
    place = core.resolve(object)
    found: set[RunId] = set()
    for system in core.systems:
        found.update(action.run_id for action in await core.journal.touching(system, [place], nested=True))
    return found


async def get_run(core: Core, caller: Caller, run_id: str, *, view: RunViewName = "summary") -> RunDetail:
    """One run: always its summary, and what the view adds.

    :param view: `summary`: the actions; `report`: what became of it, in words; `diff`: what its standing actions changed;
        `journal`: its events; `shadow`: what was only shown.
    :raises EngineError: unknown or foreign.
    """
    run = await core.run(caller, run_id, "look")
    actions = await core.journal.find(ActionView, run_id=run.run_id, oldest_first=True)
    items = await core.journal.find(OpenItem, run_id=run.run_id, status="open", oldest_first=True)
    approvals = await core.journal.find(ApprovalView, run_id=run.run_id, status="requested")
    rollbacks = await core.journal.find(RollbackView, run_id=run.run_id, oldest_first=True)
    detail = RunDetail(
        run=run_summary(run, actions, len(items)),
        steps=list(run.steps),
        summary=run.summary,
        why=run.why,
        rollbacks=[rollback.id for rollback in rollbacks],
        open_items=await open_item_answers(core, items),
        pending_approvals=[approval.id for approval in approvals if approval.expires_at > core.now()],
        progress=await _progress(core, run, actions),
    )
    match view:
        case "summary":
            latest = actions[-ACTIONS_SHOWN:]
            mail = await messages_of(core, run.run_id, latest)
            detail.actions = [_action_row(action, mail.get(action.id, ())) for action in latest]
            for call in await core.journal.find(CollectedCall, run_id=run.run_id, status=WAITING, oldest_first=True):
                detail.actions.append(call_row(core, call))
        case "report":
            detail.report = await report_run(core, run)
        case "diff":
            detail.diff = await _diff(core, actions)
        case "journal":
            detail.journal = await _journal(core, run.run_id)
        case "shadow":
            detail.shadow = await shadow_log(core, caller, run_id=run_id)
    return detail


async def _progress(core: Core, run: RunView, actions: Sequence[ActionView]) -> str:
    if not run.steps:
        return ""
    come = await progress(core, run, actions)
    return f"{come.done} of {len(come.steps)} steps done."


async def _diff(core: Core, actions: Sequence[ActionView]) -> str:
    parts: list[str] = []
    room = DIFF_CHARACTERS
    effects = [effect for action in actions if action.stands for effect in action.effects if effect.verb != "unchanged"]
    for number, effect in enumerate(effects):
        text = await _described(core, effect)
        if len(text) > room:
            parts.append(f"… {len(effects) - number} more changes are not shown.")
            break
        room -= len(text)
        parts.append(text)
    return "\n\n".join(parts)


async def _described(core: Core, effect: Effect) -> str:
    system = core.systems.get(effect.system)
    plain = f"{effect.verb} {shown(effect.object)}"
    if system is None or effect.after.kind == "opaque":
        return plain
    try:
        preview = await system.describe(effect)
    except (TargetError, ObjectError) as error:
        return f"{plain} (its content cannot be shown: {sentence(str(error))})"
    return f"{sentence(preview.title)}\n{shown_lines(preview.diff)}".rstrip()


async def _journal(core: Core, run_id: RunId) -> list[dict[str, Any]]:
    newest: deque[Recorded] = deque(maxlen=EVENTS_SHOWN)
    after, seen = 0, 0
    while batch := await core.journal.read(run_id, after=after, limit=EVENTS_SHOWN):
        newest.extend(batch)
        seen += len(batch)
        after = batch[-1].position
    rows = [event_row(recorded) for recorded in newest]
    if seen > len(rows):
        rows.insert(0, {"type": "left_out", "events": seen - len(rows)})
    return rows


def event_row(recorded: Recorded) -> dict[str, Any]:
    """An event as JSON, with its place in the journal. Secrets were replaced when it was written."""
    place: dict[str, Any] = {
        "position": recorded.position,
        "seq": recorded.seq,
        "type": recorded.type,
        "mac": recorded.mac,
        "key_id": recorded.key_id,
    }
    if recorded.event is None:
        return place | {"erased": True}
    return place | recorded.event.model_dump(mode="json", exclude={"type"}, exclude_defaults=True)


# --- what waits for a person -----------------------------------------------------------------------------------------------


async def open_items(core: Core, caller: Caller, *, run_id: str | None = None) -> list[OpenItemAnswer]:
    """What the caller's runs have left open, oldest first.

    :param run_id: of one run only.
    :raises EngineError: unknown or foreign run.
    """
    if run_id is not None:
        run = await core.run(caller, run_id, "look")
        found = await core.journal.find(OpenItem, run_id=run.run_id, status="open", oldest_first=True)
        return await open_item_answers(core, found)
    visible = Visible(core, caller)
    everything = await core.journal.find(OpenItem, status="open", oldest_first=True)
    return await open_item_answers(core, [item for item in everything if await visible.sees(item.run_id)])
