"""What would have happened, and how it would have been taken back: the log of calls that were only shown.

From the journal: dry runs, runs in shadow mode, calls that a rule wants only shown, and what planned and staged runs have
collected and not made. Of nothing in it anything was done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from takeback.journal.events import Caller
from takeback.journal.views import ActionView, CollectedCall
from takeback.server.engine.answers import ShadowedCall, ShadowLog
from takeback.server.engine.core import Core, rfc3339
from takeback.server.engine.pages import Visible
from takeback.server.engine.report import shown

CALLS_SHOWN = 500
WAITING = ("collected", "begun")
NOT_MADE = ("collected", "begun", "stopped", "thrown_away")


async def shadow_log(core: Core, caller: Caller, *, run_id: str | None = None) -> ShadowLog:
    """The newest 500 of them, oldest first.

    :param run_id: of one run only; else of all of the caller's.
    :raises EngineError: unknown or foreign run.
    """
    run = None if run_id is None else await core.run(caller, run_id, "look")
    own = None if run is None else run.run_id
    visible = Visible(core, caller)
    found: list[tuple[int, ShadowedCall]] = []
    for action in await core.journal.find(ActionView, run_id=own, status="shadowed", limit=CALLS_SHOWN):
        if await visible.sees(action.run_id):
            found.append((action.position, _of_action(core, action)))
    for call in await core.journal.find(CollectedCall, run_id=own, status=NOT_MADE, limit=CALLS_SHOWN):
        if await visible.sees(call.run_id):
            found.append((call.position, _of_call(core, call)))
    found.sort(key=lambda each: each[0])
    calls = [call for _, call in found[-CALLS_SHOWN:]]
    return ShadowLog(calls=calls, rollback=_rollback(calls))


def _of_action(core: Core, action: ActionView) -> ShadowedCall:
    return ShadowedCall(
        action_id=action.id,
        run_id=action.run_id,
        at=rfc3339(action.at),
        tool=action.tool,
        step=action.step,
        status=action.status,
        summary=action.summary,
        objects=_objects(core, action),
        reversibility=action.reversibility,
        reason=action.reason,
        would=action.would,
        rule=action.policy_rule,
        how=action.compensation.how if action.compensation is not None else "",
    )


def _of_call(core: Core, call: CollectedCall) -> ShadowedCall:
    return ShadowedCall(
        action_id=call.id,
        run_id=call.run_id,
        at=rfc3339(call.at),
        tool=call.tool,
        step=call.step,
        status=call.status,
        summary=call.summary,
        objects=_objects(core, call),
        reversibility=call.reversibility,
        reason=call.unseen or call.reason,
        would=call.decision,
        rule=call.policy_rule,
        how=call.how,
        unseen=bool(call.unseen),
    )


def call_row(core: Core, call: CollectedCall) -> dict[str, Any]:
    """A call that waits, beside the actions of its run."""
    told = {"step": call.step, "summary": call.summary, "reason": call.unseen or call.reason}
    return {
        "action_id": call.id,
        "at": rfc3339(call.at),
        "tool": call.tool,
        "status": call.status,
        "objects": _objects(core, call),
        "reversibility": call.reversibility,
        "stands": False,
    } | {name: value for name, value in told.items() if value}


def _objects(core: Core, of: ActionView | CollectedCall) -> list[str]:
    return [shown(core.display(effect.system, effect.object)) for effect in of.effects]


def _rollback(calls: Sequence[ShadowedCall]) -> str:
    """In a sentence or two: what taking all of it back would have come to."""
    meant = [call for call in calls if call.would != "deny"]
    seen = [call for call in meant if not call.unseen]
    counts = {
        kind: sum(call.reversibility == kind for call in seen) for kind in ("reversible", "compensable", "irreversible")
    }
    words = [f"{counts['reversible']} of {len(meant)} could have been put back exactly"]
    if counts["compensable"]:
        words.append(f"{counts['compensable']} only made up for")
    if counts["irreversible"]:
        words.append(f"{counts['irreversible']} not taken back at all")
    if len(seen) < len(meant):
        words.append(f"of {len(meant) - len(seen)} it could not be seen")
    denied = len(calls) - len(meant)
    more = f" {denied} would have been refused." if denied else ""
    return (", ".join(words) + ", the latest first." if meant else "") + more
