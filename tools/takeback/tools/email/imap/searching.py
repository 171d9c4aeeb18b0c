"""What is asked of the server's SEARCH, and how much of its answer is looked at. Pure but for the asking."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from takeback.tools.email.imap.names import FLAGS
from takeback.tools.email.imap.wire import SaidNo, Wire
from takeback.tools.email.port import Flag, Wanted
from takeback.tools.system import Refused

MOST: Final = 5000
"""Messages of a folder whose date and flags are fetched: the ones that came into it last."""
WINDOW: Final = 50_000
"""Numbers of one SEARCH, so that its answer stays within what a line may hold."""
_KEYS: Final[dict[Flag, tuple[str, ...]]] = {
    "seen": ("SEEN",),
    "answered": ("ANSWERED",),
    "flagged": ("FLAGGED",),
    "draft": ("DRAFT",),
    "deleted": ("DELETED",),
    "passed": ("KEYWORD", FLAGS["passed"]),
}


def criteria(wanted: Wanted) -> list[object]:
    """As SEARCH wants it. It may find more: days are counted in the server's zone, and the caller looks at times itself."""
    found: list[object] = []
    if wanted.since_ns is not None:
        found += ["SINCE", _day(wanted.since_ns, -1)]
    if wanted.before_ns is not None:
        found += ["BEFORE", _day(wanted.before_ns, 2)]
    for key, text in (("FROM", wanted.sender), ("SUBJECT", wanted.subject), ("TEXT", wanted.query)):
        if text:
            found += [key, _line(text)]
    if wanted.to:
        found += ["OR", "TO", _line(wanted.to), "CC", _line(wanted.to)]
    for flag in wanted.flags:
        found += _KEYS[flag]
    return found


def newest(wire: Wire, wanted: Wanted, next_uid: int, messages: int, most: int) -> tuple[list[int], bool]:
    """Numbers of messages in the open folder that fit, the latest `most` of them, and whether there are more."""
    asked = criteria(wanted)
    if not messages:
        return [], False
    # where the server does not tell the next number, all are asked for at once
    high, width = (next_uid - 1, WINDOW) if next_uid else (4_294_967_295, 4_294_967_295)
    if messages <= WINDOW:
        width = high
    found: list[int] = []
    while high > 0:
        low = max(1, high - width + 1)
        try:
            found[:0] = wire.search(["UID", f"{low}:{high}", *asked])
        except SaidNo as error:
            raise Refused(
                f"{wire.host} cannot search for that: {error}", advice="Search for other words, or by date and flags."
            ) from error
        if len(found) > most:
            return found[-most:], True
        high, width = low - 1, width * 2
    return found, False


def _day(moment_ns: int, days: int) -> date:
    try:
        return (datetime.fromtimestamp(moment_ns // 1_000_000_000, UTC) + timedelta(days=days)).date()
    except (OverflowError, ValueError, OSError):
        return date(1970, 1, 1) if moment_ns < 0 else date(9998, 1, 1)


def _line(text: str) -> str:
    # a header has no line ends, and a command must not
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def words(wanted: Wanted) -> Sequence[str]:
    """Texts that the server looks for by its own idea of words."""
    return [text for text in (wanted.query, wanted.sender, wanted.to, wanted.subject) if text]
