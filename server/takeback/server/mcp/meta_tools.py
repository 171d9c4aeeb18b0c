"""The tools about runs: look, mark, take back, resume. Nothing here approves or releases anything: that is a person's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from takeback.server.engine.answers import (
    Brief,
    CheckpointPage,
    NamedCheckpoint,
    RollbackAnswer,
    RunDetail,
    RunPage,
    StartedRun,
    VersionPage,
)
from takeback.server.engine.engine import Engine
from takeback.server.mcp import arguments as args
from takeback.server.mcp.changes import tell_changed
from takeback.server.mcp.identity import caller_of
from takeback.server.mcp.recovery import NOTHING_TO_RECOVER, Meta, compensated_by
from takeback.server.mcp.replies import (
    Reply,
    as_json,
    mark_pending,
    not_ended,
    reply,
    rollback_reply,
    rollback_words,
    structured,
)
from takeback.server.mcp.schemas import answer_schema, input_schema
from takeback.server.mcp.surface import AnyContext, SurfaceTool, progress_of, surface_tool
from takeback.server.settings import Settings
from takeback.tools.contract import Arguments

A = TypeVar("A", bound=Arguments)

_REDO: Meta = compensated_by("redo_rollback", rollback_id="$response.body#/rollback_id")
_REDO_RESUME: Meta = compensated_by("redo_rollback", rollback_id="$response.body#/rollback/rollback_id")
_ABANDON: Meta = compensated_by("finish_run", run_id="$response.body#/run_id", status="abandoned")


def meta_tools(engine: Engine, settings: Settings) -> list[SurfaceTool]:
    """All of them, in the order in which they are listed."""
    return [*_looking(engine), *_marking(engine, settings), *_taking_back(engine)]


def _looking(engine: Engine) -> list[SurfaceTool]:
    async def list_runs(a: args.ListRuns, context: AnyContext) -> Reply:
        page = await engine.list_runs(
            caller_of(context.session),
            status=a.status, touched=a.touched, since=a.since, limit=a.limit, cursor=a.cursor,
        )  # fmt: skip
        return _data(page)

    async def get_run(a: args.GetRun, context: AnyContext) -> Reply:
        detail = await engine.get_run(caller_of(context.session), a.run_id, view=a.view)
        lead = detail.progress if a.view in ("diff", "journal") else ""  # the other two begin with it
        return reply(detail, lead, _run_words(detail, a.view))

    async def list_checkpoints(a: args.ListCheckpoints, context: AnyContext) -> Reply:
        page = await engine.list_checkpoints(
            caller_of(context.session), run_id=a.run_id, limit=a.limit, cursor=a.cursor
        )
        return _data(page)

    async def list_versions(a: args.ListVersions, context: AnyContext) -> Reply:
        page = await engine.list_versions(caller_of(context.session), a.object, limit=a.limit, cursor=a.cursor)
        return _data(page)

    return [
        _tool(
            "list_runs", "List runs",
            "Runs, newest first: goal, status, how many actions stand, open items. Finds a run_id you lost, or the runs "
            "that touched an object.",
            args.ListRuns, list_runs, RunPage, read_only=True,
        ),
        _tool(
            "get_run", "Look at a run",
            "One run as a summary, a report for people, a diff of everything it changed, or its journal of events.",
            args.GetRun, get_run, RunDetail, read_only=True,
        ),
        _tool(
            "list_checkpoints", "List checkpoints",
            "Positions to go back to or resume from, newest first; every action makes one. verified_safe and recommended "
            "say which to take, drift what somebody else changed since.",
            args.ListCheckpoints, list_checkpoints, CheckpointPage, read_only=True,
        ),
        _tool(
            "list_versions", "List versions of an object",
            "Earlier contents of an object (a file, a row, an event) across all runs, for restore_version.",
            args.ListVersions, list_versions, VersionPage, read_only=True,
        ),
    ]  # fmt: skip


def _marking(engine: Engine, settings: Settings) -> list[SurfaceTool]:
    limits = settings.limits

    async def start_run(a: args.StartRun, context: AnyContext) -> Reply:
        started = await engine.start_run(
            caller_of(context.session), a.goal, steps=a.steps, scope=a.scope, parent_run_id=a.parent_run_id,
            on_failure=a.on_failure, mode=a.mode,
        )  # fmt: skip
        await tell_changed(context, started.run_id)
        return reply(started, started.text or f"Run {started.run_id} is open: pass it as run_id with every call.")

    async def finish_run(a: args.FinishRun, context: AnyContext) -> Reply:
        ended = await engine.finish_run(
            caller_of(context.session), a.run_id, status=a.status, summary=a.summary, progress=progress_of(context)
        )
        await tell_changed(context, ended.run_id)
        if ended.error is not None:
            return not_ended(ended)
        is_now = f"Run {ended.run_id} is {ended.status}."
        told = ended.report.text if a.status == "failed" and ended.report is not None else ""
        lead = "" if ended.text.startswith(is_now) else is_now
        return reply(ended, lead, ended.text, "\n".join(f"Made: {each}" for each in ended.made), told)

    async def create_checkpoint(a: args.CreateCheckpoint, context: AnyContext) -> Reply:
        named = await engine.create_checkpoint(
            caller_of(context.session), a.run_id, a.label, step=a.step, output=a.output,
            next_step=a.next_step, notes=a.notes,
        )  # fmt: skip
        return reply(named, f"Checkpoint {named.checkpoint_id} ({named.label}) in run {named.run_id}.")

    return [
        _tool(
            "start_run", "Start a run",
            "Begin a task that can be taken back as one; pass its run_id with every call. "
            f"It ends after {_span(limits.run_idle_seconds)} without a call, and what undo needs is kept "
            f"{limits.keep_days:g} days.",
            args.StartRun, start_run, StartedRun, recovery=_ABANDON,
        ),
        _tool(
            "finish_run", "Finish a run",
            "End a run as done, failed or abandoned; a failed one answers with a report. A planned or staged one is carried "
            "out by that, once a person agrees; any can still be taken back.",
            args.FinishRun, finish_run, StartedRun, idempotent=True,
        ),
        _tool(
            "create_checkpoint", "Name a checkpoint",
            "Name the present position of a run and keep with it the step done, its output and your own notes, for "
            "resume_from. Actions make unnamed ones by themselves.",
            args.CreateCheckpoint, create_checkpoint, NamedCheckpoint,
        ),
    ]  # fmt: skip


def _taking_back(engine: Engine) -> list[SurfaceTool]:
    reaches_out = any(tool.open_world for tool in engine.tools)

    async def resume_from(a: args.ResumeFrom, context: AnyContext) -> Reply:
        brief = await engine.resume_from(
            caller_of(context.session), a.checkpoint_id, restore=a.restore, dry_run=a.dry_run,
            plan_digest=a.plan_digest, progress=progress_of(context),
        )  # fmt: skip
        await tell_changed(context, brief.run_id)
        rollback = brief.rollback
        failed = rollback is not None and rollback.is_error
        words = (brief.text or as_json(structured(brief))) if not failed else ""
        result = reply(brief, words, rollback_words(rollback) if rollback is not None else "", is_error=failed)
        return mark_pending(result, rollback)

    async def rollback_run(a: args.RollbackRun, context: AnyContext) -> Reply:
        answer = await engine.rollback(
            caller_of(context.session), run_id=a.run_id, to_checkpoint=a.to_checkpoint, actions=a.actions, last=a.last,
            dry_run=a.dry_run, plan_digest=a.plan_digest, cascade=a.cascade, progress=progress_of(context),
        )  # fmt: skip
        return await _taken_back(answer, context)

    async def redo_rollback(a: args.RedoRollback, context: AnyContext) -> Reply:
        answer = await engine.redo(
            caller_of(context.session), a.rollback_id, dry_run=a.dry_run, plan_digest=a.plan_digest,
            progress=progress_of(context),
        )  # fmt: skip
        return await _taken_back(answer, context)

    async def restore_version(a: args.RestoreVersion, context: AnyContext) -> Reply:
        return await _taken_back(await engine.restore_version(caller_of(context.session), a.object, a.version), context)

    async def resolve_conflict(a: args.ResolveConflict, context: AnyContext) -> Reply:
        answer = await engine.resolve_conflict(caller_of(context.session), a.conflict_id, a.choice, content=a.content)
        return await _taken_back(answer, context)

    async def contain_run(a: args.ContainRun, context: AnyContext) -> Reply:
        held = await engine.contain_run(caller_of(context.session), a.run_id, a.reason)
        await tell_changed(context, held.run_id)
        return reply(held, f"Run {held.run_id} is {held.status}: it can be read and taken back, not act.", held.text)

    return [
        _tool(
            "resume_from", "Resume from a checkpoint",
            "Continue an interrupted task in a new run: answers goal, steps done with outputs, what remains and what must "
            "not be repeated. With restore, what came after the checkpoint is taken back first.",
            args.ResumeFrom, resume_from, Brief, destructive=True, open_world=reaches_out, recovery=_REDO_RESUME,
        ),
        _tool(
            "rollback_run", "Take back",
            "Take back a run, everything after a checkpoint, chosen actions or the last n; with no argument, shows the "
            "plan for your latest action. What others changed since is kept, merged or reported, never overwritten.",
            args.RollbackRun, rollback_run, RollbackAnswer, destructive=True, open_world=reaches_out, recovery=_REDO,
        ),
        _tool(
            "redo_rollback", "Take back a rollback",
            "Undo a rollback: bring back what it took away. A redo can be undone in the same way.",
            args.RedoRollback, redo_rollback, RollbackAnswer, destructive=True, open_world=reaches_out, recovery=_REDO,
        ),
        _tool(
            "restore_version", "Restore a version",
            "Put an earlier content of one object back; the present content becomes a version too.",
            args.RestoreVersion, restore_version, RollbackAnswer, destructive=True, recovery=_REDO,
        ),
        _tool(
            "resolve_conflict", "Resolve a conflict",
            "Settle an open item of a rollback: keep theirs, take ours (theirs is stored first), write content, or save "
            "the earlier version beside it. Ask the user which, unless it is plain.",
            args.ResolveConflict, resolve_conflict, RollbackAnswer, destructive=True, idempotent=True, recovery=_REDO,
        ),
        _tool(
            "contain_run", "Contain a run",
            "Stop a run that goes wrong: it can be read and taken back, but not act, until a person releases it.",
            args.ContainRun, contain_run, StartedRun, idempotent=True,
        ),
    ]  # fmt: skip


def _tool(
    name: str,
    title: str,
    description: str,
    model: type[A],
    run: Callable[[A, AnyContext], Awaitable[Reply]],
    answer: type[BaseModel],
    *,
    read_only: bool = False,
    destructive: bool = False,
    idempotent: bool = False,
    open_world: bool = False,
    recovery: Meta = NOTHING_TO_RECOVER,
) -> SurfaceTool:
    async def handle(arguments: dict[str, Any], context: AnyContext) -> Reply:
        return await run(args.parse(name, model, arguments), context)

    return surface_tool(
        name,
        title,
        description,
        handler=handle,
        input_schema=input_schema(model),
        output_schema=answer_schema(answer),
        read_only=read_only,
        destructive=destructive,
        idempotent=idempotent or read_only,
        open_world=open_world,
        recovery=recovery,
    )


def _data(page: BaseModel) -> Reply:
    """An answer that is data: the words are the data too, for clients that pass on nothing else."""
    return reply(page, as_json(structured(page)))


def _run_words(detail: RunDetail, view: str) -> str:
    match view:
        case "report" if detail.report is not None and detail.report.text:
            return detail.report.text
        case "diff":
            return detail.diff or "No changes stand."
        case _:
            return as_json(structured(detail))


async def _taken_back(answer: RollbackAnswer, context: AnyContext) -> Reply:
    if answer.rollback_id is not None:
        await tell_changed(context, answer.run_id)
    return rollback_reply(answer)


def _span(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:g} hours" if hours >= 2 else f"{seconds / 60:g} minutes"
