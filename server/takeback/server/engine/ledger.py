"""The journal of one rollback: each step written down before and after it touches the world."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from takeback.journal.events import (
    ActionSettled,
    BaseEvent,
    ConflictOpened,
    ConflictResolved,
    RollbackStep,
    UndoOutcome,
)
from takeback.journal.ids import ConflictId, RollbackId
from takeback.journal.states import Effect, State
from takeback.journal.views import ActionView, OpenItem
from takeback.server.engine.core import Core
from takeback.server.engine.corrections import too_late
from takeback.server.engine.faults import fault
from takeback.server.engine.outcome import GOOD, Done, left_open
from takeback.server.engine.outgoing import moved
from takeback.server.engine.plan import Plan, PlanStep
from takeback.server.engine.shield import shielded
from takeback.tools.system import TargetError


class Ledger:
    """Writes the steps of one rollback."""

    def __init__(self, core: Core, rollback_id: RollbackId, *, stands_after: bool | None) -> None:
        """:param stands_after: whether the actions stand in the world after a good step (`None`: says nothing about it)."""
        self._core, self.id, self._stands = core, rollback_id, stands_after
        self._open_items: dict[str, list[OpenItem]] = {}
        """What earlier rollbacks left open, by action."""

    async def read_open(self, plan: Plan) -> None:
        """Read what earlier rollbacks left open about the plan's actions."""
        for run_id in dict.fromkeys(step.run_id for step in plan.steps):
            for item in await self._core.journal.find(OpenItem, run_id=run_id, status="open", oldest_first=True):
                self._open_items.setdefault(item.action_id, []).append(item)

    def open(
        self, step: PlanStep, outcome: UndoOutcome, why: str, kind: str = "", *, present: Sequence[State] | None = None
    ) -> Done:
        """A step that leaves something open for a person (see `left_open`)."""
        return left_open(step, outcome, why, kind, rollback_id=self.id, at=self._core.now(), present=present)

    def intended(
        self, index: int, step: PlanStep, effects: tuple[Effect, ...] = (), *, attempt: int = 1
    ) -> RollbackStep:
        """What is written before a step touches the world."""
        return RollbackStep(
            run_id=step.run_id,
            at=self._core.now(),
            rollback_id=self.id,
            index=index,
            phase="intended",
            action_id=step.action_id,
            effects=effects,
            attempt=attempt,
        )

    async def conclude(self, index: int, done: Done) -> Done:
        """Write down what became of a step; it is durable on return."""
        if self._stands is False:
            try:
                done = await too_late(self._core, done, self.open)
            except TargetError as error:  # the step is concluded all the same, and says what nobody could see to
                done = done.warned((f"the outbox is out of reach, so its messages may still go out: {fault(error)}",))
        await self.conclude_all([(index, done)])
        return done

    async def conclude_all(self, steps: Iterable[tuple[int, Done]]) -> None:
        """Write down what became of several steps, in one transaction."""
        events: list[BaseEvent] = []
        for index, done in steps:
            events += await self._concluding(index, done)
        await shielded(lambda: self._core.record(events))

    async def _concluding(self, index: int, done: Done) -> list[BaseEvent]:
        step = done.step
        # what changed nothing does not stand any more once somebody wanted it taken back
        settled = done.outcome in GOOD or (step.decision == "skip" and self._stands is False)
        if step.covered and self._stands is False:
            settled = (
                False  # it stands again as soon as the later act is taken back, and then it has to be taken back too
            )
        events: list[BaseEvent] = [
            RollbackStep(
                run_id=step.run_id,
                at=self._core.now(),
                rollback_id=self.id,
                index=index,
                phase="concluded",
                action_id=step.action_id,
                effects=done.effects,
                outcome=done.outcome,
                why="; ".join(filter(None, (done.why, *done.warnings))),
                stands=self._stands if settled else None,
            )
        ]
        if done.open_item is not None:
            events.append(done.open_item)
        events += moved(done.effects, run_id=step.run_id, action_id=step.action_id, at=self._core.now())
        if done.outcome == "compensated":
            events[:0] = await self._out_of_doubt(step)
        return events + await self._superseded(step, done)

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
        if not known or not (done.good or done.open_item is not None):
            return []
        why = "it was taken back" if done.good else "the next rollback found it again"
        events: list[BaseEvent] = []
        for one in known:
            item = await self._core.journal.get(OpenItem, one.id)
            doubt = one.kind == "in_doubt"
            if item is None or item.status != "open":
                continue  # a person settled it meanwhile
            if done.outcome == "skipped" and not (done.open_item is not None and _same(item, done.open_item)):
                continue  # that nothing was tried says nothing of what was found then
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
                    rollback_id=self.id,
                )
            )
        return events


def _same(item: OpenItem, anew: ConflictOpened) -> bool:
    """Whether it says once more what is open already."""
    return (item.kind, item.object, item.why) == (anew.kind, anew.object, anew.why)
