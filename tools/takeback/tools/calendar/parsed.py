"""Events that were parsed already, so that a listing only parses what has changed since the last."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from takeback.tools.calendar.lines import Component, parse
from takeback.tools.calendar.port import Resource
from takeback.tools.calendar.system import check_event

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of the bytes that they were parsed from; parsed, they take several times as much."""


class Parsed:
    """The latest of them, by name. Used by one listing at a time; what it gives is only read."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[bytes, Component]] = OrderedDict()
        self._bytes = 0

    def event(self, calendar: str, resource: Resource) -> Component:
        """The resource, checked and parsed.

        :raises NotICalendar: it is no event.
        """
        key = (calendar, resource.name)
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= len(kept[0])
        if kept is None or kept[0] != resource.data:  # by the bytes: an ETag may be weak, or missing
            check_event(resource.data)
            kept = (resource.data, parse(resource.data))
        self._kept[key] = kept
        self._bytes += len(kept[0])
        while self._bytes > MOST_BYTES:
            self._bytes -= len(self._kept.popitem(last=False)[1][0])
        return kept[1]
