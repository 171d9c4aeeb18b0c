"""Mailing a bundle to whoever is asked for help: a person's own act at the command line, through their own mailbox, at once."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core
from takeback.tools.email.addresses import BadText, parse
from takeback.tools.email.compose import Attachment, Letter, build
from takeback.tools.outbox.port import NotSent, Outgoing

TEXT = "The attached file says what happened in the run {run}, without contents, secrets and addresses.\n"


def carrier_for(core: Core) -> str | None:
    """The first mailbox that sends to other machines."""
    for name, mailbox in core.settings.mailboxes.items():
        if mailbox.smtp is not None and f"mail:{name}" in core.outbox.carriers:
            return name
    return None


async def mail_bundle(core: Core, mailbox: str, address: str, run_id: str, path: Path) -> None:
    """Send it.

    :raises EngineError: it did not go out, or nobody knows.
    """
    settings = core.settings.mailboxes[mailbox]
    carrier = core.outbox.carriers[f"mail:{mailbox}"]
    try:
        sender, to = (
            parse(settings.address, f"The address of the mailbox {mailbox}"),
            parse(address, "[support] address"),
        )
        letter = Letter(
            sender=sender,
            to=(to,),
            subject=f"takeback {version('takeback')}: what happened in {run_id}",
            body=TEXT.format(run=run_id),
            message_id=f"<{secrets.token_hex(16)}@{sender.domain}>",
            date=datetime.now(UTC).replace(microsecond=0),
            attachments=(Attachment(path.name, path.read_bytes()),),
        )
        data = build(letter)
    except (BadText, OSError) as error:
        raise EngineError(
            "cannot_send", f"The message could not be made: {error}.", f"Mail {path} to {address}."
        ) from error
    message = Outgoing(
        carrier=carrier.name, content="", size=len(data), sender=sender.spec, recipients=(to.spec,),
        subject=letter.subject, reference=letter.message_id,
    )  # fmt: skip
    try:
        await carrier.deliver(message, data)
    except NotSent as error:
        raise EngineError("not_sent", f"It was not sent: {error}.", f"Mail {path} to {address} by hand.") from error
    except Exception as error:  # whatever it was, it may have gone out
        raise EngineError(
            "in_doubt", f"Nobody knows whether it went out ({type(error).__name__}).", "Look before you send it again."
        ) from error
