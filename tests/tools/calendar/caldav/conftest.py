"""A real Radicale on loopback, one process a session and one calendar a test."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from uuid import uuid4

import httpx2
import pytest

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
        with httpx2.Client(auth=(self.user.encode(), self.password.encode()), trust_env=False) as client:
            return client.request(method, self.url + name, content=data, headers=headers)


@pytest.fixture(scope="session")
def radicale_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address. It says itself where it listens, so no port is guessed and nothing is waited out."""
    folder = tmp_path_factory.mktemp("radicale")
    users = folder / "users"
    users.write_text(f"{USER}:{PASSWORD}\n", encoding="utf-8")
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "radicale", "--config", "", "--server-hosts", "127.0.0.1:0"),
            *("--auth-type", "htpasswd", "--auth-htpasswd-filename", str(users)),
            *("--auth-htpasswd-encryption", "plain", "--auth-delay", "0"),
            *("--storage-filesystem-folder", str(folder / "data"), "--logging-level", "info"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=(folder / "log").open("wb"),
    ) as process:
        try:
            yield f"http://127.0.0.1:{_port(process, folder / 'log')}"
        finally:
            process.terminate()
            process.wait(20)


def _port(process: subprocess.Popen[bytes], log: object) -> int:
    from pathlib import Path

    assert isinstance(log, Path)
    while process.poll() is None:
        listening = re.search(r"Listening on '127\.0\.0\.1:(\d+)'|Listening on \S*127\.0\.0\.1:(\d+)", log.read_text())
        if listening:
            return int(listening[1] or listening[2])
    raise AssertionError(f"Radicale did not start: {log.read_text()}")


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
