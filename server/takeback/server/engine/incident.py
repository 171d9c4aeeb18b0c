"""Recovering from an incident: contain first, keep what is there, plan, take back, check, and go on with tighter permissions.

Each part is an act of its own that the journal knows; nothing here is undone or skipped if a later part fails, so that the flow
can be begun again where it ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from takeback.journal.events import Caller, CheckpointNamed
from takeback.journal.ids import CheckpointId, new_checkpoint_id
from takeback.journal.views import ActionView, CheckpointView
from takeback.server.engine import containment
from takeback.server.engine.answers import AnswerModel, Brief, EngineError, RollbackAnswer
from takeback.server.engine.calls import no_progress
from takeback.server.engine.core import Core
from takeback.server.engine.resume import assessments, resume_from
from takeback.server.engine.rollback import Rollbacks

SECURED: Final = "before recovery"


class Secured(AnswerModel):
    """A run that can do no more damage, and whose present state is kept."""

    run_id: str
    status: str
    checkpoint_id: str
    """Pinned: what the run needs is kept for good, and one can come back to here."""


class Incident:
    """The parts of `takeback recover`: a person's acts, never offered as a tool."""

    def __init__(self, core: Core, rollbacks: Rollbacks) -> None:
        self._core, self._rollbacks = core, rollbacks

    async def secure(self, caller: Caller, run_id: str, reason: str) -> Secured:
        """Contain a run with its children, if it is not yet, and pin where it stands.

        :raises EngineError: unknown or foreign.
        """
        run = await self._core.run(caller, run_id, "decide")
        if run.status not in containment.HELD:
            run = await containment.contain(self._core, caller, run_id, reason, "contained")
        checkpoint_id = new_checkpoint_id()
        event = CheckpointNamed(
            run_id=run.run_id, at=self._core.now(), checkpoint_id=checkpoint_id, label=SECURED, pinned=True
        )
        await self._core.journal.append([event])
        return Secured(run_id=run.id, status=run.status, checkpoint_id=checkpoint_id)

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

    async def resume(self, caller: Caller, run_id: str, checkpoint_id: str, scope: Sequence[str]) -> Brief:
        """Release the run and go on from a checkpoint in a new one that may touch only `scope`, and is taken back if it fails.

        :raises EngineError: no scope; an unknown or foreign run or checkpoint.
        """
        if not scope:
            raise EngineError(
                "invalid",
                "Nothing says what the new run may touch.",
                "Name it, such as --scope 'docs/**'; a run that has just done damage does not go on without a bound.",
            )
        run = await self._core.run(caller, run_id, "decide")
        if run.status in containment.HELD:
            await containment.release(self._core, caller, run_id, "recovered")
        return await resume_from(
            self._core,
            self._rollbacks,
            caller,
            checkpoint_id,
            restore=False,
            dry_run=False,
            plan_digest=None,
            progress=no_progress,
            tighter=tuple(self._core.resolve(place) for place in scope),
        )


def classified(plan: RollbackAnswer) -> dict[str, int]:
    """How many acts will be restored, merged, made up for …, by the words of an undo."""
    return dict(Counter(str(step.outcome) for step in plan.steps))
