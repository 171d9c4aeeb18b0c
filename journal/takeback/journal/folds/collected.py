"""What the events of collected calls make of their views."""

from __future__ import annotations

from takeback.journal import collecting as c
from takeback.journal.folds.parts import Change, Lookup, changed, known
from takeback.journal.views import CollectedCall


def collected(event: c.CallCollected, position: int, get: Lookup) -> list[Change]:
    """A call is put down for later, or shown anew."""
    told = {name: getattr(event, name) for name in type(event).model_fields if name not in ("type", "action_id")}
    earlier = known(get, CollectedCall, event.action_id)
    first = position if earlier is None else earlier.position
    view = CollectedCall(id=event.action_id, version=position, position=first, status="collected", **told)
    return [Change("collected", event.action_id, view)]


def begun(event: c.CollectionBegun, position: int, get: Lookup) -> list[Change]:
    """Those calls are being carried out."""
    told = {"approval_id": event.approval_id, "begun_by": event.by, "to_finish_with": event.summary}
    calls = (known(get, CollectedCall, action_id) for action_id in dict.fromkeys(event.calls))
    return [changed(call, position, status="begun", **told) for call in calls if call is not None]


def ended(event: c.CollectionEnded, position: int, get: Lookup) -> list[Change]:
    """Those calls are no more to be made."""
    calls = (known(get, CollectedCall, action_id) for action_id in dict.fromkeys(event.calls))
    return [changed(call, position, status=event.ended, why=event.why) for call in calls if call is not None]
