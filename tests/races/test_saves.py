"""A person's editor saves while the agent writes and rolls back: no save is lost.

Each save is in the file, or superseded by a later save of the same editor, or kept where an answer, an action or an open item
names it. Two kinds of editors: one that writes beside and renames over, and one that writes in place.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.races.conftest import Spawn
from tests.races.scale import ALICE, FULL, measure, open_files
from tests.server.engine.bench import Bench

from takeback.checkpoints.objects import ObjectError
from takeback.journal.events import Caller
from takeback.journal.ids import RunId
from takeback.journal.views import ActionView, OpenItem, RollbackView
from takeback.server.engine.answers import EngineError

EDITOR = """
import os, random, sys, time
path, how = sys.argv[1:]
dice = random.Random(1)
for line in sys.stdin:
    turn, saves, fuse = line.split()
    for _ in range(int(float(fuse) * 20000)):
        pass
    for save in range(int(saves)):
        text = f"saved by a person: {turn}.{save}.\\n" * 3
        if how == "replaces":
            with open(path + ".new", "w") as file:
                file.write(text)
            os.replace(path + ".new", path)
        else:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.pwrite(fd, text.encode(), 0)
            os.ftruncate(fd, len(text))
            os.close(fd)
        for _ in range(dice.randrange(3000)):
            pass
    print(f"{turn}.{int(saves) - 1}", flush=True)
"""


async def kept(bench: Bench, run: str, answers: list[Any], words: bytes) -> str | None:
    """Where a save that is not in the file is kept, and named."""
    core = bench.engine.core
    kinds: tuple[Any, ...] = (ActionView, OpenItem, RollbackView)
    views = [view for kind in kinds for view in await core.journal.find(kind, run_id=RunId(run))]
    named = "".join(view.model_dump_json() for view in views)
    named += "".join(answer.model_dump_json() for answer in answers)
    for name in set(re.findall(r"blake3:[0-9a-f]{64}", named)):
        with suppress(ObjectError):  # a digest of something that is no stored object
            if words in await core.objects.get(name):
                return name
    for trash in (bench.engine.core.settings.data / "files" / "trash", *bench.work.glob(".takeback/trash-*")):
        for path in sorted(trash.iterdir()) if trash.exists() else ():
            if path.is_file() and path.name.split(".")[0] in named and words in path.read_bytes():
                return path.name
    return None


@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
@pytest.mark.parametrize("how", ["replaces", "writes in place"])
async def test_no_save_of_a_person_is_lost(folder: Path, spawn: Spawn, how: str, portable: bool) -> None:
    bench = await open_files(folder, portable_files=portable)
    path = bench.work / "doc.txt"
    path.write_text("the beginning\n" * 3)
    editor = spawn(EDITOR, os.fspath(path), how)
    assert editor.stdin is not None and editor.stdout is not None
    lost: list[str] = []
    in_file = saves = turn = 0
    outcomes = Counter[str]()
    chance = random.Random(how)
    try:
        while saves < measure(110, 6000):
            answers: list[Any] = []
            turn += 1
            count = chance.choice([1, 1, 2])
            saves += count
            order = f"{turn} {count} {chance.random() * 12}\n"
            agent = {"path": "doc.txt", "content": f"agent {turn}\n"}
            run = await bench.start(f"turn {turn}")
            caller = Caller(principal=ALICE.principal, client=str(turn))
            if turn % 2:
                # the save falls into the rollback
                answers.append(await bench.call("write_file", run, caller=caller, **agent))
                editor.stdin.write(order)
            else:
                editor.stdin.write(order)
                answers.append(await bench.call("write_file", run, caller=caller, **agent))
            try:
                answers.append(await bench.back(run_id=run))
            except EngineError as error:
                assert error.code == "nothing", error
            save = editor.stdout.readline().strip()
            words = f"person: {save}.".encode()
            if words in path.read_bytes():
                in_file += 1
            elif await kept(bench, run, answers, words) is None:
                lost.append(save)
            else:
                outcomes["kept elsewhere"] += 1
            outcomes.update(step.outcome for answer in answers for step in getattr(answer, "steps", ()))
            outcomes.update(f"act {answer.status}" for answer in answers if not hasattr(answer, "steps"))
            for item in await bench.engine.open_items(ALICE, run_id=run):
                await bench.engine.resolve_conflict(ALICE, item.conflict_id, "theirs")
    finally:
        await bench.engine.close()
    assert not lost, f"{len(lost)} saves were lost, the first: {lost[:3]}"
    assert in_file
    if FULL:
        print(f"{saves} saves in {turn} turns; in the file at the end of a turn: {in_file}; {dict(outcomes)}")
        met = outcomes["act failed"] + outcomes["conflict"] + outcomes["merged"]
        assert met and outcomes["restored"], f"saves and acts did not meet: {outcomes}"
