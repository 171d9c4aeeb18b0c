"""Each form is good for one sending, by the browser it was shown to, to the place it was made for.

So a page elsewhere cannot send one, and one that is sent twice (a second click, a reload, somebody who recorded it) does
nothing twice. The key is of this process: a form from before a restart has to be looked at anew.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

FORM_SECONDS: Final = 12 * 3600
_TOKEN: Final = re.compile(r"([0-9]{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})")


class Sending(Enum):
    """What a form's token is worth."""

    GOOD = "good"
    SPENT = "spent"
    """It was sent before."""
    FOREIGN = "foreign"
    """It was not made here, not for this browser or place, or too long ago."""


class Forms:
    """The forms of one process."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._key, self._now = secrets.token_bytes(32), now
        self._spent: dict[str, int] = {}

    def token(self, session: str, place: str) -> str:
        """For a new form."""
        made, nonce = int(self._now()), secrets.token_hex(16)
        return f"{made}.{nonce}.{self._mac(session, place, made, nonce)}"

    def spend(self, session: str, place: str, token: str) -> Sending:
        """Take a form's token. GOOD is said once."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return Sending.FOREIGN
        made, nonce, mac = int(match[1]), match[2], match[3]
        now = int(self._now())
        if not hmac.compare_digest(mac, self._mac(session, place, made, nonce)) or made + FORM_SECONDS <= now:
            return Sending.FOREIGN
        if nonce in self._spent:
            return Sending.SPENT
        self._spent = {each: until for each, until in self._spent.items() if until > now}
        self._spent[nonce] = made + FORM_SECONDS
        return Sending.GOOD

    def _mac(self, session: str, place: str, made: int, nonce: str) -> str:
        return hmac.new(self._key, f"{session}\0{place}\0{made}\0{nonce}".encode(), hashlib.sha256).hexdigest()
