"""The correction of a mail that went out: one fixed text, addressed by the header fields of the original. Pure.

Nothing that a model wrote gets in, except the addresses: they are those that the original went to.
"""

from __future__ import annotations

import re
from email import policy
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from typing import Final

from blake3 import blake3

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
        made[name] = str(original[name])
    made["Subject"] = SUBJECT
    made["Message-ID"] = f"<{reference}@{found[0].rpartition('@')[2].rstrip('>') or 'takeback.invalid'}>"
    made["In-Reply-To"] = found[0]
    made["References"] = " ".join([thread[0], *thread[1:][-_REFERENCES:]])
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(_TEXT.format(sent_at=sent_at, message_id=found[0]))
    data = made.as_bytes()
    outgoing = message.model_copy(
        update={
            "content": f"blake3:{blake3(data).hexdigest()}",
            "size": len(data),
            "subject": SUBJECT,
            "reference": str(made["Message-ID"]),
        }
    )
    return outgoing, data
