"""What a recipient would read of a message. Pure: no IO."""

from __future__ import annotations

import email.policy
from email import message_from_bytes
from email.message import EmailMessage


def read(content: bytes) -> tuple[str | None, list[str]]:
    """The plain text of a message, and the names of what is attached. None: it has no text that could be read."""
    try:
        message = message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage), "the default policy makes nothing else"
        body = message.get_body(("plain",))
        text = None if body is None else str(body.get_content()).replace("\r\n", "\n")
        attached = [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
    except (
        LookupError,
        ValueError,
        AttributeError,
        KeyError,
    ):  # an unknown charset, a broken part: the bytes are shown anyway
        return None, []
    return text, attached
