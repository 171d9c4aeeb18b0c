"""After a crash: whether the swap took place, where the paths cannot tell because somebody has been there since.

What lies in the slot tells: before an exchange that is what is new, after it what stood there before.
"""

from __future__ import annotations

from collections.abc import Sequence

from takeback.journal.states import Effect
from takeback.tools.files.calls import Dir
from takeback.tools.files.refusals import refuse
from takeback.tools.files.swapping import steps_of
from takeback.tools.files.workbench import Workbench


def happened(bench: Workbench, effects: Sequence[Effect], notes: Dir) -> bool | None:
    """Whether they came about; `None`: the paths themselves tell, or swapping once more does. Runs in a worker thread.

    :raises Refused: nobody can tell, or only of a part.
    """
    steps = steps_of(bench, [effect for effect in effects if not effect.before.same(effect.after)], notes)
    standings = [step.standing() for step in steps]
    told = [step.was_made() for step, at in zip(steps, standings, strict=True) if at == "other"]
    rest = [at for at in standings if at != "other"]
    if not bench.warnings:
        if not told:
            return None
        if all(made is False for made in told) and all(at == "before" for at in rest):
            return False
        if all(told) and all(at == "after" for at in rest):
            return True
    other = bench.names.locate(steps[standings.index("other") if told else -1].effects[-1].object)
    fact = f"Somebody has changed {other.shown} since, so that nobody can tell what took effect."
    raise refuse("cannot_tell", " ".join([fact, *bench.warnings]), "Look at it, then settle it with resolve_conflict.")
