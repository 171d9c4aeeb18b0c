"""What is held besides runs: one view of all holds, so that one version tells whether anything of it has changed."""

from __future__ import annotations

from takeback.journal import events as e
from takeback.journal.events import BaseEvent
from takeback.journal.folds.parts import Change, Lookup, changed, known
from takeback.journal.guarding import HOLDS
from takeback.journal.views import Hold, HoldsView


def held(event: BaseEvent, position: int, get: Lookup) -> list[Change]:
    """Something is contained (twice only tightens), or let go."""
    view = known(get, HoldsView, HOLDS) or HoldsView(id=HOLDS, run_id=HOLDS, version=position, status="open")
    match event:
        case e.ScopeContained():
            earlier = view.of(event.kind, event.name)
            level = "quarantined" if earlier is not None and earlier.level == "quarantined" else event.level
            hold = Hold(kind=event.kind, name=event.name, level=level, reason=event.reason, by=event.by, since=event.at)
            holds = (*view.without(event.kind, event.name), hold)
        case e.ScopeReleased():
            holds = view.without(event.kind, event.name)
        case _:
            return []
    return [changed(view, position, holds=holds, status="contained" if holds else "open")]
