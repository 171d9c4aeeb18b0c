"""`send_email` and `list_outbox`: final bytes into the outbox, where they wait and can still be called back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from takeback.checkpoints.objects import SMALL
from takeback.journal.states import Effect
from takeback.tools.contract import (
    Arguments,
    CallContext,
    Prepared,
    ReadTool,
    Result,
    ReversibleTool,
    SwapPrepared,
    ToolError,
)
from takeback.tools.email.attaching import Attaching, told_of
from takeback.tools.email.compose import build
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.email.system import MailSystem
from takeback.tools.email.toolkit import Answer, MailTool, told
from takeback.tools.email.writing import LetterArguments, LetterTool
from takeback.tools.files.toolkit import counted
from takeback.tools.outbox.port import Outbox, Outgoing
from takeback.tools.outbox.rows import due, when
from takeback.tools.recovery import Recovery
from takeback.tools.system import TargetSystem

CARRIER: Final = "mail:"
"""Carriers of mailboxes are called `mail:NAME`."""


class SendEmail(LetterArguments):
    """Arguments of `send_email`."""

    hold_seconds: Annotated[
        float | None, Field(ge=0, description="How long it can be called back; by default what the settings say.")
    ] = None


class Held(Answer):
    """What `send_email` did."""

    outbox_ids: list[str] = Field(description="The message in the outbox, as list_outbox answers it.")
    recipients: list[str]
    subject: str
    hold_seconds: float = Field(description="It leaves so many seconds after the call, unless it is taken back.")
    local: bool = Field(description="It is delivered only on this machine.")
    header_message_id: str


class SendEmailTool(LetterTool, ReversibleTool[SendEmail]):
    """Sends a message, after a while in which it can be called back."""

    name = "send_email"
    title = "Send email"
    description = (
        "Sends a message after a hold window: inside it rolling back means that nobody ever gets it."
        " The answer is `held` with the time at which it leaves."
    )
    arguments = SendEmail
    result = Held
    open_world = True
    recovery = Recovery(
        "the message is called back before it leaves, and nobody ever gets it; later a correction is sent if a person agrees",
        unless="it has left (`hold_seconds`, 120 s by default), or nobody knows whether it has",
        best="compensable",
        effects={"outbox": ("created",)},
        counts=("recipients",),
        held=True,
    )

    def __init__(
        self,
        system: MailSystem,
        settings: Mapping[str, MailboxSettings],
        attaching: Attaching,
        outbox: Outbox,
    ) -> None:
        super().__init__(system, settings, attaching)
        self.outbox = outbox

    async def prepare(self, arguments: SendEmail, context: CallContext) -> Prepared:
        name = self.sending(arguments.mailbox)
        its = self.settings[name]
        if its.imap is not None and its.smtp is None:
            raise ToolError(
                f"Nothing can be sent from {name}: its configuration names no smtp.",
                advice="Write a draft with draft_email, or send from another mailbox.",
                code="not_allowed",
            )
        letter = await self.letter(arguments, name)
        recipients = tuple(dict.fromkeys(person.spec for person in (*letter.to, *letter.cc, *letter.bcc)))
        seconds = self.outbox.hold_seconds if arguments.hold_seconds is None else arguments.hold_seconds
        local = its.smtp is None
        with told():
            data = build(letter)
            blobs: Mapping[str, bytes] = {}
            if len(data) <= SMALL:
                content, blobs = context.objects.small(data)
            else:
                content = await context.objects.put(data)
            outgoing = Outgoing(
                carrier=CARRIER + name,
                content=content,
                size=len(data),
                sender=letter.sender.spec,
                recipients=recipients,
                subject=letter.subject,
                reference=letter.message_id,
            )
            held = await self.outbox.hold([(outgoing, seconds)], context.objects)
            effects = told_of(held, letter.attachments)
        assert isinstance(self.outbox, TargetSystem), "what holds messages swaps them too"

        def result(made: Sequence[Effect]) -> BaseModel:
            return Held(
                outbox_ids=[effect.object for effect in made],
                recipients=[*recipients],
                subject=letter.subject,
                hold_seconds=seconds,
                local=local,
                header_message_id=letter.message_id,
                note=self.note(name),
            )

        return SwapPrepared(
            self.outbox,
            effects,
            result=result,
            summary=lambda made: (
                f"Put a message for {counted(len(recipients), 'recipient')} into the outbox, to leave at {due(made)}."
            ),
            blobs=blobs,
            how="Call the message back before it leaves; later, send a correction if a person agrees.",
            reversibility="compensable",
            reason="Once it has left, mail cannot be called back.",
        )


class ListOutbox(Arguments):
    """Arguments of `list_outbox`."""

    sent: bool = Field(default=False, description="Also what went out or was cancelled.")
    limit: int = Field(default=50, ge=1, le=200, description="Messages to answer at most.")


class OutboxRow(Result):
    """A message in the outbox."""

    outbox_id: str
    status: Literal["HELD", "SENDING", "SENT", "UNKNOWN", "CANCELLED", "LATE", "DEAD", "WAITING"] = Field(
        description="UNKNOWN: nobody knows whether it went out. LATE, DEAD, WAITING: a person has to decide."
    )
    release_at: str = Field(description="When it leaves.")
    sender: str
    recipients: list[str]
    subject: str
    detail: str
    run_id: str
    action_id: str


class OutboxList(Answer):
    """What `list_outbox` answers."""

    messages: list[OutboxRow]
    truncated: bool


class ListOutboxTool(MailTool, ReadTool[ListOutbox]):
    """What waits to be sent."""

    name = "list_outbox"
    title = "List outbox"
    description = (
        "Lists messages that wait in the outbox, when each leaves, and what became of those that could not leave."
    )
    arguments = ListOutbox
    result = OutboxList

    def __init__(self, system: MailSystem, settings: Mapping[str, MailboxSettings], outbox: Outbox) -> None:
        super().__init__(system, settings)
        self.outbox = outbox

    async def run(self, arguments: ListOutbox, context: CallContext) -> OutboxList:
        rows = await self.outbox.rows(context.caller.principal, everything=arguments.sent)
        shown = [
            OutboxRow(
                outbox_id=row.id,
                status=row.status,
                release_at=when(row.release_at),
                sender=row.message.sender,
                recipients=[*row.message.recipients],
                subject=row.message.subject,
                detail=row.detail,
                run_id=row.run_id,
                action_id=row.action_id,
            )
            for row in rows[: arguments.limit]
        ]
        return OutboxList(
            messages=shown,
            truncated=len(rows) > arguments.limit,
            note=" ".join(dict.fromkeys(note for name in self.settings if (note := self.note(name)))),
        )
