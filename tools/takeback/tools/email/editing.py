"""A held message as text that a person can change, and back into final bytes. Pure.

Only a message that can be taken apart and put together again to the same bytes can be edited: nothing of what it holds is lost
without a word. Its Message-ID stays, because it has not left: an answer about it, and looking for it in Sent, still find it.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Sequence
from dataclasses import replace
from email import policy
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser
from typing import Final

from takeback.tools.email.addresses import Address, BadText, parse
from takeback.tools.email.compose import Attachment, Letter, build
from takeback.tools.outbox.port import Outgoing

FIELDS: Final = ("To", "Cc", "Bcc", "Subject")
"""What a person can change beside the text, by its name in a message."""
_COMMA: Final = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*\Z)')
"""Outside of quotes."""
_BOUNDARY: Final = re.compile(rb'boundary="([^"\r\n]+)"')


def letter_of(message: Outgoing, content: bytes) -> Letter:
    """The parts of a message.

    :param content: its final bytes.
    :raises BadText: it would not be the same once it is put together again.
    """
    try:
        letter = _taken_apart(message, content)
        same = _plain(build(letter)) == _plain(content)
    except (BadText, ValueError, LookupError, TypeError, IndexError, AttributeError):
        same, letter = False, None
    if not same or letter is None:
        raise BadText(
            "The message holds more than text, attachments and the usual headers, which would be lost.",
            "Cancel it, and write another one.",
        )
    return letter


def as_text(letter: Letter) -> str:
    """What a person edits: fields, an empty line, the text."""
    people = {"To": letter.to, "Cc": letter.cc, "Bcc": letter.bcc}
    head = [f"{name}: {_listed(people[name])}" for name in FIELDS if name in people]
    return "\n".join([*head, f"Subject: {letter.subject}", "", letter.body])


def from_text(letter: Letter, text: str) -> Letter:
    """The letter as a person left its text.

    :raises BadText: a field is missing, unknown, twice, or no addresses.
    """
    head, gap, body = text.replace("\r\n", "\n").partition("\n\n")
    said: dict[str, str] = {}
    for line in head.splitlines():
        name, colon, value = line.partition(":")
        if not colon or name not in FIELDS or name in said:
            raise BadText(
                f"The line {line[:80]!r} is none of {', '.join(FIELDS)}, each once.",
                "Keep the first lines as they are, then an empty line, then the text.",
            )
        said[name] = value.strip()
    if not gap or len(said) < len(FIELDS):
        raise BadText(
            "A field is missing, or the empty line before the text.",
            f"Begin with {', '.join(FIELDS)}, also where one is empty.",
        )
    return edited(
        letter,
        to=_people_in(said["To"], "To"),
        cc=_people_in(said["Cc"], "Cc"),
        bcc=_people_in(said["Bcc"], "Bcc"),
        subject=said["Subject"],
        body=body,
    )


def edited(
    letter: Letter,
    *,
    to: Sequence[str] | None = None,
    cc: Sequence[str] | None = None,
    bcc: Sequence[str] | None = None,
    subject: str | None = None,
    body: str | None = None,
) -> Letter:
    """The letter with other recipients, another subject or text; `None`: as it is.

    :raises BadText: an address is none, or stands in a field twice.
    """
    people = {
        name: kept if given is None else _parsed(given, name)
        for name, given, kept in (("To", to, letter.to), ("Cc", cc, letter.cc), ("Bcc", bcc, letter.bcc))
    }
    return replace(
        letter,
        to=people["To"],
        cc=people["Cc"],
        bcc=people["Bcc"],
        subject=letter.subject if subject is None else subject.strip(" "),
        body=letter.body if body is None else body if body.endswith("\n") else f"{body}\n",
    )


def outgoing(letter: Letter, message: Outgoing, content_name: str, size: int) -> Outgoing:
    """The message that carries the letter instead of what it was."""
    recipients = tuple(dict.fromkeys(person.spec for person in (*letter.to, *letter.cc, *letter.bcc)))
    return message.model_copy(
        update={"content": content_name, "size": size, "recipients": recipients, "subject": letter.subject}
    )


def _taken_apart(message: Outgoing, content: bytes) -> Letter:
    parsed = BytesParser(_class=EmailMessage, policy=policy.SMTP).parsebytes(content)
    to, cc = _people(parsed, "To"), _people(parsed, "Cc")
    named = {person.spec for person in (*to, *cc)}
    parts = list(parsed.iter_parts()) if parsed.is_multipart() else [parsed]
    return Letter(
        sender=_people(parsed, "From")[0],
        to=to,
        cc=cc,
        bcc=tuple(parse(each) for each in message.recipients if each not in named),
        subject=str(parsed["Subject"]),
        body=_body(parts[0]),
        message_id=message.reference,
        date=email.utils.parsedate_to_datetime(str(parsed["Date"])),
        in_reply_to=str(parsed.get("In-Reply-To", "")),
        references=tuple(str(parsed.get("References", "")).split()),
        attachments=tuple(
            Attachment(str(part.get_filename()), bytes(part.get_payload(decode=True) or b"")) for part in parts[1:]
        ),
    )


def _body(part: MIMEPart) -> str:
    return str(part.get_content()).replace("\r\n", "\n")


def _people(parsed: EmailMessage, name: str) -> tuple[Address, ...]:
    if name not in parsed:
        return ()
    addresses: tuple[HeaderAddress, ...] = parsed[name].addresses
    return tuple(Address(each.display_name, each.username, each.domain) for each in addresses)


def _parsed(texts: Sequence[str], name: str) -> tuple[Address, ...]:
    people = tuple(parse(text, f"Address {number} in {name}") for number, text in enumerate(texts, 1))
    if len({person.spec.lower() for person in people}) < len(people):
        raise BadText(f"An address stands in {name} twice.", "Name each recipient once.")
    return people


def _people_in(value: str, name: str) -> list[str]:
    """The addresses of a field, at the commas outside of quotes."""
    found = [each.strip() for each in _COMMA.split(value)] if value else []
    if not all(found):
        raise BadText(f"{name} is no list of addresses.", "Write them with commas between, and no comma at its end.")
    return found


def _listed(people: Sequence[Address]) -> str:
    return ", ".join(str(HeaderAddress(each.name, each.local, each.domain)) for each in people)


def _plain(content: bytes) -> bytes:
    """The bytes without the boundary, which is another one each time."""
    found = _BOUNDARY.search(content.partition(b"\r\n\r\n")[0])
    return content if found is None else content.replace(found[1], b"boundary")
