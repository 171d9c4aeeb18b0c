"""A bench with an outbox, and a sender whose clocks a test moves."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from tests import paper
from tests.server.engine.bench import Bench

from takeback.journal.events import MailMoved
from takeback.journal.ids import RunId
from takeback.journal.views import OpenItem
from takeback.server.engine.sender import Sender
from takeback.server.settings import ToolSettings
from takeback.tools.outbox.rows import Row
from takeback.tools.registry import BUILT_IN

PAPER = {"tools": ToolSettings(modules=(Path(paper.__file__),), off=tuple(BUILT_IN))}


class Post:
    """A bench with an outbox, a sender, and clocks that stand until they are moved."""

    def __init__(self, bench: Bench, *, carrier: str = "paper") -> None:
        self.bench, self.core, self.engine = bench, bench.engine.core, bench.engine
        self.wall, self.steady = 1_800_000_000.0, 1000.0
        self.core.outbox.now = lambda: self.wall
        self.sender = self.new_sender()
        self.carrier: Any = self.core.outbox.carriers[carrier]
        self.numbers = itertools.count()

    def new_sender(self) -> Sender:
        return Sender(self.core, steady=lambda: self.steady)

    def later(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    async def hold(self, run: str, **more: Any) -> str:
        """Post a letter; the id of the first message."""
        arguments = {"to": ["bob@example.org"], "subject": "Hi", "body": f"letter {next(self.numbers)}", **more}
        answer = await self.bench.call("post", run, **arguments)
        assert answer.status == "held", answer
        assert answer.result is not None
        return str(answer.result["messages"][0])  # type: ignore[index, call-overload]  # a list of texts

    async def row(self, id: str) -> Row:
        row = await self.core.outbox.get(id)
        assert row is not None
        return row

    async def status(self, id: str) -> str:
        return (await self.row(id)).status

    async def send(self, seconds: float = 121) -> None:
        """Let the time pass, and the sender look."""
        await self.sender.round()
        self.later(seconds)
        await self.sender.round()

    async def told(self, run: str) -> list[str]:
        """What the journal has heard of messages."""
        events = [recorded.event for recorded in await self.core.journal.read(RunId(run))]
        return [event.type for event in events if isinstance(event, MailMoved)]

    async def open_items(self) -> list[OpenItem]:
        return list(await self.core.journal.find(OpenItem, status="open"))
