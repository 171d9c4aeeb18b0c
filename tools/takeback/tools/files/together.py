"""Many acts in one visit: each the exchange of one file, made and verified as a swap makes it, with one flush a folder.

What is not that simple, or does not go through smoothly, is left (or put back) as it was and handed back as `Alone`: a swap of
that act alone then finds out why.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from takeback.checkpoints.objects import ObjectError
from takeback.journal.states import Effect, State
from takeback.tools.files.calls import Dir
from takeback.tools.files.fingerprint import way_of
from takeback.tools.files.steps import Exchange, side_ref
from takeback.tools.files.swapping import read_back, steps_of, told
from takeback.tools.files.times import FolderTimes
from takeback.tools.files.workbench import UNREADABLE, CannotGoBack, Drift, Workbench
from takeback.tools.system import Alone, Swapped

_TROUBLE: Final = (*UNREADABLE, ObjectError, Drift, CannotGoBack)
_SIMPLE: Final = frozenset({"blake3", "stat", None})
"""How files and links are measured, and what is absent."""


class _Act:
    """One act of the visit."""

    def __init__(self, effects: Sequence[Effect]) -> None:
        self.effects = effects
        self.steps: list[Exchange] = []
        self.made = False
        self.warnings: list[str] = []


def swap_each(bench: Workbench, acts: Sequence[Sequence[Effect]], notes: Dir) -> list[Swapped | Alone]:
    """Make the acts, which touch different objects. Runs in a worker thread."""
    visit = [_Act(effects) for effects in acts]
    times = FolderTimes(bench)
    # folders in which an act was not made: what comes after it there waits for it, because the folder's time is put back too
    waiting: set[str] = set()
    for act in visit:
        bench.warnings = act.warnings
        folders = {os.path.dirname(effect.object) for effect in act.effects}
        if waiting.isdisjoint(folders):
            try:
                _make(bench, act, times, notes)
            except _TROUBLE:
                _unmake(bench, act)
        if not act.made:
            waiting |= folders
    made = [act for act in visit if act.made]
    try:
        bench.reach_anew([effect for act in made for effect in act.effects])
        times.put_back()
        times.sync()
    except _TROUBLE:
        # somebody moved a folder meanwhile, or what was done cannot be made durable: each finds out by itself
        bench.return_to_held()
        for act in reversed(made):
            bench.warnings = act.warnings
            _unmake(bench, act)
        made = []
    if made:
        bench.forget()
    return [_told(bench, act, times) if act.made else Alone(tuple(act.warnings)) for act in visit]


def _make(bench: Workbench, act: _Act, times: FolderTimes, notes: Dir) -> None:
    if len(act.effects) != 1 or not _simple(act.effects[0]):
        return
    steps = [step for step in steps_of(bench, act.effects, notes) if isinstance(step, Exchange)]
    if len(steps) != 1 or steps[0].standing() != "before" or not steps[0].ready():
        return
    times.begin(act.effects)
    act.steps = steps
    steps[0].act()
    act.made = True
    times.end(act.effects)


def _simple(effect: Effect) -> bool:
    said = side_ref(effect)
    kinds = {effect.before.kind, effect.after.kind}
    ways = {way_of(effect.before.digest), way_of(effect.after.digest)}
    same = effect.before.same(effect.after)
    return (
        not same
        and ways <= _SIMPLE
        and "directory" not in kinds
        and said.keys().isdisjoint(("in_place", "drop", "move"))
    )


def _unmake(bench: Workbench, act: _Act) -> None:
    """Back to where it was, as far as that goes; what could not be put back is found when the act is swapped alone."""
    act.made = False
    try:
        for step in act.steps:
            if step.standing() == "after":
                step.back()
    except _TROUBLE:
        return


def _told(bench: Workbench, act: _Act, times: FolderTimes) -> Swapped:
    seen: dict[int, State] = read_back(bench, act.steps)
    if bench.calls.window:
        act.warnings.append(bench.calls.window)
    return Swapped(told(act.effects, act.steps, times, seen), tuple(act.warnings))
