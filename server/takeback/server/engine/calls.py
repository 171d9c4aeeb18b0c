"""What a door hands to the engine: one request for a wrapped tool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pydantic import JsonValue

from takeback.journal.events import Caller
from takeback.journal.ids import ActionId, RunId

NO_RUN, NO_ACTION = RunId(""), ActionId("")
"""What a reading call belongs to: reads are not journaled."""

Progress = Callable[[float, float | None, str], Awaitable[None]]


async def no_progress(done: float, total: float | None, words: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a wrapped tool."""

    tool: str
    arguments: dict[str, JsonValue]
    """Of the tool itself, as they came; the four common ones are the fields below."""
    caller: Caller
    run_id: str | None = None
    step: str | None = None
    idempotency_key: str | None = None
    dry_run: bool = False
    progress: Progress = field(default=no_progress)
