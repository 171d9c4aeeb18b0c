"""The family of the file tools: opens the file system of a workspace and makes the tools on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Self

from takeback.tools.contract import AnyTool
from takeback.tools.files.fingerprint import HASHED
from takeback.tools.files.read_tools import GetFileInfoTool, ListDirectoryTool, ReadFileTool
from takeback.tools.files.refusals import refuse
from takeback.tools.files.search_tool import SearchFilesTool
from takeback.tools.files.system import FileSystem
from takeback.tools.files.write_tools import (
    CopyFileTool,
    CreateDirectoryTool,
    DeleteFileTool,
    EditFileTool,
    MoveFileTool,
    WriteFileTool,
)
from takeback.tools.registry import Family, Services

TOOLS = (
    ReadFileTool,
    ListDirectoryTool,
    SearchFilesTool,
    GetFileInfoTool,
    WriteFileTool,
    EditFileTool,
    MoveFileTool,
    CopyFileTool,
    DeleteFileTool,
    CreateDirectoryTool,
)
"""In the order in which they are listed: what looks, then what acts."""


class FilesFamily(Family):
    """Files and folders of the workspace."""

    name = "files"
    stages = True

    def __init__(self, system: FileSystem, *, read_bytes: int) -> None:
        """
        :param read_bytes: the largest file that is read or edited as a whole.
        """
        self._system, self._read_bytes = system, read_bytes
        self.systems = (system,)
        self.tools = tuple(tool(system, read_bytes=read_bytes) for tool in TOOLS)

    @classmethod
    async def open(cls, services: Services) -> Self:
        data = os.path.realpath(services.data)
        for root in services.roots:
            if os.path.commonpath([data, os.path.realpath(root)]) == data:
                raise refuse(
                    "bad_root",
                    f"The workspace {root} lies in the data directory.",
                    "Name another folder as the workspace, or as the data directory.",
                )
        system = await FileSystem.open(
            services.roots,
            services.data / cls.name,
            services.objects,
            object_bytes=services.limits.object_bytes,
            trash_bytes=services.limits.trash_bytes,
            portable=services.portable_files,
        )
        # larger files are told apart by identity, not by content, so they are neither loaded nor edited whole
        return cls(system, read_bytes=min(services.limits.read_bytes, HASHED))

    def stage(self) -> Sequence[AnyTool]:
        from takeback.tools.files.overlay import Overlay  # most servers never stage

        view = Overlay(self._system)
        return tuple(tool(view, read_bytes=self._read_bytes) for tool in TOOLS)

    async def close(self) -> None:
        await self._system.close()
