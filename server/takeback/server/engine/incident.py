"""Recovering from an incident: contain first, keep what is there, plan, take back, check, and go on with tighter permissions.

Each part is an act of its own that the journal knows; nothing here is undone or skipped if a later part fails, so that the flow
can be begun again where it ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

from takeback.journal.events import Caller, CheckpointNamed
from takeback.journal.ids import CheckpointId, new_checkpoint_id
from takeback.journal.views import ActionView, CheckpointView
from takeback.server.engine import containment
from takeback.server.engine.answers import AnswerModel, Brief, EngineError, RollbackAnswer
from takeback.server.engine.calls import no_progress
from takeback.server.engine.checks.running import Checks
from takeback.server.engine.core import Core
from takeback.server.engine.reconciling import Reconciled, reconcile
from takeback.server.engine.resume import Bounds, assessments, resume_from
from takeback.server.engine.rollback import Rollbacks
from takeback.server.engine.scope import resolved, within

SECURED: Final = "before recovery"
Caution = Literal["plan", "shadow"]
"""How what goes on asks: its calls are collected for a person to see and consent to as a whole, or only shown."""


class Secured(AnswerModel):
    """A run that can do no more damage, and whose present state is kept."""

    run_id: str
    status: str
    checkpoint_id: str
    """Pinned: what the run needs is kept for good, and one can come back to here."""


class Incident:
    """The parts of `takeback recover`: a person's acts, never offered as a tool."""

    def __init__(self, core: Core, rollbacks: Rollbacks, checks: Checks) -> None:
        self._core, self._rollbacks, self._checks = core, rollbacks, checks

    async def secure(self, caller: Caller, run_id: str, reason: str) -> Secured:
        """Contain a run with its children, as far as they are not yet, and pin where it stands.

        :raises EngineError: unknown or foreign.
        """
        run = await containment.contain(self._core, caller, run_id, reason, "contained")
        checkpoint_id = new_checkpoint_id()
        event = CheckpointNamed(
            run_id=run.run_id, at=self._core.now(), checkpoint_id=checkpoint_id, label=SECURED, pinned=True
        )
        await self._core.journal.append([event])
        return Secured(run_id=run.id, status=run.status, checkpoint_id=checkpoint_id)

    async def reconcile(
        self, caller: Caller, run_id: str, moment: Literal["before", "after"], *, record: bool = True
    ) -> Reconciled:
        """Whether the user's checks hold of what the run touched; stands in the run's journal unless nothing is to be changed.

        :raises EngineError: unknown or foreign.
        """
        run = await self._core.run(caller, run_id, "decide")
        return await reconcile(self._core, self._checks, caller, run, moment, record=record)

    async def parts_standing(self, caller: Caller, run_id: str) -> dict[str, int]:
        """Runs that are a part of this one, and how many of their acts stand: each is recovered by itself.

        :raises EngineError: unknown or foreign.
        """
        run = await self._core.run(caller, run_id, "decide")
        found: dict[str, int] = {}
        for part in await containment.parts_of(self._core, run):
            actions = await self._core.journal.find(ActionView, run_id=part.run_id)
            if part.run_id not in run.recovers and (standing := sum(action.stands for action in actions)):
                found[part.id] = standing
        return found

    async def safe_checkpoint(self, caller: Caller, run_id: str) -> str | None:
        """The newest checkpoint of the run that one can go on from as the world is now, if there is one.

        :raises EngineError: unknown or foreign, or its objects cannot be looked at.
        """
        run = await self._core.run(caller, run_id, "decide")
        named = {
            checkpoint.id
            for checkpoint in await self._core.journal.find(CheckpointView, run_id=run.run_id)
            if checkpoint.label == SECURED
        }
        actions = await self._core.journal.find(ActionView, run_id=run.run_id, oldest_first=True)
        standing = [action.position for action in actions if action.stands]
        judged = await assessments(self._core, run)
        checkpoints = await self._core.journal.find(CheckpointView, run_id=run.run_id)
        for checkpoint in checkpoints:  # the newest comes first
            assessment = judged.get(CheckpointId(checkpoint.id))
            ours = checkpoint.id in named or any(position > checkpoint.position for position in standing)
            taken_back = checkpoint.action_id is not None and not self._stands(actions, checkpoint.action_id)
            if assessment is not None and assessment.verified_safe and not ours and not taken_back:
                return checkpoint.id
        return None

    @staticmethod
    def _stands(actions: Sequence[ActionView], action_id: str) -> bool:
        return any(action.id == action_id and action.stands for action in actions)

    async def bounds(
        self, caller: Caller, run_id: str, scope: Sequence[str], caution: Caution | None = None
    ) -> Bounds | None:
        """What a run that goes on from this one may do; `None` if nothing is said, so that nothing goes on.

        :param scope: all that it may touch.
        :param caution: it acts by plan only, or only shows what it would do.
        :raises EngineError: unknown or foreign, the scope is a wider one, or the run is quarantined.
        """
        if not scope and caution is None:
            return None
        run = await self._core.run(caller, run_id, "decide")
        places = tuple(resolved(self._core, place) for place in scope)
        for given, place in zip(scope, places, strict=True):
            if not within(place, run.scope):
                raise EngineError(
                    "invalid",
                    f"{given} is more than run {run.id} itself might touch.",
                    f"Name something within {', '.join(run.scope)}.",
                )
        if run.status == "quarantined":
            raise EngineError(
                "contained",
                f"Run {run.id} is quarantined, so its client may not even read, and nothing can go on.",
                "Release it first, or recover it without going on.",
            )
        return Bounds(scope=places, mode=caution or "act")

    async def resume(self, caller: Caller, run_id: str, checkpoint_id: str, bounds: Bounds) -> Brief:
        """Go on from a checkpoint in a new run that may do less than this one, and is taken back if it fails.

        The run itself, and whatever else its client begins, stays as it is contained: all that may act is the new run.

        :param bounds: as `bounds` told them.
        :raises EngineError: an unknown or foreign run or checkpoint.
        """
        run = await self._core.run(caller, run_id, "decide")
        parts = [part for part in await containment.parts_of(self._core, run) if part.status in containment.HELD]
        return await resume_from(
            self._core,
            self._rollbacks,
            caller,
            checkpoint_id,
            restore=False,
            dry_run=False,
            plan_digest=None,
            progress=no_progress,
            bounds=replace(bounds, recovers=(run.run_id, *(part.run_id for part in parts), *run.recovers)),
        )


def classified(plan: RollbackAnswer) -> dict[str, int]:
    """How many acts will be restored, merged, made up for …, by the words of an undo."""
    return dict(Counter(str(step.outcome) for step in plan.steps))
