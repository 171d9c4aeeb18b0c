"""Working out what a rollback request means: a whole run, back to a checkpoint, chosen actions, the latest, or since a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from takeback.checkpoints.checkpoint import included
from takeback.journal.events import Caller
from takeback.journal.ids import RunId
from takeback.journal.views import ActionView, CheckpointView, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core
from takeback.server.engine.plan import Goal
from takeback.server.engine.wishes import Wish, entries_of, nothing

DEFAULT_RUN = "This is a default run, which several chats may share: look at the plan, then pass its plan_digest."
LATEST = "Neither run nor actions were named, so this is only the plan for your latest action: pass its plan_digest."


async def wish_for_rollback(
    core: Core,
    caller: Caller,
    *,
    run_id: str | None = None,
    to_checkpoint: str | None = None,
    actions: Sequence[str] = (),
    last: int | None = None,
    since: str | None = None,
    cascade: Sequence[str] = (),
) -> Wish:
    """What exactly is to be taken back.

    :raises EngineError: unknown or foreign ids, contradictory or empty wishes.
    """
    seen_at = await core.journal.position()
    wish = await _meant(core, caller, run_id, to_checkpoint, actions, last, since, cascade)
    return replace(wish, seen_at=seen_at)


async def _meant(
    core: Core,
    caller: Caller,
    run_id: str | None,
    to_checkpoint: str | None,
    actions: Sequence[str],
    last: int | None,
    since: str | None,
    cascade: Sequence[str],
) -> Wish:
    if sum([to_checkpoint is not None, bool(actions), last is not None, since is not None]) > 1:
        raise EngineError(
            "invalid",
            "to_checkpoint, actions, last and since exclude each other.",
            "Name one of them.",
        )
    others = tuple([(await core.run(caller, other, "decide")).run_id for other in cascade])
    if to_checkpoint is not None:
        return await _to_checkpoint(core, caller, run_id, to_checkpoint, others)
    if actions:
        return await _actions(core, caller, run_id, actions, others)
    if since is not None:
        return await _since(core, caller, run_id, since, others)
    if last is not None:
        return await _last(core, caller, run_id, last, others)
    if run_id is not None:
        return await _whole(core, caller, run_id, others)
    wish = await _last(core, caller, None, 1, others)
    return replace(wish, needs_digest=LATEST)


async def _whole(core: Core, caller: Caller, run_id: str, cascade: tuple[RunId, ...]) -> Wish:
    run = await core.run(caller, run_id, "decide")
    found = await core.journal.find(ActionView, run_id=run.run_id, oldest_first=True)
    wish = _wish(found, cascade, f"all of run {run.id}", (run.run_id,), abandoned=run.sealed_by is not None)
    return replace(wish, whole=frozenset({run.run_id}), after=0, needs_digest=DEFAULT_RUN if run.default else "")


async def _to_checkpoint(
    core: Core, caller: Caller, run_id: str | None, checkpoint_id: str, cascade: tuple[RunId, ...]
) -> Wish:
    checkpoint, run = await checkpoint_of(core, caller, checkpoint_id)
    if run_id is not None and run_id != run.id:
        raise EngineError(
            "invalid", f"Checkpoint {checkpoint_id} does not belong to run {run_id}.", f"It belongs to run {run.id}."
        )
    later = await after_checkpoint(core, checkpoint)
    label = f"run {run.id} back to checkpoint {checkpoint_id}"
    wish = _wish(later, cascade, label, (run.run_id,), abandoned=run.sealed_by is not None)
    return replace(wish, to_checkpoint=True, after=checkpoint.position)


async def checkpoint_of(core: Core, caller: Caller, checkpoint_id: str) -> tuple[CheckpointView, RunView]:
    """A checkpoint that the caller may use, and its run.

    :raises EngineError: unknown or foreign; both give the same answer.
    """
    checkpoint = await core.journal.get(CheckpointView, checkpoint_id)
    run = await core.journal.get(RunView, checkpoint.run_id) if checkpoint is not None else None
    owner = None if run is None else run.owner.principal
    if checkpoint is None or run is None or owner is None or not await core.allows(caller, owner, run.run_id, "decide"):
        raise EngineError(
            "not_found", f"There is no checkpoint {checkpoint_id!r}.", "Call list_checkpoints to see yours."
        )
    return checkpoint, run


async def after_checkpoint(core: Core, checkpoint: CheckpointView) -> list[ActionView]:
    """Actions of the run that were begun after the checkpoint, oldest first."""
    found = await core.journal.find(ActionView, run_id=checkpoint.run_id, oldest_first=True)
    return [action for action in found if not included(action, checkpoint.position)]


async def _actions(
    core: Core, caller: Caller, run_id: str | None, actions: Sequence[str], cascade: tuple[RunId, ...]
) -> Wish:
    found: list[ActionView] = []
    for action_id in dict.fromkeys(actions):
        action = await core.journal.get(ActionView, action_id)
        run = await core.journal.get(RunView, action.run_id) if action is not None else None
        owner = None if run is None else run.owner.principal
        if (
            action is None
            or run is None
            or owner is None
            or run_id not in (None, run.id)
            or not await core.allows(caller, owner, run.run_id, "decide")
        ):
            raise EngineError("not_found", f"There is no action {action_id!r} here.", "Look at the run with get_run.")
        if not entries_of([action]):
            why = f"it was taken back by {action.taken_back_by}" if action.taken_back_by else f"it is {action.status}"
            raise EngineError("nothing", f"Action {action_id} has no effect to take back: {why}.", "Leave it out.")
        found.append(action)
    runs = tuple(dict.fromkeys(action.run_id for action in found))
    return _wish(found, cascade, f"{len(found)} chosen action{'s' if len(found) != 1 else ''}", runs)


async def _last(core: Core, caller: Caller, run_id: str | None, last: int, cascade: tuple[RunId, ...]) -> Wish:
    if last < 1:
        raise EngineError("invalid", f"The latest {last} actions are none.", "Pass a number from 1 upwards.")
    run = await core.run(caller, run_id, "decide") if run_id is not None else None
    found: list[ActionView] = []
    before: int | None = None
    mine: dict[RunId, bool] = {}
    while len(found) < last:
        page = await core.journal.find(
            ActionView, run_id=run.run_id if run else None, before=before, limit=max(100, last)
        )
        if not page:
            break
        for action in page:
            if action.run_id not in mine:
                view = await core.journal.get(RunView, action.run_id)
                mine[action.run_id] = (
                    view is not None
                    and (run is not None or view.owner.principal == caller.principal)
                    and (run is not None or view.owner.client == caller.client or caller.client == "takeback")
                )
            if mine[action.run_id] and entries_of([action]):
                found.append(action)
        before = page[-1].position
    found = found[:last]
    runs = tuple(dict.fromkeys(action.run_id for action in found))
    return _wish(found, cascade, f"the latest {last} action{'s' if last != 1 else ''}", runs)


async def _since(core: Core, caller: Caller, run_id: str | None, since: str, cascade: tuple[RunId, ...]) -> Wish:
    at = parse_time(since)
    runs = [await core.run(caller, run_id, "decide")] if run_id is not None else await core.journal.find(RunView)
    found: list[ActionView] = []
    for run in runs:
        if run_id is not None or run.owner.principal == caller.principal:  # of others only what is named
            found += [action for action in await core.journal.find(ActionView, run_id=run.run_id) if action.at >= at]
    found.sort(key=lambda action: action.position)
    wish = _wish(found, cascade, f"everything since {since}", tuple(dict.fromkeys(a.run_id for a in found)))
    return replace(wish, needs_digest="This spans several runs: look at the plan, then pass its plan_digest.")


def parse_time(text: str) -> datetime:
    """An RFC 3339 time with its zone.

    :raises EngineError: it is not one.
    """
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise EngineError("invalid", f"{text!r} is not a time.", "Write it as 2026-11-20T18:30:00Z.")
    return at


def _wish(
    found: Sequence[ActionView],
    cascade: tuple[RunId, ...],
    label: str,
    runs: tuple[RunId, ...],
    *,
    abandoned: bool = False,
) -> Wish:
    chosen = entries_of(found)
    if not chosen and not abandoned:  # else there is a rollback to be finished first
        raise nothing()
    return Wish(
        kind="rollback",
        chosen=chosen,
        goal=Goal(chosen=tuple(entry.id for entry in chosen), cascade=cascade, label=label),
        runs=runs,
    )
