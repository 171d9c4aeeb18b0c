"""Putting an earlier version of an object back, from whichever run it is known."""

from __future__ import annotations

from takeback.journal.events import Caller
from takeback.journal.views import ActionView, RunView
from takeback.server.engine.answers import EngineError, RollbackAnswer
from takeback.server.engine.conflicts import Conflicts
from takeback.server.engine.core import Core
from takeback.server.engine.report import shown
from takeback.tools.system import TargetError


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
        or not core.may_see(caller, run)
        or side not in ("before", "after")
    ):
        raise EngineError("not_found", f"{shown(object)} has no version {version!r}.", "Take one from list_versions.")
    system = core.systems.get(effect.system)
    if system is None:
        raise EngineError("system_missing", f"The system {effect.system!r} is not configured.", "Configure it again.")
    state = effect.before if side == "before" else effect.after
    try:
        content = None if state.absent else await system.read(state)
        if content is None:
            raise EngineError(
                "no_content",
                f"This version of {shown(object)} is {state.kind} and cannot be written as a file.",
                f"Take back the action instead: rollback_run with actions [{action_id}].",
            )
        return await conflicts.put_back(caller, action, system, place, version, content)
    except TargetError as error:
        raise EngineError(error.code, f"{shown(object)}: {error}.", error.advice) from error
