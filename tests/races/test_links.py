"""Somebody swaps a folder for a link to outside, as fast as they can: no tool and no rollback ever reaches through it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.races.conftest import Spawn
from tests.races.scale import ALICE, open_files, times

from takeback.journal.events import Caller
from takeback.server.engine.answers import EngineError
from takeback.server.engine.calls import Call

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="swaps by renameat2")

SWAPPER = """
import ctypes, os, sys
lib = ctypes.CDLL(None)
a, b = map(os.fsencode, sys.argv[1:])
print("ready", flush=True)
while True:
    for _ in range(1000):
        lib.renameat2(-100, a, -100, b, 2)
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


@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
async def test_no_call_and_no_rollback_follows_a_link_that_appears(folder: Path, spawn: Spawn, portable: bool) -> None:
    outside, work = folder / "outside", folder / "work"
    for place, text in ((outside, SECRET), (work / "d", "inside\n")):
        (place / "sub").mkdir(parents=True)
        (place / "f").write_text(text)
        (place / "sub" / "s").write_text(text)
    (work / "here").write_text("here\n")
    (work / "link").symlink_to(outside)
    canary = outside_of(outside)
    bench = await open_files(folder, portable_files=portable)
    swapper = spawn(SWAPPER, str(work / "d"), str(work / "link"))
    assert swapper.stdout is not None and swapper.stdout.readline() == "ready\n"
    reached = calls = 0
    try:
        for turn in range(times(4)):
            run = await bench.start(f"turn {turn}")
            for tool, arguments in ACTS:
                caller = Caller(principal=ALICE.principal, client=f"{turn} {tool}")
                answer = await bench.call(tool, run, caller=caller, **arguments)
                reached += answer.status == "applied"
                calls += 1
                assert outside_of(outside) == canary, f"{tool} reached outside"
            for tool, arguments in LOOKS * 3:
                read = await bench.engine.read(Call(tool, arguments, ALICE))
                assert SECRET not in read.model_dump_json(), f"{tool} told what is outside"
                calls += 1
            try:
                await bench.back(run_id=run)
            except EngineError as error:
                assert error.code in ("nothing", "busy"), error
            assert outside_of(outside) == canary, "a rollback reached outside"
            (work / "here").write_text("here\n")
    finally:
        swapper.kill()
        swapper.wait(timeout=10)
        await bench.engine.close()
    assert reached, "not one call got through between two swaps"
