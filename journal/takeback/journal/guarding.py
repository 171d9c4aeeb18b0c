"""Events of holds: a tool class, a system or a principal that must not act, in whatever run, until a person decides."""

from __future__ import annotations

from typing import Final, Literal

from takeback.journal.event_base import BaseEvent
from takeback.journal.ids import RunId

HoldKind = Literal["tool", "system", "principal"]

HOLDS: Final = RunId("holds")
"""The chain in which holds stand: they belong to no run."""


class ScopeContained(BaseEvent):
    """From here on whatever it names may only be read (`contained`), or not even that (`quarantined`)."""

    type: Literal["scope.contained"] = "scope.contained"
    kind: HoldKind
    name: str
    """A tool or family; a system, or an object of one with all that is in it; a principal."""
    level: Literal["contained", "quarantined"] = "contained"
    reason: str
    by: str
    role: str = ""
    """The role that let them, where it is about more than what is their own."""


class ScopeReleased(BaseEvent):
    """A person lets it act again."""

    type: Literal["scope.released"] = "scope.released"
    kind: HoldKind
    name: str
    by: str
    reason: str = ""
    role: str = ""
