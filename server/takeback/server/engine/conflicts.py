"""Settling what is open: keep theirs, take ours, write a resolution, or save the earlier version beside it.

Each choice is an act of its own: journaled before and after, its own before-image kept (so that it can be redone away), and
refused if the object changed again since the person looked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from takeback.journal.events import (
    BaseEvent,
    Caller,
    ConflictOpened,
    ConflictResolved,
    RollbackFinished,
    RollbackStarted,
    RollbackStep,
)
from takeback.journal.ids import ActionId, ConflictId, RollbackId, RunId, new_conflict_id, new_rollback_id
from takeback.journal.log import Stale, ViewKey
from takeback.journal.states import ABSENT, Effect, State
from takeback.journal.views import ActionView, OpenItem, RollbackView, RunView
from takeback.server.engine.answers import EngineError, RollbackAnswer, StepAnswer
from takeback.server.engine.core import Core
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.queries import open_item_answer
from takeback.server.engine.report import shown
from takeback.server.engine.seen import Seen
from takeback.server.engine.settle import lock_names
from takeback.server.engine.shield import shielded
from takeback.tools.system import Drifted, TargetError, TargetSystem

log = logging.getLogger(__name__)

Choice = Literal["theirs", "ours", "content", "beside"]


@dataclass(slots=True)
class Conflicts:
    """Resolves open items, and puts earlier versions back, for one engine."""

    core: Core
    seen: Seen

    async def item(self, caller: Caller, conflict_id: str) -> OpenItem:
        """An open item that the caller may see.

        :raises EngineError: unknown or foreign; both give the same answer.
        """
        item = await self.core.journal.get(OpenItem, conflict_id)
        run = await self.core.journal.get(RunView, item.run_id) if item is not None else None
        if item is None or run is None or not self.core.may_see(caller, run):
            raise EngineError(
                "not_found", f"There is no open item {conflict_id!r}.", "List them with `takeback conflicts`."
            )
        return item

    async def versions(self, caller: Caller, conflict_id: str) -> dict[str, bytes | None]:
        """The three versions: `base` (as the agent left it), `ours` (what was there before), `theirs` (what is there now)."""
        item = await self.item(caller, conflict_id)
        system = self.core.systems.get(item.system)
        result: dict[str, bytes | None] = {}
        for name, state in (("base", item.base), ("ours", item.ours), ("theirs", item.theirs)):
            try:
                result[name] = await system.read(state) if system is not None and state is not None else None
            except TargetError:
                result[name] = None  # not kept any more; the others may still help
        return result

    async def resolve(self, caller: Caller, conflict_id: str, choice: Choice, content: str | None) -> RollbackAnswer:
        """Settle one open item.

        :raises EngineError: it is settled already, changed since, or the choice is not possible there.
        """
        item = await self.item(caller, conflict_id)
        if item.status != "open":
            raise EngineError(
                "not_open", f"{conflict_id} was settled already ({item.choice}).", "There is nothing to do."
            )
        if (content is not None) != (choice == "content"):
            raise EngineError(
                "invalid", "content goes with the choice content, and only with it.", "Pass both or neither."
            )
        if choice == "theirs":
            return await self._keep(caller, item)
        system = self.core.systems.get(item.system)
        if system is None or item.theirs is None:
            raise EngineError(
                "invalid", f"There is nothing to choose between for {shown(item.object)}.", "Close it with theirs."
            )
        place = [Effect(system=item.system, object=item.object, before=item.theirs, after=item.ours or ABSENT)]
        exclusive, shared = lock_names(self.core, place)
        limit = self.core.settings.limits.step_seconds
        async with self.core.locks.hold(exclusive, shared, timeout=limit):
            try:
                present = (await system.look([item.object], [item.theirs]))[0]
                if not present.same(item.theirs):
                    raise await self._changed_again(caller, item, present)
                match choice:
                    case "ours":
                        effect = Effect(
                            system=item.system, object=item.object, before=present, after=item.ours or ABSENT
                        )
                    case "content":
                        effect = await system.write(item.object, (content or "").encode(), present)
                    case "beside":
                        effect = await system.beside(place[0])
                return await self._swap(caller, item, choice, system, effect)
            except TargetError as error:
                raise EngineError(error.code, f"{shown(item.object)}: {error}.", error.advice) from error

    async def _changed_again(self, caller: Caller, item: OpenItem, present: State) -> EngineError:
        again = new_conflict_id()
        await self.core.record(
            [
                ConflictResolved(
                    run_id=item.run_id,
                    at=self.core.now(),
                    conflict_id=ConflictId(item.id),
                    choice="settled",
                    by=caller.principal,
                    why=f"changed again; now {again}",
                ),
                ConflictOpened(
                    run_id=item.run_id,
                    at=self.core.now(),
                    conflict_id=again,
                    kind="conflict",
                    action_id=item.action_id,
                    rollback_id=item.rollback_id,
                    system=item.system,
                    object=item.object,
                    base=item.base,
                    ours=item.ours,
                    theirs=present,
                    why="it was changed again while it was open",
                    next_step=item.next_step,
                ),
            ],
            expect={ViewKey("open_item", item.id): item.version},
        )
        return EngineError(
            "drifted",
            f"{shown(item.object)} was changed again since the conflict was opened.",
            f"Look at the three versions of {again}, then decide again.",
        )

    async def _keep(self, caller: Caller, item: OpenItem) -> RollbackAnswer:
        rollback_id = new_rollback_id()
        stands = False if await self._is_last(item) and item.kind != "in_doubt" else None
        why = "left as it is, by choice"
        events = [
            *self._started(caller, item, rollback_id, "theirs"),
            self._step(item, rollback_id, "concluded", (), "skipped", why, stands),
            *self._finished(caller, item, rollback_id, "theirs", why),
        ]
        await self._append(item, events)
        return await self._answer(item, rollback_id, "skipped", why)

    async def _swap(
        self, caller: Caller, item: OpenItem, choice: Choice, system: TargetSystem, effect: Effect
    ) -> RollbackAnswer:
        rollback_id = new_rollback_id()
        await self._append(
            item,
            [
                *self._started(caller, item, rollback_id, choice),
                self._step(item, rollback_id, "intended", (effect,), None, "", None),
            ],
        )
        outcome, why, effects = await shielded(lambda: self._finish(caller, item, choice, rollback_id, system, effect))
        self.seen.forget(effects)
        return await self._answer(item, rollback_id, outcome, why)

    async def _finish(
        self,
        caller: Caller,
        item: OpenItem,
        choice: Choice,
        rollback_id: RollbackId,
        system: TargetSystem,
        effect: Effect,
    ) -> tuple[Literal["restored", "merged"], str, tuple[Effect, ...]]:
        try:
            swapped = await system.swap([effect])
        except (TargetError, OSError):
            await self.core.record([self._end(item, rollback_id, "failed")])
            raise
        if isinstance(swapped, Drifted):
            await self.core.record([self._end(item, rollback_id, "failed")])
            raise await self._changed_again(caller, await self.item(caller, item.id), swapped.present[0])
        stands = False if await self._is_last(item) else None
        outcome: Literal["restored", "merged"] = "restored" if choice == "ours" else "merged"
        beside = f"the earlier version was saved as {swapped.effects[0].object}"
        why = {"ours": "the earlier version was put back", "content": "a resolution was written"}.get(choice, beside)
        await self.core.record(
            [
                self._step(item, rollback_id, "concluded", swapped.effects, outcome, why, stands),
                *self._finished(caller, item, rollback_id, choice, why),
            ]
        )
        return outcome, why, swapped.effects

    async def _append(self, item: OpenItem, events: Sequence[BaseEvent]) -> None:
        try:
            await self.core.record(events, expect={ViewKey("open_item", item.id): item.version})
        except Stale as error:
            raise EngineError("not_open", f"{item.id} was settled at the same moment.", "Look at it again.") from error

    async def _is_last(self, item: OpenItem) -> bool:
        others = [
            other
            for other in await self.core.journal.find(OpenItem, run_id=item.run_id, status="open")
            if other.action_id == item.action_id and other.id != item.id
        ]
        return not others

    # -- restoring a version ------------------------------------------------------------------------------------------

    async def put_back(
        self, caller: Caller, action: ActionView, system: TargetSystem, object: str, version: str, content: bytes
    ) -> RollbackAnswer:
        """Write an earlier content of an object over what is there now, as an act that can be redone away."""
        place = [Effect(system=system.name, object=object, before=ABSENT, after=ABSENT)]
        exclusive, shared = lock_names(self.core, place)
        rollback_id = new_rollback_id()
        async with self.core.locks.hold(exclusive, shared, timeout=self.core.settings.limits.step_seconds):
            present = (await system.look([object]))[0]
            effect = await system.write(object, content, present)
            started = RollbackStarted(
                run_id=action.run_id,
                at=self.core.now(),
                rollback_id=rollback_id,
                kind="restore_version",
                by=caller,
                plan={"object": object, "version": version},
                plan_digest="",
            )
            await self.core.record([started, self._version_step(action, rollback_id, (effect,), None, "")])
            effects = await shielded(lambda: self._put(action, rollback_id, system, effect))
        self.seen.forget(effects)
        why = "" if effects else "it changed at the same moment, so nothing was done"
        step = StepAnswer(
            action_id=action.id,
            run_id=action.run_id,
            tool=action.tool,
            object=object,
            outcome="restored" if effects else "conflict",
            why=why,
        )
        return RollbackAnswer(
            status="complete" if effects else "failed",
            rollback_id=rollback_id,
            run_id=action.run_id,
            steps=[step],
            report=f"{shown(object)}: {why or 'the earlier content was put back'}.",
        )

    async def _put(
        self, action: ActionView, rollback_id: RollbackId, system: TargetSystem, effect: Effect
    ) -> tuple[Effect, ...]:
        swapped = await system.swap([effect])
        effects = () if isinstance(swapped, Drifted) else swapped.effects
        await self.core.record(
            [
                self._version_step(
                    action, rollback_id, effects, "restored" if effects else "conflict", "" if effects else "it changed"
                ),
                RollbackFinished(
                    run_id=action.run_id,
                    at=self.core.now(),
                    rollback_id=rollback_id,
                    status="complete" if effects else "failed",
                ),
            ]
        )
        return effects

    def _version_step(
        self,
        action: ActionView,
        rollback_id: RollbackId,
        effects: tuple[Effect, ...],
        outcome: Literal["restored", "conflict"] | None,
        why: str,
    ) -> RollbackStep:
        return RollbackStep(
            run_id=action.run_id,
            at=self.core.now(),
            rollback_id=rollback_id,
            index=0,
            phase="intended" if outcome is None else "concluded",
            action_id=ActionId(action.id),
            effects=effects,
            outcome=outcome,
            why=why,
        )

    # -- after a crash ------------------------------------------------------------------------------------------------

    async def finish_unfinished(self) -> None:
        """At start: finish (or give up, with the item still open) what a process began and did not end."""
        for view in await self.core.journal.find(RollbackView, status="running"):
            if view.kind not in ("resolve", "restore_version"):
                continue
            effects = [effect for step in view.steps for effect in step.effects]
            exclusive, shared = lock_names(self.core, effects)
            try:
                async with self.core.locks.hold(exclusive, shared, timeout=0):
                    await self._finish_one(view.id)
            except LockTimeout:
                continue  # a living process is at it

    async def _finish_one(self, rollback_id: str) -> None:
        view = await self.core.journal.get(RollbackView, rollback_id)
        if view is None or view.status != "running":
            return
        at, events = self.core.now(), list[BaseEvent]()
        status: Literal["complete", "failed"] = "failed"
        for step in view.steps:
            system = self.core.systems.get(step.effects[0].system) if step.effects else None
            try:
                swapped = await system.swap(step.effects) if system is not None else None
            except (TargetError, OSError) as error:
                log.warning("%s could not be finished: %s", rollback_id, error)
                return
            if step.phase == "intended" and swapped is not None and not isinstance(swapped, Drifted):
                status = "complete"
                events.append(
                    RollbackStep(
                        run_id=step.run_id,
                        at=at,
                        rollback_id=RollbackId(rollback_id),
                        index=step.index,
                        phase="concluded",
                        action_id=step.action_id,
                        effects=swapped.effects,
                        outcome="restored",
                        why="finished after an interruption",
                    )
                )
        events.append(RollbackFinished(run_id=view.run_id, at=at, rollback_id=RollbackId(rollback_id), status=status))
        plan = view.plan if isinstance(view.plan, dict) else {}
        item = await self.core.journal.get(OpenItem, str(plan.get("conflict_id", "")))
        if status == "complete" and item is not None and item.status == "open":
            events.append(
                ConflictResolved.model_validate(
                    {
                        "run_id": item.run_id,
                        "at": at,
                        "conflict_id": item.id,
                        "choice": plan["choice"],
                        "by": view.by.principal,
                        "why": "finished after an interruption",
                        "rollback_id": rollback_id,
                    }
                )
            )
        await self.core.record(events)

    # -- events -------------------------------------------------------------------------------------------------------

    def _started(self, caller: Caller, item: OpenItem, rollback_id: RollbackId, choice: str) -> list[BaseEvent]:
        return [
            RollbackStarted(
                run_id=item.run_id,
                at=self.core.now(),
                rollback_id=rollback_id,
                kind="resolve",
                by=caller,
                plan={"conflict_id": item.id, "choice": choice, "object": item.object},
                plan_digest="",
            )
        ]

    def _step(
        self,
        item: OpenItem,
        rollback_id: RollbackId,
        phase: Literal["intended", "concluded"],
        effects: tuple[Effect, ...],
        outcome: Literal["restored", "merged", "skipped"] | None,
        why: str,
        stands: bool | None,
    ) -> RollbackStep:
        return RollbackStep(
            run_id=item.run_id,
            at=self.core.now(),
            rollback_id=rollback_id,
            index=0,
            phase=phase,
            action_id=item.action_id,
            effects=effects,
            outcome=outcome,
            why=why,
            stands=stands,
        )

    def _end(self, item: OpenItem, rollback_id: RollbackId, status: Literal["complete", "failed"]) -> RollbackFinished:
        return RollbackFinished(run_id=item.run_id, at=self.core.now(), rollback_id=rollback_id, status=status)

    def _finished(
        self, caller: Caller, item: OpenItem, rollback_id: RollbackId, choice: Choice, why: str
    ) -> list[BaseEvent]:
        return [
            self._end(item, rollback_id, "complete"),
            ConflictResolved(
                run_id=item.run_id,
                at=self.core.now(),
                conflict_id=ConflictId(item.id),
                choice=choice,
                by=caller.principal,
                why=why,
                rollback_id=rollback_id,
            ),
        ]

    async def _answer(
        self, item: OpenItem, rollback_id: RollbackId, outcome: Literal["restored", "merged", "skipped"], why: str
    ) -> RollbackAnswer:
        action = await self.core.journal.get(ActionView, item.action_id)
        rest = [
            open_item_answer(other)
            for other in await self.core.journal.find(OpenItem, run_id=RunId(item.run_id), status="open")
        ]
        return RollbackAnswer(
            status="complete",
            rollback_id=rollback_id,
            run_id=item.run_id,
            steps=[
                StepAnswer(
                    action_id=item.action_id,
                    run_id=item.run_id,
                    tool=action.tool if action else "",
                    object=item.object,
                    outcome=outcome,
                    why=why,
                )
            ],
            open_items=rest,
            report=f"{shown(item.object)}: {why}.",
        )
