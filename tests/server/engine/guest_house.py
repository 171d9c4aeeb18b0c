"""A calendar whose guests are told by a mail server on loopback, and what they hear of it as their own programs read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import SMTP as SMTP_POLICY
from pathlib import Path
from typing import Any

import icalendar
import pytest_asyncio
from aiosmtpd.smtp import SMTP
from tests.server.engine.bench import ALICE, Bench, settings_for

from takeback.journal.views import OpenItem
from takeback.server.engine.calls import Call
from takeback.server.engine.engine import Engine
from takeback.server.engine.sender import Sender
from takeback.server.settings import LimitSettings, ToolSettings
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.outbox.rows import Row

MEETING = {"summary": "Review", "start": "2027-03-01T10:00", "end": "2027-03-01T11:00"}
GUESTS = ["ada@example.org", "bob@example.com"]
SERIES = {**MEETING, "recurrence": "FREQ=WEEKLY;COUNT=6"}


class Sink:
    """A mail server that remembers what it took."""

    def __init__(self) -> None:
        self.taken: list[tuple[list[str], bytes]] = []
        self.hang_up = False

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.taken.append((envelope.rcpt_tos, envelope.original_content))
        if self.hang_up:
            server.transport.abort()
        return "250 taken"


@dataclass(frozen=True)
class Heard:
    """One message as a guest's program reads it."""

    to: tuple[str, ...]
    subject: str
    method: str
    uid: str
    sequence: int
    occurrence: str
    attendees: tuple[str, ...]
    organizer: str
    status: str
    summary: str
    text: str

    @property
    def short(self) -> tuple[str, tuple[str, ...], int, str]:
        return self.method, self.to, self.sequence, self.occurrence


def read(recipients: list[str], content: bytes) -> Heard:
    """The message, parsed by the libraries that programs of guests use."""
    mail = message_from_bytes(content, policy=SMTP_POLICY)
    assert mail.get_content_type() == "multipart/alternative"
    text, part = mail.iter_parts()
    assert (text.get_content_type(), part.get_content_type()) == ("text/plain", "text/calendar")
    calendar = icalendar.Calendar.from_ical(part.get_payload(decode=True))
    assert part.get_param("method") == str(calendar["METHOD"])
    assert mail["To"] is not None
    assert tuple(each.addr_spec for each in mail["To"].addresses) == tuple(recipients)
    event = calendar.walk("VEVENT")[0]
    assert event["DTSTAMP"] is not None
    found = event.get("ATTENDEE", [])
    everybody = found if isinstance(found, list) else [found]
    at = event.get("RECURRENCE-ID")
    return Heard(
        to=tuple(recipients),
        subject=str(mail["Subject"]),
        method=str(calendar["METHOD"]),
        uid=str(event["UID"]),
        sequence=int(event["SEQUENCE"]),
        occurrence="" if at is None else at.dt.date().isoformat(),
        attendees=tuple(str(each).removeprefix("mailto:") for each in everybody),
        organizer=str(event["ORGANIZER"]).removeprefix("mailto:"),
        status=str(event.get("STATUS", "")),
        summary=str(event.get("SUMMARY", "")),
        text=text.get_content(),
    )


class House:
    """A calendar, a mail server, and clocks that stand until they are moved."""

    def __init__(self, folder: Path, sink: Sink, port: int) -> None:
        self.sink, self.tmp, self.folder = sink, folder, folder / "calendar"
        self.folder.mkdir(exist_ok=True)
        self.settings = settings_for(
            folder,
            tools=ToolSettings(off=("files", "database")),
            limits=LimitSettings(ballast_bytes=4096, step_seconds=60),
            calendars={
                "work": CalendarSettings(path=self.folder, mailbox="post", timezone="Europe/Berlin"),
            },
            mailboxes={
                "post": MailboxSettings(
                    path=folder / "mail", smtp=f"smtp://127.0.0.1:{port}", address="Me <me@example.org>"
                )
            },
        )
        self.wall, self.steady = 1_800_000_000.0, 1000.0

    async def open(self) -> None:
        self.engine = await Engine.open(self.settings)
        self.core = self.engine.core
        self.core.retry_pauses = ()
        self.core.outbox.now = lambda: self.wall
        self.bench = Bench(self.engine, self.tmp / "work")
        self.sender = Sender(self.core, steady=lambda: self.steady)

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.glob("*.ics")}

    async def act(self, tool: str, run: str, **arguments: Any) -> dict[str, Any]:
        """An act that holds messages; what it answers."""
        answer = await self.bench.call(f"{tool}_event", run, calendar="work", **arguments)
        assert answer.status == "held", answer
        assert answer.result is not None
        return dict(answer.result)

    async def send(self, seconds: float = 121) -> list[Heard]:
        """Let the window pass; what guests hear then."""
        known = len(self.sink.taken)
        await self.sender.round()
        self.wall, self.steady = self.wall + seconds, self.steady + seconds
        while await self.sender.round():  # of one event, one message goes out after the other
            pass
        return [read(*each) for each in self.sink.taken[known:]]

    async def rows(self) -> list[Row]:
        return list(await self.core.outbox.rows(None, everything=True))

    async def statuses(self) -> list[str]:
        return sorted(row.status for row in await self.rows())

    async def items(self) -> list[OpenItem]:
        return list(await self.core.journal.find(OpenItem, status="open"))

    async def agree(self) -> list[Heard]:
        """A person agrees to all corrections; what guests hear then."""
        for row in await self.rows():
            if row.status == "WAITING":
                await self.engine.desk.approve(ALICE, row.id)
        return await self.send(1)

    def person(self, event_id: str, old: bytes, new: bytes) -> None:
        """Somebody edits an event with another program."""
        path = self.folder / f"{event_id}.ics"
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new))

    async def look(self, event_id: str) -> None:
        """The agent reads the event as it is now."""
        arguments: dict[str, Any] = {"calendar": "work", "event_id": event_id}
        answer = await self.engine.read(Call(tool="get_event", arguments=arguments, caller=ALICE, run_id=None))
        assert answer.error is None, answer


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    sink = Sink()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(sink, loop=loop), "127.0.0.1", 0)
    made = House(tmp_path, sink, server.sockets[0].getsockname()[1])
    await made.open()
    yield made
    await made.engine.close()
    server.close()
