"""What cannot be done is refused in one sentence with advice, and nothing has changed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blake3 import blake3
from tests.tools.files_system.signature import signature
from tests.tools.files_system.world import World, reverse

from takeback.tools.system import Refused, Swapped, TargetError, Unavailable


@contextmanager
def mounted(at: Path, *options: str) -> Iterator[None]:
    at.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", *options, str(at)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mounting needs rights that this machine does not give")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def run(*command: str | Path) -> int:
    """A command of the system; its exit code, or 127 if there is none."""
    if shutil.which(str(command[0])) is None:
        return 127
    return subprocess.run(command, capture_output=True, check=False).returncode


async def refused(world: World, staging, code: str) -> TargetError:
    before = signature(world.root)
    with pytest.raises(TargetError) as caught:
        staged = await staging
        world.store.kept.update(staged.blobs)
        try:
            await world.system.swap(staged.effects)
        except TargetError:
            await staged.discard()
            raise
    assert caught.value.code == code
    assert str(caught.value).endswith((".", ").")) and str(caught.value).count(". ") == 0
    assert caught.value.advice or code in {"exists"}
    assert signature(world.root) == before
    assert [name for name in os.listdir(world.data / "trash") if not name.startswith("kept-")] == []
    return caught.value


async def test_devices_fifos_and_sockets_are_refused_without_waiting(world):
    system, resolve = world.system, world.system.resolve
    os.mkfifo(world.root / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(world.root)
        bound.bind("socket")
        os.chdir(here)
        for name in ("fifo", "socket"):
            await refused(world, system.stage_write(resolve(name), b"x"), "not_a_file")
            await refused(world, system.stage_delete(resolve(name), recursive=True), "not_a_file")
            await refused(world, system.stage_move(resolve(name), resolve("x"), overwrite=False), "not_a_file")
            await refused(world, system.stage_copy(resolve(name), resolve("x"), overwrite=False), "not_a_file")
            with pytest.raises(Refused):
                await system.read_bytes(resolve(name), limit=100)


async def test_a_device_in_a_tree_stops_its_copying(world):
    (world.root / "t").mkdir()
    (world.root / "t/a").write_bytes(b"x")
    os.mkfifo(world.root / "t/fifo")
    resolve = world.system.resolve
    await refused(world, world.system.stage_copy(resolve("t"), resolve("c"), overwrite=False), "not_a_file")


async def test_what_stands_in_the_way_is_named(world):
    system, resolve = world.system, world.system.resolve
    (world.root / "d/e").mkdir(parents=True)
    (world.root / "f").write_bytes(b"f")
    (world.root / "g").write_bytes(b"g")
    os.symlink("f", world.root / "l")
    os.link(world.root / "f", world.root / "same")
    await refused(world, system.stage_write(resolve("d"), b"x"), "is_directory")
    await refused(world, system.stage_write(resolve("l"), b"x"), "is_symlink")
    await refused(world, system.stage_write(resolve("n/f"), b"x", create_parents=False), "not_found")
    await refused(world, system.stage_write(resolve("."), b"x"), "root")
    await refused(world, system.stage_delete(resolve("d"), recursive=False), "not_empty")
    await refused(world, system.stage_delete(resolve("nothing"), recursive=False), "not_found")
    await refused(world, system.stage_delete(resolve("."), recursive=True), "root")
    await refused(world, system.stage_move(resolve("f"), resolve("g"), overwrite=False), "exists")
    await refused(world, system.stage_move(resolve("f"), resolve("d"), overwrite=True), "is_directory")
    await refused(world, system.stage_move(resolve("f"), resolve("same"), overwrite=True), "same_file")
    await refused(world, system.stage_move(resolve("d"), resolve("d/e/x"), overwrite=False), "into_itself")
    await refused(world, system.stage_copy(resolve("d"), resolve("d/x"), overwrite=False), "into_itself")
    await refused(world, system.stage_move(resolve("nothing"), resolve("x"), overwrite=False), "not_found")
    await refused(world, system.stage_directory(resolve("d")), "exists")
    await refused(world, system.stage_directory(resolve("f")), "exists")
    await refused(world, system.stage_write(resolve("x" * 300), b"x"), "name_too_long")
    await refused(world, system.stage_write(resolve("new/" + "x" * 300), b"x"), "name_too_long")


async def test_a_huge_sparse_file_moves_and_goes_but_is_not_read(world):
    path = world.root / "huge"
    with path.open("wb") as file:
        try:
            file.truncate(1 << 40)
        except OSError:
            file.truncate(1 << 33)
    before = signature_of(path)
    system, resolve = world.system, world.system.resolve
    with pytest.raises(Refused) as caught:
        await system.read_bytes(resolve("huge"), limit=8 << 20)
    assert caught.value.code == "too_large"
    moved = await world.commit(await system.stage_move(resolve("huge"), resolve("n/huge"), overwrite=False))
    gone = await world.commit(await system.stage_delete(resolve("n/huge"), recursive=False))
    await world.take_back(gone)
    await world.take_back(moved)
    over = await world.write("huge", b"small")
    await world.take_back(over)
    assert signature_of(path) == before


def signature_of(path: Path) -> tuple[int, ...]:
    there = path.stat()
    return there.st_ino, there.st_size, there.st_blocks, there.st_mtime_ns, there.st_mode


async def test_a_full_disk_changes_nothing(world):
    with mounted(world.root / "small", "-t", "tmpfs", "-o", "size=256k", "none"):
        (world.root / "small/f").write_bytes(b"x" * 1000)
        resolve = world.system.resolve
        error = await refused(world, world.system.stage_write(resolve("small/f"), b"y" * 400_000), "no_space")
        assert isinstance(error, Unavailable)
        (world.root / "src").write_bytes(b"z" * 400_000)
        await refused(world, world.system.stage_copy(resolve("src"), resolve("small/c"), overwrite=False), "no_space")
        assert [os.listdir(each) for each in (world.root / "small/.takeback").glob("trash-*")] == [[]]
        swapped = await world.write("small/f", b"fits")
        await world.take_back(swapped)
        assert (world.root / "small/f").read_bytes() == b"x" * 1000


async def test_each_mount_has_its_own_hidden_trash(world):
    (world.root / "other").mkdir()
    with mounted(world.root / "other", "-t", "tmpfs", "-o", "size=1m", "none"):
        before = signature(world.root)
        resolve = world.system.resolve
        (world.root / "f").write_bytes(b"f")
        swapped = await world.write("other/d/f", b"new")
        assert (world.root / "other/.takeback/.gitignore").read_text() == "*\n"
        assert (world.root / "other/.takeback").stat().st_mode & 0o777 == 0o700
        listed = await world.system.listing(resolve("other"), recursive=True, limit=10)
        assert [info.name for info in listed] == ["d", "f"]
        await refused_move(world, "f", "other/f")
        await world.take_back(swapped)
        (world.root / "f").unlink()
        os.utime(world.root, ns=(0, before[b""][4]))
        assert signature(world.root) == before
        await world.system.collect([], older_than_ns=0)
        assert [os.listdir(each) for each in (world.root / "other/.takeback").glob("trash-*")] == [[]]


async def test_on_a_mount_no_data_directory_collects_what_another_one_keeps_there(world, tmp_path):
    other = World(tmp_path / "another", world.portable)
    with mounted(world.root, "-t", "tmpfs", "-o", "size=1m", "none"):
        for each in (world, other):
            await each.open(world.root)
        (world.root / "large").write_bytes(b"x" * 100_000)
        resolve = world.system.resolve
        gone = await world.commit(await world.system.stage_delete(resolve("large"), recursive=False))
        for _ in range(2):  # also when the other one has a trash there
            assert await other.system.collect([], older_than_ns=0) == 0
            swapped = await other.write("small", b"theirs")
            await other.take_back(swapped)
            await other.system.collect([], older_than_ns=0)
        await world.take_back(gone)
        assert (world.root / "large").read_bytes() == b"x" * 100_000
        await world.system.close()
        await other.system.close()


async def test_a_trash_that_an_earlier_version_shared_still_serves(world):
    (world.root / "other").mkdir()
    with mounted(world.root / "other", "-t", "tmpfs", "-o", "size=1m", "none"):
        home = str(world.root / "other")
        note = blake3(home.encode()).hexdigest(length=16)
        (world.data / "trash-homes" / note).write_text(home)
        (world.root / "other/f").write_bytes(b"x" * 100_000)
        swapped = await world.write("other/f", b"new")
        assert [path.name for path in (world.root / "other/.takeback").iterdir() if path.is_dir()] == ["trash"]
        await world.take_back(swapped)
        await world.system.collect([], older_than_ns=0)
        assert os.listdir(world.root / "other/.takeback/trash") == []


async def refused_move(world: World, source: str, destination: str) -> None:
    resolve = world.system.resolve
    with pytest.raises(Refused) as caught:
        await world.system.stage_move(resolve(source), resolve(destination), overwrite=False)
    assert caught.value.code == "other_mount"
    with pytest.raises(TargetError) as caught:
        await world.system.stage_delete(resolve(os.path.dirname(destination)), recursive=True)
    assert caught.value.code == "busy"


async def test_a_bind_mount_of_the_same_device_has_its_own_trash(world, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (world.root / "bound").mkdir()
    with mounted(world.root / "bound", "--bind", str(tmp_path / "elsewhere")):
        (world.root / "bound/f").write_bytes(b"old")
        swapped = await world.write("bound/f", b"new")
        [trash] = (tmp_path / "elsewhere/.takeback").glob("trash-*")
        assert trash.is_dir()
        await world.take_back(swapped)
        assert (tmp_path / "elsewhere/f").read_bytes() == b"old"


async def test_a_read_only_mount_is_refused(world, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/f").write_bytes(b"old")
    (world.root / "bound").mkdir()
    with mounted(world.root / "bound", "--bind", "-o", "ro", str(tmp_path / "elsewhere")):
        if os.access(world.root / "bound", os.W_OK):
            run("mount", "-o", "remount,ro,bind", world.root / "bound")
        system, resolve = world.system, world.system.resolve
        await refused(world, system.stage_write(resolve("bound/f"), b"new"), "read_only")
        await refused(world, system.stage_delete(resolve("bound/f"), recursive=False), "read_only")
        await refused(world, system.stage_directory(resolve("bound/d")), "read_only")


async def test_an_immutable_file_is_refused(world):
    path = world.root / "f"
    path.write_bytes(b"old")
    if run("chattr", "+i", path):
        pytest.skip("this file system has no immutable files, or they need rights")
    try:
        system, resolve = world.system, world.system.resolve
        for staging in (
            system.stage_delete(resolve("f"), recursive=False),
            system.stage_move(resolve("f"), resolve("g"), overwrite=False),
        ):
            await refused(world, staging, "not_permitted")
        with pytest.raises(TargetError):
            staged = await system.stage_write(resolve("f"), b"new")
            await system.swap(staged.effects)
        assert path.read_bytes() == b"old"
    finally:
        run("chattr", "-i", path)


async def test_a_file_that_vanishes_while_it_is_read_is_an_error_and_nothing_else(world):
    path = world.root / "f"
    path.write_bytes(b"x")
    calls = world.system._calls
    opened = calls.open_file

    def vanishing(*given):
        calls.open_file = opened
        path.unlink()
        return opened(*given)

    calls.open_file = vanishing
    with pytest.raises(Refused) as caught:
        await world.system.read_bytes(world.system.resolve("f"), limit=100)
    assert caught.value.code == "not_found"


async def test_a_file_that_is_written_all_the_time_is_not_read_torn(world):
    path = world.root / "f"
    path.write_bytes(b"x" * 100)
    calls = world.system._calls
    attributes = calls.xattrs_of

    def busy(fd):
        path.write_bytes(os.urandom(100 + os.urandom(1)[0]))
        return attributes(fd)

    calls.xattrs_of = busy
    with pytest.raises(Unavailable) as caught:
        await world.system.read_bytes(world.system.resolve("f"), limit=1000)
    assert caught.value.code == "changing"


async def test_what_the_trash_cannot_keep_is_said_before(new_world):
    world = new_world(False)
    system = await world.open(trash_bytes=100_000)
    (world.root / "f").write_bytes(b"x" * 200_000)
    staged = await system.stage_delete(system.resolve("f"), recursive=False)
    assert staged.reversibility == "irreversible"
    assert "200,000 bytes" in staged.reason
    swapped = await world.commit(staged)
    assert os.listdir(world.data / "trash") == []
    assert not isinstance(await system.swap(reverse(swapped.effects)), Swapped)
    for number in range(4):
        (world.root / "g").write_bytes(b"y" * 40_000)
        staged = await system.stage_delete(system.resolve("g"), recursive=False)
        assert staged.reversibility == ("reversible" if number < 2 else "irreversible")
        await world.commit(staged)
    (world.root / "small").write_bytes(b"z" * 30_000)
    staged = await system.stage_delete(system.resolve("small"), recursive=False)
    assert staged.reversibility == "reversible"
    await world.take_back(await world.commit(staged))
    assert (world.root / "small").read_bytes() == b"z" * 30_000
    await system.close()


async def test_a_hard_linked_file_over_the_quota_is_refused(new_world):
    world = new_world(False)
    system = await world.open(object_bytes=1000)
    (world.root / "f").write_bytes(b"x" * 2000)
    os.link(world.root / "f", world.root / "g")
    with pytest.raises(Refused) as caught:
        await system.stage_write(system.resolve("f"), b"y")
    assert caught.value.code == "too_large"
    await system.close()


@contextmanager
def as_nobody(*folders: Path) -> Iterator[None]:
    """Not the superuser for a while, but welcome in these folders."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only the superuser can become somebody else")
    for folder in folders:
        folder.chmod(0o777)
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


async def test_a_file_of_another_group_is_changed_where_it_is_and_keeps_it(world):
    path = world.root / "f"
    path.write_bytes(b"old content")
    os.chown(path, 65534, 4321)
    before = signature(world.root)
    with as_nobody(world.root, world.data / "trash", world.data / "in-place"):
        staged = await world.system.stage_write(world.system.resolve("f"), b"new")
        assert any("another group" in warning for warning in staged.warnings)
        swapped = await world.commit(staged)
    assert path.read_bytes() == b"new"
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 4321)
    await world.take_back(swapped)
    world.root.chmod(0o755)
    assert signature(world.root) == before


async def test_what_belongs_to_others_or_is_protected_is_refused(world):
    (world.root / "theirs").write_bytes(b"old")
    (world.root / "theirs").chmod(0o666)
    (world.root / "f").write_bytes(b"old")
    (world.root / "f").chmod(0o444)
    (world.root / "d").mkdir()
    (world.root / "d/g").write_bytes(b"old")
    (world.root / "d").chmod(0o555)
    world.root.chmod(0o777)
    before = signature(world.root)
    system, resolve = world.system, world.system.resolve
    codes: list[str] = []
    with as_nobody(world.root, world.data / "trash", world.data / "in-place"):
        for staging in (
            system.stage_write(resolve("theirs"), b"new"),
            system.stage_write(resolve("f"), b"new"),
            system.stage_delete(resolve("d/g"), recursive=False),
            system.stage_move(resolve("d/g"), resolve("h"), overwrite=False),
            system.stage_directory(resolve("d/new")),
        ):
            with pytest.raises(TargetError) as caught:
                await system.swap((await staging).effects)
            codes.append(caught.value.code)
    assert codes == ["not_permitted", *["no_permission"] * 4]
    assert signature(world.root) == before


async def test_a_root_that_is_no_longer_named_leaves_its_trash_alone(new_world, tmp_path):
    world = new_world(False)
    other = tmp_path / "other"
    other.mkdir()
    with mounted(other, "-t", "tmpfs", "-o", "size=1m", "none"):
        system = await world.open(world.root, other)
        (other / "f").write_bytes(b"old")
        swapped = await world.commit(await system.stage_delete(str(other / "f"), recursive=False))
        await system.close()
        system = await world.open(world.root)
        assert await system.collect([], older_than_ns=0) == 0
        assert await system.read(swapped.effects[0].before) == b"old"
        with pytest.raises(Unavailable):
            await system.swap(reverse(swapped.effects))
        await system.close()
        system = await world.open(world.root, other)
        await world.take_back(swapped)
        assert (other / "f").read_bytes() == b"old"
        await system.close()
