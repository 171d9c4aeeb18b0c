"""Commands that take back, bring back and go on: rollback, redo, resume. The plan comes first, then the question."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from takeback.journal.views import CheckpointView, RollbackView, RunView
from takeback.server.cli import render
from takeback.server.cli.blocks import said
from takeback.server.cli.codes import ExitCode, code_of
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.cli.terminal import Progress
from takeback.server.engine.answers import EngineError, RollbackAnswer
from takeback.server.engine.engine import Engine

LANE = "command line"

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")]
Cascade = Annotated[
    list[str] | None,
    typer.Option("--cascade", metavar="RUN", help="Also take back what this run built on it; repeatable."),
]
Act = Callable[[bool, str | None, Progress], Awaitable[RollbackAnswer]]


def consent(session: Session, question: str) -> ExitCode | None:
    """Ask the person; `None` means yes."""
    match session.terminal.ask(question):
        case True:
            return None
        case False:
            session.terminal.fail("declined", "Nothing was done.", "")
        case None:
            session.terminal.fail("consent_needed", "Nobody is there to be asked, so nothing was done.", "Add --yes.")
    return ExitCode.REFUSED


def outcome(session: Session, answer: RollbackAnswer, back: str = "To bring it back") -> ExitCode:
    """Show what was done; the exit code that says it.

    :param back: what taking it back would do.
    """
    session.terminal.show(render.rollback(answer, back), answer)
    match answer.status:
        case "complete":
            return ExitCode.OPEN if answer.open_items else ExitCode.OK
        case "planned" | "partial":
            return ExitCode.OPEN
        case "pending_approval":
            return ExitCode.REFUSED
        case "failed":
            return code_of(answer.error.code) if answer.error else ExitCode.OPEN


def would_leave_open(plan: RollbackAnswer) -> bool:
    """Whether carrying out the plan would leave something for a person to settle."""
    return bool(plan.other_runs) or any(step.outcome in {"conflict", "failed", "irreversible"} for step in plan.steps)


async def carry_out(
    session: Session, engine: Engine, act: Act, *, yes: bool, dry_run: bool, back: str = "To bring it back"
) -> ExitCode:
    """Plan, show, ask, act, show.

    :param act: called with (dry run?, digest of the plan consented to, progress).
    :param back: what taking it back would do.
    """
    done = await decided(session, engine, act, yes=yes, dry_run=dry_run)
    if isinstance(done, ExitCode):
        return done
    if done.status != "planned":
        return outcome(session, done, back)
    session.terminal.show(render.plan(done), done)
    return ExitCode.OPEN if would_leave_open(done) else ExitCode.OK


async def decided(session: Session, engine: Engine, act: Act, *, yes: bool, dry_run: bool) -> RollbackAnswer | ExitCode:
    """Plan, show, ask, act: what came of it (the plan itself if nothing was to be done), or why the person did not want it."""
    terminal = session.terminal
    async with terminal.progress("looking") as progress:
        plan = await act(True, None, progress)
    if plan.status == "failed" or dry_run or not plan.steps:
        return plan
    if not yes:
        (terminal.aside if terminal.as_json else terminal.show)(render.plan(plan))
        if (refused := consent(session, "Do this?")) is not None:
            return refused
    async with terminal.progress("taking back") as progress:
        answer = await act(False, plan.plan_digest, progress)
    if answer.status == "pending_approval" and answer.approval_id:
        if answer.question and not terminal.as_json:
            terminal.show([said(answer.question, "warn")])
        if not yes and (refused := consent(session, "This needs your consent. Give it?")) is not None:
            return refused
        await engine.approve(session.caller, answer.approval_id, lane=LANE)
        async with terminal.progress("taking back") as progress:
            answer = await act(False, plan.plan_digest, progress)
    return answer


async def rollback(
    session: Session,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Take this run back, whole.")] = None,
    *,
    to: Annotated[
        str | None, typer.Option("--to", metavar="CHECKPOINT", help="Only back to this checkpoint of its run.")
    ] = None,
    action: Annotated[
        list[str] | None, typer.Option("--action", metavar="ID", help="Only this action; repeatable.")
    ] = None,
    last: Annotated[int | None, typer.Option("--last", metavar="N", min=1, help="Only the latest N actions.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="T", help="Only what happened since: 2h, or 2026-11-20T09:00Z.")
    ] = None,
    cascade: Cascade = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> ExitCode:
    """Take back a run, its tail, or chosen actions. Without any of them: the latest action."""
    from takeback.server.cli.times import moment

    if to and (run or action or last or since):
        raise EngineError("usage", "--to already says which run and how far.", "Leave the others out.")
    if sum(map(bool, (action, last, since))) > 1:
        raise EngineError("usage", "--action, --last and --since exclude each other.", "Choose one of them.")
    async with session.engine(recover=True) as engine:
        run_id = await session.id(engine, RunView, run) if run else None
        checkpoint = await session.id(engine, CheckpointView, to) if to else None
        actions = await session.actions(engine, action or ())
        runs = await session.ids(engine, RunView, cascade or ())
        at = moment(since) if since else None

        async def act(plan_only: bool, digest: str | None, progress: Progress) -> RollbackAnswer:
            return await engine.rollback(
                session.caller,
                run_id=run_id,
                to_checkpoint=checkpoint,
                actions=actions,
                last=last,
                since=at,
                cascade=runs,
                dry_run=plan_only,
                plan_digest=digest,
                progress=progress,
            )

        return await carry_out(session, engine, act, yes=yes, dry_run=dry_run)


async def redo(
    session: Session,
    rollback: Annotated[
        str | None, typer.Argument(metavar="ROLLBACK", help="The rollback to take back; by default your latest.")
    ] = None,
    *,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> ExitCode:
    """Bring back what a rollback took away."""
    async with session.engine(recover=True) as engine:
        rollback_id = (
            await session.id(engine, RollbackView, rollback) if rollback else await session.latest_rollback(engine)
        )

        async def act(plan_only: bool, digest: str | None, progress: Progress) -> RollbackAnswer:
            return await engine.redo(
                session.caller, rollback_id, dry_run=plan_only, plan_digest=digest, progress=progress
            )

        return await carry_out(session, engine, act, yes=yes, dry_run=dry_run, back="To take it back again")


async def resume(
    session: Session,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Where to go on from.")],
    *,
    restore: Annotated[bool, typer.Option("--restore", help="First take back what came later.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> ExitCode:
    """Open a new run that goes on from a checkpoint, and print what an agent needs to know."""
    async with session.engine(recover=True) as engine:
        checkpoint_id = await session.id(engine, CheckpointView, checkpoint)
        terminal = session.terminal
        digest: str | None = None
        if restore or dry_run:
            brief = await engine.resume_from(session.caller, checkpoint_id, restore=restore, dry_run=True)
            if dry_run:
                terminal.show(render.brief(brief), brief)
                return ExitCode.OPEN if brief.drift else ExitCode.OK
            if brief.rollback is not None and brief.rollback.steps:
                digest = brief.rollback.plan_digest
                if not yes:
                    (terminal.aside if terminal.as_json else terminal.show)(render.plan(brief.rollback))
                    if (refused := consent(session, "Do this, and go on from there?")) is not None:
                        return refused
        async with terminal.progress("taking back") as progress:
            brief = await engine.resume_from(
                session.caller, checkpoint_id, restore=restore, plan_digest=digest, progress=progress
            )
    terminal.show(render.brief(brief), brief)
    if brief.rollback is not None and brief.rollback.status != "complete":
        return ExitCode.OPEN
    return ExitCode.OK if brief.run_id else ExitCode.REFUSED


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "rollback")(rollback)
    command(app, "redo")(redo)
    command(app, "resume")(resume)
