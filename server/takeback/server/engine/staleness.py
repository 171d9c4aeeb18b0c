"""Stale reads: an agent does not overwrite an edit that it has not seen."""

from __future__ import annotations

from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core
from takeback.server.engine.report import shown
from takeback.server.engine.seen import Seen
from takeback.server.engine.work import Work
from takeback.tools.contract import Prepared


def check_stale(core: Core, work: Work, prepared: Prepared, seen: Seen) -> None:
    """Whether what a call would change is what its caller has seen, or says it has.

    :raises EngineError: `stale_read`.
    """
    expected = {(target.system, target.object): target.expected_digest for target in work.targets}
    for effect in prepared.effects:
        if effect.before.kind == "opaque":
            continue
        place = (effect.system, effect.object)
        digest = effect.before.content or effect.before.digest
        wanted = expected.get(place)
        if wanted is not None and wanted != digest:
            raise EngineError(
                "stale_read",
                f"{shown(core.display(effect.system, effect.object))} is not the content that expected_digest names.",
                "Read it again, then decide again.",
            )
        last = seen.last(work.call.caller, *place)
        # where nothing stands, nothing unseen can be overwritten (and there is nothing to read again)
        if wanted is None and last is not None and last != digest and not effect.before.absent:
            raise EngineError(
                "stale_read",
                f"{shown(core.display(effect.system, effect.object))} was changed by somebody else since you last read it.",
                "Read it again, so that their change is not overwritten unseen.",
            )
