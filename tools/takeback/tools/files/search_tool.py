"""`search_files`: files by name, lines by what they say. Bounded in time and bytes; what is left over comes with a cursor."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import anyio.to_thread
from pydantic import BaseModel, Field

from takeback.tools.contract import Arguments, CallContext, ReadTool, Result, ToolError
from takeback.tools.files.parts import looks_binary
from takeback.tools.files.read_tools import listed, missing, order_of
from takeback.tools.files.search import BadPattern, Glob, Searcher, TooSlow
from takeback.tools.files.staged import FileInfo
from takeback.tools.files.text import NotText, decode
from takeback.tools.files.toolkit import FilesTool, counted, cursor_after, position_of, told
from takeback.tools.system import TargetError

SECONDS = 10.0
"""Time for one call."""
BYTES = 256 * 1024 * 1024
"""Bytes read in one call."""
_LONGEST = 2000
_NAMED = 50
"""Skipped files that are named; all are counted."""


class Match(Result):
    """A file that matches, or a line of it."""

    path: str
    kind: str = Field(description="file, directory, symlink or other.")
    line: int | None = Field(
        default=None, description="Number of the line, counted from 1; null if no content was asked for."
    )
    text: str | None = Field(default=None, description="The line, cut if it is long.")


class Matches(Result):
    """What `search_files` answers."""

    matches: list[Match]
    searched: int = Field(description="Files whose content was looked at.")
    skipped: list[str] = Field(description="Binary, too large or not readable: not searched for content. The first 50.")
    skipped_count: int = Field(description="How many those are in all.")
    note: str = Field(default="", description="What to know about this answer; empty if there is nothing.")
    cursor: str | None = Field(default=None, description="Pass it on to go on searching; null if all was searched.")


class SearchFiles(Arguments):
    """Arguments of `search_files`."""

    pattern: str = Field(
        max_length=_LONGEST,
        description="Names: a glob such as *.py or src/**/*.ts, ** for all; without wildcards, names that contain it.",
    )
    path: str = Field(default="", description="Folder or file to search, relative or absolute; empty for the top.")
    content: str | None = Field(
        default=None,
        max_length=_LONGEST,
        description="Find lines that contain this text or match it as a regular expression (Python syntax, (?i) for any case).",
    )
    limit: int = Field(default=100, ge=1, le=1000, description="Matches to answer at most.")
    cursor: str | None = Field(default=None, description="From the last answer, to go on after it.")


@dataclass(slots=True)
class _Found:
    matches: list[Match] = field(default_factory=lambda: list[Match]())
    searched: int = 0
    bytes: int = 0
    skipped: list[str] = field(default_factory=lambda: list[str]())
    passed_over: int = 0
    note: str = ""
    after: tuple[str, int] | None = None
    """Where to go on: behind this line of this object; `None` at the end."""


class SearchFilesTool(FilesTool, ReadTool[SearchFiles]):
    """Finds files and lines."""

    name = "search_files"
    title = "Search files"
    description = (
        "Finds files and folders by name below a folder, and with content the lines in those files that contain a text"
        " or match a regular expression."
    )
    arguments = SearchFiles
    result = Matches

    async def run(self, arguments: SearchFiles, context: CallContext) -> BaseModel:
        try:
            glob = Glob(arguments.pattern)
        except BadPattern as error:
            raise ToolError(
                str(error), advice="Use a glob such as *.txt, or ** for all files.", code="bad_pattern"
            ) from error
        if arguments.content == "":
            raise ToolError("content is empty.", advice="Leave it out to search by name only.", code="bad_pattern")
        top = self.resolved(arguments.path, empty=True)
        object_id, line = ("", 0) if arguments.cursor is None else position_of(arguments.cursor, str, int)
        start = (str(object_id), int(line))
        wanted = [
            info
            for info in await self._candidates(top)
            if glob.matches(_below(info.object, top)) and order_of(info.object) >= order_of(start[0])
        ]
        if arguments.content is None:
            found = self._names(wanted, start, arguments.limit)
        else:
            found = await self._lines([info for info in wanted if info.kind == "file"], start, arguments)
        return Matches(
            matches=found.matches,
            searched=found.searched,
            skipped=found.skipped,
            skipped_count=found.passed_over,
            note=found.note,
            cursor=None if found.after is None else cursor_after(found.after),
        )

    async def _candidates(self, top: str) -> list[FileInfo]:
        with told():
            info = await self.system.stat(top)
        if info is None:
            raise missing(self.shown(top))
        return [info] if info.kind == "file" else await listed(self, top, recursive=True)

    def _names(self, infos: list[FileInfo], start: tuple[str, int], limit: int) -> _Found:
        rest = [info for info in infos if info.object != start[0]]
        page = rest[:limit]
        return _Found(
            matches=[Match(path=self.shown(info.object), kind=info.kind) for info in page],
            after=(page[-1].object, 0) if len(rest) > limit else None,
        )

    async def _lines(self, infos: list[FileInfo], start: tuple[str, int], arguments: SearchFiles) -> _Found:
        assert arguments.content is not None
        found = _Found()
        with Searcher(arguments.content, seconds=SECONDS) as searcher:
            if searcher.problem:
                found.note = (
                    f"content is no regular expression ({searcher.problem}), so it was looked for as plain text. "
                )
            for info in infos:
                behind = start[1] if info.object == start[0] else 0
                if searcher.out_of_time or found.bytes > BYTES:
                    return self._stopped(found, info, behind)
                text = await self._text(info, found)
                if text is None:
                    continue
                room = arguments.limit - len(found.matches)
                try:
                    # one more than fits, to know whether there is more; lines that an earlier answer had are found again
                    lines = await anyio.to_thread.run_sync(searcher.lines, text, behind + room + 1)
                except TooSlow as error:
                    if found.searched:
                        return self._stopped(found, info, behind)
                    raise ToolError(
                        f"The expression takes more than {SECONDS:g} seconds in {self.shown(info.object)} alone.",
                        advice="Avoid repetitions within repetitions, such as (a+)+; or search for plain text.",
                        code="too_slow",
                    ) from error
                found.searched += 1
                fresh = [line for line in lines if line.number > behind]
                shown = self.shown(info.object)
                found.matches += [
                    Match(path=shown, kind="file", line=each.number, text=each.text) for each in fresh[:room]
                ]
                if len(fresh) > room:
                    found.after = (info.object, fresh[room - 1].number if room else behind)
                    return found
        return found

    def _stopped(self, found: _Found, at: FileInfo, behind: int) -> _Found:
        found.note += f"Stopped after {counted(found.searched, 'file')}, at the limit of one call; go on with cursor."
        found.after = (at.object, behind)
        return found

    async def _text(self, info: FileInfo, found: _Found) -> str | None:
        """The text of a file; `None` (and noted) if it has none that can be searched."""
        content = b""
        if info.size <= self.read_bytes:
            try:
                content, _ = await self.system.read_bytes(info.object, limit=self.read_bytes)
                found.bytes += len(content)
                if not looks_binary(content):
                    return decode(content).text
            except (TargetError, NotText):
                content = b""  # gone since it was listed, not for us to read, or in no encoding that is text
        found.passed_over += 1
        if len(found.skipped) < _NAMED:
            found.skipped.append(self.shown(info.object))
        return None


def _below(object_id: str, top: str) -> str:
    """The path below the folder searched, with slashes; of the file searched, its name."""
    if object_id == top:
        return object_id.rsplit(os.sep, 1)[-1]
    return object_id[len(top) :].lstrip(os.sep).replace(os.sep, "/")
