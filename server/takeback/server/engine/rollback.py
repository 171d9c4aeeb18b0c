"""Rollbacks: from the request to the report.

A rollback is a sequence of events of its own. It takes the lock of every run it touches, seals them, settles what was in
flight, plans on what it then sees, executes, and opens the runs again. A crash at any point is resumed: nothing is done twice
and nothing is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Literal

from takeback.journal.events import (
    BaseEvent,
    Caller,
    RollbackFinished,
    RollbackStarted,
    RunReopened,
    RunSealed,
)
from takeback.journal.ids import ActionId, RollbackId, RunId
from takeback.journal.log import JournalBroken, JournalError, Stale, ViewKey
from takeback.journal.states import trusted
from takeback.journal.views import ActionView, RollbackView, RunStatus, RunView, StepView
from takeback.server.engine.answers import EngineError, RollbackAnswer
from takeback.server.engine.calls import ROLLBACK_IDS, Progress
from takeback.server.engine.containment import check_may_bring_back
from takeback.server.engine.core import Core
from takeback.server.engine.execute import Executor
from takeback.server.engine.faults import fault, unwritten
from takeback.server.engine.gather import make_plan, others_on, rollback_view
from takeback.server.engine.held_acts import catch_up
from takeback.server.engine.holds import check_entries
from takeback.server.engine.judging_back import check_consents_spent
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.plan import Plan
from takeback.server.engine.rollback_answers import answered, planned
from takeback.server.engine.seen import Seen
from takeback.server.engine.settle import settle
from takeback.server.engine.shield import shielded
from takeback.server.engine.voiding import sweep, void_of_taken_back
from takeback.server.engine.wishes import (
    Wish,
    check_not_redone,
    entries_of,
    nothing,
    restored,
    stored_plan,
    touched_by,
    wish_for_redo,
)

__all__ = ["Rollbacks", "wish_for_redo"]

log = logging.getLogger(__name__)

RUN_LOCK_SECONDS = 20.0
REOPEN_ATTEMPTS = 20
Reopened = Literal["open", "rolled_back", "finished", "failed", "stalled", "contained", "quarantined"]
"""What a run may be once a rollback is over."""


@dataclass(slots=True)
class Rollbacks:
    """Plans and executes rollbacks and redos for one engine."""

    core: Core
    seen: Seen

    # -- one request ----------------------------------------------------------------------------------------------------

    async def carry_out(
        self, caller: Caller, wish: Wish, *, dry_run: bool, plan_digest: str | None, progress: Progress
    ) -> RollbackAnswer:
        """Plan, and unless it is a dry run or wants a digest first, execute.

        :raises EngineError: nothing to take back, a digest that does not fit, a rollback at work already.
        """
        if dry_run or plan_digest is not None or wish.needs_digest:
            plan = await self._plan(wish)
            if dry_run:
                return await planned(self.core, caller, wish, plan)
            if plan_digest is None:
                return await planned(self.core, caller, wish, plan, wish.needs_digest)
            if plan_digest != plan.digest:
                raise _void(plan)
        if not wish.chosen and not await self._sealed(wish.runs):
            raise nothing()
        touched = tuple(dict.fromkeys([*wish.runs, *wish.goal.cascade, *(entry.run_id for entry in wish.chosen)]))
        bound = replace(wish, bound=plan_digest is not None)
        try:
            return await self._alone(touched, lambda: self._carry_out(caller, bound, touched, plan_digest, progress))
        except JournalError as error:
            then = "What was begun goes on when it is asked for again, or at the next start."
            raise unwritten(error, "The rollback stopped", then) from error

    async def _carry_out(
        self, caller: Caller, wish: Wish, touched: tuple[RunId, ...], plan_digest: str | None, progress: Progress
    ) -> RollbackAnswer:
        """Nobody else takes anything of these runs back meanwhile, and no cancellation comes through."""
        resumed = await self._finish_earlier(touched)
        wish = await self._renewed(wish)
        if not wish.chosen:
            if resumed:
                return resumed[-1]  # what was wanted had been begun before, and is over now
            raise nothing()
        rollback_id = ROLLBACK_IDS.get()()
        before = await self._seal(touched, rollback_id)
        try:
            _check_redo(wish, before)
            if _acts_again(wish):
                await check_entries(self.core, wish.chosen)
                await check_may_bring_back(self.core, caller, touched)
                await check_consents_spent(self.core, [entry.action_id for entry in wish.chosen])
            await self._settle_in_flight(touched)
            wish = await self._renewed(wish, ours=len(before))
            if not wish.chosen:
                raise nothing()
            plan = await self._plan(wish)
            if plan_digest is not None and plan_digest != plan.digest:
                raise _void(plan)
            if any(step.run_id not in touched for step in plan.steps):
                raise EngineError("busy", "Another run has just built on it.", "Look at the plan once more.")
            await self.core.record(
                [
                    trusted(  # a plan of thousands of steps is JSON, and need not be looked through once more
                        RollbackStarted,
                        run_id=touched[0],
                        at=self.core.now(),
                        rollback_id=rollback_id,
                        kind=wish.kind,
                        by=caller,
                        plan=stored_plan(plan, wish, touched),
                        plan_digest=plan.digest,
                        redoes=wish.redoes,
                    )
                ]
            )
        except BaseException:
            await self._reopen(touched, rollback_id)
            raise
        return await self._execute(rollback_id, plan, wish, touched, caller, progress, ())

    async def _plan(self, wish: Wish) -> Plan:
        return await make_plan(self.core, wish.goal, wish.chosen, await others_on(self.core, wish.chosen))

    async def _renewed(self, wish: Wish, *, ours: int = 0) -> Wish:
        """The wish with what its entries are now: since it was read others may have acted, settled or taken back.

        :param ours: events that were written since and change none of that: seals.
        :raises EngineError: it was redone meanwhile.
        """
        journal = self.core.journal
        if wish.kind == "redo":
            if wish.redoes is not None:
                check_not_redone(await rollback_view(self.core, wish.redoes))
            return wish
        now = await journal.position()
        if now == wish.seen_at + ours:
            return wish
        found: list[ActionView] = []
        if wish.after is None:
            for entry in wish.chosen:
                action = await journal.get(ActionView, entry.action_id)
                found += [action] if action is not None else []
        else:
            for run_id in wish.runs:
                found += await journal.find(ActionView, run_id=run_id, after=wish.after, oldest_first=True)
        chosen = entries_of(found)
        goal = wish.goal.model_copy(update={"chosen": tuple(entry.id for entry in chosen)})
        return replace(wish, chosen=chosen, goal=goal, seen_at=now)

    async def _sealed(self, runs: Iterable[RunId]) -> bool:
        views = [await self.core.journal.get(RunView, run_id) for run_id in runs]
        return any(view is not None and view.sealed_by is not None for view in views)

    async def _execute(
        self,
        rollback_id: RollbackId,
        plan: Plan,
        wish: Wish,
        touched: tuple[RunId, ...],
        caller: Caller,
        progress: Progress,
        begun: Sequence[StepView],
    ) -> RollbackAnswer:
        executor = Executor(self.core, rollback_id, stands_after=wish.stands_after, bound=wish.bound, progress=progress)
        with self.core.undoing():
            done = await executor.run(plan, {step.index: step for step in begun})
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
        finished = RollbackFinished(
            run_id=touched[0], at=self.core.now(), rollback_id=rollback_id, status=status, retracted=retracted
        )
        await self._reopen(touched, rollback_id, [finished], lambda run: _status_after(run, wish, good))
        return await answered(self.core, caller, rollback_id, plan, done, status, retracted, touched)

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

    async def _alone(self, runs: Sequence[RunId], work: Callable[[], Awaitable[RollbackAnswer]]) -> RollbackAnswer:
        """Do the work to its end, holding the locks of these runs and of all that an earlier rollback of them sealed."""
        wanted = dict.fromkeys(runs)
        for _ in range(5):
            async with self._run_locks(tuple(wanted)):
                more = [run_id for run_id in await self._entangled(wanted) if run_id not in wanted]
                if not more:
                    return await shielded(work)
            wanted.update(dict.fromkeys(more))
        raise EngineError("busy", "The run keeps changing.", "Try again when it is quieter.")

    async def _entangled(self, runs: Iterable[RunId]) -> list[RunId]:
        found: list[RunId] = []
        for run_id in runs:
            run = await self.core.journal.get(RunView, run_id)
            if run is not None and run.sealed_by is not None:
                view = await self.core.journal.get(RollbackView, run.sealed_by)
                found += touched_by(view.plan) if view is not None and view.status == "running" else ()
        return found

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

    async def _reopen(
        self,
        runs: Sequence[RunId],
        rollback_id: RollbackId,
        along: Sequence[BaseEvent] = (),
        status_of: Callable[[RunView], Reopened] | None = None,
    ) -> None:
        """Open the runs that this rollback sealed: as they were before, or as `status_of` says.

        Who contained one meanwhile is not overruled: only what is still as it was read is opened.
        """
        for _ in range(REOPEN_ATTEMPTS):
            views = [await self.core.journal.get(RunView, run_id) for run_id in runs]
            own = [view for view in views if view is not None and view.sealed_by == rollback_id]
            reopened = [
                RunReopened(
                    run_id=run.run_id,
                    at=self.core.now(),
                    rollback_id=rollback_id,
                    status=_now_or(run, status_of or _status_before),
                )
                for run in own
            ]
            if not along and not reopened:
                return
            void = await void_of_taken_back(self.core, reopened)
            expect = {ViewKey("run", run.id): run.version for run in own}
            try:
                await self.core.record([*along, *reopened, *void.events], expect={**expect, **void.expect})
            except Stale:
                continue
            for event in reopened:
                await sweep(self.core, event.run_id, event.status)
            return
        raise EngineError("busy", "The run keeps changing.", "Roll it back again when it is quieter.")

    async def _settle_in_flight(self, runs: Sequence[RunId]) -> None:
        for run_id in runs:
            await catch_up(self.core, run_id)
            for action in await self.core.journal.find(ActionView, run_id=run_id, status=("intended", "in_doubt")):
                wait = self.core.settings.limits.step_seconds
                if await settle(self.core, ActionId(action.id), by="rollback", wait=wait) is None:
                    raise EngineError(
                        "busy",
                        f"The call {action.id} is still at work.",
                        "Wait until it is done, then roll back again.",
                    )

    # -- after a crash ----------------------------------------------------------------------------------------------------

    async def _finish_earlier(self, runs: Sequence[RunId]) -> list[RollbackAnswer]:
        """Finish rollbacks that a process began and did not end; we hold the runs' locks, so nobody works on them."""
        answers: list[RollbackAnswer] = []
        for run_id in runs:
            run = await self.core.journal.get(RunView, run_id)
            if run is not None and run.sealed_by is not None:
                answer = await self._resume_one(run.sealed_by, run)
                answers += [answer] if answer is not None else []
        return answers

    async def resume_unfinished(self) -> list[RollbackAnswer]:
        """Finish every rollback that no living process works on. One that cannot be finished now does not hold up the rest.

        :raises JournalBroken: nothing can be written any more.
        """
        answers: list[RollbackAnswer] = []
        for found in await self.core.journal.find(RunView, status=("sealed", "contained", "quarantined")):
            if found.sealed_by is None:
                continue
            view = await self.core.journal.get(RollbackView, found.sealed_by)
            runs = (touched_by(view.plan) if view is not None else ()) or (found.run_id,)
            try:
                async with self.core.run_locks.hold([f"run:{run_id}" for run_id in runs], timeout=0):
                    run = await self.core.journal.get(RunView, found.run_id)
                    if run is None or run.sealed_by != found.sealed_by:
                        continue  # it was over in the meantime
                    answer = await self._resume_one(found.sealed_by, run)
                    if answer is not None:
                        answers.append(answer)
            except LockTimeout:
                continue  # a living process is at it
            except JournalBroken:
                raise
            except Exception as error:  # the others, and the server, must not wait for it
                log.error("rollback %s could not be finished: %s", found.sealed_by, fault(error))
        return answers

    async def _resume_one(self, rollback_id: RollbackId, run: RunView) -> RollbackAnswer | None:
        view = await self.core.journal.get(RollbackView, rollback_id)
        if view is None or view.status != "running":
            # sealed, but nothing was begun, or it is over: there is nothing to finish
            await self._reopen([run.run_id], rollback_id)
            return None
        try:
            plan, wish, touched = restored(view)
        except (ValueError, KeyError) as error:
            raise EngineError(
                "unreadable",
                f"Rollback {rollback_id} was begun by another version of takeback, and this one cannot read its plan.",
                "Start that version once more: it finishes what it began.",
            ) from error
        await self._settle_in_flight(touched)
        return await self._execute(rollback_id, plan, wish, touched, view.by, _nobody_watches, view.steps)


async def _nobody_watches(done: float, total: float | None, words: str) -> None:
    return None


def _void(plan: Plan) -> EngineError:
    return EngineError(
        "plan_changed",
        "The plan is not the one that the digest names: something changed since it was made.",
        f"Look at the new plan with dry_run; its digest is {plan.digest}.",
    )


def _acts_again(wish: Wish) -> bool:
    return wish.kind == "redo" and wish.stands_after is not False


def _check_redo(wish: Wish, before: dict[RunId, RunStatus]) -> None:
    # to bring back what a run did is to let it act again
    held = [run_id for run_id, status in before.items() if status in ("contained", "quarantined")]
    if _acts_again(wish) and held:
        raise EngineError(
            "contained",
            f"Run {held[0]} is {before[held[0]]}, so nothing that was taken back is brought back now.",
            "A person releases it with `takeback release`.",
        )


def _now_or(run: RunView, status_of: Callable[[RunView], Reopened]) -> Reopened:
    # contained while the rollback was at work: it stays that
    return run.status if run.status == "contained" or run.status == "quarantined" else status_of(run)


def _status_before(run: RunView) -> Reopened:
    before = run.before_seal or "open"
    return "open" if before == "sealed" else before


def _status_after(run: RunView, wish: Wish, good: bool) -> Reopened:
    before = _status_before(run)
    if wish.kind == "redo":
        return ("finished" if run.ended_at else "open") if before == "rolled_back" else before
    if run.run_id in wish.whole and good:
        return before if before in ("contained", "quarantined") else "rolled_back"
    if wish.to_checkpoint and before in ("finished", "failed", "stalled", "rolled_back"):
        return "open"
    return before
