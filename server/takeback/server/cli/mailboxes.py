"""The command that gives takeback the password of a mailbox and tells what its servers can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from takeback.server.cli.blocks import Block, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.passwords import asked_password
from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError

if TYPE_CHECKING:
    from takeback.tools.email.settings import MailboxSettings


async def mailbox(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A mailbox of the configuration with imap or smtp.")],
) -> ExitCode:
    """Store the password of a mailbox in the keyring, if its servers take it, and tell what they can do."""
    from takeback.tools.email.credentials import keep_password, password_of
    from takeback.tools.system import TargetError

    settings = session.loaded().settings.mailboxes.get(name)
    urls = [] if settings is None else [url for url in (settings.imap, settings.smtp) if url is not None]
    if settings is None or not urls or not settings.username:
        raise EngineError(
            "not_found",
            f"The configuration has no mailbox {name!r} with a server and a username.",
            "[mailboxes.NAME] adds one: imap = ..., smtp = ..., username = ..., address = ...",
        )
    try:
        password = (
            password_of(name, settings, urls[0])
            if settings.password_variable
            else asked_password(name, settings.username)
        )
        blocks, value = await _tried(settings, password)
        if not settings.password_variable:
            # only now: a password that was not accepted is not kept
            for url in urls:
                keep_password(name, settings, url, password)
            blocks.append(said("The password is in the keyring."))
    except TargetError as error:
        raise EngineError(error.code, str(error), error.advice) from error
    session.terminal.show(blocks, value)
    return ExitCode.OK


async def _tried(settings: MailboxSettings, password: str) -> tuple[list[Block], dict[str, object]]:
    blocks: list[Block] = []
    value: dict[str, object] = {}
    if settings.imap is not None:
        from takeback.tools.email.imap.opening import inspect

        found = await inspect(settings, password)
        blocks += [
            line("mailbox", settings.imap),
            line("folders", f"{found.folders:,}, with {found.messages:,} messages"),
            line("sent, drafts, trash", ", ".join(found.roles[role] for role in ("sent", "drafts", "trash"))),
            *(said(each) for each in found.lacks),
        ]
        value |= {
            "imap": settings.imap,
            "folders": found.folders,
            "messages": found.messages,
            "roles": found.roles,
            "lacks": found.lacks,
        }
    if settings.smtp is not None:
        from takeback.tools.email.smtp import try_login

        await try_login(settings, password)
        blocks.append(line("sending", settings.smtp))
        value["smtp"] = settings.smtp
    return blocks, value


def register(connect: typer.Typer) -> None:
    """Add the command of this module to `takeback connect`."""
    command(connect, "mailbox")(mailbox)
