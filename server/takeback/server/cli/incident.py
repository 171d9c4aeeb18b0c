"""Commands of a person who steps in: take, return, recover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import typer

from takeback.journal.recovering import CheckStatus
from takeback.journal.views import CheckpointView, RunView
from takeback.server.cli import render
from takeback.server.cli.acting import Yes, decided, would_leave_open
from takeback.server.cli.blocks import Block, Cell, Id, Tone, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.cli.terminal import Progress
from takeback.server.engine.answers import Brief, EngineError, RollbackAnswer
from takeback.server.engine.engine import Engine
from takeback.server.engine.incident import Caution, Secured, classified
from takeback.server.engine.reconciling import Reconciled
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
            help="Then go on, in a new run that may touch only this; repeatable. Without: nothing goes on.",
        ),
    ] = None,
    mode: Annotated[
        Caution | None,
        typer.Option(
            "--mode",
            help="Then go on, in a new run whose calls a person sees first (plan), or that only shows (shadow).",
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; stands in the journal.")] = "recovery",
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show checks and plan; contain nothing.")] = False,
) -> ExitCode:
    """Contain a run, keep what is there, check, take it back by a plan, check again, and go on from a safe place."""
    async with session.engine(recover=True) as engine:
        caller, incident = session.caller, engine.incident
        run_id = await session.id(engine, RunView, run)
        checkpoint = await session.id(engine, CheckpointView, to) if to else None
        bounds = await incident.bounds(caller, run_id, scope or (), mode)
        told = _Recovered(run_id=run_id, dry_run=dry_run)
        if not dry_run:
            told.secured = await incident.secure(caller, run_id, reason)
            kept = [
                line(Id(run_id), render.status(told.secured.status)),
                line("kept as", Id(told.secured.checkpoint_id)),
            ]
            _say(session, kept)
        told.before = await incident.reconcile(caller, run_id, "before", record=not dry_run)
        _say(session, _checked(told.before))
        done = await _taken_back(session, engine, run_id, checkpoint, yes=yes, dry_run=dry_run)
        if isinstance(done, ExitCode):
            return done
        told.done = done
        if not dry_run:
            told.after = await incident.reconcile(caller, run_id, "after")
            told.parts = await incident.parts_standing(caller, run_id)
        if bounds is not None and told.may_go_on:
            safe = checkpoint or await incident.safe_checkpoint(caller, run_id)
            if safe is None:
                told.stopped = "It has no checkpoint that is safe to go on from as things are; start a new run."
            else:
                told.brief = await incident.resume(caller, run_id, safe, bounds)
    session.terminal.show(_ended(told), told.value)
    return ExitCode.OPEN if told.left else ExitCode.OK


@dataclass
class _Recovered:
    """What has come of it so far."""

    run_id: str
    dry_run: bool
    secured: Secured | None = None
    before: Reconciled | None = None
    done: RollbackAnswer | None = None
    after: Reconciled | None = None
    parts: dict[str, int] = field(default_factory=dict[str, int])
    brief: Brief | None = None
    stopped: str = ""

    @property
    def may_go_on(self) -> bool:
        """Whether everything was taken back, and everything that has to hold is known to."""
        whole = self.done is None or (self.done.status == "complete" and not self.done.open_items)
        return whole and self.after is not None and self.after.true

    @property
    def left(self) -> bool:
        """Whether something is left for a person."""
        if self.dry_run:
            return self.done is not None and would_leave_open(self.done)
        return not self.may_go_on or bool(self.stopped)

    @property
    def value(self) -> dict[str, object]:
        """For programs."""
        return {
            "run_id": self.run_id,
            "secured": self.secured,
            "classes": {} if self.done is None else classified(self.done),
            "checks_before": self.before,
            "rollback": self.done,
            "checks_after": self.after,
            "parts_standing": self.parts,
            "resumed": self.brief,
        }


async def _taken_back(
    session: Session, engine: Engine, run_id: str, checkpoint: str | None, *, yes: bool, dry_run: bool
) -> RollbackAnswer | ExitCode | None:
    async def act(plan_only: bool, digest: str | None, progress: Progress) -> RollbackAnswer:
        return await engine.rollback(
            session.caller,
            run_id=run_id,
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


def _say(session: Session, blocks: Sequence[Block]) -> None:
    (session.terminal.aside if session.terminal.as_json else session.terminal.show)(blocks)


_TONES: Final[dict[CheckStatus, Tone]] = {"holds": "good", "fails": "bad", "unknown": "warn"}


def _checked(found: Reconciled) -> list[Block]:
    """What is not known to hold, one by one; what holds, by number."""
    heading = "Checks before:" if found.moment == "before" else "Checks now:"
    told: list[Block] = [line(Cell(heading, "strong"), found.text)]
    return told + [
        line(Cell(one.status, _TONES[one.status]), one.text, indent=1) for one in found.checks if one.status != "holds"
    ]


def _ended(told: _Recovered) -> list[Block]:
    blocks: list[Block] = []
    if told.done is None:
        blocks.append(said("Nothing of it stands, so there was nothing to take back."))
    elif told.done.status == "planned":
        blocks += render.plan(told.done)
        blocks += [line(Cell(f"{count:,}", "strong"), word, indent=1) for word, count in classified(told.done).items()]
    else:
        blocks += render.rollback(told.done)
    if told.after is not None:
        blocks += _checked(told.after)
    for part, acts in told.parts.items():
        words = (
            f"{acts:,} of its acts still {'stand' if acts != 1 else 'stands'}; it is contained too: takeback recover"
        )
        blocks.append(line("a part of it,", Id(part), words, Id(part)))
    if told.stopped:
        blocks.append(said(told.stopped, "warn"))
    if told.brief is not None:
        blocks += render.brief(told.brief)
    if not told.dry_run:
        only = "Only the new run may act" if told.brief is not None else "It may only read"
        blocks.append(said(f"The run stays contained. {only}, until takeback release {told.run_id}.", "faint"))
    return blocks


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "take")(take)
    command(app, "return")(give_back)
    command(app, "recover")(recover)
