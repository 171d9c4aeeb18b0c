"""Idempotency keys: the same key with the same arguments is the same act, done once.

Unique within run and tool; a forked run inherits the keys of the steps it stands on.
"""

from __future__ import annotations

from dataclasses import dataclass

from takeback.checkpoints.checkpoint import included
from takeback.journal.ids import ActionId
from takeback.journal.log import ViewKey
from takeback.journal.views import ActionView, CheckpointView, KeyView, RunView, key_id
from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core
from takeback.server.engine.settle import settle

WAIT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """What a key says: answer from `recorded`, or act and expect the key's view to be at `version`."""

    view: ViewKey
    version: int
    recorded: ActionView | None = None


async def check_key(core: Core, run: RunView, tool: str, key: str, argument_digest: str) -> KeyCheck:
    """Look the key up; wait for a call in flight; settle one in doubt.

    :raises EngineError: `key_reused` (other arguments), `in_flight` (still busy), `in_doubt` (cannot be settled).
    """
    view_key = ViewKey("key", key_id(run.run_id, tool, key))
    view = await core.journal.get(KeyView, view_key.id)
    if view is None:
        inherited = await _inherited(core, run, tool, key)
        if inherited is not None:
            _same_arguments(inherited.argument_digest, argument_digest, key)
        return KeyCheck(view_key, 0, inherited)
    if view.status in ("in_flight", "in_doubt"):
        view = await _settled(core, view, key)
    if view.status == "free":
        return KeyCheck(view_key, view.version)
    _same_arguments(view.argument_digest, argument_digest, key)
    return KeyCheck(view_key, view.version, await core.journal.get(ActionView, view.action_id))


async def _settled(core: Core, view: KeyView, key: str) -> KeyView:
    """The key once it is known what came of its call."""
    action = await settle(core, view.action_id, wait=WAIT_SECONDS)
    if action is None:
        raise EngineError(
            "in_flight", f"A call with the key {key!r} is still at work.", "Repeat the same call in a moment."
        )
    view = await core.journal.get(KeyView, view.id) or view
    if view.status in ("in_flight", "in_doubt"):
        raise EngineError(
            "in_doubt",
            f"Nobody knows yet whether the earlier call with the key {key!r} took effect.",
            "A person settles it with `takeback conflicts`; do not repeat it under another key.",
        )
    return view


def _same_arguments(recorded: str, given: str, key: str) -> None:
    if recorded != given:
        raise EngineError(
            "key_reused",
            f"The idempotency key {key!r} was used with other arguments.",
            "Use a new key for a new act, or repeat the call exactly.",
        )


async def _inherited(core: Core, run: RunView, tool: str, key: str) -> ActionView | None:
    # walk up the forks: each stands on its parent's steps up to the checkpoint it was forked from
    while run.forked_from is not None:
        checkpoint = await core.journal.get(CheckpointView, run.forked_from)
        if checkpoint is None:
            return None
        view = await core.journal.get(KeyView, key_id(checkpoint.run_id, tool, key))
        if view is not None and view.status in ("in_flight", "in_doubt", "taken"):
            action = await core.journal.get(ActionView, ActionId(view.action_id))
            if action is not None and included(action, checkpoint.position):
                if view.status != "taken":
                    # the fork stands on it: whether it took effect has to be known before it is done once more
                    await _settled(core, view, key)
                    action = await core.journal.get(ActionView, action.id)
                if action is not None and action.status == "applied" and action.stands:
                    return action
        parent = await core.journal.get(RunView, checkpoint.run_id)
        if parent is None:
            return None
        run = parent
    return None
