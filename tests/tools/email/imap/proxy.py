"""Between takeback and a real server: hides or presents extensions, breaks the connection before a command or its answer."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from typing import Literal

Cut = Literal["", "before", "after"]
CHANGING = re.compile(rb"(\S+) (?:UID )?(MOVE|COPY|STORE|APPEND|EXPUNGE|CREATE)\b", re.IGNORECASE)


class Proxy:
    """Listens on a port of its own. `cut` is asked at each command that changes something."""

    def __init__(self, target: int, *, hide: frozenset[bytes] = frozenset(), present: bytes = b"") -> None:
        """
        :param present: an extension that the server does not have.
        """
        self.target, self.hide, self.present = target, hide | {b"STARTTLS"}, present
        self.cut: Callable[[str], Cut] = lambda command: ""
        self.seen: list[str] = []
        """Commands that change something, in their order."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.drop()
        for thread in self._threads:
            thread.join(20)

    def drop(self) -> None:
        """All connections at once."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target), 20)
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [near, far]
            silent: set[bytes] = set()
            for work in (self._forth, self._back):
                thread = threading.Thread(target=work, args=(near, far, silent), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _forth(self, near: socket.socket, far: socket.socket, silent: set[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError), near.makefile("rb") as lines:
            for line in lines:
                found = CHANGING.match(line)
                if found is not None:
                    command = found[2].decode().upper()
                    self.seen.append(command)
                    match self.cut(command):
                        case "before":
                            break
                        case "after":
                            silent.add(found[1])
                        case _:
                            pass
                far.sendall(line)
        self._end(near, far)

    def _back(self, near: socket.socket, far: socket.socket, silent: set[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError), far.makefile("rb") as lines:
            for line in lines:
                if line.split(b" ", 1)[0] in silent:
                    break
                if self.hide and b"CAPABILITY" in line.upper():
                    words = re.split(rb"( |\]|\r\n)", line)
                    line = b"".join(word for word in words if word.upper() not in self.hide)
                    if self.present:
                        line = re.sub(rb"(CAPABILITY )", rb"\1" + self.present + b" ", line, count=1)
                near.sendall(line)
        self._end(near, far)

    @staticmethod
    def _end(*both: socket.socket) -> None:
        for each in both:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
