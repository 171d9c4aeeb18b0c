"""`takeback web`: the local page, for whoever would rather look at a browser than at a terminal."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from takeback.server.cli.blocks import Block, Diff, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError
from takeback.server.settings import Settings

if TYPE_CHECKING:
    from takeback.server.web.address import Address


async def web(
    session: Session,
    *,
    url: Annotated[
        bool, typer.Option("--url", help="Only print an address that lets one browser in; open the page if need be.")
    ] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: the one it had before.")
    ] = None,
    given: Annotated[str | None, typer.Option("--settings", hidden=True)] = None,
) -> ExitCode:
    """Serve the local page: what waits for a person, runs, mail, taking back. Only this machine can reach it."""
    from takeback.server.web.address import running
    from takeback.server.web.detached import page_of
    from takeback.server.web.entering import entry
    from takeback.server.web.serve import serve_page

    if given is not None:
        return await _on_demand(server=given == "server")
    settings = session.settings()
    if not settings.data.is_dir():
        raise EngineError(
            "not_found",
            f"There is no journal in {settings.data} yet.",
            "Name the data directory with --data, or start the server first: takeback serve --workspace DIR.",
        )
    if port is not None:
        settings = settings.model_copy(update={"web": settings.web.model_copy(update={"port": port})})
    if url:
        where = await page_of(settings, server=False)
        if where is None:
            raise EngineError("not_possible", "The page could not be opened.", "Run takeback web to see why.")
        _tell(session, entry(settings, where), "", open_browser)
        return ExitCode.OK

    def ready(here: Address) -> None:
        _tell(session, entry(settings, here), "Ctrl-C ends the page.", open_browser)

    if await serve_page(settings, ready) == "another":
        found = running(settings.data)
        if found is None:
            raise EngineError("busy", "The page is being opened by somebody else.", "Try again in a moment.")
        _tell(session, entry(settings, found), "It was open already.", open_browser)
    return ExitCode.OK


def _tell(session: Session, where: str, more: str, open_browser: bool) -> None:
    # shown as a line of a diff is: not broken, whatever the terminal's width
    words: list[Block] = [Diff(where), said(_ONCE), *([said(more)] if more else [])]
    session.terminal.show(words, {"url": where})
    if open_browser:
        import webbrowser

        webbrowser.open(where)


_ONCE = "It opens the page in one browser, once, within ten minutes; after that the browser is known."


async def _on_demand(*, server: bool) -> ExitCode:
    """As `detached.py` starts it: the settings come in, the address goes out."""
    from takeback.server.web.detached import told
    from takeback.server.web.idle import Idle
    from takeback.server.web.serve import serve_page

    settings = Settings.model_validate_json(await asyncio.to_thread(sys.stdin.buffer.readline))

    def ready(here: Address) -> None:
        print(told(here), flush=True)

    ended = await serve_page(settings, ready, idle=Idle(settings.web.idle_seconds, server=server), server=server)
    return ExitCode.OK if ended != "another" else ExitCode.REFUSED


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "web")(web)
