"""`takeback notices`: what people were told, what could not be told, and whether every channel works."""

from __future__ import annotations

from typing import Annotated

import typer

from takeback.server.cli.blocks import Cell, Table, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.handed import handed_settings
from takeback.server.cli.outbox import Bare
from takeback.server.cli.render import clock
from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError
from takeback.server.watching import watch_until_done

_TONES = {"SENT": "good", "PENDING": "warn", "SENDING": "warn", "DEAD": "bad", "UNKNOWN": "bad", "SETTLED": "faint"}


async def listing(
    session: Session,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those that arrived or were settled.")] = False,
) -> ExitCode:
    """List the notices that wait, or that could not be sent."""
    from takeback.server.notices.desk import NoticeDesk

    async with session.engine() as engine:
        rows = await NoticeDesk(engine.core).rows(session.caller, everything=everything)
    failed = any(row.status in ("DEAD", "UNKNOWN") for row in rows)
    table = tuple(
        (
            clock(row.changed),
            Cell(row.status, _TONES[row.status]),  # type: ignore[arg-type]  # values are tones
            row.channel,
            row.kind.replace("_", " "),
            row.run_id,
            row.detail,
        )
        for row in rows
    )
    blocks = [Table(("at", "status", "channel", "about", "run", "what"), table)] if rows else [said("No notices.")]
    session.terminal.show(blocks, {"notices": [row.model_dump() for row in rows]})
    return ExitCode.OPEN if failed else ExitCode.OK


async def retry(session: Session) -> ExitCode:
    """Try everything again that could not be sent. What may have arrived is sent once more."""
    from takeback.server.notices.desk import NoticeDesk

    async with session.engine() as engine:
        number = await NoticeDesk(engine.core).retry(session.caller)
    session.terminal.show([said(f"{number} to be tried again.")], {"again": number})
    return ExitCode.OK


async def test(session: Session) -> ExitCode:
    """Send a notice that says it is a test through every channel, and tell which ones took it."""
    from takeback.server.notices.desk import try_all

    settings = session.loaded().settings
    if not settings.notify.configured:
        raise EngineError("not_found", "No channel is configured.", "[notify] urls or [notify.webhooks.NAME] adds one.")
    tried = await try_all(settings.notify)
    blocks = [line(name, Cell(why or "arrived", "bad" if why else "good")) for name, why in tried.items()]
    session.terminal.show(blocks, {"channels": {name: {"sent": not why, "why": why} for name, why in tried.items()}})
    return ExitCode.OPEN if any(tried.values()) else ExitCode.OK


async def secret(
    session: Session,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A webhook of the configuration; audit: that of audit.url.")
    ],
) -> ExitCode:
    """Make a webhook's secret, keep it in the keyring, and show it once, for whoever checks the signatures."""
    from takeback.server.notices.settings import WebhookSettings
    from takeback.server.notices.webhook import SERVICE, entry_of, new_secret

    settings = session.loaded().settings
    known = settings.notify.webhooks.get(name)
    if name == "audit" and settings.audit.url:
        known = WebhookSettings(url=settings.audit.url, secret_variable=settings.audit.secret_variable)
    if known is None:
        raise EngineError(
            "not_found", f"The configuration has no webhook {name!r}.", "[notify.webhooks.NAME] adds one."
        )
    if known.secret_variable:
        raise EngineError(
            "invalid", f"Its secret is read from {known.secret_variable}.", "Set that, or take secret_variable out."
        )
    import keyring
    from keyring.errors import KeyringError

    made = new_secret()
    try:
        keyring.set_password(SERVICE, entry_of(name, known), made)
    except KeyringError:
        raise EngineError(
            "unavailable",
            "The keyring does not take the secret.",
            "Unlock it, or name an environment variable by secret_variable.",
        ) from None
    session.terminal.show([line("secret", made), said("It is shown once, and kept in the keyring.")], {"secret": made})
    return ExitCode.OK


async def run(
    session: Session,
    *,
    given: Annotated[str | None, typer.Option("--settings", hidden=True, help="- reads them as JSON.")] = None,
) -> ExitCode:
    """Send what waits until nothing does. One at a time: a second one ends at once."""
    settings = await handed_settings(session, given)
    from takeback.server.web.entering import entry_on_demand

    mine = await watch_until_done(settings, entry_on_demand(settings))
    words = "Nothing waits any more." if mine else "Another process is at it on this data directory."
    session.terminal.show([said(words)], {"done": mine})
    return ExitCode.OK


def register(app: typer.Typer) -> None:
    """Add the commands of this module, as a group."""
    group = typer.Typer(help="What people are told at once.")
    command(Bare(group), "notices")(listing)  # type: ignore[arg-type]  # of a group only this method is used
    command(group, "retry")(retry)
    command(group, "test")(test)
    command(group, "secret")(secret)
    command(group, "run")(run)
    app.add_typer(group, name="notices")
