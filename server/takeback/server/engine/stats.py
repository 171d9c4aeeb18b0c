"""Numbers over everything in the data directory: what failed, what could be taken back, how long that took, what is stored."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from statistics import median

from pydantic import JsonValue

from takeback.journal.views import ActionView, OpenItem, RollbackView, RunView
from takeback.server.engine.core import Core

BATCH = 2000
_TRIED = frozenset({"applied", "failed", "not_applied", "in_doubt"})
_GOOD = frozenset({"restored", "merged", "already_undone", "compensated"})
_PASSED_OVER = frozenset({"skipped"})


async def stats(core: Core) -> dict[str, JsonValue]:
    """Count.

    `failure_rate` is the share of tried calls that failed or are in doubt; `undo.success_rate` the share of concluded steps
    that took back what they were to take back (skipped ones aside); both are `None` where nothing was tried. Times are in
    seconds, sizes in bytes.
    """
    runs = Counter[str]([run.status for run in await core.journal.find(RunView)])
    statuses = Counter[str]()
    tools: defaultdict[str, Counter[str]] = defaultdict(Counter)
    standing = 0
    async for action in _actions(core):
        statuses[action.status] += 1
        tools[action.tool][action.status] += 1
        standing += action.stands
    rollbacks = await core.journal.find(RollbackView)
    outcomes = Counter[str](
        [step.outcome for rollback in rollbacks for step in rollback.steps if step.outcome is not None]
    )
    seconds = [
        (rollback.ended_at - rollback.started_at).total_seconds()
        for rollback in rollbacks
        if rollback.ended_at is not None and rollback.status != "failed"
    ]
    judged = sum(number for word, number in outcomes.items() if word not in _PASSED_OVER)
    usage = await core.objects.usage()
    return {
        "runs": {"total": sum(runs.values()), "by_status": _sorted(runs)},
        "actions": {
            "total": sum(statuses.values()),
            "standing": standing,
            "by_status": _sorted(statuses),
            "failure_rate": _failure_rate(statuses),
            "by_tool": {
                tool: {"calls": sum(found.values()), "failure_rate": _failure_rate(found)}
                for tool, found in sorted(tools.items())
            },
        },
        "undo": {
            "rollbacks": _sorted(Counter[str]([rollback.status for rollback in rollbacks])),
            "by_outcome": _sorted(outcomes),
            "success_rate": _share(sum(outcomes[word] for word in _GOOD), judged),
            "median_seconds": round(median(seconds), 3) if seconds else None,
        },
        "open_items": len(await core.journal.find(OpenItem, status="open")),
        "stored": {"objects": usage.objects, "bytes": usage.stored_bytes, "quota_bytes": usage.quota_bytes},
    }


async def _actions(core: Core) -> AsyncIterator[ActionView]:
    before: int | None = None
    while batch := await core.journal.find(ActionView, before=before, limit=BATCH):
        for action in batch:
            yield action
        before = batch[-1].position


def _sorted(counts: Mapping[str, int]) -> dict[str, JsonValue]:
    return dict(sorted(counts.items()))


def _failure_rate(statuses: Mapping[str, int]) -> float | None:
    tried = sum(number for status, number in statuses.items() if status in _TRIED)
    return _share(statuses.get("failed", 0) + statuses.get("not_applied", 0) + statuses.get("in_doubt", 0), tried)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
