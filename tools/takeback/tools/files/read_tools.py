"""The tools that look at files and folders, and change nothing."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime
from typing import Literal

import anyio.to_thread
from pydantic import BaseModel, Field

from takeback.journal.states import State
from takeback.tools.contract import Arguments, CallContext, ReadTool, Result, ToolError
from takeback.tools.files.held import close
from takeback.tools.files.parts import Part, looks_binary, part_of, stream_part
from takeback.tools.files.staged import FileInfo
from takeback.tools.files.text import NotText, decode
from takeback.tools.files.toolkit import FilesTool, Path, counted, cursor_after, digest_of, position_of, told
from takeback.tools.system import TargetError

LISTED = 200_000
"""Entries of a folder, with all below it, that are looked at."""


class FileContent(Result):
    """What `read_file` answers."""

    path: str
    content: str
    encoding: Literal["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "base64"] = Field(
        description="How the bytes were turned into content; base64 for binary files."
    )
    digest: str = Field(description="Of the whole file; pass it as expected_digest when you change it.")
    size: int = Field(description="Bytes of the whole file.")
    offset: int = Field(description="Lines before the first one answered.")
    lines: int | None = Field(description="Lines answered; null for binary files.")
    total_lines: int | None = Field(
        description="Lines of the whole file; null if unknown (binary, or not read to its end)."
    )
    truncated: bool = Field(description="Whether lines follow; go on with offset = next_offset.")
    next_offset: int | None = None


class Entry(Result):
    """A file or folder."""

    name: str
    path: str
    kind: Literal["file", "directory", "symlink", "other"]
    size: int = Field(description="Bytes.")
    modified: str = Field(description="RFC 3339, UTC.")
    target: str | None = Field(default=None, description="Where a symlink points.")


class Listing(Result):
    """What `list_directory` answers."""

    path: str
    entries: list[Entry]
    total: int = Field(description="Entries in all.")
    cursor: str | None = Field(default=None, description="Pass it on to get more; null at the end.")


class FileFacts(Entry):
    """What `get_file_info` answers."""

    digest: str | None = Field(description="Of the content (of a folder: of all in it); null if it cannot be taken.")
    mode: str = Field(description="Permission bits, octal.")
    uid: int
    gid: int
    links: int = Field(description="Names that this file has.")


class ReadFile(Arguments):
    """Arguments of `read_file`."""

    path: Path
    offset: int | None = Field(default=None, ge=0, description="Lines to skip from the start.")
    limit: int | None = Field(default=None, ge=1, description="Lines to answer at most; all by default.")


class ListDirectory(Arguments):
    """Arguments of `list_directory`."""

    path: str = Field(
        default="", description="Folder, relative to the workspace or absolute inside it; empty for its top."
    )
    recursive: bool = Field(default=False, description="Also list what is in the folders below.")
    limit: int = Field(default=500, ge=1, le=5000, description="Entries to answer at most.")
    cursor: str | None = Field(default=None, description="From the last answer, to go on after it.")


class GetFileInfo(Arguments):
    """Arguments of `get_file_info`."""

    path: Path


def missing(shown: str) -> ToolError:
    """There is nothing under the path."""
    return ToolError(f"{shown} does not exist.", advice="List its folder to see what is there.", code="not_found")


def facts_of(tool: FilesTool, info: FileInfo) -> dict[str, object]:
    """The fields of an `Entry`."""
    modified = datetime.fromtimestamp(info.mtime_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "name": info.name,
        "path": tool.shown(info.object),
        "kind": info.kind,
        "size": info.size,
        "modified": modified,
        "target": info.target,
    }


class ReadFileTool(FilesTool, ReadTool[ReadFile]):
    """Reads a file."""

    name = "read_file"
    title = "Read file"
    description = (
        "Reads a text file, whole or the lines from offset on; binary files come as base64."
        " Answers a digest to pass as expected_digest when changing the file."
    )
    arguments = ReadFile
    result = FileContent

    async def run(self, arguments: ReadFile, context: CallContext) -> BaseModel:
        object_id = self.resolved(arguments.path)
        shown = self.shown(object_id)
        in_parts = arguments.offset is not None or arguments.limit is not None
        try:
            content, state = await self.system.read_bytes(object_id, limit=self.read_bytes)
        except TargetError as error:
            return await self._otherwise(arguments, context, object_id, error)
        size = len(content)
        try:
            if looks_binary(content):
                raise NotText("it holds zero bytes")
            part = part_of(decode(content), arguments.offset or 0, arguments.limit)
        except NotText as error:
            if in_parts:
                raise _no_lines(shown, error) from error
            return FileContent(
                path=shown,
                content=base64.b64encode(content).decode("ascii"),
                encoding="base64",
                digest=self.note(context, object_id, state),
                size=size,
                offset=0,
                lines=None,
                total_lines=None,
                truncated=False,
            )
        return self._answer(arguments, context, object_id, state, part, size)

    async def _otherwise(
        self, arguments: ReadFile, context: CallContext, object_id: str, error: TargetError
    ) -> FileContent:
        """What cannot be read at once: in parts, if it is only large and that was asked for; else say why not."""
        shown = self.shown(object_id)
        with told():
            info = await self.system.stat(object_id)
            self._readable(info, shown)
            if error.code != "too_large" or info is None:
                raise error
        if arguments.offset is None and arguments.limit is None:
            raise ToolError(
                f"{shown} has {counted(info.size, 'byte')}, more than is read at once ({self.read_bytes:,}).",
                advice="Read it in parts with offset and limit, or use search_files.",
                code="too_large",
            ) from error
        return await self._streamed(arguments, context, object_id, shown)

    def _readable(self, info: FileInfo | None, shown: str) -> None:
        if info is None:
            raise missing(shown)
        match info.kind:
            case "file":
                return
            case "directory":
                raise ToolError(
                    f"{shown} is a folder.", advice="Use list_directory to see what is in it.", code="is_directory"
                )
            case "symlink":
                raise ToolError(
                    f"{shown} is a symlink to {info.target}, and symlinks are not followed.",
                    advice="Read what it points to by its own path, if that lies in the workspace.",
                    code="is_symlink",
                )
            case "other":
                raise ToolError(
                    f"{shown} is a FIFO, a device or a socket.", advice="Only files can be read.", code="not_a_file"
                )

    async def _streamed(self, arguments: ReadFile, context: CallContext, object_id: str, shown: str) -> FileContent:
        most = self.read_bytes
        limit = most if arguments.limit is None else arguments.limit
        with told():
            [state] = await self.system.look(
                [object_id]
            )  # taken before reading: what is saved meanwhile counts as unseen
            fd = await self.system.open_read(object_id)
        try:
            size = os.fstat(fd).st_size
            part = await anyio.to_thread.run_sync(
                lambda: stream_part(fd, arguments.offset or 0, limit, most=most), abandon_on_cancel=False
            )
        except NotText as error:
            raise _no_lines(shown, error) from error
        finally:
            close(fd)
        return self._answer(arguments, context, object_id, state, part, size)

    def _answer(
        self, arguments: ReadFile, context: CallContext, object_id: str, state: State, part: Part, size: int
    ) -> FileContent:
        offset = arguments.offset or 0
        return FileContent(
            path=self.shown(object_id),
            content=part.content,
            encoding=part.encoding,
            digest=self.note(context, object_id, state),
            size=size,
            offset=offset,
            lines=part.lines,
            total_lines=part.total,
            truncated=part.more,
            next_offset=offset + part.lines if part.more else None,
        )


def _no_lines(shown: str, error: NotText) -> ToolError:
    return ToolError(
        f"{shown} is not text in UTF-8 or UTF-16, so it has no lines: {error}.",
        advice="Read it whole, as base64, without offset and limit; if it is too large for that, copy or move it unread.",
        code="not_text",
    )


class ListDirectoryTool(FilesTool, ReadTool[ListDirectory]):
    """Lists a folder."""

    name = "list_directory"
    title = "List directory"
    description = (
        "Lists a folder with kinds, sizes and times; with recursive, everything below it. Follows no symlinks."
    )
    arguments = ListDirectory
    result = Listing

    async def run(self, arguments: ListDirectory, context: CallContext) -> BaseModel:
        object_id = self.resolved(arguments.path, empty=True)
        after = None if arguments.cursor is None else str(position_of(arguments.cursor, str)[0])
        infos = await listed(self, object_id, recursive=arguments.recursive)
        rest = [info for info in infos if after is None or order_of(info.object) > order_of(after)]
        page = rest[: arguments.limit]
        return Listing(
            path=self.shown(object_id),
            entries=[Entry.model_validate(facts_of(self, info)) for info in page],
            total=len(infos),
            cursor=cursor_after([page[-1].object]) if len(rest) > len(page) else None,
        )


def order_of(object_id: str) -> list[str]:
    """The order of lists: folder by folder, each before what is in it."""
    return object_id.split(os.sep)


async def listed(tool: FilesTool, object_id: str, *, recursive: bool) -> list[FileInfo]:
    """What is in a folder, in the order of lists.

    :raises ToolError: it is no folder, or there is too much in it.
    """
    shown = tool.shown(object_id)
    with told():
        info = await tool.system.stat(object_id)
        if info is None:
            raise missing(shown)
        if info.kind != "directory":
            raise ToolError(
                f"{shown} is not a folder.", advice="Use read_file or get_file_info.", code="not_a_directory"
            )
        infos = await tool.system.listing(object_id, recursive=recursive, limit=LISTED + 1)
    if len(infos) > LISTED:
        raise ToolError(
            f"There are more than {LISTED:,} entries below {shown}.",
            advice="Name a folder further down.",
            code="too_many",
        )
    return sorted(infos, key=lambda each: order_of(each.object))


class GetFileInfoTool(FilesTool, ReadTool[GetFileInfo]):
    """Tells what a path stands for."""

    name = "get_file_info"
    title = "Get file info"
    description = "Tells kind, size, times, permissions and digest of a file or folder without reading it out."
    arguments = GetFileInfo
    result = FileFacts

    async def run(self, arguments: GetFileInfo, context: CallContext) -> BaseModel:
        object_id = self.resolved(arguments.path)
        with told():
            info = await self.system.stat(object_id)
        if info is None:
            raise missing(self.shown(object_id))
        try:
            [state] = await self.system.look([object_id])
        except TargetError:  # a mount inside the folder: its facts can be told all the same
            digest = None
        else:
            if state.kind == "other":  # a pipe or a device has no content to be held against
                digest = None
            else:
                # only a file's digest counts as seen: a folder's changes with everything the caller itself does in it
                digest = self.note(context, object_id, state) if info.kind == "file" else digest_of(state)
        return FileFacts.model_validate(
            {
                **facts_of(self, info),
                "digest": digest,
                "mode": f"{info.mode:04o}",
                "uid": info.uid,
                "gid": info.gid,
                "links": info.nlink,
            }
        )
