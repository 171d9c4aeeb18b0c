"""Keeping one sender at work: a process of its own, that outlives the chat's, and ends when nothing is held."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from takeback.checkpoints.oslock import held
from takeback.server.settings import Settings

if TYPE_CHECKING:
    from takeback.server.engine.engine import Engine

log = logging.getLogger(__name__)

LOCK_TRIES, LOCK_PAUSE = 20, 0.05
"""How often, and after how many seconds, the lock is asked for: whoever starts a sender holds it for a moment, to look."""
MODULE: Final = "takeback"


def lock_file(data: Path) -> Path:
    """The file whose lock a sender holds."""
    return data / "outbox" / "sender.lock"


@asynccontextmanager
async def alone(data: Path) -> AsyncGenerator[bool]:
    """Be the one sender of a data directory while inside; `False`: another one is at work."""
    file = lock_file(data)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for attempt in range(LOCK_TRIES):
        with held(os.fspath(file), wait=False) as mine:
            if mine:
                file.with_name("sender.pid").write_text(
                    f"{os.getpid()}\n", encoding="ascii"
                )  # for whoever wants to end it
            if mine or attempt == LOCK_TRIES - 1:
                yield mine
                return
        await anyio.sleep(LOCK_PAUSE)


def start_sender(settings: Settings) -> bool:
    """Start a sender, unless one is at work; whether one was started.

    It gets the settings through its standard input, and the environment (with the credentials that are there) by inheritance.
    """
    file = lock_file(settings.data)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with held(os.fspath(file), wait=False) as idle:
        if not idle:
            return False  # it looks once more after letting go, so that nothing is left that was held by now
    started = spawn(settings, ["outbox", "run"], file.with_name("sender.log"))
    if not started:
        log.warning("no sender could be started; run `takeback outbox run`")
    return started


def spawn(settings: Settings, command: list[str], log_file: Path) -> bool:
    """Start a command of this program that outlives the process, with these settings; whether that could be done."""
    descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 -- this very program
            # -P: what lies in the data directory is not to be imported
            [sys.executable, "-P", "-m", MODULE, *command, "--settings", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=descriptor,
            cwd=settings.data,
            close_fds=True,
            start_new_session=True,
        )
        with process.stdin as given:  # type: ignore[union-attr]  # it is a pipe
            given.write(settings.model_dump_json().encode())
    except OSError as error:
        log.warning("takeback %s could not be started: %s", " ".join(command), error.strerror)
        return False
    finally:
        os.close(descriptor)
    _children.append(process)
    for child in list(_children):  # one that has ended is not left as a zombie
        if child.poll() is not None:
            _children.remove(child)
    return True


async def keep_sending(engine: Engine, settings: Settings) -> None:
    """From now on start a sender whenever something is held; at once, if something is held already."""
    engine.held = lambda: start_sender(settings)
    if await engine.core.outbox.waiting():
        start_sender(settings)


_children: list[subprocess.Popen[bytes]] = []
