"""What lists have in common: bounded pages, opaque cursors that are checked when they come back, and who may see what."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from takeback.journal.events import Caller
from takeback.journal.ids import RunId
from takeback.journal.views import RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core
from takeback.server.engine.report import shown

LONGEST_PAGE = 500
BATCH = 200
_AGO = re.compile(r"(\d{1,15})\s*([smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PARTS: TypeAdapter[list[Any]] = TypeAdapter(list[Any])


def check_limit(limit: int) -> None:
    """Refuse pages that are too long or none.

    :raises EngineError: not 1 to `LONGEST_PAGE`.
    """
    if not 1 <= limit <= LONGEST_PAGE:
        raise EngineError("invalid", f"A page of {limit} is not possible.", f"Ask for 1 to {LONGEST_PAGE}.")


def cursor_of(kind: str, *place: str | int) -> str:
    """The cursor of a place in a list of this kind."""
    return base64.urlsafe_b64encode(json.dumps([kind, *place]).encode()).decode().rstrip("=")


def place_of(kind: str, cursor: str, *types: type) -> list[Any]:
    """The place that a cursor names.

    :param types: of its parts, in order.
    :raises EngineError: it is no cursor of a list of this kind.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        parts = _PARTS.validate_json(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        parts = []
    if [type(part) for part in parts] != [str, *types] or parts[0] != kind:
        raise EngineError("invalid", "That cursor is not one of this list.", "Ask again without a cursor.")
    return parts[1:]


def ago(text: str, now: datetime) -> datetime | None:
    """The moment so long before `now` ("90m", "2h", "3d"); `None` if the text says no such thing."""
    told = _AGO.fullmatch(text.strip())
    if told is None:
        return None
    try:
        return now - timedelta(**{_UNITS[told[2]]: int(told[1])})
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def time_of(text: str, now: datetime) -> datetime:
    """An RFC 3339 time with its zone, or so long ago.

    :raises EngineError: it is neither.
    """
    try:
        at = ago(text, now) or datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise EngineError(
            "invalid", f"{shown(text)!r} is not a time.", "Write it as 2026-11-20T18:30:00Z, or so long ago: 2h, 3d."
        )
    return at


async def runs_newest_first(
    core: Core, caller: Caller, *, status: str | None = None, before: int | None = None
) -> AsyncIterator[RunView]:
    """Every run that the caller may see.

    :param before: only those that began before this position.
    """
    while True:
        batch = await core.journal.find(RunView, status=status, before=before, limit=BATCH)
        for run in batch:
            if core.may_see(caller, run):
                yield run
        if len(batch) < BATCH:
            return
        before = await began(core, batch[-1])


async def began(core: Core, run: RunView) -> int:
    """Position of the run's first event."""
    first = await core.journal.read(run.run_id, limit=1)
    return first[0].position


class Visible:
    """Which runs the caller may see, each looked up once."""

    def __init__(self, core: Core, caller: Caller) -> None:
        self._core, self._caller = core, caller
        self._known: dict[RunId, bool] = {}

    async def sees(self, run_id: RunId) -> bool:
        """Whether the caller may see this run."""
        if run_id not in self._known:
            run = await self._core.journal.get(RunView, run_id)
            self._known[run_id] = run is not None and self._core.may_see(self._caller, run)
        return self._known[run_id]
