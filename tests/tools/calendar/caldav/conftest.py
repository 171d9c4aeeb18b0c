"""A real Radicale on loopback, one process a session and one calendar a test."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from uuid import uuid4

import httpx2
import pytest
from tests.tools.calendar.caldav.odd_server import OddServer

from takeback.tools.calendar.caldav.store import CaldavStore

USER, PASSWORD = "anna", "pässword: with blanks"


@dataclass(frozen=True)
class Radicale:
    """A server, and a calendar on it."""

    url: str
    """Of the collection."""
    user: str = USER
    password: str = PASSWORD

    def person(self, method: str, name: str = "", *, data: bytes | None = None, **headers: str) -> httpx2.Response:
        """What somebody does with another program."""
        with httpx2.Client(auth=(self.user.encode(), self.password.encode()), trust_env=False, timeout=60) as client:
            return client.request(method, self.url + name, content=data, headers=headers)


@pytest.fixture(scope="session")
def radicale_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address."""
    folder = tmp_path_factory.mktemp("radicale")
    users = folder / "users"
    users.write_text(f"{USER}:{PASSWORD}\n", encoding="utf-8")
    for _ in range(5):
        port = _free_port()
        with subprocess.Popen(
            [
                *(sys.executable, "-m", "radicale", "--config", "", "--server-hosts", f"127.0.0.1:{port}"),
                *("--auth-type", "htpasswd", "--auth-htpasswd-filename", str(users)),
                *("--auth-htpasswd-encryption", "plain", "--auth-delay", "0"),
                *("--storage-filesystem-folder", str(folder / "data"), "--logging-level", "info"),
                *("--server-validate-path-value", "none"),  # names of all characters are tried
            ],
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        ) as process:
            assert process.stderr is not None
            log = process.stderr
            said: list[str] = []
            if any(said.append(line) or "server ready" in line for line in log):
                rest = threading.Thread(target=lambda log=log: [None for _ in log], daemon=True)  # or the pipe fills up
                rest.start()
                try:
                    yield f"http://127.0.0.1:{port}"
                finally:
                    process.terminate()
                    process.wait(20)
                    rest.join(20)
                return
    raise AssertionError(f"Radicale did not start: {said}")


def _free_port() -> int:
    """Radicale wants a number. Somebody may take it first; then it ends, and another is tried."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def radicale(radicale_server: str) -> Radicale:
    """An empty calendar."""
    made = Radicale(f"{radicale_server}/{USER}/{uuid4()}/")
    body = (
        b'<?xml version="1.0"?><C:mkcalendar xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><set><prop>'
        b"<displayname>Work</displayname></prop></set></C:mkcalendar>"
    )
    assert made.person("MKCALENDAR", data=body).status_code == 201
    return made


@pytest.fixture
async def store(radicale: Radicale) -> AsyncIterator[CaldavStore]:
    """The calendar, as takeback sees it."""
    opened = CaldavStore(radicale.url, radicale.user, radicale.password)
    yield opened
    await opened.close()


@pytest.fixture
async def odd() -> AsyncIterator[OddServer]:
    """A server that does what the test says."""
    server = OddServer()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()
    await listening.wait_closed()
