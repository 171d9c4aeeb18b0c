"""Single swaps that a person asked for (a resolution, an earlier version): made under the same rules as a rollback's steps.

Journaled before and after, read back, bounded in time, and finished or given up after a crash. What a resolution makes of the
standing of its action is decided by a look at all that the action changed, not only at the object the person spoke of.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from takeback.journal.events import BaseEvent, Caller, ConflictResolved, RollbackFinished, RollbackStep
from takeback.journal.ids import RollbackId, RunId
from takeback.journal.log import JournalBroken
from takeback.journal.states import ABSENT, Effect
from takeback.journal.views import ActionView, OpenItem, RollbackView, RunView, StepView
from takeback.server.engine import holds
from takeback.server.engine.answers import EngineError
from takeback.server.engine.containment import check_may_bring_back
from takeback.server.engine.core import Core
from takeback.server.engine.faults import advice_of, fault
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.report import shown
from takeback.server.engine.settle import lock_names
from takeback.server.engine.swaps import GaveUp, swap
from takeback.tools.system import Drifted, Swapped, TargetError

log = logging.getLogger(__name__)

UNFINISHED = "What was begun is finished or given up at the next start."


class Unsettled(Exception):
    """A swap that may stand in part, and could not be looked at or finished now: it stays begun, and is tried again."""


# --- what is refused -----------------------------------------------------------------------------------------------------


def locked(object: str, error: LockTimeout) -> EngineError:
    """The object is not to be had."""
    return EngineError(
        "locked", f"{shown(object)} could not be taken: {error}.", "Repeat it when the other one is done."
    )


def failed(object: str, error: Exception) -> EngineError:
    """The system refused, or failed."""
    code = error.code if isinstance(error, TargetError) else "unavailable"
    return EngineError(code, f"{shown(object)}: {fault(error)}.", advice_of(error, "Remove the cause, then repeat it."))


def unsettled(object: str, error: Unsettled) -> EngineError:
    """Part of it may stand."""
    return EngineError(
        "in_doubt", f"{shown(object)}: nobody knows yet what stands there now: {str(error).rstrip('.')}.", UNFINISHED
    )


async def check_not_held(
    core: Core, caller: Caller, run_id: RunId, system: str, object: str, *, tool: str = ""
) -> None:
    """New content is an act: the run must be one that may act, the object one that may be changed, and whoever acts in it too.

    :param tool: by which the content came about.
    :raises EngineError: one of them is contained.
    """
    run = await core.journal.get(RunView, run_id)
    if run is not None and run.status in ("contained", "quarantined"):
        raise EngineError(
            "contained",
            f"Run {run.id} is {run.status}: {run.why or 'no reason given'}.",
            "A person releases it with `takeback release`; what it did can be taken back without that.",
        )
    await check_may_bring_back(core, caller, [run_id])
    owner = core.nobody.principal if run is None else run.owner.principal
    there = Effect(system=system, object=object, before=ABSENT, after=ABSENT)
    holds.check(await holds.present(core), principal=owner, tool=core.tools.get(tool), effects=[there])


# --- swaps ---------------------------------------------------------------------------------------------------------------


async def put(core: Core, effects: Sequence[Effect]) -> Swapped | Drifted:
    """Swap, bounded in time; a failure that turns out to have done it is a success.

    :raises Unsettled: part of it may stand, so it must not be ended as if nothing had happened.
    :raises Exception: whatever the system raised; it was looked at, and the effects are not there.
    """
    try:
        return await swap(core, effects, pauses=core.retry_pauses[:1])  # a person waits for the answer
    except GaveUp as error:
        if error.there:
            return Swapped(tuple(effects))
        if error.unsure:
            raise Unsettled(str(error)) from error.cause
        raise error.cause from error


async def found_there(core: Core, effects: Sequence[Effect]) -> list[Effect]:
    """Those of the effects that changed something and are found as they left it.

    :raises EngineError, TargetError: it cannot be looked at.
    """
    there: list[Effect] = []
    for name in dict.fromkeys(effect.system for effect in effects):
        own = [
            effect
            for effect in effects
            if effect.system == name and effect.after.kind != "opaque" and not effect.before.same(effect.after)
        ]
        if not own:
            continue
        if name not in core.systems:
            raise EngineError("system_missing", f"The system {name!r} is not configured.", "Configure it again.")
        found = await core.systems[name].look([effect.object for effect in own], [effect.after for effect in own])
        there += [effect for now, effect in zip(found, own, strict=True) if now.same(effect.after)]
    return there


# --- what a resolution is part of ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """All that the step wanted back that left an item open."""

    wanted: tuple[Effect, ...]
    """`before` is as it was left, `after` as it was wanted back."""
    stands: bool | None
    """Whether the action stands in the world once all of that is so."""
    place: tuple[Effect, ...]
    """The object of the item itself."""
    locks: tuple[str, ...] = ()

    async def left(self, core: Core) -> bool:
        """Whether something of it is found as it was left. What nobody can look at does not count; a failed look does."""
        try:
            undone = [
                effect.model_copy(update={"before": effect.after, "after": effect.before}) for effect in self.wanted
            ]
            return bool(await found_there(core, undone))
        except Exception as error:  # third-party code: what was not looked at is not said to be gone
            log.warning("it could not be looked at what is left of an act: %s", fault(error))
            return True

    async def rest(self, core: Core, item: OpenItem) -> tuple[Effect, ...]:
        """What the step left undone because of the item and is still as it was left: in its system, and messages about it."""
        others = [
            effect.model_copy(update={"before": effect.after, "after": effect.before})
            for effect in self.wanted
            if effect.system in (item.system, core.outbox.name) and effect.object != item.object
        ]
        return tuple(
            effect.model_copy(update={"before": effect.after, "after": effect.before})
            for effect in await found_there(core, others)
        )


async def task_of(core: Core, item: OpenItem) -> Task:
    """What the rollback wanted of the item's action; for older items and doubts, the plain inverse of the action."""
    action = await core.journal.get(ActionView, item.action_id)
    view = await core.journal.get(RollbackView, item.rollback_id) if item.rollback_id is not None else None
    stored = view.plan if view is not None and isinstance(view.plan, dict) else {}
    stands = stored.get("stands_after", False)
    plan = stored.get("plan")
    steps = plan.get("steps") if isinstance(plan, dict) else None
    wanted: tuple[Effect, ...] = ()
    for step in steps if isinstance(steps, list) else ():
        parts = step.get("wanted") if isinstance(step, dict) and step.get("action_id") == item.action_id else None
        if isinstance(parts, list):
            wanted = tuple(Effect.model_validate_json(json.dumps(part)) for part in parts)
    if not wanted and action is not None:
        net: dict[tuple[str, str], Effect] = {}
        for effect in action.effects:
            first = net.get((effect.system, effect.object), effect)
            net[effect.system, effect.object] = effect.model_copy(update={"before": first.before})
        wanted = (
            tuple(net.values())
            if stands
            else tuple(
                effect.model_copy(update={"before": effect.after, "after": effect.before}) for effect in net.values()
            )
        )
    return Task(
        wanted=wanted,
        stands=stands if isinstance(stands, bool) else None,
        place=(
            Effect(system=item.system, object=item.object, before=item.theirs or ABSENT, after=item.ours or ABSENT),
        ),
        locks=action.locks if action is not None and item.kind == "in_doubt" else (),
    )


async def is_last(core: Core, item: OpenItem) -> bool:
    """Whether nothing else about the item's action is open."""
    found = await core.journal.find(OpenItem, run_id=item.run_id, status="open")
    return not [other for other in found if other.action_id == item.action_id and other.id != item.id]


# --- after a crash ---------------------------------------------------------------------------------------------------------


async def finish_unfinished(core: Core) -> None:
    """Finish (or give up, with the item still open) the resolutions and restored versions that nobody works on any more.

    :raises JournalBroken: nothing can be written any more.
    """
    for view in await core.journal.find(RollbackView, status="running"):
        if view.kind not in ("resolve", "restore_version"):
            continue
        exclusive, shared = lock_names(core, [effect for step in view.steps for effect in step.effects])
        try:
            async with core.locks.hold(exclusive, shared, timeout=0):
                await _finish_one(core, view.id)
        except LockTimeout:
            continue  # a living process is at it
        except JournalBroken:
            raise
        except Exception as error:  # the others, and the server, must not wait for it
            log.error("%s could not be finished: %s", view.id, fault(error))


async def _finish_one(core: Core, rollback_id: str) -> None:
    view = await core.journal.get(RollbackView, rollback_id)
    if view is None or view.status != "running":
        return
    plan = view.plan if isinstance(view.plan, dict) else {}
    choice = str(plan.get("choice", "ours"))
    item = await core.journal.get(OpenItem, str(plan.get("conflict_id", "")))
    status: Literal["complete", "failed"] = "failed"
    events: list[BaseEvent] = []
    for step in view.steps:
        effects = await _finish_step(core, rollback_id, step) if step.phase == "intended" else ()
        if effects:
            status = "complete"
            events.append(
                RollbackStep(
                    run_id=step.run_id,
                    at=core.now(),
                    rollback_id=RollbackId(rollback_id),
                    index=step.index,
                    phase="concluded",
                    action_id=step.action_id,
                    effects=effects,
                    outcome="restored" if choice == "ours" else "merged",
                    why="finished after an interruption",
                    stands=await _stands(core, item),
                )
            )
    events.append(
        RollbackFinished(run_id=view.run_id, at=core.now(), rollback_id=RollbackId(rollback_id), status=status)
    )
    if status == "complete" and item is not None and item.status == "open":
        events.append(
            ConflictResolved.model_validate(
                {
                    "run_id": item.run_id,
                    "at": core.now(),
                    "conflict_id": item.id,
                    "choice": choice,
                    "by": view.by.principal,
                    "why": "finished after an interruption",
                    "rollback_id": rollback_id,
                }
            )
        )
    await core.record(events)


async def _finish_step(core: Core, rollback_id: str, step: StepView) -> tuple[Effect, ...]:
    """The effects that are there now; none if it was given up."""
    if not step.effects or step.effects[0].system not in core.systems:
        return ()
    try:
        swapped = await put(core, step.effects)
    except TargetError as error:
        if error.retry:
            raise  # it is out of reach for now: tried again at the next start
        log.warning("%s was given up: %s", rollback_id, error)
        return ()
    return () if isinstance(swapped, Drifted) else swapped.effects


async def _stands(core: Core, item: OpenItem | None) -> bool | None:
    if item is None or item.status != "open":
        return None
    task = await task_of(core, item)
    return task.stands if await is_last(core, item) and not await task.left(core) else None
