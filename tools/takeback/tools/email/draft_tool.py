"""`draft_email`: a message put into Drafts for a person to send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field

from takeback.checkpoints.objects import SMALL
from takeback.journal.states import ABSENT, Effect
from takeback.tools.contract import CallContext, Prepared, ReversibleTool, SwapPrepared
from takeback.tools.email.attaching import told_of
from takeback.tools.email.compose import build
from takeback.tools.email.maildir.folders import digest_of
from takeback.tools.email.states import object_of, state_of
from takeback.tools.email.toolkit import Answer, told
from takeback.tools.email.writing import LetterArguments, LetterTool
from takeback.tools.recovery import Recovery


class DraftEmail(LetterArguments):
    """Arguments of `draft_email`."""


class Drafted(Answer):
    """What `draft_email` did."""

    message_id: str
    mailbox: str = Field(description="Mailbox and folder.")
    subject: str
    size: int


class DraftEmailTool(LetterTool, ReversibleTool[DraftEmail]):
    """Puts a message into Drafts."""

    name = "draft_email"
    title = "Draft email"
    description = "Writes a message into the Drafts folder and sends nothing; a person can finish and send it."
    arguments = DraftEmail
    result = Drafted
    destructive = False
    recovery = Recovery(
        "the draft is taken out of the mailbox again",
        unless="somebody changed, moved or sent it; some IMAP servers only mark it as deleted",
        effects={"email": ("created",)},
    )

    async def prepare(self, arguments: DraftEmail, context: CallContext) -> Prepared:
        name = self.sending(arguments.mailbox)
        letter = await self.letter(arguments, name)
        folder = (await self.roles(name))["drafts"]
        store = self.store(name)
        with told():
            data = build(letter, draft=True)
            key, placement = store.fresh(
                data, digest_of(data), folder, ["draft", "seen"], f"draft\0{name}\0{letter.message_id}"
            )
            blobs: Mapping[str, bytes] = {}
            if len(data) <= SMALL:
                stored, blobs = context.objects.small(data)
            else:
                stored = await context.objects.put(data)
        after = state_of(name, key, placement, stored=stored)
        effect = Effect(system=self.system.name, object=object_of(name, key), before=ABSENT, after=after)

        def result(_: Sequence[Effect]) -> BaseModel:
            return Drafted(
                message_id=key,
                mailbox=f"{name}/{folder}",
                subject=letter.subject,
                size=len(data),
                note=self.note(name),
            )

        return SwapPrepared(
            self.system,
            told_of([effect], letter.attachments),
            result=result,
            summary=f"Wrote a draft to {name}/{folder}.",
            blobs=blobs,
            how="Take the draft out of the mailbox again, unless somebody changed it since.",
        )
