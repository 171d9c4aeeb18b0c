"""Runs and conflicts as resources: what a person attaches to a chat, and what a client can watch."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any, TypeVar

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.mcp.identity import caller_of
from takeback.server.mcp.replies import structured

T = TypeVar("T")

VERSIONS = ("base", "ours", "theirs")


def add_resources(server: MCPServer[Any], engine: Engine) -> None:
    """Register all resources. The list is fixed; runs are found in `takeback://runs` and by completion."""

    @server.resource(
        "takeback://runs",
        name="runs",
        title="Runs",
        description="The latest runs: goal, status, what stands, what is open.",
        mime_type="application/json",
    )
    async def runs() -> str:
        return _json(structured(await _asked(engine.list_runs(caller_of(), limit=50))))

    @server.resource(
        "takeback://runs/{run_id}/report",
        name="run_report",
        title="Report of a run",
        description="What was accomplished, what is preserved, what failed, what remains, the first step to take.",
        mime_type="text/markdown",
    )
    async def report(run_id: str, context: Context[Any, Any]) -> str:
        detail = await _asked(engine.get_run(caller_of(context.session), run_id, view="report"))
        if detail.report is not None and detail.report.text:
            return detail.report.text
        return detail.summary or f"Run {detail.run.run_id}: {detail.run.goal} ({detail.run.status})."

    @server.resource(
        "takeback://runs/{run_id}/journal",
        name="run_journal",
        title="Journal of a run",
        description="Every event of the run, in order.",
        mime_type="application/json",
    )
    async def journal(run_id: str, context: Context[Any, Any]) -> str:
        detail = await _asked(engine.get_run(caller_of(context.session), run_id, view="journal"))
        return _json(detail.journal or [])

    @server.resource(
        "takeback://runs/{run_id}/diff",
        name="run_diff",
        title="Changes of a run",
        description="Everything the run changed and that still stands.",
        mime_type="text/x-diff",
    )
    async def diff(run_id: str, context: Context[Any, Any]) -> str:
        detail = await _asked(engine.get_run(caller_of(context.session), run_id, view="diff"))
        return detail.diff or ""

    @server.resource(
        "takeback://outbox",
        name="outbox",
        title="Outbox",
        description="Messages that wait, are being sent, or of which nobody knows whether they went out.",
        mime_type="application/json",
    )
    async def outbox() -> str:
        rows = await _asked(engine.desk.rows(caller_of()))
        return _json([row.shown() for row in rows])

    @server.resource(
        "takeback://conflicts/{conflict_id}/{which}",
        name="conflict_version",
        title="A version in a conflict",
        description="base: as the agent left it; ours: the earlier version; theirs: what is there now.",
        mime_type="text/plain",
    )
    async def conflict(conflict_id: str, which: str, context: Context[Any, Any]) -> str | bytes:
        if which not in VERSIONS:
            raise ResourceNotFoundError(f"A conflict has the versions {', '.join(VERSIONS)}.")
        versions = await _asked(engine.conflict_versions(caller_of(context.session), conflict_id))
        content = versions.get(which)
        if content is None:
            raise ResourceNotFoundError(f"Conflict {conflict_id} has no {which} version: the object was absent.")
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return content

    @server.resource(
        "takeback://objects/{action_id}/{number}/{side}",
        name="stored_object",
        title="A stored result",
        description="What an action made (after) or found (before), by the number of its effect; reports name them.",
        mime_type="text/plain",
    )
    async def stored(action_id: str, number: str, side: str, context: Context[Any, Any]) -> str | bytes:
        content = await _asked(engine.stored_content(caller_of(context.session), action_id, number, side))
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return content

    # Registered by the decorators; named here so that nothing looks unused.
    _ = (runs, report, journal, diff, conflict, outbox, stored)


async def _asked(question: Awaitable[T]) -> T:
    """The engine's answer, its refusals as the protocol's errors of resources."""
    try:
        return await question
    except EngineError as error:
        kind = ResourceNotFoundError if error.code == "not_found" else ResourceError
        raise kind(f"{error.message} {error.advice}".strip()) from error


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)
