"""A writer that dies at any of its system calls leaves the whole object or none, and nothing that stays for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.checkpoints.history import grow_old, open_store

from takeback.journal.log import Journal

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs fork")

# One process forks a child for each place to die at: the child dies, without any cleaning up, before or after its n-th call, or
# (for write) in the middle of it. Then the parent looks at what is there, and puts the same object again.
SCRIPT = """
import os, sys
from takeback.checkpoints.encoding import encode
from takeback.checkpoints.names import Names, load_key
from takeback.checkpoints.objectfiles import ObjectFiles

folder, mode = sys.argv[1], sys.argv[2]
names = Names(load_key(folder + "/names.key", lock=folder + "/names.lock", in_use=False))
CALLS = ("open", "write", "fchmod", "fsync", "mkdir", "utime", "replace", "unlink")


def child(n, data):
    count = 0

    def wrap(name):
        real = getattr(os, name)

        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == n:
                if mode == "before":
                    os._exit(9)
                if mode == "torn" and name == "write":
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                    os._exit(9)
                try:
                    real(*args, **kwargs)
                finally:
                    os._exit(9)
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, wrap(name))
    files = ObjectFiles(folder)
    digest = names.digest(data)
    if not files.refresh(digest):
        files.write(digest, encode(data))
    os._exit(0)


n = 0
while True:
    n += 1
    data = os.urandom(50_000)
    while os.path.exists(os.path.dirname(ObjectFiles(folder).path(names.digest(data)))):
        data = os.urandom(50_000)  # one for which a folder has to be made, so that each child makes the same calls
    pid = os.fork()
    if not pid:
        child(n, data)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    files = ObjectFiles(folder)
    digest = names.digest(data)
    stored = files.read(digest)
    assert stored in (None, encode(data)), n
    if code == 0:
        assert stored is not None
        break
    assert code == 9, code
    if not files.refresh(digest):
        files.write(digest, encode(data))
    assert files.read(digest) == encode(data), n
print(n - 1)
"""


def die_everywhere(folder: Path, mode: str) -> int:
    """At how many places a writer died."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, os.fspath(folder), mode], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("mode", ["before", "after", "torn"])
async def test_a_writer_that_dies_at_any_call_leaves_the_whole_object_or_none(
    tmp_path: Path, journal: Journal, mode: str
) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    assert die_everywhere(folder, mode) >= 12
    store = await open_store(folder, journal)
    async for name, _ in store.names():
        await store.get(name)
    grow_old(store)
    assert all(found.written_ns < store.files.clock_ns() - 10**12 for found in store.files.temporary())


class Disk:
    """Remembers what was synced: what a power cut leaves."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log: list[tuple[str, str]] = []
        real_fsync, real_replace = os.fsync, os.replace

        def fsync(fd: int) -> None:
            real_fsync(fd)
            self.log.append(("fsync", os.readlink(f"/proc/self/fd/{fd}")))

        def replace(source: str, target: str) -> None:
            real_replace(source, target)
            self.log.append(("replace", target))

        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "replace", replace)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc which file was synced")
async def test_file_and_folder_are_synced_in_the_order_that_survives_a_power_cut(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(tmp_path / "objects", journal)
    disk = Disk(monkeypatch)
    name = await store.put(os.urandom(50_000))
    final = store.files.path(name.removeprefix("blake3:"))
    kinds = [
        (kind, os.path.dirname(path) if "/tmp/" in path[len(str(tmp_path)) :] else path) for kind, path in disk.log
    ]
    assert kinds == [
        ("fsync", os.fspath(store.folder / "tmp")),  # the file under its temporary name
        ("fsync", os.fspath(store.folder)),  # the folder that is new
        ("replace", final),
        ("fsync", os.path.dirname(final)),
    ]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc which file was synced")
async def test_an_object_found_there_is_made_durable_because_its_writer_may_not_have(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(tmp_path / "objects", journal)
    data = os.urandom(50_000)
    name = await store.put(data)
    disk = Disk(monkeypatch)
    await store.put(data)
    assert disk.log == [("fsync", os.path.dirname(store.files.path(name.removeprefix("blake3:"))))]
