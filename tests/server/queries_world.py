"""A journal in memory, the memory system and a caller: what questions are asked of, without an engine around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from takeback.checkpoints.ballast import Ballast
from takeback.checkpoints.store import FileObjectStore
from takeback.journal.events import (
    ActionApplied,
    ActionFailed,
    ActionInDoubt,
    ActionIntended,
    ApprovalRequested,
    Caller,
    ConflictOpened,
    RollbackFinished,
    RollbackStarted,
    RollbackStep,
    RunStarted,
)
from takeback.journal.ids import (
    ActionId,
    ApprovalId,
    RunId,
    new_action_id,
    new_approval_id,
    new_checkpoint_id,
    new_conflict_id,
    new_rollback_id,
    new_run_id,
)
from takeback.journal.memory import MemoryJournal
from takeback.journal.states import ABSENT, Compensation, Effect
from takeback.server.engine.core import Core
from takeback.server.engine.locks import Locks
from takeback.server.engine.policy import DefaultPolicy
from takeback.server.settings import Settings
from takeback.tools.memory_system import MemorySystem
from takeback.tools.outbox.settings import OutboxSettings
from takeback.tools.outbox.system import OutboxSystem

ME = Caller(principal="anna", client="test")
SOMEBODY = Caller(principal="bert", client="test")
MIB = 1024 * 1024


class World:
    """Acts on the memory system and journals what a server would have journaled."""

    def __init__(self, core: Core, system: MemorySystem, journal: MemoryJournal) -> None:
        self.core, self.system, self.journal = core, system, journal
        self.at = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

    def tick(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at

    async def run(self, caller: Caller = ME, **more: Any) -> RunId:
        run_id = new_run_id()
        await self.journal.append(
            [RunStarted(run_id=run_id, at=self.tick(), owner=caller, goal=more.pop("goal", "tidy up"), **more)]
        )
        return run_id

    async def intend(self, run_id: RunId, key: str, text: str | None, **more: Any) -> ActionIntended:
        before, kept = await self.system.stored(self.system.get(key))
        after, new = (ABSENT, dict[str, bytes]()) if text is None else await self.system.stored(text)
        blobs: Mapping[str, bytes] = {**kept, **new}
        event = ActionIntended(
            run_id=run_id, at=self.tick(), action_id=new_action_id(), tool="set_value", tool_version="1", caller=ME,
            requested={"key": key}, argument_digest=f"arguments of {key}",
            effects=(Effect(system="memory", object=key, before=before, after=after),),
            compensation=Compensation(strategy="restore", how="Put it back."), policy_rule="default.reversible",
            **{"reversibility": "reversible", **more},
        )  # fmt: skip
        await self.journal.append([event], blobs=blobs)
        return event

    async def act(self, run_id: RunId, key: str, text: str | None, **more: Any) -> ActionId:
        intended = await self.intend(run_id, key, text, **more)
        self.system.edit(key, text)
        await self.journal.append(
            [
                ActionApplied(
                    run_id=run_id, at=self.tick(), action_id=intended.action_id, checkpoint_id=new_checkpoint_id(),
                    effects=intended.effects, summary=f"Set {key}.",
                )
            ]
        )  # fmt: skip
        return intended.action_id

    async def fail(self, run_id: RunId, message: str, advice: str = "", **more: Any) -> None:
        await self.journal.append(
            [
                ActionFailed(
                    run_id=run_id, at=self.tick(), action_id=new_action_id(), tool="set_value", code="invalid",
                    message=message, advice=advice, intended=False, **more,
                )
            ]
        )  # fmt: skip

    async def doubt(self, run_id: RunId, key: str) -> ActionId:
        intended = await self.intend(run_id, key, "perhaps")
        await self.journal.append(
            [ActionInDoubt(run_id=run_id, at=self.tick(), action_id=intended.action_id, reason="the process died")]
        )
        return intended.action_id

    async def open_item(self, run_id: RunId, action_id: ActionId, key: str) -> str:
        conflict_id = new_conflict_id()
        await self.journal.append(
            [
                ConflictOpened(
                    run_id=run_id, at=self.tick(), conflict_id=conflict_id, kind="conflict", action_id=action_id,
                    system="memory", object=key, why="both changed line 1", next_step="Choose with resolve_conflict.",
                )
            ]
        )  # fmt: skip
        return conflict_id

    async def ask(self, run_id: RunId, seconds: float) -> ApprovalId:
        approval_id = new_approval_id()
        await self.journal.append(
            [
                ApprovalRequested(
                    run_id=run_id, at=self.at, approval_id=approval_id, subject="action", tool="announce", caller=ME,
                    argument_digest="x", target_digest="y", question="Announce?", reason="it cannot be taken back",
                    expires_at=self.at + timedelta(seconds=seconds),
                )
            ]
        )  # fmt: skip
        return approval_id

    async def take_back(self, run_id: RunId, action_id: ActionId, key: str, text: str | None) -> None:
        """A rollback of one action, as it is journaled."""
        rollback_id = new_rollback_id()
        self.system.edit(key, text)
        step = {"run_id": run_id, "rollback_id": rollback_id, "index": 0, "action_id": action_id}
        await self.journal.append(
            [
                RollbackStarted(
                    run_id=run_id, at=self.tick(), rollback_id=rollback_id, kind="rollback", by=ME, plan={},
                    plan_digest="d",
                ),
                RollbackStep(**step, at=self.tick(), phase="intended"),
                RollbackStep(**step, at=self.tick(), phase="concluded", outcome="restored", stands=False),
                RollbackFinished(run_id=run_id, at=self.tick(), rollback_id=rollback_id, status="complete"),
            ]
        )  # fmt: skip


@asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[World]:
    journal = MemoryJournal()
    objects = await FileObjectStore.open(
        tmp_path / "objects", journal, object_bytes=64 * MIB, store_bytes=256 * MIB, ballast_bytes=0
    )
    system = MemorySystem(objects=objects)
    core = Core(
        settings=Settings(data=tmp_path),
        journal=journal,
        objects=objects,
        systems={"memory": system},
        outbox=OutboxSystem(tmp_path, objects, OutboxSettings()),
        tools={},
        locks=Locks(tmp_path / "locks"),
        run_locks=Locks(tmp_path / "locks" / "runs"),
        collections=Locks(tmp_path / "locks" / "collections"),
        ballast=Ballast(tmp_path / "ballast", 0),
        policy=DefaultPolicy(),
    )
    made = World(core, system, journal)
    core.now = lambda: made.at
    try:
        yield made
    finally:
        system.close()
        await journal.close()
