"""Names of resources and their addresses: one path segment below the collection, and nothing else."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote, urljoin, urlsplit

from takeback.tools.calendar.caldav.http import origin
from takeback.tools.system import Refused

LONGEST: Final = 255
"""Bytes of a name: servers keep them as names of files."""


class Elsewhere(ValueError):
    """An address that is not of this collection."""


def collection(url: str) -> str:
    """The collection's address; it ends in a slash, so that names can be put behind it."""
    return url if url.endswith("/") else url + "/"


def address(base: str, name: str) -> str:
    """Where the resource of that name is.

    :raises Refused: it is no name.
    """
    if not usable(name):
        raise Refused(f"{name!r} cannot be the name of an event.", advice="Use letters, digits, and .ics at the end.")
    return base + quote(name, safe="-._~@")


def usable(name: str) -> bool:
    """Whether it is one path segment that every server understands in the same way."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return (
        0 < size <= LONGEST and name not in (".", "..") and "/" not in name and "\\" not in name and name.isprintable()
    )


def name_of(base: str, href: str) -> str | None:
    """The name that an address in an answer stands for; `None` for the collection itself.

    :raises Elsewhere: it is on another host, outside of the collection, or below one of its members.
    """
    try:
        whole = urljoin(base, href)
        if origin(whole) != origin(base):
            raise Elsewhere(href)
        # segments are compared decoded: %40 and @ are the same
        path = [unquote(each, errors="strict") for each in urlsplit(whole).path.split("/")]
        root = [unquote(each, errors="strict") for each in urlsplit(base).path.split("/")][:-1]
    except ValueError as error:
        raise Elsewhere(href) from error
    rest = path[len(root) :]
    if path[: len(root)] != root:
        raise Elsewhere(href)
    if rest in ([], [""]):
        return None
    if len(rest) == 2 and rest[1] == "":
        rest.pop()  # a collection inside
    if len(rest) != 1 or not usable(rest[0]):
        raise Elsewhere(href)
    return rest[0]
