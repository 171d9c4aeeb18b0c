"""Guests: which calendar tells them by which mailbox, the messages that an act holds for them, and what makes up for those.

A calendar with a sending mailbox tells its guests by messages in the outbox, held with the act and cancelled with it. It does
so only for events that it organizes, and never beside a server that tells them already (RFC 6638): of events that are new to
such a server the guests are marked SCHEDULE-AGENT=CLIENT, so that it leaves them alone; events whose guests it tells already
stay its own, because taking a guest from it makes it cancel the event for them (RFC 6638, 3.2.1.2).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue

from takeback.checkpoints.objects import SMALL, ObjectStore
from takeback.journal.states import Effect
from takeback.tools.calendar import invitations, itip, itip_objects
from takeback.tools.calendar.lines import Component, Line, line, parse
from takeback.tools.calendar.names import SYSTEM
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.calendar.system import CalendarSystem
from takeback.tools.email.addresses import Address, BadText
from takeback.tools.email.addresses import parse as parse_address
from takeback.tools.email.settings import DEFAULT as DEFAULT_MAILBOX
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.email.writing import LOCAL_ADDRESS
from takeback.tools.outbox.port import Corrector, Outbox, Outgoing
from takeback.tools.system import Refused

CARRIER: Final = "mail:"
MOST_GUESTS: Final = 500
_AGENT: Final = "SCHEDULE-AGENT"


@dataclass(frozen=True, slots=True)
class Sending:
    """Who tells the guests of a calendar."""

    mailbox: str
    sender: Address
    organizer: Address
    local: bool
    """Its mail is delivered on this machine alone."""

    @property
    def line(self) -> Line:
        """ORGANIZER."""
        named = (("CN", self.organizer.name),) if self.organizer.name else ()
        return line("ORGANIZER", f"mailto:{self.organizer.spec}", named)


@dataclass(frozen=True, slots=True)
class Held:
    """The messages of an act."""

    effects: tuple[Effect, ...] = ()
    blobs: Mapping[str, bytes] | None = None
    recipients: tuple[str, ...] = ()
    """Each guest once."""


class Inviter:
    """For all calendars of a family."""

    def __init__(self, sendings: Mapping[str, Sending], outbox: Outbox) -> None:
        """:param sendings: by the name of the calendar."""
        self._sendings, self.outbox = sendings, outbox

    def of(self, calendar: str) -> Sending | None:
        """Who tells the guests of this calendar; `None`: nobody."""
        return self._sendings.get(calendar)

    def sends(self, calendar: str, before: bytes | None, after: bytes | None, *, server_mails: bool) -> Sending | None:
        """Who tells the guests of this change, if it is this side that has to.

        :param server_mails: the calendar's server tells guests by itself, unless it is told not to.
        """
        sending = self.of(calendar)
        if sending is None or (server_mails and served(before)):
            return None
        organizer = organizer_of(before) or organizer_of(after)
        if organizer is not None:
            found = itip_objects.guest_of(organizer)
            if found is None or found.spec.casefold() != sending.organizer.spec.casefold():
                return None  # it is somebody else's event: its organizer tells the guests
        return sending

    async def arranged(
        self, sending: Sending, object: str, before: bytes | None, after: bytes, *, server_mails: bool
    ) -> bytes:
        """The event with its organizer, with guests that the server leaves alone, and newer than all that they were told."""
        calendar = parse(after)
        for event in calendar.parts("VEVENT"):
            guests = event.lines("ATTENDEE")
            if guests and event.line("ORGANIZER") is None:
                event.put("ORGANIZER", [sending.line])
            if server_mails and any(not found.param(_AGENT) for found in guests):
                event.put("ATTENDEE", [_left_alone(found) for found in guests])
        data = calendar.written()
        told = await self.highest(object)
        if told is not None and itip_objects.highest_sequence(data) <= told and data != before:
            data = itip_objects.with_sequence(data, told + 1)
        return data

    async def hold(
        self,
        sending: Sending,
        sides: Sequence[tuple[str, bytes | None, bytes | None]],
        objects: ObjectStore,
        *,
        seconds: float | None,
    ) -> Held:
        """The messages about a change, as effects `absent → held`.

        :param sides: object, before, after.
        :raises BadText, NotICalendar: something of the event must not be sent.
        :raises Refused: a window that the settings do not allow, or too many guests.
        """
        now = datetime.now(UTC).replace(microsecond=0)
        window = self.outbox.hold_seconds if seconds is None else seconds
        messages: list[tuple[Outgoing, float]] = []
        blobs: dict[str, bytes] = {}
        people: dict[str, None] = {}
        for object, before, after in sides:
            for notice in itip.notices(before, after, organizer=sending.line, now=now):
                subject = invitations.subject_of(notice)
                for part in _parts(notice):
                    message_id = f"<{secrets.token_hex(16)}@{sending.sender.domain}>"
                    data = invitations.build(
                        part, sender=sending.sender, subject=subject, message_id=message_id, date=now
                    )
                    if len(data) <= SMALL:
                        content, more = objects.small(data)
                        blobs.update(more)
                    else:
                        content = await objects.put(data)
                    recipients = tuple(guest.spec for guest in part.recipients)
                    people.update(dict.fromkeys(each.casefold() for each in recipients))
                    messages.append(
                        (
                            Outgoing(
                                carrier=CARRIER + sending.mailbox,
                                content=content,
                                size=len(data),
                                sender=sending.sender.spec,
                                recipients=recipients,
                                subject=subject,
                                reference=message_id,
                                memo=_memo(object, notice, len(messages)),
                            ),
                            window,
                        )
                    )
        if len(people) > MOST_GUESTS:
            raise Refused(f"{len(people)} guests would be told, more than {MOST_GUESTS}.", advice="Invite fewer.")
        effects = await self.outbox.hold(messages, objects) if messages else ()
        return Held(tuple(effects), blobs, tuple(people))

    async def highest(self, object: str) -> int | None:
        """The highest SEQUENCE that guests were, or may be, told of an event; `None`: nothing was ever said of it."""
        numbers = [_number(row.message.memo) for row in await self.outbox.about(SYSTEM, object)]
        return max(numbers, default=None)


class EventCorrector(Corrector):
    """Tells guests how an event stands once the act that they were told of was taken back.

    An update with the event as it is in the calendar, or a cancellation if it is not there, or they are not invited to it.
    """

    name = SYSTEM

    def __init__(self, system: CalendarSystem, inviter: Inviter) -> None:
        self._system, self._inviter = system, inviter

    async def corrections(
        self, message: Outgoing, content: bytes, *, sent_at: str, reference: str
    ) -> Sequence[tuple[Outgoing, bytes]]:
        memo, sent = message.memo, invitations.calendar_in(content)
        object = memo.get("object") if isinstance(memo, dict) else None
        if sent is None or not isinstance(object, str):
            return ()
        state = (await self._system.look([object]))[0]
        present = await self._system.bytes_of(state)
        now = datetime.now(UTC).replace(microsecond=0)
        highest = await self._inviter.highest(object) or 0
        said = parse(sent).parts("VEVENT")
        organizer = said[0].line("ORGANIZER") if said else None
        notices = itip.correcting(
            sent,
            present,
            message.recipients,
            highest=max(highest, itip_objects.highest_sequence(sent)),
            organizer=organizer or line("ORGANIZER", f"mailto:{message.sender}"),
            now=now,
        )
        return [
            self._correction(message, object, notice, now, f"{reference}.{count}" if count else reference, count)
            for count, notice in enumerate(notices)
        ]

    def _correction(
        self, message: Outgoing, object: str, notice: itip_objects.Notice, now: datetime, reference: str, turn: int
    ) -> tuple[Outgoing, bytes]:
        subject = invitations.WITHDRAWN if notice.method == "CANCEL" else invitations.PUT_RIGHT
        sender = parse_address(message.sender)
        message_id = f"<{reference}@{sender.domain}>"
        data = invitations.build(
            notice,
            sender=sender,
            subject=subject,
            message_id=message_id,
            date=now,
            in_reply_to=message.reference,
            automatic=True,
        )
        made = message.model_copy(
            update={
                "content": self._system.objects.name(data),
                "size": len(data),
                "recipients": tuple(guest.spec for guest in notice.recipients),
                "subject": subject,
                "reference": message_id,
                "memo": _memo(object, notice, turn),
            }
        )
        return made, data

    async def broken(self, message: Outgoing, content: bytes) -> str:
        """An invitation to what was deleted meanwhile, or a cancellation of what was brought back, is not sent."""
        memo, sent = message.memo, invitations.calendar_in(content)
        object = memo.get("object") if isinstance(memo, dict) else None
        if sent is None or not isinstance(object, str):
            return ""
        present = await self._system.bytes_of((await self._system.look([object]))[0])
        return itip.broken(sent, present, message.recipients)


def sendings(calendars: Mapping[str, CalendarSettings], mailboxes: Mapping[str, MailboxSettings]) -> dict[str, Sending]:
    """Who tells the guests of each calendar that has a sending mailbox.

    :raises Refused: a mailbox is not there, or an address is none.
    """
    addresses = {name: (its.address or LOCAL_ADDRESS, its.smtp is None) for name, its in mailboxes.items()}
    addresses = addresses or {DEFAULT_MAILBOX: (LOCAL_ADDRESS, True)}
    found: dict[str, Sending] = {}
    for name, its in calendars.items():
        if not its.mailbox:
            continue
        if its.mailbox not in addresses:
            raise Refused(
                f"[calendars.{name}] mailbox is {its.mailbox!r}, and there is no such mailbox.",
                advice=f"There are: {', '.join(addresses)}.",
            )
        if its.mailbox in mailboxes and mailboxes[its.mailbox].read_only:
            raise Refused(
                f"[calendars.{name}] mailbox is {its.mailbox!r}, from which nothing may be sent (read_only).",
                advice="Name another one.",
            )
        address, local = addresses[its.mailbox]
        try:
            sender = parse_address(address, f"The address of the mailbox {its.mailbox}")
            organizer = parse_address(its.organizer, "The organizer") if its.organizer else sender
        except BadText as error:
            raise Refused(str(error), advice=f"Correct [calendars.{name}].") from error
        found[name] = Sending(its.mailbox, sender, organizer, local)
    return found


def served(data: bytes | None) -> bool:
    """Whether a server that does so would tell a guest of this event."""
    return data is not None and any(
        found.param(_AGENT).upper() not in ("CLIENT", "NONE")
        for event in parse(data).parts("VEVENT")
        for found in event.lines("ATTENDEE")
    )


def organizer_of(data: bytes | None) -> Line | None:
    """The organizer of an event, if it names one."""
    events: Sequence[Component] = () if data is None else parse(data).parts("VEVENT")
    return next((found for event in events if (found := event.line("ORGANIZER")) is not None), None)


def untold(data: bytes | None) -> list[str]:
    """Attendees that no mail can be sent to, or is to be."""
    events: Sequence[Component] = () if data is None else parse(data).parts("VEVENT")
    everybody = [found for event in events for found in event.lines("ATTENDEE")]
    return sorted(
        {
            found.value.removeprefix("mailto:")
            for found in everybody
            if itip_objects.guest_of(found) is None or found.param(_AGENT).upper() == "NONE"
        }
    )


def _left_alone(found: Line) -> Line:
    """A guest whom the server does not tell; all else of the line stays as it is written."""
    if found.param(_AGENT):
        return found
    text = re.sub(rb"\r?\n[ \t]", b"", found.raw).rstrip(b"\r\n").decode()
    head = text[: len(found.name)]
    calendar = parse(f"BEGIN:VCALENDAR\r\n{head};{_AGENT}=CLIENT{text[len(head) :]}\r\nEND:VCALENDAR\r\n".encode())
    return itip_objects.folded(calendar.lines("ATTENDEE")[0])


def _parts(notice: itip_objects.Notice) -> list[itip_objects.Notice]:
    most = invitations.MOST_RECIPIENTS
    people = notice.recipients
    return [replace(notice, recipients=people[at : at + most]) for at in range(0, len(people), most)]


def _memo(object: str, notice: itip_objects.Notice, turn: int) -> JsonValue:
    return {"corrector": SYSTEM, "object": object, "sequence": notice.sequence, "turn": turn}


def _number(memo: JsonValue) -> int:
    number = memo.get("sequence") if isinstance(memo, dict) else None
    return number if isinstance(number, int) else 0
