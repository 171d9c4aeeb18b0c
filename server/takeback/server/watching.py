"""What goes on beside the work: notices are sent and events are streamed, from whichever process saw them.

A server does so itself, at once. A command that ends soon, and a server that ends with something left to do, hand over to a
process of its own that outlives them (`takeback notices run`). What even that does not come to is done at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from takeback.checkpoints.oslock import held
from takeback.server.settings import Settings

if TYPE_CHECKING:
    from takeback.journal.events import Recorded
    from takeback.server.engine.core import Core
    from takeback.server.notices.desktop import Entry

log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 0.5
"""What is being sent gets to arrive, when a server ends."""
SOON_SECONDS: Final = 0.5
"""How often the process of its own looks for what others have written."""


def configured(settings: Settings) -> bool:
    """Whether there is anything to be done beside the work."""
    return settings.notify.configured or settings.audit.configured


class Watch:
    """Notices and audit of one data directory, for one process."""

    def __init__(self, core: Core, entry: Entry | None = None) -> None:
        # neither is imported where nothing is configured
        from takeback.server.audit.auditor import Auditor
        from takeback.server.notices.notifier import Notifier

        self.core = core
        self.notifier = Notifier(core, entry=entry) if core.settings.notify.configured else None
        self.auditor = Auditor(core) if core.settings.audit.configured else None

    def heard(self, written: Sequence[Recorded]) -> None:
        """Called with what this process has just written: nothing is done here but to wake whoever does it."""
        if self.auditor is not None:
            self.auditor.ring()
        if self.notifier is not None and self.notifier.heard(written):
            self.notifier.ring()

    async def begin(self) -> None:
        """From here on everything is news. What cannot be noted now is said in the log, and tried again at the next start."""
        for part in (self.notifier, self.auditor):
            if part is not None:
                try:
                    await part.begin()
                except Exception as error:  # the work itself must not stop for it
                    log.warning("what is told beside the work could not be begun: %s", error)

    async def unfinished(self) -> bool:
        """Whether something is left to do."""
        return any([await part.unfinished() for part in (self.notifier, self.auditor) if part is not None])

    async def run(self, *, look_seconds: float | None = None) -> None:
        """Do it until told to stop."""
        more = {} if look_seconds is None else {"look_seconds": look_seconds}
        async with anyio.create_task_group() as group:
            for part in (self.notifier, self.auditor):
                if part is not None:
                    group.start_soon(lambda part=part: part.run(**more))  # type: ignore[misc]  # bound per turn of the loop

    def stop(self) -> None:
        """Begin nothing more."""
        for part in (self.notifier, self.auditor):
            if part is not None:
                part.stop()

    def close(self) -> None:
        """Let go of the files."""
        if self.notifier is not None:
            self.notifier.store.close()


@asynccontextmanager
async def watched(
    core: Core, settings: Settings, *, here: bool = True, entry: Entry | None = None
) -> AsyncGenerator[None]:
    """Tell what happens inside.

    :param here: in this process; else by one of its own, as soon as this one has done its work.
    :param entry: lets the person of this machine in at the local page.
    """
    if not configured(settings):
        yield
        return
    watch = Watch(core, entry)
    await watch.begin()
    core.journal.listeners = (*core.journal.listeners, watch.heard)
    running = asyncio.create_task(watch.run()) if here else None
    try:
        yield
    finally:
        core.journal.listeners = tuple(each for each in core.journal.listeners if each != watch.heard)
        try:
            if running is not None:
                watch.stop()
                await asyncio.wait({running}, timeout=GRACE_SECONDS)
                running.cancel()
                await _ended(running)
            if await watch.unfinished():
                start_watcher(settings)
        except Exception as error:  # the end of the work does not fail for it; the next start goes on
            log.warning("what was to be told is told at the next start: %s", error)
        finally:
            watch.close()


async def _ended(running: asyncio.Task[None]) -> None:
    try:
        await running
    except asyncio.CancelledError:
        pass
    except Exception as error:  # a fault here has cost no call anything, but somebody has to hear of it
        log.error("what is told beside the work had stopped: %s", type(error).__name__, exc_info=error)


# --- a process of its own ---------------------------------------------------------------------------------------------


def lock_file(data: Path) -> Path:
    """The file whose lock the process of its own holds."""
    return data / "notices" / "watcher.lock"


def start_watcher(settings: Settings) -> bool:
    """Start it, unless one is at work; whether one was started."""
    from takeback.server.engine.detached import spawn

    file = lock_file(settings.data)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with held(os.fspath(file), wait=False) as idle:
        if not idle:
            return False  # it looks once more after letting go
    return spawn(settings, ["notices", "run"], file.with_name("watcher.log"))


async def watch_until_done(settings: Settings, entry: Entry | None = None) -> bool:
    """Tell until nothing is left to do; `False` at once if another process is at it."""
    from takeback.server.engine.engine import Engine

    file = lock_file(settings.data)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows: no handlers in the loop
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    engine = await Engine.open(settings, recover=False)
    try:
        while True:
            with held(os.fspath(file), wait=False) as mine:
                if not mine:
                    return False
                watch = await _watch_once(engine.core, stop, entry)
            try:
                # somebody may have written something after the last look, and found the lock taken
                if stop.is_set() or not _there(engine.core) or not await watch.unfinished():
                    return True
            finally:
                watch.close()
    finally:
        await engine.close()


def _there(core: Core) -> bool:
    """Whether there still is a data directory to read from: somebody may have removed it."""
    return core.settings.data.is_dir()


async def _watch_once(core: Core, stop: asyncio.Event, entry: Entry | None) -> Watch:
    """Tell until nothing is left, or told to stop."""
    watch = Watch(core, entry)
    running = asyncio.create_task(watch.run(look_seconds=SOON_SECONDS))
    try:
        while not stop.is_set() and not running.done() and _there(core) and await watch.unfinished():
            with anyio.move_on_after(SOON_SECONDS / 2):
                await stop.wait()
    finally:
        watch.stop()
        await running
    return watch
