"""Commands that hold back and let go: contain, release, contained. None of them is a tool: a model can only contain a run."""

from __future__ import annotations

from typing import Annotated

import typer

from takeback.journal.guarding import HoldKind
from takeback.journal.views import Hold, RunView
from takeback.server.cli import render
from takeback.server.cli.blocks import Block, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError, StartedRun
from takeback.server.engine.containment import Level

Run = Annotated[str | None, typer.Argument(metavar="RUN", help="A run, by its id or first characters.")]
Tool = Annotated[str | None, typer.Option("--tool", metavar="NAME", help="Instead of a run: a tool, or a family.")]
System = Annotated[
    str | None,
    typer.Option("--system", metavar="NAME", help="A system, a database, calendar or mailbox, or a path."),
]
Principal = Annotated[str | None, typer.Option("--principal", metavar="NAME", help="Whatever this principal does.")]


async def contain(
    session: Session,
    run: Run = None,
    *,
    tool: Tool = None,
    system: System = None,
    principal: Principal = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; stands in the journal.")],
    quarantine: Annotated[bool, typer.Option("--quarantine", help="Let it not even read.")] = False,
) -> ExitCode:
    """Let a run with its children, a tool, a system or a principal read but no longer write."""
    given, scope = _one_of(run, tool, system, principal)
    level: Level = "quarantined" if quarantine else "contained"
    async with session.engine() as engine:
        if scope is not None:
            kind, name = scope
            hold = await engine.contain_scope(session.caller, kind, name, reason, level=level)
            session.terminal.show(_held(hold), hold)
            return ExitCode.OK
        run_id = await session.id(engine, RunView, given)
        answer = await engine.contain_run(session.caller, run_id, reason, level=level)
    return _told(session, answer)


async def release(
    session: Session,
    run: Run = None,
    *,
    tool: Tool = None,
    system: System = None,
    principal: Principal = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; stands in the journal.")] = "",
) -> ExitCode:
    """Let what was contained go on."""
    given, scope = _one_of(run, tool, system, principal)
    async with session.engine() as engine:
        if scope is not None:
            kind, name = scope
            hold = await engine.release_scope(session.caller, kind, name, reason)
            session.terminal.show([said(f"The {kind} {hold.name} may act again.")], hold)
            return ExitCode.OK
        answer = await engine.release_run(session.caller, await session.id(engine, RunView, given), reason)
    return _told(session, answer)


async def contained(session: Session) -> ExitCode:
    """List what is held: runs, tools, systems, principals."""
    async with session.engine() as engine:
        runs, holds = await engine.contained(session.caller)
    blocks: list[Block] = []
    for run in runs:
        blocks += [line(run.id, render.status(run.status), run.goal), said(f"Because: {run.why or 'no reason given'}.")]
    for hold in holds:
        blocks += _held(hold)
    told = [{"run_id": run.id, "status": run.status, "goal": run.goal, "why": run.why} for run in runs]
    session.terminal.show(blocks or [said("Nothing is contained.")], {"runs": told, "holds": list(holds)})
    return ExitCode.OPEN if runs or holds else ExitCode.OK


def _one_of(
    run: str | None, tool: str | None, system: str | None, principal: str | None
) -> tuple[str, tuple[HoldKind, str] | None]:
    named: list[tuple[HoldKind, str]] = []
    if tool is not None:
        named.append(("tool", tool))
    if system is not None:
        named.append(("system", system))
    if principal is not None:
        named.append(("principal", principal))
    if len(named) + (run is not None) != 1:
        raise EngineError(
            "usage", "Exactly one of RUN, --tool, --system and --principal is needed.", "Name what is meant."
        )
    return run or "", named[0] if named else None


def _held(hold: Hold) -> list[Block]:
    return [
        line(f"{hold.kind} {hold.name}", render.status(hold.level)),
        said(f"Because: {hold.reason}. Let it go with: takeback release --{hold.kind} {hold.name}"),
    ]


def _told(session: Session, answer: StartedRun) -> ExitCode:
    session.terminal.show(
        [line(answer.run_id, render.status(answer.status)), *([said(answer.text)] if answer.text else [])], answer
    )
    return ExitCode.OK


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "contain")(contain)
    command(app, "release")(release)
    command(app, "contained")(contained)
