"""`takeback install`: into a client's configuration and out of it. The change comes first, then the question."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from takeback.server.cli.blocks import Block, Cell, Diff, Table, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError
from takeback.server.settings import PREFIX

if TYPE_CHECKING:
    from takeback.server.install.change import Page
    from takeback.server.install.clients import Client
    from takeback.server.install.entry import Launcher
    from takeback.server.install.target import Target

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PASSED = {"TAKEBACK_DATA", "TAKEBACK_CONFIG"}
"""Variables of this shell that become options of the server."""


async def install(
    session: Session,
    client: Annotated[
        str | None,
        typer.Argument(
            metavar="CLIENT",
            help="claude-desktop, claude-code, cursor or vscode; sender: what sends held mail at login; without it, a list.",
        ),
    ] = None,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Take it out again.")] = False,
    project: Annotated[
        bool, typer.Option("--project", help="In the configuration of the project in the current folder.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="The client's configuration, if it lies elsewhere.")
    ] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What the client calls the server.")] = "takeback",
    switch_off: Annotated[
        bool | None,
        typer.Option(
            "--switch-off/--keep-others", help="What to do with other file servers of the client; else you are asked."
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check/--no-check", help="Start the server once, as the client will, to see that it answers."),
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the change and stop.")] = False,
) -> ExitCode:
    """Connect a client: write takeback into its configuration, or with --remove take it out again."""
    from takeback.server.install.clients import CLIENTS
    from takeback.server.install.target import Target

    if client is None:
        if remove or project or file or session.roots:
            raise EngineError("usage", "No client is named.", f"Name one of {', '.join(CLIENTS)}.")
        return _list(session, name)
    if client == "sender":
        if project or file or session.roots:
            raise EngineError("usage", "The sender has no project, file or workspace.", "Leave these options out.")
        from takeback.server.cli.login import install_sender

        return install_sender(session, remove=remove, yes=yes, dry_run=dry_run)
    chosen = _client(client)
    if not _NAME.fullmatch(name):
        raise EngineError("usage", f"{name!r} is no name for a server.", "Use letters, digits, - and _.")
    if project and file:
        raise EngineError("usage", "--project and --file exclude each other.", "Choose one of them.")
    target = Target.choose(chosen, name, project=Path.cwd() if project else None, file=file)
    if remove:
        return _remove(session, target, yes=yes, dry_run=dry_run)
    return await _install(
        session, target, project=project, switch_off=switch_off, check=check and not dry_run, yes=yes, dry_run=dry_run
    )


def _client(given: str) -> Client:
    from takeback.server.install.clients import CLIENTS

    for each in CLIENTS:
        if given.lower().replace("_", "-") in (each, each.replace("-", "")):
            return each
    known = ", ".join((*CLIENTS, "sender"))
    raise EngineError("usage", f"takeback install does not know {given!r}.", f"It knows {known}.")


async def _install(
    session: Session,
    target: Target,
    *,
    project: bool,
    switch_off: bool | None,
    check: bool,
    yes: bool,
    dry_run: bool,
) -> ExitCode:
    from takeback.server.install.change import unified
    from takeback.server.install.clients import KINDS
    from takeback.server.install.entry import launcher

    kind = KINDS[target.client]
    terminal = session.terminal
    launched = launcher()
    wanted = _entry(session, target, launched, project=project)
    found, page = target.look()
    say = terminal.aside if terminal.as_json else terminal.show
    off = frozenset[str]()
    if page.others:
        say([*_others(page, kind.title)])
        if switch_off is None and not yes and not dry_run:
            switch_off = terminal.ask(f"Switch {_names(page.others)} off? takeback install --remove switches back on.")
        off = frozenset(page.others) if switch_off else off
    after, _ = page.installed(wanted, off)
    diff = unified(str(found.path), found.text, after)
    told: dict[str, Any] = {
        "client": target.client,
        "file": str(found.path),
        "status": "planned" if diff else "unchanged",
        "entry": wanted,
        "diff": diff,
        "backup": None,
        "other_file_servers": page.others,
        "switched_off": sorted(off),
        "tools": None,
        "next": kind.then,
    }
    hints = _hints(target, launched)
    entry = {**(page.entry or {}), **wanted}
    if not diff:
        blocks: list[Block] = [line(f"takeback is in {found.path} already, just so."), *hints]
        return await _finish(session, blocks, told, entry if check else None)
    shown: list[Block] = [Diff(diff)]
    if target.binary is not None:
        shown.append(said(f"{kind.title} writes the file itself: claude mcp add-json {target.name} …", "faint"))
    if dry_run:
        terminal.show([*shown, *hints, said("Nothing has been written.")], told)
        return ExitCode.OK
    say(shown)
    if not yes and (refused := _consent(session, f"Write this into the configuration of {kind.title}?")) is not None:
        return refused
    written = target.install(found, page, wanted, off)
    told |= {"status": "installed", "backup": str(written.backup) if written.backup else None}
    blocks = [line(Cell("written", "good"), str(written.file))]
    if written.backup:
        blocks.append(line(f"As it was before: {written.backup}", indent=1))
    offer = said("To have held mail sent after a restart even without a chat: takeback install sender", "faint")
    return await _finish(session, [*blocks, *hints, said(kind.then), offer], told, entry if check else None)


async def _finish(
    session: Session, blocks: list[Block], told: dict[str, Any], entry: dict[str, Any] | None
) -> ExitCode:
    """Say what was done, and see whether the server starts from the entry, if there is one to try."""
    from takeback.server.install.check import starts

    if not session.terminal.as_json:
        session.terminal.show(blocks)
    failure: EngineError | None = None
    try:
        told["tools"] = await starts(entry, Path.cwd()) if entry else None
    except EngineError as error:
        failure = error
        told["error"] = {"code": error.code, "message": error.message, "advice": error.advice}
    last: list[Block] = []
    if failure:
        last = [said(failure.message, "bad"), said(failure.advice)]
    elif entry:
        last = [line(Cell("it starts", "good"), f"and offers {told['tools']} tools.")]
    if last or session.terminal.as_json:
        session.terminal.show(last, told)
    return ExitCode.OPEN if failure else ExitCode.OK


def _remove(session: Session, target: Target, *, yes: bool, dry_run: bool) -> ExitCode:
    from takeback.server.install.change import unified
    from takeback.server.install.clients import KINDS

    kind = KINDS[target.client]
    terminal = session.terminal
    found, page = target.look()
    after = page.without()
    diff = unified(str(found.path), found.text, after)
    next_step = f"If {kind.title} is running, start it again."
    back = sorted(name for name in (page.record.off if page.record else {}) if name not in page.servers)
    told: dict[str, Any] = {
        "client": target.client,
        "file": str(found.path),
        "status": "planned" if diff else "unchanged",
        "diff": diff,
        "backup": None,
        "switched_on": back,
        "next": next_step,
    }
    if after == found.text:
        terminal.show([line(f"takeback is not in {found.path}.")], told)
        return ExitCode.OK
    if dry_run:
        terminal.show([Diff(diff), said("Nothing has been written.")], told)
        return ExitCode.OK
    (terminal.aside if terminal.as_json else terminal.show)([Diff(diff)])
    if not yes and (refused := _consent(session, f"Write this into the configuration of {kind.title}?")) is not None:
        return refused
    written = target.remove(found, page)
    told |= {"status": "removed", "backup": str(written.backup) if written.backup else None}
    blocks: list[Block] = [line(Cell("taken out of", "good"), str(written.file))]
    if back:
        blocks.append(line(f"On again: {', '.join(back)}.", indent=1))
    if written.backup:
        blocks.append(line(f"As it was before: {written.backup}", indent=1))
    blocks.append(said(next_step))
    terminal.show(blocks, told)
    return ExitCode.OK


def _entry(session: Session, target: Target, launched: Launcher, *, project: bool) -> dict[str, Any]:
    from takeback.server.install.clients import KINDS
    from takeback.server.install.entry import entry, folders

    roots = session.roots or (() if project else session.loaded().settings.workspace.roots)
    for root in roots:
        if not root.expanduser().is_dir():
            raise EngineError(
                "usage", f"The workspace folder {root} does not exist.", "Create it, or name another one."
            )
    workspaces = folders(roots) or ([KINDS[target.client].here or os.getcwd()] if project else [])
    if not workspaces:
        raise EngineError(
            "usage", "No workspace folder is named.", "Say which folders an agent may touch: --workspace DIR."
        )
    data = session.data or _variable("TAKEBACK_DATA")
    config = session.config or _variable("TAKEBACK_CONFIG")
    if config is not None and not config.expanduser().is_file():
        raise EngineError("usage", f"There is no configuration file {config}.", "Name an existing one, or none.")
    wanted = entry(
        target.client,
        launched,
        workspaces,
        data=folders([data])[0] if data else None,
        config=folders([config])[0] if config else None,
    )
    try:
        str(wanted).encode()
    except UnicodeEncodeError as error:
        raise EngineError(
            "usage", "A path holds bytes that are not UTF-8.", "JSON cannot hold it; rename it."
        ) from error
    return wanted


def _variable(name: str) -> Path | None:
    return Path(os.environ[name]) if os.environ.get(name) else None


def _hints(target: Target, launched: Launcher) -> list[Block]:
    """What a person should know besides."""
    left = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in _PASSED)
    blocks: list[Block] = [said(launched.note, "faint")] if launched.note else []
    if left:
        blocks.append(
            said(f"The client will not know {', '.join(left)} of this shell; set it in the configuration.", "warn")
        )
    for name, title in target.extensions().items():
        advice = (
            "The extension takeback is installed in Claude Desktop too: keep one of the two."
            if name == "takeback"
            else f"The extension {title} of Claude Desktop also writes files, without a journal:"
            " switch it off in Settings, Extensions."
        )
        blocks.append(said(advice, "warn"))
    return blocks


def _others(page: Page, title: str) -> list[Block]:
    blocks: list[Block] = [
        said(f"{name} ({what}) in {title} also writes files, and nothing it does can be taken back.", "warn")
        for name, what in page.others.items()
    ]
    blocks.append(said("With two tools for the same purpose a model takes the wrong one sooner or later.", "warn"))
    return blocks


def _names(names: dict[str, str]) -> str:
    return " and ".join(sorted(names))


def _consent(session: Session, question: str) -> ExitCode | None:
    from takeback.server.cli.acting import consent

    return consent(session, question)


def _list(session: Session, name: str) -> ExitCode:
    from takeback.server.install.clients import CLIENTS, KINDS, project_path
    from takeback.server.install.target import Target

    told: list[dict[str, Any]] = []
    for each in CLIENTS:
        told.append(_state(Target.choose(each, name), "user"))
        path = project_path(each, Path.cwd())
        if path is not None and path.exists() and str(path) != told[-1]["file"]:
            told.append(_state(Target.choose(each, name, project=Path.cwd()), "project"))
    tones = {"installed": "good", "unreadable": "bad", "ready": "plain", "not found": "faint"}
    rows = tuple(
        (
            Cell(KINDS[each["client"]].title + (" (project)" if each["scope"] == "project" else "")),
            Cell(each["state"], tones[each["state"]]),  # type: ignore[arg-type]  # values are tones
            _short(each["file"]),
            ", ".join(map(_short, each["workspaces"])),
            ", ".join(each["other_file_servers"]),
        )
        for each in told
    )
    blocks: list[Block] = [Table(("client", "takeback is", "configuration", "folders", "other file servers"), rows)]
    blocks += [line(Cell("unreadable:", "bad"), each["why"]) for each in told if each["why"]]
    blocks.append(said("To connect one: takeback install CLIENT --workspace DIR", "faint"))
    blocks.append(said("To have held mail sent after a restart, too: takeback install sender", "faint"))
    session.terminal.show(blocks, {"clients": told})
    return ExitCode.OK


def _short(path: str) -> str:
    home = str(Path.home())
    return "~" + path.removeprefix(home) if path.startswith(home + os.sep) else path


def _state(target: Target, scope: str) -> dict[str, Any]:
    from takeback.server.install.entry import workspaces_of

    state, why, folders, others = "not found", "", list[str](), list[str]()
    try:
        _, page = target.look()
        if page.entry is not None:
            state, folders = "installed", workspaces_of(page.entry)
        elif target.present():
            state = "ready"
        others = [*page.others, *(title for id, title in target.extensions().items() if id != "takeback")]
    except (EngineError, OSError) as error:
        state, why = "unreadable", str(error)
    return {
        "client": target.client,
        "scope": scope,
        "state": state,
        "file": str(target.path),
        "workspaces": folders,
        "other_file_servers": others,
        "why": why,
    }


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "install")(install)
