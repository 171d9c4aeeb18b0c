"""Rollbacks: from the request to the report.

A rollback is a sequence of events of its own. It takes the lock of every run it touches, seals them, settles what was in
flight, plans on what it then sees, executes, and opens the runs again. A crash at any point is resumed: nothing is done twice
and nothing is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from pydantic import JsonValue

from takeback.journal.events import (
    BaseEvent,
    Caller,
    RollbackFinished,
    RollbackStarted,
    RunReopened,
    RunSealed,
    UndoOutcome,
)
from takeback.journal.ids import ActionId, RollbackId, RunId, new_rollback_id
from takeback.journal.log import Stale, ViewKey
from takeback.journal.views import ActionView, OpenItem, RollbackView, RunStatus, RunView
from takeback.server.engine.answers import EngineError, OpenItemAnswer, RollbackAnswer, StepAnswer
from takeback.server.engine.calls import Progress
from takeback.server.engine.core import Core
from takeback.server.engine.execute import Done, Executor
from takeback.server.engine.gather import (
    entry_of_action,
    entry_of_step,
    make_plan,
    others_on,
    rollback_view,
)
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.plan import Decision, Entry, Goal, Plan, PlanStep
from takeback.server.engine.queries import open_item_answer
from takeback.server.engine.report import rollback_report, shown
from takeback.server.engine.seen import Seen
from takeback.server.engine.settle import settle

log = logging.getLogger(__name__)

RUN_LOCK_SECONDS = 20.0
Kind = Literal["rollback", "redo"]

EXPECTED: dict[Decision, UndoOutcome] = {
    "restore": "restored",
    "merge": "merged",
    "already_undone": "already_undone",
    "compensate": "compensated",
    "conflict": "conflict",
    "irreversible": "irreversible",
    "in_doubt": "failed",
    "blocked": "skipped",
    "skip": "skipped",
}
"""The outcome word that each decision would end in, for dry runs."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be taken back, worked out from the request."""

    kind: Kind
    chosen: tuple[Entry, ...]
    goal: Goal
    runs: tuple[RunId, ...]
    whole: frozenset[RunId] = frozenset()
    """Runs that are taken back whole."""
    to_checkpoint: bool = False
    needs_digest: str = ""
    """Why this is not done without the digest of a plan that was seen; empty if it is."""
    stands_after: bool | None = False
    redoes: RollbackId | None = None


@dataclass(slots=True)
class Rollbacks:
    """Plans and executes rollbacks and redos for one engine."""

    core: Core
    seen: Seen
    _busy: set[str] = field(default_factory=lambda: set[str]())

    # -- one request ----------------------------------------------------------------------------------------------------

    async def carry_out(
        self, caller: Caller, wish: Wish, *, dry_run: bool, plan_digest: str | None, progress: Progress
    ) -> RollbackAnswer:
        """Plan, and unless it is a dry run or wants a digest first, execute.

        :raises EngineError: nothing to take back, a digest that does not fit, a rollback at work already.
        """
        plan = await make_plan(self.core, wish.goal, wish.chosen, await others_on(self.core, wish.chosen))
        if dry_run:
            return await self._planned(wish, plan)
        if plan_digest is not None and plan_digest != plan.digest:
            raise _void(plan)
        if plan_digest is None and wish.needs_digest:
            return await self._planned(wish, plan, wish.needs_digest)
        if not plan.steps:
            raise EngineError("nothing", "There is nothing to take back.", "Look at the run with get_run.")
        touched = tuple(dict.fromkeys([*wish.runs, *(step.run_id for step in plan.steps)]))
        rollback_id = new_rollback_id()
        async with self._run_locks(touched):
            await self._finish_earlier(touched)
            before = await self._seal(touched, rollback_id)
            try:
                await self._settle_in_flight(touched)
                plan = await make_plan(self.core, wish.goal, wish.chosen, await others_on(self.core, wish.chosen))
                if plan_digest is not None and plan_digest != plan.digest:
                    raise _void(plan)
                await self.core.record(
                    [
                        RollbackStarted(
                            run_id=touched[0],
                            at=self.core.now(),
                            rollback_id=rollback_id,
                            kind=wish.kind,
                            by=caller,
                            plan=_stored(plan, wish, touched),
                            plan_digest=plan.digest,
                            redoes=wish.redoes,
                        )
                    ]
                )
            except BaseException:
                await self._reopen(touched, rollback_id, before)
                raise
            return await self._execute(rollback_id, plan, wish, touched, plan_digest is not None, progress)

    async def _execute(
        self,
        rollback_id: RollbackId,
        plan: Plan,
        wish: Wish,
        touched: tuple[RunId, ...],
        bound: bool,
        progress: Progress,
    ) -> RollbackAnswer:
        view = await rollback_view(self.core, rollback_id)
        executor = Executor(self.core, rollback_id, stands_after=wish.stands_after, bound=bound, progress=progress)
        with self.core.undoing():
            done = await executor.run(plan, {step.index: step for step in view.steps})
        self.core.ballast.ensure()
        self.seen.forget(effect for one in done for effect in one.effects)
        good = all(one.good for one in done)
        if good:
            status: Literal["complete", "partial", "failed"] = "complete"
        elif done and all(one.outcome == "failed" for one in done):
            status = "failed"
        else:
            status = "partial"
        retracted = tuple(
            ActionId(one.step.action_id)
            for one in done
            if wish.kind == "rollback" and one.outcome in ("restored", "merged", "already_undone", "compensated")
        )
        events: list[BaseEvent] = [
            RollbackFinished(
                run_id=touched[0], at=self.core.now(), rollback_id=rollback_id, status=status, retracted=retracted
            )
        ]
        for run_id in touched:
            run = await self.core.journal.get(RunView, run_id)
            if run is not None and run.sealed_by == rollback_id and run.status == "sealed":
                events.append(
                    RunReopened(
                        run_id=run_id,
                        at=self.core.now(),
                        rollback_id=rollback_id,
                        status=_status_after(run, wish, good),
                    )
                )
        await self.core.record(events)
        return await self._answer(rollback_id, plan, done, status, retracted, touched)

    # -- runs: locks, seal, reopen ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _run_locks(self, runs: Sequence[RunId]) -> AsyncGenerator[None, None]:
        try:
            async with self.core.run_locks.hold([f"run:{run_id}" for run_id in runs], timeout=RUN_LOCK_SECONDS):
                yield
        except LockTimeout as error:
            raise EngineError(
                "busy", "Another rollback of the same run is at work.", "Wait until it is over, then look at the run."
            ) from error

    async def _seal(self, runs: Sequence[RunId], rollback_id: RollbackId) -> dict[RunId, RunStatus]:
        for _ in range(5):
            views = [await self.core.journal.get(RunView, run_id) for run_id in runs]
            present = [view for view in views if view is not None]
            try:
                await self.core.record(
                    [RunSealed(run_id=view.run_id, at=self.core.now(), rollback_id=rollback_id) for view in present],
                    expect={ViewKey("run", view.id): view.version for view in present},
                )
            except Stale:
                continue
            return {view.run_id: view.status for view in present}
        raise EngineError("busy", "The run keeps changing.", "Try again when it is quieter.")

    async def _reopen(self, runs: Sequence[RunId], rollback_id: RollbackId, before: dict[RunId, RunStatus]) -> None:
        events: list[BaseEvent] = []
        for run_id in runs:
            run = await self.core.journal.get(RunView, run_id)
            if run is None or run.sealed_by != rollback_id or run.status != "sealed":
                continue
            status = before.get(run_id, run.before_seal or "open")
            events.append(
                RunReopened(
                    run_id=run_id,
                    at=self.core.now(),
                    rollback_id=rollback_id,
                    status="open" if status == "sealed" else status,
                )
            )
        if events:
            await self.core.record(events)

    async def _settle_in_flight(self, runs: Sequence[RunId]) -> None:
        for run_id in runs:
            for action in await self.core.journal.find(ActionView, run_id=run_id, status=("intended", "in_doubt")):
                wait = self.core.settings.limits.step_seconds
                if await settle(self.core, ActionId(action.id), by="rollback", wait=wait) is None:
                    raise EngineError(
                        "busy",
                        f"The call {action.id} is still at work.",
                        "Wait until it is done, then roll back again.",
                    )

    # -- after a crash ----------------------------------------------------------------------------------------------------

    async def _finish_earlier(self, runs: Sequence[RunId]) -> None:
        """Finish a rollback that a process began and did not end; we hold the runs' locks, so nobody works on it."""
        for run_id in runs:
            run = await self.core.journal.get(RunView, run_id)
            if run is not None and run.status == "sealed" and run.sealed_by is not None:
                await self._resume_one(run.sealed_by, run)

    async def resume_unfinished(self) -> list[RollbackAnswer]:
        """At start: finish every rollback that no living process works on."""
        answers: list[RollbackAnswer] = []
        for run in await self.core.journal.find(RunView, status="sealed"):
            if run.sealed_by is None:
                continue
            view = await self.core.journal.get(RollbackView, run.sealed_by)
            runs = _touched(view.plan) if view is not None else (run.run_id,)
            try:
                async with self.core.run_locks.hold([f"run:{run_id}" for run_id in runs], timeout=0):
                    answer = await self._resume_one(run.sealed_by, run)
                    if answer is not None:
                        answers.append(answer)
            except LockTimeout:
                continue  # a living process is at it
        return answers

    async def _resume_one(self, rollback_id: RollbackId, run: RunView) -> RollbackAnswer | None:
        view = await self.core.journal.get(RollbackView, rollback_id)
        if view is None or view.status != "running":
            # sealed, but nothing was begun: there is nothing to finish
            await self._reopen([run.run_id], rollback_id, {run.run_id: run.before_seal or "open"})
            return None
        plan, wish, touched = _restored(view)
        await self._settle_in_flight(touched)
        return await self._execute(rollback_id, plan, wish, touched, False, _nobody_watches)

    # -- answers ----------------------------------------------------------------------------------------------------------

    async def _planned(self, wish: Wish, plan: Plan, why: str = "") -> RollbackAnswer:
        steps = [await self._step_answer(step) for step in plan.steps]
        text = rollback_report(self._for_people(steps, plan), "planned", [])
        if why:
            text = f"{why}\n\n{text}"
        return RollbackAnswer(
            status="planned",
            plan_digest=plan.digest,
            run_id=wish.runs[0] if wish.runs else None,
            steps=steps,
            other_runs=list(plan.other_runs),
            report=text,
        )

    async def _step_answer(self, step: PlanStep, done: Done | None = None) -> StepAnswer:
        preview = ""
        if done is None and step.effects and step.effects[0].system in self.core.systems:
            system = self.core.systems[step.effects[0].system]
            preview = "; ".join([shown((await system.describe(effect)).title) for effect in step.effects[:3]])
        return StepAnswer(
            action_id=step.action_id,
            run_id=step.run_id,
            tool=step.tool,
            object=step.object,
            objects=[effect.object for effect in step.wanted],
            outcome=done.outcome if done else EXPECTED[step.decision],
            why=done.why if done else step.why,
            preview=preview,
        )

    async def _answer(
        self,
        rollback_id: RollbackId,
        plan: Plan,
        done: Sequence[Done],
        status: Literal["complete", "partial", "failed"],
        retracted: Sequence[ActionId],
        touched: Sequence[RunId],
    ) -> RollbackAnswer:
        steps = [await self._step_answer(one.step, one) for one in done]
        items: list[OpenItemAnswer] = []
        for run_id in touched:
            for item in await self.core.journal.find(OpenItem, run_id=run_id, status="open", oldest_first=True):
                if item.rollback_id == rollback_id:
                    items.append(open_item_answer(item))
        run = await self.core.journal.get(RunView, touched[0])
        return RollbackAnswer(
            status=status,
            rollback_id=rollback_id,
            plan_digest=plan.digest,
            run_id=touched[0],
            run_status=run.status if run else None,
            steps=steps,
            retracted=list(retracted),
            open_items=items,
            other_runs=list(plan.other_runs),
            warnings=list(dict.fromkeys(warning for one in done for warning in one.warnings)),
            report=rollback_report(self._for_people(steps, plan), status, items),
        )

    def _for_people(self, steps: Sequence[StepAnswer], plan: Plan) -> list[StepAnswer]:
        """The same steps with objects as people call them (paths relative to their root)."""
        names = {
            effect.object: self.core.display(effect.system, effect.object)
            for step in plan.steps
            for effect in step.wanted
        }
        return [
            step.model_copy(
                update={
                    "object": names.get(step.object, step.object),
                    "objects": [names.get(each, each) for each in step.objects],
                }
            )
            for step in steps
        ]


async def _nobody_watches(done: float, total: float | None, words: str) -> None:
    return None


def _void(plan: Plan) -> EngineError:
    return EngineError(
        "plan_changed",
        "The plan is not the one that the digest names: something changed since it was made.",
        f"Look at the new plan with dry_run; its digest is {plan.digest}.",
    )


def _status_after(
    run: RunView, wish: Wish, good: bool
) -> Literal["open", "rolled_back", "finished", "failed", "stalled", "contained", "quarantined"]:
    before = run.before_seal or "open"
    if before == "sealed":
        before = "open"
    if wish.kind == "redo":
        return ("finished" if run.ended_at else "open") if before == "rolled_back" else before
    if run.run_id in wish.whole and good:
        return before if before in ("contained", "quarantined") else "rolled_back"
    if wish.to_checkpoint and before in ("finished", "failed", "stalled", "rolled_back"):
        return "open"
    return before


def _stored(plan: Plan, wish: Wish, touched: Sequence[RunId]) -> JsonValue:
    stored: dict[str, JsonValue] = {
        "plan": plan.model_dump(mode="json"),
        "kind": wish.kind,
        "touched": [str(run_id) for run_id in touched],
        "whole": [str(run_id) for run_id in sorted(wish.whole)],
        "to_checkpoint": wish.to_checkpoint,
        "stands_after": wish.stands_after,
        "redoes": wish.redoes,
    }
    return stored


def _touched(stored: JsonValue) -> tuple[RunId, ...]:
    touched = stored.get("touched") if isinstance(stored, dict) else None
    return tuple(RunId(str(run_id)) for run_id in touched) if isinstance(touched, list) else ()


def _restored(view: RollbackView) -> tuple[Plan, Wish, tuple[RunId, ...]]:
    stored = view.plan
    assert isinstance(stored, dict), "a rollback keeps its plan as an object"
    plan = Plan.model_validate_json(_dumped(stored["plan"]))
    touched = _touched(stored)
    whole = stored.get("whole")
    stands = stored.get("stands_after")
    wish = Wish(
        kind="redo" if view.kind == "redo" else "rollback",
        chosen=(),
        goal=plan.goal,
        runs=touched,
        whole=frozenset(RunId(str(run_id)) for run_id in whole) if isinstance(whole, list) else frozenset(),
        to_checkpoint=bool(stored.get("to_checkpoint")),
        stands_after=bool(stands) if stands is not None else None,
        redoes=view.redoes,
    )
    return plan, wish, touched


def _dumped(value: JsonValue) -> str:
    import json

    return json.dumps(value)


async def wish_for_redo(core: Core, caller: Caller, rollback_id: str) -> Wish:
    """What a redo takes back: the `restored` and `merged` effects of an earlier rollback (or redo, or restored version).

    :raises EngineError: unknown or foreign, still at work, or brought back already.
    """
    view = await rollback_view(core, rollback_id)
    await core.run(caller, view.run_id)
    if view.status == "running":
        raise EngineError("busy", f"Rollback {rollback_id} is still at work.", "Wait until it is over.")
    if view.redone_by is not None:
        raise EngineError(
            "redone",
            f"Rollback {rollback_id} was taken back by {view.redone_by} already.",
            f"Redo {view.redone_by} instead.",
        )
    entries: list[Entry] = []
    for step in view.steps:
        action = await core.journal.get(ActionView, step.action_id)
        entry = entry_of_step(view, step, action.tool if action else "")
        if entry.reversibility == "reversible" or step.outcome == "compensated":
            entries.append(entry)
    if not entries:
        raise EngineError("nothing", f"Rollback {rollback_id} changed nothing.", "There is nothing to redo.")
    return Wish(
        kind="redo",
        chosen=tuple(entries),
        goal=Goal(chosen=tuple(entry.id for entry in entries), kind="redo", label=f"redo of {rollback_id}"),
        runs=tuple(dict.fromkeys(entry.run_id for entry in entries)),
        stands_after=await _stands_after_redo(core, view),
        redoes=RollbackId(view.id),
    )


async def _stands_after_redo(core: Core, view: RollbackView) -> bool | None:
    """A rollback lays the actions down, a redo puts them up again, a redo of a redo lays them down …"""
    stands = True
    while view.kind == "redo" and view.redoes is not None:
        stands = not stands
        view = await rollback_view(core, view.redoes)
    return stands if view.kind == "rollback" else None


def entries_of(actions: Sequence[ActionView]) -> tuple[Entry, ...]:
    """The entries of these actions that stand, or of which nobody knows whether they do."""
    return tuple(
        entry_of_action(action) for action in actions if action.stands or action.status in ("in_doubt", "intended")
    )
