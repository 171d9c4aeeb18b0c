"""Tools of all four kinds on the in-memory system: the smallest examples, and what kit and engine are tested with.

No server offers them unless it is told to: `[tools] modules` takes the path of this file like that of any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self
from uuid import uuid4

from pydantic import Field

from takeback.journal.states import ABSENT, Effect
from takeback.tools.contract import (
    Arguments,
    CallContext,
    CompensableTool,
    IrreversibleTool,
    Prepared,
    ReadTool,
    Result,
    ReversibleTool,
    SwapPrepared,
    Target,
    ToolError,
    Unknown,
)
from takeback.tools.memory_system import MemorySystem
from takeback.tools.registry import Family, Services

__all__ = [
    "Announce",
    "DeleteValue",
    "GetValue",
    "MemoryFamily",
    "MemorySystem",
    "PostNote",
    "SetValue",
]

Key = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$", description="Name of the value.")


class KeyArguments(Arguments):
    """Which value."""

    key: str = Key


class SetArguments(KeyArguments):
    """Which value, and what it should be."""

    value: str = Field(max_length=1_000_000, description="The new text.")
    expected_digest: str | None = Field(default=None, description="Digest that the value has to have now.")


class ValueResult(Result):
    """A value as it is."""

    key: str
    value: str | None
    digest: str | None


class GetValue(ReadTool[KeyArguments]):
    """Reads a value."""

    name, title, description = "get_value", "Get a value", "Reads a value from memory."
    arguments, result = KeyArguments, ValueResult

    def __init__(self, system: MemorySystem) -> None:
        self.system = system

    async def run(self, arguments: KeyArguments, context: CallContext) -> ValueResult:
        (state,) = await self.system.look([arguments.key])
        context.seen[(self.system.name, arguments.key)] = state.content or state.digest
        return ValueResult(key=arguments.key, value=self.system.get(arguments.key), digest=state.content)


class SetValue(ReversibleTool[SetArguments]):
    """Writes a value."""

    name, title, description = "set_value", "Set a value", "Writes a value in memory. The earlier one can be put back."
    arguments, result, idempotent = SetArguments, ValueResult, True

    def __init__(self, system: MemorySystem) -> None:
        self.system = system

    async def targets(self, arguments: SetArguments, context: CallContext) -> Sequence[Target]:
        return [Target(self.system.name, arguments.key, arguments.expected_digest)]

    async def prepare(self, arguments: SetArguments, context: CallContext) -> Prepared:
        before, kept = await self.system.stored(self.system.get(arguments.key))
        after = self.system.stage(arguments.value)
        effect = Effect(system=self.system.name, object=arguments.key, before=before, after=after)

        async def discard() -> None:
            self.system.unstage(after)

        return SwapPrepared(
            self.system,
            [effect],
            result=lambda effects: ValueResult(
                key=arguments.key, value=arguments.value, digest=effects[0].after.content
            ),
            summary=f"Set {arguments.key}.",
            blobs=kept,
            discard=discard,
        )


class DeleteValue(ReversibleTool[KeyArguments]):
    """Removes a value."""

    name, title, description = "delete_value", "Delete a value", "Removes a value from memory. It can be put back."
    arguments, result = KeyArguments, ValueResult

    def __init__(self, system: MemorySystem) -> None:
        self.system = system

    async def targets(self, arguments: KeyArguments, context: CallContext) -> Sequence[Target]:
        return [Target(self.system.name, arguments.key)]

    async def prepare(self, arguments: KeyArguments, context: CallContext) -> Prepared:
        text = self.system.get(arguments.key)
        if text is None:
            raise ToolError(f"There is no value {arguments.key!r}.", advice="Check the key.", code="not_found")
        before, kept = await self.system.stored(text)
        effect = Effect(system=self.system.name, object=arguments.key, before=before, after=ABSENT)
        return SwapPrepared(
            self.system,
            [effect],
            result=lambda _: ValueResult(key=arguments.key, value=None, digest=None),
            summary=f"Deleted {arguments.key}.",
            blobs=kept,
        )


class NoteArguments(Arguments):
    """What to say."""

    text: str = Field(min_length=1, max_length=10_000, description="What the note says.")


class NoteMemo(Result):
    """Chosen before the act, so that the note can be found again whatever happens."""

    note_id: str


class NotePosted(Result):
    """The note that is on the board now."""

    note_id: str


class PostNote(CompensableTool[NoteArguments, NoteMemo, NotePosted]):
    """Posts a note to a board outside; it can be deleted again, but somebody may have read it."""

    name, title, description = "post_note", "Post a note", "Posts a note to the board. It can be deleted again."
    arguments, memo, outcome, destructive = NoteArguments, NoteMemo, NotePosted, False
    how = "Delete the note again."

    def __init__(self, system: MemorySystem) -> None:
        self.system = system

    async def capture(self, arguments: NoteArguments, context: CallContext) -> NoteMemo:
        return NoteMemo(note_id=uuid4().hex)

    async def apply(self, arguments: NoteArguments, memo: NoteMemo) -> NotePosted:
        await self.system.step("post")
        self.system.pin(memo.note_id, "note", arguments.text)
        await self.system.step("posted")
        return NotePosted(note_id=memo.note_id)

    async def happened(self, memo: NoteMemo) -> NotePosted | Literal[False] | Unknown:
        return NotePosted(note_id=memo.note_id) if memo.note_id in self.system.notes() else False

    async def compensate(self, memo: NoteMemo, outcome: NotePosted | Unknown) -> str:
        await self.system.step("delete")
        deleted = self.system.unpin(memo.note_id)
        await self.system.step("deleted")
        return "Deleted the note." if deleted else "There was no note any more."


class Announce(IrreversibleTool[NoteArguments, NoteMemo, NotePosted]):
    """Says something that nobody can unsay."""

    name, title, description = "announce", "Announce", "Announces a text to everybody. It cannot be taken back."
    arguments, memo, outcome = NoteArguments, NoteMemo, NotePosted

    def __init__(self, system: MemorySystem) -> None:
        self.system = system

    async def capture(self, arguments: NoteArguments, context: CallContext) -> NoteMemo:
        return NoteMemo(note_id=uuid4().hex)

    async def apply(self, arguments: NoteArguments, memo: NoteMemo) -> NotePosted:
        await self.system.step("post")
        self.system.pin(memo.note_id, "announcement", arguments.text)
        await self.system.step("posted")
        return NotePosted(note_id=memo.note_id)

    def reason(self, arguments: NoteArguments, memo: NoteMemo) -> str:
        return "Everybody hears an announcement at once."


class MemoryFamily(Family):
    """The memory system and its tools; kept in `memory.db` of the data directory."""

    name = "memory"

    def __init__(self, system: MemorySystem) -> None:
        self.system = system
        self.systems = (system,)
        self.tools = (GetValue(system), SetValue(system), DeleteValue(system), PostNote(system), Announce(system))

    @classmethod
    async def open(cls, services: Services) -> Self:
        services.data.mkdir(parents=True, exist_ok=True)
        return cls(MemorySystem(file=services.data / "memory.db", objects=services.objects))

    async def close(self) -> None:
        self.system.close()
