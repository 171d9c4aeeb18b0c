"""The sender: brings messages out when their time has come, each at most once. One process at a time, by a lock.

The order of steps is what the promises rest on; the process may die between any two of them:

1. `HELD → SENDING` by compare-and-set, durable. From here on a rollback cannot cancel it.
2. `mail.sending` in the journal, then noted in the row (`told`). A row that is SENDING without that note has never been begun.
3. The carrier delivers. What it would take for some recipients only is parted first (`unreached.py`), and 2 is done anew.
4. `SENDING → SENT | UNKNOWN | HELD` (to be tried again) `| DEAD`, durable; then the journal, then the note.

What is found SENDING at a start, and had been begun, is asked for at the other side, else UNKNOWN: never sent again. Of what is
UNKNOWN the other side is asked anew, as long as the sender is at work.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import anyio

from takeback.journal.events import BaseEvent, ConflictOpened, MailMoved
from takeback.journal.ids import ActionId, RunId, new_conflict_id
from takeback.journal.log import JournalBusy, JournalError, JournalFull
from takeback.journal.views import ActionView, RunView
from takeback.server.engine import held_acts, unreached
from takeback.server.engine.core import Core
from takeback.server.engine.corrections import close_items, corrected
from takeback.server.engine.faults import fault
from takeback.server.engine.holds import frozen
from takeback.tools.outbox.acts import is_act
from takeback.tools.outbox.parting import rest_of
from takeback.tools.outbox.port import SYSTEM, NotSent, TakenForSome, corrector_of
from takeback.tools.outbox.rows import Row, Status, when
from takeback.tools.outbox.store import RETURNED
from takeback.tools.system import Unavailable

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5
"""How soon the sender sees what others wrote into the outbox."""
PATIENT_SECONDS: Final = 10.0
"""Pause while the outbox or the journal is out of reach."""
DELIVER_SECONDS: Final = 300.0
"""After so long without an answer nobody knows whether a message went out."""
LOOK_SECONDS: Final = 60.0
"""How long after a delivery that broke off it is looked whether it succeeded; then twice as long each time."""
LONGEST_LOOK: Final = 3600.0
LOOK_BOUND: Final = 20.0
"""How long a look may keep from sending."""
LONGEST_PAUSE: Final = 900.0
_FROZEN: Final = ("sealed", "contained", "quarantined")
_EVENTS: Final[dict[Status, str]] = {
    "HELD": "mail.held",
    "SENDING": "mail.sending",
    "SENT": "mail.sent",
    "UNKNOWN": "mail.unknown",
    "CANCELLED": "mail.cancelled",
    "LATE": "mail.late",
    "DEAD": "mail.late",
}


def boot_clock() -> float:
    """Seconds that nobody sets, and that go on while the machine sleeps (where the system has such a clock)."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _nothing(step: str) -> None:
    """The usual `on_step`."""


class Sender:
    """Sends for one data directory. The caller holds the sender's lock."""

    def __init__(
        self, core: Core, *, steady: Callable[[], float] = boot_clock, stop: asyncio.Event | None = None
    ) -> None:
        """
        :param steady: a clock that nobody sets. A message goes out when both clocks say so.
        :param stop: once it is set, what is being sent is ended, and nothing more is begun.
        """
        self._stop = stop or asyncio.Event()
        self._core, self._outbox, self._steady = core, core.outbox, steady
        self._due: dict[str, tuple[float, float]] = {}
        """By message: its `release_at`, and the time on the steady clock before which it does not go out."""
        self._looks: dict[str, tuple[int, float]] = {}
        """By message of which nobody knows: how often it was looked, and when it is again."""
        self._look_at = 0.0
        self.on_step: Callable[[str], object] = _nothing
        """Called between two steps, so that a test can die there, or do something; what it returns is awaited."""

    async def run(self) -> None:
        """Send until nothing is held any more, or it is told to stop.

        What is only out of reach for a moment is waited for.

        :raises JournalError: nothing can be written down any more, so nothing is sent.
        """
        started = behind = False
        while True:
            pause = POLL_SECONDS
            try:
                if not started:
                    await self.start()
                    started = True
                elif behind:
                    await self._catch_up()
                behind = False
                await self.round()
                if self._stop.is_set() or not await self._outbox.waiting():
                    return
            except (Unavailable, JournalBusy, JournalFull) as error:
                log.warning("nothing can be sent now: %s", fault(error))
                pause, behind = PATIENT_SECONDS, True
            if self._stop.is_set():
                return
            with anyio.move_on_after(pause):
                await self._stop.wait()

    async def start(self) -> None:
        """Settle what a sender left that died, and make up the events that it did not come to write."""
        for row in await self._rows("SENDING"):
            if row.told != "SENDING":
                await self._outbox.move(row.id, "HELD", only=("SENDING",), told="", detail="")
            else:
                await self._ask(row, "the sender was stopped while it was at it")
        for row in await self._rows("UNKNOWN"):
            await self._unknown(row, within=DELIVER_SECONDS)
        await self._catch_up()

    async def _catch_up(self) -> None:
        """Make up the events that could not be written when what they tell came about."""
        for row in await self._outbox.rows(None, everything=True):
            if row.told != row.status:
                await self._make_up(row)

    async def round(self) -> int:
        """Send what is due now; how many messages were tried."""
        tried = 0
        for row in await self._rows("HELD"):
            if self._stop.is_set():
                break
            late = self._core.settings.outbox.late_seconds
            if self._outbox.now() > row.release_at + late:
                why = f"it was due at {row.release_time} and could not be sent then"
                if await self._outbox.stop(row.id, why):
                    await self._tell(row.id)
            elif self._is_due(row) and await self._may_leave(row) and await self._is_true(row):
                tried += 1
                await self._send(row)
        if not self._stop.is_set():
            await self._look_again()
        return tried

    async def _look_again(self) -> None:
        """Ask anew about what nobody knew, less and less often: a server that was away may be back, and a copy have come."""
        now = self._steady()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        unknown = await self._rows("UNKNOWN")
        # what is unknown since now has its first look later: what is on its way may still arrive
        looks = {row.id: self._looks.get(row.id, (0, now + LOOK_SECONDS)) for row in unknown}
        for row in unknown:
            times, at = looks[row.id]
            if now >= at:
                looks[row.id] = times + 1, now + min(LOOK_SECONDS * 2 ** (times + 1), LONGEST_LOOK)
                await self._unknown(row, within=LOOK_BOUND)
        self._looks = looks

    async def _unknown(self, row: Row, *, within: float) -> None:
        action = await self._core.journal.get(ActionView, row.action_id) if is_act(row.message) else None
        if action is not None and not action.stands:
            await held_acts.made_up_for(self._core, row.action_id)
        elif row.told == "UNKNOWN":
            await self._ask(row, row.detail, within=within)

    def _is_due(self, row: Row) -> bool:
        left = row.release_at - self._outbox.now()
        release_at, not_before = self._due.get(row.id, (None, 0.0))
        if release_at != row.release_at:
            not_before = self._steady() + max(left, 0.0)
            self._due[row.id] = (row.release_at, not_before)
        # the wall clock may be set forward while a message waits: that must not take from a person's time to think
        return left <= 0 and self._steady() >= not_before

    async def _may_leave(self, row: Row) -> bool:
        """Whether its act is concluded and stands, and its run is not held by anybody."""
        action = await self._core.journal.get(ActionView, row.action_id) if row.action_id else None
        run = await self._core.journal.get(RunView, RunId(row.run_id)) if row.run_id else None
        if action is None or run is None or run.status in _FROZEN or action.status != "applied":
            return False
        return (action.stands or bool(row.corrects)) and not await frozen(self._core, run, action)

    async def _is_true(self, row: Row) -> bool:
        """Whether what it says of something else still holds; if not, a person has to look at it."""
        corrector = self._outbox.correctors.get(corrector_of(row.message.memo))
        if corrector is None:
            return True
        memo = row.message.memo
        object = str(memo.get("object", "")) if isinstance(memo, dict) else ""
        others = await self._outbox.about(corrector.name, object)
        if any(other.status in ("HELD", "SENDING") and _turn(other) < _turn(row) for other in others):
            return False  # what was said first is heard first
        if row.corrects:
            return True  # a person has read it, and agreed
        content = await self._outbox.store.read(lambda rows: rows.content(row.id))
        try:
            with anyio.fail_after(self._core.settings.limits.step_seconds):
                why = await corrector.broken(row.message, content or b"")
        except Exception as error:  # third-party code, or a calendar out of reach: nothing is said that may not be so
            log.warning("it could not be looked whether %s still holds: %s", row.id, fault(error))
            return False
        if why and await self._outbox.stop(row.id, why):
            await self._tell(row.id)
        return not why

    async def _send(self, row: Row) -> None:
        await self._step("due")
        if not await self._outbox.move(row.id, "SENDING", only=("HELD",)):
            return  # cancelled, and that was first
        await self._step("claimed")
        read, row = row, await self._outbox.get(row.id) or row
        try:
            # before it was claimed, a rollback may have sealed the run, or a person contained it, edited it, held it for longer
            if row.release_at != read.release_at or not await self._may_leave(row):
                await self._outbox.move(row.id, "HELD", only=("SENDING",))
                return
            await self._tell(row.id)
        except JournalError:
            await self._outbox.move(row.id, "HELD", only=("SENDING",), told="")
            raise
        await self._step("told")
        row, (status, detail, returned) = await self._deliver(row)
        await self._step("delivered")
        settings = self._core.settings.outbox
        if status == "HELD":
            pause = min(settings.retry_seconds * 2**row.attempts, LONGEST_PAUSE)
            if row.attempts + 1 >= settings.attempts:
                status = "DEAD"
            values: dict[str, Any] = {"attempts": row.attempts + 1, "release_at": self._outbox.now() + pause}
            await self._outbox.move(row.id, status, only=("SENDING",), told="", detail=detail, **values)
        else:
            # what went out is in the object store, as long as retention keeps it
            kept = row.corrects or row.held_as is not None  # of those there is no other copy
            gone = {"content": returned} if status == "SENT" and not kept else {}
            await self._outbox.move(row.id, status, only=("SENDING",), detail=detail, **gone)
        await self._step("noted")
        await self._tell(row.id)
        await self._step("journaled")

    async def _step(self, name: str) -> None:
        waiting = self.on_step(name)
        if inspect.isawaitable(waiting):
            await waiting

    async def _deliver(self, row: Row) -> tuple[Row, tuple[Status, str, bytes | None]]:
        """What came of it, and of which message: for whom it is not taken is left out of it."""
        while True:
            try:
                return row, await self._try(row)
            except TakenForSome as some:
                if not some.refused or not some.refused.keys() < set(row.message.recipients):
                    return row, ("HELD", str(some), None)  # that is nobody, or everybody
                row = await self._part(row, some)

    async def _part(self, row: Row, some: TakenForSome) -> Row:
        settings, now = self._core.settings.outbox, self._outbox.now()
        pause = min(settings.retry_seconds * 2**row.attempts, LONGEST_PAUSE)
        others = unreached.rests(row, some.refused, attempts=settings.attempts, now=now, pause=pause)
        if not await self._outbox.split(row, others):
            raise RuntimeError(f"the message {row.id} is not what was claimed")
        await self._step("parted")
        try:
            for other in others:
                await self._tell(other.id)
            await self._tell(row.id)
        except JournalError:
            await self._outbox.move(row.id, "HELD", only=("SENDING",), told="")
            raise
        await self._step("told")
        return await self._outbox.get(row.id) or row

    async def _try(self, row: Row) -> tuple[Status, str, bytes | None]:
        carrier = self._outbox.carriers.get(row.message.carrier)
        content = await self._outbox.store.read(lambda rows: rows.content(row.id))
        if carrier is None:
            return "HELD", f"nobody here delivers by {row.message.carrier}", None
        if content is None or len(content) != row.message.size:
            return "DEAD", "its bytes are not in the outbox any more", None
        try:
            with anyio.fail_after(DELIVER_SECONDS):
                delivered = await carrier.deliver_to_all(row.message, content)
        except TakenForSome:
            raise
        except NotSent as error:
            return ("HELD" if error.again else "DEAD"), str(error), None
        except Exception as error:  # whatever it was, it may have gone out
            log.warning("nobody knows whether %s went out: %s", row.id, type(error).__name__)
            return "UNKNOWN", f"the delivery broke off: {fault(error)}", None
        returned = RETURNED + json.dumps(delivered.returned).encode("ascii") if delivered.returned is not None else None
        return "SENT", delivered.detail, returned

    async def _ask(self, row: Row, why: str, *, within: float = DELIVER_SECONDS) -> None:
        """Ask the other side whether a message that was begun went out."""
        carrier = self._outbox.carriers.get(row.message.carrier)
        try:
            with anyio.fail_after(within):
                happened = await carrier.happened(row.message) if carrier is not None else None
        except Exception as error:  # third-party code: nobody could say
            log.warning("it could not be looked whether %s went out: %s", row.id, type(error).__name__)
            happened = None
        if happened is None:
            await self._outbox.move(row.id, "UNKNOWN", only=("SENDING",), detail=why)
            return
        await settle(self._core, row.id, sent=happened, by="the sender, by looking")

    # -- the journal ----------------------------------------------------------------------------------------------------------

    async def _make_up(self, row: Row) -> None:
        moves = await _moves(self._core, row)
        if not moves or not _tells_of(moves[-1], row):
            await self._tell(row.id)
        else:
            await self._outbox.told(row.id, row.status)

    async def _tell(self, id: str) -> None:
        await tell(self._core, id)

    async def _rows(self, status: Status) -> list[Row]:
        return [row for row in await self._outbox.rows(None) if row.status == status]


def _tells_of(move: MailMoved, row: Row) -> bool:
    """Whether that is where the message stands, what a person did to one that is held as before (edited it …) among it."""
    held = None if move.release_at is None else move.release_at.timestamp()
    same_time = row.status != "HELD" or (held is not None and abs(held - row.release_at) < 0.002)
    return move.type == _EVENTS.get(row.status) and move.detail == row.detail and same_time


async def tell(core: Core, id: str) -> None:
    """Write down in the journal where a message stands now, with what that leaves open for a person.

    :raises JournalError: it cannot be written; whoever comes next makes up for it.
    """
    row = await core.outbox.get(id)
    if row is None or row.status not in _EVENTS or not row.action_id:
        return  # an act that is not concluded says by itself what it held
    events: list[BaseEvent] = [
        MailMoved.model_validate(
            {
                "type": _EVENTS[row.status],
                "run_id": row.run_id,
                "at": core.now(),
                "action_id": row.action_id,
                "message_id": row.id,
                "release_at": datetime.fromtimestamp(row.release_at, UTC) if row.status == "HELD" else None,
                "detail": row.detail,
                "rest_of": "" if row.corrects else rest_of(row.message),
            }
        )
    ]
    if row.status in ("UNKNOWN", "DEAD"):
        events.append(_open_item(core, row))
    if row.status == "SENT" and row.corrects:
        events += await corrected(core, row)
    if is_act(row.message):
        await held_acts.record(core, row, events)
    else:
        await core.record(events)
    await core.outbox.told(row.id, row.status)


def _turn(row: Row) -> tuple[float, int]:
    """The order of messages about one object."""
    turn = row.message.memo.get("turn") if isinstance(row.message.memo, dict) else None
    return row.held_at, turn if isinstance(turn, int) else 0


def _open_item(core: Core, row: Row) -> ConflictOpened:
    act = is_act(row.message)
    if row.status == "UNKNOWN":
        out, arrived = ("was done", "happened") if act else ("went out", "arrived")
        why = f"nobody knows whether {row.named} {out} at {when(row.changed_at)}: {row.detail}"
        todo = f"Look whether it {arrived}, then say so: `takeback outbox settle {row.id} --sent` or `--not-sent`"
        todo += "; or roll it back, which makes up for it whether it happened or not." if act else "."
    else:
        why = f"{row.named} could not be {'done' if act else 'sent'} ({row.attempts} attempts): {row.detail}"
        todo = f"Remove the cause, then `takeback outbox send-now {row.id}`; or `takeback outbox cancel {row.id}`."
    return ConflictOpened(
        run_id=RunId(row.run_id),
        at=core.now(),
        conflict_id=new_conflict_id(),
        kind="failed",
        action_id=ActionId(row.action_id),
        system=SYSTEM,
        object=row.id,
        why=why,
        next_step=todo,
    )


async def settle(core: Core, id: str, *, sent: bool, by: str) -> bool:
    """Say whether a message went out of which nobody knew; what was open about it is closed. Whether it was in doubt."""
    before = await core.outbox.get(id)
    only: tuple[Status, ...] = ("UNKNOWN", "SENDING") if by.startswith("the sender") else ("UNKNOWN",)
    detail = f"it went out, said {by}" if sent else f"it did not go out, said {by}"
    if before is None or not await core.outbox.move(
        id, "SENT" if sent else "LATE", only=only, detail=detail, changed_at=before.changed_at
    ):
        return False
    await close_items(core, before, why=detail)
    await tell(core, id)
    return True


async def _moves(core: Core, row: Row) -> list[MailMoved]:
    """What the journal has heard of a message, in order."""
    after, moves = 0, list[MailMoved]()
    while events := await core.journal.read(RunId(row.run_id), after=after):
        for recorded in events:
            event = recorded.event
            if isinstance(event, MailMoved) and event.message_id == row.id:
                moves.append(event)
        after = events[-1].position
    return moves
