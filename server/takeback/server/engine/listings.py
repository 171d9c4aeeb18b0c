"""Where one can go back to, and what an object has been: the two lists that also look at the world as it is now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from takeback.checkpoints.checkpoint import assess
from takeback.checkpoints.objects import ObjectError
from takeback.journal.events import Caller
from takeback.journal.states import Effect, State
from takeback.journal.views import ActionView, CheckpointView, RollbackView, RunView
from takeback.server.engine.answers import CheckpointInfo, CheckpointPage, EngineError, VersionInfo, VersionPage
from takeback.server.engine.core import Core, rfc3339
from takeback.server.engine.pages import Visible, check_limit, cursor_of, place_of, runs_newest_first
from takeback.tools.system import TargetError, TargetSystem

OBJECTS_LOOKED_AT = 2000
ASSESSED = 200
"""Checkpoints, from the newest back, among which the recommended one is looked for."""


# --- checkpoints --------------------------------------------------------------------------------------------------------


async def list_checkpoints(
    core: Core, caller: Caller, *, run_id: str | None = None, limit: int = 50, cursor: str | None = None
) -> CheckpointPage:
    """Where one can go back to, newest first, with what each is worth as the world is now.

    :param run_id: left out: the caller's latest run.
    :raises EngineError: unknown or foreign run, a limit or cursor that is none.
    """
    check_limit(limit)
    before = None if cursor is None else place_of("checkpoints", cursor, int)[0]
    run = await core.run(caller, run_id, "look") if run_id is not None else await _latest_run(core, caller)
    if run is None:
        return CheckpointPage(checkpoints=[])
    found = await core.journal.find(CheckpointView, run_id=run.run_id, before=before, limit=limit + 1)
    page = found[:limit]
    newest = await core.journal.find(CheckpointView, run_id=run.run_id, limit=ASSESSED)
    actions = await core.journal.find(ActionView, run_id=run.run_id, oldest_first=True)
    rollbacks = await core.journal.find(RollbackView, run_id=run.run_id)
    present = await _present(core, actions)
    judged = assess({view.id: view for view in (*newest, *page)}.values(), actions, present, rollbacks=rollbacks)
    among_newest = {view.id for view in newest}
    known = {action.id: action for action in actions}
    infos: list[CheckpointInfo] = []
    for view in page:
        assessment = next(each for id, each in judged.items() if id == view.id)
        action = known.get(view.action_id or "")
        infos.append(
            CheckpointInfo(
                checkpoint_id=view.id,
                run_id=view.run_id,
                at=rfc3339(view.at),
                label=view.label,
                action_id=view.action_id,
                summary=action.summary if action is not None else "",
                step=view.step or (action.step if action is not None else None),
                next_step=view.next_step,
                verified_safe=assessment.verified_safe,
                recommended=assessment.recommended and view.id in among_newest,
                drift=[core.display(key.system, key.object) for key in assessment.drift],
                pinned=view.pinned,
            )
        )
    return CheckpointPage(
        checkpoints=infos, cursor=cursor_of("checkpoints", page[-1].position) if len(found) > limit else None
    )


async def _latest_run(core: Core, caller: Caller) -> RunView | None:
    async for run in runs_newest_first(core, caller):
        return run
    return None


async def _present(core: Core, actions: Sequence[ActionView]) -> Mapping[tuple[str, str], State]:
    # what cannot be looked at is left out: then nothing that rests on it counts as safe
    first: dict[tuple[str, str], State] = {}
    last: dict[tuple[str, str], State] = {}
    for action in actions:
        for effect in action.effects if action.stands else ():
            first.setdefault((effect.system, effect.object), effect.before)
            last[effect.system, effect.object] = effect.after
    places = [place for place in last if last[place].kind != "opaque"][-OBJECTS_LOOKED_AT:]
    present = await _look(core, places, last)
    # states are only comparable when they were measured alike, so what differs is measured once more
    unlike = [place for place in places if place in present and not present[place].same(last[place])]
    for place, now in (await _look(core, unlike, first)).items():
        if now.same(first[place]):
            present[place] = now
    return present


async def _look(
    core: Core, places: Iterable[tuple[str, str]], like: Mapping[tuple[str, str], State]
) -> dict[tuple[str, str], State]:
    by_system: dict[str, list[str]] = {}
    for place in places:
        by_system.setdefault(place[0], []).append(place[1])
    found: dict[tuple[str, str], State] = {}
    for name, objects in by_system.items():
        system = core.systems.get(name)
        if system is None:
            continue
        try:
            states = await system.look(objects, [like[name, object] for object in objects])
        except TargetError:
            continue
        found.update({(name, object): state for object, state in zip(objects, states, strict=True)})
    return found


# --- versions -----------------------------------------------------------------------------------------------------------


async def list_versions(
    core: Core, caller: Caller, object: str, *, limit: int = 50, cursor: str | None = None
) -> VersionPage:
    """The contents that an object is known to have had, newest first, each once, over all runs that the caller may see.

    :raises EngineError: a limit or cursor that is none.
    """
    check_limit(limit)
    after = None if cursor is None else place_of("versions", cursor, str)[0]
    place = core.resolve(object)
    known = await _versions(core, caller, place)
    start = 0
    if after is not None:
        names = [version for version, *_ in known]
        if after not in names:
            raise EngineError("invalid", "That cursor is not one of this list.", "Ask again without a cursor.")
        start = names.index(after) + 1
    page = known[start : start + limit]
    systems = {effect.system for _, _, effect, _ in page}
    now = await _look(
        core, [(system, place) for system in systems], {(effect.system, place): effect.after for *_, effect, _ in page}
    )
    infos = [
        VersionInfo(
            version=version,
            object=core.display(effect.system, place),
            at=rfc3339(action.at),
            run_id=action.run_id,
            action_id=action.id,
            tool=action.tool,
            size=state.size,
            digest=state.content or state.digest,
            what=_what(version, action, state, now.get((effect.system, place))),
            available=await _available(core, core.systems.get(effect.system), state),
        )
        for version, action, effect, state in page
    ]
    more = start + limit < len(known)
    return VersionPage(versions=infos, cursor=cursor_of("versions", page[-1][0]) if more else None)


async def _versions(core: Core, caller: Caller, place: str) -> list[tuple[str, ActionView, Effect, State]]:
    visible = Visible(core, caller)
    found: list[tuple[str, ActionView, Effect, State]] = []
    seen: set[tuple[str, str]] = set()
    touching: list[ActionView] = []
    for system in core.systems:
        touching += await core.journal.touching(system, [place])
    for action in sorted(touching, key=lambda action: action.position, reverse=True):
        if action.status not in ("applied", "in_doubt") or not await visible.sees(action.run_id):
            continue
        for effect in action.effects:
            if effect.object != place:
                continue
            for side, state in (("after", effect.after), ("before", effect.before)):
                fingerprint = (effect.system, state.content or state.digest)
                if state.absent or state.kind == "opaque" or fingerprint in seen:
                    continue
                if side == "after" and action.status == "in_doubt":
                    continue  # nobody knows whether there ever was such a content
                seen.add(fingerprint)
                found.append((f"{action.id}:{side}", action, effect, state))
    return found


def _what(version: str, action: ActionView, state: State, now: State | None) -> str:
    told = f"before {action.tool}" if version.endswith(":before") else f"as {action.tool} left it"
    present = now is not None and (now.content or now.digest) == (state.content or state.digest)
    return f"{told}; this is what is there now" if present else told


async def _available(core: Core, system: TargetSystem | None, state: State) -> bool:
    if system is None:
        return False
    try:
        if state.objects:
            return all([await core.objects.has(name) for name in state.objects])
        if state.size is not None and state.size > core.settings.limits.read_bytes:
            return True
        return await system.read(state) is not None
    except (TargetError, ObjectError):
        return False
