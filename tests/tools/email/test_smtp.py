"""Sending, against real SMTP servers on loopback: what went out, what did not, and what nobody knows."""

import asyncio
import ssl
import subprocess
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from aiosmtpd.smtp import SMTP, AuthResult
from tests.tools.email import maildirs

from takeback.tools.conformance import KitObjects
from takeback.tools.email.addresses import parse
from takeback.tools.email.compose import Letter, build
from takeback.tools.email.family import open_store
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.email.smtp import SmtpCarrier
from takeback.tools.email.system import MailSystem
from takeback.tools.outbox.port import NotSent, Outgoing

CONTENT = (
    b"From: me@example.org\r\nTo: a@example.org\r\nSubject: hi\r\nMessage-ID: <x1@example.org>\r\n\r\n"
    b".leading dot\r\nFrom here\r\n"
)


class Handler:
    """Remembers what it took; `say` answers otherwise."""

    def __init__(self, **say):
        self.taken, self.say, self.logins = [], say, []

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.say:
            return self.say[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_MAIL(self, server, session, envelope, address, options):
        if "MAIL" in self.say:
            return self.say["MAIL"]
        envelope.mail_from = address
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.say.get("DATA") == "hang up":
            self.taken.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
            server.transport.abort()
            return "250 never heard"
        if "DATA" in self.say:
            return self.say["DATA"]
        self.taken.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 taken"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest_asyncio.fixture
async def serve():
    running = []

    async def start(handler, **options):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(handler, loop=loop, **options), "127.0.0.1", 0)
        running.append(server)
        return server.sockets[0].getsockname()[1]

    yield start
    for server in running:
        server.close()


@pytest.fixture
def box(tmp_path):
    return maildirs.make(tmp_path / "box")


@pytest.fixture
def carrier(box, tmp_path):
    def make(port, *, host="127.0.0.1", environment=None, context=None, **its):
        settings = MailboxSettings(path=box, smtp=f"smtp://{host}:{port}", address="me@example.org", **its)
        (tmp_path / "data").mkdir(exist_ok=True)
        system = MailSystem({"work": lambda: open_store(settings, tmp_path / "data", False)}, KitObjects())
        return SmtpCarrier("work", settings, system, environment=environment or {}, context=context, seconds=2)

    return make


def outgoing(*recipients):
    return Outgoing(
        carrier="mail:work",
        content="blake3:x",
        size=len(CONTENT),
        sender="me@example.org",
        recipients=recipients or ("a@example.org",),
        subject="hi",
        reference="<x1@example.org>",
    )


async def test_the_bytes_arrive_as_they_are_and_one_copy_lies_in_sent(serve, carrier, box):
    handler = Handler()
    sender = carrier(await serve(handler))
    assert await sender.happened(outgoing()) is None
    told = await sender.deliver(outgoing("a@example.org", "hidden@example.org"), CONTENT)
    assert handler.taken == [("me@example.org", ["a@example.org", "hidden@example.org"], CONTENT)]
    assert "taken by 127.0.0.1 for a@example.org, hidden@example.org" in told.detail
    [copy] = maildirs.tree(box).items()
    assert copy[0].startswith(".Sent/cur/")
    assert copy[0].endswith(":2,S")
    assert copy[1][0] == CONTENT
    assert await sender.happened(outgoing()) is True


SMUGGLED = b"MAIL FROM:<eve@example.net>\r\nRCPT TO:<a@example.org>\r\nDATA\r\nSubject: two\r\n\r\nx\r\n.\r\n"


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r\n", b"\r\n\0.\r\n", b"\r\n..\r\n"]
)
async def test_no_body_ends_the_data_and_begins_a_message_of_its_own(serve, carrier, end):
    handler = Handler()
    data = build(
        Letter(
            sender=parse("me@example.org"),
            to=(parse("a@example.org"),),
            subject="hi",
            body=(b"one" + end + SMUGGLED).decode().replace("\0", ""),
            message_id="<x1@example.org>",
            date=datetime(2026, 1, 2, tzinfo=UTC),
        )
    )
    message = outgoing().model_copy(update={"size": len(data)})
    await carrier(await serve(handler)).deliver(message, data)
    assert handler.taken == [("me@example.org", ["a@example.org"], data)]


@pytest.mark.parametrize(
    ("say", "again"),
    [
        ({"MAIL": "550 no"}, False),
        ({"MAIL": "451 later"}, True),
        ({"DATA": "554 spam"}, False),
        ({"DATA": "452 full"}, True),
        ({"a@example.org": "550 nobody"}, False),
        ({"a@example.org": "450 greylisted"}, True),
    ],
)
async def test_a_no_of_the_server_proves_that_nothing_went_out(serve, carrier, box, say, again):
    handler = Handler(**say)
    with pytest.raises(NotSent) as refused:
        await carrier(await serve(handler)).deliver(outgoing(), CONTENT)
    assert refused.value.again is again
    assert handler.taken == []
    assert maildirs.tree(box) == {}


async def test_a_connection_lost_after_the_data_is_never_called_not_sent(serve, carrier, box):
    handler = Handler(DATA="hang up")
    sender = carrier(await serve(handler))
    with pytest.raises(Exception) as lost:
        await sender.deliver(outgoing(), CONTENT)
    assert not isinstance(lost.value, NotSent)
    assert len(handler.taken) == 1, "the server had it"
    assert await sender.happened(outgoing()) is None


async def test_nobody_there_is_tried_again(carrier):
    with pytest.raises(NotSent) as refused:
        await carrier(1).deliver(outgoing(), CONTENT)
    assert refused.value.again


async def test_who_was_refused_is_said_and_the_others_get_it(serve, carrier):
    handler = Handler(**{"b@example.org": "550 unknown here"})
    told = await carrier(await serve(handler)).deliver(outgoing("a@example.org", "b@example.org"), CONTENT)
    assert handler.taken[0][1] == ["a@example.org"]
    assert "refused for b@example.org: 550 unknown here" in told.detail


def _tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


async def test_a_certificate_that_nobody_vouches_for_stops_it_before_the_password(serve, carrier, certificate):
    handler = Handler()

    def check(server, session, envelope, mechanism, data):
        handler.logins.append(data)
        return AuthResult(success=data.login == b"me" and data.password == b"correct horse", handled=False)

    port = await serve(
        handler, tls_context=_tls(certificate), require_starttls=True, authenticator=check, auth_required=True
    )
    its = {"host": "localhost", "username": "me", "password_variable": "MAIL_PASSWORD"}
    secret = {"MAIL_PASSWORD": "correct horse"}
    with pytest.raises(NotSent) as refused:
        await carrier(port, environment=secret, **its).deliver(outgoing(), CONTENT)
    assert handler.logins == []
    trusted = ssl.create_default_context(cafile=certificate / "cert.pem")
    told = await carrier(port, environment=secret, context=trusted, **its).deliver(outgoing(), CONTENT)
    assert len(handler.taken) == 1
    with pytest.raises(NotSent, match="no password"):
        await carrier(port, context=trusted, **its).deliver(outgoing(), CONTENT)
    with pytest.raises(NotSent) as wrong:
        await carrier(port, environment={"MAIL_PASSWORD": "wrong horse"}, context=trusted, **its).deliver(
            outgoing(), CONTENT
        )
    assert "refused it (535)" in str(wrong.value)
    assert "horse" not in f"{told.detail} {refused.value} {wrong.value}"


async def test_mail_does_not_leave_the_machine_without_tls(serve, carrier, monkeypatch):
    """A server elsewhere that offers no STARTTLS, told from ours by its name alone."""
    from takeback.tools.email import smtp

    monkeypatch.setattr(smtp, "LOOPBACK", frozenset())
    handler = Handler()
    with pytest.raises(NotSent, match="does not offer TLS"):
        await carrier(await serve(handler)).deliver(outgoing(), CONTENT)
    assert handler.taken == []
