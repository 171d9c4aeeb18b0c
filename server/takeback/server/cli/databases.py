"""Commands for databases: db prepare, db unprepare. They show what they will do, then ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import anyio.to_thread
import typer

from takeback.server.cli.acting import DryRun, Yes, consent
from takeback.server.cli.blocks import Block, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError

if TYPE_CHECKING:
    from takeback.tools.database.postgres.connecting import Connections
    from takeback.tools.database.postgres.preparing import Preparation

Name = Annotated[str, typer.Argument(metavar="NAME", help="A PostgreSQL database of the configuration.")]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Connect as somebody else, such as the owner of the tables."),
]
_SHOWN = 50


async def prepare(
    session: Session, name: Name, *, url: Url = None, yes: Yes = False, dry_run: DryRun = False
) -> ExitCode:
    """Install sleeping triggers, so that changes in large tables are seen without reading them whole."""
    from takeback.tools.database.postgres.preparing import prepare as work

    return await _carry_out(session, name, url, work, "Install these?", yes=yes, dry_run=dry_run)


async def unprepare(
    session: Session, name: Name, *, url: Url = None, yes: Yes = False, dry_run: DryRun = False
) -> ExitCode:
    """Remove what db prepare installed."""
    from takeback.tools.database.postgres.preparing import unprepare as work

    return await _carry_out(session, name, url, work, "Remove these?", yes=yes, dry_run=dry_run)


async def _carry_out(
    session: Session,
    name: str,
    url: str | None,
    work: Callable[..., Preparation],
    question: str,
    *,
    yes: bool,
    dry_run: bool,
) -> ExitCode:
    connections = _connections(session, name, url)
    try:
        plan = await _told(lambda: work(connections, act=False))
        if dry_run or not (plan.installed or plan.removed):
            session.terminal.show(_blocks(plan), asdict(plan))
            return ExitCode.OK
        if not yes:
            (session.terminal.aside if session.terminal.as_json else session.terminal.show)(_blocks(plan))
            if (refused := consent(session, question)) is not None:
                return refused
        done = await _told(lambda: work(connections, act=True))
        session.terminal.show(_blocks(done), asdict(done))
        return ExitCode.OK
    finally:
        connections.close()


def _connections(session: Session, name: str, url: str | None) -> Connections:
    from takeback.tools.database.postgres.connecting import Connections

    settings = session.loaded().settings.databases.get(name)
    if settings is None or settings.url.startswith("sqlite:"):
        raise EngineError(
            "not_found",
            f"The configuration has no PostgreSQL database {name!r}.",
            "takeback doctor shows the configuration; [databases.NAME] adds one.",
        )
    if url is not None:
        settings = type(settings).model_validate({**settings.model_dump(), "url": url, "superuser": True})
    return Connections(name, settings)


async def _told(work: Callable[[], Preparation]) -> Preparation:
    from takeback.tools.system import TargetError

    try:
        return await anyio.to_thread.run_sync(work)
    except TargetError as error:
        raise EngineError(error.code, str(error), error.advice) from error


def _blocks(plan: Preparation) -> list[Block]:
    blocks: list[Block] = [line("database", plan.database)]
    for verb, names in (
        ("installed on" if plan.done else "will be installed on", plan.installed),
        ("there already on", plan.armed),
        ("removed from" if plan.done else "will be removed from", plan.removed),
    ):
        blocks += [line(verb, name) for name in names[:_SHOWN]]
        if len(names) > _SHOWN:
            blocks.append(line(verb, f"{len(names) - _SHOWN:,} more"))
    blocks += [line("left out", f"{name}: {why}") for name, why in plan.left_out[:_SHOWN]]
    if not (plan.installed or plan.removed):
        blocks.append(said("There is nothing to do."))
    return blocks


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    databases = typer.Typer(help="Databases.", no_args_is_help=True)
    command(databases, "prepare")(prepare)
    command(databases, "unprepare")(unprepare)
    app.add_typer(databases, name="db")
