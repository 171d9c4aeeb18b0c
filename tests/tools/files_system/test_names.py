"""What is a path and what is refused as one; and that no race leads out of a root."""

from __future__ import annotations

import itertools
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.files_system.world import World, reverse

from takeback.tools.files.native import native_calls
from takeback.tools.files.paths import escape, unescape
from takeback.tools.system import Refused, TargetError


@given(st.binary(min_size=0, max_size=30))
def test_every_name_has_one_id_and_every_id_one_name(name):
    assert unescape(escape(name)) == name
    escape(name).encode("utf-8")


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_different_names_have_different_ids(a, b):
    assert (escape(a) == escape(b)) == (a == b)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../x", "outside_roots"),
        ("/etc/passwd", "outside_roots"),
        ("a/../../x", "outside_roots"),
        ("a\0b", "bad_name"),
        ("\\x00", "bad_name"),
        (".takeback", "reserved"),
        ("d/.takeback/x", "reserved"),
        ("link/x", "symlink_in_path"),
        ("out/passwd", "symlink_in_path"),
        ("f/x", "not_a_directory"),
        ("\ud800", "bad_name"),
    ],
)
async def test_a_path_that_is_refused_says_why(world, path, code):
    (world.root / "d").mkdir()
    (world.root / "f").write_bytes(b"")
    os.symlink("d", world.root / "link")
    os.symlink("/etc", world.root / "out")
    with pytest.raises(Refused) as refused:
        await world.system.read_bytes(world.system.resolve(path), limit=1000)
    assert refused.value.code == code
    assert str(refused.value).endswith(".")
    assert "\0" not in str(refused.value)


async def test_relative_and_absolute_paths_name_the_same_object(world):
    resolve = world.system.resolve
    assert resolve("a/b") == resolve(str(world.root / "a/b")) == resolve("./a/c/../b")
    assert world.system.display(resolve("a/b")) == os.path.join("a", "b")
    assert resolve(".") == str(world.root)
    assert list(world.system.ancestors(resolve("a/b"))) == [str(world.root / "a"), str(world.root)]


async def test_with_several_roots_a_path_may_begin_with_a_roots_name(new_world, tmp_path):
    world = new_world(False)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    system = await world.open(one, two)
    assert system.resolve("x") == str(one / "x")
    assert system.resolve("two/x") == str(two / "x")
    assert system.display(system.resolve("two/x")) == os.path.join("two", "x")
    (one / "two").mkdir()
    assert system.resolve("two/x") == str(one / "two/x")
    await system.close()


async def test_a_root_that_is_a_link_is_its_target(new_world, tmp_path):
    world = new_world(False)
    os.symlink(world.root, tmp_path / "link")
    system = await world.open(tmp_path / "link")
    assert system.resolve(str(tmp_path / "link/f")) == str(world.root / "f")
    await system.close()


@pytest.mark.parametrize("case", ["overlap", "data inside", "inside data", "no folder"])
async def test_roots_that_cannot_be_are_refused(new_world, tmp_path, case):
    world = new_world(False)
    world.data.mkdir()
    (world.data / "x").mkdir()
    (world.root / "sub").mkdir()
    roots = {
        "overlap": [world.root, world.root / "sub"],
        "data inside": [tmp_path],
        "inside data": [world.data / "x"],
        "no folder": [tmp_path / "missing"],
    }[case]
    with pytest.raises(Refused) as refused:
        await world.open(*roots)
    assert refused.value.code == "bad_root"


async def test_listings_follow_no_link_and_hide_what_is_reserved(world):
    (world.root / "d/e").mkdir(parents=True)
    (world.root / "d/e/f").write_bytes(b"x")
    (world.root / ".takeback").mkdir()
    os.symlink("/etc", world.root / "out")
    listed = await world.system.listing(world.system.resolve("."), recursive=True, limit=100)
    assert [(world.system.display(info.object), info.kind) for info in listed] == [
        ("d", "directory"),
        (os.path.join("d", "e"), "directory"),
        (os.path.join("d", "e", "f"), "file"),
        ("out", "symlink"),
    ]
    assert listed[-1].target == "/etc"
    assert len(await world.system.listing(world.system.resolve("."), recursive=True, limit=2)) == 2
    with pytest.raises(Refused):
        await world.system.listing(world.system.resolve("out"), recursive=False, limit=2)


async def test_a_folder_exchanged_for_a_link_never_leads_out(new_world, tmp_path, request):
    for portable in (False, True):
        world = World(tmp_path / f"p{portable}", portable)
        outside = tmp_path / f"outside{portable}"
        outside.mkdir()
        (outside / "f").write_bytes(b"secret")
        system = await world.open()
        (world.root / "d").mkdir()
        (world.root / "d/f").write_bytes(b"mine")
        os.symlink(outside, world.root / "l")
        stop = threading.Event()
        root = system._calls.open_root(os.fsencode(world.root))

        native = native_calls(os.fsencode(world.data))
        if native is None:
            pytest.skip("this kernel cannot exchange two names in one step")

        def swapper(native=native, root=root, stop=stop) -> None:
            while not stop.is_set():
                native.exchange(root, b"d", root, b"l")

        thread = threading.Thread(target=swapper)
        thread.start()
        object_id = str(world.root / "d/f")
        tried = 0
        try:
            # small reads never leave this thread, so that the other one may be given no turn for a while
            for turn in itertools.count():
                if turn >= 1500 and (tried or turn >= 100_000):
                    break
                try:
                    content, _ = await system.read_bytes(object_id, limit=100)
                    assert content != b"secret"
                    tried += 1
                    if turn % 5 == 0:
                        staged = await system.stage_write(object_id, b"mine")
                        world.store.kept.update(staged.blobs)
                        swapped = await system.swap(staged.effects)
                        if hasattr(swapped, "effects"):
                            await system.swap(reverse(swapped.effects))
                except TargetError:
                    continue
        finally:
            stop.set()
            thread.join()
        assert tried
        assert (outside / "f").read_bytes() == b"secret"
        assert os.listdir(outside) == ["f"]
        root.close()
        await system.close()
