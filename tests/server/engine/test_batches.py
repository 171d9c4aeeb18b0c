"""Plain steps of a rollback are made many at once: as durable, as careful and as true as one after the other."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.server.engine.reaper import Died, Reaper, interpose
from tests.tools.files_system.signature import difference, signature

from takeback.journal.events import RollbackStep
from takeback.journal.ids import RunId
from takeback.journal.views import ActionView, OpenItem, RollbackView, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.engine.execute import Executor
from takeback.server.engine.outcome import Done
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import ToolSettings
from takeback.tools.files import together
from takeback.tools.files.system import FileSystem
from takeback.tools.system import Swapped

FOLDERS, FILES = 3, 4
THEIRS = "by a person\n"
ENGINES = pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])


@pytest.fixture
def folder() -> Iterator[Path]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="takeback-", dir=base))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def names() -> list[str]:
    return [f"d{number % FOLDERS}/f{number}.txt" for number in range(FOLDERS * FILES)]


def plant(folder: Path) -> Path:
    work = folder / "work"
    for name in names():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(f"before {name}\n" + "line\n" * 5)
    return work


async def open_engine(folder: Path, portable: bool = False) -> Bench:
    engine = await Engine.open(
        settings_for(folder, tools=ToolSettings(), portable_files=portable, triggers=TriggerSettings.off())
    )
    engine.core.retry_pauses = ()
    return Bench(engine, folder / "work")


async def edited(bench: Bench) -> str:
    run = await bench.start()
    for name in names():
        await bench.done("write_file", run, path=name, content=f"after {name}\n" + "line\n" * 5)
    return run


def files_of(bench: Bench) -> FileSystem:
    system = bench.engine.core.systems["files"]
    assert isinstance(system, FileSystem)
    return system


def around_exchanges(bench: Bench, before: Callable[[int], None], after: Callable[[int], None]) -> None:
    """Have something happen around each exchange of two names, told how many there were."""
    calls: Any = files_of(bench)._calls  # pyright: ignore[reportPrivateUsage] -- the seam for stopping the world
    exchange, count = calls.exchange, 0

    def watched(*given: Any) -> None:
        nonlocal count
        count += 1
        before(count)
        exchange(*given)
        after(count)

    calls.exchange = watched


async def whole_and_sound(bench: Bench) -> None:
    journal = bench.engine.core.journal
    assert not await journal.find(ActionView, status="intended")
    assert not await journal.find(RunView, status="sealed")
    assert not await journal.find(RollbackView, status="running")
    assert (await journal.verify()).sound


async def taken_back(bench: Bench, run: str) -> None:
    try:
        answer = await bench.back(run_id=run)
        assert answer.status == "complete", answer.report
    except EngineError as error:
        assert error.code == "nothing", error


# -- what a batch is ---------------------------------------------------------------------------------------------------------


@ENGINES
async def test_a_batch_takes_back_exactly_with_the_folders_times_and_is_redone(folder: Path, portable: bool) -> None:
    work = plant(folder)
    bench = await open_engine(folder, portable)
    try:
        before = signature(work, folder_times=not portable)
        run = await edited(bench)
        done = signature(work, folder_times=not portable)
        answer = await bench.back(run_id=run)
        assert answer.status == "complete" and {step.outcome for step in answer.steps} == {"restored"}
        after = signature(work, folder_times=not portable)
        assert after == before, difference(before, after)
        redone = await bench.engine.redo(ALICE, str(answer.rollback_id))
        assert redone.status == "complete", redone.report
        again = signature(work, folder_times=not portable)
        assert again == done, difference(done, again)
        assert (await bench.engine.core.journal.verify()).sound
    finally:
        await bench.engine.close()


async def test_each_step_of_a_batch_is_journaled_before_and_after_it_and_the_transactions_are_few(folder: Path) -> None:
    plant(folder)
    bench = await open_engine(folder)
    try:
        run = await edited(bench)
        journal: Any = bench.engine.core.journal
        transactions = journal.transactions
        answer = await bench.back(run_id=run)
        assert journal.transactions - transactions <= 6
        steps = [each.event for each in await journal.read(RunId(run), limit=10_000)]
        said = [step for step in steps if isinstance(step, RollbackStep) and step.rollback_id == answer.rollback_id]
        number = FOLDERS * FILES
        assert [step.phase for step in said] == ["intended"] * number + ["concluded"] * number
        assert sorted(step.index for step in said) == sorted([*range(number), *range(number)])
        assert all(step.effects for step in said)
    finally:
        await bench.engine.close()


async def test_what_builds_on_one_another_is_taken_back_in_order(folder: Path) -> None:
    work = plant(folder)
    bench = await open_engine(folder)
    try:
        before = signature(work)
        run = await bench.start()
        for turn in range(3):
            for name in names():
                await bench.done("write_file", run, path=name, content=f"turn {turn}\n")
        await bench.done("move_file", run, source="d0/f0.txt", destination="d1/moved.txt")
        await bench.done("write_file", run, path="d1/moved.txt", content="moved and written\n")
        await bench.done("write_file", run, path="new/folder/file.txt", content="new\n")
        await bench.done("delete_file", run, path="d2", recursive=True)
        answer = await bench.back(run_id=run)
        assert answer.status == "complete", answer.report
        after = signature(work)
        assert after == before, difference(before, after)
    finally:
        await bench.engine.close()


# -- stops -------------------------------------------------------------------------------------------------------------------


@ENGINES
@pytest.mark.parametrize("foreign", [False, True], ids=["nobody else", "an edit in between"])
async def test_a_stop_around_each_append_and_visit_is_made_whole_by_the_next_process(
    folder: Path, portable: bool, foreign: bool
) -> None:
    for n in range(1, 100):
        place = folder / str(n)
        place.mkdir()
        work = plant(place)
        before = signature(work, folder_times=False)
        first = await open_engine(place, portable)
        run = await edited(first)
        reaper = Reaper(n)
        interpose(first.engine.core, reaper)
        with suppress(Died):
            await first.back(run_id=run)
        died = reaper.dead
        try:
            await _next_process(place, portable, run, before, foreign=foreign)
        finally:
            reaper.dead = False
            await first.engine.close()
        shutil.rmtree(place)
        if not died:
            assert n > 8  # seal, plan, intents, visit, outcomes: before and after each
            return
    raise AssertionError("the rollback never ran through")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("foreign", [False, True], ids=["nobody else", "an edit in between"])
async def test_a_stop_around_each_exchange_of_a_batch_is_made_whole_by_the_next_process(
    folder: Path, when: str, foreign: bool
) -> None:
    for n in range(1, FOLDERS * FILES + 1):
        place = folder / str(n)
        place.mkdir()
        work = plant(place)
        before = signature(work, folder_times=False)
        first = await open_engine(place)
        run = await edited(first)
        reaper = Reaper(10**9)
        interpose(first.engine.core, reaper)

        def die(count: int, n: int = n, reaper: Reaper = reaper) -> None:
            if count >= n:
                reaper.dead = True
                raise Died

        def live(count: int) -> None:
            return None

        around_exchanges(first, *((die, live) if when == "before" else (live, die)))
        with pytest.raises(Died):
            await first.back(run_id=run)
        try:
            await _next_process(place, False, run, before, foreign=foreign)
        finally:
            reaper.dead = False
            await first.engine.close()
        shutil.rmtree(place)


async def _next_process(place: Path, portable: bool, run: str, before: dict[bytes, Any], *, foreign: bool) -> None:
    """Open anew, perhaps after somebody has added a line to a file, and check that everything is right."""
    work = place / "work"
    theirs = work / names()[5]
    if foreign:
        with theirs.open("a") as file:
            file.write(THEIRS)
    second = await open_engine(place, portable)
    try:
        await whole_and_sound(second)
        await taken_back(second, run)
        await whole_and_sound(second)
        if foreign:
            text = theirs.read_text()
            assert text == f"before {names()[5]}\n" + "line\n" * 5 + THEIRS, text
            assert all((work / name).read_text().startswith("before") for name in names())
        else:
            after = signature(work, folder_times=False)
            assert after == before, difference(before, after)
    finally:
        await second.engine.close()


# -- others at work ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["added to", "replaced"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_edit_in_the_middle_of_a_batch_is_neither_lost_nor_overwritten(
    folder: Path, how: str, when: str
) -> None:
    for n in range(1, FOLDERS * FILES + 1):
        place = folder / str(n)
        place.mkdir()
        work = plant(place)
        bench = await open_engine(place)
        try:
            run = await edited(bench)
            theirs = work / names()[6]

            def save(count: int, n: int = n, theirs: Path = theirs) -> None:
                if count != n:
                    return
                if how == "added to":
                    with theirs.open("a") as file:
                        file.write(THEIRS)
                else:
                    fresh = theirs.with_suffix(".new")
                    fresh.write_text(theirs.read_text() + THEIRS)
                    fresh.rename(theirs)

            def nothing(count: int) -> None:
                return None

            around_exchanges(bench, *((save, nothing) if when == "before" else (nothing, save)))
            answer = await bench.back(run_id=run)
            assert THEIRS in theirs.read_text(), (n, answer.report)
            for step in answer.steps:
                name = os.path.relpath(step.object, work)
                assert step.outcome in ("restored", "merged", "conflict"), (n, step)
                assert (work / name).read_text().startswith("before") == (step.outcome != "conflict"), (n, step)
            await whole_and_sound(bench)
        finally:
            await bench.engine.close()
        shutil.rmtree(place)


async def _replaced_before_it_is_read_back(place: Path) -> None:
    """Somebody replaces a file when all exchanges of the batch are made, just before it is read back."""
    work = plant(place)
    bench = await open_engine(place)
    try:
        run = await edited(bench)
        calls: Any = files_of(bench)._calls  # pyright: ignore[reportPrivateUsage] -- the seam for stopping the world
        sync, theirs, saved = calls.sync_folder, work / names()[3], False

        def synced(d: Any) -> None:
            nonlocal saved
            sync(d)
            if not saved:
                saved = True
                fresh = theirs.with_suffix(".new")
                fresh.write_text(THEIRS)
                fresh.rename(theirs)

        calls.sync_folder = synced
        answer = await bench.back(run_id=run)
        said = {step.object: step.outcome for step in answer.steps}
        assert theirs.read_text() == THEIRS
        assert said[str(theirs)] == "conflict", said
        assert answer.status == "partial" and len(await bench.engine.core.journal.find(OpenItem, status="open")) == 1
    finally:
        await bench.engine.close()


async def test_restored_is_said_only_of_what_was_read_back(folder: Path) -> None:
    await _replaced_before_it_is_read_back(folder)


async def test_negative_control_a_batch_that_concludes_before_reading_back_is_caught(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(bench: Any, steps: Any) -> dict[int, Any]:
        return {}

    monkeypatch.setattr(together, "read_back", unread)
    with pytest.raises(AssertionError):
        await _replaced_before_it_is_read_back(folder)


async def test_negative_control_a_batch_that_concludes_before_it_swaps_is_caught(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap_each = Executor._swap_each  # pyright: ignore[reportPrivateUsage] -- what the mutant replaces

    async def hasty(self: Any, batch: list[int]) -> Any:
        effects = {index: self._steps[index].effects for index in batch}
        await self._ledger.conclude_all(
            [(index, Done(self._steps[index], "restored", "", effects[index])) for index in batch]
        )
        results = await swap_each(self, batch)
        return [
            result if isinstance(result, Swapped) else Swapped(effects[index])
            for index, result in zip(batch, results, strict=True)
        ]

    monkeypatch.setattr(Executor, "_swap_each", hasty)
    with pytest.raises(AssertionError):
        await test_a_stop_around_each_append_and_visit_is_made_whole_by_the_next_process(folder, False, False)


@pytest.mark.parametrize("call", ["sync_folder", "exchange", "utime_folder"])
async def test_a_disk_that_fails_in_a_batch_leaves_no_step_that_is_only_said_to_be_done(
    folder: Path, call: str
) -> None:
    for n in range(1, 16):
        place = folder / str(n)
        place.mkdir()
        work = plant(place)
        bench = await open_engine(place)
        try:
            run = await edited(bench)
            calls: Any = files_of(bench)._calls  # pyright: ignore[reportPrivateUsage] -- the seam for failures
            real, count = getattr(calls, call), 0

            def failing(*given: Any, n: int = n, real: Any = real) -> Any:
                nonlocal count
                count += 1
                if count == n:
                    raise OSError(5, "input/output error")
                return real(*given)

            setattr(calls, call, failing)
            answer = await bench.back(run_id=run)
            for step in answer.steps:
                back = (work / os.path.relpath(step.object, work)).read_text().startswith("before")
                assert back == (step.outcome == "restored"), (n, step)
            await whole_and_sound(bench)
        finally:
            await bench.engine.close()
        shutil.rmtree(place)
        if count < n:
            return
