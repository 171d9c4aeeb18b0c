"""Sends notices: takes up what the journal has that people are told of, and brings each to each channel, at most once.

Any number of processes may do so at the same time. An event is taken up by whoever first moves the place up to which the
journal was read; a notice is claimed by its lock and a compare-and-set. The order of steps is what the promises rest on:

1. `PENDING → SENDING`, durable, under the notice's lock.
2. The channel sends.
3. `SENDING → SENT | PENDING (again, later) | DEAD`, durable; then the journal, then the note that the journal has heard.

What is found SENDING without anybody holding its lock was begun by a process that died: a webhook is sent again under its
id; of anything else nobody knows, so it is UNKNOWN and is said to be.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from takeback.journal.events import BaseEvent, ConflictOpened, NoticeFailed, NoticeSent, Recorded
from takeback.journal.ids import ActionId, RunId, new_conflict_id
from takeback.journal.log import JournalError
from takeback.journal.views import OpenItem
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.locks import Locks, LockTimeout
from takeback.server.notices.channel import Broken, Channel, NotSent
from takeback.server.notices.contents import kind_of, news, notice_of
from takeback.server.notices.desktop import Entry
from takeback.server.notices.opening import open_channels, wanted
from takeback.server.notices.settings import channel_names
from takeback.server.notices.store import FAILED, Due, NoticeStore, NoticesUnavailable, Row, Status

log = logging.getLogger(__name__)
T = TypeVar("T")

SYSTEM: Final = "notices"
"""The system of open items about notices."""
SEND_SECONDS: Final = 60.0
"""After so long without an answer nobody knows whether a notice arrived."""
LOOK_SECONDS: Final = 30.0
"""How often it is looked whether another process has left something undone."""
LONGEST_PAUSE: Final = 900.0
BATCH: Final = 500


def store_file(data: Path) -> Path:
    """Where the notices of a data directory stand."""
    return data / "notices" / "notices.db"


def _nothing(step: str) -> None:
    """The usual `on_step`."""


class Notifier:
    """Notices of one data directory, for one process."""

    def __init__(self, core: Core, *, channels: Sequence[Channel] | None = None, entry: Entry | None = None) -> None:
        """
        :param channels: instead of those of the configuration.
        :param entry: lets a person in at the local page.
        """
        self._core, self._settings = core, core.settings.notify
        self._given, self._entry = channels, entry
        self._channels: dict[str, Channel] = {}
        self.store = NoticeStore(store_file(core.settings.data))
        self._locks = Locks(core.settings.data / "locks" / "notices")
        self._wanted = wanted(self._settings)
        self._news = asyncio.Event()
        self._due_now: list[asyncio.Event] = []
        """One for each channel: there is something new for it."""
        self._stopping = asyncio.Event()
        self._opening = anyio.Lock()
        self.on_step: Callable[[str], object] = _nothing
        """Called between two steps, so that a test can die there, or do something; what it returns is awaited."""

    def heard(self, written: Sequence[Recorded]) -> bool:
        """Whether there is news among what was just written."""
        return any(kind_of(recorded.event) is not None for recorded in written)

    def ring(self) -> None:
        """There is news: look at once."""
        self._news.set()

    def stop(self) -> None:
        """Begin nothing more; `run` ends when what is being sent has been."""
        self._stopping.set()
        self._news.set()
        self._wake_all()

    async def begin(self) -> None:
        """Have the journal read from here on, if it never was: what is over is no news.

        :raises NoticesUnavailable: the file cannot be used.
        """
        await self.store.begin(await self._core.journal.position())

    async def unfinished(self) -> bool:
        """Whether there is something left to do: notices to be sent, or a journal that was not read to its end."""
        if await self.store.rows("PENDING", "SENDING"):
            return True
        position = await self._core.journal.position()
        place = await self.store.begin(position)
        while place < position and (batch := await self._core.journal.read(after=place, limit=BATCH)):
            if self.heard(batch):
                return True
            place = batch[-1].position
        return False

    async def run(self, *, look_seconds: float = LOOK_SECONDS) -> None:
        """Send until told to stop.

        :param look_seconds: how often it is looked for what other processes have left undone.
        """
        await self._patiently(self._start)
        await self._patiently(self._take_up)
        async with anyio.create_task_group() as workers:
            for name in self._names():
                workers.start_soon(self._work, name, look_seconds)
            workers.start_soon(self._watch, look_seconds)

    async def drain(self) -> None:
        """One round: take up what is new, try what is due. For tests, and for whoever wants it now."""
        await self._start()
        await self._take_up()
        for name in self._names():
            await self._round(name)

    # -- taking up ------------------------------------------------------------------------------------------------------

    async def _watch(self, look_seconds: float) -> None:
        while not self._stopping.is_set():
            self._news.clear()  # before looking: what comes in meanwhile rings again
            if await self._patiently(self._take_up):
                self._wake_all()
            with anyio.move_on_after(look_seconds):
                await self._news.wait()

    async def _take_up(self) -> bool:
        """Put in what the journal has to tell; whether it was anything."""
        found = False
        position = await self._core.journal.position()
        place = await self.store.begin(position)
        while place < position:
            batch = await self._core.journal.read(after=place, limit=BATCH)
            if not batch:
                break
            due = [due for recorded in batch if (due := await self._due(recorded)) is not None]
            await self._step("read")
            if await self.store.advance(place, batch[-1].position, due, self._now()):
                found = found or bool(due)
                place = batch[-1].position
            else:  # somebody else has read it
                place = await self.store.begin(position)
                found = True
        return found

    async def _due(self, recorded: Recorded) -> Due | None:
        kind = await news(self._core, recorded)
        channels = tuple(name for name, kinds in self._wanted.items() if kind in kinds)
        return None if kind is None or not channels else Due(recorded.position, recorded.run_id, kind, channels)

    # -- sending --------------------------------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        return channel_names(self._settings) if self._given is None else [channel.name for channel in self._given]

    async def _channel(self, name: str) -> Channel:
        async with self._opening:
            if not self._channels:
                given = self._given
                if given is None:  # in a thread, for what it imports takes a while, and a keyring may ask somebody
                    given = await anyio.to_thread.run_sync(open_channels, self._settings, self._entry)
                self._channels = {channel.name: channel for channel in given}
        return self._channels.get(name) or Broken(name, "it is not configured any more")

    async def _work(self, name: str, look_seconds: float) -> None:
        """One channel, so that a slow one holds up no other."""
        rung = asyncio.Event()
        self._due_now.append(rung)
        while not self._stopping.is_set():
            rung.clear()
            await self._patiently(lambda: self._round(name))
            left = await self._patiently(lambda: self.store.rows("PENDING", channel=name)) or []
            pause = min((row.next_at - self._now() for row in left), default=look_seconds)
            with anyio.move_on_after(min(max(pause, 0.05), look_seconds)):
                await rung.wait()

    async def _round(self, name: str) -> bool:
        for row in await self.store.rows("PENDING", channel=name):
            if self._stopping.is_set():
                break
            if row.next_at <= self._now():
                await self._one(row)
        return True

    async def _one(self, row: Row) -> None:
        try:
            async with self._locks.hold([row.object], timeout=0):
                if not await self.store.move(row, "SENDING", only=("PENDING",), now=self._now()):
                    return
                await self._step("claimed")
                status, detail = await self._send(row)
                await self._step("sent")
                attempts = row.attempts + 1
                pause = min(self._settings.retry_seconds * 2**row.attempts, LONGEST_PAUSE)
                if status == "PENDING" and attempts >= self._settings.attempts:
                    status = "DEAD"
                await self.store.move(
                    row, status, only=("SENDING",), now=self._now(), detail=detail, attempts=attempts,
                    next_at=self._now() + pause,
                )  # fmt: skip
                await self._step("noted")
        except LockTimeout:
            return  # another process is at it
        await self._tell_all(row)

    async def _send(self, row: Row) -> tuple[Status, str]:
        recorded = await self._core.journal.read(after=row.position - 1, limit=1)
        identity = getattr(self._core.journal, "identity", "journal")
        notice = await notice_of(self._core, recorded[0], str(identity)) if recorded else None
        if notice is None:
            return "SETTLED", "there was nothing to tell any more"
        channel = await self._channel(row.channel)
        try:
            with anyio.fail_after(SEND_SECONDS):
                await channel.send(notice)
        except NotSent as error:
            return ("PENDING" if error.again else "DEAD"), str(error)
        except TimeoutError:
            return ("PENDING" if channel.repeatable else "UNKNOWN"), f"nothing was heard for {SEND_SECONDS:g} s"
        except Exception as error:  # other people's code: it may have arrived
            log.warning("nobody knows whether a notice reached %s: %s", row.channel, type(error).__name__)
            return ("PENDING" if channel.repeatable else "UNKNOWN"), f"the sending broke off ({type(error).__name__})"
        return "SENT", ""

    # -- after a death, and the journal ---------------------------------------------------------------------------------

    async def _start(self) -> bool:
        """Settle what processes that died have left, and tell the journal what they did not come to tell."""
        for row in await self.store.rows("SENDING"):
            try:
                async with self._locks.hold([row.object], timeout=0):
                    again = (await self._channel(row.channel)).repeatable
                    why = "whoever sent it was stopped while it was at it, and nobody knows whether it arrived"
                    status: Status = "PENDING" if again else "UNKNOWN"
                    await self.store.move(row, status, only=("SENDING",), now=self._now(), detail=why)
            except LockTimeout:
                continue
        for row in await self.store.rows("SENT", *FAILED):
            if not row.told:
                await self._tell(row)
        await self.store.forget(self._now() - self._core.settings.limits.keep_days * 86400)
        return True

    async def _tell_all(self, sent: Row) -> None:
        for row in await self.store.rows("SENT", *FAILED, channel=sent.channel):
            if row.position == sent.position and not row.told:
                await self._tell(row)

    async def _tell(self, row: Row) -> None:
        """Write down how a notice ended, once; one that failed stays open until a person settles it."""
        async with self._locks.hold([row.object]):
            if not await self._heard_of(row):
                await self._core.record(self._ending(row))
                await self._step("journaled")
            await self.store.told(row)

    def _ending(self, row: Row) -> list[BaseEvent]:
        run_id, at = RunId(row.run_id), self._core.now()
        if row.status == "SENT":
            return [NoticeSent(run_id=run_id, at=at, about=row.about, channel=row.channel)]
        known = row.status == "DEAD"
        fact = "could not be sent" if known else "may not have arrived"
        why = f"the notice {row.about.replace('_', ' ')} {fact} by {row.channel}: {row.detail}"
        return [
            NoticeFailed(run_id=run_id, at=at, about=row.about, channel=row.channel, why=row.detail),
            ConflictOpened(
                run_id=run_id,
                at=at,
                conflict_id=new_conflict_id(),
                kind="failed",
                action_id=ActionId(""),
                system=SYSTEM,
                object=row.object,
                why=why,
                next_step="Remove the cause (`takeback notices test` tries all channels), then `takeback notices retry`; or"
                " close it with `takeback settle`.",
            ),
        ]

    async def _heard_of(self, row: Row) -> bool:
        """Whether the journal has this ending already: a process may have died before it could note so."""
        run_id = RunId(row.run_id)
        if row.status != "SENT":
            items = await self._core.journal.find(OpenItem, run_id=run_id, status="open")
            return any((item.system, item.object) == (SYSTEM, row.object) for item in items)
        after = row.position
        while batch := await self._core.journal.read(run_id, after=after, limit=BATCH):
            for recorded in batch:
                event = recorded.event
                if isinstance(event, NoticeSent) and (event.about, event.channel) == (row.about, row.channel):
                    return True
            after = batch[-1].position
        return False

    # -- small things ---------------------------------------------------------------------------------------------------

    def _wake_all(self) -> None:
        for rung in self._due_now:
            rung.set()

    def _now(self) -> float:
        return self._core.now().timestamp()

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do it; what is out of reach for a moment is tried again with the next look."""
        try:
            return await work()
        except (NoticesUnavailable, JournalError, LockTimeout) as error:
            log.warning("notices have to wait: %s", fault(error))
            return None

    async def _step(self, name: str) -> None:
        waiting = self.on_step(name)
        if inspect.isawaitable(waiting):
            await waiting
