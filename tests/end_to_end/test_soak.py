"""Random work, foreign edits, restarts, rollbacks and redos on real files, for as long as one likes (`make soak`).

`TAKEBACK_SOAK_SECONDS` says how long (60 by default); each round prints its seed when it fails. A few rounds always run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from takeback.journal.events import Caller
from takeback.server.engine.engine import Call, Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import Settings, WorkspaceSettings

AGENT = Caller(principal="local:soak", client="soak")
NAMES = ["a.txt", "b.txt", "c.md", "folder/d.txt", "folder/e.txt", "folder/deep/f.txt"]


class Soak:
    """A workspace, and dice."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.site = folder / "site"
        self.site.mkdir(parents=True)
        self.settings = Settings(
            triggers=TriggerSettings.off(),
            workspace=WorkspaceSettings(roots=(self.site,)),
            data=folder / "data",
            key_file=folder / "key.json",
            anchor_file=folder / "anchors",
            portable_files=self.dice.random() < 0.5,
        )
        for name in NAMES:
            if self.dice.random() < 0.7:
                path = self.site / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self.text())

    engine: Engine

    async def start(self) -> None:
        self.engine = await Engine.open(self.settings)

    def text(self) -> str:
        return "".join(f"{self.dice.randrange(1000)}\n" for _ in range(self.dice.randint(1, 30)))

    def act(self) -> tuple[str, dict[str, object]]:
        """Something an agent might try; not everything it tries is possible."""
        name, other = self.dice.sample([*NAMES, "folder", "new.txt"], 2)
        return self.dice.choice(
            [
                ("write_file", {"path": name, "content": self.text()}),
                ("write_file", {"path": name, "content": self.text()}),
                ("edit_file", {"path": name, "edits": [{"old_text": "1", "new_text": "one", "replace_all": True}]}),
                ("move_file", {"source": name, "destination": other, "overwrite": self.dice.random() < 0.5}),
                ("copy_file", {"source": name, "destination": other, "overwrite": self.dice.random() < 0.5}),
                ("delete_file", {"path": name, "recursive": True}),
                ("create_directory", {"path": f"{name}.d"}),
            ]
        )

    def person(self, number: int) -> str:
        """A person changes a file, or makes one; what they wrote, to be found again."""
        mark = f"a person was here {number} {self.dice.random()}\n"
        files = [path for path in self.site.rglob("*") if path.is_file() and ".takeback" not in path.parts]
        path = self.dice.choice(files) if files and self.dice.random() < 0.8 else self.site / f"person-{number}.txt"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        lines.insert(self.dice.randint(0, len(lines)), mark)
        path.write_text("".join(lines))
        return mark

    def world(self) -> dict[str, str | None]:
        return {
            path.relative_to(self.site).as_posix(): path.read_text() if path.is_file() else None
            for path in sorted(self.site.rglob("*"))
            if ".takeback" not in path.parts
        }


async def one_round(soak: Soak, number: int) -> AsyncIterator[bool]:
    """Work, disturb, take back, bring back. Yields where the process may end."""
    run = await soak.engine.start_run(AGENT, f"round {number}")
    before = soak.world()
    done = 0
    for _ in range(soak.dice.randint(1, 8)):
        tool, arguments = soak.act()
        answer = await soak.engine.call(Call(tool, arguments, AGENT, run_id=run.run_id))
        assert answer.status in ("applied", "failed"), answer
        assert answer.error is None or answer.error.code not in ("internal", "in_doubt"), answer
        done += answer.status == "applied"
    if not done:
        return
    after = soak.world()
    marks = [soak.person(each) for each in range(soak.dice.choice([0, 0, 1, 2]))]
    yield True
    disturbed = soak.world()
    back = await soak.engine.rollback(AGENT, run_id=run.run_id)
    now = soak.world()
    kept = "\n".join(content for content in now.values() if content)
    assert [mark for mark in marks if mark not in kept] == [], "a person's line was lost"
    if not marks:
        assert back.status == "complete", back
        assert now == before
    assert (back.status == "complete") == (not back.open_items and not back.other_runs), back
    yield True
    if back.rollback_id and any(step.outcome in ("restored", "merged") for step in back.steps):
        again = await soak.engine.redo(AGENT, back.rollback_id)
        if again.status == "complete" and back.status == "complete":
            assert soak.world() == (disturbed if marks else after)
    for item in await soak.engine.open_items(AGENT):
        if item.status == "open":
            await soak.engine.resolve_conflict(AGENT, item.conflict_id, "theirs")


async def rounds(folder: Path, seed: int, count: int) -> None:
    soak = Soak(folder, seed)
    await soak.start()
    try:
        for number in range(count):
            async for _ in one_round(soak, number):
                if soak.dice.random() < 0.2:
                    # a new process: what the old one knew only in memory is gone
                    await soak.engine.close()
                    await soak.start()
        found = await soak.engine.core.journal.verify()
        assert found.sound, found.problems
    finally:
        await soak.engine.close()


@pytest.fixture(autouse=True)
def nothing_breaks_off(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if "broke off" in record.getMessage()] == []


@pytest.mark.parametrize("seed", range(4))
async def test_random_work_can_be_taken_back_and_nothing_of_a_persons_is_lost(tmp_path: Path, seed: int):
    await rounds(tmp_path, seed, 5)


@pytest.mark.soak
async def test_random_work_for_as_long_as_one_likes(tmp_path: Path):
    until = time.monotonic() + float(os.environ.get("TAKEBACK_SOAK_SECONDS", "60"))
    seed = int(os.environ.get("TAKEBACK_SOAK_SEED", str(time.time_ns() % 1_000_000)))
    while time.monotonic() < until:
        try:
            await rounds(tmp_path / str(seed), seed, 10)
        except BaseException as error:
            error.add_note(f"TAKEBACK_SOAK_SEED={seed}")
            raise
        seed += 1
