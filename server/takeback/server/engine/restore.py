"""One step of a rollback that its target system swaps back, by itself: journaled, made, read back, merged where it drifted."""

from __future__ import annotations

from takeback.journal.events import UndoOutcome
from takeback.journal.states import Effect, State
from takeback.journal.views import StepView
from takeback.server.engine import merging
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.ledger import Ledger
from takeback.server.engine.outcome import Done
from takeback.server.engine.plan import PlanStep
from takeback.server.engine.swaps import GaveUp, look, swap
from takeback.tools.system import Clash, Drifted, Merged, Swapped

DRIFT_ROUNDS = 3


def wrong_in(swapped: Swapped, effects: tuple[Effect, ...]) -> list[str]:
    """Objects that were read back and are not as they were wanted."""
    return [
        now.object for now, wanted in zip(swapped.effects, effects, strict=True) if not now.after.same(wanted.after)
    ]


async def restore(
    core: Core, ledger: Ledger, index: int, step: PlanStep, earlier: StepView | None, *, bound: bool
) -> Done:
    """Swap the step's effects, or what remains of them when somebody else's change stays. The caller holds the locks.

    :param earlier: the step as an earlier process began it.
    :param bound: what drifted is a conflict, and not merged.
    """
    said: list[str] = []
    done = await _restore(core, ledger, index, step, earlier, said, bound=bound)
    return done.warned(tuple(each for each in dict.fromkeys(said) if each not in done.why))


async def _restore(
    core: Core, ledger: Ledger, index: int, step: PlanStep, earlier: StepView | None, said: list[str], *, bound: bool
) -> Done:
    """:param said: filled with what has to be told of attempts that met with somebody else."""
    effects: tuple[Effect, ...] = step.effects
    outcome: UndoOutcome = "merged" if step.decision == "merge" else "restored"
    blobs: dict[str, bytes] = {}
    if earlier is not None and earlier.effects:
        effects = earlier.effects  # begun before a crash: finish exactly that
        if not _is_plain(effects, step.wanted):
            outcome = "merged"
    elif step.decision == "merge":
        merged = await _merge(core, ledger, step, step.present)
        if isinstance(merged, Done):
            return merged
        effects, blobs = _changing(merged.effects), dict(merged.blobs)
    last = ""
    for _ in range(DRIFT_ROUNDS):
        if not effects:
            return Done(step, "already_undone", "nothing of it is left there")
        await core.record([ledger.intended(index, step, effects)], blobs=blobs)
        try:
            swapped = await swap(core, effects, pauses=core.retry_pauses)
        except GaveUp as error:
            if error.there:
                why = f"the system reported a failure ({error}), but it was read back as wanted"
                return Done(step, outcome, why, effects)
            return ledger.open(step, "failed", str(error))
        if isinstance(swapped, Swapped):
            wrong = wrong_in(swapped, effects)
            if wrong and not _only_respelled(core, swapped, effects):
                return ledger.open(step, "failed", f"read back and found different: {', '.join(wrong)}")
            if wrong and outcome == "restored":  # not the bytes from before
                why = "it means what it meant before; the server spells it in its own way"
                return Done(step, "merged", why, swapped.effects, warnings=swapped.warnings)
            return Done(step, outcome, step.why, swapped.effects, warnings=swapped.warnings)
        said += swapped.warnings
        try:
            present = await _present(core, step, effects, swapped)
        except Exception as error:  # third-party code: nothing was changed, and nobody could look once more
            why = f"it was changed meanwhile ({swapped.why}) and could not be looked at: {fault(error)}"
            return ledger.open(step, "failed", why)
        if all(now.same(wanted.after) for now, wanted in zip(present, step.wanted, strict=True)):
            return Done(step, "already_undone", "it is already as it was before")
        last = swapped.why
        if all(now.same(tried.before) for now, tried in zip(swapped.present, effects, strict=True)):
            # nothing of it has changed: what stands in the way is elsewhere (a constraint), and would be there again
            return ledger.open(step, "conflict", swapped.why, present=present)
        if bound:
            return ledger.open(step, "conflict", f"changed while the rollback ran: {swapped.why}", present=present)
        merged = await _merge(core, ledger, step, present)
        if isinstance(merged, Done):
            return merged
        effects, blobs, outcome = _changing(merged.effects), dict(merged.blobs), "merged"
        if not effects:  # most often a batch had put it back by then, and what came on top of that is theirs
            return Done(step, "merged", "nothing of it is left there, and what somebody else changed meanwhile stays")
    return ledger.open(step, "conflict", f"it does not hold still while it is taken back: {last}")


async def _merge(core: Core, ledger: Ledger, step: PlanStep, present: tuple[State, ...]) -> Merged | Done:
    try:
        merged = await merging.merge(core, step.wanted, present)
    except Exception as error:  # third-party code: what cannot be merged is left alone
        return ledger.open(step, "failed", f"could not be merged: {fault(error)}", present=present)
    if isinstance(merged, Clash):
        return ledger.open(step, "conflict", merged.why, present=present)
    return merged.merged


async def _present(core: Core, step: PlanStep, tried: tuple[Effect, ...], drifted: Drifted) -> tuple[State, ...]:
    found = {(effect.system, effect.object): state for effect, state in zip(tried, drifted.present, strict=True)}
    missing = [effect for effect in step.wanted if (effect.system, effect.object) not in found]
    for effect, state in zip(missing, await look(core, missing), strict=True):
        found[effect.system, effect.object] = state
    return tuple(found[effect.system, effect.object] for effect in step.wanted)


def _only_respelled(core: Core, swapped: Swapped, effects: tuple[Effect, ...]) -> bool:
    """Whether what was read back differs only where a server may spell things otherwise, which `swap` has looked through."""
    return all(
        now.after.same(wanted.after)
        or (core.systems[now.system].rewrites(now.object) and not now.after.absent and not wanted.after.absent)
        for now, wanted in zip(swapped.effects, effects, strict=True)
    )


def _changing(effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    return tuple(effect for effect in effects if not effect.before.same(effect.after))


def _is_plain(effects: tuple[Effect, ...], wanted: tuple[Effect, ...]) -> bool:
    # whether these effects put back exactly what was there before, and nothing merged
    goals = {(effect.system, effect.object): effect.after for effect in wanted}
    return all(
        (goal := goals.get((effect.system, effect.object))) is not None and goal.same(effect.after)
        for effect in effects
    )
