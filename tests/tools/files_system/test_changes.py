"""What each change does, and that taking it back leaves the world as it was."""

from __future__ import annotations

import os

from takeback.tools.system import Drifted, Swapped


async def test_a_new_file_appears_and_is_taken_back_with_its_folders(world):
    swapped = await world.write("a/b/f.txt", b"hello\n")
    assert (world.root / "a/b/f.txt").read_bytes() == b"hello\n"
    undone = await world.take_back(swapped)
    assert os.listdir(world.root) == []
    redone = await world.take_back(undone)
    assert (world.root / "a/b/f.txt").read_bytes() == b"hello\n"
    await world.take_back(redone)
    assert os.listdir(world.root) == []


async def test_an_overwritten_file_comes_back_as_the_same_inode(world):
    path = world.root / "f"
    path.write_bytes(b"old")
    before = path.stat()
    swapped = await world.write("f", b"new")
    assert path.read_bytes() == b"new"
    await world.take_back(swapped)
    after = path.stat()
    assert path.read_bytes() == b"old"
    assert (before.st_ino, before.st_mtime_ns, before.st_mode) == (after.st_ino, after.st_mtime_ns, after.st_mode)


async def test_a_deleted_tree_comes_back(world):
    (world.root / "t/u").mkdir(parents=True)
    (world.root / "t/u/f").write_bytes(b"x")
    staged = await world.system.stage_delete(world.system.resolve("t"), recursive=True)
    swapped = await world.commit(staged)
    assert os.listdir(world.root) == []
    await world.take_back(swapped)
    assert (world.root / "t/u/f").read_bytes() == b"x"


async def test_a_move_over_a_file_is_taken_back(world):
    (world.root / "a").write_bytes(b"a")
    (world.root / "b").write_bytes(b"b")
    resolve = world.system.resolve
    swapped = await world.commit(await world.system.stage_move(resolve("a"), resolve("b"), overwrite=True))
    assert os.listdir(world.root) == ["b"]
    undone = await world.take_back(swapped)
    assert (world.root / "a").read_bytes() == b"a"
    assert (world.root / "b").read_bytes() == b"b"
    await world.take_back(undone)
    assert (world.root / "b").read_bytes() == b"a"


async def test_a_hard_linked_file_is_changed_where_it_is(world):
    (world.root / "a").write_bytes(b"old content")
    os.link(world.root / "a", world.root / "b")
    swapped = await world.write("a", b"new")
    assert (world.root / "b").read_bytes() == b"new"
    await world.take_back(swapped)
    assert (world.root / "b").read_bytes() == b"old content"
    assert (world.root / "a").stat().st_ino == (world.root / "b").stat().st_ino


async def test_a_copied_tree_is_taken_back(world):
    (world.root / "t").mkdir()
    (world.root / "t/f").write_bytes(b"x")
    resolve = world.system.resolve
    swapped = await world.commit(await world.system.stage_copy(resolve("t"), resolve("n/c"), overwrite=False))
    assert (world.root / "n/c/f").read_bytes() == b"x"
    await world.take_back(swapped)
    assert os.listdir(world.root) == ["t"]


async def test_somebody_elses_edit_is_not_overwritten(world):
    swapped = await world.write("f", b"one\n")
    (world.root / "f").write_bytes(b"two\n")
    reversed_effects = [effect.reversed() for effect in swapped.effects]
    assert isinstance(await world.system.swap(reversed_effects), Drifted)
    assert (world.root / "f").read_bytes() == b"two\n"


async def test_a_repeated_swap_says_already(world):
    staged = await world.system.stage_write(world.system.resolve("f"), b"x")
    await world.commit(staged)
    again = await world.system.swap(staged.effects)
    assert isinstance(again, Swapped)
    assert again.already
