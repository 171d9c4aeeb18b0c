"""Moments as people give them: "90m", "2h", "3d", "yesterday's date", or RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime

from takeback.server.engine.answers import EngineError
from takeback.server.engine.pages import ago


def moment(given: str, now: datetime | None = None) -> str:
    """RFC 3339 in UTC. Dates and times without a zone are local, as a person means them.

    :param given: so long ago ("2h"), a date, or a date and time.
    :raises EngineError: none of these.
    """
    at = ago(given, now or datetime.now(UTC))
    if at is None:
        try:
            at = datetime.fromisoformat(given.strip())
        except ValueError as error:
            raise EngineError(
                "usage", f"{given!r} is no time.", "Write 90m, 2h, 3d, 2026-11-20 or 2026-11-20T09:00Z."
            ) from error
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
