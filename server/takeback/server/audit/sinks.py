"""Where lines go: a file that others may move away at any time, or a webhook."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

import anyio.to_thread

from takeback.server.notices.channel import NotSent
from takeback.server.notices.settings import WebhookSettings
from takeback.server.notices.webhook import key_of, post, secret_of


class SinkFailed(Exception):
    """The lines were not taken, or not all of them; the same are to be written again. Why, in words."""


class Sink(ABC):
    """Takes lines. On return they are there; after `SinkFailed` they may be there in part."""

    name: str
    most: int
    """Lines that are taken at once."""

    @abstractmethod
    async def write(self, lines: list[str], first: int, last: int) -> None:
        """Take the lines of the events from position `first` to `last`.

        :raises SinkFailed: not taken, or in part.
        """


class FileSink(Sink):
    """Appends. The file is opened anew each time, so that whoever rotates it needs to tell nobody."""

    name = "file"
    most = 1000

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self._path, self._fsync = path, fsync

    async def write(self, lines: list[str], first: int, last: int) -> None:
        try:
            await anyio.to_thread.run_sync(self._append, "".join(f"{line}\n" for line in lines).encode("ascii"))
        except OSError as error:
            raise SinkFailed(f"{self._path} cannot be written: {error.strerror}") from error

    def _append(self, data: bytes) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self._path, flags, 0o600)
        try:
            size = os.lseek(descriptor, 0, os.SEEK_END)
            if size and _last_byte(descriptor, size) != b"\n":
                data = b"\n" + data  # whoever wrote before died in the middle of a line; that line comes again, whole
            while data:
                data = data[os.write(descriptor, data) :]
            if self._fsync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _last_byte(descriptor: int, size: int) -> bytes:
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1)


class WebhookSink(Sink):
    """Posts lines as `application/x-ndjson`, signed. The id names the positions, so that a repetition can be told."""

    name = "webhook"
    most = 200

    def __init__(self, url: str, secret_variable: str) -> None:
        self._settings = WebhookSettings(url=url, secret_variable=secret_variable)

    async def write(self, lines: list[str], first: int, last: int) -> None:
        try:
            key = key_of(secret_of("audit", self._settings))
        except (LookupError, ValueError) as error:
            raise SinkFailed(str(error.args[0])) from error
        body = "".join(f"{line}\n" for line in lines).encode("ascii")
        try:
            await post(self._settings.url, key, f"audit-{first}-{last}", body, "application/x-ndjson")
        except NotSent as error:
            raise SinkFailed(str(error)) from error
