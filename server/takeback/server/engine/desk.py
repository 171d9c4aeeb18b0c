"""What a person can do to the messages in the outbox. Each act is a compare-and-set against the sender, and journaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from takeback.journal.events import Caller
from takeback.server.engine import sender
from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core
from takeback.server.engine.corrections import close_items
from takeback.tools.outbox.rows import AT_HOME, Row, Status


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
        state = (await self.core.outbox.look([row.id]))[0]
        try:
            return await self.core.outbox.read(state)
        except Exception:  # not kept any more; the envelope is still there to be shown
            return None

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
