"""What every HTTP request passes before it reaches the SDK's application: name, origin, token, size, time, and strict JSON.

In this order, so that nobody learns or costs more than they have shown themselves good for: a request for another name is
not for us (421); a page that may not address us is refused (403); without a token nothing is read (401); a token without
the scopes is not enough (403); then the body is read, bounded in bytes (413) and time (408), and has to be one JSON-RPC
message (400).

The token ends here: behind the gate there is a principal, and no `Authorization` header any more.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp_types import INTERNAL_ERROR, INVALID_REQUEST, ErrorData, JSONRPCError, JSONRPCRequest, RequestId

from takeback.server.mcp.frames import Refused, decode
from takeback.server.mcp.http_jwt import KeysUnavailable
from takeback.server.mcp.http_names import Names
from takeback.server.mcp.http_read import Unreadable, one_header, read_body
from takeback.server.mcp.http_tokens import Identity, Verifier
from takeback.server.mcp.identity import acting_as

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH: Final = "/mcp"
METADATA: Final = "/.well-known/oauth-protected-resource"
_METHODS: Final = ("POST", "GET", "DELETE")


@dataclass(frozen=True, slots=True)
class Protected:
    """What is published about this server as an OAuth resource (RFC 9728)."""

    resource: str
    issuer: str
    scopes: tuple[str, ...]
    metadata_url: str

    def document(self) -> bytes:
        """The metadata."""
        return json.dumps(
            {
                "resource": self.resource,
                "authorization_servers": [self.issuer],
                "scopes_supported": list(self.scopes),
                "bearer_methods_supported": ["header"],
                "resource_name": "takeback",
            }
        ).encode()


class Refusal(Exception):
    """A request that goes no further."""

    def __init__(
        self,
        status: int,
        words: str,
        *,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        close: bool = False,
        error: JSONRPCError | None = None,
    ) -> None:
        super().__init__(words)
        self.status, self.words, self.headers, self.close, self.error = status, words, headers, close, error


class Gate:
    """The ASGI application in front of the SDK's."""

    def __init__(
        self,
        app: ASGIApp,
        names: Names,
        verifiers: tuple[Verifier, ...],
        *,
        body_bytes: int,
        seconds: float,
        protected: Protected | None = None,
    ) -> None:
        """
        :param verifiers: asked in turn whose a token is.
        :param body_bytes: largest body taken.
        :param seconds: what a client gets to send a body.
        """
        self._app, self._names, self._verifiers = app, names, verifiers
        self._body_bytes, self._seconds, self._protected = body_bytes, seconds, protected
        self._open: set[anyio.CancelScope] = set()
        self._asked: set[tuple[str, str]] = set()
        self._calls = 0
        self._closing = False
        self._settled = asyncio.Event()
        self._settled.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take nothing new."""
        self._closing = True

    async def settled(self, within: float) -> bool:
        """Wait until every call is answered (streams without an end aside); false if that takes longer."""
        try:
            async with asyncio.timeout(within):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    def cut(self) -> None:
        """End what is still open: streams, and calls that took too long."""
        for scope in list(self._open):
            scope.cancel()

    # -- one request --------------------------------------------------------------------------------------------------

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        try:
            if scope["path"] in (METADATA, METADATA + PATH) and self._protected is not None:
                self._addressed(scope)
                await answer.whole(200, b"application/json", self._protected.document())
                return
            who = await self._admit(scope)
            body, request = await self._message(scope, receive) if scope["method"] == "POST" else (b"", None)
            with self._counted(scope, who, request), anyio.CancelScope() as life:
                self._open.add(life)
                try:
                    if who.expires_at is not None and _is_stream(scope, request):
                        life.deadline = anyio.current_time() + max(0.0, who.expires_at - time.time())
                    with acting_as(who.principal):
                        await self._app(_without_token(scope, who), _replaying(body, receive), answer.send)
                finally:
                    self._open.discard(life)
            if life.cancelled_caught:
                await answer.finish()
        except Refusal as refusal:
            await answer.refuse(refusal)

    def _addressed(self, scope: Scope) -> None:
        host = _header(scope, b"host") or ""
        if self._names.host(host) is None:
            raise Refusal(421, "This is not a name of this server.")
        origin = _header(scope, b"origin")
        if origin is not None and not self._names.origin(origin, host):
            raise Refusal(403, "Pages of this origin may not address this server.")

    async def _admit(self, scope: Scope) -> Identity:
        self._addressed(scope)
        if scope["path"] != PATH:
            raise Refusal(404, f"There is nothing here; MCP is at {PATH}.")
        if scope["method"] not in _METHODS:
            raise Refusal(405, "This method is not known here.", headers=((b"allow", ", ".join(_METHODS).encode()),))
        who = await self._who(scope)
        missing = [each for each in self._required(who) if each not in who.scopes]
        if missing:
            words = "The token does not have the scopes that are needed."
            needed = " ".join(self._required(who))
            challenge = self._challenge(("error", "insufficient_scope"), ("scope", needed))
            raise Refusal(403, words, headers=(challenge,))
        if self._closing:
            raise Refusal(503, "The server is shutting down.", headers=((b"retry-after", b"5"),), close=True)
        return who

    def _required(self, who: Identity) -> tuple[str, ...]:
        """Scopes are the issuer's: tokens of the configuration have none and need none."""
        return self._protected.scopes if self._protected is not None and who.issuer is not None else ()

    async def _who(self, scope: Scope) -> Identity:
        given = _header(scope, b"authorization")
        if given is None:
            raise Refusal(401, "A token is needed: Authorization: Bearer …", headers=(self._challenge(),))
        scheme, _, token = given.partition(" ")
        token = token.strip()
        if scheme.lower() == "bearer" and token and token.isascii():
            try:
                for verifier in self._verifiers:
                    identity = await verifier.identify(token)
                    if identity is not None:
                        return identity
            except KeysUnavailable as error:
                words = "Tokens cannot be checked at the moment: the issuer's keys are out of reach."
                raise Refusal(503, words, headers=((b"retry-after", b"10"),)) from error
        raise Refusal(401, "The token is not valid here.", headers=(self._challenge(("error", "invalid_token")),))

    def _challenge(self, *parameters: tuple[str, str]) -> tuple[bytes, bytes]:
        parts = [("realm", "takeback"), *parameters]
        if self._protected is not None:
            parts.append(("resource_metadata", self._protected.metadata_url))
        words = ", ".join(f'{name}="{value}"' for name, value in parts)
        return b"www-authenticate", f"Bearer {words}".encode()

    async def _message(self, scope: Scope, receive: Receive) -> tuple[bytes, JSONRPCRequest | None]:
        body = await self._body(scope, receive)
        message = decode(body, self._body_bytes)
        if isinstance(message, Refused):
            error = _error(message.id, message.code, message.message)
            raise Refusal(400, message.message, error=error)
        return body, message if isinstance(message, JSONRPCRequest) else None

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        try:
            return await read_body(scope, receive, most=self._body_bytes, seconds=self._seconds)
        except Unreadable as error:
            raise Refusal(error.status, error.words, close=error.close) from error

    @contextmanager
    def _counted(self, scope: Scope, who: Identity, request: JSONRPCRequest | None) -> Generator[None]:
        """Count calls, so that the end can wait for them; refuse a second one under the id of one at work."""
        if _is_stream(scope, request) or request is None:
            yield
            return
        session = _header(scope, b"mcp-session-id")
        key = (session, str(request.id)) if session is not None else None
        if key is not None and key in self._asked:
            # Both answers would go to one stream, and one act might be done twice.
            words = "A request with this id is still being worked on."
            raise Refusal(409, words, error=_error(request.id, INVALID_REQUEST, words))
        if key is not None:
            self._asked.add(key)
        self._calls += 1
        self._settled.clear()
        try:
            yield
        finally:
            if key is not None:
                self._asked.discard(key)
            self._calls -= 1
            if not self._calls:
                self._settled.set()


class _Answer:
    """What is sent back, and how far that has come."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = self._done = False

    async def send(self, message: Message) -> None:
        """Pass a piece on."""
        self._begun = True
        self._done = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def whole(
        self,
        status: int,
        kind: bytes,
        body: bytes,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        *,
        close: bool = False,
    ) -> None:
        """A whole answer at once."""
        fixed = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
        fixed += [(b"connection", b"close")] if close else []
        await self.send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
        await self.send({"type": "http.response.body", "body": body})

    async def refuse(self, refusal: Refusal) -> None:
        """Say no."""
        error = refusal.error or _error(None, INVALID_REQUEST, refusal.words)
        document = error.model_dump(mode="json", by_alias=True, exclude_none=True) | {"id": error.id}
        await self.whole(
            refusal.status, b"application/json", json.dumps(document).encode(), refusal.headers, close=refusal.close
        )

    async def finish(self) -> None:
        """End what was cut off as an answer has to end."""
        if not self._begun:
            error = _error(None, INTERNAL_ERROR, "The server is shutting down; what an act did stands in the journal.")
            await self.refuse(Refusal(503, error.error.message, error=error, close=True))
        elif not self._done:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})


def _error(request: RequestId | None, code: int, words: str) -> JSONRPCError:
    return JSONRPCError(jsonrpc="2.0", id=request, error=ErrorData(code=code, message=words))


def _header(scope: Scope, name: bytes) -> str | None:
    """The one header of that name.

    :raises Refusal: there are several.
    """
    try:
        return one_header(scope, name)
    except Unreadable as error:
        raise Refusal(error.status, error.words) from error


def _is_stream(scope: Scope, request: JSONRPCRequest | None) -> bool:
    """Whether the answer has no end of its own: nobody waits for that at the end."""
    return scope["method"] == "GET" or (request is not None and request.method == "subscriptions/listen")


def _without_token(scope: Scope, who: Identity) -> Scope:
    """The request as it goes on: with the user, whom the SDK binds sessions to, instead of the token."""
    known = AccessToken(
        token="",  # nothing behind the gate has a use for it
        client_id=who.client,
        scopes=list(who.scopes),
        expires_at=who.expires_at,
        subject=who.principal,
        claims={"iss": who.issuer} if who.issuer is not None else None,
    )
    headers = [(name, value) for name, value in scope["headers"] if name not in (b"authorization", b"cookie")]
    return {**scope, "headers": headers, "user": AuthenticatedUser(known)}


def _replaying(body: bytes, receive: Receive) -> Receive:
    """What the application receives: the body that was read, then whatever comes (the client going away)."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message
