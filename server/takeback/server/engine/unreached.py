"""Recipients whom a server refuses while it takes the message for others: parted before it leaves, told, called back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from takeback.journal.events import MailMoved
from takeback.journal.ids import ActionId, RunId, new_message_id
from takeback.server.engine.core import Core
from takeback.tools.outbox.parting import part, rest_of
from takeback.tools.outbox.port import NotSent
from takeback.tools.outbox.rows import Row

CALLED_BACK: Final = "its act was to be taken back, so nobody else gets it"


def rests(row: Row, refused: Mapping[str, NotSent], *, attempts: int, now: float, pause: float) -> list[Row]:
    """What of a message is not taken: for good, which waits for a person, and for now, which is tried again.

    :param attempts: after so many, what is not taken for now waits for a person too.
    :param pause: seconds until it is tried again.
    """
    lost = [to for to, why in refused.items() if not why.again or row.attempts + 1 >= attempts]
    later = [to for to in refused if to not in lost]
    made: list[Row] = []
    for recipients, dead in ((lost, True), (later, False)):
        if recipients:
            made.append(
                replace(
                    row,
                    id=new_message_id(),
                    status="DEAD" if dead else "HELD",
                    message=part(row.message, recipients, rest=rest_of(row.message) or row.id),
                    release_at=now + (0.0 if dead else pause),
                    attempts=row.attempts + 1,
                    changed_at=now,
                    detail="; ".join(str(refused[to]) for to in recipients),
                    told="",
                    held_as=None,
                )
            )
    return made


async def call_back(core: Core, action_id: str) -> Sequence[Row]:
    """An act is taken back: whom its messages have not reached by now, they never will. The rests that were called back, now or
    before; what is open about them is left to the caller. Safe to repeat.

    :raises TargetError: the outbox is out of reach.
    """
    found = [row for row in await core.outbox.of_action(action_id) if is_rest(row)]
    if not found:
        return ()
    await core.outbox.look([row.id for row in found])  # what is on its way is waited for
    for row in found:
        await core.outbox.move(
            row.id, "CANCELLED", only=("HELD", "LATE", "DEAD"), told="", detail=CALLED_BACK, content=None
        )
    called = [row for row in await core.outbox.of_action(action_id) if is_rest(row) and row.detail == CALLED_BACK]
    for row in called:
        if row.told != row.status:
            moved = MailMoved(
                type="mail.cancelled", run_id=RunId(row.run_id), at=core.now(), action_id=ActionId(row.action_id),
                message_id=row.id, detail=CALLED_BACK, rest_of=rest_of(row.message),
            )  # fmt: skip
            await core.record([moved])
            await core.outbox.told(row.id, "CANCELLED")
    return called


def never_reached(called: Sequence[Row]) -> str:
    """Who never got a message that others got, in a sentence."""
    whom = dict.fromkeys(to for row in called for to in row.message.recipients)
    return f"{', '.join(whom)} never got it, and will not"


def is_rest(row: Row) -> bool:
    """Whether it is what is left of a message, for whom that was not taken."""
    return bool(rest_of(row.message)) and not row.corrects
