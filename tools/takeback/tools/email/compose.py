"""The final bytes of a message, made from checked parts and checked once more by parsing them. Pure: id and date are given."""

from __future__ import annotations

import email.message
import email.parser
import email.utils
import mimetypes
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP
from typing import Final

from takeback.tools.email.addresses import Address, BadText, check_text

LONGEST_SUBJECT: Final = 400
LONGEST_BODY: Final = 1024 * 1024
MOST_RECIPIENTS: Final = 100
MOST_ATTACHMENTS: Final = 20
LARGEST: Final = 25 * 1024 * 1024
"""Bytes of a whole message; more is refused by most servers."""
MOST_REFERENCES: Final = 20
LONGEST_FILE_NAME: Final = 200
MESSAGE_ID: Final = re.compile(
    r"<[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,200}@(?:[A-Za-z0-9.-]{1,200}|\[[0-9A-Fa-f.:]{2,60}\])>\Z"
)
"""A Message-ID that may be repeated in a header of ours."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file to be sent along."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Letter:
    """Everything that a message says."""

    sender: Address
    to: tuple[Address, ...]
    subject: str
    body: str
    message_id: str
    date: datetime
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    """Never in what is sent; in a draft they have to stand somewhere."""
    in_reply_to: str = ""
    references: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()


def reply_subject(subject: str) -> str:
    """`Re: …`, once."""
    return subject if re.match(r"(?i)\s*re\s*:", subject) else f"Re: {subject}"


def threaded(message_id: str, references: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """In-Reply-To and References of an answer (RFC 5322, 3.6.4); ids that are none are left out.

    :param references: those of the message that is answered.
    """
    if MESSAGE_ID.match(message_id) is None:
        return "", ()
    known = [each for each in references if MESSAGE_ID.match(each) and each != message_id]
    # the first one holds the thread together, the last ones say where in it we are
    kept = known if len(known) < MOST_REFERENCES else [known[0], *known[-(MOST_REFERENCES - 2) :]]
    return message_id, (*kept, message_id)


def check_letter(letter: Letter) -> None:
    """Hold the parts to their bounds.

    :raises BadText:
    """
    check_text(letter.subject, "The subject", longest=LONGEST_SUBJECT)
    if len(letter.body) > LONGEST_BODY:
        raise BadText(
            f"The body has more than {LONGEST_BODY:,} characters.", "Make it shorter, or attach it as a file."
        )
    odd = next((c for c in letter.body if unicodedata.category(c) in ("Cc", "Cs") and c not in "\r\n\t"), None)
    if odd is not None:
        raise BadText(f"The body holds the control character U+{ord(odd):04X}.", "Write plain text.")
    everybody = [*letter.to, *letter.cc, *letter.bcc]
    if not everybody:
        raise BadText("There is no recipient.", "Name at least one in `to`.")
    if len(everybody) > MOST_RECIPIENTS:
        raise BadText(f"There are {len(everybody)} recipients, more than {MOST_RECIPIENTS}.", "Send it to fewer.")
    if len(letter.attachments) > MOST_ATTACHMENTS:
        raise BadText(f"There are more than {MOST_ATTACHMENTS} attachments.", "Send fewer.")
    for attachment in letter.attachments:
        check_text(attachment.name, "The name of an attachment", longest=LONGEST_FILE_NAME)


def build(letter: Letter, *, draft: bool = False) -> bytes:
    """The message, CRLF at each line's end, ASCII throughout.

    :param draft: with the Bcc header.
    :raises BadText: a part cannot be said in a message, or the bytes say something else than was meant.
    """
    check_letter(letter)
    message = EmailMessage(policy=SMTP)
    wanted: list[tuple[str, str]] = [("From", _shown([letter.sender]))]
    message["From"] = _header([letter.sender])
    for name, people in (("To", letter.to), ("Cc", letter.cc), ("Bcc", letter.bcc if draft else ())):
        if people:
            message[name] = _header(people)
            wanted.append((name, _shown(people)))
    plain = [
        ("Subject", letter.subject),
        ("Date", email.utils.format_datetime(letter.date)),
        ("Message-ID", letter.message_id),
        ("In-Reply-To", letter.in_reply_to),
        ("References", " ".join(letter.references)),
    ]
    for name, value in plain:
        if value or name == "Subject":
            message[name] = value
            wanted.append((name, value))
    message.set_content(letter.body.replace("\r\n", "\n").replace("\r", "\n"), cte="quoted-printable")
    for attachment in letter.attachments:
        kind, encoding = mimetypes.guess_type(attachment.name)
        main, _, sub = (kind if kind and not encoding else "application/octet-stream").partition("/")
        if main in ("text", "message", "multipart"):
            main, sub = "application", "octet-stream"  # the bytes are to arrive as they are
        message.add_attachment(attachment.data, maintype=main, subtype=sub, filename=attachment.name)
    data = message.as_bytes(policy=SMTP)
    if len(data) > LARGEST:
        raise BadText(f"The message has {len(data):,} bytes, more than {LARGEST:,}.", "Send smaller attachments.")
    check_bytes(data, wanted)
    return data


def check_bytes(data: bytes, wanted: Sequence[tuple[str, str]]) -> None:
    """The message says in its headers what was meant, and nothing else. The last gate before it is kept or sent.

    :param wanted: names and decoded values, in order; those of MIME are known.
    :raises BadText:
    """
    head, _, _ = data.partition(b"\r\n\r\n")
    lines = re.sub(rb"\r\n[ \t]+", b" ", head).split(b"\r\n")
    names = [line.partition(b":")[0].decode("ascii", "replace") for line in lines]
    mime = {"content-type", "content-transfer-encoding", "mime-version"}
    stray = b"\0" in data or b"\r" in data.replace(b"\r\n", b"") or b"\n" in data.replace(b"\r\n", b"")
    parsed = email.parser.BytesParser(policy=SMTP).parsebytes(data)
    found = [(name, value) for name, value in parsed.items() if name.lower() not in mime]
    same = [name for name in names if name.lower() not in mime] == [name for name, _ in wanted] and len(found) == len(
        wanted
    )
    if same:
        same = all(
            name == meant and _same(parsed, name, value)
            for (name, _), (meant, value) in zip(found, wanted, strict=True)
        )
    if stray or not same or not data.isascii() or any(len(line) > 998 for line in data.split(b"\r\n")):
        raise BadText(
            "The message would not say what was meant once it is encoded.", "Write plainer text in subject and names."
        )


def _same(parsed: email.message.Message, name: str, value: str) -> bool:
    there = parsed[name]
    if name in ("From", "To", "Cc", "Bcc"):
        addresses: tuple[HeaderAddress, ...] = getattr(there, "addresses", ())
        return _join((each.display_name, each.username, each.domain) for each in addresses) == value
    return " ".join(str(there).split()) == " ".join(value.split())


def _join(people: Iterable[tuple[str, str, str]]) -> str:
    return "\n".join(map(repr, people))


def _shown(people: Sequence[Address]) -> str:
    return _join((person.name, person.local, person.domain) for person in people)


def _header(people: Sequence[Address]) -> list[HeaderAddress]:
    return [HeaderAddress(person.name, person.local, person.domain) for person in people]
