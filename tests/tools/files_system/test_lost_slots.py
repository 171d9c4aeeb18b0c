"""What lay in the trash is gone or something else, and is made again from its image; then the process dies."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from pathlib import Path

import pytest
from tests.tools.files_system.dying import Died, Fuse, between_calls
from tests.tools.files_system.world import World, reverse

from takeback.journal.states import ABSENT, Effect, altered
from takeback.tools.system import Drifted, Swapped

LARGE = b"agent" * 20_000
"""More than an image is kept of."""


async def to_be_made_again(world: World, act: str) -> tuple[Effect, ...]:
    """What takes an act back whose earlier file is not in the trash any more, or was changed there."""
    (world.root / "f").write_bytes(b"old")
    if act == "move over":
        (world.root / "h").write_bytes(LARGE)
        system = world.system
        done = await world.commit(await system.stage_move(system.resolve("h"), system.resolve("f"), overwrite=True))
    else:
        done = await world.write("f", LARGE)
    [slot] = (world.data / "trash").iterdir()
    if act == "written to":
        slot.write_bytes(b"late")
    else:
        slot.unlink()
    return reverse(done.effects)


@pytest.mark.parametrize("act", ["collected", "written to", "move over"])
@pytest.mark.parametrize("engine", ["native", "portable"])
async def test_what_a_death_left_of_an_undo_from_an_image_can_still_be_redone(
    tmp_path: Path, engine: str, act: str
) -> None:
    for at in itertools.count(1):
        world = World(tmp_path / str(at), engine == "portable")
        await world.open()
        effects = await to_be_made_again(world, act)
        fuse = Fuse(world.system, at, after=True)
        with suppress(Died):
            await world.system.swap(effects)
        await world.system.close()
        await world.open()
        back = await world.system.swap(effects)
        assert isinstance(back, Swapped), (at, back)
        assert (world.root / "f").read_bytes() == b"old"
        await world.system.collect(
            [state for each in back.effects for state in (each.before, each.after)], older_than_ns=0
        )
        again = await world.system.swap(reverse(back.effects))
        assert isinstance(again, Swapped), (at, again)
        assert (world.root / "f").read_bytes() == LARGE
        await world.system.close()
        if fuse.left > 0:
            return


@pytest.mark.parametrize("act", ["collected", "written to"])
@pytest.mark.parametrize("engine", ["native", "portable"])
async def test_a_save_that_an_undo_from_an_image_brought_out_as_it_died_goes_back(
    tmp_path: Path, engine: str, act: str
) -> None:
    for at in itertools.count(1):
        world = World(tmp_path / str(at), engine == "portable")
        await world.open()
        effects = await to_be_made_again(world, act)

        def save(path: Path = world.root / "f") -> None:
            (path.parent / "fresh").write_bytes(b"theirs")
            os.replace(path.parent / "fresh", path)

        fuse = Fuse(world.system, at, after=True)
        with between_calls(world.system._calls, 1, save) as seen, suppress(Died):
            await world.system.swap(effects)
        await world.system.close()
        await world.open()
        answer = await world.system.swap(effects)
        await world.system.close()
        assert seen and isinstance(answer, Drifted), (at, answer)
        assert (world.root / "f").read_bytes() == b"theirs", (at, answer)
        if fuse.left > 0:
            return


async def test_a_save_that_left_for_a_slot_that_was_taken_goes_back_after_a_death(world: World) -> None:
    """As where a deletion is restored of a file that somebody has made anew: its slot holds what was deleted then."""
    path = world.root / "f"
    path.write_bytes(b"earlier")
    system, f = world.system, world.system.resolve("f")
    deleted = await world.commit(await system.stage_delete(f, recursive=False))
    path.write_bytes(b"later" * 20_000)
    [present] = await system.look([f])
    after = altered(ABSENT, ref=deleted.effects[-1].after.ref)
    effects = [Effect(system="files", object=f, before=present, after=after)]
    take = system._calls.take

    def dying(*given: object) -> None:
        path.write_bytes(b"theirs")
        take(*given)
        raise Died

    system._calls.take = dying
    with pytest.raises(Died):
        await system.swap(effects)
    del system._calls.take
    await system.close()
    await world.open()
    answer = await world.system.swap(effects)
    assert isinstance(answer, Drifted)
    assert path.read_bytes() == b"theirs"
