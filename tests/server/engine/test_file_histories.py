"""Random histories of file tools through the whole engine, taken back: bit-exact, or the report says exactly where not.

`TAKEBACK_HISTORIES` sets how many per engine (the soak run sets more than the everyday one).
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.tools.files_system.signature import difference, signature

from takeback.journal.events import Caller
from takeback.journal.views import ActionView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.engine.plan import COVERED, IN_PART
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import ToolSettings

HISTORIES = int(os.environ.get("TAKEBACK_ENGINE_HISTORIES", "60"))
NAMES = ("a", "b", "c.txt", "d", "d/e", "d/f.txt", "d/g/h", "ü", "sp ace")
LINES = [f"line {number}\n" for number in range(12)]


@pytest.fixture
def folder() -> Iterator[Path]:
    # memory-backed where there is such a place: these tests are about what happens, not about the disk
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="takeback-", dir=base))
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def open_engine(folder: Path, *, portable: bool) -> Bench:
    settings = settings_for(folder, tools=ToolSettings(), portable_files=portable, triggers=TriggerSettings.off())
    engine = await Engine.open(settings)
    engine.core.retry_pauses = ()
    return Bench(engine, folder / "work")


def plant(work: Path, chance: random.Random) -> None:
    """A world to begin with: text, binary, links, modes, holes, times."""
    for old in work.iterdir():
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink()
    for name in NAMES:
        path = work / name
        if chance.random() < 0.5 or os.path.lexists(path):
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue  # a file stands where a folder would have to be
        kind = chance.randrange(6)
        if kind == 0 and path.parent == work:
            path.symlink_to("a")
        elif kind == 1:
            path.mkdir()
        elif kind == 2:
            path.write_bytes(chance.randbytes(chance.choice((0, 10, 40_000))))
        elif kind == 3:
            with path.open("wb") as file:
                file.truncate(300_000)
                file.write(b"start")
        else:
            path.write_text("".join(LINES))
        if not path.is_symlink():
            path.chmod(chance.choice((0o600, 0o644, 0o755)))
            os.utime(path, ns=(1_600_000_000_123_456_789, 1_500_000_000_000_000_000 + chance.randrange(10**15)))
    files = [path for path in work.rglob("*") if path.is_file() and not path.is_symlink()]
    if files and chance.random() < 0.3:
        os.link(chance.choice(files), work / "hard")


async def act(bench: Bench, run: str, chance: random.Random) -> Any:
    """One random call; refusals are fine, lies are not."""
    name, other = chance.choice(NAMES), chance.choice((*NAMES, "hard", "new/deep"))
    # a caller who has not seen anything yet is not refused for having seen something else
    call = partial(bench.call, run=run, caller=Caller(principal=ALICE.principal, client=str(chance.random())))
    match chance.randrange(7):
        case 0:
            return await call("write_file", path=name, content=chance.choice(("", "x", "".join(LINES))))
        case 1:
            line = chance.choice(LINES)
            return await call("edit_file", path=name, edits=[{"old_text": line, "new_text": line.upper()}])
        case 2:
            overwrite = chance.random() < 0.5
            return await call("move_file", source=name, destination=other, overwrite=overwrite)
        case 3:
            overwrite = chance.random() < 0.5
            return await call("copy_file", source=name, destination=other, overwrite=overwrite)
        case 4 | 5:
            return await call("delete_file", path=chance.choice((name, other)), recursive=chance.random() < 0.8)
        case _:
            return await call("create_directory", path=chance.choice((name, other)))


def person(work: Path, chance: random.Random) -> tuple[Path, str] | None:
    """Somebody saves a file of their own, or adds a line to one that is there."""
    mark = f"by a person {chance.randrange(10**9)}\n"
    files = [
        path for path in work.rglob("*") if path.is_file() and not path.is_symlink() and ".takeback" not in path.parts
    ]
    if files and chance.random() < 0.7:
        path = chance.choice(files)
        with path.open("ab") as file:
            file.write(mark.encode())
        return path, mark
    folders = [work, *(path for path in work.rglob("*") if path.is_dir() and ".takeback" not in path.parts)]
    path = chance.choice(folders) / f"theirs-{chance.randrange(10**6)}"
    path.write_text(mark)
    return path, mark


def everything(work: Path) -> bytes:
    """All bytes of all files of the workspace, for looking for a person's words."""
    return b"".join(
        path.read_bytes()
        for path in work.rglob("*")
        if path.is_file() and not path.is_symlink() and ".takeback" not in path.parts
    )


@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
async def test_random_histories_are_taken_back_bit_for_bit(folder: Path, portable: bool) -> None:
    bench = await open_engine(folder, portable=portable)
    try:
        for seed in range(HISTORIES):
            chance = random.Random(f"{seed}")
            plant(bench.work, chance)
            # file systems without an exchange get new inodes, and folders new times, where a file is put back by copy
            before = signature(bench.work, folder_times=not portable)
            run = await bench.start(str(seed))
            for _ in range(chance.randrange(1, 12)):
                await act(bench, run, chance)
            done = signature(bench.work, folder_times=False)
            try:
                answer = await bench.back(run_id=run)
            except EngineError as error:
                assert error.code == "nothing"
                continue
            assert answer.status == "complete", (seed, answer.report)
            after = signature(bench.work, folder_times=not portable)
            assert after == before, (seed, difference(before, after))
            redone = await bench.engine.redo(ALICE, str(answer.rollback_id))
            assert redone.status == "complete", (seed, redone.report)
            assert signature(bench.work, folder_times=False) == done, (seed, "redo")
            second = await open_engine(folder, portable=portable)
            try:
                again = await second.back(run_id=run)
            finally:
                await second.engine.close()
            assert again.status == "complete", (seed, again.report)
            final = signature(bench.work, folder_times=False)
            assert final == {**signature(bench.work, folder_times=False), **_without_times(before)}, seed
    finally:
        await bench.engine.close()


def _without_times(told: dict[bytes, Any]) -> dict[bytes, Any]:
    return {
        key: [*facts[:4], None, *facts[5:]]
        if isinstance(facts, list) and facts and isinstance(facts[0], str) and stat.S_ISDIR(int(facts[0], 8))
        else facts
        for key, facts in told.items()
    }


@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
async def test_what_a_person_wrote_in_between_always_survives(folder: Path, portable: bool) -> None:
    bench = await open_engine(folder, portable=portable)
    try:
        for seed in range(HISTORIES):
            chance = random.Random(f"foreign {seed}")
            plant(bench.work, chance)
            run = await bench.start(str(seed))
            marks: list[str] = []
            for _ in range(chance.randrange(2, 10)):
                await act(bench, run, chance)
                if chance.random() < 0.3:
                    made = person(bench.work, chance)
                    if made:
                        marks.append(made[1])
            # what the agent itself deleted or overwrote after the person wrote it is not there before the rollback either;
            # it is in the before-images, and a complete rollback brings it back
            there = [mark for mark in marks if mark.encode() in everything(bench.work)]
            try:
                answer = await bench.back(run_id=run)
            except EngineError as error:
                assert error.code == "nothing"
                continue
            now = everything(bench.work)
            for mark in there:
                assert mark.encode() in now, (seed, mark, answer.report)
            if answer.status == "complete":
                for mark in marks:
                    assert mark.encode() in now, (seed, "complete, yet lost", mark, answer.report)
            for step in answer.steps:
                assert step.outcome != "failed", (seed, step)
            await _outcomes_are_true(bench, run, answer.steps)
    finally:
        await bench.engine.close()


async def _outcomes_are_true(bench: Bench, run: str, steps: list[Any]) -> None:
    good = {"restored", "merged", "already_undone", "compensated"}
    steps = [step for step in steps if step.why != "it changed nothing"]
    for step in steps:
        action = await bench.engine.core.journal.get(ActionView, step.action_id)
        assert action is not None
        assert action.stands == (step.outcome not in good or step.why.startswith((COVERED, IN_PART))), step
    blocked = [step for step in steps if step.outcome not in good]
    assert bool(blocked) == bool(await bench.engine.open_items(ALICE, run_id=run))
