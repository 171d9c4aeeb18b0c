"""Somebody else edits, deletes, creates, holds files open: nothing of theirs is lost."""

from __future__ import annotations

import os
import random
import stat
import threading

import pytest
from tests.tools.files_system.histories import HISTORIES, any_path, grow, random_change
from tests.tools.files_system.signature import signature
from tests.tools.files_system.world import World, reverse

from takeback.tools.system import Clash, Drifted, Merged, Swapped

LINES = [b"line %d\n" % i for i in range(30)]


async def test_an_edit_elsewhere_in_a_text_stays_when_ours_is_removed(world):
    path = world.root / "f"
    path.write_bytes(b"".join(LINES))
    swapped = await world.write("f", b"".join([*LINES[:5], b"agent\n", *LINES[6:]]))
    path.write_bytes(path.read_bytes() + b"person\n")
    result = await world.take_back_or_merge(swapped)
    assert isinstance(result, Swapped), result
    assert path.read_bytes() == b"".join([*LINES, b"person\n"])
    await world.take_back(result)
    assert path.read_bytes() == b"".join([*LINES[:5], b"agent\n", *LINES[6:], b"person\n"])


async def test_an_edit_at_the_same_place_is_a_clash_with_a_proposal(world):
    path = world.root / "f"
    path.write_bytes(b"".join(LINES))
    swapped = await world.write("f", b"".join([*LINES[:5], b"agent\n", *LINES[6:]]))
    edited = b"".join([*LINES[:5], b"person\n", *LINES[6:]])
    path.write_bytes(edited)
    wanted = reverse(swapped.effects)
    present = await world.system.look([e.object for e in wanted], [e.before for e in wanted])
    answer = await world.system.merge(wanted, present)
    assert isinstance(answer, Clash)
    assert path.read_bytes() == edited
    if answer.proposal is not None:
        proposed = await world.system.read(answer.proposal)
        assert proposed is not None
        assert b"person" in proposed


async def test_a_large_text_merges_from_its_stored_difference(world):
    path = world.root / "f"
    lines = [b"%d %d\n" % (i, i * 7919) for i in range(60_000)]
    path.write_bytes(b"".join(lines))
    swapped = await world.write("f", b"".join([*lines[:500], b"agent\n", *lines[501:]]))
    path.write_bytes(path.read_bytes() + b"person\n")
    assert isinstance(await world.take_back_or_merge(swapped), Swapped)
    assert path.read_bytes() == b"".join([*lines, b"person\n"])


async def test_a_changed_mode_stays_and_our_content_goes(world):
    path = world.root / "f"
    path.write_bytes(b"\0old")
    swapped = await world.write("f", b"\0new")
    path.chmod(0o751)
    assert isinstance(await world.take_back_or_merge(swapped), Swapped)
    assert path.read_bytes() == b"\0old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o751


async def test_the_same_merge_prepared_twice_is_the_same_effect(world):
    path = world.root / "f"
    path.write_bytes(b"".join(LINES))
    swapped = await world.write("f", b"".join([b"agent\n", *LINES]))
    path.write_bytes(path.read_bytes() + b"person\n")
    wanted = reverse(swapped.effects)
    present = await world.system.look([e.object for e in wanted], [e.before for e in wanted])
    assert await world.system.merge(wanted, present) == await world.system.merge(wanted, present)


async def test_a_moved_file_that_was_edited_goes_back_as_edited(world):
    (world.root / "a").write_bytes(b"old")
    resolve = world.system.resolve
    swapped = await world.commit(await world.system.stage_move(resolve("a"), resolve("b"), overwrite=False))
    (world.root / "b").write_bytes(b"edited")
    result = await world.take_back_or_merge(swapped)
    assert isinstance(result, Swapped), result
    assert os.listdir(world.root) == ["a"]
    assert (world.root / "a").read_bytes() == b"edited"
    await world.take_back(result)
    assert (world.root / "b").read_bytes() == b"edited"


async def test_a_move_is_not_taken_back_over_something_new_at_its_source(world):
    (world.root / "a").write_bytes(b"old")
    resolve = world.system.resolve
    swapped = await world.commit(await world.system.stage_move(resolve("a"), resolve("b"), overwrite=False))
    (world.root / "a").write_bytes(b"theirs")
    wanted = reverse(swapped.effects)
    present = await world.system.look([e.object for e in wanted], [e.before for e in wanted])
    answer = await world.system.merge(wanted, present)
    assert isinstance(answer, Clash)
    assert answer.why == "Something else stands at a now."
    assert (world.root / "a").read_bytes() == b"theirs"


async def test_an_edited_tree_that_was_moved_goes_back_as_edited(world):
    (world.root / "t").mkdir()
    (world.root / "t/f").write_bytes(b"old")
    (world.root / "o").write_bytes(b"overwritten")
    resolve = world.system.resolve
    swapped = await world.commit(await world.system.stage_move(resolve("t"), resolve("o"), overwrite=True))
    (world.root / "o/g").write_bytes(b"theirs")
    assert isinstance(await world.take_back_or_merge(swapped), Swapped)
    assert (world.root / "t/g").read_bytes() == b"theirs"
    assert (world.root / "o").read_bytes() == b"overwritten"


async def test_folders_that_hold_something_of_theirs_stay_and_the_file_goes(world):
    swapped = await world.write("a/b/f", b"ours")
    (world.root / "a/b/g").write_bytes(b"theirs")
    result = await world.take_back_or_merge(swapped)
    assert isinstance(result, Swapped), result
    assert os.listdir(world.root / "a/b") == ["g"]
    assert (world.root / "a/b/g").read_bytes() == b"theirs"
    await world.take_back(result)
    assert sorted(os.listdir(world.root / "a/b")) == ["f", "g"]


async def test_a_created_folder_that_is_not_empty_is_a_clash(world):
    swapped = await world.commit(await world.system.stage_directory(world.system.resolve("d")))
    (world.root / "d/theirs").write_bytes(b"x")
    result = await world.take_back_or_merge(swapped)
    assert isinstance(result, str)
    assert "not empty" in result
    assert (world.root / "d/theirs").read_bytes() == b"x"


@pytest.mark.parametrize("theirs", ["edit", "delete", "folder"])
async def test_a_created_file_that_they_changed_is_left_alone(world, theirs):
    swapped = await world.write("f", b"ours")
    path = world.root / "f"
    path.unlink()
    if theirs == "edit":
        path.write_bytes(b"theirs")
    elif theirs == "folder":
        path.mkdir()
    result = await world.take_back_or_merge(swapped)
    if theirs == "delete":
        assert isinstance(result, Swapped)
    else:
        assert result == "f was made by this action and changed by somebody else since."
        assert path.exists()


async def test_a_deleted_file_that_they_made_again_is_a_clash(world):
    path = world.root / "f"
    path.write_bytes(b"old")
    swapped = await world.commit(await world.system.stage_delete(world.system.resolve("f"), recursive=False))
    path.write_bytes(b"theirs")
    assert isinstance(await world.take_back_or_merge(swapped), str)
    assert path.read_bytes() == b"theirs"


async def test_a_copy_over_a_file_keeps_the_mode_that_they_gave_it(world):
    (world.root / "a").write_bytes(b"a")
    (world.root / "b").write_bytes(b"b")
    (world.root / "b").chmod(0o600)
    resolve = world.system.resolve
    swapped = await world.commit(await world.system.stage_copy(resolve("a"), resolve("b"), overwrite=True))
    os.utime(world.root / "b", ns=(5, 5))
    assert isinstance(await world.take_back_or_merge(swapped), Swapped)
    assert (world.root / "b").read_bytes() == b"b"
    assert stat.S_IMODE((world.root / "b").stat().st_mode) == 0o600


async def test_a_late_writer_does_not_get_into_what_is_put_back(world):
    path = world.root / "f"
    path.write_bytes(b"old")
    with path.open("r+b") as late:
        swapped = await world.write("f", b"new")
        late.write(b"LATE")
    result = await world.take_back(swapped)
    assert path.read_bytes() == b"old"
    assert any("kept" in warning for warning in result.warnings)
    kept = [name for name in os.listdir(world.data / "trash") if name.startswith("kept-")]
    assert [(world.data / "trash" / name).read_bytes() for name in kept] == [b"LATE"]
    await world.system.collect([], older_than_ns=0)
    assert set(kept) <= set(os.listdir(world.data / "trash"))


async def test_a_late_writer_to_a_large_file_is_reported_not_overwritten(world):
    path = world.root / "f"
    path.write_bytes(b"x" * 100_000)
    with path.open("r+b") as late:
        swapped = await world.write("f", b"new")
        late.write(b"LATE")
    answer = await world.system.swap(reverse(swapped.effects))
    assert isinstance(answer, Drifted)
    assert "still had it open" in answer.why
    assert path.read_bytes() == b"new"


async def test_what_a_clean_up_took_from_the_trash_comes_back_from_its_small_image(world):
    path = world.root / "f"
    path.write_bytes(b"old")
    path.chmod(0o640)
    os.setxattr(path, "user.note", b"kept")
    os.utime(path, ns=(1, 2))
    before = signature(world.root, folder_times=False)
    changed = await world.write("f", b"new")
    removed = await world.commit(await world.system.stage_delete(world.system.resolve("f"), recursive=False))
    for name in os.listdir(world.data / "trash"):
        (world.data / "trash" / name).unlink()
    assert isinstance(await world.system.swap(reverse(removed.effects)), Drifted | Swapped)
    assert path.read_bytes() == b"new"
    await world.take_back(changed)
    assert signature(world.root, folder_times=False) == before


async def test_what_a_move_overwrote_comes_back_from_its_small_image(world):
    (world.root / "a").write_bytes(b"a")
    (world.root / "b").write_bytes(b"b")
    resolve = world.system.resolve
    swapped = await world.commit(await world.system.stage_move(resolve("a"), resolve("b"), overwrite=True))
    for name in os.listdir(world.data / "trash"):
        (world.data / "trash" / name).unlink()
    await world.take_back(swapped)
    assert (world.root / "a").read_bytes() == b"a"
    assert (world.root / "b").read_bytes() == b"b"


async def test_large_files_that_are_gone_from_the_trash_are_said_to_be(world):
    (world.root / "f").write_bytes(b"x" * 100_000)
    swapped = await world.commit(await world.system.stage_delete(world.system.resolve("f"), recursive=False))
    for name in os.listdir(world.data / "trash"):
        (world.data / "trash" / name).unlink()
    answer = await world.system.swap(reverse(swapped.effects))
    assert isinstance(answer, Drifted)
    assert "no longer in the trash" in answer.why


@pytest.mark.parametrize("engine", ["native", "portable"])
async def test_whatever_they_do_meanwhile_is_still_there_afterwards(tmp_path, engine):
    """Each foreign file has content that nobody else writes; after any rollback it is found again in the workspace."""
    for seed in range(HISTORIES):
        world = World(tmp_path / str(seed), engine == "portable")
        rng = random.Random(seed)
        grow(world.root, rng)
        system = await world.open()
        theirs: list[bytes] = []
        done = []
        for _ in range(rng.randint(1, 6)):
            staged = await random_change(system, world.root, rng)
            if staged is not None:
                done.append(await world.commit(staged))
            if rng.random() < 0.5:
                disturb(world, rng, theirs)
                theirs = [mark for mark in theirs if found(world, mark)]
        theirs = [mark for mark in theirs if found(world, mark)]
        for swapped in reversed(done):
            await world.take_back_or_merge(swapped)
            assert [mark for mark in theirs if not found(world, mark)] == [], seed
        await system.close()


def disturb(world: World, rng: random.Random, theirs: list[bytes]) -> None:
    from takeback.tools.files.paths import unescape

    path = unescape(any_path(world.root, rng))
    mark = b"theirs %d\n" % rng.getrandbits(60)
    if os.path.islink(path) or os.path.isdir(path) or not os.path.isdir(os.path.dirname(path)):
        path = os.path.join(os.fsencode(world.root), b"theirs-%d" % rng.getrandbits(30))
    if rng.random() < 0.5 or not os.path.exists(path):
        with open(path, "ab") as file:
            file.write(mark)
    else:
        with open(path + b".new", "wb") as file, open(path, "rb") as old:
            file.write(old.read() + mark)
        os.replace(path + b".new", path)
    theirs.append(mark)


def found(world: World, mark: bytes) -> bool:
    for folder, _, files in os.walk(os.fsencode(world.root)):
        for name in files:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                with open(path, "rb") as file:
                    if mark in file.read():
                        return True
    return False


async def test_somebody_who_saves_all_the_time_loses_nothing(new_world):
    """An editor that replaces the file as fast as it can, while it is written and taken back: no save disappears."""
    world = new_world(False)
    system = await world.open()
    path = world.root / "f"
    path.write_bytes(b"0")
    stop = threading.Event()
    saved: list[bytes] = []

    def editor() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            mark = b"save %d" % number
            fresh = world.root / f"fresh{number % 2}"
            fresh.write_bytes(mark)
            saved.append(mark)
            os.replace(fresh, path)

    thread = threading.Thread(target=editor)
    thread.start()
    try:
        for round_ in range(300):
            seen = len(saved)
            staged = await system.stage_write(system.resolve("f"), b"agent %d" % round_)
            world.store.kept.update(staged.blobs)
            swapped = await system.swap(staged.effects)
            if isinstance(swapped, Swapped):
                await system.swap(reverse(swapped.effects))
            else:
                assert len(saved) >= seen
    finally:
        stop.set()
        thread.join()
    assert path.read_bytes() == saved[-1]


async def test_a_merge_that_was_never_asked_for_changes_nothing(world):
    swapped = await world.write("f", b"a\n")
    before = signature(world.root)
    wanted = reverse(swapped.effects)
    present = await world.system.look([e.object for e in wanted], [e.before for e in wanted])
    assert isinstance(await world.system.merge(wanted, present), Merged)
    assert signature(world.root) == before
