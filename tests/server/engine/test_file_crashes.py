"""A stop before and after each journaled step and each swap of real files: the next process makes it whole, bit for bit."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.server.engine.reaper import Died, Reaper, interpose
from tests.tools.files_system.signature import difference, signature

from takeback.journal.views import ActionView, RollbackView, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.settings import ToolSettings

CALLS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "overwrite": [("write_file", {"path": "a.txt", "content": "new"})],
    "create with parents": [("write_file", {"path": "x/y/z.txt", "content": "new"})],
    "delete a tree": [("delete_file", {"path": "d", "recursive": True})],
    "move over another": [("move_file", {"source": "a.txt", "destination": "b.txt", "overwrite": True})],
    "move a tree": [("move_file", {"source": "d", "destination": "moved"})],
    "copy a tree": [("copy_file", {"source": "d", "destination": "copied"})],
    "a hard-linked file": [("write_file", {"path": "hard", "content": "new"})],
    "make folders": [("create_directory", {"path": "p/q"})],
    "several": [
        ("edit_file", {"path": "a.txt", "edits": [{"old_text": "one", "new_text": "ONE"}]}),
        ("move_file", {"source": "d", "destination": "e"}),
        ("write_file", {"path": "d/f", "content": "again"}),
        ("delete_file", {"path": "e", "recursive": True}),
    ],
}


@pytest.fixture
def folder() -> Iterator[Path]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="takeback-", dir=base))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def plant(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    (work / "d" / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "d/f", "d/sub/g"):
        (work / name).write_text(f"one {name}\n")
    (work / "d/f").chmod(0o640)
    (work / "linked").write_text("two names")
    os.link(work / "linked", work / "hard")
    (work / "link").symlink_to("a.txt")


async def open_engine(folder: Path, portable: bool) -> Bench:
    engine = await Engine.open(settings_for(folder, tools=ToolSettings(), portable_files=portable))
    engine.core.retry_pauses = ()
    return Bench(engine, folder / "work")


@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
@pytest.mark.parametrize("name", CALLS)
async def test_acts_rollback_and_redo_survive_a_stop_at_every_step(folder: Path, name: str, portable: bool) -> None:
    for n in range(1, 300):
        work = folder / str(n)
        work.mkdir()
        plant(work / "work")
        before = signature(work / "work", folder_times=False)
        first = await open_engine(work, portable)
        reaper = Reaper(n)
        run = await first.start()
        interpose(first.engine.core, reaper)
        try:
            for tool, arguments in CALLS[name]:
                await first.call(tool, run, **arguments)
            back = await first.back(run_id=run)
            await first.engine.redo(ALICE, str(back.rollback_id))
        except Died:
            pass
        except BaseExceptionGroup as group:
            if group.split(Died)[1] is not None:
                raise
        second = await open_engine(work, portable)
        try:
            journal = second.engine.core.journal
            assert not await journal.find(ActionView, status="intended"), n
            assert not await journal.find(RunView, status="sealed") and not await journal.find(
                RollbackView, status="running"
            ), n
            standing = [action for action in await journal.find(ActionView) if action.stands]
            if not standing:
                assert signature(work / "work", folder_times=False) == before, n
            try:
                answer = await second.back(run_id=run)
                assert answer.status == "complete", (n, answer.report)
            except EngineError as error:
                assert error.code == "nothing", (n, error)
            after = signature(work / "work", folder_times=False)
            assert after == before, (n, difference(before, after))
            assert (await journal.verify()).sound
        finally:
            await second.engine.close()
            reaper.dead = False
            await first.engine.close()
        shutil.rmtree(work)
        if reaper.count < n:
            return
    raise AssertionError("the scenario never ran through")
