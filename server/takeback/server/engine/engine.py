"""The engine: everything takeback can do, for whoever asks. It knows nothing of MCP, terminals or web pages.

The MCP surface, the command line and the page are three doors into this one class. Each method checks the caller against the
owner of what is asked for: foreign and unknown ids give the same answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import JsonValue

from takeback.journal.events import Caller, OnFailure, RunMode
from takeback.server.engine.answers import (
    ApprovalInfo,
    Brief,
    CallAnswer,
    CheckpointPage,
    NamedCheckpoint,
    OpenItemAnswer,
    ReadAnswer,
    RollbackAnswer,
    RunDetail,
    RunPage,
    StartedRun,
    VersionPage,
)
from takeback.server.settings import Settings
from takeback.tools.contract import AnyTool

Progress = Callable[[float, float | None, str], Awaitable[None]]


async def no_progress(done: float, total: float | None, words: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a wrapped tool."""

    tool: str
    arguments: dict[str, JsonValue]
    """Of the tool itself, as they came; the four common ones are the fields below."""
    caller: Caller
    run_id: str | None = None
    step: str | None = None
    idempotency_key: str | None = None
    dry_run: bool = False
    progress: Progress = field(default=no_progress)


class Engine:
    """Open it with `Engine.open`, an async context manager's job; close it with `close`."""

    @classmethod
    async def open(cls, settings: Settings, *, recover: bool = True) -> Self:
        """Open journal, objects and families; settle what an earlier process left in doubt (unless `recover=False`)."""
        raise AssertionError

    async def close(self) -> None:
        """Wait for what is in flight (up to 3 s), then let go of everything."""

    # -- tools --------------------------------------------------------------------------------------------------------

    @property
    def tools(self) -> Sequence[AnyTool]:
        """The wrapped tools of the families that are on, in fixed order."""
        raise AssertionError

    async def call(self, call: Call) -> CallAnswer:
        """One acting call: the nine steps (DESIGN part 3). Errors are answers, not exceptions."""
        raise AssertionError

    async def read(self, call: Call) -> ReadAnswer:
        """One reading call."""
        raise AssertionError

    # -- runs ---------------------------------------------------------------------------------------------------------

    async def start_run(
        self, caller: Caller, goal: str, *, steps: Sequence[str] = (), scope: Sequence[str] = (),
        parent_run_id: str | None = None, on_failure: OnFailure = "report", mode: RunMode = "act",
    ) -> StartedRun: ...  # fmt: skip

    async def finish_run(
        self, caller: Caller, run_id: str, *, status: Literal["done", "failed", "abandoned"] = "done", summary: str = ""
    ) -> StartedRun: ...

    async def create_checkpoint(
        self, caller: Caller, run_id: str, label: str, *, step: str | None = None, output: JsonValue = None,
        next_step: str | None = None, notes: JsonValue = None, pinned: bool = False,
    ) -> NamedCheckpoint: ...  # fmt: skip

    async def list_runs(
        self, caller: Caller, *, status: str | None = None, touched: str | None = None, since: str | None = None,
        limit: int = 50, cursor: str | None = None,
    ) -> RunPage: ...  # fmt: skip

    async def get_run(
        self, caller: Caller, run_id: str, *, view: Literal["summary", "report", "diff", "journal"] = "summary"
    ) -> RunDetail: ...

    async def list_checkpoints(
        self, caller: Caller, *, run_id: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> CheckpointPage: ...

    async def list_versions(
        self, caller: Caller, object: str, *, limit: int = 50, cursor: str | None = None
    ) -> VersionPage: ...

    # -- taking back ----------------------------------------------------------------------------------------------------

    async def rollback(
        self, caller: Caller, *, run_id: str | None = None, to_checkpoint: str | None = None,
        actions: Sequence[str] = (), last: int | None = None, dry_run: bool = False, plan_digest: str | None = None,
        cascade: Sequence[str] = (), since: str | None = None, progress: Progress = no_progress,
    ) -> RollbackAnswer: ...  # fmt: skip

    async def redo(
        self, caller: Caller, rollback_id: str, *, dry_run: bool = False, plan_digest: str | None = None,
        progress: Progress = no_progress,
    ) -> RollbackAnswer: ...  # fmt: skip

    async def resume_from(
        self, caller: Caller, checkpoint_id: str, *, restore: bool = False, dry_run: bool = False,
        plan_digest: str | None = None, progress: Progress = no_progress,
    ) -> Brief: ...  # fmt: skip

    async def restore_version(self, caller: Caller, object: str, version: str) -> RollbackAnswer: ...

    async def resolve_conflict(
        self, caller: Caller, conflict_id: str, choice: Literal["theirs", "ours", "content", "beside"],
        *, content: str | None = None,
    ) -> RollbackAnswer: ...  # fmt: skip

    async def open_items(self, caller: Caller, *, run_id: str | None = None) -> Sequence[OpenItemAnswer]: ...

    async def conflict_versions(self, caller: Caller, conflict_id: str) -> dict[str, bytes | None]:
        """The three versions of a conflict: `base` (the agent's), `ours` (the earlier one), `theirs` (what is there)."""
        raise AssertionError

    # -- people -------------------------------------------------------------------------------------------------------

    async def contain_run(
        self, caller: Caller, run_id: str, reason: str, *, level: Literal["contained", "quarantined"] = "contained"
    ) -> StartedRun: ...

    async def release_run(self, caller: Caller, run_id: str, reason: str = "") -> StartedRun:
        """A person's act: never offered as a tool."""
        raise AssertionError

    async def approvals(self, caller: Caller, *, status: str | None = "requested") -> Sequence[ApprovalInfo]: ...

    async def approve(self, caller: Caller, approval_id: str, *, lane: str) -> ApprovalInfo:
        """A person consents: never offered as a tool. The same call is then repeated by its caller."""
        raise AssertionError

    async def deny(self, caller: Caller, approval_id: str, *, lane: str) -> ApprovalInfo:
        """A person refuses."""
        raise AssertionError
