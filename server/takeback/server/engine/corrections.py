"""A rollback that comes too late for a message: what is here is stopped, what has gone is corrected if a person agrees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from takeback.journal.events import (
    BaseEvent,
    ConflictResolved,
    MailMoved,
    RollbackFinished,
    RollbackStarted,
    RollbackStep,
    UndoOutcome,
)
from takeback.journal.ids import ActionId, ConflictId, RollbackId, RunId, new_rollback_id
from takeback.journal.states import altered
from takeback.journal.views import OpenItem
from takeback.server.engine.core import Core
from takeback.server.engine.outcome import Done
from takeback.server.engine.plan import PlanStep
from takeback.server.engine.unreached import call_back, is_rest, never_reached
from takeback.tools.outbox.acts import is_act
from takeback.tools.outbox.port import SYSTEM, corrector_of
from takeback.tools.outbox.rows import Row, when

STOPPED: Final = "its act was to be taken back, and could not be taken back whole"


async def too_late(core: Core, done: Done, open_: Callable[[PlanStep, UndoOutcome, str], Done]) -> Done:
    """A step of a rollback of an act with messages: what has not gone out is stopped if the step was not good, and for what
    has a correction is proposed, which waits for a person. Safe to repeat.

    What is said of another object (`Corrector`) is made up for only once that is as it was before: then the step was good but
    for the messages.

    :param open_: makes a step that leaves something open (`Ledger.open`).
    """
    step = done.step
    spans = any(effect.system == SYSTEM for effect in (*step.wanted, *step.effects))
    if (done.good and not spans) or not core.outbox.store.file.exists():
        return done
    called = await call_back(core, step.action_id)
    for row in called:
        await close_items(core, row, why=row.detail)
    mine = await core.outbox.of_action(step.action_id)
    rows = [row for row in mine if not row.corrects]
    gone = [row for row in rows if _gone(row) and not is_act(row.message)]
    elsewhere = _uncorrected(core, mine)
    if done.good:
        # what was held could be called back; not what went to others of its recipients before it
        made_up = _made_up(mine)
        gone = [*elsewhere, *(row for row in gone if is_rest(row) and row not in elsewhere and row.id not in made_up)]
        if not gone:
            return done
        opened = open_(step, "failed", done.why)
        done = replace(done, outcome="failed", open_item=opened.open_item, made_way=True)
    else:
        for row in rows:
            if row.status == "HELD" and await core.outbox.stop(row.id, STOPPED):
                await tell_late(core, row, STOPPED)
        if elsewhere and done.open_item is not None:
            return _as_it_is(done, elsewhere)
    if not gone or done.open_item is None:
        return done
    said: list[str] = ["all else is as it was before"] if done.made_way else []
    todo: list[str] = []
    for row in gone:
        whom = ", ".join(row.message.recipients) or row.message.carrier
        if row.status == "UNKNOWN":
            said.append(f"nobody knows whether the message to {whom} went out at {when(row.changed_at)}")
            then = ", and roll back once more for a correction if it did" if done.made_way else ""
            todo.append(f"Find out, then say it with `takeback outbox settle {row.id}`{then}.")
            continue
        if row.status == "SENDING":
            said.append(f"the message to {whom} is being sent right now")
            todo.append("Roll back once more in a moment, for a correction if it has left.")
            continue
        said.append(f"the message to {whom} went out at {when(row.changed_at)}")
        corrections = await core.outbox.propose_corrections(row)
        if not corrections:
            said.append("no correction could be made for it")
            todo.append("Make up for it by hand, then close this with resolve_conflict (theirs).")
        for correction in corrections:
            if correction.status != "WAITING":
                continue
            said.append(f"a correction ({correction.id}) waits for a person's consent")
            todo.append(
                f"Read it with `takeback outbox show {correction.id}`, then `takeback outbox approve {correction.id}`."
            )
    if called:
        said.append(never_reached(called))
    why = "; ".join(said)
    sent = any(row.status == "SENT" for row in gone)
    item = altered(
        done.open_item,
        kind="irreversible" if sent else done.open_item.kind,
        why=why,
        next_step=" ".join(todo) or done.open_item.next_step,
    )
    return replace(done, outcome="irreversible" if sent else done.outcome, why=why, open_item=item)


def _gone(row: Row) -> bool:
    """Whether it has left, or may have: what is left of a message goes its own way, and none waits for another."""
    return row.status in ("SENT", "UNKNOWN") or (row.status == "SENDING" and is_rest(row))


def _as_it_is(done: Done, gone: Sequence[Row]) -> Done:
    """Guests were told of what still stands: there is nothing to put right as long as it does."""
    whom = ", ".join(dict.fromkeys(to for row in gone for to in row.message.recipients))
    why = f"{done.why}; {whom} were told of it, or may have been, and that still holds"
    todo = "Settle what stands in the way, then roll back again: then a correction for them is proposed."
    assert done.open_item is not None, "seen to by the caller"
    next_step = f"{done.open_item.next_step} {todo}"
    return replace(done, why=why, open_item=altered(done.open_item, why=why, next_step=next_step))


async def uncorrected(core: Core, action_id: str) -> str:
    """Who was told by an act how another object stands, or may have been, and has not been told otherwise; empty: nobody."""
    if not core.outbox.store.file.exists():
        return ""
    rows = await core.outbox.of_action(action_id)
    return ", ".join(dict.fromkeys(to for row in _uncorrected(core, rows) for to in row.message.recipients))


def _uncorrected(core: Core, rows: Sequence[Row]) -> list[Row]:
    made_up = _made_up(rows)
    return [
        row
        for row in rows
        if not row.corrects
        and row.status in ("SENT", "UNKNOWN")
        and row.id not in made_up
        and corrector_of(row.message.memo) in core.outbox.correctors
    ]


def _made_up(rows: Sequence[Row]) -> set[str]:
    """Messages whose corrections have all gone out, but for those that a person has cancelled."""
    sent = {row.corrects for row in rows if row.corrects and row.status == "SENT"}
    return sent - {row.corrects for row in rows if row.corrects and row.status not in ("SENT", "CANCELLED")}


async def tell_late(core: Core, row: Row, why: str) -> None:
    """Write down that a message waits for a person."""
    await core.record(
        [
            MailMoved(
                type="mail.late",
                run_id=RunId(row.run_id),
                at=core.now(),
                action_id=ActionId(row.action_id),
                message_id=row.id,
                detail=why,
            )
        ]
    )
    await core.outbox.told(row.id, "LATE")


async def corrected(core: Core, row: Row) -> list[BaseEvent]:
    """A correction went out: with the last one of its act, what was open about the act is made up for."""
    why = f"a correction went out at {when(row.changed_at)}, with a person's consent"
    rows = await core.outbox.of_action(row.action_id)
    done = _made_up(rows)
    left = [one for one in rows if not one.corrects and one.status in ("SENT", "UNKNOWN") and one.id not in done]
    items = [item for item in await _items(core, row) if item.kind == "irreversible"]
    if left or not items:
        return []
    rollback_id, caller = new_rollback_id(), core.nobody
    events: list[BaseEvent] = [
        RollbackStarted(
            run_id=items[0].run_id,
            at=core.now(),
            rollback_id=rollback_id,
            kind="resolve",
            by=caller,
            plan={"conflict_id": items[0].id, "choice": "settled", "object": row.corrects},
            plan_digest="",
        ),
        RollbackStep(
            run_id=items[0].run_id,
            at=core.now(),
            rollback_id=rollback_id,
            index=0,
            phase="concluded",
            action_id=ActionId(row.action_id),
            outcome="compensated",
            why=why,
            stands=False,
        ),
        RollbackFinished(run_id=items[0].run_id, at=core.now(), rollback_id=rollback_id, status="complete"),
    ]
    return events + [_closed(core, item, why, rollback_id) for item in items]


async def close_items(core: Core, row: Row, *, why: str) -> None:
    """Close what is open about this one message."""
    events: list[BaseEvent] = [
        _closed(core, item, why) for item in await _items(core, row) if item.object == row.id and item.kind == "failed"
    ]
    if events:
        await core.record(events)


async def _items(core: Core, row: Row) -> list[OpenItem]:
    items = await core.journal.find(OpenItem, run_id=RunId(row.run_id), status="open")
    return [item for item in items if item.action_id == row.action_id]


def _closed(core: Core, item: OpenItem, why: str, rollback_id: RollbackId | None = None) -> ConflictResolved:
    return ConflictResolved(
        run_id=item.run_id,
        at=core.now(),
        conflict_id=ConflictId(item.id),
        choice="settled",
        by="outbox",
        why=why,
        rollback_id=rollback_id,
    )
