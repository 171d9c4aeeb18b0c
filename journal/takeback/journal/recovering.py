"""Events of recovering from an incident: whether what the user wants to be true was, before and after."""

from __future__ import annotations

from typing import Literal

from takeback.journal.event_base import BaseEvent
from takeback.journal.states import Frozen

CheckStatus = Literal["holds", "fails", "unknown"]


class CheckFound(Frozen):
    """What came of one of the user's checks."""

    check: str
    object: str = ""
    """As people call it; empty if the check is about the whole."""
    status: CheckStatus
    """`unknown`: it could not be made, so nobody can say."""
    why: str = ""


class RunReconciled(BaseEvent):
    """Somebody recovers a run: what its user's checks say of what it touched, before anything is taken back, or afterwards."""

    type: Literal["run.reconciled"] = "run.reconciled"
    by: str
    moment: Literal["before", "after"]
    checks: tuple[CheckFound, ...]
