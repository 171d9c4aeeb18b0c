"""Commands for authors and newcomers: tool new, tool check, demo, version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from takeback.server.cli.blocks import Table, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session


async def new(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the tool is called, such as post_note.")],
    *,
    kind: Annotated[
        Literal["read", "reversible", "compensable", "irreversible"],
        typer.Option("--kind", help="How it is taken back: docs/add-a-tool.md helps to choose."),
    ] = "reversible",
    folder: Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where to write it.")] = Path("."),
) -> ExitCode:
    """Write a tool of your own to start from, with its test."""
    from takeback.tools.scaffold import new_tool

    written = [str(path) for path in new_tool(name, kind, folder)]
    session.terminal.show(
        [*(line("wrote", path) for path in written), said(f"Try it: takeback tool check {written[0]}")],
        {"files": written},
    )
    return ExitCode.OK


async def check(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A Python file with tools.")],
) -> ExitCode:
    """Put the tools in a file through the conformance kit."""
    from takeback.tools.scaffold import EXIT_NOT_CHECKED, check_tool

    code = check_tool(file, on_stderr=session.terminal.as_json)
    if session.terminal.as_json:
        session.terminal.json({"file": str(file), "sound": code == 0})
    if code == 0:
        return ExitCode.OK
    return ExitCode.USAGE if code == EXIT_NOT_CHECKED else ExitCode.OPEN


async def list_tools(session: Session) -> ExitCode:
    """List the tools that an agent is offered, and how far each can be taken back."""
    from takeback.server.reversibility import READS, how_far
    from takeback.tools.recovery import stated

    async with session.engine() as engine:
        told = [(tool, stated(tool)) for tool in engine.tools]
    rows = tuple(
        (tool.name, tool.family, how_far(its), its.how if its else "", its.unless if its else "") for tool, its in told
    )
    listed = [
        {"tool": tool.name, "family": tool.family, "reversibility": READS}
        if its is None
        else {
            "tool": tool.name,
            "family": tool.family,
            "reversibility": its.best,
            "worse": list(its.worse),
            "worse_if": its.worse_if,
            "how": its.how,
            "unless": its.unless,
        }
        for tool, its in told
    ]
    session.terminal.show(
        [Table(("tool", "family", "reversibility", "taken back by", "until, unless"), rows)], {"tools": listed}
    )
    return ExitCode.OK


async def demo(
    session: Session,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the workspace and the journal for a look around.")
    ] = False,
) -> ExitCode:
    """See it work: a real server, a real client, a task over files, rows, events and mail, a rollback, and proof by digests."""
    from takeback.server.demo.story import tell

    told = await tell(session.terminal, keep=keep)
    return ExitCode.OK if told else ExitCode.OPEN


async def version(session: Session) -> ExitCode:
    """Print the version."""
    from importlib.metadata import version as installed

    number = installed("takeback")
    session.terminal.show([line("takeback", number)], {"version": number})
    return ExitCode.OK


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    tools = typer.Typer(help="The tools that there are, and tools of your own.", no_args_is_help=True)
    command(tools, "list")(list_tools)
    command(tools, "new")(new)
    command(tools, "check")(check)
    app.add_typer(tools, name="tool")
    command(app, "demo")(demo)
    command(app, "version")(version)
