"""Where notices arrive in the tests: a mail server, a web server, a desktop. Real ones, on this machine."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import queue
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio.to_thread
from aiosmtpd.smtp import SMTP

SECONDS = 60.0
"""What a busy machine may take."""


async def taken(arrived: queue.Queue[Any]) -> Any:
    """The next thing that arrives."""
    return await anyio.to_thread.run_sync(lambda: arrived.get(timeout=SECONDS))


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Web:
    """Answers what it is told to, in turn; then 204."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    arrived: queue.Queue[Request] = field(default_factory=queue.Queue)


@contextmanager
def web() -> Iterator[Web]:
    made = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = made.answers.pop(0) if made.answers else 204
            self.send_response(status)
            if status == 307:
                self.send_header("location", made.url + "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()
            made.arrived.put(Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body))

        def log_message(self, *said: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def is_signed(request: Request, secret: str) -> bool:
    """As a receiver checks it, by the specification and not by our code."""
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return request.headers["webhook-signature"] == f"v1,{wanted}"


@dataclass
class Mail:
    url: str = ""
    port: int = 0
    arrived: queue.Queue[bytes] = field(default_factory=queue.Queue)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.arrived.put(envelope.content)
        return "250 OK"


@contextmanager
def mail() -> Iterator[Mail]:
    made, up, down = Mail(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = await loop.create_server(lambda: SMTP(made), "127.0.0.1", 0)
        made.port = server.sockets[0].getsockname()[1]
        made.url = f"mailto://127.0.0.1:{made.port}?from=takeback@example.org&to=anna@example.org&mode=insecure"
        up.set()
        await down.wait()
        server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert up.wait(SECONDS)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join()
        loop.close()


def desktop(folder: Path) -> Path:
    """A `notify-send` that writes down what it is given; the file it writes to. Its folder goes in front of PATH."""
    folder.mkdir()
    program, file = folder / "notify-send", folder / "shown"
    program.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" > {file}.part && mv {file}.part {file}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return file


def path_with(folder: Path) -> str:
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
