"""`takeback outbox`: the messages that wait, and what a person does about them."""

from __future__ import annotations

import asyncio
import difflib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from takeback.server.cli.acting import Yes, consent
from takeback.server.cli.blocks import Block, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.editor import in_an_editor
from takeback.server.cli.handed import handed_settings
from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError
from takeback.server.engine.desk import Desk
from takeback.server.engine.detached import start_sender
from takeback.server.settings import Settings
from takeback.tools.outbox.acts import PREFIX, is_act
from takeback.tools.outbox.rows import Row

MessageArgument = Annotated[str, typer.Argument(metavar="ID", help="A message, by its id or first characters.")]
SHOWN_BYTES = 20_000
EDITING_SECONDS = 3600.0
"""So much longer a message is held when it is opened in an editor."""


async def listing(
    session: Session,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also what went out or was cancelled.")] = False,
) -> ExitCode:
    """List the messages that wait, are being sent, or of which nobody knows whether they went out."""
    async with session.engine() as engine:
        rows = await engine.desk.rows(session.caller, everything=everything)
    lines = [line(row.id, _standing(row), f"{_whom(row)}: {row.message.subject}") for row in rows]
    session.terminal.show(lines or [said("Nothing is held.")], {"messages": [row.shown() for row in rows]})
    return ExitCode.OK


async def show(session: Session, message: MessageArgument) -> ExitCode:
    """Show one message as it will go out."""
    async with session.engine() as engine:
        row = await engine.desk.row(session.caller, message)
        content = await engine.desk.content(row)
    session.terminal.show(_page(row, content), {**row.shown(), "content": _text(content)})
    return ExitCode.OK


def _text(content: bytes | None) -> str:
    return "" if content is None else content[:SHOWN_BYTES].decode("utf-8", "backslashreplace")


def _page(row: Row, content: bytes | None) -> list[Block]:
    lines: list[Block] = [
        line(row.id, _standing(row)),
        said(f"{'Tool' if is_act(row.message) else 'To'}: {_whom(row)}"),
        said(f"Subject: {row.message.subject}"),
    ]
    lines += [said(row.detail)] if row.detail else []
    return lines + [said(each) for each in _text(content).splitlines()]


async def cancel(session: Session, message: MessageArgument) -> ExitCode:
    """Cancel a message before it goes out."""
    async with session.engine() as engine:
        return _answer(session, await engine.desk.cancel(session.caller, message))


async def send_now(session: Session, message: MessageArgument) -> ExitCode:
    """Send a message at once, also one that was late or could not be sent."""
    async with session.engine() as engine:
        return _sending(session, engine.core.settings, await engine.desk.send_now(session.caller, message))


async def approve(session: Session, message: MessageArgument, *, yes: Yes = False) -> ExitCode:
    """Consent to a correction, which then goes out."""
    async with session.engine() as engine:
        if not yes:
            row = await engine.desk.row(session.caller, message)
            session.terminal.aside(_page(row, await engine.desk.content(row)))
            if (refused := consent(session, "Send this?")) is not None:
                return refused
        return _sending(session, engine.core.settings, await engine.desk.approve(session.caller, message))


async def hold_longer(
    session: Session,
    message: MessageArgument,
    *,
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=30 * 86400, help="How much longer.")] = 3600.0,
) -> ExitCode:
    """Hold a message for longer."""
    async with session.engine() as engine:
        return _sending(session, engine.core.settings, await engine.desk.hold_longer(session.caller, message, seconds))


async def edit(
    session: Session,
    message: MessageArgument,
    *,
    to: Annotated[list[str] | None, typer.Option("--to", help="The recipients instead; repeatable.")] = None,
    cc: Annotated[list[str] | None, typer.Option("--cc", help="The same for Cc.")] = None,
    bcc: Annotated[list[str] | None, typer.Option("--bcc", help="The same for Bcc.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Another subject.")] = None,
    text_file: Annotated[Path | None, typer.Option("--text-file", help="A file with another text, UTF-8.")] = None,
    yes: Yes = False,
) -> ExitCode:
    """Change a message before it goes out: with the options, or without any in your editor. It is held for its window again."""
    from takeback.tools.email.addresses import BadText
    from takeback.tools.email.editing import as_text, edited, from_text

    options = (to, cc, bcc, subject, text_file)
    async with session.engine() as engine:
        desk = engine.desk
        row = await desk.row(session.caller, message)
        letter = await desk.letter(row)
        before = as_text(letter)
        written: str | None = None
        if in_editor := all(option is None for option in options):
            row = await _paused(desk, session, row)
            written = await asyncio.to_thread(in_an_editor, before)
        try:
            if in_editor:
                changed = letter if written is None else from_text(letter, written)
            else:
                body = None if text_file is None else text_file.read_text(encoding="utf-8")
                changed = edited(letter, to=to, cc=cc, bcc=bcc, subject=subject, body=body)
        except BadText as error:
            raise EngineError("invalid", str(error), error.advice) from error
        except (OSError, UnicodeDecodeError) as error:
            raise EngineError("invalid", f"{text_file} cannot be read: {error}.", "Name a file of text.") from error
        after = as_text(changed)
        if changed == letter:
            session.terminal.show([said("Nothing was changed.")], row.shown())
            return ExitCode.OK
        if not yes:
            lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "held", "edited", lineterm="")
            session.terminal.aside([said(each) for each in lines])
            if (refused := consent(session, "Let it go out so?")) is not None:
                return refused
        return _sending(session, engine.core.settings, await desk.edit(session.caller, row, changed))


async def _paused(desk: Desk, session: Session, row: Row) -> Row:
    """Time to write: what is open in an editor does not leave meanwhile."""
    if row.status != "HELD":
        return row
    return await desk.hold_longer(session.caller, row.id, EDITING_SECONDS)


async def settle(
    session: Session,
    message: MessageArgument,
    *,
    sent: Annotated[bool, typer.Option("--sent/--not-sent", help="Whether it went out.")],
) -> ExitCode:
    """Say whether a message went out of which nobody knew. Nothing is sent by that."""
    async with session.engine() as engine:
        return _answer(session, await engine.desk.settle(session.caller, message, sent=sent))


async def run(
    session: Session,
    *,
    given: Annotated[str | None, typer.Option("--settings", hidden=True, help="- reads them as JSON.")] = None,
) -> ExitCode:
    """Send what is due until nothing is held any more. One at a time: a second one ends at once."""
    from takeback.server.engine.sending import send_all
    from takeback.server.web.entering import entry_on_demand

    settings = await handed_settings(session, given)
    ended = await send_all(settings, entry_on_demand(settings))
    words = {
        "nothing_held": "Nothing is held any more.",
        "stopped": "Stopped; what is held stays so.",
        "another": "Another sender is at work on this data directory.",
    }
    session.terminal.show([said(words[ended])], {"ended": ended})
    return ExitCode.OK


def _sending(session: Session, settings: Settings, row: Row) -> ExitCode:
    start_sender(settings)
    return _answer(session, row)


def _answer(session: Session, row: Row) -> ExitCode:
    session.terminal.show([line(row.id, _standing(row), f"{_whom(row)}: {row.message.subject}")], row.shown())
    return ExitCode.OK


def _standing(row: Row) -> str:
    match row.status:
        case "HELD":
            return f"held until {row.release_time}"
        case "WAITING":
            return "correction, waits for your consent"
        case "LATE" | "DEAD":
            return f"{row.status.lower()}, waits for you"
        case _:
            return row.status.lower()


def _whom(row: Row) -> str:
    return ", ".join(row.message.recipients) or row.message.carrier.removeprefix(PREFIX)


class Bare:
    """The group itself as a command: what it does when it is called without one of its own."""

    def __init__(self, group: typer.Typer) -> None:
        self._group = group

    def command(self, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        def register(act: Callable[..., None]) -> Callable[..., None]:
            def bare(context: typer.Context, **given: Any) -> None:
                if context.invoked_subcommand is None:
                    act(**given)

            own = list(inspect.signature(act).parameters.values())
            context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
            bare.__signature__ = inspect.Signature([context, *own])  # type: ignore[attr-defined]  # read by typer
            bare.__annotations__ = {each.name: each.annotation for each in (context, *own)}
            bare.__doc__ = act.__doc__
            self._group.callback(invoke_without_command=True)(bare)
            return act

        return register


def register(app: typer.Typer) -> None:
    """Add the commands of this module, as a group."""
    group = typer.Typer(help="Messages that wait before they leave the machine.")
    command(Bare(group), "outbox")(listing)  # type: ignore[arg-type]  # of a group only this method is used
    command(group, "show")(show)
    command(group, "cancel")(cancel)
    command(group, "send-now")(send_now)
    command(group, "approve")(approve)
    command(group, "hold-longer")(hold_longer)
    command(group, "edit")(edit)
    command(group, "settle")(settle)
    command(group, "run")(run)
    app.add_typer(group, name="outbox")
