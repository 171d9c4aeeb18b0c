"""Somebody takes an old run back while what nobody needs any more is being collected: it is taken back whole, or not at all."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.tools.files_system.signature import signature

from takeback.checkpoints.oslock import held
from takeback.checkpoints.retention import collect
from takeback.checkpoints.store import FileObjectStore
from takeback.server.engine.answers import RollbackAnswer
from takeback.server.engine.engine import Engine
from takeback.server.settings import ToolSettings
from takeback.tools.files.calls import Calls
from takeback.tools.files.system import FileSystem

HOUR_NS = 3600 * 10**9
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "overwrite": ("write_file", {"path": "a", "content": "new" * 50_000}),
    "delete a tree": ("delete_file", {"path": "d", "recursive": True}),
}
LOOKED_AT = ("names", "lstat", "open_folder", "unlink", "rmdir")
"""What the collector calls in a trash; what it calls while no act may use what lies there is left out by `meanwhile`."""


def plant(work: Path) -> None:
    work.mkdir()
    (work / "a").write_text("old" * 50_000)
    (work / "d" / "e").mkdir(parents=True)
    for name in ("d/f", "d/e/h"):
        (work / name).write_text(name)


def after_call(calls: Calls, slot: bytes, at: int, act: Callable[[], bool]) -> list[str]:
    """Do something once the n-th of these calls from the first look at a slot on has answered, or after the first one behind
    it where that is possible."""
    seen: list[str] = []
    left = at
    begun = False

    def wrapped(name: str, call: Any) -> Any:
        def after(*given: Any) -> Any:
            nonlocal left, begun
            result = call(*given)
            begun = begun or given[-1] == slot
            left -= begun
            if left <= 0 and not seen:
                seen.append(name)
                if not act():
                    seen.clear()
            return result

        return after

    for name in LOOKED_AT:
        setattr(calls, name, wrapped(name, getattr(calls, name)))
    return seen


async def collected_long_after(bench: Bench) -> None:
    core = bench.engine.core
    assert isinstance(core.objects, FileObjectStore)
    now = core.now() + timedelta(days=core.settings.limits.keep_days + 1)
    systems = [core.systems["files"]]
    done = await collect(core.journal, core.objects, systems, now=now, keep_days=core.settings.limits.keep_days)
    assert not done.problems


async def taken_back_meanwhile(folder: Path, name: str, at: int, *, portable: bool) -> str:
    """What came of it; empty if the collection was over before."""
    tool, arguments = CALLS[name]
    work = folder / "work"
    plant(work)
    old = signature(work, folder_times=False)
    engine = await Engine.open(settings_for(folder, tools=ToolSettings(), portable_files=portable))
    try:
        engine.core.retry_pauses = ()
        bench = Bench(engine, work)
        run = await bench.start()
        await bench.done(tool, run, **arguments)
        await engine.finish_run(ALICE, run)
        new = signature(work, folder_times=False)
        files = engine.core.systems["files"]
        assert isinstance(files, FileSystem)
        answers: list[RollbackAnswer] = []

        def meanwhile() -> bool:
            with held(files._trashes._use, wait=False) as free:
                if not free or files._trashes._lock.locked():
                    return False  # acts wait for that
            answers.append(anyio.from_thread.run(lambda: bench.back(run_id=run)))
            return True

        [slot] = os.listdir(files._trashes._own)
        files._trashes._clock = lambda: time.time_ns() + 2 * HOUR_NS
        seen = after_call(files._calls, slot, at, meanwhile)
        await collected_long_after(bench)
        if not answers:
            return ""
        told = answers[0]
        where = (at, seen, told)
        assert signature(work, folder_times=False) == (old if told.status == "complete" else new), where
        if told.status == "complete":
            again = await engine.redo(ALICE, str(told.rollback_id))
            assert again.status == "complete", (*where, again)
            assert signature(work, folder_times=False) == new, where
        return told.status
    finally:
        await engine.close()


@pytest.mark.parametrize(("name", "portable"), [("overwrite", False), ("overwrite", True), ("delete a tree", False)])
async def test_a_run_taken_back_while_its_images_are_collected_is_whole_or_is_not_taken_back(
    tmp_path: Path, name: str, portable: bool
) -> None:
    outcomes: set[str] = set()
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        outcome = await taken_back_meanwhile(folder, name, at, portable=portable)
        if not outcome:
            break
        outcomes.add(outcome)
    assert len(outcomes) > 1, outcomes
