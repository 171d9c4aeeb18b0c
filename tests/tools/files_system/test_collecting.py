"""Collecting the trash while an act uses what lies in it, and a collector that dies."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.tools.files_system.dying import Died, Fuse, between_calls
from tests.tools.files_system.signature import signature
from tests.tools.files_system.world import World, reverse

from takeback.tools.files.system import FileSystem
from takeback.tools.system import Swapped

HOUR = 3600 * 10**9


def hours_later(system: FileSystem) -> None:
    system._trashes._clock = lambda: time.time_ns() + 2 * HOUR


def plant(root: Path) -> None:
    (root / "f").write_bytes(b"old")
    (root / "t").mkdir()
    (root / "t/g").write_bytes(b"g")


def tick(probe: Path, past_ns: int) -> None:
    """Until the file system's clock has gone on, which it does a few hundred times a second."""
    probe.touch()
    while probe.stat().st_ctime_ns <= past_ns:
        probe.touch()


async def another(world: World) -> FileSystem:
    """Another process on the same data directory."""
    return await FileSystem.open(
        [world.root], world.data, world.store, object_bytes=1 << 30, trash_bytes=1 << 40, portable=world.portable
    )


async def made(world: World, act: str) -> Swapped:
    system, resolve = world.system, world.system.resolve
    match act:
        case "write":
            return await world.write("f", b"new")
        case "move over":
            (world.root / "h").write_bytes(b"moved")
            return await world.commit(await system.stage_move(resolve("h"), resolve("f"), overwrite=True))
        case _:
            return await world.commit(await system.stage_delete(resolve("t"), recursive=True))


@pytest.mark.parametrize("act", ["write", "move over", "delete a tree"])
@pytest.mark.parametrize("engine", ["native", "portable"])
async def test_what_an_act_takes_back_is_not_collected_under_its_hands(tmp_path: Path, engine: str, act: str) -> None:
    for at in itertools.count(1):
        world = World(tmp_path / str(at), engine == "portable")
        plant(world.root)
        await world.open()
        done = await made(world, act)
        collector = await another(world)
        for system in (world.system, collector):
            hours_later(system)

        def collect(collector: FileSystem = collector) -> None:
            asyncio.run(collector.collect([], older_than_ns=HOUR))

        with between_calls(world.system._calls, at, collect) as seen:
            back = await world.take_back(done)
        assert not back.warnings or engine == "portable", (at, seen, back)
        assert (world.root / "f").read_bytes() == b"old"
        assert (world.root / "t/g").read_bytes() == b"g"
        await world.take_back(back)  # what came out in exchange is there too
        await world.system.close()
        await collector.close()
        if not seen:
            return


@pytest.mark.parametrize("engine", ["native", "portable"])
async def test_what_a_collector_died_over_is_finished_by_the_next_one(tmp_path: Path, engine: str) -> None:
    for at in itertools.count(1):
        world = World(tmp_path / str(at), engine == "portable")
        plant(world.root)
        await world.open()
        for act in ("write", "delete a tree"):
            await made(world, act)
        fuse = Fuse(world.system, at, after=at % 2 == 0)
        hours_later(world.system)
        with suppress(Died):
            await world.system.collect([], older_than_ns=HOUR)
        await world.system.close()
        await world.open()
        hours_later(world.system)
        await world.system.collect([], older_than_ns=HOUR)
        assert os.listdir(world.data / "trash") == [], at
        await world.system.close()
        if not fuse.burnt:
            assert at > 4
            return


@pytest.mark.parametrize("dies", [False, True])
async def test_what_was_put_into_a_slot_as_it_was_being_emptied_goes_back_into_it(world: World, dies: bool) -> None:
    """By an act to which the clock said that what lies there is new."""
    plant(world.root)
    done = await made(world, "write")
    [slot] = os.listdir(world.data / "trash")
    collector = await another(world)
    hours_later(collector)
    calls: Any = collector._calls
    take, place = calls.take, calls.place

    def died(*given: Any) -> None:
        raise Died

    def taken(*given: Any) -> None:
        asyncio.run(world.system.swap(reverse(done.effects)))
        take(*given)
        calls.place = died if dies else place

    calls.take = taken
    if dies:
        with pytest.raises(Died):
            await collector.collect([], older_than_ns=HOUR)
    else:
        await collector.collect([], older_than_ns=HOUR)
    calls.take, calls.place = take, place
    if dies:
        assert os.listdir(world.data / "trash") != [slot]
        await collector.collect([], older_than_ns=HOUR)
    await collector.close()
    assert (world.root / "f").read_bytes() == b"old"
    assert os.listdir(world.data / "trash") == [slot]
    assert (world.data / "trash" / slot).read_bytes() == b"new"


async def test_what_was_taken_back_and_redone_since_a_collector_looked_stays(world: World) -> None:
    plant(world.root)
    done = await made(world, "write")
    [slot] = os.listdir(world.data / "trash")
    collector = await another(world)
    hours_later(collector)
    calls: Any = collector._calls
    lstat = calls.lstat

    def looked(*given: Any) -> Any:
        there = lstat(*given)
        if given[-1] == slot.encode():
            calls.lstat = lstat
            back = asyncio.run(world.system.swap(reverse(done.effects)))
            assert isinstance(back, Swapped)
            tick(world.data / "probe", there.st_ctime_ns)
            assert isinstance(asyncio.run(world.system.swap(reverse(back.effects))), Swapped)
        return there

    calls.lstat = looked
    assert await collector.collect([], older_than_ns=HOUR) == 0
    await collector.close()
    await world.take_back(done)
    assert (world.root / "f").read_bytes() == b"old"


async def test_a_copy_is_brought_out_of_the_trash_whole_or_not_at_all(world: World, tmp_path: Path) -> None:
    plant(world.root)
    done = await made(world, "delete a tree")
    collector = await another(world)
    for system in (world.system, collector):
        hours_later(system)
    calls: Any = world.system._calls
    open_folder = calls.open_folder

    def opened(*given: Any) -> Any:
        asyncio.run(collector.collect([], older_than_ns=HOUR))
        return open_folder(*given)

    calls.open_folder = opened
    assert await world.system.bring_out(done.effects[-1].before, tmp_path / "out")
    calls.open_folder = open_folder
    await collector.close()
    there = signature(tmp_path / "out", folder_times=False)
    await world.take_back(done)
    assert there.keys() == signature(world.root / "t", folder_times=False).keys()
