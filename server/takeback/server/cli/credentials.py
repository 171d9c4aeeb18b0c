"""The command for tokens of the HTTP server: where the local one is, and new ones for named people."""

from __future__ import annotations

from typing import Annotated

import typer

from takeback.server.cli.blocks import line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.settings import SettingsError


async def token(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Whom the token is for; left out: the local one.")
    ] = None,
) -> ExitCode:
    """Show the local token of serve --http, or make one for somebody."""
    from takeback.server.mcp.http_tokens import UnsafeToken, digest_of, local_token, new_token, token_file

    if name is not None:
        made = new_token()
        digest = digest_of(made)
        session.terminal.show(
            [
                line("token", made),
                said("It is shown once. Give it to them, and put this into the configuration file:"),
                line("[http.tokens]"),
                line(f'"{name}" = "{digest}"'),
            ],
            {"name": name, "token": made, "digest": digest},
        )
        return ExitCode.OK
    data = session.loaded().settings.data
    try:
        kept, _ = local_token(data)
    except UnsafeToken as error:
        raise SettingsError(error.message, error.advice) from error
    path = str(token_file(data))
    session.terminal.show([line("token", kept), line("kept in", path)], {"token": kept, "file": path})
    return ExitCode.OK


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "token")(token)
