"""Somebody saves exactly between the check and the exchange, or right after it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from tests.tools.files_system.world import World, reverse

from takeback.tools.system import Drifted, Swapped


def before_the(world: World, name: str, act: Callable[[], None]) -> None:
    """Do something once, just before the call of this name."""
    calls: Any = world.system._calls
    call = getattr(calls, name)

    def wrapped(*given: Any) -> Any:
        setattr(calls, name, call)
        act()
        return call(*given)

    setattr(calls, name, wrapped)


def after_the(world: World, name: str, act: Callable[[], None]) -> None:
    calls: Any = world.system._calls
    call = getattr(calls, name)

    def wrapped(*given: Any) -> Any:
        setattr(calls, name, call)
        result = call(*given)
        act()
        return result

    setattr(calls, name, wrapped)


@pytest.fixture
async def native(new_world: Callable[[bool], World]) -> World:
    world = new_world(False)
    await world.open()
    return world


def replace(world: World, name: str, content: bytes) -> Callable[[], None]:
    def act() -> None:
        (world.root / "fresh").write_bytes(content)
        os.replace(world.root / "fresh", world.root / name)

    return act


@pytest.mark.parametrize("undoing", [False, True])
async def test_a_save_just_before_the_exchange_wins(native, undoing):
    (native.root / "f").write_bytes(b"old")
    staged = await native.system.stage_write(native.system.resolve("f"), b"agent")
    effects = reverse((await native.commit(staged)).effects) if undoing else staged.effects
    before_the(native, "exchange", replace(native, "f", b"theirs"))
    answer = await native.system.swap(effects)
    assert isinstance(answer, Drifted)
    assert (native.root / "f").read_bytes() == b"theirs"
    if not undoing:
        await staged.discard()
        assert os.listdir(native.data / "trash") == []


async def test_a_write_in_place_just_before_the_exchange_wins(native):
    (native.root / "f").write_bytes(b"old")
    staged = await native.system.stage_write(native.system.resolve("f"), b"agent")
    before_the(native, "exchange", lambda: (native.root / "f").write_bytes(b"theirs") and None)
    assert isinstance(await native.system.swap(staged.effects), Drifted)
    assert (native.root / "f").read_bytes() == b"theirs"


async def test_of_two_saves_around_the_exchange_the_later_stands_and_the_earlier_is_kept(native):
    (native.root / "f").write_bytes(b"old")
    staged = await native.system.stage_write(native.system.resolve("f"), b"agent")
    after_the(native, "exchange", replace(native, "f", b"second save"))
    before_the(native, "exchange", replace(native, "f", b"first save"))
    assert isinstance(await native.system.swap(staged.effects), Drifted)
    assert (native.root / "f").read_bytes() == b"second save"
    kept = [(native.data / "trash" / name).read_bytes() for name in os.listdir(native.data / "trash")]
    assert kept == [b"first save"]


async def test_a_file_made_just_before_ours_wins(world):
    staged = await world.system.stage_write(world.system.resolve("f"), b"agent")
    before_the(world, "place", replace(world, "f", b"theirs"))
    assert isinstance(await world.system.swap(staged.effects), Drifted)
    assert (world.root / "f").read_bytes() == b"theirs"


async def test_a_save_just_before_a_deletion_wins(world):
    (world.root / "f").write_bytes(b"old")
    staged = await world.system.stage_delete(world.system.resolve("f"), recursive=False)
    before_the(world, "take", replace(world, "f", b"theirs"))
    assert isinstance(await world.system.swap(staged.effects), Drifted)
    assert (world.root / "f").read_bytes() == b"theirs"


async def test_a_file_put_into_a_tree_just_before_its_deletion_survives(world):
    (world.root / "t").mkdir()
    staged = await world.system.stage_delete(world.system.resolve("t"), recursive=True)
    before_the(world, "take", lambda: (world.root / "t/g").write_bytes(b"theirs") and None)
    assert isinstance(await world.system.swap(staged.effects), Drifted)
    assert (world.root / "t/g").read_bytes() == b"theirs"


@pytest.mark.parametrize("which", ["a", "b"])
@pytest.mark.parametrize("undoing", [False, True])
async def test_a_save_just_before_a_move_wins(native, which, undoing):
    (native.root / "a").write_bytes(b"a")
    (native.root / "b").write_bytes(b"b")
    resolve = native.system.resolve
    staged = await native.system.stage_move(resolve("a"), resolve("b"), overwrite=True)
    effects = reverse((await native.commit(staged)).effects) if undoing else staged.effects
    first = "exchange" if undoing else "take"
    before_the(native, first, replace(native, which, b"theirs"))
    answer = await native.system.swap(effects)
    assert isinstance(answer, Drifted)
    assert (native.root / which).read_bytes() == b"theirs"
    other = {"a": "b", "b": "a"}[which]
    if not undoing:
        assert (native.root / other).read_bytes() == other.encode()
    elif which == "a":
        assert (native.root / "b").read_bytes() == b"a"


async def test_a_drift_in_the_last_of_several_effects_takes_the_first_ones_back(world):
    swapped = await world.write("a/b/f", b"x")
    undone = await world.take_back(swapped)
    before_the(world, "sync_folder", lambda: None)
    calls: Any = world.system._calls
    call, left = calls.place, [3]

    def third(*given: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            (world.root / "a/b/f").write_bytes(b"theirs")
        return call(*given)

    calls.place = third
    answer = await world.system.swap(reverse(undone.effects))
    assert isinstance(answer, Drifted), answer
    calls.place = call
    assert (world.root / "a/b/f").read_bytes() == b"theirs"


async def test_a_save_right_after_the_exchange_is_not_ours_to_touch(world):
    (world.root / "f").write_bytes(b"old")
    staged = await world.system.stage_write(world.system.resolve("f"), b"agent")
    after_the(world, "sync_folder", replace(world, "f", b"theirs"))
    assert isinstance(await world.system.swap(staged.effects), Swapped)
    assert (world.root / "f").read_bytes() == b"theirs"


async def test_a_save_just_before_a_change_in_place_wins(world):
    (world.root / "f").write_bytes(b"old")
    os.link(world.root / "f", world.root / "g")
    staged = await world.system.stage_write(world.system.resolve("f"), b"agent")
    world.store.kept.update(staged.blobs)
    before_the(world, "sync", lambda: (world.root / "g").write_bytes(b"theirs") and None)
    assert isinstance(await world.system.swap(staged.effects), Drifted)
    assert (world.root / "f").read_bytes() == b"theirs"
    assert os.listdir(world.data / "in-place") == []
