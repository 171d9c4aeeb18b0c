"""What the tools that give a file another content share: several such calls on one file can be made in a single exchange."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from takeback.tools.contract import SwapPrepared, Target, ToolError
from takeback.tools.files.staged import Staged
from takeback.tools.files.toolkit import FilesTool, told
from takeback.tools.files.versions import InPlace
from takeback.tools.successive import NotInOneStep, Successive, SuccessiveTool

_DATABASE: Final = b"SQLite format 3\0"
"""How every SQLite file begins (https://www.sqlite.org/fileformat.html)."""


class ContentTool(FilesTool, SuccessiveTool):
    """Gives a file another content."""

    reads_before: ClassVar[bool] = True
    """Whether the new content depends on what the file holds."""

    @abstractmethod
    def content(self, arguments: Any, before: bytes) -> bytes:
        """The new content.

        :raises ToolError: there is none.
        """

    @abstractmethod
    def as_written(self, object_id: str, staged: Staged, arguments: Any) -> SwapPrepared:
        """The change as the engine commits it."""

    async def prepare_all(self, calls: Sequence[tuple[ContentTool, Any]], target: Target) -> Successive:
        before, read = b"", None
        with told():
            if calls[0][0].reads_before:
                before, read = await self.system.read_bytes(target.object, limit=self.read_bytes)
        contents: list[bytes] = []
        for tool, arguments in calls:
            if tool.reads_before and len(before) > self.read_bytes:
                raise NotInOneStep  # by itself it says how large it is
            contents.append(before := tool.content(arguments, before))
        if any(content.startswith(_DATABASE) for content in contents):
            raise NotInOneStep  # calls on the database in it may come between
        try:
            with told():
                staged = await self.system.stage_versions(target.object, contents)
        except InPlace as error:
            raise NotInOneStep from error
        parts = [
            tool.as_written(target.object, each, arguments)
            for (tool, arguments), each in zip(calls, staged, strict=True)
        ]
        successive = Successive(self.system, parts)
        if read is not None and not parts[0].effects[-1].before.same(read):  # saved by somebody since
            async with successive:
                raise ToolError(
                    f"{self.shown(target.object)} was changed by somebody else just now.",
                    advice="Read it again.",
                    code="drifted",
                )
        return successive
