"""The objects that guests are sent (RFC 5546), made from events and checked once more by reading them. Pure.

An object says what the recipient has to know and nothing else: only known properties, no alarms, no X- properties, none of the
parameters by which calendar servers are steered (RFC 6638, 7).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from urllib.parse import unquote

from takeback.tools.calendar.lines import Component, Line, NotICalendar, line, parse, unescape
from takeback.tools.email.addresses import Address, BadText
from takeback.tools.email.addresses import parse as parse_address

Method = Literal["REQUEST", "CANCEL"]
_TIMES: Final = frozenset({"DTSTART", "DTEND", "DURATION", "RECURRENCE-ID"})
_CANCELLED: Final = _TIMES | {"UID", "DTSTAMP", "SEQUENCE", "ORGANIZER", "ATTENDEE", "SUMMARY", "LOCATION"}
SENT: Final = _CANCELLED | {
    *(
        "CREATED",
        "LAST-MODIFIED",
        "RRULE",
        "RDATE",
        "EXDATE",
        "EXRULE",
        "DESCRIPTION",
        "GEO",
        "STATUS",
        "CLASS",
        "TRANSP",
    ),
    *("PRIORITY", "URL", "CATEGORIES", "RESOURCES", "CONTACT", "CONFERENCE", "ATTACH"),
}
"""Properties that guests are sent, in a cancellation and otherwise."""
_OF_PEOPLE: Final = ("CN", "CUTYPE", "ROLE", "PARTSTAT", "RSVP")
"""Parameters of guests and organizers that are told to others."""
HIGHEST: Final = 2_000_000_000
"""A SEQUENCE that still leaves room below the largest integer of RFC 5545."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message: what it says, and to whom."""

    method: Method
    recipients: tuple[Address, ...]
    calendar: bytes
    """The iCalendar object with its METHOD."""
    sequence: int
    known: bool
    """The recipients have heard of the event before."""
    shown: Component
    """The event that a person reads of."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the messages about one event."""

    calendar: Component
    """Where the zones are taken from."""
    organizer: Line
    now: datetime

    def notice(
        self,
        method: Method,
        events: Sequence[Component],
        people: tuple[Address, ...],
        *,
        known: bool,
        sequence: int | None = None,
        status: bool = False,
        only: set[str] | None = None,
    ) -> Notice:
        """
        :param sequence: of all events; by default each has its own.
        :param status: the event does not take place; else the recipients are no longer invited to it (RFC 5546, 3.2.5).
        :param only: name these guests alone.
        """
        parts = [self._event(event, method, sequence, status, only) for event in events]
        zones = {
            zone for part in parts for item in part.items if isinstance(item, Line) and (zone := item.param("TZID"))
        }
        top = Component("VCALENDAR", b"BEGIN:VCALENDAR\r\n", b"END:VCALENDAR\r\n")
        top.items = [
            line("VERSION", "2.0"),
            line("PRODID", "-//takeback//takeback//EN"),
            line("METHOD", method),
            *(_plain(zone) for zone in self.calendar.parts("VTIMEZONE") if text_of(zone, "TZID") in zones),
            *parts,
        ]
        data = top.written()
        check(data, method, len(parts))
        return Notice(
            method=method,
            recipients=people,
            calendar=data,
            sequence=max(sequence_of(part) for part in parts),
            known=known,
            shown=parts[0],
        )

    def _event(
        self, event: Component, method: Method, sequence: int | None, status: bool, only: set[str] | None
    ) -> Component:
        made = Component("VEVENT", b"BEGIN:VEVENT\r\n", b"END:VEVENT\r\n")
        allowed = SENT if method == "REQUEST" else _CANCELLED
        for item in event.items:
            if not isinstance(item, Line) or item.name not in allowed:
                continue
            if item.name == "ATTENDEE":
                found = guest_of(item)
                if only is None or (found is not None and found.spec.casefold() in only):
                    made.items.append(_person(item))
            elif item.name == "ORGANIZER":
                made.items.append(_person(item))
            elif item.name == "DTSTAMP":
                made.items.append(line("DTSTAMP", f"{self.now:%Y%m%dT%H%M%SZ}"))
            elif item.name != "ATTACH" or item.param("VALUE").upper() != "BINARY":
                made.items.append(folded(item))
        if made.line("DTSTAMP") is None:
            made.items.append(line("DTSTAMP", f"{self.now:%Y%m%dT%H%M%SZ}"))
        if made.line("ORGANIZER") is None:
            made.items.append(_person(self.organizer))
        made.put(
            "SEQUENCE", [line("SEQUENCE", str(sequence_of(event) if sequence is None else min(sequence, HIGHEST)))]
        )
        if method == "CANCEL" and status:
            made.items.append(line("STATUS", "CANCELLED"))
        return made


def check(data: bytes, method: str, events: int) -> None:
    """The last gate before an object is sent: what it says, read back, with nothing in it that could begin a line of its own.

    :raises NotICalendar:
    """
    parsed = parse(data)
    text = data.decode()
    odd = next(
        (
            char
            for char in text.replace("\r\n", "")
            if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") and char != "\t"
        ),
        None,
    )
    if odd is not None:
        raise NotICalendar(f"it holds the control character U+{ord(odd):04X}")
    if [found.value for found in parsed.lines("METHOD")] != [method] or len(parsed.parts("VEVENT")) != events:
        raise NotICalendar("it would not say what was meant")
    for part in parsed.parts():
        for item in part.items:
            if isinstance(item, Line) and any(_hidden(value) for _, value in item.params):
                raise NotICalendar(f"a parameter of {item.name} holds a line break, as it is or once it is decoded")


def _person(item: Line) -> Line:
    found = guest_of(item)
    value = item.value if found is None else f"mailto:{found.spec}"
    kept = tuple((name, _decoded(text)) for name in _OF_PEOPLE if (text := item.param(name)))
    if any(_hidden(text) for _, text in kept):
        raise NotICalendar(f"a parameter of {item.name} holds a line break, as it is or once it is decoded")
    return line(item.name, value, kept)


def _decoded(text: str) -> str:
    """A parameter's value without the escapes of RFC 6868."""
    return re.sub(r"\^(.)", lambda found: {"n": "\n", "^": "^", "'": '"'}.get(found[1], found[0]), text)


def _hidden(text: str) -> bool:
    forms = (text, _decoded(text), unquote(text), unquote(_decoded(text)))
    return any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for form in forms for char in form)


def folded(item: Line) -> Line:
    """The same line with our folds and line end."""
    text = re.sub(rb"\r?\n[ \t]", b"", item.raw).rstrip(b"\r\n").decode()
    name, rest = text[: len(item.name)], text[len(item.name) :]
    pieces: list[bytes] = []
    data, room = f"{name.upper()}{rest}".encode(), 75
    while len(data) > room:
        at = room
        while data[at] & 0xC0 == 0x80:  # never inside a character
            at -= 1
        pieces.append(data[:at])
        data, room = data[at:], 74
    return Line(b"\r\n ".join([*pieces, data]) + b"\r\n", item.name, item.params, item.value)


def _plain(part: Component) -> Component:
    """The same component with our line ends."""
    made = Component(part.name, f"BEGIN:{part.name}\r\n".encode(), f"END:{part.name}\r\n".encode())
    made.items = [_plain(item) if isinstance(item, Component) else folded(item) for item in part.items]
    return made


def guest_of(found: Line) -> Address | None:
    """The mail address of an attendee or organizer; `None` if it has none that mail can be sent to."""
    scheme, colon, rest = found.value.partition(":")
    if not colon or scheme.strip().casefold() != "mailto":
        return None
    try:
        return parse_address(unquote(rest.strip(), errors="strict"))
    except (BadText, UnicodeDecodeError):
        return None


def highest_sequence(data: bytes) -> int:
    """The highest SEQUENCE of its events.

    :raises NotICalendar:
    """
    return max((sequence_of(event) for event in parse(data).parts("VEVENT")), default=0)


def with_sequence(data: bytes, number: int) -> bytes:
    """The same with this SEQUENCE in all events; all other lines stay as they are written.

    :raises NotICalendar:
    """
    calendar = parse(data)
    for event in calendar.parts("VEVENT"):
        event.put("SEQUENCE", [line("SEQUENCE", str(min(number, HIGHEST)))])
    return calendar.written()


def sequence_of(event: Component) -> int:
    """SEQUENCE; 0 if there is none that can be used."""
    text = text_of(event, "SEQUENCE").strip()
    return int(text) if re.fullmatch(r"\d{1,9}", text) else 0


def text_of(event: Component, name: str) -> str:
    """A text property, unescaped; empty if there is none."""
    found = event.line(name)
    return "" if found is None else unescape(found.value)
