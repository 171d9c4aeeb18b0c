"""How a command is made: an async function of a `Session`, with the options that every command has added to it.

Each command returns an exit code. What it raises is told as one sentence of fact and one of advice.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import anyio
import typer

from takeback.server.cli.codes import ExitCode
from takeback.server.cli.session import Session
from takeback.server.cli.terminal import Terminal

P = ParamSpec("P")
Body = Callable[Concatenate[Session, P], Awaitable[ExitCode]]

_WHERE = "Where from"
_HOW = "Output"
_COMMON: tuple[tuple[str, Any, Any], ...] = (
    (
        "data",
        Annotated[
            Path | None, typer.Option("--data", metavar="DIR", help="The data directory.", rich_help_panel=_WHERE)
        ],
        None,
    ),
    (
        "config",
        Annotated[
            Path | None,
            typer.Option("--config", metavar="FILE", help="The configuration file.", rich_help_panel=_WHERE),
        ],
        None,
    ),
    (
        "workspace",
        Annotated[
            list[Path] | None,
            typer.Option(
                "--workspace", metavar="DIR", help="A folder of the workspace; repeatable.", rich_help_panel=_WHERE
            ),
        ],
        None,
    ),
    (
        "as_json",
        Annotated[bool, typer.Option("--json", help="One JSON document on standard output.", rich_help_panel=_HOW)],
        False,
    ),
    ("debug", Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=_HOW)], False),
)


def command(app: typer.Typer, name: str) -> Callable[[Body[P]], Body[P]]:
    """Register an async function as the command `name`, with `--data --config --workspace --json --debug` added."""

    def register(body: Body[P]) -> Body[P]:
        own = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
        common = [
            inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for each, annotation, default in _COMMON
        ]

        def run(**given: Any) -> None:
            terminal = Terminal(as_json=given.pop("as_json"))
            session = Session(
                terminal,
                config=given.pop("config"),
                data=given.pop("data"),
                roots=tuple(given.pop("workspace") or ()),
                debug=given.pop("debug"),
            )
            raise typer.Exit(guarded(session, lambda: anyio.run(lambda: body(session, **given))))  # type: ignore[call-arg]  # typer calls by name, with what `own` says

        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + common
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__doc__ = body.__doc__
        app.command(name)(run)
        return body

    return register


def guarded(session: Session, act: Callable[[], ExitCode]) -> ExitCode:
    """Run a command; tell what it raises without a traceback, unless `--debug` asks for one."""
    from takeback.server.cli.failures import explain

    try:
        return act()
    except (typer.Exit, typer.Abort):
        raise
    except BaseException as error:
        if session.debug:
            raise
        failure = explain(error)
        if failure is None:
            raise
        session.terminal.fail(failure.word, failure.message, failure.advice)
        return failure.code
