"""The mail that carries an iTIP object (RFC 6047): a text that a person can read, and the object. Pure: id, date are given.

No text of an event gets into a header but its title, into the subject, and that only if it is plain. Recipients stand there
by their bare addresses.
"""

from __future__ import annotations

import email.utils
from collections.abc import Sequence
from datetime import datetime
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import SMTP
from typing import Final

from takeback.tools.calendar.itip_objects import Notice, text_of
from takeback.tools.calendar.when import end_of, start_of
from takeback.tools.email.addresses import Address, BadText, check_text
from takeback.tools.email.compose import LARGEST, LONGEST_SUBJECT, check_bytes

MOST_RECIPIENTS: Final = 100
"""Of one message; more guests get several."""
WITHDRAWN: Final = "Correction: an invitation that you were sent has been withdrawn"
PUT_RIGHT: Final = "Correction: an event that you were told of is as it was before"
"""Subjects of what is sent when an act is taken back: fixed, because nothing that a model wrote gets into their headers."""
_LONGEST_TEXT: Final = 20_000


def subject_of(notice: Notice) -> str:
    """What a message is called.

    :raises BadText: the title of the event cannot stand in a header.
    """
    title = text_of(notice.shown, "SUMMARY") or "(without a title)"
    kind = "Cancelled" if notice.method == "CANCEL" else "Updated invitation" if notice.known else "Invitation"
    return check_text(f"{kind}: {title}", "The summary of an event with guests", longest=LONGEST_SUBJECT)


def build(
    notice: Notice,
    *,
    sender: Address,
    subject: str,
    message_id: str,
    date: datetime,
    in_reply_to: str = "",
    automatic: bool = False,
) -> bytes:
    """The message, CRLF at each line's end, ASCII throughout.

    :param automatic: it is sent by the server itself, not for an act of the moment (RFC 3834).
    :raises BadText: it would not say what was meant.
    """
    made = EmailMessage(policy=SMTP)
    wanted: list[tuple[str, str]] = [("From", _shown([sender])), ("To", _shown(notice.recipients))]
    made["From"] = _header([sender])
    made["To"] = _header(notice.recipients)
    plain = [
        ("Subject", subject),
        ("Date", email.utils.format_datetime(date)),
        ("Message-ID", message_id),
        ("In-Reply-To", in_reply_to),
        ("References", in_reply_to),
        ("Auto-Submitted", "auto-generated" if automatic else ""),
    ]
    for name, value in plain:
        if value:
            made[name] = value
            wanted.append((name, value))
    made.set_content(_body(notice, automatic), cte="quoted-printable")
    made.add_alternative(
        notice.calendar,
        maintype="text",
        subtype="calendar",
        cte="base64",
        params={"method": notice.method, "charset": "utf-8", "component": "VEVENT"},
    )
    data = made.as_bytes(policy=SMTP)
    if len(data) > LARGEST:
        raise BadText(f"The message to the guests has {len(data):,} bytes.", "Make the description shorter.")
    check_bytes(data, wanted)
    if calendar_in(data) != notice.calendar:
        raise BadText("The message would not carry the event as it was meant.", "Write plainer text.")
    return data


def calendar_in(message: bytes) -> bytes | None:
    """The iCalendar object that a message carries."""
    for part in BytesParser(policy=SMTP).parsebytes(message).walk():
        if part.get_content_type() == "text/calendar":
            found = part.get_payload(decode=True)
            return found if isinstance(found, bytes) else None
    return None


def _body(notice: Notice, automatic: bool) -> str:
    event = notice.shown
    start, end = start_of(event), end_of(event)
    zone = {"zoned": f" ({start.zone})", "utc": " (UTC)"}.get(start.kind, "")
    rows = [
        ("What", text_of(event, "SUMMARY")),
        ("When", f"{start.said()} to {end.said()}{zone}"),
        ("Repeats", "" if (rule := event.line("RRULE")) is None else rule.value),
        ("Where", text_of(event, "LOCATION")),
        ("By", "" if (host := event.line("ORGANIZER")) is None else host.value.partition(":")[2]),
    ]
    said = {
        ("REQUEST", False): "You are invited to this event.",
        ("REQUEST", True): "This event, to which you are invited, has changed.",
        ("CANCEL", True): "This event does not take place, or you are no longer invited to it.",
    }[notice.method, notice.known]
    if automatic:
        said += " It puts right what you were told before, with the consent of the owner of this address."
    described = text_of(event, "DESCRIPTION") if notice.method == "REQUEST" else ""
    lines = [said, "", *(f"{name}: {value}" for name, value in rows if value), *(["", described] if described else [])]
    return "\n".join(lines)[:_LONGEST_TEXT].replace("\r\n", "\n").replace("\r", "\n") + "\n"


def _shown(people: Sequence[Address]) -> str:
    return "\n".join(repr((person.name, person.local, person.domain)) for person in people)


def _header(people: Sequence[Address]) -> list[HeaderAddress]:
    return [HeaderAddress(person.name, person.local, person.domain) for person in people]
