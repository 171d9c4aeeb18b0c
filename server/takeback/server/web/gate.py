"""What every request of a browser passes: the name it is addressed to, the page it comes from, who sends it, and how much.

A web page elsewhere can make a browser send requests here, under a name of its own that resolves to this machine (DNS
rebinding) or with the cookie of this page (a forged form, a frame, a script). Each of these is refused for itself: the host has
to be this machine's address with this page's port, the origin the same, the cookie is only sent by pages of the same site, and
what acts needs the token of a form that was made for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from takeback.server.mcp.http_names import Authority, authority_of, origin_of
from takeback.server.mcp.http_read import Unreadable, one_header, read_body
from takeback.server.web.address import Address
from takeback.server.web.exchange import Request, Response, fields
from takeback.server.web.frame import told
from takeback.server.web.html import e
from takeback.server.web.neighbours import is_ours
from takeback.server.web.site import Site
from takeback.server.web.visitors import SESSION_SECONDS, Visitors

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE: Final = "takeback"
BODY_BYTES: Final = 1_500_000
"""Of a form; what is edited in it is shorter (`texts.py`)."""

HEADERS: Final = (
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),  # with no-referrer, browsers would say "null" for the origin of our own forms
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
)

_log = logging.getLogger("takeback")


class PageGate:
    """The ASGI application."""

    def __init__(
        self, site: Site, visitors: Visitors, address: Address, *, seconds: float, seen: Callable[[], None]
    ) -> None:
        """
        :param seconds: what a browser gets to send a form.
        :param seen: called whenever somebody who is known asks for something.
        """
        self._site, self._visitors, self._base = site, visitors, address.base
        self._names = {
            Authority(name, address.port if address.port != 80 else None) for name in ("127.0.0.1", "localhost")
        }
        self._seconds, self._seen = seconds, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the application."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            close = False
            try:
                response = await self._answer(scope, receive)
            except Unreadable as refusal:
                close = refusal.close
                # nothing of the page in it: whoever is refused is not told the name of its folder either
                response = Response(f"{refusal.words}\n".encode(), refusal.status, "text/plain; charset=utf-8")
            await _send(send, response, close=close, without_body=scope["method"] == "HEAD")

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        self._addressed(scope, method)
        if method not in ("GET", "POST"):
            raise Unreadable(405, "This method is not known here.")
        path = _path(scope)
        if not path.startswith(self._base + "/"):
            raise Unreadable(404, "There is nothing here.")
        path = path.removeprefix(self._base)
        if method == "GET" and (public := self._site.public(path)) is not None:
            return public
        query = _fields(scope["query_string"].decode("latin-1"))
        if path == "/enter" and method == "GET":
            if not is_ours(tuple(scope["client"]), tuple(scope["server"])):
                raise Unreadable(403, "This key is somebody else's.")  # and stays good for them
            return self._enter((query.get("key") or [""])[-1], (query.get("to") or ["/"])[-1])
        session = self._session(scope)
        if not session:
            return self._stranger(path)
        self._seen()
        form = await self._form(scope, receive) if method == "POST" else {}
        return await self._site.answer(Request(method, path, query, form, session))

    def _addressed(self, scope: Scope, method: str) -> None:
        if authority_of(one_header(scope, b"host") or "") not in self._names:
            raise Unreadable(421, "This is not a name of this page.")
        origin = one_header(scope, b"origin")
        if origin is not None or method == "POST":  # a browser always says where a form comes from
            from_where = origin_of(origin or "")
            if from_where is None or from_where[0] != "http" or from_where[1] not in self._names:
                raise Unreadable(403, "Pages of this origin may not address this page.")
            if from_where[1] != authority_of(one_header(scope, b"host") or ""):
                raise Unreadable(403, "The form comes from another name of this page.")
        site = one_header(scope, b"sec-fetch-site") or "none"
        if site not in ("same-origin", "none"):
            # a link on a page elsewhere may lead here; nothing else of that page may reach us
            walked = (one_header(scope, b"sec-fetch-mode"), one_header(scope, b"sec-fetch-dest")) == (
                "navigate",
                "document",
            )
            if method != "GET" or not walked:
                raise Unreadable(403, "Other pages may not address this page.")

    def _enter(self, key: str, to: str) -> Response:
        session = self._visitors.enter(key)
        if session is None:
            words = "This key has been used, or is too old. Each opens the page once, within ten minutes."
            return told(self._base, "The key does not open", words, "Run takeback web --url for a new one.", status=403)
        self._seen()
        # below the page's folder, so it is no other host's; and nothing that could end a header
        place = to if to.startswith("/") and to.isascii() and to.isprintable() else "/"
        cookie = f"{COOKIE}={session}; Path={self._base}/; Max-Age={int(SESSION_SECONDS)}; HttpOnly; SameSite=Strict"
        return Response(status=303, headers=(("location", self._base + place), ("set-cookie", cookie)))

    def _stranger(self, path: str) -> Response:
        words = "The page does not know this browser, or cannot tell, because you come from another web page."
        advice = (
            "If it was let in within the last month, go on with the link. Otherwise run takeback web --url in a terminal, and "
            "open the address that it prints: it lets this browser in."
        )
        # cookies of a page are not sent along a link from another one; along one from here they are
        onward = e("p", e("a", "Go on", href=self._base + path, class_="button"))
        return told(self._base, "Who are you?", words, advice, onward, status=401)

    def _session(self, scope: Scope) -> str:
        given = one_header(scope, b"cookie")
        if not given:
            return ""
        try:
            found = SimpleCookie(given).get(COOKIE)
        except CookieError:
            return ""
        return found.value if found is not None and self._visitors.known(found.value) else ""

    async def _form(self, scope: Scope, receive: Receive) -> dict[str, list[str]]:
        kind = (one_header(scope, b"content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise Unreadable(415, "Only forms of this page are taken.", close=True)
        body = await read_body(scope, receive, most=BODY_BYTES, seconds=self._seconds)
        try:
            return _fields(body.decode("ascii"))
        except UnicodeDecodeError as error:
            raise Unreadable(400, "The form is not written as one.") from error


def _path(scope: Scope) -> str:
    """The path as it was sent, decoded once; nothing is resolved in it, because nothing is looked up by it on a disk."""
    raw: bytes = scope.get("raw_path") or b""
    path = unquote(raw.partition(b"?")[0].decode("latin-1"), errors="replace")
    return path if path.isprintable() else ""


def _fields(text: str) -> dict[str, list[str]]:
    try:
        return {name: list(values) for name, values in fields(text).items()}
    except ValueError as error:
        raise Unreadable(400, "The address or form is not written as one.") from error


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _send(send: Send, response: Response, *, close: bool, without_body: bool) -> None:
    headers = [
        ("content-type", response.kind),
        ("content-length", str(len(response.body))),
        *HEADERS,
        *([("connection", "close")] if close else []),
        *response.headers,
    ]
    start = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": response.status, "headers": start})
    await send({"type": "http.response.body", "body": b"" if without_body else response.body})


def application(gate: PageGate) -> ASGIApp:
    """For the server: the gate as what it is."""
    return gate
