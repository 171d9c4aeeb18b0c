"""`kill -9` of a real process at each step of publishing a stage, and of carrying out a plan, over all four families.

Whenever it dies, the next process finds the world as it was and nothing begun, or says where it stands and goes on to the end:
the same end, to the bit, with each act made once; and all of it can be taken back to the bit. `TAKEBACK_PUBLISH_KILLS` says at
how many of the moments it is tried, spread evenly; 0 is every one (`make publish-kills`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.crash.shim import KILLED, REPOSITORY, memory_folder
from tests.server.engine.publishing import STORY
from tests.signs import SECONDS

KILLS = int(os.environ.get("TAKEBACK_PUBLISH_KILLS", "6"))
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="its processes are forked")


class World:
    """A planted world with a run that waits to be carried out, and processes that work on copies of it."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder, self.mode, self.case = folder, mode, folder / "case"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.engine.publishing"],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def prepare(self) -> None:
        """Plant, collect; then once undisturbed, to know the moments and the end."""
        self.case.mkdir()
        told = self.does("prepare", mode=self.mode)
        self.run, self.before = told["run"], told["before"]
        self.case.rename(self.folder / "planted")
        told = self.does("publish", copied=True)
        assert not told["wrong"], told["wrong"]
        self.points: list[str] = told["points"]
        self.after = told["after"]

    def ask(self, phase: str, *, copied: bool = False, at: int | None = None, **more: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        order = {"phase": phase, "case": str(self.case), "at": at, **more}
        if phase != "prepare":
            order["run"] = self.run
        if copied:
            order["copied_from"] = str(self.folder / "planted")
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert told["died"] in (0, KILLED), told
        return told

    def does(self, phase: str, **order: Any) -> Any:
        """Come to the end of it."""
        told = self.ask(phase, **order)
        assert "told" in told, told.get("error", told)
        return told["told"]

    def dies(self, phase: str, at: int, **order: Any) -> bool:
        """Be killed at this moment; whether there was such a moment."""
        told = self.ask(phase, at=at, **order)
        assert "error" not in told, told["error"]
        return bool(told["died"])

    def look(self) -> str:
        """What the next process found; it has brought it to the end and taken it back."""
        return str(self.does("look", before=self.before, after=self.after)["found"])

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(timeout=SECONDS)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture(scope="module", params=["staged", "plan"])
def waiting(request: pytest.FixtureRequest) -> Iterator[World]:
    for folder in memory_folder():
        world = World(folder, request.param)
        try:
            world.prepare()
            yield world
        finally:
            world.stop()


def spread(count: int, kills: int = KILLS) -> Sequence[int]:
    """Some of so many moments, evenly: the first, the last, and those between; other ones for each number of kills."""
    if not KILLS or count <= kills:
        return range(count)
    return sorted({round(number * (count - 1) / (kills - 1)) for number in range(kills)})


def test_killed_at_any_moment_it_is_before_or_after_and_each_act_is_made_once(waiting: World) -> None:
    wrong: list[str] = []
    found: list[str] = []
    for at in spread(len(waiting.points)):
        assert waiting.dies("publish", at, copied=True), f"{waiting.points[at]} did not come again"
        try:
            found.append(waiting.look())
        except AssertionError as error:
            wrong.append(f"killed {waiting.points[at]}: {error}")
    assert not wrong, "\n".join(wrong)
    assert {"before", "after"} <= set(found), "there are moments on both sides"


def test_killed_while_it_goes_on_it_goes_on_again_and_says_where_it_stands(waiting: World) -> None:
    middle = len(waiting.points) // 2
    assert waiting.dies("publish", middle, copied=True)
    shutil.copytree(waiting.case, waiting.folder / "halfway", symlinks=True)
    told = waiting.does("recover")
    acts = told["stands"]["acts"]
    assert told["stands"]["status"] == "open"
    assert {status for _, status in acts} <= {"applied", "intended", "begun"}
    assert [tool for tool, status in acts if status == "begun"] == [tool for tool, _ in STORY], "all of it is begun"
    made = [tool for tool, status in acts if status == "applied"]
    assert 0 < len(made) < len(STORY), "and so much of it is made"
    wrong: list[str] = []
    for at in spread(len(told["points"]), max(2, KILLS // 2)):
        shutil.rmtree(waiting.case)
        shutil.copytree(waiting.folder / "halfway", waiting.case, symlinks=True)
        assert waiting.dies("recover", at), told["points"][at]
        try:
            assert waiting.look() in ("after", "made")
        except AssertionError as error:
            wrong.append(f"killed {told['points'][at]} when it went on: {error}")
    shutil.rmtree(waiting.folder / "halfway")
    assert not wrong, "\n".join(wrong)
