"""Death before and after each single call, on the way there and back: the next try finishes, or everything is as before."""

from __future__ import annotations

import itertools
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from tests.tools.files_system.dying import Died, Fuse
from tests.tools.files_system.signature import difference, signature
from tests.tools.files_system.world import World, reverse

from takeback.tools.system import Swapped, Unavailable


def build(root: Path) -> None:
    (root / "tree/deep").mkdir(parents=True)
    (root / "tree/deep/f").write_bytes(b"f\n")
    (root / "a").write_bytes(b"a\n" * 50)
    (root / "b").write_bytes(b"b\n")
    (root / "one").write_bytes(b"linked content, longer than what replaces it")
    os.link(root / "one", root / "two")
    os.symlink("a", root / "link")


CHANGES = {
    "overwrite": lambda s, r: s.stage_write(r("a"), b"new\n"),
    "create below new folders": lambda s, r: s.stage_write(r("n/m/f"), b"new\n"),
    "change in place": lambda s, r: s.stage_write(r("one"), b"short"),
    "delete": lambda s, r: s.stage_delete(r("a"), recursive=False),
    "delete a tree": lambda s, r: s.stage_delete(r("tree"), recursive=True),
    "move": lambda s, r: s.stage_move(r("a"), r("n/c"), overwrite=False),
    "move over": lambda s, r: s.stage_move(r("a"), r("b"), overwrite=True),
    "move a tree over": lambda s, r: s.stage_move(r("tree"), r("b"), overwrite=True),
    "move a link over": lambda s, r: s.stage_move(r("link"), r("b"), overwrite=True),
    "copy a tree": lambda s, r: s.stage_copy(r("tree"), r("copy"), overwrite=False),
    "copy over": lambda s, r: s.stage_copy(r("a"), r("b"), overwrite=True),
    "folders": lambda s, r: s.stage_directory(r("x/y")),
}


def picture(world: World):
    return signature(world.root, folder_times=False)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("engine", ["native", "portable"])
@pytest.mark.parametrize("then", ["again", "back"])
async def test_a_death_in_a_swap_is_made_good_by_the_next(tmp_path, engine, change, then):
    for at in itertools.count(1):
        untouched = True
        for after, undoing in itertools.product([False, True], [False, True]):
            base = tmp_path / f"{at}-{after}-{undoing}"
            untouched &= not await dies_once(World(base, engine == "portable"), change, at, after, undoing, then)
            shutil.rmtree(base)
        if untouched:
            return


async def dies_once(world: World, change: str, at: int, after: bool, undoing: bool, then: str) -> bool:
    build(world.root)
    system = await world.open()
    before = picture(world)
    staged = await CHANGES[change](system, system.resolve)
    world.store.kept.update(staged.blobs)
    effects = staged.effects
    if undoing:
        effects = reverse((await world.commit(staged)).effects)
    start = picture(world)
    fuse = Fuse(system, at, after=after)
    with suppress(Died):
        await system.swap(effects)
    await system.close()
    system = await world.open()
    reached = await system.swap(effects if then == "again" else reverse(effects))
    assert isinstance(reached, Swapped), (at, after, undoing, reached)
    if then == "back":
        assert difference(start, picture(world)) == {}, (at, after, undoing)
    elif undoing:
        assert difference(before, picture(world)) == {}, (at, after, undoing)
    else:
        assert isinstance(await system.swap(reverse(reached.effects)), Swapped), (at, after)
        assert difference(before, picture(world)) == {}, (at, after)
    await system.close()
    return fuse.burnt


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("engine", ["native", "portable"])
async def test_a_death_while_preparing_leaves_no_trace(tmp_path, engine, change):
    for at in itertools.count(1):
        world = World(tmp_path / str(at), engine == "portable")
        build(world.root)
        system = await world.open()
        before = signature(world.root)
        fuse = Fuse(system, at, after=at % 2 == 0)
        with suppress(Died):
            await CHANGES[change](system, system.resolve)
        assert difference(before, signature(world.root)) == {}
        await system.close()
        system = await world.open()
        await system.collect([], older_than_ns=0)
        assert os.listdir(world.data / "trash") == []
        await system.close()
        if not fuse.burnt:
            return


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("engine", ["native", "portable"])
async def test_an_error_in_a_swap_changes_nothing(tmp_path, engine, change):
    for at in itertools.count(1):
        world = World(tmp_path / str(at), engine == "portable")
        build(world.root)
        system = await world.open()
        staged = await CHANGES[change](system, system.resolve)
        world.store.kept.update(staged.blobs)
        before = picture(world)
        fuse = Fuse(system, at, after=False, error=OSError(28, "full"))
        try:
            await system.swap(staged.effects)
        except Unavailable as error:
            assert error.code == "no_space"
            assert difference(before, picture(world)) == {}, at
        await system.close()
        if not fuse.burnt:
            return
