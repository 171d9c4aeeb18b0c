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

from takeback.journal.states import ABSENT, Effect
from takeback.tools.system import Refused, Swapped, Unavailable


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


LONG = b"a line that stays\n" * 5


async def died_after_writing(world: World, old: bytes, new: bytes):
    """A change in place, whole but for its note."""
    (world.root / "f").write_bytes(old)
    os.link(world.root / "f", world.root / "g")
    staged = await world.system.stage_write(world.system.resolve("f"), new)
    world.store.kept.update(staged.blobs)
    calls = world.system._calls
    unlink = calls.unlink

    def die(*given) -> None:
        raise Died

    calls.unlink = die
    with pytest.raises(Died):
        await world.system.swap(staged.effects)
    calls.unlink = unlink
    assert len(os.listdir(world.data / "in-place")) == 1
    return staged.effects


async def test_what_another_process_found_written_in_place_is_not_taken_back_by_the_next_start(world):
    effects = await died_after_writing(world, b"old", b"new")
    found = await world.system.swap(effects)  # as another process does that settles it
    assert isinstance(found, Swapped) and found.already
    assert os.listdir(world.data / "in-place") == []
    await world.system.close()
    await world.open()
    assert (world.root / "f").read_bytes() == b"new"


async def test_a_change_in_place_that_only_lacks_its_end_is_not_taken_back_at_the_next_start(world):
    effects = await died_after_writing(world, b"old", b"new")
    await world.system.close()
    await world.open()
    assert (world.root / "f").read_bytes() == b"new"
    assert os.listdir(world.data / "in-place") == []
    assert isinstance(await world.system.swap(effects), Swapped)


@pytest.mark.parametrize(
    ("old", "new", "left", "later"),
    [
        (LONG, b"a line that stays\n" * 3, 18, 0),  # shorter than either: no stop of ours leaves that
        (b"old", LONG, 36, 3600),  # as a stop of ours would have left it, but long after
    ],
    ids=["shortened", "later"],
)
async def test_what_somebody_made_of_a_file_after_a_death_is_not_taken_for_half_written(world, old, new, left, later):
    await died_after_writing(world, old, new)
    path = world.root / "f"
    os.truncate(path, left)
    if later:
        moment = path.stat().st_mtime_ns + later * 1_000_000_000
        os.utime(path, ns=(moment, moment))
    theirs = path.read_bytes()
    await world.system.close()
    await world.open()
    assert path.read_bytes() == theirs


ACTS = {
    "write": lambda s, r: s.stage_write(r("a"), b"agent\n"),
    "make": lambda s, r: s.stage_write(r("n"), b"agent\n"),
    "delete": lambda s, r: s.stage_delete(r("a"), recursive=False),
    "delete a tree": lambda s, r: s.stage_delete(r("tree"), recursive=True),
    "in folders": lambda s, r: s.stage_write(r("x/y"), b"agent\n"),
}


@pytest.mark.parametrize("act", ACTS)
async def test_what_the_slots_hold_tells_whether_a_change_was_made_that_somebody_has_written_over(world, act):
    build(world.root)
    staged = await ACTS[act](world.system, world.system.resolve)
    path = world.root / world.system.display(staged.effects[-1].object)
    if act not in ("in folders", "delete a tree"):
        kept = path.read_bytes() if path.exists() else None
        path.write_bytes(b"theirs, before it came to that\n")
        assert await world.system.happened(staged.effects) is False
        path.unlink()
        if kept is not None:
            path.write_bytes(kept)
            staged = await ACTS[act](world.system, world.system.resolve)
    await world.commit(staged)
    assert await world.system.happened(staged.effects) is None  # the path itself tells
    if path.exists():
        path.unlink()
    path.write_bytes(b"theirs")
    assert await world.system.happened(staged.effects) is True
    assert path.read_bytes() == b"theirs"


async def test_a_change_of_which_only_a_part_can_be_told_is_nobodys_to_decide_but_a_persons(world):
    path = world.root / "f"
    path.write_bytes(b"old")
    os.link(path, world.root / "g")
    staged = await world.system.stage_write(world.system.resolve("f"), b"agent")
    await world.commit(staged)
    path.write_bytes(b"theirs")
    with pytest.raises(Refused) as caught:
        await world.system.happened(staged.effects)
    assert caught.value.code == "cannot_tell" and "f since" in str(caught.value)


async def test_what_was_brought_out_of_an_effect_that_names_no_slot_is_found_by_the_next_try(world):
    """As where a person settles a conflict, and wants gone what somebody has put there."""
    path = world.root / "f"
    path.write_bytes(b"theirs")
    [present] = await world.system.look([world.system.resolve("f")])
    effects = [Effect(system="files", object=world.system.resolve("f"), before=present, after=ABSENT)]
    take = world.system._calls.take

    def dying(*given) -> None:
        take(*given)
        raise Died

    world.system._calls.take = dying
    with pytest.raises(Died):
        await world.system.swap(effects)
    assert not path.exists()
    del world.system._calls.take
    await world.system.close()
    await world.open()
    again = await world.system.swap(effects)
    assert isinstance(again, Swapped) and again.already
    await world.system.collect([effect.before for effect in again.effects], older_than_ns=0)
    await world.take_back(again)
    assert path.read_bytes() == b"theirs"
