"""`takeback doctor`: what is configured, in which state the data directory is, and what is open. Changes nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from takeback.journal.log import JournalError
from takeback.journal.schema import WAL_RESET_SAFE
from takeback.journal.views import ActionView, RunView
from takeback.server.cli import render
from takeback.server.cli.blocks import Block, Cell, Table, line, said
from takeback.server.cli.codes import ExitCode
from takeback.server.cli.commands import in_commands
from takeback.server.cli.doctor_outbox import examine_outbox
from takeback.server.cli.failures import explain
from takeback.server.cli.session import Session
from takeback.server.engine.engine import Engine
from takeback.server.engine.open import anchor_file, key_file
from takeback.server.notices.settings import channel_names
from takeback.server.settings import Loaded, Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should know or mend."""

    level: str
    """`note`: good to know. `open`: to be settled. `broken`: the journal cannot be used."""
    fact: str
    advice: str = ""


@dataclass
class Report:
    """What was found, by heading."""

    facts: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: dict[str, list[tuple[str, str]]]())
    settings: list[tuple[str, str, str]] = field(default_factory=lambda: list[tuple[str, str, str]]())
    """Key, value, where it came from."""
    findings: list[Finding] = field(default_factory=lambda: list[Finding]())

    @property
    def code(self) -> ExitCode:
        """The worst that was found."""
        levels = {finding.level for finding in self.findings}
        return ExitCode.DAMAGED if "broken" in levels else ExitCode.OPEN if "open" in levels else ExitCode.OK

    def blocks(self) -> list[Block]:
        """For people."""
        blocks: list[Block] = []
        for title, pairs in self.facts.items():
            blocks += render.facts(title, pairs)
        rows = tuple(
            (key, value, Cell(origin, "faint" if origin == "default" else "plain"))
            for key, value, origin in self.settings
        )
        blocks.append(Table(("setting", "value", "from"), rows, title="Configuration"))
        tones = {"note": "faint", "open": "warn", "broken": "bad"}
        for finding in self.findings:
            blocks.append(line(Cell(f"{finding.level}:", tones[finding.level]), finding.fact))  # type: ignore[arg-type]  # values are tones
            if finding.advice:
                blocks.append(line(finding.advice, indent=1))
        if self.code is ExitCode.OK:
            blocks.append(said("All is well.", "good"))
        return blocks

    def value(self) -> dict[str, object]:
        """For programs."""
        return {
            "sound": self.code is ExitCode.OK,
            "facts": {title: dict(pairs) for title, pairs in self.facts.items()},
            "settings": {key: {"value": value, "from": origin} for key, value, origin in self.settings},
            "findings": [{"level": each.level, "fact": each.fact, "advice": each.advice} for each in self.findings],
        }


async def examine(session: Session) -> Report:
    """Look at everything, also when the journal cannot be opened.

    :raises SettingsError: the configuration itself is broken; then that is the diagnosis.
    """
    report = Report()
    loaded = session.loaded()
    settings = session.settings()
    _programs(report)
    _configuration(report, loaded, settings)
    _data(report, settings)
    _keys(report, settings)
    _workspace(report, settings)
    if settings.data.is_dir():
        try:
            async with session.engine() as engine:
                await _journal(session, report, engine)
                await examine_outbox(session, report, engine)
        except Exception as error:  # whatever keeps the journal shut is what the doctor is asked about
            failure = explain(error)
            fact, advice = (failure.message, failure.advice) if failure else (str(error), "")
            level = "broken" if isinstance(error, JournalError) else "open"
            report.findings.append(Finding(level, fact, advice))
    else:
        report.findings.append(
            Finding("note", f"There is no journal in {settings.data} yet.", "It is made by the first takeback serve.")
        )
    return report


def _programs(report: Report) -> None:
    report.facts["Versions"] = [
        ("takeback", version("takeback")),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.release()}"),
        ("mcp", version("mcp")),
        ("SQLite", sqlite3.sqlite_version),
    ]
    if sqlite3.sqlite_version_info < WAL_RESET_SAFE:
        report.findings.append(
            Finding(
                "note",
                f"SQLite {sqlite3.sqlite_version} can lose a commit when one process writes while another resets the"
                " write-ahead log; takeback keeps them apart by a lock of its own.",
                "Nothing needs to be done; from SQLite 3.51.3 on the lock is not needed.",
            )
        )


def _configuration(report: Report, loaded: Loaded, settings: Settings) -> None:
    values = settings.model_dump(mode="json")
    for key, origin in loaded.origins.items():
        value: Any = values
        for part in key.split("."):
            value = value[part]
        if key == "workspace.roots" and set(settings.workspace.roots) - set(loaded.settings.workspace.roots):
            origin = "servers started on this data directory"
        if key == "notify.urls":  # an address may have a token in it
            value = channel_names(settings.notify)[: len(settings.notify.urls)]
        if key == "audit.url" and value:
            value = "/".join(str(value).split("/")[:3]) + "/…"
        # of a family's own settings only the names: what they are set to may be private
        several = isinstance(value, list | dict)
        words = ", ".join(map(str, cast("list[Any]", value))) if several else "" if value is None else str(value)
        report.settings.append((key, words, origin))
    report.facts["Files"] = [("configuration", str(loaded.file) if loaded.file else "none")]
    report.findings += [
        Finding("note", f"The environment variable {name} means nothing to takeback.", "Correct or remove it.")
        for name in loaded.unknown_variables
    ]


def _data(report: Report, settings: Settings) -> None:
    data = settings.data
    pairs = [("data directory", str(data))]
    if data.is_dir():
        pairs += [(f"  {name}", render.size(size)) for name, size in sorted(_sizes(data).items()) if size]
        free = os.statvfs(data) if hasattr(os, "statvfs") else None
        if free is not None:
            left = free.f_bavail * free.f_frsize
            pairs.append(("free on that disk", render.size(left)))
            if left < settings.limits.ballast_bytes:
                report.findings.append(
                    Finding(
                        "open", "The disk is nearly full; new acts will be refused.", "Free space, or run takeback gc."
                    )
                )
        if os.name == "posix" and stat.S_IMODE(data.stat().st_mode) & 0o077:
            report.findings.append(Finding("open", f"Others may read the data directory {data}.", f"chmod 700 {data}"))
        ballast = next((path for path in (data / "ballast", data / "objects" / "ballast") if path.exists()), None)
        pairs.append(("ballast for a full disk", "there" if ballast else "not there"))
    report.facts["Files"] += pairs


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes below each entry, as they lie on disk."""

    def below(path: str) -> Iterator[int]:
        for inner, _, files in os.walk(path):
            for name in files:
                info = os.lstat(os.path.join(inner, name))
                yield getattr(info, "st_blocks", info.st_size // 512) * 512

    sizes: dict[str, int] = {}
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            sizes[f"{entry.name}/"] = sum(below(entry.path))
        else:
            sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
    return sizes


def _keys(report: Report, settings: Settings) -> None:
    key, anchors = key_file(settings), anchor_file(settings)
    report.facts["Files"] += [
        ("key of the chain", f"{key} ({'there' if key.exists() else 'not made yet'})"),
        ("anchors", f"{anchors} ({'there' if anchors.exists() else 'not made yet'})"),
    ]
    if key.exists() and os.name == "posix" and stat.S_IMODE(key.stat().st_mode) & 0o077:
        report.findings.append(Finding("open", f"Others may read the key {key}.", f"chmod 600 {key}"))
    if settings.data in key.parents:
        report.findings.append(
            Finding(
                "open",
                "The key lies in the data directory, so whoever can change the journal can also sign it.",
                "Name another place with TAKEBACK_KEY_FILE, and move the file there.",
            )
        )


def _workspace(report: Report, settings: Settings) -> None:
    pairs: list[tuple[str, str]] = []
    for root in settings.workspace.roots:
        words = file_engine(root, settings) if root.is_dir() else "does not exist"
        pairs.append((str(root), words))
        if not root.is_dir():
            report.findings.append(
                Finding("open", f"The workspace {root} does not exist.", "Create it, or configure another.")
            )
    report.facts["Workspace"] = pairs or [("folders", "none")]


def file_engine(root: Path, settings: Settings) -> str:
    """Which way files are exchanged in this folder, and what therefore cannot be restored exactly there."""
    from takeback.tools.files.choosing import choose_calls

    probe = settings.data if settings.data.is_dir() else Path(tempfile.gettempdir())
    calls = choose_calls(os.fsencode(probe), [os.fsencode(root)], portable=settings.portable_files)
    same = os.stat(root).st_dev == os.stat(probe).st_dev
    words = f"originals are kept {'in the data directory' if same else 'in .takeback at the top of that disk'}"
    if calls.one_step:
        return f"fast; names are exchanged in one step, {words}"
    chosen = " (configured so)" if settings.portable_files else ""
    lost = "" if sys.platform == "linux" else "Owners and birth times come back as far as the system allows."
    step = "the name of a file is absent for an instant while it is exchanged"
    return " ".join(filter(None, (f"portable{chosen}; {step}, {words}.", calls.window, lost)))


async def _journal(session: Session, report: Report, engine: Engine) -> None:
    journal = engine.core.journal
    runs = [run for run in await journal.find(RunView) if engine.core.may_see(session.caller, run)]
    usage = await engine.core.objects.usage()
    live = [run for run in runs if run.status in ("open", "stalled", "sealed", "contained", "quarantined")]
    report.facts["Journal"] = [
        ("events", f"{await journal.position():,}"),
        ("your runs", f"{len(runs):,}, {len(live):,} of them not ended"),
        ("stored objects", f"{usage.objects:,} in {render.size(usage.stored_bytes)}"),
        ("tools", ", ".join(engine.core.tools)),
    ]
    for thing in await engine.everything_open(session.caller):
        report.findings.append(Finding("open", f"{thing.item_id}: {thing.why}", in_commands(thing.next_step)))
    report.findings += _streams(engine)
    for action in await journal.find(ActionView, status="intended"):
        report.findings.append(
            Finding(
                "open",
                f"Nobody knows yet whether {action.id} ({action.tool}) took effect, unless it is at work just now.",
                "takeback serve and takeback rollback look and settle it.",
            )
        )
    for hold in (await engine.contained(session.caller))[1]:
        words = f"The {hold.kind} {hold.name} is {hold.level}: {hold.reason}."
        report.findings.append(Finding("open", words, f"takeback release --{hold.kind} {hold.name}"))
    for run in live:
        if run.status in ("contained", "quarantined", "stalled", "sealed"):
            report.findings.append(
                Finding("open", f"Run {run.id} is {run.status}: {run.why or run.goal}.", f"takeback show {run.id}")
            )


def _streams(engine: Engine) -> Iterator[Finding]:
    if not engine.core.settings.audit.configured:
        return
    from takeback.server.audit.auditor import standing

    for sink in standing(engine.core):
        if sink.get("failed"):
            yield Finding(
                "open",
                f"The audit stream to the {sink['sink']} has stood still since {sink['since']}: {sink['failed']}.",
                "Remove the cause; nothing is skipped, and it goes on by itself.",
            )
