"""The zone of times that name none, and VTIMEZONE for those that name one."""

from __future__ import annotations

import os
from datetime import UTC, tzinfo
from pathlib import Path

from takeback.tools.calendar.lines import Component, parse
from takeback.tools.calendar.when import zone_of


def machine_zone() -> str:
    """The IANA name of this machine's zone; UTC if it cannot be told."""
    named = os.environ.get("TZ", "").removeprefix(":")
    if named and zone_of(named) is not None:
        return named
    try:
        _, found, name = os.path.realpath(Path("/etc/localtime")).partition("zoneinfo/")
    except OSError:
        return "UTC"
    return name if found and zone_of(name) is not None else "UTC"


def tz_of(name: str) -> tzinfo:
    """The zone, for counting."""
    return zone_of(name) or UTC


def vtimezone(name: str) -> Component:
    """The definition of a zone, to be put into the resource of an event that names it."""
    from icalendar import Timezone

    text = Timezone.from_tzid(name).to_ical()
    return parse(b"BEGIN:VCALENDAR\r\n" + text + b"END:VCALENDAR\r\n").parts("VTIMEZONE")[0]
