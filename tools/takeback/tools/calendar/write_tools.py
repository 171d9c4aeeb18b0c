"""The tools that change calendars. Each is a swap of raw bytes, so that taking it back is exact."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from takeback.journal.states import Effect
from takeback.tools.calendar import editing, names
from takeback.tools.calendar.editing import Change
from takeback.tools.calendar.inviting import Inviter
from takeback.tools.calendar.lines import Component
from takeback.tools.calendar.port import Resource
from takeback.tools.calendar.preparing import planned, prepared, taken_back
from takeback.tools.calendar.repeating import Series, rule_parts
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.calendar.system import CalendarSystem, title_of
from takeback.tools.calendar.toolkit import (
    Address,
    CalendarName,
    CalendarTool,
    EventId,
    ManyLines,
    Moment,
    OneLine,
    Zone,
    told,
)
from takeback.tools.calendar.when import When, said, start_of, zone_of
from takeback.tools.calendar.zones import vtimezone
from takeback.tools.contract import (
    Arguments,
    CallContext,
    Prepared,
    Result,
    ReversibleTool,
    Target,
    ToolError,
)
from takeback.tools.email.addresses import BadText
from takeback.tools.email.addresses import parse as parse_address
from takeback.tools.files.toolkit import counted

Guests = Annotated[list[Address], Field(max_length=500)]
Rule = Annotated[str, Field(max_length=500)]
Occurrence = Annotated[str, Field(max_length=40)]
Hold = Annotated[float, Field(ge=0)]
Range = Literal["this", "following", "all"]


class CreateEvent(Arguments):
    """Arguments of `create_event`."""

    calendar: CalendarName
    summary: OneLine = Field(description="What it is called.")
    start: Moment
    end: Moment
    timezone: Zone | None = Field(
        default=None,
        description="IANA name such as Europe/Berlin, or floating; by default the event's or the calendar's own.",
    )
    location: OneLine | None = Field(default=None, description="Where it takes place.")
    description: ManyLines | None = Field(default=None, description="What it is about, plain text.")
    attendees: Guests | None = Field(default=None, description="Addresses of all guests.")
    recurrence: Rule | None = Field(
        default=None, description="RFC 5545 rule such as FREQ=WEEKLY;BYDAY=MO;COUNT=10; FREQ is DAILY or longer."
    )
    hold_seconds: Hold | None = Field(
        default=None, description="How long messages to guests can be called back; by default what the settings say."
    )


class UpdateEvent(Arguments):
    """Arguments of `update_event`. What is left out stays; an empty text or list takes a thing out."""

    calendar: CalendarName
    event_id: EventId
    summary: OneLine | None = Field(default=None, description="What it is called.")
    start: Moment | None = Field(
        default=None, description="When it starts: date, local time in the zone, or UTC with a Z."
    )
    end: Moment | None = Field(default=None, description="When it ends; of an all-day event the day after the last.")
    timezone: Zone | None = Field(
        default=None,
        description="IANA name such as Europe/Berlin, or floating; by default the event's or the calendar's own.",
    )
    location: OneLine | None = Field(default=None, description="Where it takes place.")
    description: ManyLines | None = Field(default=None, description="What it is about, plain text.")
    attendees: Guests | None = Field(default=None, description="Addresses of all guests.")
    recurrence: Rule | None = Field(
        default=None, description="RFC 5545 rule such as FREQ=WEEKLY;BYDAY=MO;COUNT=10; FREQ is DAILY or longer."
    )
    occurrence: Occurrence | None = Field(
        default=None, description="Original start of one occurrence of a series, as list_events gives it."
    )
    range: Range | None = Field(
        default=None,
        description="This occurrence, this and all that follow, or the series; by default this if one is named.",
    )
    hold_seconds: Hold | None = Field(
        default=None, description="How long messages to guests can be called back; by default what the settings say."
    )


class DeleteEvent(Arguments):
    """Arguments of `delete_event`."""

    calendar: CalendarName
    event_id: EventId
    occurrence: Occurrence | None = Field(
        default=None, description="Original start of one occurrence of a series, as list_events gives it."
    )
    range: Range | None = Field(
        default=None,
        description="This occurrence, this and all that follow, or the series; by default this if one is named.",
    )
    hold_seconds: Hold | None = Field(
        default=None, description="How long messages to guests can be called back; by default what the settings say."
    )


class EventChanged(Result):
    """What the three answer."""

    calendar: str
    event_id: str
    new_event_id: str | None = Field(default=None, description="The series that goes on after a split.")
    deleted: bool = Field(description="The event is gone whole.")
    local: bool = Field(description="The calendar lies on this machine alone.")
    guests_told: bool = Field(description="Whether guests are told of this; false: nobody is.")
    told: list[str] = Field(default=[], description="Guests for whom a message is held in the outbox.")
    outbox_ids: list[str] = Field(default=[], description="Those messages, as list_outbox answers them.")


class WritingTool(CalendarTool):
    """What the three share."""

    def __init__(self, system: CalendarSystem, settings: Mapping[str, CalendarSettings], inviter: Inviter) -> None:
        super().__init__(system, settings)
        self.inviter = inviter

    async def prepared(
        self,
        arguments: CreateEvent | UpdateEvent | DeleteEvent,
        changes: Sequence[tuple[str, Resource | None, bytes | None]],
        verb: str,
        new_event_id: str | None = None,
    ) -> Prepared:
        """Swap resources of one calendar, and hold what their guests are told.

        :param changes: name, what is there, what is to be there; the main one first.
        """
        calendar = arguments.calendar
        store = self.store(calendar)
        plan = await planned(self.inviter, self.system, calendar, store, changes, arguments.hold_seconds)
        main, side, held = changes[0][0], plan.sides[0], plan.held
        answer = EventChanged(
            calendar=calendar,
            event_id=names.event_id(main),
            new_event_id=new_event_id,
            deleted=side.after is None,
            local=store.local,
            guests_told=plan.mails or bool(held.effects),
            told=[*held.recipients],
            outbox_ids=[effect.object for effect in held.effects],
        )
        called = title_of(side.after if side.after is not None else side.before) or names.event_id(main)
        told_by = f" {counted(len(held.recipients), 'guest')} will be told by mail." if held.effects else ""
        return await prepared(
            self.system,
            self.inviter.outbox,
            plan,
            result=partial(_answered, answer),
            summary=f"{verb} {called} in {calendar}.{told_by}",
        )

    def guests(self, calendar: str, attendees: Sequence[str] | None) -> Sequence[str] | None:
        """Guests as an agent names them; those who are to be mailed need addresses that mail can be sent to.

        :raises ToolError: one has none.
        """
        if self.inviter.of(calendar) is not None:
            for each in attendees or ():
                try:
                    parse_address(each, f"The guest {each}")
                except BadText as error:
                    raise ToolError(str(error), advice=error.advice, code="bad_text") from error
        return attendees

    def times(
        self, calendar: str, start: str | None, end: str | None, zone: str | None, like: When | None
    ) -> tuple[When | None, When | None, Component | None]:
        """Start, end and the definition of their zone.

        :raises ToolError: they mean nothing.
        """
        if zone is not None and zone != "floating" and zone_of(zone) is None:
            raise ToolError(f"There is no time zone {zone[:60]!r}.", advice="Pass an IANA name such as Europe/Berlin.")
        own = zone
        if own is None and like is not None:
            own = {"zoned": like.zone, "floating": "floating"}.get(like.kind)
        own = own or self.zone(calendar)
        try:
            times = [None if each is None else said(each, own) for each in (start, end)]
        except ValueError as error:
            raise ToolError(f"{error}.", advice="Pass start and end in one of these ways.") from error
        zoned = any(each is not None and each.kind == "zoned" for each in times) and zone_of(own) is not None
        return times[0], times[1], vtimezone(own) if zoned else None

    async def new_uid(self, calendar: str, arguments: Arguments, context: CallContext) -> str:
        """The UID of the event that a call makes: the same when the call is repeated after a consent, which is bound to it."""
        store = self.store(calendar)
        said_so = f"takeback:{context.run_id}:{type(arguments).__name__}:{arguments.model_dump_json()}"
        for count in range(1000):
            uid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{said_so}:{count}"))
            with told():
                if (await store.read([uid + names.ENDING]))[0] is None:
                    return uid
        raise ToolError("The same event was made a thousand times.", advice="Use update_event on one of them.")

    def rule(self, text: str | None) -> str | None:
        """A recurrence rule, checked.

        :raises ToolError: it is not taken.
        """
        if text:
            try:
                rule_parts(text)
            except ValueError as error:
                raise ToolError(f"{error}.", advice="Pass a rule like FREQ=WEEKLY;BYDAY=MO;COUNT=10.") from error
        return text


class CreateEventTool(WritingTool, ReversibleTool[CreateEvent]):
    """A new event."""

    name = "create_event"
    title = "Create event"
    description = (
        "Creates an event or a series in a calendar. The answer says whether guests are told: where the calendar has a mailbox,"
        " by messages that are held for a while and called back with the event."
    )
    arguments = CreateEvent
    result = EventChanged
    recovery = taken_back("the event is taken out again", "created", unless="somebody changed it since")
    open_world = True
    destructive = False

    async def targets(self, arguments: CreateEvent, context: CallContext) -> Sequence[Target]:
        return [self.target(arguments.calendar, await self.new_uid(arguments.calendar, arguments, context))]

    async def prepare(self, arguments: CreateEvent, context: CallContext) -> Prepared:
        self.writable(arguments.calendar)
        start, end, zone = self.times(arguments.calendar, arguments.start, arguments.end, arguments.timezone, None)
        change = Change(
            summary=arguments.summary,
            location=arguments.location,
            description=arguments.description,
            start=start,
            end=end,
            recurrence=self.rule(arguments.recurrence),
            attendees=self.guests(arguments.calendar, arguments.attendees),
            zone=zone,
        )
        uid = await self.new_uid(arguments.calendar, arguments, context)
        with told():
            data = editing.created(uid, change, datetime.now(UTC))
        return await self.prepared(arguments, [(uid + names.ENDING, None, data)], "Created")


class UpdateEventTool(WritingTool, ReversibleTool[UpdateEvent]):
    """An event changed."""

    name = "update_event"
    title = "Update event"
    description = (
        "Changes an event, one occurrence of a series (occurrence), it and all that follow, or the series (range). What is not"
        " named stays as it is; the answer says whether guests are told."
    )
    arguments = UpdateEvent
    result = EventChanged
    recovery = taken_back(
        "the earlier bytes of the event are put back; what others changed since stays",
        "created",
        "changed",
        unless="somebody changed the same property since",
    )
    open_world = True

    async def targets(self, arguments: UpdateEvent, context: CallContext) -> Sequence[Target]:
        own = self.target(arguments.calendar, arguments.event_id)
        if _range(arguments.occurrence, arguments.range) != "following":
            return [own]
        return [own, self.target(arguments.calendar, await self.new_uid(arguments.calendar, arguments, context))]

    async def prepare(self, arguments: UpdateEvent, context: CallContext) -> Prepared:
        self.writable(arguments.calendar)
        resource, parsed = await self.event(arguments.calendar, arguments.event_id)
        span, now = _range(arguments.occurrence, arguments.range), datetime.now(UTC)
        series = Series.of(parsed)
        top = series.master or series.overrides[0]
        with told():
            start, end, zone = self.times(
                arguments.calendar, arguments.start, arguments.end, arguments.timezone, start_of(top)
            )
        change = Change(
            summary=arguments.summary,
            location=arguments.location,
            description=arguments.description,
            start=start,
            end=end,
            recurrence=self.rule(arguments.recurrence),
            attendees=self.guests(arguments.calendar, arguments.attendees),
            zone=zone,
        )
        if change == Change() or (arguments.timezone is not None and start is None and end is None):
            raise ToolError(
                "Nothing is to be changed.", advice="Pass what is to be different; a zone goes with a start."
            )
        with told():
            if span == "all":
                data = editing.updated_all(resource.data, change, now)
                return await self.prepared(arguments, [(resource.name, resource, data)], "Changed")
            at = editing.occurrence(resource.data, arguments.occurrence or "")
            if span == "this":
                data = editing.updated_one(resource.data, at, change, now)
                return await self.prepared(
                    arguments, [(resource.name, resource, data)], f"Changed the occurrence {at.said()} of"
                )
            head, before = editing.cut_before(resource.data, at, now)
            if head is None:
                data = editing.updated_all(resource.data, change, now)
                return await self.prepared(arguments, [(resource.name, resource, data)], "Changed")
            uid = await self.new_uid(arguments.calendar, arguments, context)
            rest = editing.rest_from(resource.data, at, before, uid, change, now)
        return await self.prepared(
            arguments,
            [(resource.name, resource, head), (uid + names.ENDING, None, rest)],
            f"Changed from {at.said()} on",
            uid,
        )


class DeleteEventTool(WritingTool, ReversibleTool[DeleteEvent]):
    """An event gone."""

    name = "delete_event"
    title = "Delete event"
    description = (
        "Deletes an event, one occurrence of a series (occurrence), it and all that follow, or the series (range). Undo brings"
        " it back under the same UID; the answer says whether guests are told."
    )
    arguments = DeleteEvent
    result = EventChanged
    recovery = taken_back(
        "the event comes back to the last byte, under its UID",
        "changed",
        "deleted",
        unless="there is such an event again, or somebody changed the same of its series",
    )
    open_world = True

    async def targets(self, arguments: DeleteEvent, context: CallContext) -> Sequence[Target]:
        _range(arguments.occurrence, arguments.range)
        return [self.target(arguments.calendar, arguments.event_id)]

    async def prepare(self, arguments: DeleteEvent, context: CallContext) -> Prepared:
        self.writable(arguments.calendar)
        resource, _ = await self.event(arguments.calendar, arguments.event_id)
        span, now = _range(arguments.occurrence, arguments.range), datetime.now(UTC)
        data: bytes | None = None
        verb = "Deleted"
        if span != "all":
            with told():
                at = editing.occurrence(resource.data, arguments.occurrence or "")
                if span == "this":
                    data = editing.deleted_one(resource.data, at, now)
                    verb = f"Deleted the occurrence {at.said()} of"
                else:
                    data, _ = editing.cut_before(resource.data, at, now)
                    verb = f"Deleted from {at.said()} on"
        return await self.prepared(arguments, [(resource.name, resource, data)], verb)


def _answered(answer: EventChanged, effects: Sequence[Effect]) -> EventChanged:
    return answer


def _range(occurrence: str | None, range: Literal["this", "following", "all"] | None) -> str:
    span = range or ("all" if occurrence is None else "this")
    if span != "all" and occurrence is None:
        raise ToolError(f"range={span} needs an occurrence.", advice="Pass `occurrence` as list_events gives it.")
    return span
