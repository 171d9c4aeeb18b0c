"""Putting an earlier version of an object back, from whichever run it is known, as an act that can be redone away."""

from __future__ import annotations

from typing import Literal

from takeback.journal.events import Caller, RollbackFinished, RollbackStarted, RollbackStep
from takeback.journal.ids import ActionId, RollbackId, new_rollback_id
from takeback.journal.log import JournalError
from takeback.journal.states import ABSENT, Effect, State
from takeback.journal.views import ActionView, RunView
from takeback.server.engine.answers import EngineError, RollbackAnswer, StepAnswer
from takeback.server.engine.conflicts import Conflicts
from takeback.server.engine.containment import HELD, check_may_bring_back
from takeback.server.engine.core import Core
from takeback.server.engine.faults import unwritten
from takeback.server.engine.judging_back import check_consents_spent, check_put_back
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.report import shown
from takeback.server.engine.settle import lock_names
from takeback.server.engine.shield import shielded
from takeback.server.engine.single import UNFINISHED, Unsettled, check_not_held, failed, locked, put, unsettled
from takeback.tools.system import Drifted, TargetSystem


async def restore_version(
    core: Core, conflicts: Conflicts, caller: Caller, object: str, version: str
) -> RollbackAnswer:
    """Write the content of a version (as `list_versions` names it) over what stands there now.

    :raises EngineError: there is no such version, it has no content of its own, or its content is not kept any more.
    """
    place = core.resolve(object)
    action_id, _, side = version.rpartition(":")
    action = await core.journal.get(ActionView, action_id)
    run = await core.journal.get(RunView, action.run_id) if action is not None else None
    effect = next((e for e in action.effects if e.object == place), None) if action is not None else None
    if (
        action is None
        or run is None
        or effect is None
        or not await core.allows(caller, run.owner.principal, run.run_id, "decide")
        or side not in ("before", "after")
    ):
        raise EngineError("not_found", f"{shown(object)} has no version {version!r}.", "Take one from list_versions.")
    if side == "after":
        await check_not_held(core, caller, run.run_id, effect.system, place, tool=action.tool)
        await check_consents_spent(core, [action.id])
    # what was there before it may be put back, like anything it did: by its own client over what it left, and over nothing else
    over = effect.after if run.status in HELD and not core.persons_door else None
    if side == "before" and over is None:
        await check_may_bring_back(core, caller, [run.run_id])
    system = core.systems.get(effect.system)
    if system is None:
        raise EngineError("system_missing", f"The system {effect.system!r} is not configured.", "Configure it again.")
    state = effect.before if side == "before" else effect.after
    try:
        content = None if state.absent else await system.read(state)
    except Exception as error:  # third-party code: nothing was changed yet
        raise failed(object, error) from error
    if content is None:
        raise EngineError(
            "no_content",
            f"This version of {shown(object)} is {state.kind} and cannot be written as a file.",
            f"Take back the action instead: rollback_run with actions [{action_id}].",
        )
    exclusive, shared = lock_names(core, [Effect(system=system.name, object=place, before=ABSENT, after=ABSENT)])
    act = _PutBack(core, caller, action, system, place, version, over)
    try:
        async with core.locks.hold(exclusive, shared, timeout=core.settings.limits.step_seconds):
            # from here on it comes to its end, whether somebody still waits for it or not
            effects = await shielded(lambda: act.put(content))
    except LockTimeout as error:
        raise locked(object, error) from error
    except JournalError as error:
        raise unwritten(error, "It stopped", UNFINISHED) from error
    conflicts.seen.forget(effects)
    return act.answer(effects)


class _PutBack:
    """One version being put back."""

    def __init__(
        self,
        core: Core,
        caller: Caller,
        action: ActionView,
        system: TargetSystem,
        object: str,
        version: str,
        over: State | None,
    ) -> None:
        """
        :param over: what has to stand there; `None`: whatever does.
        """
        self.core, self.caller, self.action, self.system = core, caller, action, system
        self.object, self.version, self.over = object, version, over
        self.id: RollbackId = new_rollback_id()
        self.said = ""
        """What the system told of it besides."""

    async def put(self, content: bytes) -> tuple[Effect, ...]:
        """Write it over what is there now. None, if that changed at the same moment."""
        core = self.core
        try:
            present = (await self.system.look([self.object]))[0]
            if self.over is not None and not present.same(self.over):
                raise EngineError(
                    "contained",
                    f"The run is contained, and {shown(self.object)} is not as it left it any more.",
                    f"Take back what it did: rollback_run with actions [{self.action.id}] keeps what others changed.",
                )
            effect = await self.system.write(self.object, content, present)
        except EngineError:
            raise
        except Exception as error:  # third-party code: nothing was changed yet
            raise failed(self.object, error) from error
        check_put_back(core, "restore_version", self.caller, [effect])
        started = RollbackStarted(
            run_id=self.action.run_id,
            at=core.now(),
            rollback_id=self.id,
            kind="restore_version",
            by=self.caller,
            plan={"object": self.object, "version": self.version},
            plan_digest="",
        )
        await core.record([started, self._step((effect,), None, "")])
        try:
            swapped = await put(core, [effect])
        except JournalError:
            raise
        except Unsettled as error:
            raise unsettled(self.object, error) from error
        except Exception as error:  # third-party code: it was looked at, and it is not there
            why = failed(self.object, error)
            await core.record([self._step((), "failed", why.message), self._finished("failed")])
            raise why from error
        self.said = " ".join(swapped.warnings)
        if isinstance(swapped, Drifted):
            told = "; ".join(["it changed", *swapped.warnings])
            await core.record([self._step((), "conflict", told), self._finished("failed")])
            return ()
        await core.record([self._step(swapped.effects, "restored", self.said), self._finished("complete")])
        return swapped.effects

    def answer(self, effects: tuple[Effect, ...]) -> RollbackAnswer:
        """What came of it."""
        why = "" if effects else "it changed at the same moment, so nothing was done"
        told = "; ".join(filter(None, [why, self.said]))
        return RollbackAnswer(
            status="complete" if effects else "failed",
            rollback_id=self.id,
            run_id=self.action.run_id,
            steps=[
                StepAnswer(
                    action_id=self.action.id,
                    run_id=self.action.run_id,
                    tool=self.action.tool,
                    object=self.object,
                    outcome="restored" if effects else "conflict",
                    why=told,
                )
            ],
            report=" ".join(
                filter(None, [f"{shown(self.object)}: {why or 'the earlier content was put back'}.", self.said])
            ),
        )

    def _finished(self, status: Literal["complete", "failed"]) -> RollbackFinished:
        return RollbackFinished(run_id=self.action.run_id, at=self.core.now(), rollback_id=self.id, status=status)

    def _step(
        self, effects: tuple[Effect, ...], outcome: Literal["restored", "conflict", "failed"] | None, why: str
    ) -> RollbackStep:
        return RollbackStep(
            run_id=self.action.run_id,
            at=self.core.now(),
            rollback_id=self.id,
            index=0,
            phase="intended" if outcome is None else "concluded",
            action_id=ActionId(self.action.id),
            effects=effects,
            outcome=outcome,
            why=why,
        )
