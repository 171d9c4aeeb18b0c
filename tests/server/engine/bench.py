"""One engine over a real journal, a real object store, real files, and the in-memory system; short ways to use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import takeback.tools.memory
from takeback.journal.events import Caller
from takeback.server.engine.answers import CallAnswer, RollbackAnswer
from takeback.server.engine.calls import Call
from takeback.server.engine.engine import Engine
from takeback.server.settings import LimitSettings, Settings, ToolSettings, WorkspaceSettings
from takeback.tools.memory_system import MemorySystem
from takeback.tools.registry import BUILT_IN

ALICE = Caller(principal="local:alice", client="test", client_version="1")
BOB = Caller(principal="local:bob", client="test", client_version="1")


class Bench:
    """One engine on one data directory, with short ways to say what a test wants done."""

    def __init__(self, engine: Engine, work: Path) -> None:
        self.engine, self.work = engine, work

    @property
    def memory(self) -> MemorySystem:
        system = self.engine.core.systems["memory"]
        assert isinstance(system, MemorySystem)
        return system

    async def call(self, tool: str, run: str | None = None, *, caller: Caller = ALICE, **arguments: Any) -> CallAnswer:
        common = {name: arguments.pop(name) for name in ("step", "idempotency_key", "dry_run") if name in arguments}
        return await self.engine.call(Call(tool=tool, arguments=arguments, caller=caller, run_id=run, **common))

    async def done(self, tool: str, run: str | None = None, **arguments: Any) -> CallAnswer:
        answer = await self.call(tool, run, **arguments)
        assert answer.status == "applied", answer
        return answer

    async def set(self, run: str, key: str, value: str, **more: Any) -> CallAnswer:
        return await self.done("set_value", run, key=key, value=value, **more)

    async def start(self, goal: str = "a task", **more: Any) -> str:
        return (await self.engine.start_run(ALICE, goal, **more)).run_id

    async def back(self, **wish: Any) -> RollbackAnswer:
        return await self.engine.rollback(ALICE, **wish)


OpenBench = Callable[..., Awaitable[Bench]]


def settings_for(folder: Path, **more: Any) -> Settings:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return Settings(
        **{
            "workspace": WorkspaceSettings(roots=(work,)),
            "data": folder / "data",
            "key_file": folder / "keys" / "chain.key",
            "anchor_file": folder / "anchors.log",
            "limits": LimitSettings(ballast_bytes=4096, step_seconds=5),
            "tools": ToolSettings(modules=(Path(takeback.tools.memory.__file__),), off=tuple(BUILT_IN)),
            **more,
        }
    )
