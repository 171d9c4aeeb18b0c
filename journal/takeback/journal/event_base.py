"""What all events have: the types that every file of events builds on."""

from __future__ import annotations

from datetime import datetime

from takeback.journal.ids import RunId
from takeback.journal.states import Frozen


class Caller(Frozen):
    """Who asks: the principal (whose runs these are), and the client program through which they ask."""

    principal: str
    client: str = "unknown"
    client_version: str = ""


class BaseEvent(Frozen):
    """What all events have."""

    run_id: RunId
    at: datetime
