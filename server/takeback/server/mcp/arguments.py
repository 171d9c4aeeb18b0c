"""The arguments of the tools about runs: strict, unknown fields refused, refusals in words that a model can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, JsonValue, ValidationError

from takeback.journal.events import OnFailure, RunMode
from takeback.journal.views import RunStatus
from takeback.server.engine.answers import EngineError
from takeback.server.engine.misfits import misfits
from takeback.tools.contract import Arguments

A = TypeVar("A", bound=Arguments)

RunArg = Annotated[str, Field(description="Id of the run (run_…).")]
Limit = Annotated[int, Field(ge=1, le=500, description="At most so many.")]
Cursor = Annotated[str | None, Field(description="From the previous page.")]
DryRun = Annotated[bool, Field(description="Only show the plan and its digest.")]
PlanDigest = Annotated[str | None, Field(description="Digest of the plan you were shown; nothing else is then done.")]


class ListRuns(Arguments):
    """`list_runs`."""

    status: RunStatus | None = Field(default=None, description="Only runs in this status.")
    touched: str | None = Field(default=None, description="Only runs that changed this object, such as a path.")
    since: str | None = Field(default=None, description="Only runs active since then (RFC 3339, or such as 2h or 3d).")
    limit: Limit = 50
    cursor: Cursor = None


class GetRun(Arguments):
    """`get_run`."""

    run_id: RunArg
    view: Literal["summary", "report", "diff", "journal", "shadow"] = Field(
        default="summary",
        description="report: done, preserved, failed, remaining; diff: changes; journal: events; shadow: what was only shown.",
    )


class ListCheckpoints(Arguments):
    """`list_checkpoints`."""

    run_id: str | None = Field(default=None, description="Of this run only.")
    limit: Limit = 50
    cursor: Cursor = None


class ListVersions(Arguments):
    """`list_versions`."""

    object: str = Field(description="The object, such as a path.")
    limit: Limit = 50
    cursor: Cursor = None


class StartRun(Arguments):
    """`start_run`."""

    goal: str = Field(min_length=1, max_length=4000, description="What the task is for, one sentence.")
    steps: list[str] = Field(default=[], max_length=200, description="Planned steps, in order.")
    scope: list[str] = Field(
        default=[],
        max_length=200,
        description="What it may change: docs/**, calendar:work, outbox:mail:work; empty: anything.",
    )
    parent_run_id: str | None = Field(default=None, description="Run that this is a part of.")
    on_failure: OnFailure = Field(default="report", description="rollback: take all back if the run fails.")
    mode: RunMode = Field(
        default="act",
        description="shadow: only show what calls would do; plan: done at finish_run, in order, once a person agrees; "
        "staged: published at finish_run, all or nothing.",
    )


class FinishRun(Arguments):
    """`finish_run`."""

    run_id: RunArg
    status: Literal["done", "failed", "abandoned"] = "done"
    summary: str = Field(default="", max_length=10_000, description="What was accomplished, or why not.")


class CreateCheckpoint(Arguments):
    """`create_checkpoint`."""

    run_id: RunArg
    label: str = Field(min_length=1, max_length=200)
    step: str | None = Field(default=None, description="Step just completed.")
    output: JsonValue = Field(default=None, description="Its output.")
    next_step: str | None = Field(default=None, description="Step expected next.")
    notes: JsonValue = Field(default=None, description="Whatever you need to continue from here.")


class ResumeFrom(Arguments):
    """`resume_from`."""

    checkpoint_id: str = Field(description="From list_checkpoints (chk_…).")
    restore: bool = Field(default=False, description="First take back what came after the checkpoint.")
    dry_run: DryRun = False
    plan_digest: PlanDigest = None


class RollbackRun(Arguments):
    """`rollback_run`."""

    run_id: str | None = Field(default=None, description="Run to take back.")
    to_checkpoint: str | None = Field(default=None, description="Keep what came before this checkpoint.")
    actions: list[str] = Field(default=[], max_length=10_000, description="Only these actions (act_…).")
    last: int | None = Field(default=None, ge=1, le=10_000, description="Only the latest so many actions.")
    dry_run: DryRun = False
    plan_digest: PlanDigest = None
    cascade: list[str] = Field(default=[], max_length=1000, description="Other runs whose later actions go too.")


class RedoRollback(Arguments):
    """`redo_rollback`."""

    rollback_id: str = Field(description="From rollback_run (rbk_…).")
    dry_run: DryRun = False
    plan_digest: PlanDigest = None


class RestoreVersion(Arguments):
    """`restore_version`."""

    object: str = Field(description="The object, such as a path.")
    version: str = Field(description="From list_versions.")


class ResolveConflict(Arguments):
    """`resolve_conflict`."""

    conflict_id: str = Field(description="From open_items (cfl_…).")
    choice: Literal["theirs", "ours", "content", "beside"] = Field(
        description="theirs: what is there; ours: the earlier version; content: yours; beside: keep both, side by side."
    )
    content: str | None = Field(default=None, description="The resolution, for choice content.")


class ContainRun(Arguments):
    """`contain_run`."""

    run_id: RunArg
    reason: str = Field(min_length=1, max_length=2000, description="Why it must not go on.")


def parse(tool: str, model: type[A], arguments: Mapping[str, Any]) -> A:
    """The arguments, checked.

    :raises EngineError: `invalid`; the message names each misfit.
    """
    given = {name: value for name, value in arguments.items() if value is not None or name not in _optional(model)}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise EngineError("invalid", *misfits(tool, model, error)) from None


def _optional(model: type[Arguments]) -> set[str]:
    return {name for name, field in model.model_fields.items() if not field.is_required()}
