"""Opening the page on demand: a process of its own, that tells when it can be reached, and ends when nobody needs it.

A server that has opened it keeps the other end of its standard input: so the page knows when that server is gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from typing import IO, Final

from takeback.server.settings import Settings
from takeback.server.web import address
from takeback.server.web.address import Address

MODULE: Final = "takeback"
READY_SECONDS: Final = 8.0
"""What a page gets to open: no call waits longer for a link."""

_log = logging.getLogger(__name__)


def told(where: Address) -> str:
    """The line with which a page says that it can be reached."""
    return json.dumps({"port": where.port, "base": where.base})


async def page_of(settings: Settings, *, server: bool) -> Address | None:
    """Where the page is; it is opened if there is none. None: it cannot be.

    :param server: the caller is a server; without it the page stays until it was unused for a while.
    """
    found = await asyncio.to_thread(address.running, settings.data)
    if found is not None:
        return found
    try:
        process = _started(settings, server=server)
    except OSError as error:
        _log.warning("the page could not be opened (%s); run `takeback web`", error.strerror)
        return None
    line = await _line(process)
    if line is None:
        return await asyncio.to_thread(address.running, settings.data)  # another one was first
    known = json.loads(line)
    return Address(known["port"], known["base"])


def _started(settings: Settings, *, server: bool) -> subprocess.Popen[bytes]:
    folder = address.folder(settings.data)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "page.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 -- this very program
            # -P: what lies in the data directory is not to be imported
            [sys.executable, "-P", "-m", MODULE, "web", "--settings", "server" if server else "person"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=descriptor,
            cwd=settings.data,
            close_fds=True,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    given: IO[bytes] = process.stdin  # type: ignore[assignment]  # it is a pipe
    given.write(settings.model_dump_json().encode() + b"\n")
    given.flush()
    if not server:
        given.close()
    _children.append(process)
    for child in list(_children):  # one that has ended is not left as a zombie
        if child.poll() is not None:
            _children.remove(child)
    return process


async def _line(process: subprocess.Popen[bytes]) -> bytes | None:
    """The line that it says when it can be reached; None: it ended, or took too long."""
    loop = asyncio.get_running_loop()
    said: asyncio.Future[bytes] = loop.create_future()

    def tell(line: bytes) -> None:
        if not said.done():
            said.set_result(line)

    def read() -> None:
        stream: IO[bytes] = process.stdout  # type: ignore[assignment]  # it is a pipe
        with stream:
            line = stream.readline()
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, line)

    # a thread that nothing waits for at the end of the process
    threading.Thread(target=read, daemon=True).start()
    try:
        async with asyncio.timeout(READY_SECONDS):
            return await said or None
    except TimeoutError:
        return None


_children: list[subprocess.Popen[bytes]] = []
