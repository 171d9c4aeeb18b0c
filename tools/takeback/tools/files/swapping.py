"""One swap: all the effects of an act, or none of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from takeback.checkpoints.objects import ObjectError
from takeback.journal.states import Effect, State, altered
from takeback.tools.files.calls import Dir
from takeback.tools.files.fingerprint import way_of
from takeback.tools.files.inplace import InPlace
from takeback.tools.files.moving import Move, moved_from
from takeback.tools.files.refusals import refusal, too_deep
from takeback.tools.files.steps import Exchange, Step, side_ref
from takeback.tools.files.times import FolderTimes
from takeback.tools.files.workbench import UNREADABLE, CannotGoBack, Drift, Workbench
from takeback.tools.system import Drifted, Swapped, TargetError, Unavailable

_UNKNOWN: Final = State(digest="unknown", kind="other")
_SIDE_KEYS = frozenset({"image", "base", "drop", "meta", "top", "bytes"})


def swap(bench: Workbench, effects: Sequence[Effect], notes: Dir) -> Swapped | Drifted:
    """Make the effects true. Runs in a worker thread."""
    changing = [effect for effect in effects if not effect.before.same(effect.after)]
    steps = steps_of(bench, changing, notes)
    times = FolderTimes(bench)
    times.begin(changing)
    done: list[Step] = []
    current: Step | None = None
    try:
        standings = [step.standing() for step in steps]
        if "other" in standings:
            _home(
                bench, [step for step, at in zip(steps, standings, strict=True) if at == "after" and step.made_by_us()]
            )
            other = steps[standings.index("other")].effects[-1].object
            why = f"{bench.names.locate(other).shown} is not as this change left it or expects it."
            return _drifted(bench, effects, steps, " ".join([why, *bench.warnings]))
        _verify(bench, [step for step, at in zip(steps, standings, strict=True) if at == "after"])
        if all(where == "after" for where in standings):
            return Swapped(told(effects, steps, None, {}), tuple(bench.warnings), already=True)
        todo = [step for step, where in zip(steps, standings, strict=True) if where != "after"]
        for step in todo:
            step.check()
        for step in todo:
            current = step
            step.act()
            done.append(step)
            current = None
        times.end(changing)
        bench.reach_anew(changing)
        times.put_back()
        times.sync()
    except Drift as drift:
        _home(bench, done)
        why = " ".join([str(drift), *bench.warnings])
        return _drifted(bench, effects, steps, why, drift.present)
    except CannotGoBack:
        raise
    except (*UNREADABLE, ObjectError) as error:
        _home(bench, done, current)
        shown = bench.names.locate(effects[0].object).shown if effects else "it"
        raise _nothing_changed(error, shown) from error
    warnings = [*bench.warnings]
    if bench.calls.window and todo:
        warnings.append(bench.calls.window)
    bench.forget()
    seen = read_back(bench, steps)
    if not _drop(bench, changing, steps):
        warnings.append("Not all of what could not be kept was destroyed; the next `takeback gc` tries again.")
    return Swapped(told(effects, steps, times, seen), tuple(warnings))


def _verify(bench: Workbench, made: Sequence[Step]) -> None:
    """What an earlier try brought out it may have died before it had compared."""
    for step in made:
        try:
            step.verify()
        except Drift:
            _home(bench, [other for other in made if other is not step and other.made_by_us()])
            raise


def read_back(bench: Workbench, steps: Sequence[Step]) -> dict[int, State]:
    """What stands there now, by the identity of the effects. Forget the folders before, so that they are reached anew."""
    seen: dict[int, State] = {}
    for step in steps:
        try:
            seen.update((id(effect), state) for effect, state in zip(step.effects, step.read_back(), strict=True))
        except UNREADABLE:  # somebody has put there what cannot be read: whatever it is, it is not ours
            seen.update((id(effect), _UNKNOWN) for effect in step.effects)
    return seen


def _home(bench: Workbench, done: list[Step], current: Step | None = None) -> None:
    """Everything back.

    :raises CannotGoBack: something of it stays changed.
    """
    try:
        bench.return_to_held()
        _unwind(current)
        _go_back(done)
    except CannotGoBack:
        raise
    except (*UNREADABLE, ObjectError, Drift) as second:
        raise CannotGoBack("A change failed on the way and could not be taken back.") from second


def _nothing_changed(error: Exception, shown: str) -> TargetError:
    """Why nothing was changed, in the class that says so."""
    if isinstance(error, OSError):
        return unavailable(refusal(error, shown))
    if isinstance(error, TargetError):
        return unavailable(error)
    if isinstance(error, ObjectError):
        return Unavailable(str(error), advice=error.advice)
    if isinstance(error, RecursionError):
        return unavailable(too_deep(shown))
    torn = Unavailable(f"{shown} is being written all the time.", advice="Try again when it is quiet.")
    torn.code = "changing"
    return torn


def unavailable(error: TargetError) -> Unavailable:
    """The same error in the class that says: nothing was changed."""
    if isinstance(error, Unavailable):
        return error
    again = Unavailable(str(error), advice=error.advice)
    again.code = error.code
    return again


def _unwind(step: Step | None) -> None:
    """Take back the step in which an error came, however far it got."""
    if step is None:
        return
    match step.standing():
        case "before":
            return
        case "after" | "between":
            step.back()
        case "other":
            raise CannotGoBack("A change failed on the way, and what stands there now is neither before nor after.")


def _drop(bench: Workbench, effects: Sequence[Effect], steps: Sequence[Step]) -> bool:
    """Destroy what is not to be kept (said before the act); whether all of it could be."""
    if not any(side_ref(effect).get("drop") for effect in effects):
        return True
    every = True
    for step in steps:
        for ref in step.refs():
            slot = bench.trashes.slot(dict(ref))
            try:
                if slot is not None:
                    bench.calls.remove_tree(slot.folder, slot.name)
            except (OSError, RecursionError):
                every = False
    return every


def _go_back(done: list[Step]) -> None:
    for step in reversed(done):
        step.back()


def _drifted(
    bench: Workbench, effects: Sequence[Effect], steps: Sequence[Step], why: str, known: dict[str, State] | None = None
) -> Drifted:
    bench.forget()
    present = {
        effect.object: state for step in steps for effect, state in zip(step.effects, step.present(), strict=True)
    }
    present.update({key: state for key, state in (known or {}).items() if state.digest.endswith(":occupied")})
    states = tuple(present.get(effect.object, effect.before) for effect in effects)
    return Drifted(states, why, tuple(bench.warnings))


def steps_of(bench: Workbench, effects: Sequence[Effect], notes: Dir) -> list[Step]:
    """The steps that make these effects true, in order."""
    moves = {key: pair for key, pair in moved_from(effects).items() if len(pair) == 2}
    in_moves = {id(effect) for pair in moves.values() for effect in pair}
    steps: list[tuple[int, int, Step]] = []
    for (source, _), pair in moves.items():
        first, second = pair if pair[0].object == source else (pair[1], pair[0])
        steps.append((1, 0, Move(bench, first, second)))
    for effect in effects:
        if id(effect) in in_moves:
            continue
        depth = effect.object.count(os.sep)
        if side_ref(effect).get("in_place"):
            steps.append((1, 0, InPlace(bench, effect, notes)))
        elif effect.before.absent and way_of(effect.after.digest) == "dir":
            steps.append((0, depth, Exchange(bench, effect)))
        elif effect.after.absent and way_of(effect.before.digest) == "dir":
            steps.append((2, -depth, Exchange(bench, effect)))
        else:
            steps.append((1, 0, Exchange(bench, effect)))
    return [step for _, _, step in sorted(steps, key=lambda entry: entry[:2])]


def told(
    effects: Sequence[Effect], steps: Sequence[Step], times: FolderTimes | None, seen: Mapping[int, State]
) -> tuple[Effect, ...]:
    """The effects with the refs under which both sides are found from now on."""
    refs = {id(effect): ref for step in steps for effect, ref in zip(step.effects, step.refs(), strict=True)}
    kept = {key: state for step in steps for key, state in step.kept().items()}
    made: list[Effect] = []
    for effect in effects:
        if id(effect) not in refs:
            made.append(effect)
            continue
        common = {**refs[id(effect)], **(times.ref(effect) if times is not None else {})}
        made.append(
            altered(
                effect,
                before=_with(kept.get(id(effect), effect.before), common),
                after=_with(_seen(effect, seen), common),
            )
        )
    return tuple(made)


def _seen(effect: Effect, seen: Mapping[int, State]) -> State:
    state = seen.get(id(effect), effect.after)
    return effect.after if state.same(effect.after) else state


def _with(state: State, common: dict[str, JsonValue]) -> State:
    own = {key: value for key, value in state.ref.items() if key in _SIDE_KEYS}
    return altered(state, ref={**own, **common})
