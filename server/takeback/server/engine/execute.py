"""Executing a plan: each step journaled before and after it touches the world.

A step is called `restored` or `merged` only when what was put back has been read back and compared. What does not work is
retried within bounds, then left open for a person with everything they need. Executing a step twice does no harm: after a
crash the steps that were begun are executed again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio

from takeback.journal.events import (
    ActionSettled,
    BaseEvent,
    ConflictOpened,
    ConflictResolved,
    RollbackStep,
    UndoOutcome,
)
from takeback.journal.ids import ActionId, ConflictId, RollbackId, new_conflict_id
from takeback.journal.log import JournalError
from takeback.journal.states import Effect, State
from takeback.journal.views import ActionView, OpenItem, StepView
from takeback.server.engine.calls import Progress, no_progress
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.plan import Plan, PlanStep
from takeback.server.engine.policy import Judged
from takeback.server.engine.settle import NEXT_IN_DOUBT, lock_names
from takeback.server.engine.shield import shielded
from takeback.tools import adapt
from takeback.tools.adapt import MemoError
from takeback.tools.contract import ReversibleTool
from takeback.tools.system import Clash, Drifted, Merged, Swapped, TargetError

log = logging.getLogger(__name__)

GOOD: frozenset[str] = frozenset({"restored", "merged", "already_undone", "compensated"})
DRIFT_ROUNDS = 3
AT_ONCE = 16
"""Steps that are worked on at the same time: they share the journal's transactions, and the disk's flushes."""
PROGRESS_SECONDS = 5.0
"""How long a listener may keep a rollback waiting before it is told nothing more."""
HALF_DONE = "half_done"
"""What systems call a swap that could be neither finished nor put back: swapping again is safe, and does one or the other."""
DISK_FULL = "no_space"
"""What systems call it (`TargetError.code`): then the ballast is given up, so that the rollback can go on."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one step."""

    step: PlanStep
    outcome: UndoOutcome
    why: str = ""
    effects: tuple[Effect, ...] = ()
    open_item: ConflictOpened | None = None
    warnings: tuple[str, ...] = ()
    """What the system could not promise while it did this."""

    @property
    def good(self) -> bool:
        """Nothing is left open by it."""
        return self.outcome in GOOD or (self.outcome == "skipped" and self.open_item is None)


class _GiveUp(Exception):
    """The step cannot be done: the sentence says why."""


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
        self._stands, self._bound, self._progress = stands_after, bound, progress
        self._open_items: dict[str, list[OpenItem]] = {}
        """What earlier rollbacks left open, by action."""

    async def run(self, plan: Plan, begun: dict[int, StepView]) -> list[Done]:
        """Execute the steps in order, what has nothing to do with each other side by side.

        :param begun: steps that an earlier process journaled; the concluded ones are not executed again.
        """
        results: dict[int, Done] = {}
        failed: set[str] = set()
        total = len(plan.steps)
        for run_id in dict.fromkeys(step.run_id for step in plan.steps):
            for item in await self._core.journal.find(OpenItem, run_id=run_id, status="open", oldest_first=True):
                self._open_items.setdefault(item.action_id, []).append(item)

        def note(index: int, done: Done) -> None:
            results[index] = done
            if not done.good or done.outcome == "skipped":
                failed.add(done.step.entry_id)

        async def chain(indexes: Sequence[int]) -> None:
            for index in indexes:
                step, earlier = plan.steps[index], begun.get(index)
                if earlier is not None and earlier.phase == "concluded" and earlier.outcome is not None:
                    note(index, Done(step, earlier.outcome, earlier.why, earlier.effects))
                    continue
                note(index, await self._guarded(index, step, earlier, failed))
                await self._tell(len(results), total, f"{results[index].outcome}: {step.object}")

        chains = _chains(plan.steps, self._place)
        ahead = iter(chains)

        async def worker() -> None:
            for indexes in ahead:
                await chain(indexes)

        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(AT_ONCE, len(chains))):
                    group.start_soon(worker)
        except BaseExceptionGroup as several:
            if (unwritten := several.split(JournalError))[1] is None and unwritten[0] is not None:
                raise _innermost(unwritten[0]) from several  # callers know the journal's errors, not groups of them
            raise
        return [results[index] for index in range(total)]

    def _place(self, effect: Effect) -> str:
        """Effects at different places can be undone at the same time: other systems, or other folders."""
        system = self._core.systems.get(effect.system)
        if system is None or not system.side_by_side:
            return effect.system
        return f"{effect.system}:{next(iter(system.ancestors(effect.object)), effect.object)}"

    async def _tell(self, done: int, total: int, words: str) -> None:
        try:
            with anyio.move_on_after(PROGRESS_SECONDS) as scope:
                await self._progress(done, total, words)
            if scope.cancelled_caught:
                self._progress = no_progress
        except Exception as error:  # whoever was listening has gone; what was begun is ended all the same
            log.info("nobody can be told how far rollback %s is: %s", self._id, type(error).__name__)
            self._progress = no_progress

    async def _guarded(self, index: int, step: PlanStep, earlier: StepView | None, failed: set[str]) -> Done:
        try:
            return await self._step(index, step, earlier, failed)
        except JournalError:
            raise  # nothing can be written down, so nothing more may be done; it is resumed from what is journaled
        except Exception as error:  # third-party code: one step that cannot be done must not stop the others
            log.error("step %d of rollback %s failed unexpectedly: %s", index, self._id, type(error).__name__)
            return await self._conclude(index, step, self._open(step, "failed", fault(error)))

    async def _step(self, index: int, step: PlanStep, earlier: StepView | None, failed: set[str]) -> Done:
        waiting_for = [entry for entry in step.after_steps if entry in failed]
        if waiting_for and step.decision in ("restore", "merge", "compensate", "already_undone"):
            return await self._conclude(
                index, step, self._open(step, "skipped", f"{', '.join(waiting_for)} could not be taken back first")
            )
        match step.decision:
            case "restore" | "merge":
                exclusive, shared = lock_names(self._core, step.wanted or step.effects)
                try:
                    async with self._core.locks.hold(
                        exclusive, shared, timeout=self._core.settings.limits.step_seconds
                    ):
                        return await self._swap(index, step, earlier)
                except LockTimeout as error:
                    return await self._conclude(index, step, self._open(step, "failed", str(error)))
            case "compensate":
                action = await self._core.journal.get(ActionView, step.action_id)
                exclusive, shared = lock_names(self._core, action.effects if action is not None else ())
                held = {*exclusive, *(action.locks if action is not None else ())}
                try:
                    async with self._core.locks.hold(held, shared, timeout=self._core.settings.limits.step_seconds):
                        return await self._compensate(index, step, action)
                except LockTimeout as error:
                    return await self._conclude(index, step, self._open(step, "failed", str(error)))
            case "already_undone":
                return await self._conclude(index, step, Done(step, "already_undone", step.why))
            case "conflict":
                return await self._conclude(index, step, self._open(step, "conflict", step.why))
            case "irreversible":
                return await self._conclude(index, step, self._open(step, "irreversible", step.why))
            case "in_doubt":
                return await self._conclude(
                    index,
                    step,
                    self._open(step, "failed", step.why or "nobody knows whether it took effect", "in_doubt"),
                )
            case "blocked":
                return await self._conclude(index, step, self._open(step, "skipped", step.why))
            case "skip":
                return await self._conclude(index, step, Done(step, "skipped", step.why))

    # -- restoring and merging ------------------------------------------------------------------------------------------

    async def _swap(self, index: int, step: PlanStep, earlier: StepView | None) -> Done:
        effects, outcome = step.effects, _outcome_of(step)
        blobs: dict[str, bytes] = {}
        if earlier is not None and earlier.effects:
            effects = earlier.effects  # begun before a crash: finish exactly that
            if not _is_plain(effects, step.wanted):
                outcome = "merged"
        elif step.decision == "merge":
            merged = await self._merge(step, step.present)
            if isinstance(merged, Done):
                return await self._conclude(index, step, merged)
            effects, blobs = _changing(merged.effects), dict(merged.blobs)
        last = ""
        for _ in range(DRIFT_ROUNDS):
            if not effects:
                return await self._conclude(index, step, Done(step, "already_undone", "nothing of it is left there"))
            await self._core.record([self._event(index, step, "intended", effects=effects)], blobs=blobs)
            try:
                swapped = await self._try_swap(effects)
            except _GiveUp as error:
                if await self._is_there(effects):
                    why = f"the system reported a failure ({error}), but it was read back as wanted"
                    return await self._conclude(index, step, Done(step, outcome, why, effects))
                return await self._conclude(index, step, self._open(step, "failed", str(error)))
            if isinstance(swapped, Swapped):
                wrong = [
                    now.object
                    for now, wanted in zip(swapped.effects, effects, strict=True)
                    if not now.after.same(wanted.after)
                ]
                if wrong:
                    why = f"read back and found different: {', '.join(wrong)}"
                    return await self._conclude(index, step, self._open(step, "failed", why))
                done = Done(step, outcome, step.why, swapped.effects, warnings=swapped.warnings)
                return await self._conclude(index, step, done)
            try:
                present = await self._present(step, effects, swapped)
            except Exception as error:  # third-party code: nothing was changed, and nobody could look once more
                why = f"it was changed meanwhile ({swapped.why}) and could not be looked at: {fault(error)}"
                return await self._conclude(index, step, self._open(step, "failed", why))
            if all(now.same(wanted.after) for now, wanted in zip(present, step.wanted, strict=True)):
                return await self._conclude(index, step, Done(step, "already_undone", "it is already as it was before"))
            last = swapped.why
            if self._bound:
                why = f"changed while the rollback ran: {swapped.why}"
                return await self._conclude(index, step, self._open(step, "conflict", why, present=present))
            merged = await self._merge(step, present)
            if isinstance(merged, Done):
                return await self._conclude(index, step, merged)
            effects, blobs, outcome = _changing(merged.effects), dict(merged.blobs), "merged"
        return await self._conclude(
            index, step, self._open(step, "conflict", f"it does not hold still while it is taken back: {last}")
        )

    async def _merge(self, step: PlanStep, present: tuple[State, ...]) -> Merged | Done:
        system = self._core.systems[step.wanted[0].system]
        try:
            merged = await system.merge(step.wanted, present)
        except Exception as error:  # third-party code: what cannot be merged is left alone
            return self._open(step, "failed", f"could not be merged: {fault(error)}", present=present)
        if isinstance(merged, Clash):
            return self._open(step, "conflict", merged.why, present=present)
        return merged

    async def _present(self, step: PlanStep, tried: tuple[Effect, ...], drifted: Drifted) -> tuple[State, ...]:
        by_object = {effect.object: state for effect, state in zip(tried, drifted.present, strict=True)}
        missing = [effect for effect in step.wanted if effect.object not in by_object]
        if missing:
            system = self._core.systems[step.wanted[0].system]
            looked = await system.look([effect.object for effect in missing], [effect.before for effect in missing])
            by_object.update({effect.object: state for effect, state in zip(missing, looked, strict=True)})
        return tuple(by_object[effect.object] for effect in step.wanted)

    async def _try_swap(self, effects: tuple[Effect, ...]) -> Swapped | Drifted:
        system = self._core.systems[effects[0].system]
        last = ""
        for pause in (*self._core.retry_pauses, None):
            try:
                return await shielded(lambda: system.swap(effects), seconds=self._core.settings.limits.step_seconds)
            except TimeoutError:
                raise _GiveUp("compensation_timeout: it took longer than the bound for one step") from None
            except TargetError as error:
                last = str(error)
                if error.code == DISK_FULL and self._core.ballast.release():
                    continue
                if not (error.retry or error.code == HALF_DONE) or pause is None:
                    raise _GiveUp(last) from error
            except OSError as error:
                last = f"the system failed: {fault(error)}"
                if pause is None:
                    raise _GiveUp(last) from error
            except Exception as error:  # third-party code: it may have done it or not, so the world is looked at
                raise _GiveUp(f"the system failed: {fault(error)}") from error
            await anyio.sleep(pause)
        raise _GiveUp(last)

    async def _is_there(self, effects: tuple[Effect, ...]) -> bool:
        system = self._core.systems[effects[0].system]
        try:
            looked = await system.look([effect.object for effect in effects], [effect.after for effect in effects])
        except Exception:  # third-party code: what nobody could look at is not said to be there
            return False
        return len(looked) == len(effects) and all(
            now.same(effect.after) for now, effect in zip(looked, effects, strict=True)
        )

    # -- compensating ---------------------------------------------------------------------------------------------------

    async def _compensate(self, index: int, step: PlanStep, action: ActionView | None) -> Done:
        core = self._core
        tool = core.tools.get(step.tool)
        if action is None or tool is None:
            why = f"the tool {step.tool} is not installed any more"
            return await self._conclude(index, step, self._open(step, "failed", why))
        verdict = core.policy.judge(
            Judged(
                tool=step.tool,
                known=True,
                caller=action.caller or core.nobody,
                mode="act",
                scope=(),
                effects=action.effects,
                reversibility="compensable",
                reason="",
                compensation=True,
            )
        )
        if verdict.decision != "allow":
            why = f"policy rule {verdict.rule} does not allow it: {verdict.reason}"
            return await self._conclude(index, step, self._open(step, "failed", why, "denied"))
        if isinstance(tool, ReversibleTool):
            return await self._compensate_by_swap(index, step, action)
        for attempt, pause in enumerate((*core.retry_pauses, None), start=1):
            await core.record([self._event(index, step, "intended", attempt=attempt)])
            try:
                words = await shielded(
                    lambda: adapt.compensate(tool, action.memo, action.outcome),
                    seconds=core.settings.limits.step_seconds,
                )
                return await self._conclude(index, step, Done(step, "compensated", words))
            except TimeoutError:
                why = "compensation_timeout: it took longer than the bound for one step"
                return await self._conclude(index, step, self._open(step, "failed", why))
            except (MemoError, TypeError) as error:
                return await self._conclude(index, step, self._open(step, "failed", str(error)))
            except Exception as error:
                # the author's code: whatever it raises means that it did not work
                log.info("compensation of %s, attempt %d: %s", step.action_id, attempt, type(error).__name__)
                if pause is None:
                    why = f"gave up after {attempt} attempts: {error}"
                    return await self._conclude(index, step, self._open(step, "failed", why))
            await anyio.sleep(pause)
        raise AssertionError("the last attempt returns")

    async def _compensate_by_swap(self, index: int, step: PlanStep, action: ActionView) -> Done:
        """Put back what can be put back of an act that was compensable from the start: its system could not keep still what
        else happens along with that (triggers that fire again)."""
        effects = tuple(effect.reversed() for effect in reversed(action.effects))
        step = step.model_copy(update={"wanted": effects})
        await self._core.record([self._event(index, step, "intended", effects=effects)])
        try:
            swapped = await self._try_swap(effects)
        except _GiveUp as error:
            return await self._conclude(index, step, self._open(step, "failed", str(error)))
        if isinstance(swapped, Drifted):
            return await self._conclude(index, step, self._open(step, "conflict", swapped.why, present=swapped.present))
        done = Done(step, "compensated", action.reason, warnings=swapped.warnings)
        return await self._conclude(index, step, done)

    # -- journaling -----------------------------------------------------------------------------------------------------

    def _event(
        self,
        index: int,
        step: PlanStep,
        phase: str,
        *,
        effects: tuple[Effect, ...] = (),
        outcome: UndoOutcome | None = None,
        why: str = "",
        attempt: int = 1,
        stands: bool | None = None,
    ) -> RollbackStep:
        return RollbackStep(
            run_id=step.run_id,
            at=self._core.now(),
            rollback_id=self._id,
            index=index,
            phase="concluded" if phase == "concluded" else "intended",
            action_id=step.action_id,
            effects=effects,
            outcome=outcome,
            why=why,
            attempt=attempt,
            stands=stands,
        )

    async def _conclude(self, index: int, step: PlanStep, done: Done) -> Done:
        # what changed nothing does not stand any more once somebody wanted it taken back
        settled = done.outcome in GOOD or (done.step.decision == "skip" and self._stands is False)
        stands = self._stands if settled else None
        events: list[BaseEvent] = [
            self._event(
                index,
                step,
                "concluded",
                effects=done.effects,
                outcome=done.outcome,
                why="; ".join(filter(None, (done.why, *done.warnings))),
                stands=stands,
            )
        ]
        if done.open_item is not None:
            events.append(done.open_item)
        if done.outcome == "compensated":
            events[:0] = await self._out_of_doubt(step)
        events += await self._superseded(step, done)
        await shielded(lambda: self._core.record(events))
        return done

    async def _out_of_doubt(self, step: PlanStep) -> list[BaseEvent]:
        """Made up for without anybody knowing whether it had taken effect: after that there is no doubt left to settle."""
        action = await self._core.journal.get(ActionView, step.action_id)
        if action is None or action.status not in ("in_doubt", "intended"):
            return []
        return [
            ActionSettled(
                run_id=action.run_id,
                at=self._core.now(),
                action_id=step.action_id,
                outcome="applied",
                by="rollback",
                why="nobody knew whether it had taken effect; it was made up for as if it had",
            )
        ]

    async def _superseded(self, step: PlanStep, done: Done) -> list[BaseEvent]:
        """What earlier rollbacks left open about the action, and is over or said anew now."""
        known = self._open_items.pop(step.action_id, [])
        if not known or not (done.good or (done.open_item is not None and done.outcome != "skipped")):
            return []
        why = "it was taken back" if done.good else "the next rollback found it again"
        events: list[BaseEvent] = []
        for one in known:
            item = await self._core.journal.get(OpenItem, one.id)
            doubt = one.kind == "in_doubt"
            if item is None or item.status != "open":
                continue  # a person settled it meanwhile
            if doubt and not (done.good or (done.open_item is not None and done.open_item.kind == "in_doubt")):
                continue
            events.append(
                ConflictResolved(
                    run_id=item.run_id,
                    at=self._core.now(),
                    conflict_id=ConflictId(item.id),
                    choice="settled",
                    by="rollback",
                    why=why,
                    rollback_id=self._id,
                )
            )
        return events

    def _open(
        self,
        step: PlanStep,
        outcome: UndoOutcome,
        why: str,
        kind: str = "",
        *,
        present: tuple[State, ...] | None = None,
    ) -> Done:
        """A step that leaves something open for a person: named, with the reason and the next step."""
        present = present if present is not None else step.present
        at = _culprit(step, present)
        wanted = step.wanted[at] if step.wanted else None
        kinds = {"conflict": "conflict", "failed": "failed", "irreversible": "irreversible", "skipped": "conflict"}
        return Done(
            step,
            outcome,
            why,
            open_item=ConflictOpened.model_validate(
                {
                    "run_id": step.run_id,
                    "at": self._core.now(),
                    "conflict_id": new_conflict_id(),
                    "kind": kind or kinds[outcome],
                    "action_id": ActionId(step.action_id),
                    "rollback_id": self._id,
                    "system": wanted.system if wanted else step.tool,
                    "object": wanted.object if wanted else step.object,
                    "base": wanted.before if wanted else None,
                    "ours": wanted.after if wanted else None,
                    "theirs": present[at] if wanted and at < len(present) else None,
                    "why": why,
                    "next_step": _next_step(outcome, kind),
                }
            ),
        )


def _innermost(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """One of the exceptions in it."""
    first = several.exceptions[0]
    return _innermost(first) if isinstance(first, BaseExceptionGroup) else first  # pyright: ignore[reportUnknownArgumentType] -- a group of what is in it


def _changing(effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    return tuple(effect for effect in effects if not effect.before.same(effect.after))


def _is_plain(effects: tuple[Effect, ...], wanted: tuple[Effect, ...]) -> bool:
    # whether these effects put back exactly what was there before, and nothing merged
    goals = {(effect.system, effect.object): effect.after for effect in wanted}
    return all(
        (goal := goals.get((effect.system, effect.object))) is not None and goal.same(effect.after)
        for effect in effects
    )


def _outcome_of(step: PlanStep) -> UndoOutcome:
    return "merged" if step.decision == "merge" else "restored"


def _culprit(step: PlanStep, present: tuple[State, ...]) -> int:
    """Index of the effect that a person should look at: the first that is not as we left it."""
    pairs = list(enumerate(zip(step.wanted, present, strict=False)))
    foreign = [index for index, (wanted, now) in pairs if not now.same(wanted.before) and not now.same(wanted.after)]
    changed = [index for index, (wanted, now) in pairs if not now.same(wanted.before)]
    return next(iter([*foreign, *changed]), 0)


def _next_step(outcome: UndoOutcome, kind: str) -> str:
    if kind == "in_doubt":
        return NEXT_IN_DOUBT
    match outcome:
        case "conflict":
            return "Compare the three versions, then call resolve_conflict with theirs, ours, content or beside."
        case "irreversible":
            return "Nothing can undo it: make up for it by hand, then close this with resolve_conflict (theirs)."
        case "skipped":
            return "Settle what it depends on first, then roll back again."
        case _:
            return "Remove the cause, then roll back again; or close this with resolve_conflict (theirs)."


def _chains(steps: Sequence[PlanStep], place: Callable[[Effect], str]) -> list[list[int]]:
    """Indexes of the steps, in order, split where they have nothing to do with each other."""
    chains: dict[str, list[int]] = {}
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    by_entry: dict[str, str] = {}
    names: list[str] = []
    for step in steps:
        places = list(dict.fromkeys(place(effect) for effect in (*step.wanted, *step.effects)))
        places = places or [f"tool:{step.tool}"]
        places += [by_entry[entry] for entry in step.after_steps if entry in by_entry]
        for other in places[1:]:
            leader[find(other)] = find(places[0])
        by_entry[step.entry_id] = places[0]
        names.append(places[0])
    for index, name in enumerate(names):
        chains.setdefault(find(name), []).append(index)
    return list(chains.values())
