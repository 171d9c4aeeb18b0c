"""What keeping and taking back cost, without a transport: checkpoints, rollbacks, recovery. Prints one JSON document.

Beside them, in the same run and on the same disk: git as a shadow repository, which is how coding agents keep checkpoints, and
what plain Python needs for the same bytes.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiosqlite
from _setting import QUICK, Row, finish, median, say, scaled, scratch

import takeback.tools.memory
from takeback.journal.events import ActionIntended, BaseEvent, Caller, CheckpointNamed
from takeback.journal.ids import new_action_id, new_checkpoint_id
from takeback.journal.states import Compensation
from takeback.server.engine.answers import CallAnswer
from takeback.server.engine.calls import Call
from takeback.server.engine.engine import Engine
from takeback.server.engine.gather import observe
from takeback.server.engine.plan import Observations, plan_rollback
from takeback.server.engine.select import wish_for_rollback
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import LimitSettings, Settings, ToolSettings, WorkspaceSettings
from takeback.tools.files.system import FileSystem

CALLER = Caller(principal="benchmark", client="benchmark")
GIT = ["-c", "user.name=b", "-c", "user.email=b@localhost", "-c", "gc.auto=0"]
MIB = 1024 * 1024


def settings(folder: Path, **more: object) -> Settings:
    """Of an engine of its own below the folder."""
    (folder / "work").mkdir(parents=True, exist_ok=True)
    return Settings.model_validate(
        {
            "data": folder / "data",
            "workspace": WorkspaceSettings(roots=(folder / "work",)),
            "key_file": folder / "key" / "journal.json",
            "anchor_file": folder / "key" / "anchors",
            "triggers": TriggerSettings.off(),  # they count all the same
            "limits": LimitSettings(trash_bytes=64 * 1024 * MIB, store_bytes=64 * 1024 * MIB),
            **more,
        }
    )


@asynccontextmanager
async def engine(folder: Path, **more: object) -> AsyncGenerator[Engine, None]:
    """An open engine."""
    opened = await Engine.open(settings(folder, **more))
    try:
        yield opened
    finally:
        await opened.close()


class Agent:
    """Calls tools in one run."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        self.engine, self.run_id = engine, run_id

    @classmethod
    async def start(cls, engine: Engine) -> Agent:
        """Begin a run."""
        return cls(engine, (await engine.start_run(CALLER, "measure")).run_id)

    async def do(self, tool: str, **arguments: object) -> CallAnswer:
        """One call that must be done."""
        call = Call(tool=tool, arguments=arguments, caller=CALLER, run_id=self.run_id)  # type: ignore[arg-type] -- JSON
        answer = await self.engine.call(call)
        if answer.status != "applied":
            raise SystemExit(f"{tool} was not done: {answer.error}")
        return answer

    async def take_back(self, actions: Sequence[str] = ()) -> float:
        """Take back the run, or these actions; seconds."""
        begin = time.perf_counter()
        wish = {"actions": list(actions)} if actions else {"run_id": self.run_id}
        answer = await self.engine.rollback(CALLER, **wish)  # type: ignore[arg-type] -- JSON
        took = time.perf_counter() - begin
        if answer.status != "complete":
            raise SystemExit(f"The rollback is {answer.status}: {answer.report[:2000]}")
        return took


def populate(root: Path, number: int) -> list[str]:
    """So many small files, a hundred to a folder."""
    names: list[str] = []
    for index in range(number):
        if index % 100 == 0:
            (root / f"d{index // 100:04d}").mkdir(parents=True)
        name = f"d{index // 100:04d}/f{index:06d}.txt"
        (root / name).write_text(f"{index}\n" + "some line of text\n" * 10)
        names.append(name)
    return names


class ShadowGit:
    """A repository beside the workspace, committed to after every edit."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self._base = ["git", f"--git-dir={folder}", f"--work-tree={root}", *GIT]
        self.run("init", "-q")
        self.run("config", "core.untrackedCache", "true")

    def run(self, *arguments: str) -> float:
        """Seconds of one command."""
        begin = time.perf_counter()
        subprocess.run([*self._base, *arguments], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin

    def checkpoint(self) -> float:
        """Everything as it is now."""
        return self.run("add", "-A") + self.run("commit", "-q", "--allow-empty", "-m", "checkpoint")


def used(folder: Path) -> int:
    """Bytes that a folder takes up on the disk."""
    blocks = 0
    for base, folders, files in os.walk(folder):
        blocks += sum(os.lstat(os.path.join(base, name)).st_blocks for name in [*folders, *files])
    return blocks * 512


# -- checkpoints -----------------------------------------------------------------------------------------------------------


async def checkpoints(folder: Path) -> list[Row]:
    """One edit and its checkpoint, in workspaces of different sizes in turn; and taking back a hundred in the largest."""
    sizes = [100, scaled(10_000, 1_000), scaled(100_000, 10_000, "BENCH_FILES")]
    rounds = scaled(60, 30)
    rows: list[Row] = []
    first: dict[int, float] = {}
    ours: dict[int, list[float]] = {size: [] for size in sizes}
    gits: dict[int, list[float]] = {size: [] for size in sizes}
    names: dict[int, list[str]] = {}
    async with AsyncExitStack() as stack:
        agents: dict[int, Agent] = {}
        shadows: dict[int, ShadowGit] = {}
        for size in sizes:
            say(f"undo: a workspace of {size:,} files")
            here = folder / f"of-{size}"
            (here / "work").mkdir(parents=True)
            names[size] = populate(here / "work", size)
            shadows[size] = ShadowGit(here / "shadow", here / "work")
            first[size] = shadows[size].checkpoint()
            agents[size] = await Agent.start(await stack.enter_async_context(engine(here)))
        say("undo: edits in each, in turn")
        for number in range(rounds):
            for size in sizes:
                name = names[size][number * 7919 % size]
                begin = time.perf_counter()
                await agents[size].do("write_file", path=name, content=f"edit {number}\n" * 20)
                ours[size].append(time.perf_counter() - begin)
        large = sizes[-1]
        root = folder / f"of-{large}" / "work"
        rows.append(await hundred_back(agents[large].engine, root, names[large], shadows[large]))
        for size in sizes:
            root = folder / f"of-{size}" / "work"
            for number in range(8):
                (root / names[size][number]).write_text(f"another {number}\n" * 20)
                gits[size].append(shadows[size].checkpoint())
    for size in sizes:
        shutil.rmtree(folder / f"of-{size}")
        ours_ms, git_ms = median(ours[size]), median(gits[size])
        rows.append(
            Row(
                f"checkpoint of one edit, {size:,} files", git_ms / ours_ms, "× cheaper", None, "shadow git",
                300 if size >= 100_000 else 1, at_least=True,
                note=f"ours {ours_ms:.2f} ms with the edit itself, git {git_ms:.1f} ms without; "
                f"first snapshot: ours none, git {first[size]:.1f} s",
            )
        )  # fmt: skip
    small = median(ours[sizes[0]])
    return [*rows, Row(f"an edit among {large:,} files", median(ours[large]), "ms", small, f"among {sizes[0]}", 1.15)]


async def hundred_back(opened: Engine, root: Path, names: list[str], git: ShadowGit) -> Row:
    """A hundred edited files taken back, and the same by `git reset --hard`."""
    chosen = [names[number * 997 % len(names)] for number in range(100)]
    ours: list[float] = []
    gits: list[float] = []
    for _ in range(3):
        agent = await Agent.start(opened)
        for name in chosen:
            await agent.do("write_file", path=name, content="changed\n" * 20)
        ours.append(await agent.take_back())
        git.checkpoint()
        for name in chosen:
            (root / name).write_text("changed\n" * 20)
        gits.append(git.run("reset", "-q", "--hard"))
    return Row(
        f"rollback of 100 edited files among {len(names):,}", statistics.median(gits) / statistics.median(ours),
        "× faster", None, "git reset --hard", 5, at_least=True,
        note=f"ours {median(ours):.0f} ms, verified and journaled; git {median(gits):.0f} ms",
    )  # fmt: skip


async def storage(folder: Path) -> list[Row]:
    """Bytes on the disk a checkpoint of a 4 KiB file that does not compress well."""
    say("undo: storage")
    rounds = scaled(500, 150)
    here = folder / "storage"
    async with engine(here) as opened:
        agent = await Agent.start(opened)

        async def edit() -> None:
            await agent.do("write_file", path="same.txt", content=base64.b64encode(os.urandom(3072)).decode())

        await edit()
        before = used(here / "data")
        for _ in range(rounds):
            await edit()
    grown = (used(here / "data") - before) / rounds / 1024
    root = here / "git"
    root.mkdir()
    git = ShadowGit(here / "shadow", root)
    before = used(here / "shadow")
    for _ in range(20):
        (root / "same.txt").write_text(base64.b64encode(os.urandom(3072)).decode())
        git.checkpoint()
    shadow = (used(here / "shadow") - before) / 20 / 1024
    shutil.rmtree(here)
    return [
        Row(
            "storage a checkpoint of 4 KiB", grown, "KiB", None, "", 6,
            note=f"with the replaced file in the trash and its journal; shadow git {shadow:.0f} KiB",
        )
    ]  # fmt: skip


# -- taking back -----------------------------------------------------------------------------------------------------------


async def rollback(folder: Path) -> list[Row]:
    """Many edited files taken back."""
    number = scaled(10_000, 1_000, "BENCH_EDITS")
    say(f"undo: rollback of {number:,} files")
    here = folder / "many"
    root = here / "work"
    root.mkdir(parents=True)
    names = populate(root, number)
    git = ShadowGit(here / "shadow", root)
    git.checkpoint()
    for name in names:
        (root / name).write_text(f"edited {name}\n" * 10)
    git_took = git.run("reset", "-q", "--hard")
    async with engine(here) as opened:
        agent = await Agent.start(opened)
        turns = iter(names)

        async def caller() -> None:
            for name in turns:
                await agent.do("write_file", path=name, content=f"edited {name}\n" * 10)

        await asyncio.gather(*(caller() for _ in range(16)))
        took = await agent.take_back()
    if any((root / name).read_text()[:1] == "e" for name in names):
        raise SystemExit("The rollback has left an edit.")
    shutil.rmtree(here)
    return [
        Row(
            f"rollback of {number:,} edited files", number / took, "files/s", None, "", 3000, at_least=True,
            note=f"verified, durable, journaled; git reset --hard, none of that: {number / git_took:.0f}/s",
        )
    ]  # fmt: skip


async def plans(folder: Path) -> list[Row]:
    """The plan for a run of a thousand acts: the decision alone, and with all that is read and looked at for it."""
    acts, files = 1_000, 250
    say(f"undo: the plan of a run of {acts:,} acts")
    here = folder / "plan"
    (here / "work").mkdir(parents=True)
    async with engine(here) as opened:
        agent = await Agent.start(opened)
        for number in range(acts):
            await agent.do("write_file", path=f"f{number % files}.txt", content=f"edited {number}\n" * 10)
        wish = await wish_for_rollback(opened.core, CALLER, run_id=agent.run_id)
        seen = Observations(present=await observe(opened.core, wish.chosen))
        alone: list[float] = []
        whole: list[float] = []
        for _ in range(scaled(15, 5)):
            begin = time.perf_counter()
            plan = plan_rollback(wish.chosen, wish.goal, seen)
            alone.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            await opened.rollback(CALLER, run_id=agent.run_id, dry_run=True)
            whole.append(time.perf_counter() - begin)
        if len(plan.steps) != acts or plan.needs:
            raise SystemExit(f"The plan has {len(plan.steps)} steps, and asks for {len(plan.needs)} merges.")
    shutil.rmtree(here)
    return [
        Row(
            f"plan of a run of {acts:,} acts", median(alone), "ms", None, "", 5,
            note=f"with reading the journal, looking at {files} files and telling each step {median(whole):.0f} ms",
        )
    ]  # fmt: skip


async def deletions(folder: Path) -> list[Row]:
    """A large file and a large tree, deleted and put back."""
    say("undo: deleting and restoring")
    here = folder / "large"
    root = here / "work"
    (root / "tree").mkdir(parents=True)
    tree = scaled(20_000, 4_000)
    populate(root / "tree", tree)
    free = shutil.disk_usage(folder).free
    size = min(2048 * MIB if not QUICK else 512 * MIB, free // 4 // MIB * MIB)
    with open(root / "large.bin", "wb") as file:
        block = os.urandom(MIB)
        for _ in range(size // MIB):
            file.write(block)
        os.fsync(file.fileno())
    begin = time.perf_counter()
    shutil.copyfile(root / "large.bin", here / "copy.bin")
    copied = time.perf_counter() - begin
    (here / "copy.bin").unlink()
    times: dict[str, list[float]] = {"large": [], "large back": [], "tree": [], "tree back": [], "walk": []}
    async with engine(here) as opened:
        agent = await Agent.start(opened)
        for _ in range(5):
            for what, path in (("large", "large.bin"), ("tree", "tree")):
                begin = time.perf_counter()
                answer = await agent.do("delete_file", path=path, recursive=True)
                times[what].append(time.perf_counter() - begin)
                assert answer.action_id is not None
                times[f"{what} back"].append(await agent.take_back([answer.action_id]))
            begin = time.perf_counter()
            for base, folders, files in os.walk(root / "tree"):
                for name in [*folders, *files]:
                    os.lstat(os.path.join(base, name))
            times["walk"].append(time.perf_counter() - begin)
    shutil.rmtree(here)
    walk = median(times["walk"])
    size_words = f"{size // MIB:,} MiB"
    return [
        Row(
            f"delete a file of {size_words}", median(times["large"]), "ms", None, "", 20, note=f"a copy: {copied:.1f} s"
        ),
        Row(f"restore a file of {size_words}", median(times["large back"]), "ms", None, "", 20),
        Row(f"delete a tree of {tree:,} files", median(times["tree"]), "ms", walk, "one walk of its stats", 3),
        Row(f"restore a tree of {tree:,} files", median(times["tree back"]), "ms", walk, "one walk of its stats", 3),
    ]


# -- the journal under the engine ------------------------------------------------------------------------------------------


async def alone(folder: Path) -> list[Row]:
    """One journaled action on a system that costs nothing, beside two bare commits of the same size."""
    say("undo: the engine alone")
    rounds = scaled(600, 200)
    here = folder / "alone"
    tools = ToolSettings(modules=(Path(takeback.tools.memory.__file__),), off=("files",))
    took: list[float] = []
    bare: list[float] = []
    async with (
        engine(here, tools=tools) as opened,
        aiosqlite.connect(here / "bare.db", isolation_level=None) as database,
    ):
        await database.execute("PRAGMA journal_mode=WAL")
        await database.execute("PRAGMA synchronous=FULL")
        await database.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, event BLOB)")
        agent = await Agent.start(opened)
        for number in range(rounds):
            begin = time.perf_counter()
            await agent.do("set_value", key="k", value=f"{number}")
            took.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            for _ in range(2):
                await database.execute("BEGIN IMMEDIATE")
                await database.execute("INSERT INTO t(event) VALUES (?)", (b"x" * 1500,))
                await database.execute("COMMIT")
            bare.append(time.perf_counter() - begin)
    shutil.rmtree(here)
    return [Row("one journaled action, engine alone", median(took), "ms", median(bare), "two aiosqlite commits", 1.3)]


async def recovery(folder: Path) -> list[Row]:
    """A start after a crash that left a hundred intents open: half of them had taken effect."""
    events = scaled(100_000, 10_000, "BENCH_EVENTS")
    say(f"undo: recovery of 100 open intents among {events:,} events")
    here = folder / "crash"
    (here / "work").mkdir(parents=True)
    async with engine(here) as opened:
        agent = await Agent.start(opened)
        journal, files = opened.core.journal, opened.core.systems["files"]
        run = await opened.core.run(CALLER, agent.run_id)
        assert isinstance(files, FileSystem)
        for _ in range(events // 1000):
            filler: list[BaseEvent] = [
                CheckpointNamed(
                    run_id=run.run_id, at=opened.core.now(), checkpoint_id=new_checkpoint_id(), label="filler"
                )
                for _ in range(1000)
            ]
            await journal.append(filler)
        for number in range(100):
            path = here / "work" / f"f{number}.txt"
            path.write_text("before\n")
            staged = await files.stage_write(str(path), b"after\n")
            intent = ActionIntended(
                run_id=run.run_id,
                at=opened.core.now(),
                action_id=new_action_id(),
                tool="write_file",
                tool_version="1",
                caller=CALLER,
                requested={"path": path.name},
                argument_digest="",
                effects=staged.effects,
                reversibility="reversible",
                compensation=Compensation(strategy="restore", how="Put it back."),
                policy_rule="default",
            )
            await journal.append([intent], blobs=staged.blobs)
            if number % 2:
                await files.swap(staged.effects)
    begin = time.perf_counter()
    opened = await Engine.open(settings(here))
    took = time.perf_counter() - begin
    await opened.close()
    shutil.rmtree(here)
    return [
        Row(
            "recovery with 100 open intents", took, "s", None, "", 3,
            note=f"{events:,} events in the journal; half of the intents had taken effect",
        )
    ]  # fmt: skip


async def measure(folder: Path) -> list[Row]:
    """All rows."""
    rows: list[Row] = []
    wanted = os.environ.get("BENCH_ONLY", "").split()
    for part in (alone, checkpoints, storage, rollback, plans, deletions, recovery):
        if not wanted or part.__name__ in wanted:
            rows += await part(folder)
    return rows


def main() -> None:
    """Measure and print."""
    import logging

    logging.getLogger("takeback").setLevel(logging.ERROR)  # what recovery has to say is expected here
    with scratch() as folder:
        rows = asyncio.run(measure(folder))
    finish("undo", rows)


if __name__ == "__main__":
    main()
