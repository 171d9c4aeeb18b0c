"""What the calendar tools share: which calendar and event a name means, strict texts, and refusals that a model can act on."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Annotated

from pydantic import AfterValidator, Field

from takeback.checkpoints.objects import ObjectError
from takeback.tools.calendar import names
from takeback.tools.calendar.editing import CannotEdit
from takeback.tools.calendar.lines import Component, NotICalendar, parse
from takeback.tools.calendar.port import CalendarStore, Resource
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.calendar.system import CalendarSystem, check_event
from takeback.tools.calendar.zones import machine_zone
from takeback.tools.contract import Target, ToolError
from takeback.tools.system import TargetError

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u2028\u2029\ud800-\udfff]")
_BREAKS = re.compile("[\t\n]")


def _many_lines(text: str) -> str:
    text = text.replace("\r\n", "\n")
    if _CONTROL.search(text):
        raise ValueError("control characters cannot stand in an event")
    return text


def _one_line(text: str) -> str:
    if _CONTROL.search(text) or _BREAKS.search(text):
        raise ValueError("control characters and line breaks cannot stand here")
    return text


def _address(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", text) is None:
        raise ValueError("an attendee is a plain address like ada@example.com")
    return text


CalendarName = Annotated[
    str, Field(min_length=1, max_length=64, description="Name of a calendar, from list_calendars.")
]
EventId = Annotated[str, Field(min_length=1, max_length=200, description="event_id of an answer.")]
OneLine = Annotated[str, Field(max_length=1000), AfterValidator(_one_line)]
ManyLines = Annotated[str, Field(max_length=100_000), AfterValidator(_many_lines)]
Address = Annotated[str, Field(max_length=254), AfterValidator(_address)]
Zone = Annotated[
    str,
    Field(max_length=64, description='IANA name such as Europe/Berlin, or "floating"; by default the calendar\'s own.'),
    AfterValidator(_one_line),
]
Moment = Annotated[
    str,
    Field(
        max_length=40,
        description="A date (all-day), local time in the zone (2026-03-01T10:00), or UTC (2026-03-01T09:00Z).",
    ),
]


class CalendarTool:
    """Base of the calendar tools."""

    def __init__(self, system: CalendarSystem, settings: Mapping[str, CalendarSettings]) -> None:
        self.system, self.settings = system, settings

    def store(self, calendar: str) -> CalendarStore:
        """The calendar.

        :raises ToolError: there is none, or it cannot be opened.
        """
        with told():
            return self.system.store(calendar)

    def target(self, calendar: str, event_id: str) -> Target:
        """The object that an event is.

        :raises ToolError: the names cannot be right.
        """
        self.store(calendar)
        resource = event_id + names.ENDING
        if not names.safe(resource):
            raise ToolError(
                f"{event_id[:80]!r} is no event_id.", advice="Pass an event_id that list_events gave.", code="not_found"
            )
        return Target(self.system.name, names.object_of(calendar, resource))

    async def event(self, calendar: str, event_id: str) -> tuple[Resource, Component]:
        """An event, read and parsed.

        :raises ToolError: there is none, or it is none.
        """
        self.target(calendar, event_id)
        with told():
            [found] = await self.store(calendar).read([event_id + names.ENDING])
            if found is None:
                raise ToolError(
                    f"There is no event {event_id!r} in {calendar}.",
                    advice="Call list_events to see which there are.",
                    code="not_found",
                )
            check_event(found.data)
            return found, parse(found.data)

    def zone(self, calendar: str) -> str:
        """The zone of times that name none."""
        its = self.settings.get(calendar)
        return (its.timezone if its is not None else "") or machine_zone()

    def writable(self, calendar: str) -> None:
        """Hold a calendar to be one that may be changed.

        :raises ToolError: it is not.
        """
        its = self.settings.get(calendar)
        if its is not None and its.read_only:
            raise ToolError(f"{calendar} is configured as read only.", advice="Use another calendar.", code="read_only")


@contextmanager
def told() -> Generator[None]:
    """Refusals of the system and of the editing as refusals of the tool."""
    try:
        yield
    except (TargetError, ObjectError) as error:
        raise ToolError(str(error), advice=error.advice, code=getattr(error, "code", "storage")) from error
    except CannotEdit as error:
        raise ToolError(str(error), advice=error.advice) from error
    except NotICalendar as error:
        raise ToolError(f"This is no event that can be used: {error}.", advice="Look at the file by hand.") from error
    except (ValueError, OverflowError) as error:
        raise ToolError(f"This event cannot be worked on: {error}.", advice="Look at get_event's source.") from error
