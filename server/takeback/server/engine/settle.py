"""Settling what is in doubt: look at the world, and say what it says.

The world equals the journaled before-state, or the journaled after-state, or it is a person's to decide. Always under the
action's locks, so that an action which a living process is still working on is left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, Literal

import anyio
from pydantic import JsonValue

from takeback.journal.events import ActionInDoubt, ActionSettled, BaseEvent, ConflictOpened, ConflictResolved
from takeback.journal.ids import ActionId, ConflictId, new_checkpoint_id, new_conflict_id
from takeback.journal.log import JournalBroken, JournalError, Stale, ViewKey
from takeback.journal.states import Effect, altered
from takeback.journal.views import ActionView, OpenItem
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.locks import LockTimeout
from takeback.server.engine.outgoing import belong, holding, moved
from takeback.server.engine.plan import object_key
from takeback.tools import adapt
from takeback.tools.contract import MemoTool, Unknown
from takeback.tools.system import Drifted, TargetError, TargetSystem

log = logging.getLogger(__name__)

AnyMemoTool = MemoTool[Any, Any, Any]
NEXT_IN_DOUBT = (
    "Settle it with resolve_conflict and theirs: what is found there then counts as done, "
    "and can be taken back like any act."
)
NEXT_UNSEEN = "Look whether it happened, then settle it with resolve_conflict: theirs if it did, ours if it did not."
"""The next step of a person, where takeback can look for itself and where it cannot."""

Finding = Literal["applied", "not_applied", "in_doubt"]
OPEN: Final = ("intended", "in_doubt")
"""Statuses of actions of which it is not known whether they took effect."""


def lock_names(core: Core, effects: Sequence[Effect]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What to lock for these effects: the objects exclusively, their ancestors shared."""
    exclusive: set[str] = set()
    shared: set[str] = set()
    for effect in effects:
        system = core.systems.get(effect.system)
        if system is None:
            exclusive.add(object_key(effect.system, effect.object))
        else:
            exclusive.add(object_key(effect.system, system.locked_as(effect.object)))
            shared.update(object_key(effect.system, above) for above in system.ancestors(effect.object))
    return tuple(sorted(exclusive)), tuple(sorted(shared - exclusive))


async def settle(core: Core, action_id: ActionId, *, by: str = "recovery", wait: float | None = 0) -> ActionView | None:
    """Take the action's locks, look, and journal what was found.

    :param wait: seconds to wait for the locks; 0 leaves alone what a living process holds (`None` is returned then).
    """
    action = await core.journal.get(ActionView, action_id)
    if action is None or action.status not in OPEN:
        return action
    group = await together(core, action)
    exclusive, shared = lock_names(core, [effect for each in group for effect in each.effects])
    try:
        async with core.locks.hold(
            {*exclusive, *(name for each in group for name in each.locks)}, shared, timeout=wait
        ):
            return await settle_held(core, action_id, by=by)
    except LockTimeout:
        return None


async def settle_held(core: Core, action_id: ActionId, *, by: str) -> ActionView | None:
    """As `settle`, for a caller that holds the action's locks already. What is made in one step is settled as one."""
    action = await core.journal.get(ActionView, action_id)
    if action is None or action.status not in OPEN:
        return action
    group = await together(core, action)
    finding, why, told, returned = await _look_at_all(core, group)
    events: list[BaseEvent] = []
    settled = [(each, effects) for each, effects in zip(group, told, strict=True) if each.status in OPEN]
    for each, effects in settled:
        events += await _said(core, each, finding, why, effects, returned, by)
    if events:
        try:
            await core.record(events, expect={ViewKey("action", each.id): each.version for each, _ in settled})
        except Stale:
            log.info("action %s was settled by another process", action.id)
    return await core.journal.get(ActionView, action_id)


async def together(core: Core, action: ActionView) -> list[ActionView]:
    """The actions that become visible in one step with this one, in their order; itself, if it is by itself."""
    found = [action if id == action.id else await core.journal.get(ActionView, id) for id in action.together]
    return [each for each in found if each is not None] or [action]


async def _said(
    core: Core,
    action: ActionView,
    finding: Finding,
    why: str,
    effects: tuple[Effect, ...],
    returned: JsonValue,
    by: str,
) -> list[BaseEvent]:
    """What is written down of one action."""
    action_id = ActionId(action.id)
    if finding == "applied":
        owner = (action.caller or core.nobody).principal
        try:
            await _overdue(core, action, effects)
            await belong(core, effects, run_id=action.run_id, action_id=action.id, owner=owner)
        except TargetError as error:
            finding, why = "in_doubt", f"the outbox is out of reach: {fault(error)}"
    events: list[BaseEvent] = []
    items = [
        item
        for item in await core.journal.find(OpenItem, run_id=action.run_id, status="open")
        if item.action_id == action.id and item.kind == "in_doubt"
    ]
    match finding:
        case "applied" | "not_applied":
            events.append(
                ActionSettled(
                    run_id=action.run_id,
                    at=core.now(),
                    action_id=action_id,
                    outcome=finding,
                    by=by,
                    why=why,
                    checkpoint_id=new_checkpoint_id() if finding == "applied" else None,
                    effects=effects if finding == "applied" else (),
                    returned=returned,
                )
            )
            if finding == "applied":
                events += moved(effects, run_id=action.run_id, action_id=action_id, at=core.now())
            events.extend(
                ConflictResolved(
                    run_id=item.run_id,
                    at=core.now(),
                    conflict_id=ConflictId(item.id),
                    choice="settled",
                    by=by,
                    why=why,
                )
                for item in items
            )
        case "in_doubt":
            if action.status != "in_doubt":
                events.append(ActionInDoubt(run_id=action.run_id, at=core.now(), action_id=action_id, reason=why))
            if not items:
                events.append(doubt_item(core, action, why))
    return events


async def _overdue(core: Core, action: ActionView, effects: Sequence[Effect]) -> None:
    """Messages that are held only now, long after their act was begun, are as late as they would have been."""
    age = (core.now() - action.at).total_seconds()
    if age <= core.settings.outbox.late_seconds:
        return
    for effect in holding(effects):
        row = await core.outbox.get(effect.object)
        if row is not None:
            due = min(row.release_at, core.outbox.now() - age + row.window)
            await core.outbox.move(row.id, "HELD", only=("HELD",), release_at=due)


def doubt_item(core: Core, action: ActionView, why: str) -> ConflictOpened:
    """The open item by which a person learns of a doubt."""
    first = action.effects[0] if action.effects else None
    return ConflictOpened(
        run_id=action.run_id,
        at=core.now(),
        conflict_id=new_conflict_id(),
        kind="in_doubt",
        action_id=ActionId(action.id),
        system=first.system if first else action.tool,
        object=first.object if first else action.tool,
        base=first.after if first else None,
        ours=first.before if first else None,
        why=why,
        next_step=NEXT_UNSEEN if first is None or first.after.kind == "opaque" else NEXT_IN_DOUBT,
    )


async def _look_at_all(
    core: Core, group: Sequence[ActionView]
) -> tuple[Finding, str, Sequence[tuple[Effect, ...]], JsonValue]:
    """What the world says of actions that become visible in one step, and the effects of each."""
    acts = [action.effects for action in group]
    system = core.systems.get(acts[0][-1].system) if len(group) > 1 else None
    if system is None:  # one by itself; or several whose system is away, which is said of each
        finding, why, effects, returned = await _look(core, group[0])
        return finding, why, [effects for _ in group], returned
    finding, why, effects, _ = await _look(core, altered(group[0], effects=tuple(system.at_once(acts))))
    return finding, why, system.each_of(acts, effects) if finding == "applied" else [() for _ in group], None


async def _look(core: Core, action: ActionView) -> tuple[Finding, str, tuple[Effect, ...], JsonValue]:
    tool = core.tools.get(action.tool)
    try:
        # whoever settles holds the objects, and others wait for them: a look that hangs must not be waited for
        with anyio.fail_after(core.settings.limits.step_seconds):
            # of an act that waits in the outbox the outbox can tell whether it does
            if tool is not None and adapt.is_memo_tool(tool) and not holding(action.effects):
                return await _ask_tool(tool, action)
            if any(effect.after.kind == "opaque" for effect in action.effects):
                # only its tool could tell; a system has nothing to compare there, and no answer of its would mean anything
                return "in_doubt", f"the tool {action.tool} is not installed any more", (), None
            return *await _ask_world(core, action.effects), None
    except TimeoutError:
        return "in_doubt", "the world could not be looked at: it took longer than the bound for one step", (), None
    except Exception as error:  # third-party code: whatever it raises, the doubt stays, and says why
        return "in_doubt", f"the world could not be looked at: {fault(error)}", (), None


async def _ask_tool(tool: AnyMemoTool, action: ActionView) -> tuple[Finding, str, tuple[Effect, ...], JsonValue]:
    try:
        found = await adapt.happened(tool, action.memo)
    except Exception as error:
        # whatever an author's look-up raises: the doubt stays, and says why
        return "in_doubt", f"{tool.name} could not tell whether it happened: {fault(error)}", (), None
    if isinstance(found, Unknown):
        return "in_doubt", f"{tool.name} cannot tell whether it happened", (), None
    if found is False:
        return "not_applied", f"{tool.name} found that it did not happen", (), None
    return "applied", f"{tool.name} found that it happened", action.effects, adapt.dump_outcome(tool, found)


async def _ask_world(core: Core, effects: Sequence[Effect]) -> tuple[Finding, str, tuple[Effect, ...]]:
    messages = tuple(effect for effect in effects if effect.system == core.outbox.name)
    others = tuple(effect for effect in effects if effect.system != core.outbox.name)
    if not messages or not others:
        return await _ask_systems(core, effects)
    # Messages follow what they are about. None has left: that takes an act that is concluded and stands.
    finding, why, observed = await _ask_systems(core, others)
    match finding:
        case "not_applied":
            swapped = await core.outbox.swap([message.reversed() for message in messages])
        case "applied":
            swapped = await core.outbox.swap(messages)
        case "in_doubt":
            return finding, why, ()
    if isinstance(swapped, Drifted):
        return "in_doubt", f"only part of it is there: {swapped.why}", ()
    return finding, why, (*observed, *swapped.effects) if finding == "applied" else ()


async def _ask_systems(core: Core, effects: Sequence[Effect]) -> tuple[Finding, str, tuple[Effect, ...]]:
    if not effects:
        return "not_applied", "the action has no effects", ()
    parts: dict[str, list[Effect]] = {}
    for effect in effects:
        parts.setdefault(effect.system, []).append(effect)
    missing = [name for name in parts if name not in core.systems]
    if missing:
        return "in_doubt", f"the system {missing[0]} is not configured any more", ()
    told = {name: await core.systems[name].happened(own) for name, own in parts.items()}
    untouched = [
        name
        for name, own in parts.items()
        if told[name] is False or (told[name] is None and await _as_before(core.systems[name], own))
    ]
    if len(untouched) == len(parts):
        as_before = all(made is None for made in told.values())
        return "not_applied", "everything is as it was before" if as_before else "it did not come about", ()
    if untouched:
        # finishing what one system has begun does not bring about what another never did
        return "in_doubt", f"only part of it is there: nothing of it is in {untouched[0]}", ()
    observed: list[Effect] = []
    said: list[str] = []
    for name, own in parts.items():
        system = core.systems[name]
        if told[name]:
            observed.extend(own)
            continue
        # Not as before: let the system finish, or put back, what was begun. It verifies what it had swapped out, so that a
        # save in the middle is found here as it would have been on the way forward.
        swapped = await system.swap(own)
        if isinstance(swapped, Drifted):
            after = await system.look([effect.object for effect in own], [effect.after for effect in own])
            changed = [
                now.same(effect.after) and not effect.before.same(effect.after)
                for now, effect in zip(after, own, strict=True)
            ]
            if any(changed) or len(parts) > 1:
                return "in_doubt", f"only part of it is there: {swapped.why}", ()
            if await system.happened(own) is not False:  # ours may be below theirs
                return (
                    "in_doubt",
                    f"somebody else's change is there, and nobody can tell whether ours was: {swapped.why}",
                    (),
                )
            return "not_applied", f"somebody else's change is there, ours is not: {swapped.why}", ()
        observed.extend(swapped.effects)
        said += swapped.warnings
    return "applied", "; ".join(["everything is as it was meant to be", *said]), tuple(observed)


async def _as_before(system: TargetSystem, own: Sequence[Effect]) -> bool:
    before = await system.look([effect.object for effect in own], [effect.before for effect in own])
    return all(now.same(effect.before) for now, effect in zip(before, own, strict=True))


async def settle_all(core: Core) -> list[ActionView]:
    """Settle every action that no living process is working on; the settled ones.

    One that cannot be settled now does not hold up the rest.

    :raises JournalBroken: nothing can be written any more.
    """
    settled: list[ActionView] = []
    for action in await core.journal.find(ActionView, status=("intended", "in_doubt"), oldest_first=True):
        try:
            found = await settle(core, ActionId(action.id))
        except JournalBroken:
            raise
        except JournalError as error:
            log.warning("action %s cannot be settled now: %s", action.id, error)
            continue
        if found is not None and found.version != action.version:
            settled.append(found)
    return settled
