"""The command that gives takeback the password of a calendar and tells what its server can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from takeback.server.cli import mailboxes
from takeback.server.cli.blocks import Block, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.passwords import asked_password
from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError

if TYPE_CHECKING:
    from takeback.tools.calendar.settings import CalendarSettings


async def calendar(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A calendar of the configuration with a url.")],
    *,
    discover: Annotated[
        bool, typer.Option("--discover", help="List the calendars on that server; the url may be the server's.")
    ] = False,
) -> ExitCode:
    """Store the password of a CalDAV calendar in the keyring, if it is right, and tell what the server can do."""
    from takeback.tools.calendar.caldav.credentials import keep_password, password_of
    from takeback.tools.system import TargetError

    settings = session.loaded().settings.calendars.get(name)
    if settings is None or settings.url is None:
        raise EngineError(
            "not_found",
            f"The configuration has no calendar {name!r} with a url.",
            "[calendars.NAME] adds one: url = ..., username = ...",
        )
    try:
        password = (
            password_of(name, settings) if settings.password_variable else asked_password(name, settings.username)
        )
        blocks, value = await (_listed if discover else _tried)(settings, password)
        if not settings.password_variable and not discover:
            # only now: a password that was not accepted is not kept
            keep_password(name, settings, password)
            blocks.append(said("The password is in the keyring."))
    except TargetError as error:
        raise EngineError(error.code, str(error), error.advice) from error
    session.terminal.show(blocks, value)
    return ExitCode.OK


async def _tried(settings: CalendarSettings, password: str) -> tuple[list[Block], object]:
    from takeback.tools.calendar.caldav.store import CaldavStore, strong

    store = CaldavStore(settings.url or "", settings.username, password)
    try:
        names = await store.names()
        exact = sum(strong(etag) for _, etag in names)
    finally:
        await store.close()
    mails = store.mails_by_itself
    blocks: list[Block] = [
        line("calendar", settings.url or ""),
        line("events", f"{len(names):,}"),
        line("can be undone", f"{exact:,} (they have strong ETags)"),
        line(
            "guests", "the server itself mails them on every change" if mails else "the server mails nobody by itself"
        ),
    ]
    return blocks, {"url": settings.url, "events": len(names), "strong_etags": exact, "mails_by_itself": mails}


async def _listed(settings: CalendarSettings, password: str) -> tuple[list[Block], object]:
    from takeback.tools.calendar.caldav.discovering import discover

    found = await discover(settings.url or "", settings.username, password)
    blocks: list[Block] = [line(each.label or "calendar", each.url) for each in found.calendars]
    if found.elsewhere:
        blocks.append(line("on another host", found.elsewhere))
        blocks.append(
            said("It was not asked, because it would get the password. Put it into url, then run this again.")
        )
    elif not found.calendars:
        blocks.append(said("There is no calendar."))
    return blocks, {
        "calendars": [{"url": each.url, "label": each.label} for each in found.calendars],
        "elsewhere": found.elsewhere,
    }


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    connect = typer.Typer(help="Passwords of calendars and mailboxes.", no_args_is_help=True)
    command(connect, "calendar")(calendar)
    mailboxes.register(connect)
    app.add_typer(connect, name="connect")
