"""Commands that look and change nothing: runs, show, diff, checkpoints, versions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from takeback.journal.views import ActionView, RunView
from takeback.server.cli import render
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError

Limit = Annotated[int, typer.Option("--limit", min=1, max=500, help="How many at most.")]
Cursor = Annotated[str | None, typer.Option("--cursor", help="Go on where an earlier list ended.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run, by its id or the id's first characters.")]
ObjectArgument = Annotated[str, typer.Argument(metavar="OBJECT", help="A file's path, or another object's id.")]


_UNWELL = frozenset({"failed", "stalled", "contained", "quarantined"})
"""Statuses of which a person wants to know why, and what to do."""


def object_named(session: Session, given: str) -> str:
    """What the person means by OBJECT: a path that exists from here, or would lie in the workspace, is meant as that file."""
    path = os.path.abspath(Path(given).expanduser())
    inside = any(path.startswith(f"{root}{os.sep}") for root in session.settings().workspace.roots)
    return path if inside or os.path.lexists(path) else given


async def runs(
    session: Session,
    *,
    touched: Annotated[
        str | None, typer.Option("--touched", metavar="OBJECT", help="Only runs that changed this.")
    ] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", metavar="P", help="Only runs of this principal.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="T", help="Only runs used since: 2h, 3d, or 2026-11-20T09:00Z.")
    ] = None,
    status: Annotated[
        str | None, typer.Option("--status", help="open, stalled, finished, failed, rolled_back …")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ExitCode:
    """List runs, newest first."""
    from takeback.server.cli.times import moment

    async with session.engine() as engine:
        page = await engine.list_runs(
            session.caller,
            status=status,
            touched=object_named(session, touched) if touched else None,
            since=moment(since) if since else None,
            principal=principal,
            limit=limit,
            cursor=cursor,
        )
    session.terminal.show(render.runs(page), page)
    return ExitCode.OK


async def show(session: Session, run: RunArgument) -> ExitCode:
    """Show a run's timeline: each action, what became of it, what is open."""
    async with session.engine() as engine:
        run_id = await session.id(engine, RunView, run)
        detail = await engine.get_run(session.caller, run_id)
        if detail.run.status in _UNWELL:
            told = await engine.get_run(session.caller, run_id, view="report")
            detail = detail.model_copy(update={"report": told.report})
    session.terminal.show(render.timeline(detail), detail)
    return ExitCode.OK


async def diff(session: Session, run: RunArgument) -> ExitCode:
    """Show what a run changed, as a diff."""
    async with session.engine() as engine:
        detail = await engine.get_run(session.caller, await session.id(engine, RunView, run), view="diff")
    session.terminal.show(render.diff(detail), detail)
    return ExitCode.OK


async def checkpoints(
    session: Session,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Only those of this run.")] = None,
    *,
    pin: Annotated[
        str | None,
        typer.Option(
            "--pin", metavar="LABEL", help="Name the run's present position, and keep what the run needs for good."
        ),
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ExitCode:
    """List checkpoints, and which of them are safe to go back to."""
    if pin is not None and run is None:
        raise EngineError("usage", "Nothing says which run is meant.", "Write takeback checkpoints RUN --pin LABEL.")
    async with session.engine() as engine:
        run_id = await session.id(engine, RunView, run) if run else None
        if pin is not None and run_id is not None:
            await engine.create_checkpoint(session.caller, run_id, pin, pinned=True)
        page = await engine.list_checkpoints(session.caller, run_id=run_id, limit=limit, cursor=cursor)
    session.terminal.show(render.checkpoints(page), page)
    return ExitCode.OK


async def versions(
    session: Session,
    object: ObjectArgument,
    *,
    restore: Annotated[str | None, typer.Option("--restore", metavar="VERSION", help="Put this version back.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ExitCode:
    """List the earlier contents of an object, or put one of them back."""
    from takeback.server.cli.acting import consent, outcome

    named = object_named(session, object)
    async with session.engine(recover=restore is not None) as engine:
        if restore is None:
            page = await engine.list_versions(session.caller, named, limit=limit, cursor=cursor)
            session.terminal.show(render.versions(page), page)
            return ExitCode.OK
        if not yes and (refused := consent(session, f"Put version {restore} of {object} back?")) is not None:
            return refused
        # a version is named by the action before or after which it was
        head, colon, side = restore.partition(":")
        whole = await session.id(engine, ActionView, head) + colon + side if head.startswith("act_") else restore
        answer = await engine.restore_version(session.caller, named, whole)
    return outcome(session, answer)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "runs")(runs)
    command(app, "show")(show)
    command(app, "diff")(diff)
    command(app, "checkpoints")(checkpoints)
    command(app, "versions")(versions)
