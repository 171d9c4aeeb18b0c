"""Commands of care: verify, gc, export, stats, doctor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from takeback.checkpoints.store import FileObjectStore
from takeback.journal.views import RunView
from takeback.server.cli import render
from takeback.server.cli.blocks import Block, Cell, Id, Table, line, said, short
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.command import command
from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError

_SHOWN_PROBLEMS = 50


async def verify(
    session: Session,
    *,
    objects: Annotated[bool, typer.Option("--objects", help="Also reread every stored object.")] = False,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="FILE", help="Verify an exported bundle instead of the journal.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="With --bundle: the key file, to verify the chain too.")
    ] = None,
) -> ExitCode:
    """Prove that the journal is as it was written."""
    if bundle is not None:
        return _verify_bundle(session, bundle, key)
    from takeback.checkpoints.retention import ObjectProblem, verify_objects

    damaged: list[ObjectProblem] = []
    async with session.engine() as engine:
        core = engine.core
        async with session.terminal.progress("verifying the journal"):
            found = await core.journal.verify()
        if objects:
            async with session.terminal.progress("rereading objects") as progress:
                damaged = await verify_objects(
                    core.journal, core.objects, progress, now=core.now(), keep_days=core.settings.limits.keep_days
                )
    blocks: list[Block] = [
        line(f"{render.count(found.events, 'event')} in {render.count(found.runs, 'run')}; {found.erased:,} erased."),
    ]
    if found.problems:
        rows = tuple(
            (
                Cell(each.kind, "bad"),
                Id(each.run_id or ""),
                "" if each.position is None else str(each.position),
                each.detail,
            )
            for each in found.problems[:_SHOWN_PROBLEMS]
        )
        blocks.append(Table(("problem", "run", "position", "what"), rows))
    if damaged:
        lost = tuple(
            (Cell(each.kind, "bad"), each.name, Id(each.needed_by), each.detail) for each in damaged[:_SHOWN_PROBLEMS]
        )
        blocks.append(Table(("object", "name", "needed by", "what"), lost))
    blocks.append(
        said("The journal is sound.", "good")
        if found.sound
        else said(f"The journal is not sound: {render.count(len(found.problems), 'problem')}.", "bad")
    )
    if objects:
        blocks.append(
            said(f"The stored objects are not: {render.count(len(damaged), 'problem')}.", "bad")
            if damaged
            else said("The stored objects are sound.", "good")
        )
    value = {
        "sound": found.sound and not damaged,
        "events": found.events,
        "runs": found.runs,
        "erased": found.erased,
        "problems": [
            {"kind": each.kind, "run_id": each.run_id, "position": each.position, "detail": each.detail}
            for each in found.problems
        ],
        "objects": [
            {"kind": each.kind, "name": each.name, "needed_by": each.needed_by, "detail": each.detail}
            for each in damaged
        ],
    }
    session.terminal.show(blocks, value)
    if not found.sound:
        return ExitCode.DAMAGED
    return ExitCode.OPEN if damaged else ExitCode.OK


def _verify_bundle(session: Session, bundle: Path, key: Path | None) -> ExitCode:
    from takeback.server.engine.export import verify_bundle

    if not bundle.is_file():
        raise EngineError("not_found", f"There is no file {bundle}.", "takeback export RUN makes a bundle.")
    problems = verify_bundle(bundle, key)
    blocks: list[Block] = [said(problem, "bad") for problem in problems[:_SHOWN_PROBLEMS]]
    if problems:
        blocks.append(said(f"The bundle is not sound: {render.count(len(problems), 'problem')}.", "bad"))
    elif key is None:
        blocks.append(said("The bundle is whole. With --key FILE the chain of its events is verified too.", "good"))
    else:
        blocks.append(said("The bundle is whole, and its chain is sound.", "good"))
    session.terminal.show(blocks, {"sound": not problems, "chain_verified": key is not None, "problems": problems})
    return ExitCode.DAMAGED if problems else ExitCode.OK


async def export(
    session: Session,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, by its id or first characters.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The bundle; by default RUN.zip here.")
    ] = None,
) -> ExitCode:
    """Write a run's evidence into one file that others can verify."""
    from takeback.server.engine.export import export_run

    async with session.engine() as engine:
        run_id = await session.id(engine, RunView, run)
        async with session.terminal.progress("exporting"):
            path = await export_run(engine.core, session.caller, run_id, output or Path(f"{short(run_id)}.zip"))
    blocks = [line("wrote", str(path)), line(Cell("To verify it: takeback verify --bundle", "faint"), str(path))]
    session.terminal.show(blocks, {"run_id": run_id, "bundle": str(path)})
    return ExitCode.OK


async def gc(
    session: Session,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and stop.")] = False,
) -> ExitCode:
    """Destroy stored images that nothing needs any more and that are old enough."""
    from takeback.checkpoints.retention import collect

    async with session.engine(recover=not dry_run) as engine:
        core = engine.core
        if not isinstance(core.objects, FileObjectStore):
            raise EngineError(
                "not_offered", "These objects are not kept in files.", "Collect them where they are kept."
            )
        async with session.terminal.progress("collecting") as progress:
            done = await collect(
                core.journal,
                core.objects,
                list(core.systems.values()),
                now=core.now(),
                keep_days=core.settings.limits.keep_days,
                dry_run=dry_run,
                progress=progress,
            )
    verb = "Would free" if dry_run else "Freed"
    blocks: list[Block] = [
        line(f"{verb} {render.size(done.bytes)} in {render.count(done.objects, 'stored object')}; {done.kept:,} stay."),
    ]
    if not dry_run:
        blocks.append(line(f"Freed {render.size(done.trash_bytes)} of trash."))
    blocks += [said(problem, "bad") for problem in done.problems]
    value = {
        "dry_run": dry_run,
        "objects": done.objects,
        "bytes": done.bytes,
        "trash_bytes": done.trash_bytes,
        "temporary": done.temporary,
        "kept": done.kept,
        "problems": list(done.problems),
    }
    session.terminal.show(blocks, value)
    return ExitCode.OPEN if done.problems else ExitCode.OK


async def stats(
    session: Session,
    *,
    since: Annotated[
        str | None, typer.Option("--since", metavar="T", help="Only what began since: 2h, 3d, or 2026-11-20T09:00Z.")
    ] = None,
) -> ExitCode:
    """Count what was done, what failed, what was taken back, and how long that took."""
    from takeback.server.cli.times import moment
    from takeback.server.engine.pages import time_of
    from takeback.server.engine.stats import stats as counted

    async with session.engine() as engine:
        begun = time_of(moment(since), engine.core.now()) if since else None
        found = await counted(engine.core, begun)
    blocks: list[Block] = []
    for title, part in found.items():
        pairs = list(_flat(part))
        blocks += (
            render.facts(title, pairs)
            if isinstance(part, dict)
            else [line(f"{title}:", *(value for _, value in pairs))]
        )
    session.terminal.show(blocks, found)
    return ExitCode.OK


def _flat(part: JsonValue, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        for name, value in part.items():
            yield from _flat(value, f"{prefix} {name}".strip())
    else:
        yield prefix, "–" if part is None else f"{part:,}" if isinstance(part, int) else str(part)


async def doctor(session: Session) -> ExitCode:
    """Show the configuration, the state of the data directory, and what is open."""
    from takeback.server.cli.doctor import examine

    report = await examine(session)
    session.terminal.show(report.blocks(), report.value())
    return report.code


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    command(app, "verify")(verify)
    command(app, "gc")(gc)
    command(app, "export")(export)
    command(app, "stats")(stats)
    command(app, "doctor")(doctor)
