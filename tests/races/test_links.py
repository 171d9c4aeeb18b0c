"""Somebody swaps a folder for a link to outside, as fast as they can: no tool and no rollback ever reaches through it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.races.conftest import Spawn
from tests.races.scale import ALICE, FULL, measure, open_files
from tests.signs import SECONDS

from takeback.journal.events import Caller
from takeback.server.engine.answers import EngineError
from takeback.server.engine.calls import Call

T = TypeVar("T")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="swaps by renameat2")

SWAPPER = """
import ctypes, mmap, os, random, sys
lib = ctypes.CDLL(None)
a, b = map(os.fsencode, sys.argv[1:3])
with open(sys.argv[3], "r+b") as file:
    done = mmap.mmap(file.fileno(), 8)
print("ready", flush=True)
dice, count = random.Random(1), 0
while True:
    # bursts, and times in which a whole call gets through between two swaps
    pause, burst = dice.choice([(0, 1000), (0, 1000), (300, 100), (30000, 20), (300000, 2)])
    for _ in range(burst):
        lib.renameat2(-100, a, -100, b, 2)
        count += 1
        done[:] = count.to_bytes(8, "little")
        for _ in range(pause):
            pass
"""
ACTS: list[tuple[str, dict[str, Any]]] = [
    ("write_file", {"path": "d/f", "content": "by the agent\n"}),
    ("write_file", {"path": "d/new/g", "content": "by the agent\n"}),
    ("edit_file", {"path": "d/f", "edits": [{"old_text": "inside", "new_text": "edited"}]}),
    ("delete_file", {"path": "d/f"}),
    ("delete_file", {"path": "d/sub", "recursive": True}),
    ("move_file", {"source": "d/f", "destination": "moved", "overwrite": True}),
    ("move_file", {"source": "here", "destination": "d/here", "overwrite": True}),
    ("copy_file", {"source": "d/f", "destination": "copied", "overwrite": True}),
    ("copy_file", {"source": "here", "destination": "d/copied", "overwrite": True}),
    ("create_directory", {"path": "d/made"}),
]
LOOKS: list[tuple[str, dict[str, Any]]] = [
    ("read_file", {"path": "d/f"}),
    ("list_directory", {"path": "d"}),
    ("list_directory", {"path": ".", "recursive": True}),
    ("get_file_info", {"path": "d/f"}),
    ("search_files", {"pattern": "*", "path": "d", "content": "secret"}),
]
SECRET = "secret, and nobody's business"


def outside_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def plant(folder: int, text: str) -> None:
    """What stands in a folder, wherever its name leads by now."""
    with suppress(FileExistsError):
        os.mkdir("sub", dir_fd=folder)
    with suppress(FileNotFoundError):
        os.rmdir("made", dir_fd=folder)
    for name in ("f", "sub/s"):
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=folder)
        os.write(fd, text.encode())
        os.close(fd)


@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
async def test_no_call_and_no_rollback_follows_a_link_that_appears(folder: Path, spawn: Spawn, portable: bool) -> None:
    outside, work = folder / "outside", folder / "work"
    outside.mkdir()
    (work / "d").mkdir(parents=True)
    there, inside = (os.open(place, os.O_RDONLY | os.O_DIRECTORY) for place in (outside, work / "d"))
    plant(there, SECRET)
    plant(inside, "inside\n")
    os.close(there)
    (work / "here").write_text("here\n")
    (work / "link").symlink_to(outside)
    canary = outside_of(outside)
    (folder / "count").write_bytes(bytes(8))
    bench = await open_files(folder, portable_files=portable)
    swapper = spawn(SWAPPER, str(work / "d"), str(work / "link"), str(folder / "count"))
    assert swapper.stdout is not None and swapper.stdout.readline() == "ready\n"
    swaps, reached = Counter[str](), Counter[str]()
    calls = turn = 0

    async def under_swaps(name: str, work: Awaitable[T]) -> T:
        nonlocal calls
        calls += 1
        before = int.from_bytes((folder / "count").read_bytes(), "little")
        try:
            return await work
        finally:
            swaps[name] += int.from_bytes((folder / "count").read_bytes(), "little") - before
            assert outside_of(outside) == canary, f"{name} reached outside"

    try:
        while calls < measure(100, 20_000) or (FULL and min(swaps.values()) < 20_000):
            turn += 1
            run = await bench.start(f"turn {turn}")
            for tool, arguments in ACTS:
                caller = Caller(principal=ALICE.principal, client=f"{turn} {tool}")
                answer = await under_swaps(tool, bench.call(tool, run, caller=caller, **arguments))
                reached[tool] += answer.status == "applied"
            for tool, arguments in LOOKS * 3:
                read = await under_swaps(tool, bench.engine.read(Call(tool, arguments, ALICE)))
                assert SECRET not in read.model_dump_json(), f"{tool} told what is outside"
                reached[tool] += read.error is None
            try:
                await under_swaps("rollback", bench.back(run_id=run))
                reached["rollback"] += 1
            except EngineError as error:
                assert error.code in ("nothing", "busy"), error
            (work / "here").write_text("here\n")
            plant(inside, "inside\n")  # what a rollback could not reach is there again for the next turn
    finally:
        os.close(inside)
        swapper.kill()
        swapper.wait(timeout=SECONDS)
        await bench.engine.close()
    assert sum(reached.values()), "not one call got through between two swaps"
    if FULL:
        assert all(reached[tool] for tool in swaps), f"never got through: {reached}"
        print(f"{calls} calls; swaps during them: {dict(swaps)}; got through: {dict(reached)}")
