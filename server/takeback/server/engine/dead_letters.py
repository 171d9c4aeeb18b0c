"""What waits for a person: what could not be done after all tries, what nobody knows, what was not allowed.

Each with what it was about and the commands that go on, filled in, so that nobody has to look anything up before they act.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import JsonValue

from takeback.journal.events import Caller
from takeback.journal.states import State
from takeback.journal.views import ActionView, OpenItem, RunView
from takeback.server.engine.answers import EngineError, OpenThing
from takeback.server.engine.calling import known_by, known_by_items
from takeback.server.engine.conflicts import Conflicts
from takeback.server.engine.core import Core, rfc3339
from takeback.server.engine.corrections import close_items
from takeback.server.engine.pages import Visible
from takeback.server.engine.report import asked, value_in_words
from takeback.server.engine.reporting import titles
from takeback.server.engine.sender import tell
from takeback.server.engine.wording import full_stop, listed, name, sentence, shown
from takeback.tools.outbox.parting import left_out, rest_of
from takeback.tools.outbox.port import SYSTEM as OUTBOX
from takeback.tools.outbox.rows import Row, when
from takeback.tools.system import TargetError
from takeback.tools.titles import mail_called

NOTICES = "notices"
_WAITING: tuple[Literal["UNKNOWN", "LATE", "DEAD", "WAITING"], ...] = ("UNKNOWN", "LATE", "DEAD", "WAITING")


async def everything_open(core: Core, caller: Caller, *, run_id: str | None = None) -> list[OpenThing]:
    """Everything that waits for a person, oldest first.

    :param run_id: of one run only.
    :raises EngineError: unknown or foreign run.
    """
    if run_id is not None:
        await core.run(caller, run_id, "look")
    visible, things = Visible(core, caller), list[OpenThing]()
    items = [
        item
        for item in await core.journal.find(OpenItem, status="open", oldest_first=True)
        if run_id in (None, item.run_id) and await visible.sees(item.run_id)
    ]
    rows = {row.id: row for row in await _rows(core, caller) if run_id in (None, row.run_id)}
    for item in items:
        things.append(await _item(core, item, rows.pop(item.object, None) if item.system == OUTBOX else None))
    named = {item.action_id for item in items if item.kind == "in_doubt"}
    for action in await core.journal.find(ActionView, status="in_doubt", oldest_first=True):
        if action.id not in named and run_id in (None, action.run_id) and await visible.sees(action.run_id):
            things.append(await _doubt(core, action))
    things += [await _mail(core, row) for row in rows.values()]
    return sorted(things, key=lambda thing: thing.opened_at)


async def settle(core: Core, conflicts: Conflicts, caller: Caller, item_id: str, reason: str) -> OpenThing:
    """Close something in a person's words; what it was. The world stays as it is.

    :raises EngineError: no reason, unknown or foreign, or it has to be said first what happened.
    """
    if not reason.strip():
        raise EngineError(
            "invalid", "Closing something needs a reason.", "Say what was done about it, or why nothing is."
        )
    thing = next((each for each in await everything_open(core, caller) if each.item_id == item_id), None)
    if thing is None:
        raise EngineError("not_found", f"There is no open item {item_id!r}.", "takeback open lists them.")
    message = str(thing.details.get("message_id") or "")
    if thing.kind == "in_doubt" or (message and thing.details.get("message_status") == "UNKNOWN"):
        raise EngineError(
            "in_doubt", "Nobody knows whether it happened, and a reason does not settle that.", thing.next_step
        )
    why = f"settled by {caller.principal}: {reason.strip()}"
    if message:
        await _drop(core, message, why)
    if item_id.startswith("cfl_"):
        await _close(core, conflicts, caller, item_id, why)
    return thing


async def _close(core: Core, conflicts: Conflicts, caller: Caller, item_id: str, why: str) -> None:
    item = await core.journal.get(OpenItem, item_id)
    if item is None or item.status != "open":
        return  # with its message
    await conflicts.resolve(caller, item_id, "theirs", None, why=why)
    if item.system == NOTICES:
        from takeback.server.notices.desk import NoticeDesk  # only where there are notices

        await NoticeDesk(core).settled(item.object)


async def _drop(core: Core, message_id: str, why: str) -> None:
    row = await core.outbox.get(message_id)
    moved = await core.outbox.move(
        message_id, "CANCELLED", only=("LATE", "DEAD", "WAITING"), told="", detail=why, content=None
    )
    if row is None or not moved:
        raise EngineError("changed", f"The message {message_id} is not what it was.", "Look at it: takeback outbox.")
    await close_items(core, row, why=why)
    await tell(core, message_id)


# --- each kind --------------------------------------------------------------------------------------------------------


async def _item(core: Core, item: OpenItem, row: Row | None) -> OpenThing:
    if row is not None:
        thing = await _mail(core, row)
        return thing.model_copy(
            update={"item_id": item.id, "next_step": item.next_step, "why": item.why, "settle": _settling(item.id)}
        )
    action = await core.journal.get(ActionView, item.action_id)
    display = await known_by_items(core, [item])
    by_hand = [_called(core, action)] if action is not None else []
    if item.ours is not None and item.kind != "in_doubt":
        by_hand.append(_wanted(item.ours))
    if item.theirs is not None and item.kind == "conflict":
        by_hand.append(f"Look at all versions: takeback resolve {item.id}")
    return OpenThing(
        item_id=item.id,
        kind="notice" if item.system == NOTICES else item.kind,
        run_id=item.run_id,
        goal=await _goal(core, item.run_id),
        action_id=item.action_id,
        object=display(item.system, item.object),
        why=item.why,
        next_step=item.next_step,
        opened_at=rfc3339(item.opened_at),
        by_hand=by_hand,
        settle=f"takeback resolve {item.id} --keep theirs" if item.kind == "in_doubt" else _settling(item.id),
        details=_details(action) | {"system": item.system, "object": item.object},
    )


async def _doubt(core: Core, action: ActionView) -> OpenThing:
    effect = next(iter(action.effects), None)
    return OpenThing(
        item_id=action.id,
        kind="in_doubt",
        run_id=action.run_id,
        goal=await _goal(core, action.run_id),
        action_id=action.id,
        object=(await known_by(core, [effect]))(effect.system, effect.object) if effect is not None else action.tool,
        why=action.error or "nobody knows whether it took effect",
        next_step="takeback serve and takeback rollback look whether it did, and settle it.",
        opened_at=rfc3339(action.concluded_at or action.at),
        by_hand=[_called(core, action)],
        settle=f"takeback rollback --action {action.id}",
        details=_details(action),
    )


async def _mail(core: Core, row: Row) -> OpenThing:
    whom = listed([sentence(each) for each in row.message.recipients]) or row.message.carrier
    what = f"The message {name(row.message.subject)} to {whom}, {row.message.size} bytes, from {when(row.held_at)}."
    next_step = {
        "UNKNOWN": f"Look whether it arrived, then say so: takeback outbox settle {row.id} --sent or --not-sent.",
        "WAITING": f"Read it, then agree: takeback outbox approve {row.id}; or takeback outbox cancel {row.id}.",
    }.get(row.status, f"Send it: takeback outbox send-now {row.id}; or drop it: takeback outbox cancel {row.id}.")
    fact = "a correction that waits for consent" if row.status == "WAITING" else f"the message is {row.status.lower()}"
    return OpenThing(
        item_id=row.id,
        kind="mail",
        run_id=row.run_id,
        goal=await _goal(core, row.run_id),
        action_id=row.action_id,
        object=f"{mail_called(row.message.subject, row.message.recipients)} ({row.id})",
        why=row.detail or fact,
        next_step=next_step,
        opened_at=when(row.changed_at),
        by_hand=[what, f"Read it: takeback outbox show {row.id}", *_others(row)],
        settle=_settling(row.id),
        details={
            "message_id": row.id,
            "message_status": row.status,
            "recipients": list(row.message.recipients),
            "subject": row.message.subject,
            "attempts": row.attempts,
            **({"rest_of": rest_of(row.message)} if _others(row) else {}),
        },
    )


def _others(row: Row) -> list[str]:
    """That others were meant to get it too, if this is what is left of a message."""
    if row.corrects or not rest_of(row.message):
        return []
    whom = listed([sentence(each) for each in left_out(row.message)])
    return [
        f"It is what is left of a message to {whom} too; what became of that: takeback outbox show {rest_of(row.message)}"
    ]


def _settling(id: str) -> str:
    return f"takeback settle {id} --reason …"


def _called(core: Core, action: ActionView) -> str:
    """The act, whole: what a person needs to do or undo it by hand."""
    told = [f"{shown(key)} {value_in_words(value)}" for key, value in action.requested.items() if value is not None]
    step = f" in the step {name(action.step)}" if action.step else ""
    what = asked(action, titles(core))
    return full_stop(f"It was {what} at {rfc3339(action.at)}{step}{', with ' + listed(told) if told else ''}")


def _wanted(state: State) -> str:
    if state.absent:
        return "To take it back means that it is not there."
    size = "" if state.size is None else f" of {state.size} bytes"
    return f"To take it back means the {state.kind}{size} that was there before."


def _details(action: ActionView | None) -> dict[str, JsonValue]:
    if action is None:
        return {}
    return {
        "tool": action.tool,
        "step": action.step,
        "arguments": action.requested,
        "at": rfc3339(action.at),
        "reversibility": action.reversibility,
    }


async def _goal(core: Core, run_id: str) -> str:
    run = await core.journal.get(RunView, run_id)
    return run.goal if run is not None else ""


async def _rows(core: Core, caller: Caller) -> Sequence[Row]:
    if not core.outbox.store.file.exists():
        return ()
    try:
        return [row for row in await core.outbox.rows(caller.principal) if row.status in _WAITING]
    except TargetError:
        return ()  # those of them that were told stand in the journal
