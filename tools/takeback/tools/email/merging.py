"""What becomes of a message that is put back, if somebody else has moved or flagged it meanwhile: both hold where they can.

`base` is as the act left it, `wanted` what the undo wants, `present` what is there.
"""

from __future__ import annotations

from takeback.tools.email.port import Placement


def hindrance(base: Placement, wanted: Placement, present: Placement) -> str | None:
    """Why the two cannot both hold, in half a sentence; `None` if they can."""
    if (present.digest, present.date_ns) != (base.digest, base.date_ns):
        return "it is another message now"
    if base.folder != wanted.folder and present.folder not in (base.folder, wanted.folder):
        return f"somebody moved it to {present.folder}"
    return None


def folder_of_both(base: Placement, wanted: Placement, present: Placement) -> str:
    """Where it belongs: what somebody moved stays where they put it, unless it is ours to move back."""
    return present.folder if base.folder == wanted.folder else wanted.folder


def flags_of_both(base: frozenset[str], wanted: frozenset[str], present: frozenset[str]) -> frozenset[str]:
    """What is there, with what the undo takes away and adds."""
    return (present - (base - wanted)) | (wanted - base)
