"""Reaching an IMAP server: TLS verified before a password goes out, and every wait bounded. IMAPClient speaks the protocol."""

from __future__ import annotations

import contextlib
import imaplib
import importlib
import logging
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, cast

from takeback.tools.system import Refused, Unavailable

CONNECT_SECONDS: Final = 10.0
SECONDS: Final = 30.0
"""For each piece of an answer."""
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

# a debug log of IMAPClient and imaplib would hold every message
logging.getLogger("imapclient").setLevel(logging.WARNING)


class Client(Protocol):
    """What is used of IMAPClient, which has no types of its own."""

    normalise_times: bool

    def capabilities(self) -> tuple[bytes, ...]: ...
    def socket(self) -> socket.socket: ...
    def starttls(self, ssl_context: ssl.SSLContext) -> object: ...
    def login(self, username: str, password: str) -> object: ...
    def sasl_login(self, mech_name: str, mech_callable: Callable[[bytes], bytes]) -> object: ...
    def namespace(self) -> Any: ...
    def select_folder(self, folder: str, readonly: bool = False) -> dict[bytes, Any]: ...
    def folder_status(self, folder: str, what: Sequence[str]) -> dict[bytes, int]: ...
    def create_folder(self, folder: str) -> object: ...
    def noop(self) -> object: ...
    def search(self, criteria: Sequence[object], charset: str | None = None) -> list[int]: ...
    def fetch(self, messages: Sequence[int], data: Sequence[str]) -> Mapping[int, Mapping[bytes, Any]]: ...
    def append(self, folder: str, msg: bytes, flags: Sequence[str], msg_time: datetime) -> bytes: ...
    def copy(self, messages: Sequence[int], folder: str) -> object: ...
    def move(self, messages: Sequence[int], folder: str) -> object: ...
    def uid_expunge(self, messages: Sequence[int]) -> object: ...
    def logout(self) -> object: ...
    def shutdown(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Account:
    """Which server, and who asks."""

    direct: bool
    """TLS from the first byte; else STARTTLS, and without it only on this machine."""
    host: str
    port: int
    username: str
    password: str
    context: ssl.SSLContext | None = None
    """Whom to believe; by default the authorities that the system knows."""
    seconds: float = SECONDS


def connect(account: Account) -> Client:
    """A connection that is logged in.

    :raises Unavailable: the server cannot be reached.
    :raises Refused: it cannot be trusted, or does not take the password.
    """
    try:
        client_library = library("imapclient")
    except ImportError as error:
        raise Refused(
            "A mailbox on an IMAP server needs IMAPClient, which is not installed.",
            advice="Install takeback with its extra, takeback[email].",
        ) from error
    context = account.context or ssl.create_default_context()
    try:
        client = cast(
            "Client",
            client_library.IMAPClient(
                account.host,
                account.port,
                ssl=account.direct,
                ssl_context=context if account.direct else None,
                timeout=client_library.SocketTimeout(
                    connect=min(CONNECT_SECONDS, account.seconds), read=account.seconds
                ),
            ),
        )
    except ssl.SSLCertVerificationError as error:
        raise _untrusted(account.host, error) from error
    except (OSError, imaplib.IMAP4.error) as error:
        raise Unavailable(
            f"{account.host} cannot be reached ({plain(error)}).", advice="Try again when it can."
        ) from error
    try:
        # IMAPClient sends some commands in pieces, and each would wait for the other side's delayed acknowledgement
        client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _greet(account, client, context)
    except BaseException:
        with contextlib.suppress(Exception):  # it is given up anyway
            client.shutdown()
        raise
    client.normalise_times = False
    return client


def _greet(account: Account, client: Client, context: ssl.SSLContext) -> None:
    try:
        if not account.direct:
            if b"STARTTLS" in client.capabilities():
                client.starttls(context)
            elif account.host not in LOOPBACK:
                raise Refused(
                    f"{account.host} does not offer TLS, and no password leaves this machine without it.",
                    advice="Use imaps://, or another server.",
                )
        _login(account, client)
    except ssl.SSLCertVerificationError as error:
        raise _untrusted(account.host, error) from error
    except (OSError, imaplib.IMAP4.abort) as error:
        raise Unavailable(f"{account.host} broke off ({plain(error)}).", advice="Try again later.") from error


def _login(account: Account, client: Client) -> None:
    try:
        if b"AUTH=PLAIN" in client.capabilities():
            # as bytes: a password may have any character, and servers expect UTF-8 (RFC 4616)
            answer = f"\0{account.username}\0{account.password}".encode()
            client.sasl_login("PLAIN", lambda _: answer)
        elif account.username.isascii() and account.password.isascii():
            client.login(account.username, account.password)
        else:
            raise Refused(
                f"{account.host} takes only ASCII letters in a password.", advice="Choose such a password there."
            )
    except imaplib.IMAP4.abort:
        raise
    except imaplib.IMAP4.error as error:
        # its words are not repeated: some servers repeat what they were sent
        raise Refused(
            f"{account.host} does not accept the user name or the password.",
            advice="Many providers want an app password, and some no passwords any more: see docs/imap.md.",
        ) from error


def library(part: str) -> Any:
    """A module of IMAPClient, which has no types: not before a server is asked."""
    return importlib.import_module(f"imapclient.{part}")


def _untrusted(host: str, error: ssl.SSLCertVerificationError) -> Refused:
    return Refused(
        f"The certificate of {host} cannot be trusted ({error.verify_message}); the password was not sent.",
        advice="Check the name of the server. A certificate of your own has to be trusted by this system first.",
    )


def text_of(value: object) -> str:
    """What a server said, as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def plain(what: object) -> str:
    """A server's words on one line, without what could steer a terminal."""
    if isinstance(what, list):
        what = " ".join(text_of(each) for each in cast("list[object]", what))
    return " ".join("".join(c if c.isprintable() else " " for c in text_of(what)).split())[:300]
