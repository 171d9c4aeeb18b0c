"""Numbers over everything in the data directory: what failed, what could be taken back, how long that took, what is stored."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from pydantic import JsonValue

from takeback.journal.views import ActionView, OpenItem, RollbackView, RunView
from takeback.server.engine.core import Core

BATCH = 2000
_TRIED = frozenset({"applied", "failed", "not_applied", "in_doubt"})
_FAILED = frozenset({"failed", "not_applied", "in_doubt"})
_GOOD = frozenset({"restored", "merged", "already_undone", "compensated"})
_PASSED_OVER = frozenset({"skipped"})


@dataclass
class _Counted:
    """What is counted of a tool or a system."""

    statuses: Counter[str] = field(default_factory=Counter[str])
    outcomes: Counter[str] = field(default_factory=Counter[str])

    def told(self) -> dict[str, JsonValue]:
        return {
            "calls": sum(self.statuses.values()),
            "failure_rate": _failure_rate(self.statuses),
            "undo_success_rate": _success_rate(self.outcomes),
        }


async def stats(core: Core, since: datetime | None = None) -> dict[str, JsonValue]:
    """Count.

    `failure_rate` is the share of tried calls that failed or are in doubt; `undo.success_rate` the share of concluded steps
    that took back what they were to take back (skipped ones aside); both are `None` where nothing was tried. `recovery` is the
    time from the last sign of trouble in a run (a call that failed; else its last act) to the end of a rollback that left
    nothing open; `settling` that from when something was left open to when it was closed. Times are in seconds, sizes in
    bytes.

    :param since: only what began since then; what is stored and what is open is counted as it is now.
    """
    runs = Counter[str]([run.status for run in await core.journal.find(RunView) if _in(run.started_at, since)])
    rollbacks = [each for each in await core.journal.find(RollbackView) if _in(each.started_at, since)]
    taking_back = {rollback.run_id for rollback in rollbacks}
    outcomes: defaultdict[str, list[str]] = defaultdict(list)
    """Of undo steps, by action."""
    for rollback in rollbacks:
        for step in rollback.steps:
            if step.outcome is not None:
                outcomes[step.action_id].append(step.outcome)
    everything, standing = _Counted(), 0
    tools: defaultdict[str, _Counted] = defaultdict(_Counted)
    systems: defaultdict[str, _Counted] = defaultdict(_Counted)
    trouble: defaultdict[str, list[tuple[datetime, bool]]] = defaultdict(list)
    """By run, when its acts ended, and whether they failed."""
    async for action in _actions(core):
        own = outcomes.get(action.id, ())
        for counted in (
            (tools[action.tool], *(systems[name] for name in _systems(action))) if _in(action.at, since) or own else ()
        ):
            if _in(action.at, since):
                counted.statuses[action.status] += 1
            counted.outcomes.update(own)
        if _in(action.at, since):
            everything.statuses[action.status] += 1
            standing += action.stands
        if action.run_id in taking_back:
            trouble[action.run_id].append((action.concluded_at or action.at, action.status in _FAILED))
    everything.outcomes.update(outcome for own in outcomes.values() for outcome in own)
    seconds = [
        (rollback.ended_at - rollback.started_at).total_seconds()
        for rollback in rollbacks
        if rollback.ended_at is not None and rollback.status != "failed"
    ]
    items = await core.journal.find(OpenItem)
    settled = [
        (item.resolved_at - item.opened_at).total_seconds()
        for item in items
        if item.resolved_at is not None and _in(item.opened_at, since)
    ]
    usage = await core.objects.usage()
    return {
        "runs": {"total": sum(runs.values()), "by_status": _sorted(runs)},
        "actions": {
            "total": sum(everything.statuses.values()),
            "standing": standing,
            "by_status": _sorted(everything.statuses),
            "failure_rate": _failure_rate(everything.statuses),
            "by_tool": {tool: found.told() for tool, found in sorted(tools.items())},
            "by_system": {system: found.told() for system, found in sorted(systems.items())},
        },
        "undo": {
            "rollbacks": _sorted(Counter[str]([rollback.status for rollback in rollbacks])),
            "by_outcome": _sorted(everything.outcomes),
            "success_rate": _success_rate(everything.outcomes),
            "median_seconds": _median(seconds),
        },
        "recovery": _timed(_recoveries(rollbacks, trouble)),
        "settling": _timed(settled),
        "open_items": sum(item.status == "open" for item in items),
        "notices": await _notices(core, since),
        "stored": {"objects": usage.objects, "bytes": usage.stored_bytes, "quota_bytes": usage.quota_bytes},
    }


def _recoveries(rollbacks: Iterable[RollbackView], trouble: Mapping[str, list[tuple[datetime, bool]]]) -> list[float]:
    found: list[float] = []
    for rollback in rollbacks:
        if rollback.kind != "rollback" or rollback.status != "complete" or rollback.ended_at is None:
            continue
        before = [(at, failed) for at, failed in trouble.get(rollback.run_id, ()) if at <= rollback.started_at]
        signs = [at for at, failed in before if failed] or [at for at, _ in before]
        if signs:
            found.append((rollback.ended_at - max(signs)).total_seconds())
    return found


async def _notices(core: Core, since: datetime | None) -> JsonValue:
    if not core.settings.notify.configured:
        return None
    from takeback.server.notices.notifier import store_file  # most data directories have none
    from takeback.server.notices.store import NoticeStore

    file = store_file(core.settings.data)
    if not file.exists():
        return {}
    store = NoticeStore(file)
    try:
        rows = await store.rows()
    finally:
        store.close()
    return _sorted(
        Counter[str]([row.status.lower() for row in rows if since is None or row.changed_at >= since.timestamp()])
    )


def _systems(action: ActionView) -> set[str]:
    return {effect.system for effect in action.effects}


def _in(at: datetime, since: datetime | None) -> bool:
    return since is None or at >= since


async def _actions(core: Core) -> AsyncIterator[ActionView]:
    before: int | None = None
    while batch := await core.journal.find(ActionView, before=before, limit=BATCH):
        for action in batch:
            yield action
        before = batch[-1].position


def _sorted(counts: Mapping[str, int]) -> dict[str, JsonValue]:
    return dict(sorted(counts.items()))


def _median(seconds: list[float]) -> float | None:
    return round(median(seconds), 3) if seconds else None


def _timed(seconds: list[float]) -> dict[str, JsonValue]:
    return {"times": len(seconds), "median_seconds": _median(seconds)}


def _failure_rate(statuses: Mapping[str, int]) -> float | None:
    tried = sum(number for status, number in statuses.items() if status in _TRIED)
    return _share(sum(number for status, number in statuses.items() if status in _FAILED), tried)


def _success_rate(outcomes: Mapping[str, int]) -> float | None:
    judged = sum(number for word, number in outcomes.items() if word not in _PASSED_OVER)
    return _share(sum(outcomes.get(word, 0) for word in _GOOD), judged)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
