"""A real workspace under both engines, and the way from a call to its effect and back."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from takeback.checkpoints.store import FileObjectStore
from takeback.journal.events import Caller, RunStarted
from takeback.journal.ids import new_action_id, new_run_id
from takeback.journal.memory import MemoryJournal
from takeback.tools.contract import CallContext, Committed, Prepared, ReadTool, ReversibleTool, ToolError
from takeback.tools.files import FilesFamily
from takeback.tools.files.system import FileSystem
from takeback.tools.outbox.settings import OutboxSettings
from takeback.tools.outbox.system import OutboxSystem
from takeback.tools.registry import Limits, NoSettings, Services
from takeback.tools.system import Swapped

MIB = 1024 * 1024
READ_BYTES = 256 * 1024
CALLER = Caller(principal="anna", client="tests")


async def silent(done: float, total: float | None, words: str) -> None:
    """Nobody wants to know how far it is."""


@dataclass
class Bench:
    """The family on a real folder."""

    root: Path
    family: FilesFamily
    journal: MemoryJournal
    objects: FileObjectStore

    @property
    def system(self) -> FileSystem:
        [system] = self.family.systems
        assert isinstance(system, FileSystem)
        return system

    def tool(self, name: str) -> Any:
        return next(tool for tool in self.family.tools if tool.name == name)

    def context(self) -> CallContext:
        return CallContext(
            run_id=new_run_id(), action_id=new_action_id(), caller=CALLER, objects=self.objects, progress=silent
        )

    async def read(self, name: str, context: CallContext | None = None, /, **arguments: Any) -> Any:
        tool = self.tool(name)
        assert isinstance(tool, ReadTool)
        return await tool.run(tool.arguments.model_validate(arguments), context or self.context())

    async def prepare(self, name: str, /, **arguments: Any) -> Prepared:
        tool = self.tool(name)
        assert isinstance(tool, ReversibleTool)
        prepared = await tool.prepare(tool.arguments.model_validate(arguments), self.context())
        run = RunStarted(run_id=new_run_id(), at=datetime.now(UTC), owner=CALLER, goal="keep the images")
        await self.journal.append([run], blobs=prepared.blobs)
        return prepared

    async def act(self, name: str, /, **arguments: Any) -> Committed:
        async with await self.prepare(name, **arguments) as prepared:
            committed = await prepared.commit()
        assert [effect.after.digest for effect in committed.effects] == [each.after.digest for each in prepared.effects]
        assert isinstance(committed.result, BaseModel)
        assert isinstance(committed.result, self.tool(name).result)
        return committed

    async def take_back(self, committed: Committed) -> None:
        swapped = await self.system.swap([effect.reversed() for effect in reversed(committed.effects)])
        assert isinstance(swapped, Swapped), swapped

    async def refused(self, name: str, /, **arguments: Any) -> ToolError:
        """The refusal of a call, which has to leave no trace."""
        before = self.signature()
        tool = self.tool(name)
        with pytest.raises(ToolError) as raised:
            if isinstance(tool, ReadTool):
                await self.read(name, **arguments)
            else:
                await self.prepare(name, **arguments)
        error = raised.value
        assert str(error).endswith("."), str(error)
        assert error.advice, str(error)
        assert self.signature() == before
        return error

    def put(self, path: str, content: bytes | str = b"") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def signature(self) -> dict[str, tuple[object, ...]]:
        """Everything below the root, as an observer of its own sees it."""
        found: dict[str, tuple[object, ...]] = {}
        for folder, folders, files in os.walk(self.root):
            for name in [*folders, *files]:
                path = Path(folder, name)
                there = path.lstat()
                facts = (stat.filemode(there.st_mode), there.st_uid, there.st_gid)
                if path.is_symlink():
                    found[str(path.relative_to(self.root))] = (*facts, there.st_mtime_ns, os.readlink(path))
                elif path.is_file():
                    facts = (*facts, there.st_mtime_ns, there.st_ino)
                    found[str(path.relative_to(self.root))] = (*facts, path.read_bytes())
                else:
                    found[str(path.relative_to(self.root))] = facts
        return {path: facts for path, facts in found.items() if not path.startswith(".takeback")}


@pytest.fixture(params=["native", "portable"])
def portable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "portable")


@pytest.fixture
async def bench(tmp_path: Path, portable: bool) -> AsyncIterator[Bench]:
    root = tmp_path / "work"
    root.mkdir()
    journal = MemoryJournal()
    objects = await FileObjectStore.open(
        tmp_path / "data" / "objects", journal, object_bytes=64 * MIB, store_bytes=1024 * MIB, ballast_bytes=0
    )
    family = await FilesFamily.open(
        Services(
            data=tmp_path / "data",
            objects=objects,
            roots=(root,),
            outbox=OutboxSystem(tmp_path / "data", objects, OutboxSettings()),
            settings=NoSettings(),
            limits=Limits(object_bytes=64 * MIB, trash_bytes=1024 * MIB, read_bytes=READ_BYTES),
            portable_files=portable,
        )
    )
    yield Bench(root, family, journal, objects)
    await family.close()
    await journal.close()
