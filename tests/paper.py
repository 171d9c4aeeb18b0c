"""Tools for tests of the outbox: `post` holds a letter, and the carrier `paper` brings it out by writing it into a folder.

A file of the system's own, as a user would name it in `[tools] modules`. How the carrier behaves stands in the file `mode` of
the folder, so that another process can be told too.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel

from takeback.journal.states import Effect
from takeback.tools.contract import Arguments, CallContext, Prepared, Result, ReversibleTool, SwapPrepared
from takeback.tools.outbox.port import Carrier, Delivered, NotSent, Outgoing
from takeback.tools.outbox.system import OutboxSystem
from takeback.tools.registry import Family, Services


class PaperCarrier(Carrier):
    name = "paper"
    local = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def mode(self) -> str:
        file = self.folder / "mode"
        return file.read_text() if file.exists() else "well"

    @mode.setter
    def mode(self, mode: str) -> None:
        (self.folder / "mode").write_text(mode)

    def letters(self) -> list[str]:
        """Each line is one letter that was brought out."""
        file = self.folder / "letters"
        return file.read_text().splitlines() if file.exists() else []

    async def deliver(self, message: Outgoing, content: bytes) -> Delivered:
        mode = self.mode
        if mode == "die before":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "away":
            raise NotSent("nobody answers", again=True)
        if mode == "refused":
            raise NotSent("there is no such address", again=False)
        with (self.folder / "letters").open("a") as file:
            file.write(message.reference + "\n")
        (self.folder / message.reference.strip("<>").replace("/", "_")).write_bytes(content)
        if mode == "die after":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode in ("lost", "lost, blind"):
            raise ConnectionResetError("the connection was lost")
        return Delivered("taken by the paper carrier")

    async def happened(self, message: Outgoing) -> bool | None:
        return None if "blind" in self.mode else message.reference in self.letters()


class PostArguments(Arguments):
    to: list[str]
    subject: str
    body: str
    hold_seconds: float | None = None
    copies: int = 1


class Posted(Result):
    messages: list[str]


class Post(ReversibleTool[PostArguments]):
    """Hold a letter until it is time to bring it out."""

    name = "post"
    title = "Post a letter"
    description = "Hold a letter until it is time to bring it out."
    arguments = PostArguments
    result = Posted

    def __init__(self, outbox: OutboxSystem) -> None:
        self._outbox = outbox

    async def prepare(self, arguments: PostArguments, context: CallContext) -> Prepared:
        letters: list[tuple[Outgoing, float]] = []
        blobs: dict[str, bytes] = {}
        for _ in range(arguments.copies):
            reference = f"<{secrets.token_hex(8)}@example.org>"
            content = letter(arguments.to, arguments.subject, arguments.body, reference)
            name, more = context.objects.small(content)
            blobs |= more
            outgoing = Outgoing(
                carrier="paper",
                content=name,
                size=len(content),
                sender="agent@example.org",
                recipients=tuple(arguments.to),
                subject=arguments.subject,
                reference=reference,
            )
            seconds = arguments.hold_seconds
            letters.append((outgoing, self._outbox.hold_seconds if seconds is None else seconds))

        def result(effects: Sequence[Effect]) -> BaseModel:
            return Posted(messages=[effect.object for effect in effects])

        return SwapPrepared(
            self._outbox,
            await self._outbox.hold(letters, context.objects),
            result=result,
            summary=f"Posted a letter to {', '.join(arguments.to)}.",
            blobs=blobs,
        )


def letter(to: Sequence[str], subject: str, body: str, reference: str) -> bytes:
    """The bytes of a letter: a mail, as plain as one can be."""
    head = f"From: agent@example.org\r\nTo: {', '.join(to)}\r\nSubject: {subject}\r\nMessage-ID: {reference}\r\n"
    return f"{head}References: <first@example.org>\r\n\r\n{body}\r\n".encode()


class PaperFamily(Family):
    name = "paper"

    def __init__(self, services: Services) -> None:
        assert isinstance(services.outbox, OutboxSystem)
        self.carrier = PaperCarrier(services.data / "paper")
        self.carriers = (self.carrier,)
        self.tools = (Post(services.outbox),)

    @classmethod
    async def open(cls, services: Services) -> Self:
        return cls(services)
