"""Whether a collected call, by the time it is made, does what it was collected as. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from takeback.journal.states import Effect, Reversibility, State
from takeback.journal.views import CollectedCall
from takeback.server.engine import approvals, outgoing
from takeback.server.engine.calls import Fits
from takeback.server.engine.collecting import Place
from takeback.server.engine.report import shown
from takeback.server.engine.seen import FOLDERS, NOT_HELD

_RANK: Mapping[Reversibility, int] = {"reversible": 0, "compensable": 1, "irreversible": 2}


def fits_to(
    call: CollectedCall, made: Mapping[Place, State], name: Callable[[Effect], str], *, staged: bool = False
) -> Fits:
    """What a call has to be like to be what was collected.

    What the earlier calls of the collection have touched has to be as they left it; all else as it was when the call was
    looked at: the same objects, in the same states, and no more of them.

    :param made: what these left behind, by place.
    :param name: an effect's object, as people call it.
    :param staged: it may only be what can be put back exactly if a later one fails.
    """

    def fits(effects: Sequence[Effect], counts: Mapping[str, int], reversibility: Reversibility) -> str:
        if staged and reversibility != "reversible" and not outgoing.has_window(effects):
            return "It could not be put back exactly if a later call failed."
        for effect in effects:
            left = made.get((effect.system, effect.object))
            if left is not None and not _as_left(effect.before, left):
                return f"{shown(name(effect))} was changed by somebody else meanwhile."
        if call.unseen:
            return ""
        if _RANK[reversibility] > _RANK[call.reversibility]:
            return f"It was shown as {call.reversibility}, and is {reversibility} now."
        now, planned = _tokens(effects, made), _tokens(call.effects, made)
        for effect in effects:
            if (now - planned)[_token(effect, made)]:
                return f"What it would do to {shown(name(effect))} is not what was shown: that is no longer as it was."
        missing = planned - now
        for effect in call.effects:
            # what an earlier call has made already (a folder) need not be made again
            if missing[_token(effect, made)] and (effect.system, effect.object) not in made:
                return f"It would no longer touch {shown(name(effect))}, as was shown."
        more = [what for what, count in counts.items() if count > call.counts.get(what, 0)]
        less = [] if call.builds_on else [what for what, count in call.counts.items() if counts.get(what, 0) < count]
        if more or less:
            return f"It would touch {'more' if more else 'fewer'} {(more or less)[0].replace('_', ' ')} than was shown."
        return ""

    return fits


class InTurn:
    """What calls that are made in one step leave for each other, while they are looked at one after the other."""

    def __init__(self, left: Mapping[Place, State]) -> None:
        self._left, self.made = left, dict(left)

    def fits(self, fits: Fits, *, first: bool) -> Fits:
        """The same question, asked in turn; with the first of them it begins anew."""

        def asked(effects: Sequence[Effect], counts: Mapping[str, int], reversibility: Reversibility) -> str:
            if first:
                self.made.clear()
                self.made.update(self._left)
            why = fits(effects, counts, reversibility)
            self.made.update(left_by(effects))
            return why

        return asked


def left_by(effects: Iterable[Effect]) -> dict[Place, State]:
    """What these left behind, where somebody can look at it."""
    return {
        (effect.system, effect.object): effect.after
        for effect in effects
        if NOT_HELD.isdisjoint((effect.before.kind, effect.after.kind))
    }


def _as_left(now: State, left: State) -> bool:
    return (
        now.same(left)
        or (now.content is not None and now.content == left.content)
        or (now.kind == left.kind and now.kind in FOLDERS)
    )


def _tokens(effects: Sequence[Effect], made: Mapping[Place, State]) -> Counter[str]:
    return Counter(_token(effect, made) for effect in effects)


def _token(effect: Effect, made: Mapping[Place, State]) -> str:
    if (effect.system, effect.object) in made:
        return f"{effect.system}\0{effect.object}\0as it was left"
    return f"{effect.system}\0{approvals.bound(effect)}"
