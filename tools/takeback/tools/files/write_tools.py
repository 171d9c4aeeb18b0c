"""The tools that change files. Each prepares beside, swaps in one step, and is taken back by the file system's swap."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from takeback.journal.states import Effect
from takeback.tools.contract import (
    Arguments,
    CallContext,
    Prepared,
    Result,
    ReversibleTool,
    SwapPrepared,
    Target,
    ToolError,
)
from takeback.tools.files.content_tool import ContentTool
from takeback.tools.files.edit import Edit, EditError, apply_edits, surrogate
from takeback.tools.files.staged import Staged
from takeback.tools.files.toolkit import ExpectedDigest, FilesTool, Path, counted, digest_of, told
from takeback.tools.recovery import Recovery, Verb

Overwrite = Annotated[
    bool, Field(description="Replace what stands at the destination; it can be taken back like everything else.")
]


class Written(Result):
    """What `write_file` and `edit_file` did."""

    path: str
    size: int = Field(description="Bytes of the file now.")
    created: bool = Field(description="Whether there was no such file before.")
    digest: str = Field(description="Of the content now; pass it as expected_digest to the next change.")


class Moved(Result):
    """What `move_file` and `copy_file` did."""

    source: str
    destination: str
    overwritten: bool = Field(description="Whether something stood at the destination before.")


class Deleted(Result):
    """What `delete_file` did."""

    path: str
    kind: str = Field(description="file, directory or symlink.")


class Created(Result):
    """What `create_directory` did."""

    path: str


class WriteFile(Arguments):
    """Arguments of `write_file`."""

    path: Path
    content: str = Field(description="The whole new content.")
    encoding: Literal["utf-8", "base64"] = Field(
        default="utf-8", description="How content is to be read; base64 for binary."
    )
    expected_digest: ExpectedDigest = None


class EditArgument(BaseModel):
    """One edit of `edit_file`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    old_text: str = Field(description="Exact text to find, blanks included; line breaks match whatever the file uses.")
    new_text: str = Field(description="What to put there instead.")
    replace_all: bool = Field(
        default=False, description="Replace every occurrence; otherwise there must be exactly one."
    )


class EditFile(Arguments):
    """Arguments of `edit_file`."""

    path: Path
    edits: list[EditArgument] = Field(description="Applied in order; if one does not fit, nothing is changed.")
    expected_digest: ExpectedDigest = None


class MoveFile(Arguments):
    """Arguments of `move_file`."""

    source: Path
    destination: Path
    overwrite: Overwrite = False
    expected_digest: ExpectedDigest = None


class CopyFile(Arguments):
    """Arguments of `copy_file`."""

    source: Path
    destination: Path
    overwrite: Overwrite = False
    expected_digest: ExpectedDigest = None


class DeleteFile(Arguments):
    """Arguments of `delete_file`."""

    path: Path
    recursive: bool = Field(default=False, description="Needed for a folder that is not empty.")
    expected_digest: ExpectedDigest = None


class CreateDirectory(Arguments):
    """Arguments of `create_directory`."""

    path: Path


def taken_back(how: str, *verbs: Verb, unless: str = "") -> Recovery:
    """What the tools state; what goes to the trash has to find room there."""
    return Recovery(
        how,
        unless=unless,
        worse=("irreversible",),
        worse_if="what goes to the trash (a folder, or a file over 32 KiB) has no room there (`trash_bytes`)",
        effects={"files": verbs},
    )


def swapped(
    tool: FilesTool, staged: Staged, summary: str, result: Callable[[Sequence[Effect]], BaseModel]
) -> SwapPrepared:
    """A staged change as what the engine commits."""
    return SwapPrepared(
        tool.system,
        staged.effects,
        result=result,
        summary=summary,
        blobs=staged.blobs,
        how=staged.how,
        reversibility=staged.reversibility,
        reason=staged.reason,
        warnings=staged.warnings,
        discard=staged.discard,
    )


class WriteFileTool(ContentTool, ReversibleTool[WriteFile]):
    """Creates or replaces a file."""

    name = "write_file"
    title = "Write file"
    description = (
        "Creates a file or replaces its whole content, and makes the folders that are missing."
        " To change parts of a file use edit_file."
    )
    arguments = WriteFile
    result = Written
    recovery = taken_back(
        "the earlier file is put back; a new file is taken out again, with the folders made for it",
        "created",
        "changed",
    )
    idempotent = True
    reads_before = False

    async def targets(self, arguments: WriteFile, context: CallContext) -> Sequence[Target]:
        if arguments.path.endswith(("/", "\\")):
            raise ToolError(
                f"{arguments.path} ends like a folder.",
                advice="Name the file, or use create_directory.",
                code="bad_name",
            )
        return [self.target(self.resolved(arguments.path), arguments.expected_digest)]

    async def prepare(self, arguments: WriteFile, context: CallContext) -> Prepared:
        [target] = context.targets or await self.targets(arguments, context)
        content = _content(arguments)
        with told():
            staged = await self.system.stage_write(target.object, content)
        return self.written(target.object, staged, f"({counted(len(content), 'byte')})")

    def content(self, arguments: WriteFile, before: bytes) -> bytes:
        return _content(arguments)

    def as_written(self, object_id: str, staged: Staged, arguments: WriteFile) -> SwapPrepared:
        return self.written(object_id, staged, f"({counted(staged.effects[-1].after.size or 0, 'byte')})")

    def written(self, object_id: str, staged: Staged, detail: str) -> SwapPrepared:
        """The change of one file's content, as the engine commits it."""
        shown = self.shown(object_id)
        created = staged.effects[-1].before.absent

        def result(effects: Sequence[Effect]) -> BaseModel:
            after = effects[-1].after
            return Written(path=shown, size=after.size or 0, created=created, digest=digest_of(after))

        return swapped(self, staged, f"{'Created' if created else 'Wrote'} {shown} {detail}.", result)


class EditFileTool(ContentTool, ReversibleTool[EditFile]):
    """Changes parts of a text file."""

    name = "edit_file"
    title = "Edit file"
    description = (
        "Replaces exact pieces of a text file and leaves everything else as it is, line endings and encoding included."
        " A piece that occurs more than once is refused unless replace_all is set."
    )
    arguments = EditFile
    result = Written
    recovery = taken_back(
        "the earlier file is put back; if somebody changed other lines since, only the edits are taken out", "changed"
    )

    async def targets(self, arguments: EditFile, context: CallContext) -> Sequence[Target]:
        return [self.target(self.resolved(arguments.path), arguments.expected_digest)]

    async def prepare(self, arguments: EditFile, context: CallContext) -> Prepared:
        [target] = context.targets or await self.targets(arguments, context)
        with told():
            content, read = await self.system.read_bytes(target.object, limit=self.read_bytes)
        changed = self.content(arguments, content)
        with told():
            staged = await self.system.stage_write(target.object, changed)
        if not staged.effects[-1].before.same(read):  # saved by somebody since: the edits were made to what is gone
            await staged.discard()
            shown = self.shown(target.object)
            raise ToolError(f"{shown} was changed by somebody else just now.", advice="Read it again.", code="drifted")
        return self.as_written(target.object, staged, arguments)

    def content(self, arguments: EditFile, before: bytes) -> bytes:
        edits = [Edit(edit.old_text, edit.new_text, edit.replace_all) for edit in arguments.edits]
        try:
            return apply_edits(before, edits)
        except EditError as error:
            raise ToolError(str(error), advice=error.advice, code=error.code) from error

    def as_written(self, object_id: str, staged: Staged, arguments: EditFile) -> SwapPrepared:
        shown = self.shown(object_id)

        def result(effects: Sequence[Effect]) -> BaseModel:
            after = effects[-1].after
            return Written(path=shown, size=after.size or 0, created=False, digest=digest_of(after))

        return swapped(self, staged, f"Changed {shown} in {counted(len(arguments.edits), 'edit')}.", result)


class MoveFileTool(FilesTool, ReversibleTool[MoveFile]):
    """Moves or renames."""

    name = "move_file"
    title = "Move file"
    description = "Moves or renames a file or folder. An existing destination is refused unless overwrite is set."
    arguments = MoveFile
    result = Moved
    recovery = taken_back(
        "it is moved back, and what stood at the destination is put back",
        "created",
        "changed",
        "deleted",
        unless="something else stands where it came from",
    )

    async def targets(self, arguments: MoveFile, context: CallContext) -> Sequence[Target]:
        return [
            self.target(self.resolved(arguments.source, "source"), arguments.expected_digest),
            self.target(self.resolved(arguments.destination, "destination")),
        ]

    async def prepare(self, arguments: MoveFile, context: CallContext) -> Prepared:
        source, destination = context.targets or await self.targets(arguments, context)
        with told():
            staged = await self.system.stage_move(source.object, destination.object, overwrite=arguments.overwrite)
        return moved(self, "Moved", source.object, destination.object, staged)


class CopyFileTool(FilesTool, ReversibleTool[CopyFile]):
    """Copies."""

    name = "copy_file"
    title = "Copy file"
    description = "Copies a file or folder. An existing destination is refused unless overwrite is set."
    arguments = CopyFile
    result = Moved
    recovery = taken_back(
        "the copy is taken out again, and what stood at the destination is put back", "created", "changed"
    )

    async def targets(self, arguments: CopyFile, context: CallContext) -> Sequence[Target]:
        return [
            self.target(self.resolved(arguments.source, "source"), arguments.expected_digest),
            self.target(self.resolved(arguments.destination, "destination")),
        ]

    async def prepare(self, arguments: CopyFile, context: CallContext) -> Prepared:
        source, destination = context.targets or await self.targets(arguments, context)
        if arguments.expected_digest is not None:  # the source has no effect by which the engine could hold it to that
            with told():
                [state] = await self.system.look([source.object])
            if digest_of(state) != arguments.expected_digest:
                raise ToolError(
                    f"{self.shown(source.object)} is not the content that expected_digest names.",
                    advice="Read it again, then decide again.",
                    code="stale_read",
                )
        with told():
            staged = await self.system.stage_copy(source.object, destination.object, overwrite=arguments.overwrite)
        return moved(self, "Copied", source.object, destination.object, staged)


def moved(tool: FilesTool, verb: str, source: str, destination: str, staged: Staged) -> Prepared:
    """A staged move or copy, as the engine commits it."""
    shown, there = tool.shown(source), tool.shown(destination)
    overwritten = any(effect.object == destination and not effect.before.absent for effect in staged.effects)
    over = ", over what stood there" if overwritten else ""

    def result(effects: Sequence[Effect]) -> BaseModel:
        return Moved(source=shown, destination=there, overwritten=overwritten)

    return swapped(tool, staged, f"{verb} {shown} to {there}{over}.", result)


class DeleteFileTool(FilesTool, ReversibleTool[DeleteFile]):
    """Deletes into the trash."""

    name = "delete_file"
    title = "Delete file"
    description = "Deletes a file, a link or a folder; a folder that is not empty needs recursive. It can be put back."
    arguments = DeleteFile
    result = Deleted
    recovery = taken_back(
        "it is moved back out of the trash, a whole tree as well",
        "deleted",
        unless="something else stands there by now",
    )

    async def targets(self, arguments: DeleteFile, context: CallContext) -> Sequence[Target]:
        return [self.target(self.resolved(arguments.path), arguments.expected_digest)]

    async def prepare(self, arguments: DeleteFile, context: CallContext) -> Prepared:
        [target] = context.targets or await self.targets(arguments, context)
        with told():
            staged = await self.system.stage_delete(target.object, recursive=arguments.recursive)
        shown, kind = self.shown(target.object), staged.effects[-1].before.kind
        words = {"directory": "the folder ", "symlink": "the link "}

        def result(effects: Sequence[Effect]) -> BaseModel:
            return Deleted(path=shown, kind=kind)

        return swapped(self, staged, f"Deleted {words.get(kind, '')}{shown}.", result)


class CreateDirectoryTool(FilesTool, ReversibleTool[CreateDirectory]):
    """Makes a folder."""

    name = "create_directory"
    title = "Create directory"
    description = "Makes a folder, and the folders above it that are missing."
    arguments = CreateDirectory
    result = Created
    destructive = False
    recovery = Recovery(
        "the folder is removed again, with those made above it",
        unless="there is something in it by then",
        effects={"files": ("created",)},
    )

    async def targets(self, arguments: CreateDirectory, context: CallContext) -> Sequence[Target]:
        return [self.target(self.resolved(arguments.path))]

    async def prepare(self, arguments: CreateDirectory, context: CallContext) -> Prepared:
        [target] = context.targets or await self.targets(arguments, context)
        with told():
            staged = await self.system.stage_directory(target.object)
        shown = self.shown(target.object)

        def result(effects: Sequence[Effect]) -> BaseModel:
            return Created(path=shown)

        return swapped(self, staged, f"Made the folder {shown}.", result)


def _content(arguments: WriteFile) -> bytes:
    if arguments.encoding == "base64":
        try:
            content = binascii.a2b_base64(arguments.content.encode("ascii"), strict_mode=True)
        except (UnicodeEncodeError, binascii.Error):
            content = None
        # strict mode still lets padding through that stands for nothing
        if content is None or len(arguments.content) != -(-len(content) // 3) * 4:
            raise ToolError(
                "content is not valid base64.",
                advice="Encode the bytes with the standard alphabet and padding, without line breaks.",
                code="invalid",
            )
        return content
    at = surrogate(arguments.content)
    if at is not None:
        raise ToolError(
            f"content holds half of a surrogate pair at character {at + 1}, which no encoding can write.",
            advice="Send the whole character, or send bytes with encoding base64.",
            code="invalid",
        )
    return arguments.content.encode("utf-8")
