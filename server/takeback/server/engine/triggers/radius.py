"""Blast radius: how much a run touches, in all and within a minute. Asked before an act, so that the bound is never passed."""

from __future__ import annotations

from takeback.server.engine.triggers.settings import BlastRadius
from takeback.server.engine.triggers.values import NOTHING, Attempt, Firing, Size
from takeback.server.engine.triggers.windows import Amount

_WORDS = {
    "objects": "objects",
    "deleted": "deleted objects",
    "rows": "rows",
    "recipients": "recipients",
    "systems": "systems",
}


def blast_radius(settings: BlastRadius, total: Amount, minute: Amount, attempt: Attempt) -> list[Firing]:
    """Before an act: with it the run would touch more than it may."""
    return _passed(settings, total, minute, attempt.size, "a call would bring")


def radius_passed(settings: BlastRadius, total: Amount, minute: Amount) -> list[Firing]:
    """After an intent, which another process may have been faster with: the run touches more than it may."""
    return _passed(settings, total, minute, NOTHING, "together with other calls one would bring")


def _passed(settings: BlastRadius, total: Amount, minute: Amount, size: Size, how: str) -> list[Firing]:
    limits = (
        ("in all", total.with_(size), ""),
        ("within a minute", minute.with_(size), "_per_minute"),
    )
    for when, counts, suffix in limits:
        for name, words in _WORDS.items():
            limit = getattr(settings, name + suffix, 0)
            if limit and counts[name] > limit:
                return [
                    Firing(
                        "blast_radius",
                        settings.answer,
                        f"{how} the run to {counts[name]:,} {words} {when}, more than {limit:,}",
                        {"bound": name + suffix, "threshold": limit, "would_be": counts[name]},
                        about=name + suffix,
                    )
                ]
    return []
