"""Commands about what was only shown: shadow."""

from __future__ import annotations

from typing import Annotated

import typer

from takeback.journal.views import RunView
from takeback.server.cli.blocks import Block, Cell, Id, Table, Tone, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.engine.answers import ShadowLog

_TONES: dict[str, Tone] = {"allow": "good", "ask": "warn", "deny": "bad"}


async def shadow(
    session: Session,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Only that of this run.")] = None,
) -> ExitCode:
    """Show what would have happened: dry runs, shadow mode, plans and stages; and how it would have been taken back."""
    async with session.engine(recover=False) as engine:
        run_id = await session.id(engine, RunView, run) if run else None
        told = await engine.shadow_log(session.caller, run_id=run_id)
    session.terminal.show(_blocks(told), told)
    return ExitCode.OK


def _blocks(told: ShadowLog) -> list[Block]:
    if not told.calls:
        return [said("Nothing was only shown.")]
    rows = tuple(
        (
            Id(call.action_id),
            call.tool,
            call.status,
            Cell(call.would or "?", _TONES.get(call.would, "plain")),
            call.summary.removeprefix("Nothing was done. It would: "),
            "unknown" if call.unseen else "nothing" if call.reversibility == "irreversible" else call.how,
        )
        for call in told.calls
    )
    return [
        Table(("action", "tool", "status", "policy", "would", "taken back by"), rows),
        said(f"Nothing of this was done. {told.rollback}"),
    ]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "shadow")(shadow)
