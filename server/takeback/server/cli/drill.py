"""The command `drill`."""

from __future__ import annotations

import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio.from_thread
import anyio.to_thread
import typer

from takeback.journal.views import RunView
from takeback.server.cli import render
from takeback.server.cli.blocks import Block, Cell, Table, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.cli.terminal import Progress

if TYPE_CHECKING:
    from takeback.server.drill.drilling import Drilled

_SHOWN = 50


async def drill(
    session: Session,
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Rehearse this run in a copy of its world; without, the task of the demo."),
    ] = None,
    *,
    every: Annotated[
        int, typer.Option("--every", min=1, metavar="N", help="Kill at each Nth point only: quicker, and less sure.")
    ] = 1,
    folder: Annotated[
        Path | None,
        typer.Option("--in", metavar="DIR", help="On which disk to rehearse; by default in the data directory."),
    ] = None,
) -> ExitCode:
    """Rehearse in a sandbox, killed at each step of the way there and back, and compare the worlds."""
    from takeback.server.drill import drilling, rehearsals
    from takeback.server.drill.calls import LeftOut

    settings = session.settings()
    inside = folder or settings.data / "drill"
    sandboxes = drilling.sandbox_folder(inside)
    try:
        if run is None:
            task, left, notes = rehearsals.of_demo(sandboxes), list[LeftOut](), list[str]()
        else:
            async with session.engine() as engine, session.terminal.progress("copying the run's world"):
                run_id = await session.id(engine, RunView, run)
                task, left, notes = await rehearsals.of_run(engine.core, session.caller, run_id, sandboxes)
        async with session.terminal.progress("rehearsing") as progress:

            def tell(done: int, total: int, words: str) -> None:
                anyio.from_thread.run(_tell, progress, done, total, words)

            found = await anyio.to_thread.run_sync(
                partial(drilling.drill, task, left, notes, every=every, progress=tell)
            )
    finally:
        shutil.rmtree(sandboxes, ignore_errors=True)
        with suppress(OSError):  # somebody else's are in it, or it was there before and is used for something
            if folder is None:
                inside.rmdir()
    session.terminal.show(_blocks(found), _value(found))
    return ExitCode.OPEN if found.differences or not any(row.proven for row in found.coverage) else ExitCode.OK


async def _tell(progress: Progress, done: int, total: int, words: str) -> None:
    await progress(done, total, words)


def _blocks(found: Drilled) -> list[Block]:
    rows = tuple(
        (
            row.tool,
            str(row.calls),
            Cell(str(row.proven), "good" if row.proven + row.left_out == row.calls else "bad"),
            str(row.left_out),
            "–" if row.seconds is None else f"{row.seconds * 1000:,.0f} ms",
        )
        for row in found.coverage
    )
    blocks: list[Block] = [Table(("tool", "calls", "inverse proven", "left out", "median undo"), rows)]
    blocks += [said(f"Not as it was at the beginning: {note}", "warn") for note in found.notes]
    blocks += [line(f"{left.tool} was left out:", left.why) for left in found.left_out]
    blocks += [line(f"{proof.tool} was refused here:", proof.refused) for proof in found.proofs if proof.refused]
    blocks += [said(difference, "bad") for difference in found.differences[:_SHOWN]]
    survived = sum(not kill.wrong for kill in found.kills)
    if found.kills:
        blocks.append(
            line(f"Killed at {render.count(len(found.kills), 'point')}; afterwards all was well at {survived:,}.")
        )
    proven = sum(row.proven for row in found.coverage)
    if found.differences:
        blocks.append(said(f"{render.count(len(found.differences), 'difference')}.", "bad"))
    elif proven:
        blocks.append(said("Every world was exactly as before.", "good"))
    else:
        blocks.append(said("Nothing could be rehearsed.", "bad"))
    return blocks


def _value(found: Drilled) -> dict[str, object]:
    return {
        "sound": not found.differences,
        "kills": len(found.kills),
        "differences": found.differences,
        "coverage": [
            {
                "tool": row.tool,
                "calls": row.calls,
                "proven": row.proven,
                "left_out": row.left_out,
                "median_undo_ms": None if row.seconds is None else round(row.seconds * 1000, 1),
            }
            for row in found.coverage
        ],
        "left_out": [{"action_id": each.action_id, "tool": each.tool, "why": each.why} for each in found.left_out],
        "refused": [
            {"action_id": proof.action_id, "tool": proof.tool, "why": proof.refused}
            for proof in found.proofs
            if proof.refused
        ],
        "notes": list(found.notes),
    }


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "drill")(drill)
