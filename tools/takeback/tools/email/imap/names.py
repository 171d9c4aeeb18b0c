"""Keys of messages on a server, and flags as they are compared. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from takeback.tools.email.port import Flag

FLAGS: Final[dict[Flag, str]] = {
    "seen": "\\Seen",
    "answered": "\\Answered",
    "flagged": "\\Flagged",
    "draft": "\\Draft",
    "passed": "$Forwarded",
    "deleted": "\\Deleted",
}
"""Flags of the port by their names on the wire (RFC 3501, and the keyword of RFC 5788)."""
DELETED: Final = FLAGS["deleted"]
_SPELLED: Final = {name.lower(): name for name in FLAGS.values()}
_KEY = re.compile(r"(\d{1,10})\.(\d{1,10})\.(.+)\Z", re.DOTALL)
_NOT_IN_KEYS = re.compile(r"[%/:\x00-\x1f\x7f\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a message lies on a server: what these three name never changes its content (RFC 3501, 2.3.1.1)."""

    folder: str
    validity: int
    """UIDVALIDITY of the folder: another one means that its numbers mean other messages."""
    uid: int


def key_of(spot: Spot) -> str:
    """The key of a message that was never moved by us: `1764380000.45.INBOX`."""
    folder = _NOT_IN_KEYS.sub(lambda found: "".join(f"%{byte:02X}" for byte in _bytes(found[0])), spot.folder)
    return f"{spot.validity}.{spot.uid}.{folder}"


def spot_of(key: str) -> Spot | None:
    """Where the key says that its message was first seen; `None`: it does not say that."""
    found = _KEY.match(key)
    if found is None:
        return None
    folder = unquote(found[3], errors="surrogatepass")
    spot = Spot(folder, int(found[1]), int(found[2]))
    return spot if spot.uid > 0 and key_of(spot) == key else None


def sendable(folder: str) -> bool:
    """Whether the name can stand in a command: no control character ends the line early."""
    return bool(folder) and _CONTROL.search(folder) is None


def flags_of(words: Iterable[bytes]) -> frozenset[str]:
    r"""Flags as they are compared: system flags in one spelling, without `\Recent`, which nobody sets for good."""
    spelled = (word.decode("ascii", "replace") for word in words)
    return frozenset(_SPELLED.get(flag.lower(), flag) for flag in spelled if flag.lower() != "\\recent")


def numbers(text: str) -> list[int]:
    """A sequence set of a server's answer, in its order: `4,7:9` is 4, 7, 8, 9.

    :raises ValueError: it is none, or one without an end.
    """
    found: list[int] = []
    for part in text.split(","):
        first, colon, last = part.partition(":")
        low = int(first)
        high = int(last) if colon else low
        low, high = min(low, high), max(low, high)
        if high - low > 1_000_000:
            raise ValueError(text)
        found.extend(range(low, high + 1))
    return found


def _bytes(character: str) -> bytes:
    return character.encode("utf-8", "surrogatepass")
