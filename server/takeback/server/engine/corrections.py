"""A rollback that comes too late for a message: what is here is stopped, what has gone is corrected if a person agrees."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from takeback.journal.events import (
    BaseEvent,
    ConflictResolved,
    MailMoved,
    RollbackFinished,
    RollbackStarted,
    RollbackStep,
)
from takeback.journal.ids import ActionId, ConflictId, RollbackId, RunId, new_rollback_id
from takeback.journal.states import altered
from takeback.journal.views import OpenItem
from takeback.server.engine.core import Core
from takeback.server.engine.outcome import Done
from takeback.tools.outbox.acts import is_act
from takeback.tools.outbox.rows import Row, when

STOPPED: Final = "its act was to be taken back, and could not be taken back whole"


async def too_late(core: Core, done: Done) -> Done:
    """A step of a rollback that was not good, of an act with messages: what has not gone out is stopped, and for what has a
    correction is proposed, which waits for a person. Safe to repeat."""
    step = done.step
    if done.good or not core.outbox.store.file.exists():
        return done
    rows = [row for row in await core.outbox.of_action(step.action_id) if not row.corrects]
    for row in rows:
        if row.status == "HELD" and await core.outbox.stop(row.id, STOPPED):
            await tell_late(core, row, STOPPED)
    gone = [row for row in rows if row.status in ("SENT", "UNKNOWN") and not is_act(row.message)]
    if not gone or done.open_item is None:
        return done
    said: list[str] = []
    todo: list[str] = []
    for row in gone:
        whom = ", ".join(row.message.recipients) or row.message.carrier
        if row.status == "UNKNOWN":
            said.append(f"nobody knows whether the message to {whom} went out at {when(row.changed_at)}")
            todo.append(f"Find out, then say it with `takeback outbox settle {row.id}`.")
            continue
        said.append(f"the message to {whom} went out at {when(row.changed_at)}")
        correction = await core.outbox.propose_correction(row)
        if correction is None:
            said.append("no correction could be made for it")
            todo.append("Make up for it by hand, then close this with resolve_conflict (theirs).")
        elif correction.status == "WAITING":
            said.append(f"a correction ({correction.id}) waits for a person's consent")
            todo.append(
                f"Read it with `takeback outbox show {correction.id}`, then `takeback outbox approve {correction.id}`."
            )
    why = "; ".join(said)
    sent = any(row.status == "SENT" for row in gone)
    item = altered(
        done.open_item,
        kind="irreversible" if sent else done.open_item.kind,
        why=why,
        next_step=" ".join(todo) or done.open_item.next_step,
    )
    return replace(done, outcome="irreversible" if sent else done.outcome, why=why, open_item=item)


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
    done = {one.corrects for one in rows if one.corrects and one.status == "SENT"}
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
