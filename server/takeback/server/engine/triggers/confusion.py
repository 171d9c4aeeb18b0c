"""Target confusion and schema drift: the run acts on what is not its own, or with a tool that is not what it was."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final

from takeback.server.engine.triggers.settings import SchemaDrift, TargetConfusion
from takeback.server.engine.triggers.values import Attempt, Firing, Size

TENANT: Final = "{tenant}"
"""Stands for one part of a path or address; `*` for any characters, `?` for one."""


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    before, _, after = pattern.partition(TENANT)
    return re.compile(f"{_expression(before)}(?P<tenant>[^/@]+){_expression(after)}", re.DOTALL)


def _expression(text: str) -> str:
    return "".join({"*": ".*?", "?": "."}.get(character, re.escape(character)) for character in text)


def tenants_of(patterns: Sequence[str], size: Size) -> set[str]:
    """Whose objects, and whose people, an act touches."""
    if not patterns:
        return set()
    names = [object for _, object in size.objects] + list(size.recipients)
    found = (
        match for pattern in patterns for name in names if (match := _compiled(pattern).fullmatch(name)) is not None
    )
    return {match["tenant"].casefold() for match in found}


def target_confusion(settings: TargetConfusion, tenants: Collection[str], attempt: Attempt) -> list[Firing]:
    """Before an act: it touches somebody else's than the run has touched so far, or two people's at once."""
    touched, own = tenants_of(settings.tenants, attempt.size), frozenset(tenants)
    strange = touched - own
    if not strange or len(own | touched) <= 1:
        return []
    named = ", ".join(sorted(strange))
    return [
        Firing(
            "target_confusion",
            settings.answer,
            f"a call would touch what is of {named}"
            + (f", and so far the run worked for {', '.join(sorted(own))}" if own else ""),
            {"tenants": [*sorted(strange)], "so_far": [*sorted(own)]},
            about=named,
        )
    ]


def outside_scope(settings: TargetConfusion, outside: int) -> list[Firing]:
    """After a call was refused because it lay outside the run's scope."""
    if outside < settings.threshold:
        return []
    return [
        Firing(
            "target_confusion",
            settings.answer,
            f"{outside} calls of the run lay outside its scope",
            {"outside_scope": outside, "threshold": settings.threshold},
            about="scope",
        )
    ]


def schema_drift(settings: SchemaDrift, known: tuple[str, str] | None, attempt: Attempt) -> list[Firing]:
    """Before an act: its tool takes, or is, something else than when the run began to use it."""
    if known is None or known == (attempt.version, attempt.schema):
        return []
    version, schema = known
    if version == attempt.version and not (schema and attempt.schema):
        return []  # nobody wrote down what it took
    return [
        Firing(
            "schema_drift",
            settings.answer,
            f"{attempt.tool} is not what it was when the run began to use it",
            {"tool": attempt.tool, "was": list(known), "is": [attempt.version, attempt.schema]},
            about=attempt.tool,
        )
    ]
