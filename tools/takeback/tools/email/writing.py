"""What drafting and sending share: from the arguments of a call to the final bytes of a message."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import Field

from takeback.tools.contract import Arguments, ToolError
from takeback.tools.email.addresses import Address, BadText, parse
from takeback.tools.email.attaching import Attaching
from takeback.tools.email.compose import MOST_ATTACHMENTS, Letter, reply_subject, threaded
from takeback.tools.email.maildir.names import is_key
from takeback.tools.email.reading import head_of
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.email.system import MailSystem
from takeback.tools.email.toolkit import MailboxName, MailTool, MessageId, no_message, told

_HEAD: Final = 64 * 1024
LOCAL_ADDRESS: Final = "me@localhost"
"""Who sends from the mailbox that is there by default."""

AddressText = Annotated[str, Field(max_length=500)]
Addresses = Annotated[
    list[AddressText],
    Field(max_length=100, description="Each as anna@example.org or Anna Berg <anna@example.org>."),
]


class LetterArguments(Arguments):
    """Arguments that drafts and sent mail share."""

    to: Addresses
    subject: str = Field(max_length=2000, description="Plain text on one line; a reply gets its Re: by itself.")
    body: str = Field(description="Plain text.")
    cc: Addresses = Field(default_factory=list[str], description="Further recipients, whom everybody sees.")
    bcc: Addresses = Field(default_factory=list[str], description="Nobody else learns of them.")
    in_reply_to: MessageId | None = Field(
        default=None, description="message_id of the message that this answers, as search_email answers it."
    )
    attachments: list[str] = Field(
        default_factory=list[str], max_length=MOST_ATTACHMENTS, description="Paths of files in the workspace."
    )
    mailbox: MailboxName | None = Field(default=None, description="Mailbox to send from; by default the first one.")


class LetterTool(MailTool):
    """Base of the tools that write messages."""

    def __init__(self, system: MailSystem, settings: Mapping[str, MailboxSettings], attaching: Attaching) -> None:
        super().__init__(system, settings)
        self.attaching = attaching

    def sending(self, mailbox: str | None) -> str:
        """The mailbox that a message is written in.

        :raises ToolError: there is none, or nothing may be written there.
        """
        name = next(iter(self.settings)) if mailbox is None else self.split(mailbox)[0]
        self.writable(name)
        return name

    async def letter(self, arguments: LetterArguments, name: str) -> Letter:
        """The parts of the message, checked.

        :raises ToolError: an address, text or file cannot be taken.
        """
        with told():
            sender = parse(self.settings[name].address, f"The address of the mailbox {name}")
            to, cc, bcc = (
                self._people(people, what)
                for people, what in ((arguments.to, "to"), (arguments.cc, "cc"), (arguments.bcc, "bcc"))
            )
            subject, answered, references = arguments.subject.strip(" "), "", tuple[str, ...]()
            if arguments.in_reply_to is not None:
                answered, references = await self._thread(arguments.in_reply_to, name)
                subject = reply_subject(subject)
            return Letter(
                sender=sender,
                to=to,
                cc=cc,
                bcc=bcc,
                subject=subject,
                body=arguments.body,
                message_id=f"<{secrets.token_hex(16)}@{sender.domain}>",
                date=datetime.now(UTC).replace(microsecond=0),
                in_reply_to=answered,
                references=references,
                attachments=await self.attaching.read(arguments.attachments),
            )

    def _people(self, texts: Sequence[str], what: str) -> tuple[Address, ...]:
        people = tuple(parse(text, f"Address {number} in {what}") for number, text in enumerate(texts, 1))
        if len({person.spec.lower() for person in people}) < len(people):
            raise BadText(f"An address stands in {what} twice.", "Name each recipient once.")
        return people

    async def _thread(self, key: str, name: str) -> tuple[str, tuple[str, ...]]:
        store = self.store(name)
        [raw] = await store.head([key], _HEAD) if is_key(key) else [None]
        if raw is None:
            raise no_message(key, name)
        head = head_of(raw)
        answered, references = threaded(head.message_id, head.references or tuple(head.in_reply_to.split()))
        if not answered:
            raise ToolError(
                "The message that is to be answered has no Message-ID that could be named.",
                advice="Leave in_reply_to out.",
            )
        return answered, references
