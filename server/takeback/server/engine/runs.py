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
    RunContained,
    RunFinished,
    RunMode,
    RunReleased,
    RunStalled,
    RunStarted,
)
from takeback.journal.ids import CheckpointId, RunId, new_run_id
from takeback.journal.log import Stale, ViewKey
from takeback.journal.views import ActionView, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core
from takeback.server.engine.reporting import progress

LIVE = ("open", "stalled")
HELD = ("contained", "quarantined")
FIRST_LOOK = 50
Level = Literal["contained", "quarantined"]
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
        await _check_cohort(core, caller, run)
        return Admitted(run if run.status != "stalled" else await _move_again(core, caller, run))
    run = await _default_run(core, caller, workspace)
    await _check_cohort(core, caller, run)
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


async def _check_cohort(core: Core, caller: Caller, run: RunView) -> None:
    # whoever was just contained must not simply go on in a fresh run
    # nearly always none, and few are quick to read
    found = await core.journal.find(RunView, status=(*HELD, "sealed"), limit=FIRST_LOOK)
    if len(found) == FIRST_LOOK:
        found = await core.journal.find(RunView, status=(*HELD, "sealed"))
    held = [
        other
        for other in found
        if other.id != run.id
        and other.owner.principal == caller.principal
        and (other.status in HELD or other.before_seal in HELD)  # being taken back does not let it go
    ]
    if not held:
        return
    above = {ancestor.id for ancestor in await _ancestors(core, run)}
    for other in held:
        if other.id in above:
            raise EngineError(
                "contained",
                f"Run {other.id}, of which this run is a part, is {_held_as(other)}.",
                "A person decides with `takeback release` or rolls the run back.",
            )
        if other.owner.client != caller.client:
            continue
        if await core.journal.find(RunView, run_id=run.run_id, after=await _held_since(core, other), limit=1):
            raise EngineError(
                "contained",
                f"Run {other.id} of the same client is {_held_as(other)}, so runs begun after it may only read.",
                "A person decides with `takeback release` or rolls the run back.",
            )


def _held_as(run: RunView) -> str:
    return run.status if run.status in HELD else str(run.before_seal)


async def _held_since(core: Core, run: RunView) -> int:
    """Position of the event by which the run was contained: taking it back or forking it since makes it no later."""
    since, after = run.version, 0
    free = True
    while page := await core.journal.read(run.run_id, after=after, limit=1000):
        for recorded in page:
            if isinstance(recorded.event, RunContained) and free:
                since, free = recorded.position, False
            elif isinstance(recorded.event, RunReleased):
                free = True
        after = page[-1].position
    return since


async def _ancestors(core: Core, run: RunView) -> list[RunView]:
    found: list[RunView] = []
    while run.parent_run_id is not None and run.parent_run_id not in {one.run_id for one in found}:
        parent = await core.journal.get(RunView, run.parent_run_id)
        if parent is None:
            break
        found.append(parent)
        run = parent
    return found


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
    if not latest:
        return run.started_at
    return max(run.started_at, latest[0].concluded_at or latest[0].at)


async def _idle(core: Core, run: RunView, seconds: float) -> bool:
    return core.now() - await last_used(core, run) > timedelta(seconds=seconds)


async def finish_idle(core: Core, run: RunView) -> None:
    """End a run that nobody uses any more, or mark it stalled if steps remain. Somebody else doing so first is fine."""
    steps_left = bool(run.steps) and bool((await progress(core, run)).left)
    event: BaseEvent
    if steps_left and not run.default:
        if run.status == "stalled":
            return
        event = RunStalled(run_id=run.run_id, at=core.now(), reason="nobody has moved for a day and steps remain")
    else:
        event = RunFinished(run_id=run.run_id, at=core.now(), status="finished", outcome="idle", summary="idle")
    try:
        await core.journal.append([event], expect={ViewKey("run", run.id): run.version})
    except Stale:
        return


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
) -> RunView:
    """Open a run of its own.

    :param along: events to be written in the same transaction (of other runs).
    :raises EngineError: an empty goal, a parent that is not the caller's, a mode that is not offered.
    """
    if not goal.strip():
        raise EngineError("invalid", "A run needs a goal.", "Say in one sentence what the task is.")
    if mode not in ("act", "shadow"):
        raise EngineError(
            "not_offered", f"Runs in mode {mode!r} are not offered by this version.", 'Use mode "act" or "shadow".'
        )
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
    try:
        await core.journal.append([event], expect={ViewKey("run", run.id): run.version})
    except Stale as error:
        raise EngineError("changed", f"Run {run.id} changed at the same moment.", "Look at it with get_run.") from error
    return await core.run(caller, run_id)


async def contain(core: Core, caller: Caller, run_id: str, reason: str, level: Level) -> RunView:
    """Let a run and its children read but no longer write. Containing twice may only tighten.

    :raises EngineError: unknown run, or no reason given.
    """
    if not reason.strip():
        raise EngineError("invalid", "Containing a run needs a reason.", "Say what looked wrong.")
    run = await core.run(caller, run_id)
    family = [run, *await _children(core, run)]
    tightened = [member for member in family if member.status not in ("quarantined", level)]
    if not tightened:
        return run
    try:
        await core.journal.append(
            [
                RunContained(run_id=member.run_id, at=core.now(), level=level, reason=reason, by=caller.principal)
                for member in tightened
            ],
            expect={ViewKey("run", member.id): member.version for member in tightened},
        )
    except Stale:  # somebody tightened it more, a rollback began, a fork was made: look again
        return await contain(core, caller, run_id, reason, level)
    return await core.run(caller, run_id)


async def release(core: Core, caller: Caller, run_id: str, reason: str) -> RunView:
    """A person lets a contained run, and its children that were contained with it, go on.

    :raises EngineError: it is not contained.
    """
    run = await core.run(caller, run_id)
    if run.status not in ("contained", "quarantined"):
        raise EngineError(
            "not_contained", f"Run {run.id} is {run.status}, not contained.", "There is nothing to release."
        )
    family = [run, *await _children(core, run)]
    await core.journal.append(
        [
            RunReleased(run_id=member.run_id, at=core.now(), by=caller.principal, reason=reason)
            for member in family
            # one that was contained for another reason is another decision
            if member.status in HELD and (member.id == run.id or member.why == run.why)
        ]
    )
    return await core.run(caller, run_id)


async def _children(core: Core, run: RunView) -> list[RunView]:
    everybody = await core.journal.find(RunView)
    found: list[RunView] = []
    parents = {run.run_id}
    grown = True
    while grown:
        grown = False
        for other in everybody:
            if other.parent_run_id in parents and other.run_id not in parents:
                parents.add(other.run_id)
                found.append(other)
                grown = True
    return found
