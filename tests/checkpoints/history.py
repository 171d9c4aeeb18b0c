"""Makes history: runs, actions and rollbacks written to a real journal, and views for the pure parts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from takeback.checkpoints.store import FileObjectStore
from takeback.journal.events import (
    ActionApplied,
    ActionInDoubt,
    ActionIntended,
    Caller,
    CheckpointNamed,
    ConflictOpened,
    ConflictResolved,
    RollbackFinished,
    RollbackStarted,
    RollbackStep,
    RunFinished,
    RunReopened,
    RunSealed,
    RunStarted,
)
from takeback.journal.ids import (
    ActionId,
    ConflictId,
    RollbackId,
    RunId,
    new_action_id,
    new_checkpoint_id,
    new_conflict_id,
    new_rollback_id,
    new_run_id,
)
from takeback.journal.log import Journal
from takeback.journal.states import ABSENT, Compensation, Effect, State

MIB = 1024 * 1024
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=100)
LATELY = NOW - timedelta(days=1)
KEEP_DAYS = 30.0
ANNA = Caller(principal="anna")


async def open_store(
    folder: Path,
    journal: Journal,
    *,
    object_bytes: int = 64 * MIB,
    store_bytes: int = 1024 * MIB,
    ballast_bytes: int = 0,
) -> FileObjectStore:
    return await FileObjectStore.open(
        folder, journal, object_bytes=object_bytes, store_bytes=store_bytes, ballast_bytes=ballast_bytes
    )


def stored(*names: str, digest: str | None = None) -> State:
    return State(digest=digest or f"stat:{'+'.join(names)}", kind="file", objects=names)


def change(before: State, after: State = ABSENT, *, object: str = "notes.txt", system: str = "files") -> Effect:
    return Effect(system=system, object=object, before=before, after=after)


async def start_run(journal: Journal, *, at: datetime = LONG_AGO, steps: Sequence[str] = ()) -> RunId:
    run_id = new_run_id()
    await journal.append([RunStarted(run_id=run_id, at=at, owner=ANNA, goal="tidy up", steps=tuple(steps))])
    return run_id


async def finish_run(journal: Journal, run_id: RunId, *, at: datetime = LONG_AGO) -> None:
    await journal.append([RunFinished(run_id=run_id, at=at, status="finished", outcome="done")])


def intent(
    run_id: RunId,
    *effects: Effect,
    at: datetime = LONG_AGO,
    until: str | None = None,
    memo: Any = None,
    **more: Any,
) -> ActionIntended:
    return ActionIntended(
        run_id=run_id,
        at=at,
        action_id=new_action_id(),
        tool="write_file",
        tool_version="1",
        caller=ANNA,
        requested={},
        argument_digest="",
        effects=effects,
        reversibility=more.pop("reversibility", "reversible"),
        memo=memo,
        compensation=Compensation(strategy="restore", how="put it back", allowed_until=until),
        policy_rule="default",
        **more,
    )


async def act(
    journal: Journal,
    run_id: RunId,
    *effects: Effect,
    at: datetime = LONG_AGO,
    until: str | None = None,
    memo: Any = None,
    blobs: Mapping[str, bytes] | None = None,
    end: Literal["applied", "in_doubt", "open"] = "applied",
    **more: Any,
) -> ActionId:
    intended = intent(run_id, *effects, at=at, until=until, memo=memo, **more)
    await journal.append([intended], blobs=blobs)
    if end == "applied":
        await journal.append(
            [
                ActionApplied(
                    run_id=run_id,
                    at=at,
                    action_id=intended.action_id,
                    checkpoint_id=new_checkpoint_id(),
                    effects=effects,
                )
            ]
        )
    elif end == "in_doubt":
        await journal.append([ActionInDoubt(run_id=run_id, at=at, action_id=intended.action_id, reason="killed")])
    return intended.action_id


async def roll_back(
    journal: Journal, run_id: RunId, action_id: ActionId, *effects: Effect, at: datetime = LONG_AGO, end: bool = True
) -> RollbackId:
    rollback_id = new_rollback_id()
    step: dict[str, Any] = {"run_id": run_id, "at": at, "rollback_id": rollback_id, "index": 0, "action_id": action_id}
    await journal.append(
        [
            RunSealed(run_id=run_id, at=at, rollback_id=rollback_id),
            RollbackStarted(
                run_id=run_id, at=at, rollback_id=rollback_id, kind="rollback", by=ANNA, plan={}, plan_digest=""
            ),
            RollbackStep(**step, phase="intended", effects=effects),
        ]
    )
    if end:
        await journal.append(
            [
                RollbackStep(**step, phase="concluded", effects=effects, outcome="restored", stands=False),
                RollbackFinished(run_id=run_id, at=at, rollback_id=rollback_id, status="complete"),
                RunReopened(run_id=run_id, at=at, rollback_id=rollback_id, status="rolled_back"),
            ]
        )
    return rollback_id


async def pin(journal: Journal, run_id: RunId, *, at: datetime = LONG_AGO, pinned: bool = True) -> None:
    await journal.append(
        [
            CheckpointNamed(
                run_id=run_id, at=at, checkpoint_id=new_checkpoint_id(), label="before the move", pinned=pinned
            )
        ]
    )


async def open_conflict(
    journal: Journal, run_id: RunId, action_id: ActionId, *, theirs: State | None = None, at: datetime = LONG_AGO
) -> ConflictId:
    conflict_id = new_conflict_id()
    await journal.append(
        [
            ConflictOpened(
                run_id=run_id,
                at=at,
                conflict_id=conflict_id,
                kind="conflict",
                action_id=action_id,
                system="files",
                object="notes.txt",
                theirs=theirs,
                why="somebody else edited it",
                next_step="choose",
            )
        ]
    )
    return conflict_id


async def resolve(journal: Journal, run_id: RunId, conflict_id: ConflictId, *, at: datetime = LONG_AGO) -> None:
    await journal.append([ConflictResolved(run_id=run_id, at=at, conflict_id=conflict_id, choice="theirs", by="anna")])


def grow_old(store: FileObjectStore) -> None:
    """Make every stored file and every temporary one a day old."""
    for folder, _, files in os.walk(store.folder):
        for name in files:
            path = os.path.join(folder, name)
            then = os.stat(path).st_mtime - 86_400
            os.utime(path, (then, then))
