"""What a person can do to the messages in the outbox. Each act is a compare-and-set against the sender, and journaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from takeback.journal.events import Caller
from takeback.server.engine import sender
from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core
from takeback.server.engine.corrections import close_items
from takeback.tools.outbox.rows import AT_HOME, Row, Status

if TYPE_CHECKING:
    from takeback.tools.email.compose import Letter

DIGEST: Final = len("blake3:") + 16
"""Characters of a digest in a sentence: enough to hold bytes against it."""
EDITABLE: Final = ("HELD", "LATE", "DEAD")
MAIL: Final = "mail:"
"""How carriers of mailboxes are called (`takeback.tools.email.send_tool`), which is loaded only where there is mail to do."""


@dataclass(slots=True)
class Desk:
    """For one engine."""

    core: Core

    async def rows(self, caller: Caller, *, everything: bool = False) -> Sequence[Row]:
        """The caller's messages, due first in front."""
        if not self.core.outbox.store.file.exists():
            return ()
        return await self.core.outbox.rows(caller.principal, everything=everything)

    async def row(self, caller: Caller, given: str) -> Row:
        """One message, by its id or the id's first characters.

        :raises EngineError: unknown or foreign (the same answer), or several begin so.
        """
        wanted = given if given.startswith("msg_") else f"msg_{given}"
        found = [row for row in await self.rows(caller, everything=True) if row.id.startswith(wanted)] if given else []
        if not found:
            raise EngineError("not_found", f"There is no message {given!r}.", "takeback outbox lists them.")
        if len(found) > 1:
            raise EngineError(
                "ambiguous", f"{len(found)} ids begin with {given!r}.", "Give one or two characters more."
            )
        return found[0]

    async def content(self, row: Row) -> bytes | None:
        """The bytes of a message, as far as they are kept."""
        if row.held_as is not None:
            return await self.core.outbox.store.read(lambda rows: rows.content(row.id))
        state = (await self.core.outbox.look([row.id]))[0]
        try:
            return await self.core.outbox.read(state)
        except Exception:  # not kept any more; the envelope is still there to be shown
            return None

    async def letter(self, row: Row) -> Letter:
        """What a message says, to be edited.

        :raises EngineError: it is no mail, has left, or holds what would be lost.
        """
        from takeback.tools.email.addresses import BadText
        from takeback.tools.email.editing import letter_of

        if row.status not in EDITABLE:
            raise _not_so(row, "another message")
        carrier = self.core.outbox.carriers.get(row.message.carrier)
        if row.attempts and (carrier is None or carrier.local):
            raise EngineError(
                "not_possible",
                f"It was tried to bring {row.id} to several mailboxes, and one of them may have it already.",
                "Cancel it, and write another one.",
            )
        content = await self.content(row)
        if content is None or not row.message.carrier.startswith(MAIL) or row.message.memo is not None:
            raise EngineError(
                "not_possible",
                f"{row.id} is no mail of its own, so it cannot be edited.",
                "Cancel it, or change what it is about.",
            )
        try:
            return letter_of(row.message, content)
        except BadText as error:
            raise EngineError("not_possible", str(error), error.advice) from error

    async def edit(self, caller: Caller, row: Row, letter: Letter) -> Row:
        """Let a held message say something else. It is held for its whole window again, and at least as long as before; its act
        still holds it, and taking that back still calls it back.

        :param row: as it was when the letter was made from it.
        :raises EngineError: it cannot be sent so, or is not what it was any more (it has left, or somebody else edited it).
        """
        from blake3 import blake3

        from takeback.tools.email.addresses import BadText
        from takeback.tools.email.compose import build
        from takeback.tools.email.editing import outgoing

        now = await self.row(caller, row.id)
        if (now.status, now.message) != (row.status, row.message):
            raise _not_so(now, "what you made of it")
        row, before = now, await self.letter(now)
        if letter == before:
            return row
        try:
            data = build(letter)
        except BadText as error:
            raise EngineError("invalid", str(error), error.advice) from error
        digest = f"blake3:{blake3(data).hexdigest()}"
        parts = ("to", "cc", "bcc", "subject", "body")
        what = ", ".join(part for part in parts if getattr(letter, part) != getattr(before, part))
        why = f"{what} edited by {caller.principal}; it was {row.message.content[:DIGEST]}, and is {digest[:DIGEST]}"
        release_at = max(row.release_at, self.core.outbox.now() + row.window)
        message = outgoing(letter, row.message, digest, len(data))
        values = {"told": "", "detail": why, "release_at": release_at if row.status == "HELD" else row.release_at}
        if not await self.core.outbox.replace(row, message, data, **values):
            raise _not_so(await self.row(caller, row.id), "what you made of it")
        await sender.tell(self.core, row.id)
        return await self.row(caller, row.id)

    async def cancel(self, caller: Caller, given: str) -> Row:
        """Cancel a message that has not gone out."""
        return await self._move(caller, given, "CANCELLED", AT_HOME, f"cancelled by {caller.principal}", content=None)

    async def send_now(self, caller: Caller, given: str) -> Row:
        """Let a message go out at once, also one that was late or could not be sent."""
        now = self.core.outbox.now()
        return await self._move(
            caller,
            given,
            "HELD",
            ("HELD", "LATE", "DEAD"),
            f"sent at once by {caller.principal}",
            release_at=now,
            attempts=0,
        )

    async def approve(self, caller: Caller, given: str) -> Row:
        """Consent to a correction: it goes out."""
        now = self.core.outbox.now()
        return await self._move(
            caller, given, "HELD", ("WAITING",), f"approved by {caller.principal}", release_at=now, attempts=0
        )

    async def hold_longer(self, caller: Caller, given: str, seconds: float) -> Row:
        """Hold a message for so many more seconds."""
        row = await self.row(caller, given)
        release_at = max(row.release_at, self.core.outbox.now()) + seconds
        return await self._move(
            caller, row.id, "HELD", ("HELD", "LATE"), f"held longer by {caller.principal}", release_at=release_at
        )

    async def settle(self, caller: Caller, given: str, *, sent: bool) -> Row:
        """Say whether a message went out of which nobody knew."""
        row = await self.row(caller, given)
        if not await sender.settle(self.core, row.id, sent=sent, by=caller.principal):
            raise _not_so(row, "settled")
        return await self.row(caller, row.id)

    async def _move(
        self,
        caller: Caller,
        given: str,
        status: Status,
        only: tuple[Status, ...],
        why: str,
        **values: Any,
    ) -> Row:
        row = await self.row(caller, given)
        if not await self.core.outbox.move(row.id, status, only=only, told="", detail=why, **values):
            raise _not_so(await self.row(caller, row.id), status.lower())
        if row.status == "DEAD":
            await close_items(self.core, row, why=why)
        await sender.tell(self.core, row.id)
        return await self.row(caller, row.id)


def _not_so(row: Row, wanted: str) -> EngineError:
    return EngineError(
        "not_possible",
        f"{row.id} is {row.status.lower()}, so it cannot become {wanted}.",
        "Look at it: takeback outbox.",
    )
