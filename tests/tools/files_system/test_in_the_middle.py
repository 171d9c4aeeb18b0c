"""Something goes wrong between the first step and the last: what is reported is what is there, and nothing is left over."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.tools.files_system.signature import difference, signature
from tests.tools.files_system.test_refusals import mounted, run
from tests.tools.files_system.test_same_instant import after_the, before_the, replace
from tests.tools.files_system.world import World, reverse

from takeback.tools.files.fingerprint import Torn
from takeback.tools.files.native import NativeCalls
from takeback.tools.system import Clash, Drifted, Swapped, TargetError, Unavailable

MIB = 1024 * 1024


def failing(world: World, name: str, error: Exception, *, after: int = 0, times: int = 1) -> None:
    """Let a call fail: the one after so many, and so often."""
    calls: Any = world.system._calls
    call, seen = getattr(calls, name), [0]

    def wrapped(*given: Any) -> Any:
        seen[0] += 1
        if after < seen[0] <= after + times:
            raise error
        return call(*given)

    setattr(calls, name, wrapped)


def trash(world: World) -> list[str]:
    return sorted(os.listdir(world.data / "trash"))


# -- what comes out of the exchange cannot be read -------------------------------------------------------------------


def _fifo(world: World, name: str) -> None:
    (world.root / name).unlink()
    os.mkfifo(world.root / name)


@pytest.mark.parametrize("change", ["write", "delete", "move", "over"])
async def test_a_fifo_put_there_in_the_same_instant_stays_where_they_put_it(new_world, change):
    world = new_world(False)
    await world.open()
    (world.root / "f").write_bytes(b"old")
    (world.root / "o").write_bytes(b"other")
    system, resolve = world.system, world.system.resolve
    match change:
        case "write":
            staged, call = await system.stage_write(resolve("f"), b"new"), "exchange"
        case "delete":
            staged, call = await system.stage_delete(resolve("f"), recursive=False), "place"
        case "move":
            staged, call = await system.stage_move(resolve("f"), resolve("g"), overwrite=False), "place"
        case _:
            staged, call = await system.stage_move(resolve("o"), resolve("f"), overwrite=True), "exchange"
    before_the(world, call, lambda: _fifo(world, "f"))
    try:
        answer: Any = await system.swap(staged.effects)
    except TargetError as error:
        answer = error
    assert isinstance(answer, Drifted | Unavailable), answer
    assert (world.root / "f").is_fifo()
    assert (world.root / "o").read_bytes() == b"other"
    assert not os.path.lexists(world.root / "g")


async def test_what_came_out_and_never_holds_still_goes_back(new_world, monkeypatch):
    from takeback.tools.files import workbench

    world = new_world(False)
    await world.open()
    (world.root / "f").write_bytes(b"old")
    staged = await world.system.stage_write(world.system.resolve("f"), b"new")
    measure, out = workbench.measure, [False]

    def torn(calls: Any, d: Any, name: bytes, *given: Any, **more: Any) -> Any:
        if out[0] and d.path.endswith(b"trash"):
            raise Torn
        return measure(calls, d, name, *given, **more)

    monkeypatch.setattr(workbench, "measure", torn)
    after_the(world, "exchange", lambda: out.__setitem__(0, True))
    try:
        answer: Any = await world.system.swap(staged.effects)
    except TargetError as error:
        answer = error
    assert isinstance(answer, Drifted | Unavailable), answer
    assert (world.root / "f").read_bytes() == b"old"


@pytest.mark.parametrize("undoing", [False, True])
async def test_a_move_over_a_file_that_meets_an_edit_goes_back_whole(world, undoing):
    (world.root / "a").write_bytes(b"a")
    (world.root / "b").write_bytes(b"b")
    resolve = world.system.resolve
    staged = await world.system.stage_move(resolve("a"), resolve("b"), overwrite=True)
    effects = reverse((await world.commit(staged)).effects) if undoing else staged.effects
    moving = world.root / ("b" if undoing else "a")

    def theirs() -> None:
        with moving.open("ab") as file:
            file.write(b" and theirs")

    calls = ("take", "exchange") if world.system._calls.one_step else ("take", "link")
    before_the(world, calls[undoing], theirs)
    assert isinstance(await world.system.swap(effects), Drifted)
    assert moving.read_bytes() == b"a and theirs"
    if undoing:
        assert os.listdir(world.root) == ["b"]
        [slot] = trash(world)
        assert (world.data / "trash" / slot).read_bytes() == b"b"
    else:
        assert (world.root / "b").read_bytes() == b"b"


@pytest.mark.parametrize("undoing", [False, True])
async def test_a_change_that_was_made_is_not_called_impossible_afterwards(world, undoing):
    (world.root / "d").mkdir()
    (world.root / "d/f").write_bytes(b"old")
    staged = await world.system.stage_write(world.system.resolve("d/f"), b"new")
    effects = reverse((await world.commit(staged)).effects) if undoing else staged.effects
    calls: Any = world.system._calls
    sync_folder, open_below = calls.sync_folder, calls.open_below

    def broken(*_: Any) -> Any:
        raise OSError(errno.EIO, "the disk is gone")

    def last(*given: Any) -> None:
        sync_folder(*given)
        calls.open_below = broken

    calls.sync_folder = last
    await world.system.swap(effects)
    calls.open_below = open_below
    assert (world.root / "d/f").read_bytes() == (b"old" if undoing else b"new")


@pytest.mark.parametrize("what", ["fifo", "closed"])
async def test_what_cannot_be_read_is_a_state_like_no_other_and_hides_nothing_else(world, what, monkeypatch):
    for name in ("f", "g"):
        await world.write(name, b"old")
    f, g = await world.write("f", b"new"), await world.write("g", b"new")
    if what == "fifo":
        _fifo(world, "f")
    else:
        calls: Any = world.system._calls
        open_file = calls.open_file

        def closed(d: Any, name: bytes, *given: Any) -> int:
            if name == b"f":
                raise PermissionError(errno.EACCES, "closed")
            return open_file(d, name, *given)

        monkeypatch.setattr(calls, "open_file", closed)
    wanted = reverse((*f.effects, *g.effects))
    seen = await world.system.look([e.object for e in wanted], [e.before for e in wanted])
    assert [now.same(e.before) for now, e in zip(seen, wanted, strict=True)] == [True, False]
    assert not any(now.absent for now in seen)
    answer = await world.take_back_or_merge(f)
    assert isinstance(answer, str)
    assert answer.startswith("f ")
    await world.take_back(g)
    assert (world.root / "g").read_bytes() == b"old"
    if what == "fifo":
        assert (world.root / "f").is_fifo()


async def test_a_folder_whose_trash_is_gone_is_a_clash_that_says_so(world):
    (world.root / "t").mkdir()
    (world.root / "t/f").write_bytes(b"x")
    gone = await world.commit(await world.system.stage_delete(world.system.resolve("t"), recursive=True))
    subprocess.run(["rm", "-rf", str(world.data / "trash")], check=True)
    answer = await world.take_back_or_merge(gone)
    assert answer == "The earlier state of t is no longer in the trash."
    wanted = reverse(gone.effects)
    present = await world.system.look([e.object for e in wanted], [e.before for e in wanted])
    merged: Any = await world.system.merge(wanted, present)
    assert isinstance(merged, Clash)
    assert merged.why == answer


async def test_a_file_whose_folder_is_gone_is_a_clash_that_says_so(world):
    (world.root / "d").mkdir()
    (world.root / "d/f").write_bytes(b"x" * 50_000)
    gone = await world.commit(await world.system.stage_delete(world.system.resolve("d/f"), recursive=True))
    os.rename(world.root / "d", world.root / "e")
    wanted = reverse(gone.effects)
    present = await world.system.look([e.object for e in wanted], [e.before for e in wanted])
    merged: Any = await world.system.merge(wanted, present)
    assert isinstance(merged, Clash)
    assert merged.why == "The folder of d/f is gone."


# -- a lost object, a failure on the way back ------------------------------------------------------------------------


async def test_a_lost_block_leaves_a_hard_linked_file_as_it_is(world):
    path = world.root / "f"
    path.write_bytes(b"a" * 4 * MIB + b"b" * MIB)
    os.link(path, world.root / "g")
    swapped = await world.write("f", b"c" * 4 * MIB + b"d" * MIB)
    present = signature(world.root)
    image: Any = swapped.effects[0].before.ref["image"]
    del world.store.kept[image["extents"][1][2]]
    with pytest.raises(TargetError):
        await world.system.swap(reverse(swapped.effects))
    after = signature(world.root)
    assert difference(present, after) == {}
    assert os.listdir(world.data / "in-place") == []


async def test_a_failure_while_going_back_is_never_called_nothing_changed(world):
    staged = await world.system.stage_write(world.system.resolve("a/f"), b"new")
    calls: Any = world.system._calls
    call, seen = calls.place, [0]

    def place(*given: Any) -> Any:
        seen[0] += 1
        if seen[0] == 2:
            (world.root / "a/f").write_bytes(b"theirs")  # so that the file's step drifts
        return call(*given)

    calls.place = place
    failing(world, "take", OSError(errno.EIO, "the disk is gone"))  # and the folder's step cannot go back
    with pytest.raises(TargetError) as caught:
        await world.system.swap(staged.effects)
    assert not isinstance(caught.value, Unavailable), caught.value
    assert caught.value.code == "half_done"
    assert (world.root / "a/f").read_bytes() == b"theirs"


async def test_what_cannot_be_destroyed_at_once_does_not_bring_half_a_tree_back(new_world):
    world = new_world(False)
    await world.open(trash_bytes=10)
    (world.root / "t/u").mkdir(parents=True)
    for number in range(4):
        (world.root / f"t/{number}").write_bytes(b"x" * 1000)
    staged = await world.system.stage_delete(world.system.resolve("t"), recursive=True)
    assert staged.reversibility == "irreversible"
    failing(world, "unlink", PermissionError(errno.EPERM, "immutable"), after=2)
    swapped = await world.system.swap(staged.effects)
    assert isinstance(swapped, Swapped)
    assert not (world.root / "t").exists()


# -- changes in place ------------------------------------------------------------------------------------------------


async def test_a_refused_change_in_place_does_not_come_back_as_an_undo_at_the_next_start(world):
    path = world.root / "f"
    path.write_bytes(b"old")
    os.link(path, world.root / "g")
    staged = await world.system.stage_write(world.system.resolve("f"), b"new")
    world.store.kept.update(staged.blobs)
    calls: Any = world.system._calls
    open_file = calls.open_file

    def busy(d: Any, name: bytes, flags: int, *mode: Any) -> int:
        if flags & os.O_RDWR and not flags & os.O_CREAT:
            raise OSError(errno.ETXTBSY, "busy")
        return open_file(d, name, flags, *mode)

    calls.open_file = busy
    with pytest.raises(Unavailable):
        await world.system.swap(staged.effects)
    del calls.open_file
    assert os.listdir(world.data / "in-place") == []
    await world.write("f", b"new")
    await world.system.close()
    await world.open()
    assert path.read_bytes() == b"new"


async def test_a_change_in_place_that_was_stopped_halfway_can_be_tried_again_without_a_restart(world):
    path = world.root / "f"
    path.write_bytes(b"old" * 100)
    os.link(path, world.root / "g")
    staged = await world.system.stage_write(world.system.resolve("f"), b"new")
    world.store.kept.update(staged.blobs)
    failing(world, "truncate", OSError(errno.EIO, "the disk is gone"), times=2)
    with pytest.raises(Unavailable):
        await world.system.swap(staged.effects)
    assert path.read_bytes() == b"old" * 100
    assert os.listdir(world.data / "in-place") == []
    assert isinstance(await world.system.swap(staged.effects), Swapped)
    assert path.read_bytes() == b"new"
    assert os.listdir(world.data / "in-place") == []


async def test_a_note_of_another_workspace_keeps_nobody_from_starting(world):
    other = {"kind": "file", "mode": 0o644, "uid": 0, "gid": 0, "mtime": 1, "xattrs": [], "size": 0, "extents": []}
    note = world.data / "in-place" / "00"
    note.write_text(json.dumps({"object": "/somewhere/else/f", "before": other, "after": other}))
    await world.system.close()
    await world.open()
    assert note.exists()  # whoever has that workspace needs it


async def test_a_file_put_there_during_a_change_in_place_keeps_its_own_facts(world):
    path = world.root / "f"
    path.write_bytes(b"old")
    os.link(path, world.root / "g")
    before = (world.root / "g").stat()
    staged = await world.system.stage_write(world.system.resolve("f"), b"new")
    world.store.kept.update(staged.blobs)

    def theirs() -> None:
        (world.root / "fresh").write_bytes(b"theirs")
        os.utime(world.root / "fresh", ns=(7, 7))
        os.replace(world.root / "fresh", path)

    calls: Any = world.system._calls
    truncate = calls.truncate

    def wrapped(*given: Any) -> Any:
        calls.truncate = truncate
        theirs()
        return truncate(*given)

    calls.truncate = wrapped
    assert isinstance(await world.system.swap(staged.effects), Drifted)
    assert path.read_bytes() == b"theirs"
    assert path.stat().st_mtime_ns == 7
    assert (world.root / "g").read_bytes() == b"old"  # "nothing was changed" holds for its other name too
    assert (world.root / "g").stat().st_mtime_ns == before.st_mtime_ns


# -- read back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("undoing", [False, True])
async def test_what_somebody_put_there_right_after_is_not_called_ours(world, undoing):
    (world.root / "f").write_bytes(b"old")
    staged = await world.system.stage_write(world.system.resolve("f"), b"agent")
    effects = reverse((await world.commit(staged)).effects) if undoing else staged.effects
    before_the(world, "sync_folder", replace(world, "f", b"theirs"))
    answer = await world.system.swap(effects)
    assert isinstance(answer, Swapped)
    assert not answer.effects[0].after.same(effects[0].after)
    assert (world.root / "f").read_bytes() == b"theirs"


async def test_a_late_write_into_what_is_being_put_back_is_noticed(world):
    path = world.root / "f"
    path.write_bytes(b"old")
    with path.open("r+b", buffering=0) as late:
        swapped = await world.write("f", b"agent")
        call = "exchange" if world.system._calls.one_step else "link"
        before_the(world, call, lambda: late.write(b"LATE") and None)
        answer = await world.system.swap(reverse(swapped.effects))
    if isinstance(answer, Swapped):
        assert not answer.effects[0].after.same(swapped.effects[0].before)
    assert b"LATE" in path.read_bytes()


async def test_a_folder_renamed_during_the_change_is_noticed(world):
    (world.root / "d").mkdir()
    (world.root / "d/f").write_bytes(b"old")
    staged = await world.system.stage_write(world.system.resolve("d/f"), b"agent")
    call = "exchange" if world.system._calls.one_step else "link"
    before_the(world, call, lambda: os.rename(world.root / "d", world.root / "e"))
    answer = await world.system.swap(staged.effects)
    if isinstance(answer, Swapped):
        assert not answer.effects[0].after.same(staged.effects[0].after)


# -- what vanishes under a running server ----------------------------------------------------------------------------


@pytest.mark.parametrize("again", ["write", "take back", "delete"])
async def test_a_trash_that_somebody_deleted_is_made_again(world, again):
    (world.root / "f").write_bytes(b"old")
    swapped = await world.write("f", b"new")
    subprocess.run(["rm", "-rf", str(world.data / "trash")], check=True)
    match again:
        case "write":
            await world.write("f", b"newer")
            assert (world.root / "f").read_bytes() == b"newer"
        case "delete":
            await world.commit(await world.system.stage_delete(world.system.resolve("f"), recursive=False))
            assert not (world.root / "f").exists()
        case _:
            await world.take_back(swapped)
            assert (world.root / "f").read_bytes() == b"old"


async def test_a_hidden_trash_that_somebody_cleaned_away_is_made_again(world):
    with mounted(world.root, "-t", "tmpfs", "tmpfs"):
        await world.system.close()
        system = await world.open()
        (world.root / "f").write_bytes(b"old")
        swapped = await world.write("f", b"new")
        (world.root / "large").write_bytes(b"x" * 100_000)
        gone = await world.commit(await system.stage_delete(system.resolve("large"), recursive=False))
        subprocess.run(["rm", "-rf", str(world.root / ".takeback")], check=True)
        answer = await system.swap(reverse(gone.effects))
        assert isinstance(answer, Drifted)
        assert "no longer in the trash" in answer.why
        await world.take_back(swapped)
        assert (world.root / "f").read_bytes() == b"old"
        await world.write("f", b"newer")
        await system.close()


async def test_a_workspace_that_was_replaced_is_the_one_that_is_there_now(world):
    (world.root / "f").write_bytes(b"old")
    await world.write("f", b"new")
    os.rename(world.root, world.root.with_name("away"))
    world.root.mkdir()
    (world.root / "f").write_bytes(b"fresh clone")
    await world.write("f", b"changed")
    assert (world.root / "f").read_bytes() == b"changed"
    assert (world.root.with_name("away") / "f").read_bytes() == b"new"


@pytest.mark.parametrize("instead", ["nothing", "link"])
async def test_a_workspace_that_is_gone_is_said_to_be(world, instead):
    away = world.root.with_name("away")
    (world.root / "f").write_bytes(b"old")
    os.rename(world.root, away)
    if instead == "link":
        world.root.symlink_to(away)
    with pytest.raises(TargetError) as caught:
        await world.write("f", b"new")
    assert "workspace" in str(caught.value)
    assert (away / "f").read_bytes() == b"old"
    if instead == "link":
        world.root.unlink()
    os.rename(away, world.root)
    await world.write("f", b"new")
    assert (world.root / "f").read_bytes() == b"new"


# -- collecting ------------------------------------------------------------------------------------------------------


async def test_one_thing_that_cannot_be_destroyed_does_not_stop_the_collecting(world):
    (world.root / "t").mkdir()
    (world.root / "t/f").write_bytes(b"x")
    (world.root / "g").write_bytes(b"y")
    for name in ("t", "g"):
        await world.commit(await world.system.stage_delete(world.system.resolve(name), recursive=True))
    stuck = next((world.data / "trash").glob("*/f"))
    if run("chattr", "+i", stuck):
        pytest.skip("this file system has no immutable files")
    try:
        await world.system.collect([], older_than_ns=0)
        assert trash(world) == [stuck.parent.name]
    finally:
        run("chattr", "-i", stuck)


async def test_a_failed_restore_from_an_image_leaves_nothing_in_the_trash(world):
    (world.root / "f").write_bytes(b"old")
    gone = await world.commit(await world.system.stage_delete(world.system.resolve("f"), recursive=False))
    for name in trash(world):
        (world.data / "trash" / name).unlink()
    failing(world, "sync", OSError(errno.ENOSPC, "full"))
    with pytest.raises(Unavailable):
        await world.system.swap(reverse(gone.effects))
    assert trash(world) == []


# -- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["EMFILE", "ENFILE", "ETXTBSY", "EIO", "ESTALE", "ENOMEM", "ENODEV", "EDQUOT", "EINTR"]
)
async def test_no_refusal_speaks_in_names_of_errors(world, code):
    (world.root / "f").write_bytes(b"old")
    failing(world, "open_file", OSError(getattr(errno, code), "x"), times=100)
    with pytest.raises(TargetError) as caught:
        await world.system.stage_write(world.system.resolve("f"), b"new")
    assert code not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert caught.value.advice


async def test_a_tree_deeper_than_can_be_walked_is_refused_in_a_sentence_or_handled(world):
    here = os.open(world.root, os.O_RDONLY)
    for number in range(1400):
        name = "deep" if number == 0 else "d"
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    system, resolve = world.system, world.system.resolve
    try:
        for staging in (
            system.stage_delete(resolve("deep"), recursive=True),
            system.stage_copy(resolve("deep"), resolve("copy"), overwrite=False),
            system.stage_move(resolve("deep"), resolve("other"), overwrite=False),
        ):
            try:
                staged = await staging
            except TargetError as error:
                assert "deep" in str(error)
                assert error.advice
                continue
            await staged.discard()
        assert trash(world) == []
        try:
            assert len(await system.listing(resolve("."), recursive=True, limit=5000)) >= 1
        except TargetError as error:
            assert error.advice
    finally:
        subprocess.run(["rm", "-rf", *(str(world.root / name) for name in os.listdir(world.root))], check=True)
        subprocess.run(["rm", "-rf", *(str(world.data / "trash" / name) for name in trash(world))], check=True)


async def test_a_copy_of_a_large_file_that_is_being_written_is_not_torn(world):
    path = world.root / "log"
    path.write_bytes(b"x" * 9 * MIB)
    calls: Any = world.system._calls
    pwrite = calls.pwrite

    def wrapped(*given: Any) -> Any:
        calls.pwrite = pwrite
        with path.open("r+b") as late:
            late.seek(8 * MIB)
            late.write(b"torn")
        return pwrite(*given)

    calls.pwrite = wrapped
    with pytest.raises(TargetError) as caught:
        await world.system.stage_copy(world.system.resolve("log"), world.system.resolve("copy"), overwrite=False)
    assert caught.value.code == "changing"
    assert trash(world) == []


async def test_a_merge_that_keeps_a_mode_is_the_same_when_prepared_twice(world):
    (world.root / "a").write_bytes(b"1\n2\n3\n4\n5\n6\n")
    (world.root / "b").write_bytes(b"1\n2\n3\n4\nfive\n6\n")
    (world.root / "b").chmod(0o600)
    resolve = world.system.resolve
    swapped = await world.commit(await world.system.stage_copy(resolve("a"), resolve("b"), overwrite=True))
    with (world.root / "b").open("ab") as file:
        file.write(b"7\n8\n9\nperson\n")
    wanted = reverse(swapped.effects)
    present = await world.system.look([e.object for e in wanted], [e.before for e in wanted])
    first: Any = await world.system.merge(wanted, present)
    again: Any = await world.system.merge(wanted, present)
    assert first == again


async def test_what_was_kept_is_named_where_it_can_be_found(new_world):
    world = new_world(False)
    await world.open()
    (world.root / "f").write_bytes(b"old")
    staged = await world.system.stage_delete(world.system.resolve("f"), recursive=False)
    after_the(world, "place", replace(world, "f", b"second save"))
    before_the(world, "place", replace(world, "f", b"first save"))
    with pytest.raises(TargetError) as caught:
        await world.system.swap(staged.effects)
    [kept] = trash(world)
    assert kept in caught.value.advice + str(caught.value)
    assert (world.data / "trash" / kept).read_bytes() == b"first save"
    assert (world.root / "f").read_bytes() == b"second save"


# -- file systems that can do less ---------------------------------------------------------------------------------------


async def test_a_workspace_that_cannot_exchange_names_is_worked_on_all_the_same(tmp_path, monkeypatch):
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is no second file system here")
    renameat2 = NativeCalls.renameat2

    def lesser(calls: Any, a: Any, a_name: bytes, b: Any, b_name: bytes, flags: int) -> None:
        if os.fsencode(tmp_path) in a.path + b.path:
            raise OSError(errno.EINVAL, "as a network file system says")
        renameat2(calls, a, a_name, b, b_name, flags)

    monkeypatch.setattr(NativeCalls, "renameat2", lesser)
    world = World(tmp_path, portable=False)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as data:
        world.data = Path(data)
        before = signature(world.root)
        await world.open()
        assert signature(world.root) == before
        (world.root / "f").write_bytes(b"old")
        swapped = await world.write("f", b"new")
        assert (world.root / "f").read_bytes() == b"new"
        await world.take_back(swapped)
        assert (world.root / "f").read_bytes() == b"old"
        await world.system.close()
