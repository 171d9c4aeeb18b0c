"""Gathering what the planner needs: the entries, what stands in the world now, and the merges of what drifted.

All reading; nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from takeback.journal.ids import ActionId, RollbackId
from takeback.journal.states import Effect, State
from takeback.journal.views import ActionView, RollbackView, StepView
from takeback.server.engine import merging
from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core
from takeback.server.engine.faults import advice_of, fault
from takeback.server.engine.outgoing import holding
from takeback.server.engine.plan import (
    Entry,
    Goal,
    MergeAnswer,
    MergeNeeded,
    Observations,
    Plan,
    object_key,
    plan_rollback,
)
from takeback.tools.system import Clash


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is to be taken back, and what else stands on it."""

    entries: tuple[Entry, ...]
    others: tuple[Entry, ...]


def entry_of_action(action: ActionView) -> Entry:
    """An action as the planner sees it."""
    # while it waits, a message is swapped out of the outbox like anything else; that it has gone is found by looking
    swapped = action.reversibility == "compensable" and holding(action.effects)
    return Entry(
        id=action.id,
        action_id=ActionId(action.id),
        run_id=action.run_id,
        position=action.position,
        tool=action.tool,
        effects=action.effects,
        reversibility="reversible" if swapped else action.reversibility,
        reason=action.reason,
        in_doubt=action.status in ("in_doubt", "intended"),
    )


def entry_of_step(rollback: RollbackView, step: StepView, tool: str) -> Entry:
    """A concluded step of a rollback as the planner sees it: its effects are what a redo takes back."""
    redoable = step.outcome in ("restored", "merged") and bool(step.effects)
    return Entry(
        id=f"{rollback.id}/{step.index}",
        action_id=step.action_id,
        run_id=step.run_id,
        position=step.position,
        tool=tool,
        effects=step.effects,
        reversibility="reversible" if redoable else "irreversible",
        reason="" if redoable else f"that step ended as {step.outcome or 'unfinished'}; there is nothing to bring back",
    )


async def others_on(core: Core, chosen: Sequence[Entry]) -> tuple[Entry, ...]:
    """Actions that stand (or may stand) and touch the same objects, or objects above or below, later than the first chosen."""
    if not chosen:
        return ()
    first = min(entry.position for entry in chosen)
    own = {entry.id for entry in chosen} | {entry.action_id for entry in chosen}
    found: dict[str, ActionView] = {}
    asked: set[tuple[str, str]] = set()
    news = [effect for entry in chosen for effect in entry.effects]
    while news:
        # what was found may have touched more objects, on which yet others stand
        by_system: dict[str, set[str]] = {}
        for effect in news:
            place = (effect.system, effect.object)
            if effect.before.kind != "opaque" and place not in asked:  # what nobody can look at has no order of its own
                asked.add(place)
                by_system.setdefault(effect.system, set()).add(effect.object)
        news = list[Effect]()
        for system, objects in by_system.items():
            for action in await core.journal.touching(system, objects, nested=True, after=first, besides=own):
                stands = action.stands or action.status in ("in_doubt", "intended")
                if stands and action.id not in found:
                    found[action.id] = action
                    news += action.effects
    return tuple(entry_of_action(action) for action in sorted(found.values(), key=lambda action: action.position))


async def observe(core: Core, entries: Iterable[Entry]) -> dict[str, State]:
    """What stands now in the place of every object of the entries, measured so that it can be compared."""
    newest: dict[tuple[str, str], tuple[int, State]] = {}
    oldest: dict[tuple[str, str], tuple[int, State]] = {}
    for entry in entries:
        for effect in entry.effects:
            if effect.before.kind == "opaque":
                continue
            place = (effect.system, effect.object)
            if place not in newest or entry.position > newest[place][0]:
                newest[place] = (entry.position, effect.after)
            if place not in oldest or entry.position < oldest[place][0]:
                oldest[place] = (entry.position, effect.before)
    present: dict[str, State] = {}
    for name in dict.fromkeys(system for system, _ in newest):
        system = core.systems.get(name)
        if system is None:
            raise EngineError(
                "system_missing",
                f"The system {name!r} is not configured any more.",
                "Put it back into the configuration.",
            )
        objects = [place[1] for place in newest if place[0] == name]
        likes = [newest[name, object][1] for object in objects]
        try:
            looks = list(await system.look(objects, likes))
            if len(looks) != len(objects):
                raise ValueError(f"{len(objects)} objects were looked at and {len(looks)} states answered")
            # Where it is not as the newest effect left it, it may be as it was before all of them; states are only
            # comparable when they were measured alike, so look once more in that way.
            again = [
                index
                for index, (now, like) in enumerate(zip(looks, likes, strict=True))
                if not now.same(like) and not now.same(oldest[name, objects[index]][1])
            ]
            if again:
                befores = [oldest[name, objects[index]][1] for index in again]
                for index, now, before in zip(
                    again, await system.look([objects[index] for index in again], befores), befores, strict=True
                ):
                    if now.same(before):
                        looks[index] = now
        except (
            Exception
        ) as error:  # third-party code: whatever it raises, nothing was looked at and so nothing is planned
            raise EngineError(
                "unavailable",
                f"{name} could not be looked at: {fault(error)}.",
                advice_of(error, "Remove the cause, then try again."),
            ) from error
        for object, now in zip(objects, looks, strict=True):
            present[object_key(name, object)] = now
    return present


async def merge_one(core: Core, need: MergeNeeded) -> MergeAnswer:
    """Ask the systems whether our change can be removed alone."""
    try:
        merged = await merging.merge(core, need.wanted, need.present)
    except Exception as error:  # third-party code: what cannot be merged is a conflict, and nothing is touched
        return MergeAnswer(present=need.present, effects=None, why=f"could not be merged: {fault(error)}")
    if isinstance(merged, Clash):
        return MergeAnswer(present=need.present, effects=None, why=merged.why, proposal=merged.proposal)
    answer = merged.merged
    return MergeAnswer(present=need.present, effects=answer.effects, why=answer.why, remains=merged.remains)


async def make_plan(core: Core, goal: Goal, chosen: Sequence[Entry], others: Sequence[Entry]) -> Plan:
    """Observe, plan, gather the merges that the plan asks for, and plan again until nothing is missing.

    :raises EngineError: a system is missing or out of reach.
    """
    entries = [*chosen, *others]
    relevant = [*chosen, *(entry for entry in others if entry.run_id in goal.cascade)]
    present = await observe(core, relevant)
    merges: dict[str, MergeAnswer] = {}
    for _ in range(len(entries) + 2):
        plan = plan_rollback(entries, goal, Observations(present=present, merges=merges))
        if not plan.needs:
            return plan
        for need in plan.needs:
            merges[need.entry_id] = await merge_one(core, need)
    raise EngineError("unstable", "The objects keep changing while the plan is made.", "Try again when it is quieter.")


def by_action(actions: Iterable[ActionView]) -> Mapping[str, ActionView]:
    """Actions by id."""
    return {action.id: action for action in actions}


async def rollback_view(core: Core, rollback_id: str) -> RollbackView:
    """A rollback by id.

    :raises EngineError: there is none.
    """
    view = await core.journal.get(RollbackView, RollbackId(rollback_id))
    if view is None:
        raise no_rollback(rollback_id)
    return view


def no_rollback(rollback_id: str) -> EngineError:
    """What is said of a rollback that is unknown, or foreign: the same."""
    return EngineError("not_found", f"There is no rollback {rollback_id!r}.", "Look at the run with get_run.")
