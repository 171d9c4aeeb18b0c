"""What the events of a run make of its view."""

from __future__ import annotations

from takeback.journal import events as e
from takeback.journal.events import BaseEvent
from takeback.journal.folds.parts import Change, Lookup, changed, known
from takeback.journal.views import RunStatus, RunView


def started(event: e.RunStarted, position: int, get: Lookup) -> list[Change]:
    """A run begins."""
    view = RunView(
        id=event.run_id,
        run_id=event.run_id,
        version=position,
        owner=event.owner,
        goal=event.goal,
        status="open",
        started_at=event.at,
        steps=event.steps,
        default=event.default,
        workspace=event.workspace,
        scope=event.scope,
        parent_run_id=event.parent_run_id,
        forked_from=event.forked_from,
        on_failure=event.on_failure,
        mode=event.mode,
        recovers=event.recovers,
    )
    return [Change("run", event.run_id, view)]


def run_changed(event: BaseEvent, position: int, get: Lookup) -> list[Change]:
    """A run goes on in another status; acts are not among these events."""
    run = known(get, RunView, event.run_id)
    if run is None:
        return []
    match event:
        case e.RunFinished():
            status: RunStatus = "failed" if event.outcome == "failed" else "finished"
            return [
                changed(run, position, status=status, ended_at=event.at, outcome=event.outcome, summary=event.summary)
            ]
        case e.RunContained():
            return [_contained(run, event, position)]
        case e.RunReleased():
            return [changed(run, position, status=_released(run), why=event.reason, alone=False)]
        case e.RunSealed():
            return [
                changed(run, position, status="sealed", sealed_by=event.rollback_id, before_seal=_unsealed(run)),
            ]
        case e.RunReopened():
            again: dict[str, object] = {"ended_at": None, "outcome": None} if event.status == "open" else {}
            return [changed(run, position, status=event.status, sealed_by=None, before_seal=None, **again)]
        case e.RunStalled():
            return [changed(run, position, status="open" if event.over else "stalled", why=event.reason)]
        case _:
            return [changed(run, position)]


def _contained(run: RunView, event: e.RunContained, position: int) -> Change:
    """Whoever contains a run twice, at the same moment perhaps, only tightens."""
    held = run.status in ("contained", "quarantined")
    level = run.status if run.status == "quarantined" else event.level
    return changed(run, position, status=level, why=event.reason, alone=event.alone and (run.alone or not held))


def _unsealed(run: RunView) -> RunStatus | None:
    return run.before_seal if run.status == "sealed" else run.status


def _released(run: RunView) -> RunStatus:
    if run.sealed_by is not None:
        return "sealed"
    if run.ended_at is None:
        return "open"
    return "failed" if run.outcome == "failed" else "finished"
