"""Everything that Apprise can reach: mail, Slack, Teams, Matrix, push services and a hundred more. Needs `takeback[notify]`."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import anyio.to_thread

from takeback.journal.redaction import redact_text
from takeback.server.notices.channel import Channel, Notice, NotSent

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TOKEN: Final = re.compile(r"[^/:@?&=,#]{4,}")
WHY: Final = 200


def filled(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """The address with its variables put in.

    :raises LookupError: one is not set; in words.
    """

    def value(found: re.Match[str]) -> str:
        if not (given := environment.get(found[1])):
            raise LookupError(f"the environment variable {found[1]} is not set")
        return given

    return _VARIABLE.sub(value, url)


class Service(Channel):
    """One Apprise address."""

    def __init__(self, name: str, url: str) -> None:
        """
        :raises LookupError: it cannot be used; in words that do not repeat the address.
        """
        self.name, self._url = name, url
        try:
            import apprise
        except ImportError:
            raise LookupError("it needs the extra: pip install 'takeback[notify]'") from None
        # what it logs may have tokens in it, so it goes nowhere but here
        logging.getLogger("apprise").propagate = False
        # apprise is not typed: what is used of it is named here
        self._format: Any = apprise.NotifyFormat.TEXT
        self._service: Any = apprise.Apprise()
        if not self._service.add(url):
            raise LookupError("Apprise does not know such an address, or cannot use it on this machine")
        for one in self._service:
            # its pause for everybody is longer than people should wait; those that services ask for are kept
            if one.request_rate_per_sec == apprise.NotifyBase.request_rate_per_sec:
                one.request_rate_per_sec = 0

    @property
    def pause(self) -> float:
        """Seconds that it waits between two notices."""
        return max((float(one.request_rate_per_sec) for one in self._service), default=0.0)

    async def send(self, notice: Notice) -> None:
        # given up after a while, for a service that hangs must not hold up the end of the process
        taken, said = await anyio.to_thread.run_sync(partial(self._send, notice), abandon_on_cancel=True)
        if not taken:
            raise NotSent(f"the service did not take it{': ' + said if said else ''}", again=True)

    def _send(self, notice: Notice) -> tuple[bool, str]:
        said = _Said()
        logger = logging.getLogger("apprise")
        logger.addHandler(said)
        try:
            taken = self._service.notify(title=notice.title, body=notice.body, body_format=self._format)
        finally:
            logger.removeHandler(said)
        return bool(taken), self._discreet(said.last)

    def _discreet(self, said: str) -> str:
        """What a service said, without any part of its address."""
        for part in sorted(set(_TOKEN.findall(self._url)), key=len, reverse=True):
            said = said.replace(part, "…")
        return redact_text(" ".join(said.split()), os.urandom(16))[:WHY].rstrip(".")


class _Said(logging.Handler):
    """Keeps the last complaint of this thread: other services may be at work in others."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._mine = threading.get_ident()
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._mine:
            self.last = record.getMessage()
