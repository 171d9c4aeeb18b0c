"""When a page that was opened on demand has been there long enough."""

from __future__ import annotations

import time
from collections.abc import Callable


class Idle:
    """Watches whether anybody needs the page."""

    def __init__(self, seconds: float, *, server: bool, now: Callable[[], float] = time.monotonic) -> None:
        """
        :param seconds: unused for so long, it is not needed.
        :param server: a server has opened it, and is there (until `server_gone`).
        """
        self._seconds, self._now = seconds, now
        self._from_server = self._server = server
        self._began = now()
        self._last: float | None = None

    def seen(self) -> None:
        """Somebody has asked for something."""
        self._last = self._now()

    def server_gone(self) -> None:
        """The server that has opened it has ended."""
        self._server = False

    def over(self, *, waiting: bool) -> bool:
        """Whether it is time to end.

        :param waiting: an agent waits for an answer. It can only use it while its server is there.
        """
        if self._from_server and not self._server and self._last is None:
            return True
        unused = self._now() - (self._last if self._last is not None else self._began) >= self._seconds
        return unused and not (waiting and self._server)
