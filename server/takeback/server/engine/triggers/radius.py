"""Blast radius: how much a run touches, in all and within a minute. Asked before an act, so that the bound is never passed."""

from __future__ import annotations

from collections.abc import Sequence

from takeback.server.engine.triggers.settings import BlastRadius, PrincipalRadius
from takeback.server.engine.triggers.values import NOTHING, Attempt, Firing, Size
from takeback.server.engine.triggers.windows import Amount

_WORDS = {
    "objects": "objects",
    "deleted": "deleted objects",
    "rows": "rows",
    "recipients": "recipients",
    "systems": "systems",
}


Limit = tuple[str, dict[str, int], str]
"""When, what would be counted then, and how the settings of that end."""


def blast_radius(settings: BlastRadius, total: Amount, minute: Amount, attempt: Attempt) -> list[Firing]:
    """Before an act: with it the run would touch more than it may."""
    return _passed(settings, total, minute, attempt.size, "a call would bring")


def radius_passed(settings: BlastRadius, total: Amount, minute: Amount) -> list[Firing]:
    """After an intent, which another process may have been faster with: the run touches more than it may."""
    return _passed(settings, total, minute, NOTHING, "together with other calls one would bring")


def _passed(settings: BlastRadius, total: Amount, minute: Amount, size: Size, how: str) -> list[Firing]:
    limits = (("in all", total.with_(size), ""), ("within a minute", minute.with_(size), "_per_minute"))
    found = passed(settings, limits, trigger="blast_radius", how=f"{how} the run")
    return [] if found is None else [found]


def passed(
    settings: BlastRadius | PrincipalRadius, limits: Sequence[Limit], *, trigger: str, how: str
) -> Firing | None:
    """The first bound that is passed."""
    for when, counts, suffix in limits:
        for name, words in _WORDS.items():
            limit = getattr(settings, name + suffix, 0)
            if limit and counts[name] > limit:
                return Firing(
                    trigger,
                    settings.answer,
                    f"{how} to {counts[name]:,} {words} {when}, more than {limit:,}",
                    {"bound": name + suffix, "threshold": limit, "would_be": counts[name]},
                    about=name + suffix,
                )
    return None
