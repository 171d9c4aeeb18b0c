"""Resuming: a new run, forked from a checkpoint of an earlier one, and the brief to go on with.

The world is looked at again first. On request what came after the checkpoint is taken back, by a plan like any rollback. The
fork inherits the idempotency keys of the steps it stands on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from takeback.checkpoints.checkpoint import Assessment, assess, included
from takeback.checkpoints.resume import Done, ResumeBrief, as_markdown, resume_brief
from takeback.journal.events import Caller, RunForked, RunMode
from takeback.journal.ids import CheckpointId, RunId, new_run_id
from takeback.journal.states import State
from takeback.journal.views import ActionView, ApprovalView, CheckpointView, RollbackView, RunView
from takeback.server.engine import runs
from takeback.server.engine.answers import Brief, DoneStep, EngineError, RollbackAnswer
from takeback.server.engine.calls import Progress
from takeback.server.engine.core import Core
from takeback.server.engine.gather import entry_of_action, observe
from takeback.server.engine.plan import object_key
from takeback.server.engine.reporting import inherited, named_checkpoints, up_to
from takeback.server.engine.rollback import Rollbacks
from takeback.server.engine.select import checkpoint_of, wish_for_rollback
from takeback.server.engine.steps import progress_of

_STRICTNESS: Final[tuple[RunMode, ...]] = ("act", "staged", "plan", "shadow")
"""Of two modes the later one lets less happen without a person."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a run may do that continues from one that did damage: less than that one might."""

    scope: tuple[str, ...] = ()
    """All that it may touch; empty: what the earlier one might."""
    mode: RunMode = "act"
    recovers: tuple[RunId, ...] = ()
    """The earlier run and those contained with it: they stay so."""


async def resume_from(
    core: Core,
    rollbacks: Rollbacks,
    caller: Caller,
    checkpoint_id: str,
    *,
    restore: bool,
    dry_run: bool,
    plan_digest: str | None,
    progress: Progress,
    bounds: Bounds | None = None,
) -> Brief:
    """Open a run that continues from the checkpoint, and say what it stands on.

    :param bounds: what a person lets the new run do, although the earlier one is contained; it is taken back if it fails.
    :raises EngineError: unknown checkpoint, a run that must not be continued, a digest that does not fit.
    """
    checkpoint, run = await checkpoint_of(core, caller, checkpoint_id)
    if run.status in ("quarantined", "sealed") or (run.status == "contained" and bounds is None):
        raise EngineError(
            "contained" if run.status != "sealed" else "sealed",
            f"Run {run.id} is {run.status}, so nothing can be resumed from it now.",
            "A person releases it with `takeback release`."
            if run.status != "sealed"
            else "Wait until the rollback is over.",
        )
    rollback: RollbackAnswer | None = None
    if restore:
        rollback = await _take_back(core, rollbacks, caller, checkpoint, dry_run, plan_digest, progress)
    unseen = ""
    try:
        assessed = (await assessments(core, run)).get(CheckpointId(checkpoint.id))
    except EngineError as error:
        if rollback is None or dry_run:
            raise
        # what was taken back is not kept quiet because it cannot be looked at once more
        assessed, unseen = None, f"The objects could not be looked at again: {error.message}"
    brief = await _brief(core, checkpoint, run, assessed)
    fork_id: str | None = None
    if not dry_run and (rollback is None or rollback.status in ("complete", "partial")):
        fork = await _fork(core, caller, checkpoint, run, bounds)
        fork_id = fork.id
    return _answer(brief, fork_id, rollback, unseen)


async def _take_back(
    core: Core,
    rollbacks: Rollbacks,
    caller: Caller,
    checkpoint: CheckpointView,
    dry_run: bool,
    plan_digest: str | None,
    progress: Progress,
) -> RollbackAnswer | None:
    try:
        wish = await wish_for_rollback(core, caller, to_checkpoint=checkpoint.id)
    except EngineError as error:
        if error.code == "nothing":
            return None
        raise
    return await rollbacks.carry_out(caller, wish, dry_run=dry_run, plan_digest=plan_digest, progress=progress)


async def _fork(core: Core, caller: Caller, checkpoint: CheckpointView, run: RunView, bounds: Bounds | None) -> RunView:
    fork_id = new_run_id()
    # somebody with a role for it opens it for whose work it is
    owner = caller if caller.principal == run.owner.principal else run.owner
    return await runs.start(
        core,
        owner,
        run.goal,
        workspace=run.workspace,
        steps=run.steps,
        scope=(bounds.scope if bounds else ()) or run.scope,
        parent_run_id=run.parent_run_id,
        forked_from=CheckpointId(checkpoint.id),
        on_failure="rollback" if bounds else run.on_failure,
        mode=run.mode if bounds is None else _stricter(run.mode, bounds.mode),
        recovers=() if bounds is None else bounds.recovers,
        run_id=fork_id,
        along=[
            RunForked(run_id=run.run_id, at=core.now(), fork_run_id=fork_id, checkpoint_id=CheckpointId(checkpoint.id))
        ],
    )


def _stricter(one: RunMode, other: RunMode) -> RunMode:
    return one if _STRICTNESS.index(one) > _STRICTNESS.index(other) else other


async def assessments(core: Core, run: RunView) -> Mapping[CheckpointId, Assessment]:
    """What every checkpoint of the run is worth, by a look at the world now."""
    actions = await core.journal.find(ActionView, run_id=run.run_id, oldest_first=True)
    checkpoints = await core.journal.find(CheckpointView, run_id=run.run_id, oldest_first=True)
    rollbacks = await core.journal.find(RollbackView, run_id=run.run_id)
    return assess(checkpoints, actions, await present_of(core, actions), rollbacks=rollbacks)


async def present_of(core: Core, actions: Sequence[ActionView]) -> dict[tuple[str, str], State]:
    """What stands now in the place of every object these actions touched."""
    entries = [
        entry_of_action(action)
        for action in actions
        if action.effects and all(effect.system in core.systems for effect in action.effects)
    ]
    by_key = await observe(core, entries)
    return {
        (effect.system, effect.object): by_key[object_key(effect.system, effect.object)]
        for entry in entries
        for effect in entry.effects
        if object_key(effect.system, effect.object) in by_key
    }


async def _brief(core: Core, checkpoint: CheckpointView, run: RunView, assessed: Assessment | None) -> ResumeBrief:
    actions = await core.journal.find(ActionView, run_id=run.run_id, oldest_first=True)
    approvals = await core.journal.find(ApprovalView, run_id=run.run_id)
    brief = resume_brief(
        checkpoint,
        run,
        actions,
        assessment=assessed,
        approvals=approvals,
        inherited=await _inherited(core, run),
    )
    return await _with_partly_done(core, brief, checkpoint, run, actions)


async def _with_partly_done(
    core: Core, brief: ResumeBrief, checkpoint: CheckpointView, run: RunView, actions: Sequence[ActionView]
) -> ResumeBrief:
    """The brief, in which a step of which a part failed remains to be done: up to the checkpoint, or right after it."""
    said = [view for view in await named_checkpoints(core, run) if view.position <= checkpoint.position]
    come = progress_of(run, up_to(actions, checkpoint), said, inherited=await inherited(core, run))
    partly = {step.name for step in come.steps if step.status == "partly"} - set(brief.remaining)
    if not partly:
        return brief
    left, remaining = list(brief.remaining), list[str]()
    for name in run.steps:
        if name in partly:
            partly.discard(name)
            remaining.append(name)
        elif name in left:
            left.remove(name)
            remaining.append(name)
    next_step = checkpoint.next_step or remaining[0]
    told = replace(brief, remaining=tuple(remaining), next_step=next_step)
    return replace(told, text=as_markdown(told))


async def _inherited(core: Core, run: RunView) -> list[Done]:
    """What was done in the runs that this one was itself forked from, oldest first."""
    chain: list[list[Done]] = []
    while run.forked_from is not None:
        checkpoint = await core.journal.get(CheckpointView, run.forked_from)
        parent = await core.journal.get(RunView, checkpoint.run_id) if checkpoint is not None else None
        if checkpoint is None or parent is None:
            break
        actions = await core.journal.find(ActionView, run_id=parent.run_id, oldest_first=True)
        chain.append(
            list(
                resume_brief(
                    checkpoint,
                    parent,
                    [action for action in actions if included(action, checkpoint.position)],
                ).done
            )
        )
        run = parent
    return [done for part in reversed(chain) for done in part]


def _answer(brief: ResumeBrief, fork_id: str | None, rollback: RollbackAnswer | None, unseen: str) -> Brief:
    return Brief(
        run_id=fork_id,
        forked_from=brief.forked_from,
        goal=brief.goal,
        done=[
            DoneStep(
                action_id=done.action_id,
                step=done.step,
                tool=done.tool,
                summary=done.summary,
                output=done.output,
                idempotency_key=done.idempotency_key,
            )
            for done in brief.done
        ],
        remaining=list(brief.remaining),
        next_step=brief.next_step,
        notes=brief.notes,
        do_not_repeat=list(brief.do_not_repeat),
        drift=[*brief.drift, *([unseen] if unseen else [])],
        receipts=[f"{receipt.tool}: {receipt.summary} ({receipt.action_id})" for receipt in brief.receipts],
        pending_approvals=[approval.approval_id for approval in brief.pending_approvals],
        rollback=rollback,
        text=(f"Go on in run {fork_id}: pass it as run_id with every call.\n\n" if fork_id else "")
        + (f"{unseen}\n\n" if unseen else "")
        + brief.text,
    )
