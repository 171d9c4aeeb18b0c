"""All commands, and what happens around them: parsing, help, usage errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from takeback.server.cli import (
    acting,
    calendars,
    care,
    containing,
    credentials,
    databases,
    drill,
    incident,
    install,
    looking,
    modes,
    notices,
    opened,
    outbox,
    policy,
    settling,
    tooling,
    web,
)
from takeback.server.cli.codes import ExitCode

_HELP = "An MCP server whose tools can be undone, and what a person needs beside it: look, take back, resume, settle."

app = typer.Typer(
    name="takeback", help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"takeback {version('takeback')}")
        raise typer.Exit(0)


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command("serve")
def _serve(
    workspace: Annotated[
        list[str] | None, typer.Option("--workspace", metavar="DIR", help="A folder the tools may touch; repeatable.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DIR", help="The data directory.")] = None,
    config: Annotated[str | None, typer.Option("--config", metavar="FILE", help="The configuration file.")] = None,
    http: Annotated[bool, typer.Option("--http", help="Serve over HTTP, for many clients.")] = False,
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = None,
    port: Annotated[str | None, typer.Option("--port", metavar="NUMBER", help="Port to listen on; 0: any.")] = None,
) -> None:
    """Serve MCP on standard input and output, for a client to start; or over HTTP."""
    from takeback.server.cli.serve import serve

    given = [part for root in workspace or () for part in ("--workspace", root)]
    named = (("--data", data), ("--config", config), ("--host", host), ("--port", port))
    given += [part for name, value in named if value for part in (name, value)]
    given += ["--http"] if http else []
    raise typer.Exit(serve(given))


looking.register(app)
acting.register(app)
settling.register(app)
containing.register(app)
modes.register(app)
care.register(app)
credentials.register(app)
databases.register(app)
policy.register(app)
drill.register(app)
incident.register(app)
outbox.register(app)
notices.register(app)
opened.register(app)
calendars.register(app)
tooling.register(app)
web.register(app)
install.register(app)


def run(given: Sequence[str]) -> int:
    """Parse and run one command; its exit code."""
    try:
        result = typer.main.get_command(app).main(args=list(given), prog_name="takeback", standalone_mode=False)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except typer.TyperException as error:
        words = error.format_message() if hasattr(error, "format_message") else str(error)
        if words:
            words = words.replace("Value error, ", "").rstrip(".")
            print(words if words.endswith("?") else f"{words}.", file=sys.stderr)
            print(f"See takeback {_command(given)}--help.", file=sys.stderr)
        return ExitCode.USAGE
    return result if isinstance(result, int) else ExitCode.OK


def _command(given: Sequence[str]) -> str:
    named = [word for word in given if word in {command.name for command in app.registered_commands}]
    return f"{named[0]} " if named else ""
