"""A power cut below the whole process, where LazyFS is mounted: a file system that forgets what was not synced, when told to.

Optional: `TAKEBACK_LAZYFS` names the mounted folder, `TAKEBACK_LAZYFS_FIFO` the fifo that takes its faults (CONTRIBUTING.md).
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.crash.test_killed_processes import NAMES, _note, _settled, command, plant
from tests.protocol.conftest import Raw
from tests.signs import SECONDS

MOUNTED, FIFO = os.environ.get("TAKEBACK_LAZYFS", ""), os.environ.get("TAKEBACK_LAZYFS_FIFO", "")
CUTS = int(os.environ.get("TAKEBACK_LAZYFS_CUTS", "20"))

pytestmark = pytest.mark.skipif(
    not MOUNTED or not FIFO, reason="no LazyFS: TAKEBACK_LAZYFS and TAKEBACK_LAZYFS_FIFO say where one is mounted"
)


def tell(words: str) -> None:
    """Send LazyFS a command. It reads the next one when this one is done, so a second one waits for the first."""
    assert stat.S_ISFIFO(os.stat(FIFO).st_mode), f"{FIFO} is no fifo"
    with open(FIFO, "w") as fifo:
        fifo.write(words + "\n")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(MOUNTED) / "takeback"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_power_cut_at_any_moment_takes_nothing_that_was_acknowledged(folder: Path) -> None:
    planted = plant(folder)
    tell("lazyfs::cache-checkpoint")  # what was there before is on the disk
    acknowledged: dict[str, tuple[str, str]] = {}
    everything: set[str] = set()
    dice = random.Random(6)
    for turn in range(CUTS):
        client = Raw(command(folder, "serve"))
        try:
            client.ask("run", "tools/call", name="start_run", arguments={"goal": f"turn {turn}"})
            run = client.answer_to("run")["result"]["structuredContent"]["run_id"]
            sent: dict[int, tuple[str, str]] = {}
            for number in range(30):
                sent[number] = (dice.choice(NAMES), f"{turn} {number} {dice.random()}\n" * dice.choice([1, 3000]))
                everything.add(sent[number][1])
                client.call(number, "write_file", path=sent[number][0], content=sent[number][1], run_id=run)
            wait = dice.randint(0, 20)
            while wait and (message := client.answer()):
                wait -= "id" in message
                _note(message, sent, acknowledged)
        finally:
            client.process.kill()
            client.process.wait(timeout=SECONDS)
            client.stop()
        tell("lazyfs::clear-cache")
        tell("lazyfs::display-cache-usage")
    asyncio.run(_settled(folder, acknowledged, planted, everything))
