"""Runs: which one a call belongs to, and how runs begin, end and are held back.

The connection is not a session: run identity is an argument. A call without one joins the caller's open default run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from takeback.journal.events import (
    BaseEvent,
    Caller,
    OnFailure,
    RunFinished,
    RunMode,
    RunStalled,
    RunStarted,
)
from takeback.journal.ids import CheckpointId, RunId, new_run_id
from takeback.journal.log import Stale, ViewKey
from takeback.journal.views import ActionView, CollectedCall, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.containment import FIRST_LOOK, check_cohort
from takeback.server.engine.core import Core
from takeback.server.engine.reporting import progress
from takeback.server.engine.voiding import sweep, void_with

LIVE = ("open", "stalled")
Outcome = Literal["done", "failed", "abandoned"]


@dataclass(frozen=True, slots=True)
class Admitted:
    """The run a call belongs to, and what its caller should be told about that."""

    run: RunView
    warnings: tuple[str, ...] = ()


def check_writable(run: RunView) -> None:
    """Refuse acts in a run that must not write.

    :raises EngineError: `contained`, `sealed` or `run_ended`.
    """
    match run.status:
        case "open" | "stalled":
            return
        case "contained" | "quarantined":
            raise EngineError(
                "contained",
                f"Run {run.id} is {run.status}: {run.why or 'no reason given'}.",
                "It can be read, listed and rolled back; a person releases it with `takeback release`.",
            )
        case "sealed":
            raise EngineError(
                "sealed",
                f"A rollback of run {run.id} is at work.",
                "Wait until it is over, then look at the run again.",
            )
        case "finished" | "failed" | "rolled_back":
            raise EngineError(
                "run_ended",
                f"Run {run.id} has ended ({run.status}).",
                "Start a new run with start_run, or continue from one of its checkpoints with resume_from.",
            )


async def admit(core: Core, caller: Caller, run_id: str | None, *, workspace: str) -> Admitted:
    """The run that an acting call belongs to; opens a default run where there is none.

    :raises EngineError: the run is unknown, foreign, or must not write.
    """
    if run_id is not None:
        run = await core.run(caller, run_id)
        check_writable(run)
        await check_cohort(core, caller, run)
        return Admitted(run if run.status != "stalled" else await _move_again(core, caller, run))
    run = await _default_run(core, caller, workspace)
    await check_cohort(core, caller, run)
    named = [
        other
        for other in await core.journal.find(RunView, status="open", limit=20)
        if not other.default and other.owner.principal == caller.principal and other.owner.client == caller.client
    ]
    if not named:
        return Admitted(run)
    return Admitted(
        run,
        (
            f"No run_id was given, so this was recorded in the default run {run.id}, not in your open run "
            f"{named[0].id} ({named[0].goal}). Pass run_id to keep a task together.",
        ),
    )


async def _move_again(core: Core, caller: Caller, run: RunView) -> RunView:
    event = RunStalled(run_id=run.run_id, at=core.now(), reason="", over=True)
    with suppress(Stale):  # somebody else moved, or the run has become something else: look again
        await core.journal.append([event], expect={ViewKey("run", run.id): run.version})
    run = await core.run(caller, run.id)
    check_writable(run)
    return run


async def _default_run(core: Core, caller: Caller, workspace: str) -> RunView:
    name = f"default-run:{caller.principal}:{caller.client}:{workspace}"
    if (found := await _open_default(core, caller, workspace)) is not None:
        return found
    async with core.run_locks.hold([name]):
        if (found := await _open_default(core, caller, workspace)) is not None:
            return found
        run_id = new_run_id()
        await core.journal.append(
            [
                RunStarted(
                    run_id=run_id,
                    at=core.now(),
                    owner=caller,
                    goal="Work without a named run",
                    default=True,
                    workspace=workspace,
                )
            ]
        )
    run = await core.journal.get(RunView, run_id)
    assert run is not None, "a run is there once its start is durable"
    return run


async def _open_default(core: Core, caller: Caller, workspace: str) -> RunView | None:
    limit: int | None = FIRST_LOOK
    while True:
        # nearly always among the newest; were it not looked for among all, everybody else's runs could push it out of sight
        found = await core.journal.find(RunView, status="open", limit=limit)
        for run in found:
            if (
                run.default
                and run.owner.principal == caller.principal
                and run.owner.client == caller.client
                and run.workspace == workspace
            ):
                if not await _idle(core, run, core.settings.limits.default_run_idle_seconds):
                    return run
                await finish_idle(core, run)
        if limit is None or len(found) < limit:
            return None
        limit = None


async def last_used(core: Core, run: RunView) -> datetime:
    """When something last happened in the run, by the callers' clocks."""
    latest = await core.journal.find(ActionView, run_id=run.run_id, limit=1)
    times = [run.started_at, *(action.concluded_at or action.at for action in latest)]
    if not run.default:  # calls that were put down are no actions yet
        times += [call.at for call in await core.journal.find(CollectedCall, run_id=run.run_id, limit=1)]
    return max(times)


async def _idle(core: Core, run: RunView, seconds: float) -> bool:
    return core.now() - await last_used(core, run) > timedelta(seconds=seconds)


async def finish_idle(core: Core, run: RunView) -> None:
    """End a run that nobody uses any more, or mark it stalled if steps remain. Somebody else doing so first is fine."""
    steps_left = bool(run.steps) and bool((await progress(core, run)).left)
    steps_left = steps_left or bool(
        await core.journal.find(CollectedCall, run_id=run.run_id, status=("collected", "begun"), limit=1)
    )
    event: BaseEvent
    if steps_left and not run.default:
        if run.status == "stalled":
            return
        event = RunStalled(run_id=run.run_id, at=core.now(), reason="nobody has moved for a day and steps remain")
    else:
        event = RunFinished(run_id=run.run_id, at=core.now(), status="finished", outcome="idle", summary="idle")
    status = event.status if isinstance(event, RunFinished) else "stalled"
    void = await void_with(core, run.run_id, status)
    try:
        await core.journal.append([event, *void.events], expect={ViewKey("run", run.id): run.version, **void.expect})
    except Stale:
        return
    await sweep(core, run.run_id, status)


async def tidy(core: Core) -> None:
    """End or mark the runs that have been idle for too long."""
    limits = core.settings.limits
    for run in await core.journal.find(RunView, status=LIVE):
        seconds = limits.default_run_idle_seconds if run.default else limits.run_idle_seconds
        if await _idle(core, run, seconds):
            await finish_idle(core, run)


async def start(
    core: Core,
    caller: Caller,
    goal: str,
    *,
    workspace: str,
    steps: Sequence[str] = (),
    scope: Sequence[str] = (),
    parent_run_id: str | None = None,
    forked_from: CheckpointId | None = None,
    on_failure: OnFailure = "report",
    mode: RunMode = "act",
    along: Sequence[BaseEvent] = (),
    run_id: RunId | None = None,
    recovers: Sequence[RunId] = (),
) -> RunView:
    """Open a run of its own.

    :param along: events to be written in the same transaction (of other runs).
    :param recovers: contained runs that do not hold it back; only for what a person opens.
    :raises EngineError: an empty goal, or a parent that is not the caller's.
    """
    if not goal.strip():
        raise EngineError("invalid", "A run needs a goal.", "Say in one sentence what the task is.")
    if parent_run_id is not None:
        await core.run(caller, parent_run_id)
    run_id = run_id or new_run_id()
    await core.journal.append(
        [
            RunStarted(
                run_id=run_id,
                at=core.now(),
                owner=caller,
                goal=goal,
                steps=tuple(steps),
                workspace=workspace,
                scope=tuple(scope),
                parent_run_id=RunId(parent_run_id) if parent_run_id else None,
                forked_from=forked_from,
                on_failure=on_failure,
                mode=mode,
                recovers=tuple(recovers),
            ),
            *along,
        ]
    )
    return await core.run(caller, run_id)


async def finish(core: Core, caller: Caller, run_id: str, outcome: Outcome, summary: str) -> RunView:
    """End a run in the caller's words.

    :raises EngineError: it has ended already, or a rollback is at work.
    """
    run = await core.run(caller, run_id)
    if run.status not in LIVE:
        check_writable(run)
    event = RunFinished(
        run_id=run.run_id,
        at=core.now(),
        status="failed" if outcome == "failed" else "finished",
        outcome=outcome,
        summary=summary,
    )
    void = await void_with(core, run.run_id, event.status)
    try:
        await core.journal.append([event, *void.events], expect={ViewKey("run", run.id): run.version, **void.expect})
    except Stale as error:
        raise EngineError("changed", f"Run {run.id} changed at the same moment.", "Look at it with get_run.") from error
    await sweep(core, run.run_id, event.status)
    return await core.run(caller, run_id)
