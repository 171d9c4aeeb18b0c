"""Real servers on loopback, one process of each a session, and a filled mailbox a test."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.tools.email.imap import servers
from tests.tools.email.imap.boxes import Box

from takeback.tools.email.imap.store import ImapStore


@pytest.fixture(scope="session")
def imap_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imap-tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def trusted(imap_certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This system believes the certificate of the tests, and knows the password."""
    monkeypatch.setenv("SSL_CERT_FILE", str(imap_certificate / "cert.pem"))
    monkeypatch.setenv("MAIL_PASSWORD", servers.PASSWORD)


@pytest.fixture(scope="session")
def dovecot_server(imap_certificate: Path) -> Iterator[servers.Server]:
    why = servers.why_no_dovecot()
    if why:
        pytest.skip(why)
    with servers.dovecot(imap_certificate) as server:
        yield server


@pytest.fixture(scope="session")
def pymap_server() -> Iterator[servers.Server]:
    with servers.pymap() as server:
        yield server


@pytest.fixture
def dovecot_box(dovecot_server: servers.Server) -> Iterator[Box]:
    """An account of its own."""
    box = Box(dovecot_server, f"u{uuid4().hex[:12]}").fill()
    yield box
    box.close()


@pytest.fixture
def pymap_box(pymap_server: servers.Server) -> Iterator[Box]:
    """The one account, made empty first."""
    box = Box(pymap_server)
    box.wipe()
    yield box.fill()
    box.close()


@pytest.fixture(params=["dovecot", "pymap"])
def box(request: pytest.FixtureRequest) -> Box:
    found = request.getfixturevalue(f"{request.param}_box")
    assert isinstance(found, Box)
    return found


@pytest.fixture
async def store(box: Box, tmp_path: Path) -> AsyncIterator[ImapStore]:
    opened = box.store(tmp_path / "data")
    yield opened
    await opened.close()
