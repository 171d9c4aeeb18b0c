"""`takeback install sender`: lets the sender of the outbox start at login, or with --remove no more. The change comes first."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from takeback.server.cli.acting import consent
from takeback.server.cli.blocks import Block, Cell, Diff, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError

if TYPE_CHECKING:
    from takeback.server.install.login import Autostart

NAME = "sender"
"""What is named in the place of a client; also the record's name."""


def login_sender(session: Session) -> Autostart:
    """What starts the sender of this data directory at login, on this machine."""
    from takeback.server.install.clients import Machine
    from takeback.server.install.entry import folders, launcher
    from takeback.server.install.login import autostart

    launched, here, settings = launcher(), Machine.here(), session.settings()
    [data] = folders([settings.data])
    words = [launched.command, *launched.arguments, "outbox", "run", "--data", data]
    config = session.config or (Path(os.environ["TAKEBACK_CONFIG"]) if os.environ.get("TAKEBACK_CONFIG") else None)
    if config is not None:
        words += ["--config", *folders([config])]
    return autostart(here.platform, here.home, here.environment, words, str(Path(data) / "outbox" / "sender.log"))


def install_sender(session: Session, *, remove: bool, yes: bool, dry_run: bool) -> ExitCode:
    """Write the file that the system starts at login, or take it out again."""
    from takeback.server.install.change import Record, unified
    from takeback.server.install.files import digest, discard, exchange, keep, look
    from takeback.server.install.records import forget, recall, remember

    start = login_sender(session)
    terminal = session.terminal
    found = look(Path(start.path))
    record = recall(found.path, NAME)
    untouched = record is not None and record.after == digest(found.text)
    before = record.before if record is not None and untouched else found.text
    after = (before if untouched else None) if remove else start.text
    diff = unified(str(found.path), found.text, after)
    linked = start.link is None or os.path.lexists(start.link)
    told: dict[str, Any] = {
        "client": NAME,
        "file": str(found.path),
        "status": "unchanged",
        "diff": diff,
        "backup": None,
    }
    if not diff and (remove or linked):
        words = "There is no sender at login." if remove else f"The sender is in {found.path} already, just so."
        terminal.show([said(words)], told)
        return ExitCode.OK
    if dry_run:
        terminal.show([Diff(diff), said("Nothing has been written.")], {**told, "status": "planned"})
        return ExitCode.OK
    (terminal.aside if terminal.as_json else terminal.show)([Diff(diff)])
    question = "Start the sender at login no more?" if remove else f"Let {start.title} start the sender at login?"
    if not yes and (refused := consent(session, question)) is not None:
        return refused
    backup = keep(found) if not untouched else None
    if remove:
        _unlink(start)
        if after is None:
            discard(found, tuple(map(Path, record.folders if record else ())))
        else:
            exchange(found, after)
        forget(found.path, NAME)
    else:
        kept = Record(before=before, after=digest(start.text), folders=record.folders if record else ())
        remember(found.path, NAME, kept)
        if diff:
            made = exchange(found, start.text)
            remember(found.path, NAME, kept.model_copy(update={"folders": (*map(str, made), *kept.folders)}))
        _link(start)
    told |= {"status": "removed" if remove else "installed", "backup": str(backup) if backup else None}
    word = "taken out of" if remove else "written"
    blocks: list[Block] = [line(Cell(word, "good"), str(found.path))]
    if backup:
        blocks.append(line(f"As it was before: {backup}", indent=1))
    if not remove:
        blocks.append(said("It starts at your next login." + (f" Now: {start.now}" if start.now else "")))
        blocks.append(said("It does not know the variables of this shell: keep passwords in the keyring.", "faint"))
    terminal.show(blocks, told)
    return ExitCode.OK


def _link(start: Autostart) -> None:
    if start.link is None:
        return
    link = Path(start.link)
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(link):
            link.symlink_to(Path("..") / start.path.name)
    except OSError as error:
        raise EngineError(
            "failed", f"{link} could not be made: {error.strerror}.", f"systemctl --user enable {start.path.name}"
        ) from error


def _unlink(start: Autostart) -> None:
    if start.link is None:
        return
    link = Path(start.link)
    if link.is_symlink():
        link.unlink()
    with suppress(OSError):  # others have links there
        link.parent.rmdir()
