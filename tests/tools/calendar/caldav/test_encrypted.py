"""Over TLS: who cannot show that they are the server is told nothing, and no redirect takes the password elsewhere."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.tools.calendar.caldav.odd_server import OddServer, answer
from tests.tools.calendar.caldav.samples import event

from takeback.tools.calendar.caldav.http import Limits
from takeback.tools.calendar.caldav.store import CaldavStore
from takeback.tools.calendar.port import Resource
from takeback.tools.system import Refused, Unavailable

LIMITS = Limits(connect=10, silence=10, whole=20)
OLD = Resource("a.ics", event("a"), '"1"')


def certificate(folder: Path, name: str, *, days: int = 1) -> Path:
    """A certificate that nobody but itself vouches for, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    alternative = x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}-{days}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@asynccontextmanager
async def encrypted(path: Path) -> AsyncIterator[OddServer]:
    server = OddServer()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()
    await listening.wait_closed()


@asynccontextmanager
async def opened(server: OddServer, host: str = "127.0.0.1") -> AsyncIterator[CaldavStore]:
    store = CaldavStore(f"https://{host}:{server.port}/cal/", "anna", "secret-word", limits=LIMITS)
    yield store
    await store.close()


@pytest.mark.parametrize(
    ("name", "days", "trusted"),
    [("127.0.0.1", 1, False), ("elsewhere.example.org", 1, True), ("127.0.0.1", -1, True)],
    ids=["untrusted", "another name", "expired"],
)
async def test_who_cannot_show_that_they_are_the_server_is_told_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, days: int, trusted: bool
) -> None:
    path = certificate(tmp_path, name, days=days)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with encrypted(path) as server, opened(server) as store:
        for asked in (store.names, lambda: store.write("a.ics", OLD.data, None), lambda: store.remove("a.ics", OLD)):
            with pytest.raises(Unavailable, match="cannot be reached") as raised:
                await asked()
            assert "secret-word" not in repr(raised.value)
        assert server.seen == []


async def test_a_server_with_a_trusted_certificate_of_its_name_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with encrypted(path) as server, opened(server) as store:
        server.says("GET", answer(200, OLD.data, ETag='"1"'))
        assert list(await store.read(["a.ics"])) == [OLD]
        assert all("authorization" in each.headers for each in server.seen)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "where",
    [
        lambda tls, plain: f"http://127.0.0.1:{plain.port}/cal/a.ics",
        lambda tls, plain: f"https://localhost:{tls.port}/cal/a.ics",
        lambda tls, plain: f"//127.0.0.1:{plain.port}/cal/a.ics",
        lambda tls, plain: f"https://127.0.0.1:{plain.port}/cal/a.ics",
        lambda tls, plain: f"https://anna:secret-word@localhost:{tls.port}/cal/a.ics",
    ],
    ids=["plain http", "another name", "another port", "another port with a scheme", "with a login"],
)
async def test_no_redirect_takes_the_password_elsewhere_or_into_the_clear(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    odd: OddServer,
    status: int,
    where: Callable[[OddServer, OddServer], str],
) -> None:
    path = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with encrypted(path) as server, opened(server) as store:
        for method in ("GET", "PUT", "DELETE", "PROPFIND"):
            server.says(method, answer(status, Location=where(server, odd)))
        for asked in (
            lambda: store.read(["a.ics"]),
            store.names,
            lambda: store.write("a.ics", OLD.data, OLD),
            lambda: store.remove("a.ics", OLD),
        ):
            with pytest.raises((Refused, Unavailable)):
                await asked()
        assert odd.seen == []
        assert all(each.path in ("/cal/", "/cal/a.ics") for each in server.seen)
        assert len(server.seen) == 5, "one request for each, and the first one of all"
