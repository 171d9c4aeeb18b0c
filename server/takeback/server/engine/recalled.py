"""The newest effect on each object below another, as the journal tells it: what a family makes its own records anew from."""

from __future__ import annotations

from takeback.journal.log import Journal
from takeback.journal.states import Effect
from takeback.journal.views import RollbackView
from takeback.tools.recall import Recalled


async def recalled(journal: Journal, system: str, above: str) -> dict[str, Recalled]:
    """As `Recall`. Reads every action on these objects and every rollback: for records that were lost, not for each call.

    Acts on one object wait for each other, so that their order is that of their positions.
    """
    found: list[tuple[int, Effect, bool]] = []
    for action in await journal.touching(system, [above], nested=True):
        certain = action.status == "applied"
        if certain or action.status in ("intended", "in_doubt"):
            found += [(action.position, effect, certain) for effect in action.effects]
    if not found:
        return {}
    for rollback in await journal.find(RollbackView):
        for step in rollback.steps:
            certain = step.phase == "concluded"
            if not certain or step.outcome in ("restored", "merged"):
                found += [(step.position, effect, certain) for effect in step.effects]
    newest: dict[str, Recalled] = {}
    for _, effect, certain in sorted(found, key=lambda one: one[0]):
        own = effect.system == system and effect.object.startswith(f"{above}/")
        # of what was begun after something that is certain, the certain one tells where it lay
        if own and (certain or effect.object not in newest):
            newest[effect.object] = Recalled(effect, certain)
    return newest
