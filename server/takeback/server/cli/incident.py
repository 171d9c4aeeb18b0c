"""Commands of a person who steps in: take, return, recover."""

from __future__ import annotations

from typing import Annotated

import typer

from takeback.journal.views import CheckpointView, RunView
from takeback.server.cli import render
from takeback.server.cli.acting import Yes, decided, would_leave_open
from takeback.server.cli.blocks import Block, Cell, Id, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.cli.terminal import Progress
from takeback.server.engine.answers import Brief, EngineError, RollbackAnswer
from takeback.server.engine.engine import Engine
from takeback.server.engine.incident import Secured, classified
from takeback.server.engine.takeover import TakenOver

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run, by its id or first characters.")]


async def take(
    session: Session,
    run: RunArgument,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; stands in the journal.")] = "",
) -> ExitCode:
    """Take a run over: its agent only reads until you return it."""
    async with session.engine(recover=True) as engine:
        answer = await engine.takeover.take(session.caller, await session.id(engine, RunView, run), reason)
    return _told(session, answer)


async def give_back(
    session: Session,
    run: RunArgument,
    *,
    note: Annotated[str, typer.Option("--note", help="What its agent should know.")] = "",
) -> ExitCode:
    """Return a run that you took over; its agent is told what you changed."""
    async with session.engine(recover=True) as engine:
        answer = await engine.takeover.give_back(session.caller, await session.id(engine, RunView, run), note)
    return _told(session, answer)


def _told(session: Session, answer: TakenOver) -> ExitCode:
    blocks: list[Block] = [line(Id(answer.run_id), render.status(answer.status)), said(answer.text)]
    blocks += [line(Cell(each.change, "warn"), each.shown, indent=1) for each in answer.changes]
    session.terminal.show(blocks, answer)
    return ExitCode.OK


async def recover(
    session: Session,
    run: RunArgument,
    *,
    to: Annotated[
        str | None, typer.Option("--to", metavar="CHECKPOINT", help="Only back to this checkpoint of the run.")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="OBJECT",
            help="Then go on, in a new run that may touch only this; repeatable. Without: the run stays contained.",
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; stands in the journal.")] = "recovery",
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; contain nothing.")] = False,
) -> ExitCode:
    """Contain a run, keep what is there, take it back by a plan, check, and go on from a safe place."""
    async with session.engine(recover=True) as engine:
        run_id = await session.id(engine, RunView, run)
        checkpoint = await session.id(engine, CheckpointView, to) if to else None
        secured: Secured | None = None
        if not dry_run:
            secured = await engine.incident.secure(session.caller, run_id, reason)
            _say(session, [line(Id(run_id), render.status(secured.status)), line("kept as", Id(secured.checkpoint_id))])
        done = await _taken_back(session, engine, run_id, checkpoint, yes=yes, dry_run=dry_run)
        if isinstance(done, ExitCode):
            return done
        brief: Brief | None = None
        whole = done is None or (done.status == "complete" and not done.open_items)
        if scope and whole and not dry_run:
            safe = checkpoint or await engine.incident.safe_checkpoint(session.caller, run_id)
            if safe is None:
                raise EngineError(
                    "nothing", f"Run {run_id} has no checkpoint that is safe to go on from.", "Start a new run."
                )
            brief = await engine.incident.resume(session.caller, run_id, safe, scope)
    return _ended(session, run_id, secured, done, brief, dry_run=dry_run)


async def _taken_back(
    session: Session, engine: Engine, run_id: str, checkpoint: str | None, *, yes: bool, dry_run: bool
) -> RollbackAnswer | ExitCode | None:
    async def act(plan_only: bool, digest: str | None, progress: Progress) -> RollbackAnswer:
        return await engine.rollback(
            session.caller,
            run_id=None if checkpoint else run_id,
            to_checkpoint=checkpoint,
            dry_run=plan_only,
            plan_digest=digest,
            progress=progress,
        )

    try:
        return await decided(session, engine, act, yes=yes, dry_run=dry_run)
    except EngineError as error:
        if error.code != "nothing":
            raise
        return None


def _say(session: Session, blocks: list[Block]) -> None:
    (session.terminal.aside if session.terminal.as_json else session.terminal.show)(blocks)


def _ended(
    session: Session,
    run_id: str,
    secured: Secured | None,
    done: RollbackAnswer | None,
    brief: Brief | None,
    *,
    dry_run: bool,
) -> ExitCode:
    blocks: list[Block] = []
    if done is None:
        blocks.append(said("Nothing of it stands, so there was nothing to take back."))
    elif done.status == "planned":
        blocks += render.plan(done)
        blocks += [line(Cell(f"{count:,}", "strong"), word, indent=1) for word, count in classified(done).items()]
    else:
        blocks += render.rollback(done)
    if brief is not None:
        blocks += render.brief(brief)
    elif not dry_run:
        blocks.append(said(f"The run stays contained; takeback release {run_id} lets it go on.", "faint"))
    value = {
        "run_id": run_id,
        "secured": secured,
        "classes": {} if done is None else classified(done),
        "rollback": done,
        "resumed": brief,
    }
    session.terminal.show(blocks, value)
    left = done is not None and (
        would_leave_open(done) if done.status == "planned" else done.status != "complete" or bool(done.open_items)
    )
    return ExitCode.OPEN if left else ExitCode.OK


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "take")(take)
    command(app, "return")(give_back)
    command(app, "recover")(recover)
