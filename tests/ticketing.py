"""A tool of the kind that a user writes, whose act waits in the outbox: `open_ticket` opens a ticket, as a file of a folder.

How the other side behaves stands in the file `mode` of the folder, so that another process can be told too.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Literal
from uuid import uuid4

from pydantic import Field

from takeback.tools.contract import Arguments, CallContext, CompensableTool, Result, Target, ToolError, Unknown
from takeback.tools.registry import Services


class TicketArguments(Arguments):
    text: str = Field(min_length=1, max_length=200, description="What the ticket says.")


class TicketMemo(Result):
    key: str
    text: str


class TicketOpened(Result):
    key: str
    number: int


class OpenTicket(CompensableTool[TicketArguments, TicketMemo, TicketOpened]):
    name, title = "open_ticket", "Open a ticket"
    description = "Opens a ticket after a while, in which it can be called off."
    arguments, memo, outcome = TicketArguments, TicketMemo, TicketOpened
    destructive, how, hold = False, "Close the ticket again.", 60.0

    def __init__(self, services: Services) -> None:
        self.folder = services.data / "tickets"
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def mode(self) -> str:
        file = self.folder / "mode"
        return file.read_text() if file.exists() else "well"

    @mode.setter
    def mode(self, mode: str) -> None:
        (self.folder / "mode").write_text(mode)

    def tickets(self) -> list[str]:
        return sorted(file.read_text() for file in self.folder.glob("ticket-*"))

    def lines(self, name: str) -> list[str]:
        """What was done how often: `opened`, `closed`, `told` (the outcome that a compensation was given)."""
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def note(self, name: str, line: str) -> None:
        (self.folder / name).write_text("".join(f"{each}\n" for each in [*self.lines(name), line]))

    async def targets(self, arguments: TicketArguments, context: CallContext) -> list[Target]:
        return [Target("tickets", arguments.text)]

    def capture(self, arguments: TicketArguments, context: CallContext) -> TicketMemo:
        return TicketMemo(key=uuid4().hex, text=arguments.text)

    def apply(self, arguments: TicketArguments, memo: TicketMemo) -> TicketOpened:
        assert arguments.text == memo.text
        mode = self.mode
        if mode == "die before":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "away":
            raise ToolError("nobody answers", advice="Wait.", code="unavailable")
        if mode == "refused":
            raise ToolError("no tickets on Sundays", advice="Come back tomorrow.")
        (self.folder / f"ticket-{memo.key}").write_text(memo.text)
        self.note("opened", memo.key)
        if mode == "die after":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode in ("lost", "lost, blind"):
            raise ConnectionResetError("the connection was lost")
        return TicketOpened(key=memo.key, number=len(self.lines("opened")))

    def happened(self, memo: TicketMemo) -> TicketOpened | Literal[False] | Unknown:  # type: ignore[override]  # plain functions are allowed
        if "blind" in self.mode:
            return Unknown()
        return TicketOpened(key=memo.key, number=0) if (self.folder / f"ticket-{memo.key}").exists() else False

    def compensate(self, memo: TicketMemo, outcome: TicketOpened | Unknown) -> str:  # type: ignore[override]  # as above
        self.note("told", "unknown" if isinstance(outcome, Unknown) else str(outcome.number))
        file: Path = self.folder / f"ticket-{memo.key}"
        if file.exists() and not memo.text.startswith(file.read_text()):
            raise RuntimeError("Somebody changed the ticket since, so it was left as it is.")
        file.unlink(missing_ok=True)
        self.note("closed", memo.key)
        return "Closed the ticket."

    def summary(self, arguments: TicketArguments, outcome: TicketOpened) -> str:
        return f"Opened ticket {outcome.number}."
