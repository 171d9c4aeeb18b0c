"""Settling what is open: keep theirs, take ours, write a resolution, or save the earlier version beside it.

Each choice is an act of its own: journaled before and after, its own before-image kept (so that it can be redone away), and
refused if the object changed again since the person looked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from takeback.journal.events import (
    ActionSettled,
    BaseEvent,
    Caller,
    ConflictOpened,
    ConflictResolved,
    RollbackFinished,
    RollbackStarted,
    RollbackStep,
)
from takeback.journal.ids import (
    ConflictId,
    RollbackId,
    RunId,
    new_checkpoint_id,
    new_conflict_id,
    new_rollback_id,
)
from takeback.journal.log import JournalError, Stale, ViewKey
from takeback.journal.states import ABSENT, Effect, State
from takeback.journal.views import ActionView, OpenItem, RunView
from takeback.server.engine.answers import EngineError, RollbackAnswer, StepAnswer
from takeback.server.engine.calling import known_by_items, named_alike, open_item_answers
from takeback.server.engine.core import Core
from takeback.server.engine.corrections import uncorrected
from takeback.server.engine.faults import unwritten
from takeback.server.engine.judging_back import check_consents_spent, check_put_back
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.outgoing import belong, holding, moved
from takeback.server.engine.report import shown
from takeback.server.engine.seen import Seen
from takeback.server.engine.settle import lock_names
from takeback.server.engine.shield import shielded
from takeback.server.engine.single import (
    UNFINISHED,
    Task,
    Unsettled,
    check_not_held,
    failed,
    finish_unfinished,
    found_there,
    is_last,
    locked,
    put,
    task_of,
    unsettled,
)
from takeback.server.roles import Purpose
from takeback.tools.system import Drifted

Choice = Literal["theirs", "ours", "content", "beside"]
LEFT = "left as it is, by choice"


@dataclass(slots=True)
class Conflicts:
    """Resolves open items, and puts earlier versions back, for one engine."""

    core: Core
    seen: Seen

    async def item(self, caller: Caller, conflict_id: str, purpose: Purpose) -> OpenItem:
        """An open item that the caller may look at, or decide about.

        :raises EngineError: unknown or foreign; both give the same answer.
        """
        item = await self.core.journal.get(OpenItem, conflict_id)
        run = await self.core.journal.get(RunView, item.run_id) if item is not None else None
        owner = None if run is None else run.owner.principal
        if item is None or owner is None or not await self.core.allows(caller, owner, item.run_id, purpose):
            raise EngineError(
                "not_found",
                f"There is no open item {conflict_id!r}.",
                "get_run and `takeback conflicts` list what is open.",
            )
        return item

    async def versions(self, caller: Caller, conflict_id: str) -> dict[str, bytes | None]:
        """The three versions: `base` (as the agent left it), `ours` (what was there before), `theirs` (what is there now)."""
        item = await self.item(caller, conflict_id, "look")
        system = self.core.systems.get(item.system)
        result: dict[str, bytes | None] = {}
        for name, state in (("base", item.base), ("ours", item.ours), ("theirs", item.theirs)):
            try:
                result[name] = await system.read(state) if system is not None and state is not None else None
            except Exception:  # not kept any more, or a fault of the system; the others may still help
                result[name] = None
        return result

    async def resolve(
        self, caller: Caller, conflict_id: str, choice: Choice, content: str | None, *, why: str = LEFT
    ) -> RollbackAnswer:
        """Settle one open item.

        :param why: in whose words it is left as it is, where the choice is `theirs`.
        :raises EngineError: it is settled already, changed since, or the choice is not possible there.
        """
        item = await self.item(caller, conflict_id, "decide")
        if item.status != "open":
            raise EngineError(
                "not_open", f"{conflict_id} was settled already ({item.choice}).", "There is nothing to do."
            )
        if (content is not None) != (choice == "content"):
            raise EngineError(
                "invalid", "content goes with the choice content, and only with it.", "Pass both or neither."
            )
        task = await task_of(self.core, item)
        again = choice == "ours" and task.stands is True  # of a redo: what was done is done again
        if choice == "content" or again:
            await check_not_held(self.core, caller, item.run_id, item.system, item.object)
        if again:
            await check_consents_spent(self.core, [item.action_id])
        exclusive, shared = lock_names(self.core, [*task.wanted, *task.place])
        try:
            async with self.core.locks.hold(
                {*exclusive, *task.locks}, shared, timeout=self.core.settings.limits.step_seconds
            ):
                # from here on it comes to its end, whether somebody still waits for it or not
                return await shielded(lambda: self._resolve(caller, item, task, choice, content, why))
        except LockTimeout as error:
            raise locked(item.object, error) from error
        except Stale as error:
            raise EngineError("not_open", f"{item.id} was settled at the same moment.", "Look at it again.") from error
        except JournalError as error:
            raise unwritten(error, "It stopped", UNFINISHED) from error

    async def _resolve(
        self, caller: Caller, item: OpenItem, task: Task, choice: Choice, content: str | None, why: str
    ) -> RollbackAnswer:
        if item.kind == "in_doubt":
            return await self._settle(caller, item, choice)
        if choice == "theirs":
            return await self._keep(caller, item, task, why)
        system = self.core.systems.get(item.system)
        if system is None or item.theirs is None:
            raise EngineError(
                "invalid", f"There is nothing to choose between for {shown(item.object)}.", "Close it with theirs."
            )
        try:
            present = (await system.look([item.object], [item.theirs]))[0]
            if not present.same(item.theirs):
                raise await self._changed_again(caller, item, present)
            wanted = item.ours or ABSENT
            effect = Effect(system=item.system, object=item.object, before=present, after=wanted)
            if choice == "content":
                effect = await system.write(item.object, (content or "").encode(), present)
            elif choice == "beside":
                effect = await system.beside(effect)
            rest = () if choice == "beside" else await task.rest(self.core, item)
        except (EngineError, JournalError):
            raise
        except Exception as error:  # third-party code: nothing was changed yet
            raise failed(item.object, error) from error
        order = {(wanted.system, wanted.object): index for index, wanted in enumerate(task.wanted)}
        effects = sorted([effect, *rest], key=lambda one: order.get((one.system, one.object), -1))
        check_put_back(self.core, "resolve_conflict", caller, effects)
        return await self._swap(caller, item, task, choice, tuple(effects))

    async def _settle(self, caller: Caller, item: OpenItem, choice: Choice) -> RollbackAnswer:
        """A person settles a doubt: by what is found there or, where nobody can look, by their word."""
        action = await self.core.journal.get(ActionView, item.action_id)
        if action is None:
            raise EngineError("not_found", f"The action of {item.id} is not known.", "Run `takeback verify`.")
        unseen = all(effect.after.kind == "opaque" for effect in action.effects)
        if choice not in ("theirs", "ours") or (choice == "ours" and not unseen):
            raise EngineError(
                "invalid",
                f"Whether {shown(item.object)} was changed is in doubt, so there is nothing to choose between.",
                f"Settle it with theirs; what is there can then be taken back with rollback_run and actions [{action.id}].",
            )
        there: tuple[Effect, ...] = action.effects if unseen and choice == "theirs" else ()
        if not unseen:
            try:
                there = tuple(await found_there(self.core, action.effects))
                if action.status in ("in_doubt", "intended"):
                    there = await self._messages(action, there)
            except Exception as error:  # third-party code: a doubt is not settled without a look
                raise failed(item.object, error) from error
        teller = (
            "a person"
            if self.core.persons_door
            else f"{shown(caller.client) or 'a program'} for {shown(caller.principal)}"
        )
        why = ("it is there" if there else "it is not there") + (f", {teller} said" if unseen else ", a look has shown")
        rollback_id = new_rollback_id()
        expect = {ViewKey("open_item", item.id): item.version}
        events = [
            *self._started(caller, item, rollback_id, choice),
            self._step(item, rollback_id, "concluded", (), "skipped", why, None),
            *self._finished(caller, item, rollback_id, choice, why),
        ]
        if action.status in ("in_doubt", "intended"):
            expect[ViewKey("action", action.id)] = action.version
            settled = ActionSettled(
                run_id=action.run_id,
                at=self.core.now(),
                action_id=item.action_id,
                outcome="applied" if there else "not_applied",
                by=caller.principal,
                why=why,
                checkpoint_id=new_checkpoint_id() if there else None,
                effects=there,
            )
            events.append(settled)
            events += moved(there, run_id=action.run_id, action_id=item.action_id, at=self.core.now())
        await self.core.record(events, expect=expect)
        return await self._answer(item, rollback_id, "skipped", why)

    async def _messages(self, action: ActionView, there: tuple[Effect, ...]) -> tuple[Effect, ...]:
        """What is there of a doubtful act, with its messages: they are its own now, or gone with what they are about."""
        outbox, owner = self.core.outbox, (action.caller or self.core.nobody).principal
        about = [effect for effect in action.effects if effect.system != outbox.name]
        if about and not any(effect.system != outbox.name for effect in there):
            await outbox.swap([effect.reversed() for effect in holding(there)])
            return ()
        await belong(self.core, there, run_id=action.run_id, action_id=action.id, owner=owner)
        return there

    async def _changed_again(
        self, caller: Caller, item: OpenItem, present: State, said: tuple[str, ...] = ()
    ) -> EngineError:
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
                    why="; ".join(["it was changed again while it was open", *said]),
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

    async def _keep(self, caller: Caller, item: OpenItem, task: Task, why: str) -> RollbackAnswer:
        rollback_id = new_rollback_id()
        stands = await self._stands(item, task) if task.stands is False else None
        events = [
            *self._started(caller, item, rollback_id, "theirs"),
            self._step(item, rollback_id, "concluded", (), "skipped", why, stands),
            *self._finished(caller, item, rollback_id, "theirs", why),
        ]
        await self.core.record(events, expect={ViewKey("open_item", item.id): item.version})
        return await self._answer(item, rollback_id, "skipped", why)

    async def _swap(
        self,
        caller: Caller,
        item: OpenItem,
        task: Task,
        choice: Choice,
        effects: tuple[Effect, ...],
    ) -> RollbackAnswer:
        rollback_id = new_rollback_id()
        await self.core.record(
            [
                *self._started(caller, item, rollback_id, choice),
                self._step(item, rollback_id, "intended", effects, None, "", None),
            ],
            expect={ViewKey("open_item", item.id): item.version},
        )
        try:
            swapped = await put(self.core, effects)
        except JournalError:
            raise
        except Unsettled as error:
            raise unsettled(item.object, error) from error
        except Exception as error:  # third-party code: it was looked at, and it is not there
            await self.core.record([self._end(item, rollback_id, "failed")])
            raise failed(item.object, error) from error
        if isinstance(swapped, Drifted):
            await self.core.record([self._end(item, rollback_id, "failed")])
            now = {effect.object: state for effect, state in zip(effects, swapped.present, strict=False)}
            present = now.get(item.object, item.theirs or ABSENT)
            item = await self.item(caller, item.id, "decide")
            raise await self._changed_again(caller, item, present, swapped.warnings)
        stands = await self._stands(item, task)
        outcome: Literal["restored", "merged"] = "restored" if choice == "ours" else "merged"
        beside = f"the earlier version was saved as {swapped.effects[0].object}"
        why = {"ours": "the earlier version was put back", "content": "a resolution was written"}.get(choice, beside)
        why = "; ".join([why, *swapped.warnings])
        if stands is False and (told := await uncorrected(self.core, item.action_id)):
            stands = None
            why += f"; {told} were told otherwise: roll back once more, and a correction is proposed"
        await self.core.record(
            [
                self._step(item, rollback_id, "concluded", swapped.effects, outcome, why, stands),
                *moved(swapped.effects, run_id=item.run_id, action_id=item.action_id, at=self.core.now()),
                *self._finished(caller, item, rollback_id, choice, why),
            ]
        )
        self.seen.forget(swapped.effects)
        return await self._answer(item, rollback_id, outcome, why)

    async def _stands(self, item: OpenItem, task: Task) -> bool | None:
        """What becomes of the action's standing: nothing, while something else of it is open or is found as it left it."""
        return task.stands if await is_last(self.core, item) and not await task.left(self.core) else None

    # -- after a crash ------------------------------------------------------------------------------------------------

    async def finish_unfinished(self) -> None:
        """Finish (or give up, with the item still open) what a process began and did not end."""
        await finish_unfinished(self.core)

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
        left = await self.core.journal.find(OpenItem, run_id=RunId(item.run_id), status="open")
        names = await known_by_items(self.core, [item])
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
                    called=named_alike(names, [(item.system, item.object)]),
                    outcome=outcome,
                    why=why,
                )
            ],
            open_items=await open_item_answers(self.core, left),
            report=f"{names.title(item.system, item.object) or shown(item.object)}: {why}.",
        )
