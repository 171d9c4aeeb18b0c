"""Executing a plan: each step journaled before and after it touches the world.

A step is called `restored` or `merged` only when what was put back has been read back and compared. Plain steps that have
nothing to do with each other are made many at once: their intents in one transaction, one visit to their system, their outcomes
in one transaction. What does not go through smoothly there is done again by itself, where drift is merged and failures are
retried within bounds, then left open for a person with everything they need. Executing a step twice does no harm: after a crash
the steps that were begun are executed again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

import anyio

from takeback.journal.ids import RollbackId
from takeback.journal.log import JournalError
from takeback.journal.states import Effect, altered
from takeback.journal.views import ActionView, StepView
from takeback.server.engine.calls import Progress, no_progress
from takeback.server.engine.compensate import compensate
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.held_acts import left
from takeback.server.engine.judging_back import judge_back, stands_in_the_way
from takeback.server.engine.ledger import Ledger
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.order import Order
from takeback.server.engine.outcome import Done
from takeback.server.engine.plan import Plan, PlanStep
from takeback.server.engine.restore import restore, wrong_in
from takeback.server.engine.settle import lock_names
from takeback.server.engine.shield import shielded
from takeback.tools.system import Alone, Swapped

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Steps done by themselves that are worked on at a time: they share the journal's transactions, and the disk's flushes."""
BATCH, PLACES = 256, 64
"""Plain steps that are made in one go, and from how many places at most: locks and folders are open files meanwhile."""
PROGRESS_SECONDS = 5.0
"""How long a listener may keep a rollback waiting before it is told nothing more."""


class Executor:
    """Executes one rollback's plan."""

    def __init__(
        self, core: Core, rollback_id: RollbackId, *, stands_after: bool | None, bound: bool, progress: Progress
    ) -> None:
        """
        :param stands_after: whether the actions stand in the world after a good step (`None`: says nothing about it).
        :param bound: somebody consented to exactly this plan, so what drifted since is a conflict and not merged.
        """
        self._core, self._id = core, rollback_id
        self._bound, self._progress = bound, progress
        self._ledger = Ledger(core, rollback_id, stands_after=stands_after)
        self._steps: Sequence[PlanStep] = ()
        self._begun: dict[int, StepView] = {}
        self._results: dict[int, Done] = {}
        self._failed: set[str] = set()
        """Entries on which what depends on them has to wait for good."""
        self._alone: dict[int, tuple[str, ...]] = {}
        """Steps that did not go through smoothly in a batch, each with the warnings that are left of the attempt."""

    async def run(self, plan: Plan, begun: dict[int, StepView]) -> list[Done]:
        """Execute the steps in order, what has nothing to do with each other side by side.

        :param begun: steps that an earlier process journaled; the concluded ones are not executed again.
        """
        self._steps, self._begun = plan.steps, begun
        await self._ledger.read_open(plan)
        order = Order(plan.steps, self._place, self._plain)
        for index, earlier in begun.items():
            if earlier.phase == "concluded" and earlier.outcome is not None:
                self._note(index, Done(plan.steps[index], earlier.outcome, earlier.why, earlier.effects))
        order.done(set(self._results))
        while order.left():
            batch = order.batch(BATCH, PLACES)
            if len(batch) > 1:
                await self._together(order, batch)
            else:
                await self._side_by_side(order)
            order.done(set(self._results))
        return [self._results[index] for index in range(len(plan.steps))]

    def _note(self, index: int, done: Done) -> None:
        self._results[index] = done
        if (not done.good and not done.made_way) or done.outcome == "skipped":
            self._failed.add(done.step.entry_id)

    def _place(self, effect: Effect) -> str:
        """Effects at different places can be undone at the same time: other systems, or other folders."""
        system = self._core.systems.get(effect.system)
        if system is None or not system.side_by_side:
            return effect.system
        return f"{effect.system}:{next(iter(system.ancestors(effect.object)), effect.object)}"

    async def _tell(self, index: int) -> None:
        words = f"{self._results[index].outcome}: {self._steps[index].object}"
        try:
            with anyio.move_on_after(PROGRESS_SECONDS) as scope:
                await self._progress(len(self._results), len(self._steps), words)
            if scope.cancelled_caught:
                self._progress = no_progress
        except Exception as error:  # whoever was listening has gone; what was begun is ended all the same
            log.info("nobody can be told how far rollback %s is: %s", self._id, type(error).__name__)
            self._progress = no_progress

    # -- many at once -----------------------------------------------------------------------------------------------------

    def _plain(self, index: int) -> bool:
        """Whether a step may be one of a batch: a restore in one system that can do that, not begun, waiting for nothing."""
        step = self._steps[index]
        if step.decision != "restore" or not step.effects or index in self._begun or index in self._alone:
            return False
        name = step.effects[0].system
        system = self._core.systems.get(name)
        return (
            system is not None
            and system.side_by_side
            and all(effect.system == name for effect in step.effects)
            and self._failed.isdisjoint(step.after_steps)
            and judge_back(self._core, step).decision == "allow"
        )

    async def _together(self, order: Order, batch: list[int]) -> None:
        """Make the steps in one go. Those that do not go through smoothly are left to be done by themselves."""
        effects = [effect for index in batch for effect in (self._steps[index].wanted or self._steps[index].effects)]
        exclusive, shared = lock_names(self._core, effects)
        made: list[tuple[int, Done]] = []
        unmade: dict[int, tuple[str, ...]] = {}
        try:
            async with self._core.locks.hold(exclusive, shared, timeout=0):
                await self._core.record(
                    [self._ledger.intended(index, self._steps[index], self._steps[index].effects) for index in batch]
                )
                for index, result in zip(batch, await self._swap_each(batch), strict=True):
                    step = self._steps[index]
                    if isinstance(result, Swapped) and not wrong_in(result, step.effects):
                        made.append((index, Done(step, "restored", step.why, result.effects, warnings=result.warnings)))
                    else:
                        unmade[index] = result.warnings
                if made:
                    await self._ledger.conclude_all(made)
        except LockTimeout:  # somebody is at work on one of them: each waits for its own
            unmade.update((index, ()) for index in batch)
        for index, done in made:
            self._note(index, done)
        order.done(set(self._results))
        # of a chain the first one that was not made is done by itself; those behind it may only have waited for it
        heads = {chain[0] for chain in order.left()}
        self._alone.update((index, said) for index, said in unmade.items() if said or index in heads)
        if made:
            await self._tell(made[-1][0])

    async def _swap_each(self, batch: list[int]) -> Sequence[Swapped | Alone]:
        acts = [self._steps[index].effects for index in batch]
        system = self._core.systems[acts[0][0].system]
        try:
            results = await shielded(lambda: system.swap_each(acts), seconds=self._core.settings.limits.step_seconds)
        except Exception as error:  # third-party code: what it has made is found when each is swapped by itself
            log.info("%d steps of rollback %s go one by one: %s", len(batch), self._id, fault(error))
            return [Alone()] * len(batch)
        return results if len(results) == len(batch) else [Alone()] * len(batch)

    # -- one by one -------------------------------------------------------------------------------------------------------

    async def _side_by_side(self, order: Order) -> None:
        """Do the next step of each chain by itself, and those behind it as long as they are to be done so too."""
        ahead = iter(order.left())

        async def worker() -> None:
            for chain in ahead:
                await self._along(order, chain)

        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(AT_ONCE, len(order.chains))):
                    group.start_soon(worker)
        except BaseExceptionGroup as several:
            if (unwritten := several.split(JournalError))[1] is None and unwritten[0] is not None:
                raise _innermost(unwritten[0]) from several  # callers know the journal's errors, not groups of them
            raise

    async def _along(self, order: Order, chain: deque[int]) -> None:
        while True:
            index = chain.popleft()
            self._note(index, await self._guarded(index, self._steps[index]))
            await self._tell(index)
            if not chain or not order.alone(chain):
                return

    async def _guarded(self, index: int, step: PlanStep) -> Done:
        try:
            return await self._step(index, step)
        except JournalError:
            raise  # nothing can be written down, so nothing more may be done; it is resumed from what is journaled
        except Exception as error:  # third-party code: one step that cannot be done must not stop the others
            log.error("step %d of rollback %s failed unexpectedly: %s", index, self._id, type(error).__name__)
            return await self._ledger.conclude(index, self._ledger.open(step, "failed", fault(error)))

    async def _step(self, index: int, step: PlanStep) -> Done:
        ledger, waiting_for = self._ledger, [entry for entry in step.after_steps if entry in self._failed]
        if waiting_for and step.decision in ("restore", "merge", "compensate", "already_undone"):
            why = f"{', '.join(waiting_for)} could not be taken back first"
            return await ledger.conclude(index, ledger.open(step, "skipped", why))
        match step.decision:
            case "restore" | "merge":
                return await self._held(index, step, None)
            case "compensate":
                return await self._held(index, step, await self._core.journal.get(ActionView, step.action_id))
            case "already_undone":
                done = Done(step, "already_undone", step.why)
            case "conflict":
                done = ledger.open(step, "conflict", step.why)
            case "irreversible":
                done = ledger.open(step, "irreversible", step.why)
            case "in_doubt":
                done = ledger.open(step, "failed", step.why or "nobody knows whether it took effect", "in_doubt")
            case "blocked":
                done = ledger.open(step, "skipped", step.why)
            case "skip":
                done = Done(step, "skipped", step.why)
        return await ledger.conclude(index, done)

    async def _held(self, index: int, step: PlanStep, action: ActionView | None) -> Done:
        """Restore or compensate while holding what the step touches, and conclude."""
        core, ledger = self._core, self._ledger
        compensated = step.decision == "compensate"
        effects = (action.effects if action is not None else ()) if compensated else (step.wanted or step.effects)
        exclusive, shared = lock_names(core, effects)
        held = {*exclusive, *(action.locks if action is not None else ())}
        try:
            async with core.locks.hold(held, shared, timeout=core.settings.limits.step_seconds):
                if index not in self._begun and (why := await stands_in_the_way(core, self._id, step)):
                    return await ledger.conclude(index, ledger.open(step, "failed", why, "denied"))
                if compensated:
                    done = await compensate(core, ledger, index, step, action)
                else:
                    done = await restore(core, ledger, index, step, self._begun.get(index), bound=self._bound)
                    done = done.warned(self._alone.get(index, ()))
                late = None if compensated or done.good or self._bound else await left(core, step.action_id)
                if late is None:
                    return await ledger.conclude(index, done)
            # an act that waited was done while it was to be called off: its tool makes up for it
            return await self._held(index, altered(step, decision="compensate"), late)
        except LockTimeout as error:
            return await ledger.conclude(index, ledger.open(step, "failed", str(error)))


def _innermost(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """One of the exceptions in it."""
    first = several.exceptions[0]
    return _innermost(first) if isinstance(first, BaseExceptionGroup) else first  # pyright: ignore[reportUnknownArgumentType] -- a group of what is in it
