"""Reading an HTTP request without trusting it: one header of a name, a body bounded in bytes and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Receive, Scope


class Unreadable(Exception):
    """The request is not read any further: a status and one sentence."""

    def __init__(self, status: int, words: str, *, close: bool = False) -> None:
        super().__init__(words)
        self.status, self.words, self.close = status, words, close


def one_header(scope: Scope, name: bytes) -> str | None:
    """The one header of that name.

    :raises Unreadable: there are several: whoever is in front of us may have looked at another one.
    """
    found = [value for key, value in scope["headers"] if key == name]
    if len(found) > 1:
        raise Unreadable(400, f"The header {name.decode()} appears more than once.")
    return found[0].decode("latin-1").strip() if found else None


async def read_body(scope: Scope, receive: Receive, *, most: int, seconds: float) -> bytes:
    """The whole body.

    :param most: bytes.
    :param seconds: that a client gets to send it.
    :raises Unreadable: it is larger (413), takes longer (408), or breaks off (400).
    """
    too_large = Unreadable(413, f"A request has at most {most} bytes; send less at once.", close=True)
    declared = one_header(scope, b"content-length")
    # A client that sends a little too much is heard out, or it would lose the answer while it still writes.
    heard = 4 * most
    if declared is not None and (not declared.isdigit() or len(declared) > 12 or int(declared) > heard):
        raise too_large
    body, length = bytearray(), 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Unreadable(400, "The request broke off.", close=True)
                piece: bytes = message.get("body", b"")
                length += len(piece)
                if length > heard:
                    raise too_large
                if length <= most:
                    body += piece
                else:
                    body.clear()
                if not message.get("more_body", False):
                    break
    except TimeoutError as error:
        raise Unreadable(408, "The request took too long to arrive.", close=True) from error
    if length > most:
        raise too_large
    return bytes(body)
