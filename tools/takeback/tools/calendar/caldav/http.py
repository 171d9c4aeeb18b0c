"""Requests to one server: bounded, to that host alone, and with an error that says whether anything can have happened."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx2

from takeback.tools.system import Refused, TargetError, Unavailable

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 30.0
"""Between two pieces of an answer."""
WHOLE_SECONDS: Final = 120.0
"""For a request with its whole answer."""
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of an answer: a listing of 10,000 events is about 6 MiB."""
REDIRECTS: Final = 3
CHANGING: Final = frozenset({"PUT", "DELETE"})
_LOOK: Final = "Look at the calendar before anything is tried again."


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    headers: httpx2.Headers
    body: bytes
    url: str
    """Where it was said: after redirects."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and bytes; see the module's constants."""

    connect: float = CONNECT_SECONDS
    silence: float = SILENCE_SECONDS
    whole: float = WHOLE_SECONDS
    largest: int = LARGEST


DEFAULT_LIMITS: Final = Limits()


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port.

    :raises ValueError: the port is none.
    """
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


class Http:
    """A client that knows one host and one login."""

    def __init__(self, url: str, username: str, password: str, limits: Limits = DEFAULT_LIMITS) -> None:
        self.origin = origin(url)
        self.host = self.origin[1]
        self._limits = limits
        encrypted = self.origin[0] == "https"
        self._client = httpx2.AsyncClient(
            # as bytes: a password may have any character, and servers expect UTF-8 (RFC 7617)
            auth=httpx2.BasicAuth(username.encode(), password.encode()) if username else None,
            timeout=httpx2.Timeout(limits.silence, connect=limits.connect),
            follow_redirects=False,
            # a proxy of the environment must not see a password that goes in the clear to this machine
            trust_env=encrypted,
            verify=True,
            # what has lain idle may have been closed by the server, and then a write would be "not known"
            limits=httpx2.Limits(max_connections=8, keepalive_expiry=4.0),
            # no compression: ETags stay strong, and sizes are what is read
            headers={"Accept-Encoding": "identity", "User-Agent": "takeback"},
        )

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Ask; redirects on the same host are followed unless something is to be changed.

        :raises Unavailable: nothing was changed, and it may work later.
        :raises Refused: the server sends elsewhere, or its answer is too large.
        :raises TargetError: something was to be changed, and it is not known whether it was.
        """
        for _ in range(REDIRECTS + 1):
            if origin(url) != self.origin:
                raise Refused(
                    f"{self.host} sends to another host, which is not given the password.",
                    advice="If that is where the calendar lives now, put that address into the configuration.",
                )
            answer = await self._once(method, url, headers or {}, body)
            target = answer.headers.get("location")
            if answer.status not in (301, 302, 307, 308) or target is None:
                return answer
            if method in CHANGING:
                raise Refused(
                    f"{self.host} sends to another address instead of writing; nothing was changed.",
                    advice="Put the calendar's present address into the configuration.",
                )
            try:
                url = urljoin(url, target)
                origin(url)
            except ValueError:
                raise Refused(f"{self.host} sends to an address that is none.") from None
        raise Refused(f"{self.host} sends from one address to the next without end.")

    async def _once(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        try:
            async with (
                asyncio.timeout(self._limits.whole),
                self._client.stream(method, url, headers=dict(headers), content=body) as answer,
            ):
                return Answer(answer.status_code, answer.headers, await self._body(answer), url)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            # no request was sent: there was no connection to send it by
            raise Unavailable(
                f"{self.host} cannot be reached ({type(error).__name__}).", advice="Try again when it can."
            ) from None
        except (httpx2.HTTPError, TimeoutError, _TooLarge) as error:
            kind = "its answer is too large" if isinstance(error, _TooLarge) else type(error).__name__
            if method in CHANGING:
                raise not_known(f"{self.host} gave no usable answer ({kind})") from None
            if isinstance(error, _TooLarge):
                raise Refused(f"What {self.host} answers is larger than {self._limits.largest} bytes.") from None
            raise Unavailable(f"{self.host} gave no answer ({kind}).", advice="Try again later.") from None

    async def _body(self, answer: httpx2.Response) -> bytes:
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise httpx2.DecodingError("compressed, though that was not asked for")
        read = bytearray()
        async for piece in answer.aiter_raw():
            read += piece
            if len(read) > self._limits.largest:
                raise _TooLarge
        return bytes(read)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()


class _TooLarge(Exception):
    """The answer has more bytes than are read."""


def not_known(why: str) -> TargetError:
    """Something was sent, and nobody can say what became of it."""
    return TargetError(f"It is not known whether the calendar was changed: {why}.", advice=_LOOK)


def failure(answer: Answer, host: str, method: str) -> TargetError:
    """What a status means that is no success and has no meaning of its own to whoever asked."""
    status = answer.status
    if status == 401:
        return Refused(
            f"{host} does not accept the user name or the password.",
            advice="Many providers want an app password. Store it anew and try again.",
        )
    if status == 403:
        return Refused(f"{host} does not allow this ({method}).", advice="Check the rights of this user.")
    if status in (404, 410):
        return Refused(f"{host} has no calendar at this address.", advice="Check the url in the configuration.")
    if status == 423:
        return Unavailable(
            f"The event or calendar is locked at {host}; nothing was changed.", advice="Try again later."
        )
    if status == 507:
        return Unavailable(f"{host} has no room left; nothing was changed.", advice="Free some space there.")
    if status in (408, 425, 429):
        return Unavailable(f"{host} asks to wait ({status}); nothing was changed.", advice="Try again later.")
    if status == 413:
        return Refused(f"{host} finds this too large; nothing was changed.", advice="Make the event smaller.")
    if status >= 500 or status < 300:
        if method in CHANGING:
            return not_known(f"{host} answered {status}")
        return Unavailable(f"{host} answered {status}.", advice="Try again later.")
    return Refused(f"{host} refuses this ({status}).", advice="Check that the url is that of a CalDAV calendar.")
