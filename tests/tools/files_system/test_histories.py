"""Random histories: taken back, the tree is what it was, bit for bit; done again, it is what it had become."""

from __future__ import annotations

import random

import pytest
from tests.tools.files_system.histories import HISTORIES, grow, random_change
from tests.tools.files_system.signature import difference, signature
from tests.tools.files_system.world import World


@pytest.mark.parametrize("engine", ["native", "portable"])
async def test_every_history_is_taken_back_and_done_again_exactly(tmp_path, engine):
    for seed in range(HISTORIES):
        await one_history(World(tmp_path / str(seed), engine == "portable"), seed, native=engine == "native")


async def one_history(world: World, seed: int, *, native: bool) -> None:
    rng = random.Random(seed)
    grow(world.root, rng)
    system = await world.open()
    try:
        pictures, done = [signature(world.root, inodes=True)], []
        for _ in range(rng.randint(1, 8)):
            staged = await random_change(system, world.root, rng)
            if staged is None:
                assert difference(pictures[-1], signature(world.root, inodes=True)) == {}, seed
                continue
            if rng.random() < 0.15:
                await staged.discard()
                assert difference(pictures[-1], signature(world.root, inodes=True)) == {}, seed
                continue
            done.append(await world.commit(staged))
            pictures.append(signature(world.root, inodes=True))
        for _ in range(rng.randint(1, 2)):
            for at in reversed(range(len(done))):
                done[at] = await world.take_back(done[at])
                assert difference(pictures[at], signature(world.root, inodes=True)) == {}, (seed, at)
            for at in range(len(done)):
                done[at] = await world.take_back(done[at])
                assert difference(pictures[at + 1], signature(world.root, inodes=True)) == {}, (seed, at, "again")
    finally:
        await system.close()
