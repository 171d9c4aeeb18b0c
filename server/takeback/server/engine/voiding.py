"""Questions that nobody can agree to any more, because their run has ended: void from that moment, and they say why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from takeback.journal.events import ApprovalExpired, BaseEvent, RunReopened
from takeback.journal.ids import ApprovalId, RunId
from takeback.journal.log import Stale, ViewKey
from takeback.journal.views import ApprovalView, RunStatus
from takeback.server.engine.core import Core

WAY_BACK: Final = "rollback_run"
"""What this tool asks is about a way back, and runs that have ended can be taken back too."""
ENDED: Final[Mapping[RunStatus, str]] = {
    "finished": "the run has finished",
    "failed": "the run has failed",
    "rolled_back": "the run was rolled back",
}
"""Statuses of a run in which nothing is done any more, and what that says to who is asked."""
TIME: Final = "time"
"""How the journal says that nobody answered in time."""
TIME_RAN_OUT: Final = "its time ran out"


@dataclass(frozen=True, slots=True)
class Voided:
    """Questions that are void, to be written down together with what makes them so."""

    events: tuple[BaseEvent, ...]
    expect: Mapping[ViewKey, int]


async def void_with(core: Core, run_id: RunId, status: RunStatus) -> Voided:
    """What is void once the run has this status: nothing, if that is no end. It can still be asked how to take it back."""
    return _voided(core, [each for each in await _asked(core, run_id, status) if each.tool != WAY_BACK], status)


async def void_of_taken_back(core: Core, reopened: Sequence[RunReopened]) -> Voided:
    """What is void with the end of a rollback: of a run that was taken back whole also what was asked about the way back."""
    events: list[BaseEvent] = []
    expect: dict[ViewKey, int] = {}
    for event in reopened:
        if event.status == "rolled_back":
            void = _voided(core, await _asked(core, event.run_id, event.status), event.status)
            events += void.events
            expect |= void.expect
    return Voided(tuple(events), expect)


async def _asked(core: Core, run_id: RunId, status: RunStatus) -> Sequence[ApprovalView]:
    return await core.journal.find(ApprovalView, run_id=run_id, status="requested") if status in ENDED else ()


def _voided(core: Core, asked: Sequence[ApprovalView], status: RunStatus) -> Voided:
    return Voided(
        tuple(expired(core, each, ENDED[status]) for each in asked),
        {ViewKey("approval", each.id): each.version for each in asked},
    )


async def sweep(core: Core, run_id: RunId, status: RunStatus) -> None:
    """Make void what was asked at the very moment at which the run ended."""
    while (void := await void_with(core, run_id, status)).events:
        with suppress(Stale):  # one was answered, or made void, at the same moment; the others are void all the same
            await core.record(void.events, expect=void.expect)
            return


async def why_void(core: Core, approval: ApprovalView) -> str:
    """Why a question is void, as the journal says it; empty if it is not."""
    if approval.status == "requested":
        return "" if approval.expires_at > core.now() else TIME_RAN_OUT
    if approval.status != "expired":
        return ""
    # the view's version is the position of the event that made it what it is
    newest = await core.journal.read(approval.run_id, after=approval.version - 1, limit=1)
    event = newest[0].event if newest else None
    why = event.why if isinstance(event, ApprovalExpired) else TIME
    return TIME_RAN_OUT if why == TIME else why


def expired(core: Core, approval: ApprovalView, why: str) -> ApprovalExpired:
    """The event that a question is void."""
    return ApprovalExpired(run_id=approval.run_id, at=core.now(), approval_id=ApprovalId(approval.id), why=why)
