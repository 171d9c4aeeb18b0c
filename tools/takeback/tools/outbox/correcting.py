"""The correction of a mail that went out: one fixed text, addressed by the header fields of the original. Pure.

Nothing that a model wrote gets in, except the addresses: they are those that the original went to.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from email import policy
from email.headerregistry import AddressHeader
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from typing import Any, Final

from blake3 import blake3

from takeback.tools.outbox.parting import bare, left_out
from takeback.tools.outbox.port import Outgoing

SUBJECT: Final = "Correction: please disregard an earlier message"
_TEXT: Final = """\
Hello,

a message that was sent to you from this address was sent by mistake. Please disregard it.

It was sent at {sent_at} and has the Message-ID
{message_id}

This is an automatic note. It was sent with the consent of the owner of this address.
"""
_MESSAGE_ID: Final = re.compile(r"<[\x21-\x3b\x3d\x3f-\x7e]{1,900}>")
_REFERENCES: Final = 20
"""Message-IDs of a thread that are repeated: the first, and the latest."""


def mail_correction(
    message: Outgoing, content: bytes, *, sent_at: str, reference: str
) -> tuple[Outgoing, bytes] | None:
    """The correction of a message in the format of RFC 5322; `None` if it is none, or has no usable Message-ID.

    Who was left out of it never got it, so nobody is told that they did.

    :param content: the bytes that went out.
    """
    original = BytesHeaderParser(policy=policy.SMTP).parsebytes(content)
    found = _MESSAGE_ID.fullmatch(str(original.get("Message-ID", "")).strip())
    addressed = [name for name in ("To", "Cc") if name in original]
    if found is None or "From" not in original:
        return None
    thread = [*_MESSAGE_ID.findall(str(original.get("References", ""))), found[0]]
    made = EmailMessage(policy=policy.SMTP)
    made["From"] = str(original["From"])
    for name in addressed:
        if reached := _reached(original[name], left_out(message)):
            made[name] = reached
    made["Subject"] = SUBJECT
    made["Message-ID"] = f"<{reference}@{found[0].rpartition('@')[2].rstrip('>') or 'takeback.invalid'}>"
    made["In-Reply-To"] = found[0]
    made["References"] = " ".join([thread[0], *thread[1:][-_REFERENCES:]])
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(_TEXT.format(sent_at=sent_at, message_id=found[0]))
    data = made.as_bytes()
    outgoing = bare(message).model_copy(
        update={
            "content": f"blake3:{blake3(data).hexdigest()}",
            "size": len(data),
            "subject": SUBJECT,
            "reference": str(made["Message-ID"]),
        }
    )
    return outgoing, data


def _reached(header: Any, left_out: Collection[str]) -> str:
    """A header of addresses without those who never got the message; empty if nobody is left."""
    if not left_out or not isinstance(header, AddressHeader):
        return str(header)
    never = {each.casefold() for each in left_out}
    return ", ".join(str(each) for each in header.addresses if each.addr_spec.casefold() not in never)
