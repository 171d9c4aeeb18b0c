"""Containment of runs: graded and narrow. A contained run may read but no longer write, a quarantined one may do nothing.

Its children and forks follow. Until a person decides, what the same client begins afterwards may only read; everything else
goes on. What has written its intent when a run is contained is in flight, and finishes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from takeback.journal.events import BaseEvent, Caller, RunContained, RunReleased
from takeback.journal.ids import RunId
from takeback.journal.log import Stale, ViewKey
from takeback.journal.views import CheckpointView, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core

HELD: Final = ("contained", "quarantined")
FIRST_LOOK: Final = 50
Level = Literal["contained", "quarantined"]


async def check_cohort(core: Core, caller: Caller, run: RunView) -> None:
    """Refuse acts of a part of a contained run, and of a run begun after one of the same client was contained.

    What a person opened to recover from a run goes on although that one stays contained.

    :raises EngineError: `contained`.
    """
    # whoever was just contained must not simply go on in a fresh run
    held = await _held_beside(core, caller, run)
    if not held:
        return
    above = {ancestor.id for ancestor in await ancestors(core, run)}
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


async def check_may_bring_back(core: Core, caller: Caller, runs: Iterable[RunId]) -> None:
    """Refuse to bring back what was done in these runs, or to write anew what they left open, to a client of which another run
    is contained: a run that is over does no work of its own that could go on. A person may, at their own door.

    :raises EngineError: `contained`.
    """
    for run_id in () if core.persons_door else runs:
        run = await core.journal.get(RunView, run_id)
        if run is not None:
            await check_cohort(core, caller, run)
            await _check_over(core, caller, run)


async def _check_over(core: Core, caller: Caller, run: RunView) -> None:
    if (run.before_seal if run.status == "sealed" else run.status) in ("open", "stalled"):
        return
    for other in await _held_beside(core, caller, run):
        if other.owner.client == caller.client:
            raise EngineError(
                "contained",
                f"Run {other.id} of the same client is {_held_as(other)}, so nothing is brought back in runs that are over.",
                "A person decides with `takeback release`, or does it at the command line or the page.",
            )


async def _held_beside(core: Core, caller: Caller, run: RunView) -> list[RunView]:
    """Contained runs of the same principal, with all that belongs to them, that this one does not recover from."""
    # nearly always none, and few are quick to read
    found = await core.journal.find(RunView, status=(*HELD, "sealed"), limit=FIRST_LOOK)
    if len(found) == FIRST_LOOK:
        found = await core.journal.find(RunView, status=(*HELD, "sealed"))
    return [
        other
        for other in found
        if other.id != run.id
        and other.run_id not in run.recovers
        and other.owner.principal == caller.principal
        and (other.status in HELD or other.before_seal in HELD)  # being taken back does not let it go
        and not other.alone
    ]


def _held_as(run: RunView) -> str:
    return run.status if run.status in HELD else str(run.before_seal)


async def _held_since(core: Core, run: RunView) -> int:
    """Position of the event by which the run was contained: taking it back or forking it since makes it no later."""
    since, after = run.version, 0
    free = True
    while page := await core.journal.read(run.run_id, after=after, limit=1000):
        for recorded in page:
            if isinstance(recorded.event, RunContained) and free and not recorded.event.alone:
                since, free = recorded.position, False
            elif isinstance(recorded.event, RunReleased):
                free = True
        after = page[-1].position
    return since


async def ancestors(core: Core, run: RunView) -> list[RunView]:
    """The runs of which this one is a part, nearest first."""
    found: list[RunView] = []
    while run.parent_run_id is not None and run.parent_run_id not in {one.run_id for one in found}:
        parent = await core.journal.get(RunView, run.parent_run_id)
        if parent is None:
            break
        found.append(parent)
        run = parent
    return found


async def contain(
    core: Core, caller: Caller, run_id: str, reason: str, level: Level, *, alone: bool = False
) -> RunView:
    """Let a run, its children and what was forked from them read but no longer write. Containing twice may only tighten.

    :param alone: only the run itself.
    :raises EngineError: unknown run, or no reason given.
    """
    if not reason.strip():
        raise EngineError("invalid", "Containing a run needs a reason.", "Say what looked wrong.")
    run = await core.run(caller, run_id, "decide")
    tightened = await tightening(core, run, level, alone=alone)
    if not tightened:
        return run
    try:
        await core.journal.append(
            contained(core, tightened, reason, level, by=caller.principal, alone=alone),
            expect={ViewKey("run", member.id): member.version for member in tightened},
        )
    except Stale:  # somebody tightened it more, a rollback began, a fork was made: look again
        return await contain(core, caller, run_id, reason, level, alone=alone)
    return await core.run(caller, run_id, "decide")


async def tightening(core: Core, run: RunView, level: Level, *, alone: bool) -> list[RunView]:
    """The runs that are held less tightly than they would be."""
    family = [run] if alone else [run, *await parts_of(core, run)]
    return [
        member
        for member in family
        if member.status not in ("quarantined", level) or (member.alone and not alone and member.status in HELD)
    ]


def contained(
    core: Core, members: Sequence[RunView], reason: str, level: Level, *, by: str, alone: bool = False
) -> list[BaseEvent]:
    """What the journal hears of it."""
    return [
        RunContained(run_id=member.run_id, at=core.now(), level=level, reason=reason, by=by, alone=alone)
        for member in members
    ]


async def release(core: Core, caller: Caller, run_id: str, reason: str) -> RunView:
    """A person lets a contained run, and its children that were contained with it, go on.

    :raises EngineError: it is not contained, or was contained anew at the same moment: that is another decision.
    """
    run = await core.run(caller, run_id, "decide")
    while True:
        now = await core.run(caller, run_id, "decide")
        if now.status not in HELD:
            raise EngineError(
                "not_contained", f"Run {run.id} is {now.status}, not contained.", "There is nothing to release."
            )
        if (now.status, now.why) != (run.status, run.why):
            raise EngineError(
                "changed", f"Run {run.id} is {now.status} for another reason by now: {now.why}.", "Look at it again."
            )
        # one that was contained for another reason is another decision
        together = [
            member
            for member in [now, *await parts_of(core, now)]
            if member.status in HELD and (member.id == now.id or member.why == now.why)
        ]
        try:
            await core.journal.append(
                [RunReleased(run_id=one.run_id, at=core.now(), by=caller.principal, reason=reason) for one in together],
                expect={ViewKey("run", one.id): one.version for one in together},
            )
        except Stale:  # it tried something and was refused, or was contained anew: look again
            continue
        return await core.run(caller, run_id, "decide")


async def parts_of(core: Core, run: RunView) -> list[RunView]:
    """What was begun as a part of the run, or continues from one of its checkpoints, and what was begun from those."""
    everybody = await core.journal.find(RunView)
    source: dict[str, RunId] = {}
    for other in everybody:
        if other.forked_from is not None:
            checkpoint = await core.journal.get(CheckpointView, other.forked_from)
            if checkpoint is not None:
                source[other.id] = checkpoint.run_id
    found: list[RunView] = []
    parents = {run.run_id}
    grown = True
    while grown:
        grown = False
        for other in everybody:
            above = (other.parent_run_id, source.get(other.id))
            if other.run_id not in parents and any(one in parents for one in above):
                parents.add(other.run_id)
                found.append(other)
                grown = True
    return found
