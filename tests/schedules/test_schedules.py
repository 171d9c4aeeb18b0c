"""The engine on a real journal and the in-memory system, in every order that a seed can think of.

`TAKEBACK_SCHEDULES` says how many orders of each story (30 every day; `make schedules` 1,000); every third also ends in a death
somewhere. What failed says its seed; `TAKEBACK_SCHEDULE=STORY:SEED[:STEP]` plays exactly that order again.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.crash.shim import memory_folder
from tests.schedules.mutants import MUTANTS
from tests.schedules.stories import STORIES
from tests.schedules.world import Story, play

ORDERS = int(os.environ.get("TAKEBACK_SCHEDULES", "30"))
ONE = os.environ.get("TAKEBACK_SCHEDULE", "")
ENOUGH_FOR_A_MUTANT = 150

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="each order is played in a fork")


@pytest.fixture
def folder() -> Iterator[Path]:
    for path in memory_folder():
        yield path / "one"


def named(story: Story, seed: int, dies_at: int | None = None) -> str:
    return f"{story.__name__}:{seed}" + (f":{dies_at}" if dies_at is not None else "")


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_in_whatever_order_things_happen_all_of_it_holds(folder: Path, story: Story) -> None:
    if ONE:
        one_order_again(folder, story)
        return
    orders: set[str] = set()
    for seed in range(ORDERS):
        played = play(folder, story, seed)
        assert not played.wrong, f"TAKEBACK_SCHEDULE={named(story, seed)} replays this:\n{played.wrong}"
        orders.add(played.order)
        if seed % 3 == 0:
            dies_at = random.Random(seed).randrange(30, played.steps)
            died = play(folder, story, seed, dies_at=dies_at)
            assert not died.wrong, f"TAKEBACK_SCHEDULE={named(story, seed, dies_at)} replays this:\n{died.wrong}"
    assert len(orders) > ORDERS * 0.9, "hardly anything was tried"


def one_order_again(folder: Path, story: Story) -> None:
    name, seed, *dies_at = ONE.split(":")
    if name != story.__name__:
        pytest.skip("an order of another story is asked for")
    played = play(folder, story, int(seed), dies_at=int(dies_at[0]) if dies_at else None)
    assert not played.wrong, played.wrong


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_race_is_found(folder: Path, mutant: str) -> None:
    plant, story = MUTANTS[mutant]
    for seed in range(ENOUGH_FOR_A_MUTANT):
        found = play(folder, story, seed, after=plant)
        if found.wrong:
            again = play(folder, story, seed, after=plant)
            assert (again.order, again.steps) == (found.order, found.steps), "a seed that does not replay"
            return
    raise AssertionError(f"{mutant}: not found in {ENOUGH_FOR_A_MUTANT} orders")


def test_a_seed_is_the_same_order_in_any_process(folder: Path) -> None:
    script = (
        "import json, sys; from pathlib import Path; from tests.schedules.world import play;"
        "from tests.schedules.stories import STORIES;"
        "print(json.dumps([play(Path(sys.argv[1]), story, 7).order for story in STORIES]))"
    )
    orders = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", script, str(folder)],
                cwd=Path(__file__).parents[2],
                env={**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": "."},
                check=True,
                capture_output=True,
                timeout=60,
            ).stdout
        )
        for hashes in ("1", "2")
    ]
    assert orders[0] == orders[1]
