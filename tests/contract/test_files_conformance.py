"""The file tools and their system pass the kit, with the kernel's own calls and without them."""

import dataclasses
import os
import stat
from pathlib import Path

import pytest
import pytest_asyncio

from takeback.tools.conformance import SystemConformance, ToolConformance, World, kit_services
from takeback.tools.files import FilesFamily
from takeback.tools.files.read_tools import GetFileInfoTool, ListDirectoryTool, ReadFileTool
from takeback.tools.files.search_tool import SearchFilesTool
from takeback.tools.files.write_tools import (
    CopyFileTool,
    CreateDirectoryTool,
    DeleteFileTool,
    EditFileTool,
    MoveFileTool,
    WriteFileTool,
)

BIG = "a line of the report\n" * 3000


def tree(folder: Path) -> dict[str, tuple[int, bytes | str | None, int | None]]:
    """Everything in a folder but the trash: mode, content, and when a file was changed."""
    found = {}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - {".takeback"})
        for name in [*folders, *files]:
            path = Path(place) / name
            info = path.lstat()
            regular = stat.S_ISREG(info.st_mode)
            content = path.read_bytes() if regular else str(path.readlink()) if path.is_symlink() else None
            found[str(path.relative_to(folder))] = (info.st_mode, content, info.st_mtime_ns if regular else None)
    return found


@pytest.fixture(params=["kernel calls", "portable"])
def portable(request):
    return request.param == "portable"


@pytest.fixture
def site(tmp_path):
    site = tmp_path / "site"
    (site / "drafts" / "old").mkdir(parents=True)
    (site / "notes.txt").write_text("one\ntwo\nthree\n")
    (site / "big.txt").write_text(BIG)
    (site / "script.sh").write_text("#!/bin/sh\n")
    (site / "script.sh").chmod(0o750)
    (site / "drafts" / "a.md").write_text("draft a\n")
    (site / "drafts" / "old" / "b.md").write_text("draft b\n")
    (site / "link").symlink_to("notes.txt")
    return site


@pytest_asyncio.fixture
async def family(site, tmp_path, portable):
    services = dataclasses.replace(kit_services(tmp_path), roots=(site,), portable_files=portable)
    family = await FilesFamily.open(services)
    yield family
    await family.close()


class FileTool(ToolConformance):
    @pytest.fixture
    def tool(self, family):
        return next(tool for tool in family.tools if isinstance(tool, self.tool_class))

    @pytest.fixture
    def systems(self, family):
        return family.systems

    @pytest.fixture
    def world(self, site):
        return World(lambda: tree(site))


class TestReadFile(FileTool):
    tool_class = ReadFileTool
    examples = [{"path": "notes.txt"}, {"path": "notes.txt", "offset": 1, "limit": 2}]
    refused = [{"path": "nothing.txt"}, {"path": "drafts"}, {"path": "../outside"}]


class TestListDirectory(FileTool):
    tool_class = ListDirectoryTool
    examples = [{"path": "."}, {"path": ".", "recursive": True}]


class TestSearchFiles(FileTool):
    tool_class = SearchFilesTool
    examples = [{"pattern": "*.md"}, {"pattern": "*", "content": "draft"}]


class TestGetFileInfo(FileTool):
    tool_class = GetFileInfoTool
    examples = [{"path": "notes.txt"}]


class TestWriteFile(FileTool):
    tool_class = WriteFileTool
    examples = [
        {"path": "notes.txt", "content": "new\n"},
        {"path": "new.txt", "content": "new\n"},
        {"path": "deep/er/new.txt", "content": "new\n"},
        {"path": "big.txt", "content": BIG + "and more\n"},
        {"path": "script.sh", "content": "IyEvYmluL2Jhc2gK", "encoding": "base64"},
    ]
    refused = [{"path": "drafts", "content": "x"}, {"path": "../x", "content": "x"}]

    async def test_what_is_idempotent_can_be_repeated(self, driver, site):
        # the second write is a write: only the time of the change differs
        driver.world = World(lambda: {path: found[:2] for path, found in tree(site).items()})
        await super().test_what_is_idempotent_can_be_repeated(driver)


class TestEditFile(FileTool):
    tool_class = EditFileTool
    examples = [{"path": "notes.txt", "edits": [{"old_text": "two", "new_text": "2"}]}]
    refused = [{"path": "notes.txt", "edits": [{"old_text": "four", "new_text": "4"}]}]


class TestMoveFile(FileTool):
    tool_class = MoveFileTool
    examples = [
        {"source": "notes.txt", "destination": "moved.txt"},
        {"source": "notes.txt", "destination": "big.txt", "overwrite": True},
        {"source": "drafts", "destination": "texts"},
    ]
    refused = [{"source": "notes.txt", "destination": "big.txt"}]


class TestCopyFile(FileTool):
    tool_class = CopyFileTool
    examples = [
        {"source": "notes.txt", "destination": "copy.txt"},
        {"source": "drafts", "destination": "texts"},
        {"source": "notes.txt", "destination": "script.sh", "overwrite": True},
    ]


class TestDeleteFile(FileTool):
    tool_class = DeleteFileTool
    examples = [{"path": "notes.txt"}, {"path": "drafts", "recursive": True}, {"path": "link"}]
    refused = [{"path": "nothing.txt"}, {"path": "drafts"}]


class TestCreateDirectory(FileTool):
    tool_class = CreateDirectoryTool
    examples = [{"path": "new"}, {"path": "new/er/est"}]


class TestFileSystem(SystemConformance):
    foreign = b"somebody else\n"

    @pytest.fixture
    def system(self, family):
        return family.systems[0]

    @pytest.fixture
    def world(self, site):
        return World(lambda: tree(site))

    @pytest.fixture
    def changes(self, site):
        contents = {"notes.txt": b"one\nTWO\nthree\n", "new.txt": b"hello", "big.txt": BIG.encode() + b"more"}
        return [(str(site / name), content) for name, content in contents.items()]

    @pytest.fixture
    def missing(self, site):
        return str(site / "surely-not-there")
