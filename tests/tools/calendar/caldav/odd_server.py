"""A server on loopback that answers as a test says: with what real ones do on a bad day, or what a wrong one might."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

LOSE = b""
"""Instead of an answer: the connection is closed."""
HANG = b"hang"
"""Instead of an answer: silence, until the client gives up."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Word", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


OPTIONS = answer(200, DAV="1, 2, calendar-access")


@dataclass
class OddServer:
    """Answers from a list by method, the last of which stays."""

    port: int = 0
    plan: dict[str, list[bytes]] = field(default_factory=lambda: {"OPTIONS": [OPTIONS]})
    seen: list[Request] = field(default_factory=list[Request])
    stored: dict[str, bytes] = field(default_factory=dict[str, bytes])
    on_request: Callable[[Request], None] = lambda _: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/cal/"

    def methods(self) -> list[str]:
        return [each.method for each in self.seen]

    def says(self, method: str, *answers: bytes) -> None:
        self.plan[method] = list(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := (await reader.readline()).decode():
                method, path, _ = line.split()
                headers: dict[str, str] = {}
                while (line := (await reader.readline()).decode().strip()) != "":
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                request = Request(
                    method, path, headers, await reader.readexactly(int(headers.get("content-length", "0")))
                )
                self.seen.append(request)
                self.on_request(request)
                planned = self.plan.get(method, [answer(405)])
                said = planned.pop(0) if len(planned) > 1 else planned[0]
                if said == LOSE:
                    break
                if said == HANG:
                    await reader.read()
                    break
                writer.write(said)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
