"""Commands about what waits for a person: open, settle, support."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from takeback.journal.views import OpenItem, RunView
from takeback.server.cli.acting import consent
from takeback.server.cli.blocks import Block, Cell, Id, line, said, short
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.commands import in_commands
from takeback.server.cli.render import clock, status
from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError, OpenThing


async def listing(
    session: Session, run: Annotated[str | None, typer.Argument(metavar="RUN", help="Only those of this run.")] = None
) -> ExitCode:
    """List everything that waits for you, with how to do it by hand."""
    async with session.engine() as engine:
        run_id = await session.id(engine, RunView, run) if run else None
        things = await engine.everything_open(session.caller, run_id=run_id)
    session.terminal.show(_blocks(things), {"open": list(things)})
    return ExitCode.OPEN if things else ExitCode.OK


def _blocks(things: Sequence[OpenThing]) -> list[Block]:
    if not things:
        return [said("Nothing is open.")]
    blocks: list[Block] = []
    for thing in things:
        blocks.append(line(Id(thing.item_id), status(thing.kind), thing.object, Cell(clock(thing.opened_at), "faint")))
        blocks.append(line("in", Id(thing.run_id), thing.goal, indent=1))
        blocks += [line(each, indent=1) for each in (thing.why, *thing.by_hand)]
        blocks.append(line(Cell("next:", "strong"), in_commands(thing.next_step), indent=1))
        blocks.append(line(Cell("to close it:", "faint"), thing.settle, indent=1))
    blocks.append(said(f"{len(things)} open.", "warn"))
    return blocks


async def settle(
    session: Session,
    item: Annotated[
        str, typer.Argument(metavar="ITEM", help="An open item or message, by its id or first characters.")
    ],
    *,
    reason: Annotated[str, typer.Option("--reason", help="What was done about it; stands in the journal.")],
) -> ExitCode:
    """Close something that is open, and say why. Nothing in the world is changed by that."""
    async with session.engine() as engine:
        item_id = item
        if not item.startswith(("msg_", "act_")):
            item_id = await session.id(engine, OpenItem, item)
        elif item.startswith("msg_"):
            item_id = (await engine.desk.row(session.caller, item)).id
        thing = await engine.settle(session.caller, item_id, reason)
    session.terminal.show([line("settled", Id(thing.item_id), thing.object)], thing)
    return ExitCode.OK


async def support(
    session: Session,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, by its id or first characters.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The bundle; by default RUN-support.zip here.")
    ] = None,
    send: Annotated[bool, typer.Option("--send", help="Mail it to support.address, after you have agreed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> ExitCode:
    """Write what helps others to see what went wrong, without contents, secrets and addresses, into one file."""
    from takeback.server.engine.export import export_run
    from takeback.server.engine.mailing import carrier_for, mail_bundle

    async with session.engine() as engine:
        core, address = engine.core, session.settings().support.address
        if send and not address:
            raise EngineError(
                "usage", "Nobody is configured to be asked.", "Set [support] address, or leave --send out."
            )
        mailbox = carrier_for(core)
        if send and mailbox is None:
            raise EngineError(
                "usage", "No mailbox here can send mail.", f"Leave --send out, and mail the file to {address}."
            )
        run_id = await session.id(engine, RunView, run)
        path = await export_run(
            core, session.caller, run_id, output or Path(f"{short(run_id)}-support.zip"), redacted=True
        )
        blocks: list[Block] = [
            line("wrote", str(path)),
            said(
                "Contents, secrets and addresses are left out, names of files and events are not: look before you send it."
            ),
        ]
        sent = False
        if send and mailbox is not None:
            if not yes and (refused := consent(session, f"Mail {path.name} to {address}?")) is not None:
                return refused
            await mail_bundle(core, mailbox, address, run_id, path)
            sent = True
            blocks.append(line("sent to", address))
        elif address:
            blocks.append(line(Cell("To send it: takeback support --send, or mail it to", "faint"), address))
    session.terminal.show(blocks, {"run_id": run_id, "bundle": str(path), "address": address, "sent": sent})
    return ExitCode.OK


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "open")(listing)
    command(app, "settle")(settle)
    command(app, "support")(support)
