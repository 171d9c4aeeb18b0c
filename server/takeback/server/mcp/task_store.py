"""Tasks on disk: what was promised to a client outlives the process that promised it.

One small file per task, written before the client hears of it and again when it is over. A file that still says `working`
while nobody holds the task's lock was left by a process that died; what became of the work, the journal tells.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from takeback.journal.ids import RollbackId
from takeback.server.engine.locks import Locks, LockTimeout

KEPT_SECONDS: Final = 24 * 3600
"""From its creation on a task can be asked for so long."""

Status = Literal["working", "input_required", "completed", "failed", "cancelled"]


class TaskRecord(BaseModel):
    """A task, as it is kept and as it is told."""

    model_config = ConfigDict(extra="ignore")

    id: str
    principal: str
    tool: str
    rollback_id: RollbackId
    created_at: str
    updated_at: str
    status: Status = "working"
    message: str = ""
    result: dict[str, JsonValue] | None = None
    error: dict[str, JsonValue] | None = None


class TaskStore:
    """The tasks of one data directory."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "tasks"
        self._locks: Locks | None = None

    def save(self, record: TaskRecord) -> None:
        """Keep the record, whatever happens to this process or the power from now on.

        :raises OSError: it cannot be written; what was kept before still is.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._folder / f".{record.id}.{secrets.token_hex(4)}"
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(record.model_dump_json().encode("utf-8", "replace"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self._path(record.id))
        finally:
            fresh.unlink(missing_ok=True)
        _sync(self._folder)

    def read(self, id: str) -> TaskRecord | None:
        """The record; `None` if there is none, or none any more."""
        if not id.isalnum():  # it becomes a file name
            return None
        with contextlib.suppress(OSError, ValidationError):
            return TaskRecord.model_validate_json(self._path(id).read_bytes())
        return None

    def tidy(self) -> None:
        """Forget what nobody may ask for any more."""
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path.is_file() and time.time() - path.stat().st_mtime > KEPT_SECONDS:
                    path.unlink(missing_ok=True)

    def alive(self, id: str) -> AbstractAsyncContextManager[Any]:
        """Hold the task as its living process.

        :raises LockTimeout: on entering; somebody else holds it.
        """
        if self._locks is None:
            self._locks = Locks(self._folder / "alive")
        return self._locks.hold([id], timeout=0)

    async def left_behind(self, id: str) -> bool:
        """Whether no process works on it (any more)."""
        try:
            async with self.alive(id):
                return True
        except LockTimeout:
            return False

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}.json"


def _sync(folder: Path) -> None:
    """Make the names in a folder durable, where folders can be opened at all."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def fresh_task_id() -> str:
    """128 random bits: on a server without logins, whoever knows it is let in."""
    return secrets.token_hex(16)


def told(record: TaskRecord, *, ttl_ms: int, poll_ms: int) -> dict[str, Any]:
    """The fields of a task on the wire, without what belongs to one status only."""
    task: dict[str, Any] = {
        "taskId": record.id,
        "status": record.status,
        "createdAt": record.created_at,
        "lastUpdatedAt": record.updated_at,
        "ttlMs": ttl_ms,
        "pollIntervalMs": poll_ms,
    }
    if record.message:
        task["statusMessage"] = record.message
    return task
