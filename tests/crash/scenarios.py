"""What is being done when the process dies: small stories over real files, and the worlds that they pass through."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.server.engine.reaper import Died, Reaper, interpose

from takeback.checkpoints.retention import collect
from takeback.checkpoints.store import FileObjectStore
from takeback.server.engine.core import utc_now
from takeback.server.engine.engine import Engine
from takeback.server.settings import ToolSettings

OLD_NS = 1_500_000_000_123_456_789
World = dict[str, list[Any]]


@dataclass
class Told:
    """What a step was answered: `good` if it was done, else nothing may have changed (or, `doubt`, nobody knows)."""

    good: bool
    doubt: bool = False
    actions: list[str] = field(default_factory=lambda: list[str]())
    rollback: str | None = None
    words: str = ""


class Story:
    """A world, one run, and what is done in it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.run = ""
        self.rollback: str | None = None


Step = Callable[[Story], Awaitable[Told]]


def call(tool: str, **arguments: Any) -> Step:
    async def step(story: Story) -> Told:
        answer = await story.bench.call(tool, story.run, **arguments)
        words = answer.error.message if answer.error else ""
        return Told(answer.status == "applied", answer.status == "in_doubt", [str(answer.action_id)], words=words)

    return step


async def take_back(story: Story) -> Told:
    answer = await story.bench.back(run_id=story.run)
    story.rollback = answer.rollback_id
    return Told(answer.status == "complete", doubt=True, rollback=answer.rollback_id, words=answer.report)


async def bring_back(story: Story) -> Told:
    answer = await story.bench.engine.redo(ALICE, str(story.rollback))
    return Told(answer.status == "complete", doubt=True, rollback=answer.rollback_id, words=answer.report)


async def collect_garbage(story: Story) -> Told:
    core = story.bench.engine.core
    assert isinstance(core.objects, FileObjectStore)
    found = await collect(
        core.journal,
        core.objects,
        tuple(core.systems.values()),
        now=utc_now() + timedelta(days=DAYS),
        keep_days=30,
        grace_seconds=-3600,
    )
    return Told(not found.problems, words="; ".join(found.problems))


async def open_anew(story: Story) -> Told:
    """The next process: what the dead one left is settled and finished."""
    await story.bench.engine.close()
    story.bench = await open_bench(story.bench.work.parent)
    return Told(True)


DAYS = 400
LARGE = "".join(f"line {number} of a file that is too large for the journal's database\n" for number in range(700))


@dataclass(frozen=True)
class Scenario:
    """`prepare` is not disturbed; each step is."""

    steps: tuple[Step, ...]
    prepare: Callable[[Story], Awaitable[None]] | None = None
    portable: bool = False
    days: int = 0
    """By how much the clock has moved when it is checked."""
    back_to: int = 0
    """Index of the world to which taking the run back leads: the planted one, or a later."""


def plant(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    (work / "d" / "sub").mkdir(parents=True)
    (work / "large.txt").write_text(LARGE)
    for name in ("a.txt", "b.txt", "d/f", "d/sub/g"):
        (work / name).write_text(f"one {name}\n")
    (work / "linked").write_text("two names\n" * 900)
    os.link(work / "linked", work / "hard")
    (work / "link").symlink_to("a.txt")
    for path in work.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, ns=(OLD_NS, OLD_NS))


async def open_bench(folder: Path, *, portable: bool = False) -> Bench:
    settings = settings_for(folder, tools=ToolSettings(), portable_files=portable)
    engine = await Engine.open(settings)
    engine.core.retry_pauses = ()
    return Bench(engine, folder / "work")


def world(work: Path, *, links: bool = True) -> World:
    """Everything that a person would see; the times of files that are as they were planted are part of it.

    :param links: count the names of each file too. Where a rename is a link and an unlink, a power cut may leave a second
        name in the trash, until the file is changed again or the trash is collected.
    """
    told: World = {}
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work).as_posix()
        if name.split("/")[0] == ".takeback":
            continue
        there = path.lstat()
        facts: list[Any] = [stat.filemode(there.st_mode)]
        if stat.S_ISREG(there.st_mode):
            facts += [
                hashlib.sha256(path.read_bytes()).hexdigest(),
                there.st_nlink if links else 0,
                there.st_mtime_ns == OLD_NS,
            ]
        elif stat.S_ISLNK(there.st_mode):
            facts.append(os.readlink(path))
        told[name] = facts
    return told


async def _half_rolled_back(story: Story) -> None:
    """A run whose rollback a first process began, and died in the middle of."""
    for step in OVERWRITE[:2]:
        assert (await step(story)).good
    await story.bench.done("delete_file", story.run, path="d", recursive=True)
    first = await open_bench(story.bench.work.parent)
    reaper = Reaper(9)
    interpose(first.engine.core, reaper)
    with contextlib.suppress(Died, BaseExceptionGroup):
        await first.back(run_id=story.run)
    assert reaper.dead
    reaper.dead = False
    await first.engine.close()


async def _with_an_old_run(story: Story) -> None:
    """A finished run whose images nobody needs any more, and a live one that needs its own."""
    old = await story.bench.start("long ago")
    for number in range(3):
        await story.bench.done("write_file", old, path="large.txt", content=LARGE + f"{number}\n")
        await story.bench.done("write_file", old, path=f"old {number}", content="x" * 100)
        await story.bench.done("write_file", old, path="hard", content="y" * 50_000 + f"{number}")
    await story.bench.engine.finish_run(ALICE, old)
    await story.bench.done("write_file", story.run, path="large.txt", content="short")
    await story.bench.done("write_file", story.run, path="hard", content="z" * 60_000)
    await story.bench.done("delete_file", story.run, path="d", recursive=True)


OVERWRITE: tuple[Step, ...] = (
    call("write_file", path="a.txt", content="two\n" * 3000),
    call("write_file", path="x/y/z.txt", content="new\n"),
    call("write_file", path="hard", content="in place\n" * 1500),
    call("edit_file", path="large.txt", edits=[{"old_text": "line 7 of", "new_text": "LINE 7 OF"}]),
)

SCENARIOS: dict[str, Scenario] = {
    "overwrite": Scenario(OVERWRITE),
    "overwrite, portable": Scenario(OVERWRITE, portable=True),
    "tree and back": Scenario((
        call("delete_file", path="d", recursive=True),
        call("move_file", source="a.txt", destination="b.txt", overwrite=True),
        take_back,
        bring_back,
    )),
    "collect": Scenario((collect_garbage, take_back), prepare=_with_an_old_run, days=DAYS, back_to=-1),
    "recovery": Scenario((open_anew,), prepare=_half_rolled_back),
}  # fmt: skip
