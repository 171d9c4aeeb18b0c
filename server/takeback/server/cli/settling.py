"""Commands of a person who decides: conflicts, resolve, approvals, approve, deny."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from takeback.journal.views import ApprovalView, OpenItem, RunView
from takeback.server.cli import render
from takeback.server.cli.acting import LANE, Yes, consent, outcome
from takeback.server.cli.blocks import line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.engine.answers import ApprovalInfo, EngineError
from takeback.server.engine.engine import Engine

ApprovalArgument = Annotated[
    str, typer.Argument(metavar="APPROVAL", help="An approval, by its id or first characters.")
]


async def conflicts(
    session: Session, run: Annotated[str | None, typer.Argument(metavar="RUN", help="Only those of this run.")] = None
) -> ExitCode:
    """List what is open: conflicts, undo steps that failed, acts nobody knows the outcome of."""
    async with session.engine() as engine:
        run_id = await session.id(engine, RunView, run) if run else None
        items = [item for item in await engine.open_items(session.caller, run_id=run_id) if item.status == "open"]
    session.terminal.show(render.open_items(items), {"open_items": items})
    return ExitCode.OPEN if items else ExitCode.OK


async def resolve(
    session: Session,
    conflict: Annotated[str, typer.Argument(metavar="ID", help="An open item, by its id or first characters.")],
    *,
    keep: Annotated[
        Literal["theirs", "ours", "beside"] | None,
        typer.Option(
            "--keep", help="theirs: what is there; ours: the earlier version; beside: both, the earlier one next to it."
        ),
    ] = None,
    content: Annotated[
        str | None,
        typer.Option("--content", metavar="FILE", help="Put this file's content there; - reads standard input."),
    ] = None,
) -> ExitCode:
    """Settle a conflict; without a choice, show its three versions."""
    if keep and content:
        raise EngineError("usage", "--keep and --content exclude each other.", "Choose one of them.")
    async with session.engine(recover=keep is not None or content is not None) as engine:
        conflict_id = await session.id(engine, OpenItem, conflict)
        if content is not None:
            answer = await engine.resolve_conflict(session.caller, conflict_id, "content", content=_content(content))
            return outcome(session, answer)
        if keep is not None:
            return outcome(session, await engine.resolve_conflict(session.caller, conflict_id, keep))
        items = [item for item in await engine.open_items(session.caller) if item.conflict_id == conflict_id]
        if not items:
            raise EngineError("not_found", f"There is no open item {conflict!r}.", "takeback conflicts lists them.")
        versions = await engine.conflict_versions(session.caller, conflict_id)
    told = {name: None if each is None else _encoded(each) for name, each in versions.items()}
    session.terminal.show(render.conflict(items[0], versions), {**items[0].model_dump(), "versions": told})
    return ExitCode.OPEN


def _content(file: str) -> str:
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EngineError(
            "usage", f"{file} is not UTF-8 text.", "Write the file yourself, then --keep theirs."
        ) from error


def _encoded(content: bytes) -> dict[str, str]:
    try:
        return {"encoding": "utf-8", "content": content.decode("utf-8")}
    except UnicodeDecodeError:
        return {"encoding": "base64", "content": base64.b64encode(content).decode("ascii")}


async def approvals(
    session: Session, *, everything: Annotated[bool, typer.Option("--all", help="Also those that are settled.")] = False
) -> ExitCode:
    """List the questions that wait for a person."""
    async with session.engine() as engine:
        asked = await engine.approvals(session.caller, status=None if everything else "requested")
    session.terminal.show(render.approvals(asked), {"approvals": list(asked)})
    return ExitCode.OK


async def approve(session: Session, approval: ApprovalArgument, *, yes: Yes = False) -> ExitCode:
    """Consent to one exact act. Its caller then repeats the call; the consent is spent by that."""
    async with session.engine() as engine:
        asked = await _asked(session, engine, approval)
        if not yes and not asked.why:
            session.terminal.aside(render.approval(asked))
            if (refused := consent(session, "Consent?")) is not None:
                return refused
        answer = await engine.approve(session.caller, asked.approval_id, lane=LANE)
    session.terminal.show([line("approved", answer.approval_id), said("The caller may repeat the call now.")], answer)
    return ExitCode.OK


async def deny(session: Session, approval: ApprovalArgument) -> ExitCode:
    """Refuse one exact act."""
    async with session.engine() as engine:
        asked = await _asked(session, engine, approval)
        answer = await engine.deny(session.caller, asked.approval_id, lane=LANE)
    session.terminal.show([line("denied", answer.approval_id)], answer)
    return ExitCode.OK


async def _asked(session: Session, engine: Engine, given: str) -> ApprovalInfo:
    approval_id = await session.id(engine, ApprovalView, given)
    for each in await engine.approvals(session.caller, status=None):
        if each.approval_id == approval_id:
            return each
    raise EngineError("not_found", f"There is no approval {given!r}.", "takeback approvals --all lists them.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "conflicts")(conflicts)
    command(app, "resolve")(resolve)
    command(app, "approvals")(approvals)
    command(app, "approve")(approve)
    command(app, "deny")(deny)
