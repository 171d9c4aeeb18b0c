"""Somebody saves between any two calls of a change, above all where it is not made in one step, and no save is lost."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from tests.tools.files_system.dying import Died, Fuse, between_calls
from tests.tools.files_system.world import World, reverse

from takeback.journal.states import Effect
from takeback.tools.system import Drifted, Swapped, TargetError

ACTS = ["write", "make", "delete", "move", "move over"]


async def effects_of(world: World, act: str, *, undoing: bool) -> Sequence[Effect]:
    """An act, ready to be made; or made, and ready to be taken back."""
    if act != "make":
        (world.root / "f").write_bytes(b"old")
    if act == "move over":
        (world.root / "g").write_bytes(b"over")
    system, f, g = world.system, world.system.resolve("f"), world.system.resolve("g")
    match act:
        case "write" | "make":
            staged = await system.stage_write(f, b"agent")
        case "delete":
            staged = await system.stage_delete(f, recursive=False)
        case _:
            staged = await system.stage_move(f, g, overwrite=act == "move over")
    return reverse((await world.commit(staged)).effects) if undoing else staged.effects


def save(path: Path, how: str) -> None:
    """As an editor does that writes beside and renames over, or one that opens what is there, or makes it."""
    if how == "replaces":
        (path.parent / "fresh").write_bytes(b"theirs")
        os.replace(path.parent / "fresh", path)
    else:
        path.write_bytes(b"theirs")


def named(answer: Swapped | Drifted | TargetError) -> str:
    """All that is said of places other than the path itself."""
    if isinstance(answer, Swapped):
        return " ".join([*answer.warnings, *(str((each.before.ref, each.after.ref)) for each in answer.effects)])
    return answer.why if isinstance(answer, Drifted) else f"{answer} {answer.advice}"


@pytest.mark.parametrize("how", ["replaces", "writes in place"])
@pytest.mark.parametrize("name", ["f", "g"])
@pytest.mark.parametrize("undoing", [False, True])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("engine", ["native", "portable"])
async def test_what_somebody_saves_between_two_calls_is_there_or_is_named(
    tmp_path: Path, engine: str, act: str, undoing: bool, name: str, how: str
) -> None:
    for at in itertools.count(1):
        world = World(tmp_path / str(at), engine == "portable")
        await world.open()
        effects = await effects_of(world, act, undoing=undoing)
        answer: Swapped | Drifted | TargetError
        with between_calls(world.system._calls, at, lambda path=world.root / name: save(path, how)) as seen:
            try:
                answer = await world.system.swap(effects)
            except TargetError as error:
                answer = error
        await world.system.close()
        if not seen:
            assert at > (2 if engine == "portable" else 1)
            return
        places = [world.root / "f", world.root / "g", *(world.data / "trash").iterdir()]
        holding = [path for path in places if path.exists() and path.read_bytes() == b"theirs"]
        where = [path for path in holding if path == world.root / name or path.name in named(answer)]
        assert where, (at, seen, holding, answer)
        if (
            act == "move over" and name == "f"
        ):  # they saved under the one name, so what the other one stood for is there
            assert [path for path in places if path.exists() and path.read_bytes() == b"over"], (at, seen, answer)


@pytest.mark.parametrize("how", ["replaces", "writes in place"])
async def test_a_save_in_the_instant_of_a_death_is_kept(tmp_path: Path, how: str) -> None:
    """The name is absent when the process dies; somebody makes the file anew; then the next try comes."""
    for at in itertools.count(1):
        world = World(tmp_path / str(at), True)
        await world.open()
        effects = await effects_of(world, "write", undoing=False)

        def die() -> None:
            raise Died

        with between_calls(world.system._calls, at, die) as seen, suppress(Died):
            await world.system.swap(effects)
        await world.system.close()
        absent = not (world.root / "f").exists()
        save(world.root / "f", how)
        await world.open()
        answer = await world.system.swap(effects)
        await world.system.close()
        if not seen:
            return
        assert isinstance(answer, Drifted), (at, seen, answer)
        assert (world.root / "f").read_bytes() == b"theirs"
        if absent:  # they saved over nothing, so what had been there must not be gone
            there = [path for path in (world.data / "trash").iterdir() if path.read_bytes() == b"old"]
            assert there and there[0].name in answer.why, (at, seen, answer)


@pytest.mark.parametrize("undoing", [False, True])
@pytest.mark.parametrize("act", ["write", "delete", "move over"])
@pytest.mark.parametrize("engine", ["native", "portable"])
async def test_a_save_just_before_an_act_that_dies_is_put_back_by_the_next_try(
    tmp_path: Path, engine: str, act: str, undoing: bool
) -> None:
    """The act brings it out, and dies before it has looked at what that is."""
    for at in itertools.count(1):
        world = World(tmp_path / str(at), engine == "portable")
        await world.open()
        effects = await effects_of(world, act, undoing=undoing)
        path = world.root / ("g" if act == "move over" else "f")
        fuse = Fuse(world.system, at, after=True)
        with between_calls(world.system._calls, 1, lambda path=path: save(path, "replaces")), suppress(Died):
            await world.system.swap(effects)
        await world.system.close()
        await world.open()
        answer = await world.system.swap(effects)
        await world.system.close()
        assert isinstance(answer, Drifted), (at, answer)
        # a moved file may have gone back already, as they left it
        there = [path, world.root / "f"] if act == "move over" and undoing else [path]
        assert [each for each in there if each.exists() and each.read_bytes() == b"theirs"], (at, answer)
        if not fuse.burnt:
            return
