"""The tools that move and flag mail. Each is a few renames in the mailbox, taken back by the mail system's swap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import BaseModel, Field

from takeback.journal.states import Effect
from takeback.tools.contract import (
    Arguments,
    CallContext,
    Prepared,
    ReversibleTool,
    SwapPrepared,
    Target,
    ToolError,
)
from takeback.tools.email.port import Flag, MailStore, Placement
from takeback.tools.email.states import object_of, placement_of, state_of
from takeback.tools.email.toolkit import Answer, MailboxName, MailTool, MessageIds, no_message, told
from takeback.tools.files.toolkit import counted
from takeback.tools.recovery import Recovery


class MoveEmail(Arguments):
    """Arguments of `move_email`."""

    mailbox: MailboxName
    message_ids: MessageIds
    destination: Annotated[
        str, Field(min_length=1, max_length=500, description="Folder of the same mailbox, as FOLDER or NAME/FOLDER.")
    ]


class FlagEmail(Arguments):
    """Arguments of `flag_email`."""

    mailbox: MailboxName
    message_ids: MessageIds
    add: list[Flag] = Field(default_factory=list[Flag], max_length=6, description="Flags to set.")
    remove: list[Flag] = Field(default_factory=list[Flag], max_length=6, description="Flags to take off.")


class DeleteEmail(Arguments):
    """Arguments of `delete_email`."""

    mailbox: MailboxName
    message_ids: MessageIds


class Moved(Answer):
    """What `move_email` and `delete_email` did."""

    message_ids: list[str] = Field(description="Of the messages where they are now.")
    mailbox: str = Field(description="Mailbox and folder where they are now.")
    moved: int = Field(description="Messages that were not there already.")


class FlaggedMessage(BaseModel):
    """A message and its flags."""

    message_id: str
    flags: list[Flag]


class Flagged(Answer):
    """What `flag_email` did."""

    messages: list[FlaggedMessage]


class _Acting(MailTool):
    """What tools that change messages where they lie have in common."""

    async def effects(
        self, mailbox: str, keys: Sequence[str], changed: Callable[[MailStore, Placement], Placement]
    ) -> tuple[str, list[Effect]]:
        """The mailbox's name, and the change of each message.

        :raises ToolError: a message is not there.
        """
        name, folder = self.split(mailbox)
        self.writable(name)
        store = self.store(name)
        with told():
            placements = await store.look(keys)
            made: list[Effect] = []
            for key, placement in zip(keys, placements, strict=True):
                if placement is None or (folder is not None and placement.folder != folder):
                    raise no_message(key, mailbox)
                if placement.unsure:
                    raise ToolError(
                        f"Another program moved the message {key}, and {placement.unsure}.",
                        advice="Call search_email, and use the id that the right one has now.",
                    )
                goal = changed(store, placement)
                before, after = (state_of(name, key, side) for side in (placement, goal))
                made.append(Effect(system=self.system.name, object=object_of(name, key), before=before, after=after))
        return name, made

    async def moves(self, mailbox: str, keys: Sequence[str], destination: str, verb: str) -> Prepared:
        """Move the messages to a folder."""
        name, effects = await self.effects(mailbox, keys, lambda store, placement: store.moved(placement, destination))
        moved = sum(effect.verb != "unchanged" for effect in effects)
        where = f"{name}/{destination}"

        def result(_: Sequence[Effect]) -> BaseModel:
            return Moved(message_ids=[*keys], mailbox=where, moved=moved, note=self.note(name))

        return SwapPrepared(
            self.system,
            effects,
            result=result,
            summary=f"{verb} {counted(moved, 'message')} to {where}.",
            how="Move each message back to where it was, unless somebody moved it since.",
        )


class MoveEmailTool(_Acting, ReversibleTool[MoveEmail]):
    """Moves messages to another folder."""

    name = "move_email"
    title = "Move email"
    description = "Moves messages to another folder of the same mailbox; flags and times stay as they are."
    arguments = MoveEmail
    result = Moved
    recovery = Recovery(
        "each message is moved back to where it was",
        unless="somebody moved or deleted it since; on Gmail other labels that Trash took off stay off",
        effects={"email": ("changed",)},
    )
    destructive = False
    idempotent = True

    async def targets(self, arguments: MoveEmail, context: CallContext) -> Sequence[Target]:
        return self.message_targets(arguments.mailbox, arguments.message_ids)

    async def prepare(self, arguments: MoveEmail, context: CallContext) -> Prepared:
        self.message_targets(arguments.mailbox, arguments.message_ids)
        name, _ = self.split(arguments.mailbox)
        destination = arguments.destination
        if destination.startswith(f"{name}/"):
            destination = destination.removeprefix(f"{name}/")
        elif destination.partition("/")[0] in self.settings:
            raise ToolError(
                f"{destination!r} is another mailbox.", advice="Move within one mailbox; forward to reach another."
            )
        with told():
            there = {folder.name for folder in await self.store(name).folders()}
        if destination not in there and destination not in (await self.roles(name)).values():
            raise ToolError(
                f"There is no folder {destination!r} in {name}.",
                advice="Call list_mailboxes to see which there are.",
                code="not_found",
            )
        return await self.moves(arguments.mailbox, arguments.message_ids, destination, "Moved")


class DeleteEmailTool(_Acting, ReversibleTool[DeleteEmail]):
    """Moves messages to Trash."""

    name = "delete_email"
    title = "Delete email"
    description = "Moves messages to the Trash folder. Nothing is destroyed, and messages in Trash stay there."
    arguments = DeleteEmail
    result = Moved
    recovery = Recovery(
        "each message is moved back out of Trash",
        unless="Trash was emptied since, or somebody moved it",
        effects={"email": ("changed",)},
        counts=("deleted",),
    )
    idempotent = True

    async def targets(self, arguments: DeleteEmail, context: CallContext) -> Sequence[Target]:
        return self.message_targets(arguments.mailbox, arguments.message_ids)

    async def prepare(self, arguments: DeleteEmail, context: CallContext) -> Prepared:
        self.message_targets(arguments.mailbox, arguments.message_ids)
        name, _ = self.split(arguments.mailbox)
        trash = (await self.roles(name))["trash"]
        prepared = await self.moves(arguments.mailbox, arguments.message_ids, trash, "Moved")
        # whoever counts what a run deletes means this, though nothing is destroyed by it
        prepared.counts = {"deleted": sum(effect.verb != "unchanged" for effect in prepared.effects)}
        return prepared


class FlagEmailTool(_Acting, ReversibleTool[FlagEmail]):
    """Sets and removes flags."""

    name = "flag_email"
    title = "Flag email"
    description = "Adds and removes flags of messages, such as seen, answered and flagged."
    arguments = FlagEmail
    result = Flagged
    recovery = Recovery(
        "the flags are put back one by one; those that others changed stay",
        unless="somebody changed the same flag since, or deleted the message",
        effects={"email": ("changed",)},
    )
    destructive = False
    idempotent = True

    async def targets(self, arguments: FlagEmail, context: CallContext) -> Sequence[Target]:
        return self.message_targets(arguments.mailbox, arguments.message_ids)

    async def prepare(self, arguments: FlagEmail, context: CallContext) -> Prepared:
        self.message_targets(arguments.mailbox, arguments.message_ids)
        add, remove = set(arguments.add), set(arguments.remove)
        if not add | remove or add & remove:
            raise ToolError(
                "There is nothing to add or remove, or the same flag is both.", advice="Name flags in add or in remove."
            )
        if "deleted" in add | remove:
            raise ToolError(
                "The flag deleted lets other programs destroy a message.",
                advice="Use delete_email, which moves to Trash.",
            )
        name, effects = await self.effects(
            arguments.mailbox,
            arguments.message_ids,
            lambda store, placement: store.marked(placement, add=arguments.add, remove=arguments.remove),
        )
        store = self.store(name)
        changed = sum(effect.verb != "unchanged" for effect in effects)

        def result(made: Sequence[Effect]) -> BaseModel:
            found = zip(arguments.message_ids, (placement_of(effect.after) for effect in made), strict=True)
            return Flagged(
                messages=[
                    FlaggedMessage(message_id=key, flags=[*store.flag_names(placement.flags)])
                    for key, placement in found
                    if placement is not None
                ],
                note=self.note(name),
            )

        return SwapPrepared(
            self.system,
            effects,
            result=result,
            summary=f"Changed the flags of {counted(changed, 'message')}.",
            how="Put back the flags that were changed, and leave those that others changed.",
        )
