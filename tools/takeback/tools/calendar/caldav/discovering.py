"""Which calendars a person has on a server: from its address to the person's principal, to the home of calendars, to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

from takeback.tools.calendar.caldav.http import DEFAULT_LIMITS, Http, Limits, failure, origin
from takeback.tools.calendar.caldav.multistatus import CALDAV, DAV, BadXml, Element, Response, propfind, responses
from takeback.tools.system import Refused

WELL_KNOWN: Final = "/.well-known/caldav"
_STEP: Final = propfind((DAV, "current-user-principal"), (CALDAV, "calendar-home-set"), (DAV, "resourcetype"))
_CALENDARS: Final = propfind((DAV, "displayname"), (DAV, "resourcetype"), (CALDAV, "supported-calendar-component-set"))


@dataclass(frozen=True, slots=True)
class Found:
    """A calendar on the server."""

    url: str
    """What belongs into `[calendars.NAME] url`."""
    label: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found."""

    calendars: tuple[Found, ...] = ()
    elsewhere: str = ""
    """The calendars are said to be at this address of another host. It was not asked, for it must not be given the password
    unless the person wants it: they can begin there."""


async def discover(url: str, username: str, password: str, *, limits: Limits = DEFAULT_LIMITS) -> Discovery:
    """All calendars for events of that user, sorted by address.

    :raises Refused: the login is not accepted, or no calendars are told of.
    :raises Unavailable:
    """
    http = Http(url, username, password, limits)
    try:
        return await _discover(http, url)
    finally:
        await http.close()


async def _discover(http: Http, url: str) -> Discovery:
    asked: set[str] = set()
    for start in (url, urljoin(url, WELL_KNOWN)):
        place = start
        while place not in asked:
            asked.add(place)
            found = await _ask(http, place, _STEP, "0", lenient=True)
            if found is None:
                break
            where, parts = found
            home = _href(parts, "calendar-home-set", CALDAV)
            principal = _href(parts, "current-user-principal", DAV)
            if home is None and principal is None:
                break
            place = urljoin(where, home or principal or "")
            if not _same_host(http, place):
                return Discovery(elsewhere=place)
            if home is not None:
                return await _calendars(http, place)
    raise Refused(
        f"{http.host} does not say where the calendars of this user are.",
        advice="Look the calendar's address up in the provider's own settings.",
    )


async def _calendars(http: Http, home: str) -> Discovery:
    found = await _ask(http, home, _CALENDARS, "1", lenient=False)
    assert found is not None
    where, parts = found
    calendars: list[Found] = []
    for part in parts:
        kind = part.found.first("resourcetype")
        place = urljoin(where, part.href)
        if kind is None or kind.first("calendar", CALDAV) is None or not _holds_events(part.found):
            continue
        if _same_host(http, place):
            label = part.found.first("displayname")
            calendars.append(Found(place, label.text.strip() if label is not None else ""))
    return Discovery(tuple(sorted(calendars, key=lambda each: each.url)))


async def _ask(
    http: Http, url: str, body: bytes, depth: str, *, lenient: bool
) -> tuple[str, Sequence[Response]] | None:
    headers = {"Depth": depth, "Content-Type": "application/xml; charset=utf-8"}
    answer = await http.send("PROPFIND", url, headers=headers, body=body)
    if answer.status != 207:
        if lenient and answer.status in (400, 403, 404, 405, 410, 501):
            return None  # this address knows nothing; the next may
        raise failure(answer, http.host, "PROPFIND")
    try:
        return answer.url, responses(answer.body)
    except BadXml as error:
        raise Refused(f"What {http.host} answers cannot be read: {error}.") from None


def _href(parts: Sequence[Response], name: str, namespace: str) -> str | None:
    for part in parts:
        holder = part.found.first(name, namespace)
        href = holder.first("href") if holder is not None else None
        if href is not None and href.text.strip():
            return href.text.strip()
    return None


def _same_host(http: Http, url: str) -> bool:
    try:
        return origin(url) == http.origin
    except ValueError:
        return False


def _holds_events(found: Element) -> bool:
    """Lists of tasks are calendars too; one that does not say takes everything (RFC 4791)."""
    kinds = found.first("supported-calendar-component-set", CALDAV)
    return kinds is None or not kinds.children or any(each.named == "VEVENT" for each in kinds.children)
