"""Follows the journal and hands every event on, at least once and in order.

The position up to which a sink has everything is written down only after the sink has taken the lines, so that a death in
between repeats lines and skips none. One process at a time by a lock; whoever writes an event sees to it that it goes on.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import anyio

from takeback.journal.events import Recorded
from takeback.journal.log import JournalError
from takeback.journal.redaction import redact
from takeback.server.audit.sinks import FileSink, Sink, SinkFailed, WebhookSink
from takeback.server.engine.core import Core, rfc3339
from takeback.server.engine.faults import fault
from takeback.server.engine.locks import Locks, LockTimeout
from takeback.server.engine.queries import event_row

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 30.0
LONGEST_PAUSE: Final = 300.0
PATIENCE: Final = 5
"""Refusals in a row after which a process that has nothing else to do does not wait for a sink."""
_LEFT_OUT: Final = ("memo", "plan")
"""What only taking back needs, and may be long: the memo of a tool, and the plan of a rollback (its digest stays)."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a sink has come."""

    position: int
    failed: str = ""
    """Why it has not come further; empty while it does."""
    since: str = ""
    """Since when it has failed; RFC 3339."""


def place_file(data: Path, sink: str) -> Path:
    """Where a sink's place is kept."""
    return data / "audit" / f"{sink}.json"


def read_place(data: Path, sink: str) -> Place | None:
    """How far a sink has come; `None`: it was never begun."""
    try:
        return Place(**json.loads(place_file(data, sink).read_text(encoding="ascii")))
    except FileNotFoundError:
        return None


def _write_place(data: Path, sink: str, place: Place) -> None:
    file = place_file(data, sink)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = file.with_suffix(".part")
    text = json.dumps(asdict(place))
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, text.encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(beside, file)
    if os.name == "posix":
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def line_of(recorded: Recorded, salt: bytes) -> str:
    """An event as a line: ASCII, without what is only for taking back, and without secrets."""
    row = {name: value for name, value in event_row(recorded).items() if name not in _LEFT_OUT}
    return json.dumps(redact(row, salt), ensure_ascii=True, separators=(",", ":"))


def _nothing(step: str) -> None:
    """The usual `on_step`."""


class Auditor:
    """Streams the journal of one data directory, for one process."""

    def __init__(self, core: Core) -> None:
        self._core, settings = core, core.settings.audit
        self._data = core.settings.data
        self.sinks: list[Sink] = []
        if settings.file is not None:
            self.sinks.append(FileSink(settings.file, fsync=settings.fsync))
        if settings.url:
            self.sinks.append(WebhookSink(settings.url, settings.secret_variable))
        self._locks = Locks(self._data / "locks" / "audit")
        self._salt = os.urandom(32)
        self._rung = {sink.name: asyncio.Event() for sink in self.sinks}
        self._stopping = False
        self._refused: dict[str, int] = {}
        """By sink, how often in a row it has taken nothing."""
        self.on_step: Callable[[str], object] = _nothing
        """Called between two steps, so that a test can die there; what it returns is awaited."""

    def ring(self) -> None:
        """There are new events."""
        for rung in self._rung.values():
            rung.set()

    def stop(self) -> None:
        """`run` ends after what it is at."""
        self._stopping = True
        self.ring()

    async def begin(self) -> None:
        """Have the stream begin here, where it has not begun yet.

        :raises OSError: the place cannot be written.
        """
        position = await self._core.journal.position()
        for sink in self.sinks:
            if read_place(self._data, sink.name) is None:
                _write_place(self._data, sink.name, Place(position))

    async def unfinished(self) -> bool:
        """Whether a sink lacks something that it may take: one that has refused again and again is left for the next start."""
        position = await self._core.journal.position()
        asked = [sink for sink in self.sinks if self._refused.get(sink.name, 0) < PATIENCE]
        places = [read_place(self._data, sink.name) for sink in asked]
        return any(place is not None and place.position < position for place in places)

    async def run(self, *, look_seconds: float = LOOK_SECONDS) -> None:
        """Hand on until told to stop."""
        async with anyio.create_task_group() as group:
            for sink in self.sinks:
                group.start_soon(self._follow, sink, look_seconds)

    async def _follow(self, sink: Sink, look_seconds: float) -> None:
        pause, rung = 1.0, self._rung[sink.name]
        while not self._stopping:
            rung.clear()  # before looking: what comes in meanwhile rings again
            if await self.drain(sink):
                pause = 1.0
                with anyio.move_on_after(look_seconds):
                    await rung.wait()
            else:
                with anyio.move_on_after(pause):
                    while not self._stopping:  # new events are no reason to try again sooner
                        rung.clear()
                        await rung.wait()
                pause = min(pause * 2, LONGEST_PAUSE)

    async def drain(self, sink: Sink) -> bool:
        """Hand on what the sink lacks; whether that went well."""
        try:
            async with self._locks.hold([sink.name], timeout=LOOK_SECONDS):
                well = await self._drain(sink)
        except (JournalError, OSError, LockTimeout) as error:
            log.warning("the audit stream has to wait: %s", fault(error))
            well = False
        self._refused[sink.name] = 0 if well else self._refused.get(sink.name, 0) + 1
        return well

    async def _drain(self, sink: Sink) -> bool:
        place = read_place(self._data, sink.name) or Place(await self._core.journal.position())
        while batch := await self._core.journal.read(after=place.position, limit=sink.most):
            lines = [line_of(recorded, self._salt) for recorded in batch]
            await self._step("read")
            try:
                await sink.write(lines, batch[0].position, batch[-1].position)
            except SinkFailed as error:
                log.warning("the audit stream stands still: %s", error)
                since = place.since or rfc3339(self._core.now())
                _write_place(self._data, sink.name, Place(place.position, str(error), since))
                return False
            await self._step("written")
            place = Place(batch[-1].position)
            _write_place(self._data, sink.name, place)
            await self._step("noted")
            if self._stopping:
                break
        return True

    async def _step(self, name: str) -> None:
        waiting = self.on_step(name)
        if inspect.isawaitable(waiting):
            await waiting


def standing(core: Core) -> list[dict[str, Any]]:
    """How each sink of the configuration stands, for the doctor and for statistics."""
    told: list[dict[str, Any]] = []
    for sink in Auditor(core).sinks:
        place = read_place(core.settings.data, sink.name)
        told.append({"sink": sink.name, **({} if place is None else asdict(place))})
    return told
