"""The family of the calendar tools. Opens nothing at the start: a calendar is opened when it is first used."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Self

from takeback.tools.calendar import names
from takeback.tools.calendar.inviting import EventCorrector, Inviter, sendings
from takeback.tools.calendar.port import CalendarStore
from takeback.tools.calendar.read_tools import GetEventTool, ListCalendarsTool, ListEventsTool
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.calendar.system import CalendarSystem
from takeback.tools.calendar.vdir import VdirStore
from takeback.tools.calendar.write_tools import CreateEventTool, DeleteEventTool, UpdateEventTool
from takeback.tools.registry import Family, Services


class CalendarFamily(Family):
    """Calendars: the one in the data directory, and configured ones."""

    name = "calendar"

    def __init__(self, system: CalendarSystem, settings: dict[str, CalendarSettings], inviter: Inviter) -> None:
        self._system = system
        self.systems = (system,)
        self.tools = (
            *(tool(system, settings) for tool in (ListCalendarsTool, ListEventsTool, GetEventTool)),
            *(tool(system, settings, inviter) for tool in (CreateEventTool, UpdateEventTool, DeleteEventTool)),
        )
        self.correctors = (EventCorrector(system, inviter),)

    @classmethod
    async def open(cls, services: Services) -> Self:
        settings = dict(services.calendars)
        openers = {
            name: partial(open_configured, name, its, services.data, portable=services.portable_files)
            for name, its in settings.items()
        }
        if names.DEFAULT not in openers:
            default = partial(open_default, services.data, portable=services.portable_files)
            openers = {names.DEFAULT: default, **openers}
        inviter = Inviter(sendings(settings, services.mailboxes), services.outbox)
        return cls(CalendarSystem(openers, services.objects), settings, inviter)

    async def close(self) -> None:
        await self._system.close()


def open_default(data: Path, *, portable: bool) -> CalendarStore:
    """The calendar in the data directory, made if need be."""
    folder = data / "calendar" / names.DEFAULT
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return VdirStore(folder, data, portable=portable)


def open_configured(name: str, settings: CalendarSettings, data: Path, *, portable: bool) -> CalendarStore:
    """A calendar of the configuration.

    :raises TargetError: it cannot be opened.
    """
    if settings.path is None and settings.url is None:
        return open_default(data, portable=portable)  # the one in the data directory, with settings of its own
    if settings.path is not None:
        return VdirStore(settings.path.expanduser().absolute(), data, portable=portable)
    from takeback.tools.calendar.caldav.credentials import password_of
    from takeback.tools.calendar.caldav.store import CaldavStore

    return CaldavStore(settings.url or "", settings.username, password_of(name, settings))
