"""The record of what was moved where, made anew from the journal. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from takeback.tools.email import states
from takeback.tools.email.imap.names import Spot, spot_of
from takeback.tools.email.imap.remap import Known
from takeback.tools.recall import Recalled


def known_from(recalled: Mapping[str, Recalled]) -> list[Known]:
    """Every message that takeback has changed, where the journal says that it left it.

    A message that was put there by an act of which nobody knows what came is nowhere, but known: if it turns up, it is not put
    there a second time.
    """
    found: list[Known] = []
    for object, each in recalled.items():
        _, key = states.parts(object)
        before, after = each.effect.before, each.effect.after
        there = after if each.certain else before
        state = next((one for one in (there, before, after) if not one.absent), None)
        placement = None if state is None else states.placement_of(state)
        if not key or state is None or placement is None:
            continue
        spot = None if there.absent else spot_of(str(state.ref.get("at", key)))
        whole = placement.ref.get("whole", "")
        found.append(
            Known(
                key,
                spot or Spot(placement.folder, 0, 0),
                placement.size,
                placement.date_ns,
                placement.digest,
                message_id="",  # it is found by its size, date and digest
                whole=str(whole),
            )
        )
    return found
