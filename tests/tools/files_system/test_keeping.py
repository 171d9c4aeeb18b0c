"""Collecting the trash, looking, showing, reading back, and what new files inherit."""

from __future__ import annotations

import os
import stat
import struct
import sys

from tests.tools.files_system.signature import signature
from tests.tools.files_system.world import reverse

from takeback.tools.files.inherit import access_list
from takeback.tools.system import Swapped

HOUR = 3600 * 10**9


async def test_only_what_no_state_needs_is_collected_and_only_when_old(world):
    (world.root / "f").write_bytes(b"old")
    kept = await world.write("f", b"new")
    abandoned = await world.system.stage_write(world.system.resolve("g"), b"never swapped")
    assert await world.system.collect([], older_than_ns=HOUR) == 0
    freed = await world.system.collect([effect.before for effect in kept.effects], older_than_ns=0)
    assert freed == len(b"never swapped")
    assert not isinstance(await world.system.swap(abandoned.effects), Swapped)
    await world.take_back(kept)
    assert (world.root / "f").read_bytes() == b"old"


async def test_discarding_twice_and_after_a_swap_is_harmless(world):
    (world.root / "f").write_bytes(b"old")
    staged = await world.system.stage_write(world.system.resolve("f"), b"new")
    await staged.discard()
    await staged.discard()
    staged = await world.system.stage_write(world.system.resolve("f"), b"new")
    swapped = await world.commit(staged)
    await staged.discard()
    await world.take_back(swapped)
    assert (world.root / "f").read_bytes() == b"old"


async def test_preparing_and_looking_change_nothing(world):
    (world.root / "f").write_bytes(b"old")
    (world.root / "t").mkdir()
    before = signature(world.root, inodes=True)
    system, resolve = world.system, world.system.resolve
    for staged in (
        await system.stage_write(resolve("f"), b"new"),
        await system.stage_write(resolve("n/f"), b"new"),
        await system.stage_copy(resolve("t"), resolve("u"), overwrite=False),
        await system.stage_delete(resolve("t"), recursive=True),
    ):
        for effect in staged.effects:
            assert (await system.describe(effect)).title
        assert signature(world.root, inodes=True) == before
        await staged.discard()
    assert os.listdir(world.data / "trash") == []


async def test_an_effect_is_shown_as_a_diff(world):
    (world.root / "f").write_bytes(b"one\ntwo\n")
    system, resolve = world.system, world.system.resolve
    staged = await system.stage_write(resolve("f"), b"one\n2\nthree\n")
    preview = await system.describe(staged.effects[0])
    assert preview.title == "change f (2 lines added, 1 removed)"
    assert "+three" in preview.diff
    assert "-two" in preview.diff
    swapped = await world.commit(staged)
    assert (await system.describe(swapped.effects[0])).diff == preview.diff
    moved = await system.stage_move(resolve("f"), resolve("g"), overwrite=False)
    assert (await system.describe(moved.effects[0])).title == "move f → g"


async def test_states_can_be_read_wherever_they_are(world):
    (world.root / "f").write_bytes(b"")
    staged = await world.system.stage_write(world.system.resolve("f"), b"x" * 50_000)
    world.store.kept.update(staged.blobs)
    (effect,) = staged.effects
    assert await world.system.read(effect.before) == b""
    assert await world.system.read(effect.after) == b"x" * 50_000
    (swapped,) = (await world.commit(staged)).effects
    assert await world.system.read(swapped.before) == b""
    assert await world.system.read(swapped.after) == b"x" * 50_000


async def test_a_resolution_is_written_over_what_stands_there(world):
    (world.root / "f").write_bytes(b"theirs")
    object_id = world.system.resolve("f")
    (present,) = await world.system.look([object_id])
    effect = await world.system.write(object_id, b"decided", present)
    assert isinstance(await world.system.swap([effect]), Swapped)
    assert (world.root / "f").read_bytes() == b"decided"


async def test_the_earlier_version_can_lie_beside(world):
    (world.root / "f.doc").write_bytes(b"earlier")
    swapped = await world.write("f.doc", b"ours")
    (wanted,) = reverse(swapped.effects)
    for name in ("f (earlier).doc", "f (earlier 2).doc"):
        effect = await world.system.beside(wanted)
        assert isinstance(await world.system.swap([effect]), Swapped)
        assert (world.root / name).read_bytes() == b"earlier"


async def test_looking_measures_as_the_other_state_was_measured(world):
    (world.root / "t").mkdir()
    (world.root / "t/f").write_bytes(b"x")
    staged = await world.system.stage_delete(world.system.resolve("t"), recursive=True)
    (state,) = await world.system.look([world.system.resolve("t")], [staged.effects[0].before])
    assert state.same(staged.effects[0].before)
    (world.root / "t/f").write_bytes(b"y")
    (state,) = await world.system.look([world.system.resolve("t")], [staged.effects[0].before])
    assert not state.same(staged.effects[0].before)
    made = await world.commit(await world.system.stage_directory(world.system.resolve("d")))
    (world.root / "d/f").write_bytes(b"x")
    (state,) = await world.system.look([world.system.resolve("d")], [made.effects[0].after])
    assert state.same(made.effects[0].after)


async def test_new_files_get_what_their_folder_gives(world):
    for kind in ("plain", "group", "list"):
        folder = world.root / kind
        folder.mkdir()
        if kind == "group":
            os.chown(folder, -1, 4321)
            folder.chmod(0o2775)
        if kind == "list":
            entries = [(0x01, 7, 0xFFFFFFFF), (0x02, 6, 1234), (0x04, 5, 0xFFFFFFFF), (0x10, 7, 0xFFFFFFFF)]
            packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in [*entries, (0x20, 4, 0xFFFFFFFF)])
            os.setxattr(folder, "system.posix_acl_default", packed)
        (folder / "plain file").write_bytes(b"x")
        (folder / "plain folder").mkdir()
        await world.write(f"{kind}/our file", b"x")
        await world.commit(await world.system.stage_directory(world.system.resolve(f"{kind}/our folder")))
        for what in ("file", "folder"):
            assert facts(folder / f"our {what}") == facts(folder / f"plain {what}"), (kind, what)


def facts(path):
    there = path.stat()
    listed = [(key, os.getxattr(path, key)) for key in sorted(os.listxattr(path))]
    return stat.filemode(there.st_mode), there.st_uid, there.st_gid, listed


def test_an_access_list_without_a_mask_limits_the_group():
    default = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 7, 0xFFFFFFFF) for tag in (0x01, 0x04, 0x20))
    assert [perm for _, perm, _ in struct.iter_unpack("<HHI", access_list(default, 0o640)[4:])] == [6, 4, 0]


def test_nothing_here_needs_linux_to_be_imported():
    import subprocess

    program = (
        "import sys\n"
        "for name in ('fcntl', 'pwd', 'grp', 'resource'): sys.modules[name] = None\n"
        "import takeback.tools.files.system\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
