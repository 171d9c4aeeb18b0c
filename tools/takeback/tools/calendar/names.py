"""How the objects of a calendar are called: `work//standup.ics`, in the calendar `work`."""

from __future__ import annotations

import re
from typing import Final

from takeback.tools.calendar.settings import DEFAULT as DEFAULT

SYSTEM: Final = "calendar"
"""The name of the target system in effects."""
INSIDE: Final = "//"
"""Between a calendar and the resource in it."""
ENDING: Final = ".ics"

_RESOURCE = re.compile(r"[^\x00-\x1f\x7f/\\.][^\x00-\x1f\x7f/\\]*\.ics\Z")


def object_of(calendar: str, resource: str) -> str:
    """The object that a resource is."""
    return f"{calendar}{INSIDE}{resource}"


def parse(object: str) -> tuple[str, str]:
    """Calendar and resource.

    :raises ValueError: it names no resource.
    """
    calendar, inside, resource = object.partition(INSIDE)
    if not inside or not calendar or not safe(resource):
        raise ValueError(f"{object!r} names no event of a calendar")
    return calendar, resource


def safe(resource: str) -> bool:
    """Whether it can be the name of a resource: no path, not hidden, ends in .ics."""
    try:
        size = len(resource.encode())
    except UnicodeEncodeError:
        return False
    return size <= 200 and _RESOURCE.match(resource) is not None


def event_id(resource: str) -> str:
    """What agents call it."""
    return resource.removesuffix(ENDING)
