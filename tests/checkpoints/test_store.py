"""What is put into the store comes out again, or is said to be damaged or gone."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.checkpoints.history import MIB, act, change, open_store, start_run, stored

from takeback.checkpoints import names
from takeback.checkpoints.names import NamesKeyUnavailable
from takeback.checkpoints.objects import SMALL, ObjectCorrupt, ObjectError, ObjectMissing, QuotaExceeded
from takeback.checkpoints.oslock import held
from takeback.checkpoints.store import BLOCK, FileObjectStore, NotStored
from takeback.journal.log import Journal

TEXT = b"the quick brown fox jumps over the lazy dog\n" * 2000
NOISE = os.urandom(100_000)


def file_of(store: FileObjectStore, name: str) -> Path:
    return Path(store.files.path(name.removeprefix("blake3:")))


@pytest.mark.parametrize("data", [b"", b"x", TEXT, NOISE, TEXT * 20], ids=["empty", "byte", "text", "noise", "large"])
async def test_what_is_put_comes_out_again(store: FileObjectStore, data: bytes) -> None:
    name = await store.put(data)
    assert name == store.name(data)
    assert await store.has(name)
    assert await store.get(name) == data


async def test_an_object_is_named_by_a_keyed_digest_that_another_store_does_not_share(
    store: FileObjectStore, journal: Journal, tmp_path: Path
) -> None:
    other = await open_store(tmp_path / "other", journal)
    assert store.name(TEXT).startswith("blake3:") and len(store.name(TEXT)) == 7 + 64
    assert store.name(TEXT) != other.name(TEXT)


async def test_the_same_bytes_are_stored_once(store: FileObjectStore) -> None:
    first = await store.put(NOISE)
    inode = file_of(store, first).stat().st_ino
    assert await store.put(NOISE) == first
    assert file_of(store, first).stat().st_ino == inode
    assert (await store.usage()).objects == 1


async def test_putting_again_makes_an_object_young_again(store: FileObjectStore) -> None:
    name = await store.put(NOISE)
    os.utime(file_of(store, name), (1, 1))
    await store.put(NOISE)
    assert file_of(store, name).stat().st_mtime > 1_000_000


async def test_text_is_compressed_and_noise_is_not(store: FileObjectStore) -> None:
    assert file_of(store, await store.put(TEXT)).stat().st_size < len(TEXT) / 5
    assert len(NOISE) < file_of(store, await store.put(NOISE)).stat().st_size < len(NOISE) + 64


@pytest.mark.skipif(os.name == "nt", reason="modes mean less there")
async def test_objects_cannot_be_written_and_the_key_cannot_be_read_by_others(store: FileObjectStore) -> None:
    name = await store.put(NOISE)
    assert stat.S_IMODE(file_of(store, name).stat().st_mode) == 0o400
    assert stat.S_IMODE((store.folder / "names.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


async def test_small_objects_travel_with_the_intent_and_are_found_in_the_journal(
    store: FileObjectStore, journal: Journal
) -> None:
    data = b"before" * 100
    name, blobs = store.small(data)
    assert not await store.has(name)
    await act(journal, await start_run(journal), change(stored(name)), blobs=blobs)
    assert await store.has(name)
    assert await store.get(name) == data
    assert not file_of(store, name).exists()


async def test_large_data_is_refused_as_a_small_object(store: FileObjectStore) -> None:
    with pytest.raises(ValueError, match="too many"):
        store.small(b"x" * (SMALL + 1))


async def test_an_unknown_object_is_missing(store: FileObjectStore) -> None:
    name = store.name(b"never put")
    assert not await store.has(name)
    with pytest.raises(ObjectMissing):
        await store.get(name)


@pytest.mark.parametrize("name", ["", "blake3:", "../../names.key", "blake3:../names.key", "blake3:" + "Z" * 64])
async def test_a_name_that_no_store_made_opens_no_file(store: FileObjectStore, name: str) -> None:
    assert not await store.has(name)
    with pytest.raises(ObjectMissing):
        await store.get(name)
    assert await store.drop([name]) == 0
    assert (store.folder / "names.key").exists()


@pytest.mark.parametrize("data", [TEXT, NOISE], ids=["compressed", "plain"])
async def test_any_flipped_byte_is_noticed(store: FileObjectStore, data: bytes) -> None:
    name = await store.put(data)
    path = file_of(store, name)
    whole = path.read_bytes()
    os.chmod(path, 0o600)
    for place in {*range(16), len(whole) // 2, len(whole) - 1}:
        broken = bytearray(whole)
        broken[place] ^= 0x10
        path.write_bytes(broken)
        with pytest.raises(ObjectCorrupt):
            await store.get(name)


async def test_a_cut_file_is_noticed_and_mended_by_the_next_put(store: FileObjectStore) -> None:
    name = await store.put(NOISE)
    path = file_of(store, name)
    os.chmod(path, 0o600)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ObjectCorrupt):
        await store.get(name)
    assert await store.put(NOISE) == name
    assert await store.get(name) == NOISE
    usage = await store.usage()
    assert (usage.objects, usage.stored_bytes) == (1, path.stat().st_size)


async def test_a_damaged_file_does_not_hide_a_sound_copy_in_the_journal(
    store: FileObjectStore, journal: Journal
) -> None:
    data = b"before" * 100
    name, blobs = store.small(data)
    await act(journal, await start_run(journal), change(stored(name)), blobs=blobs)
    await store.put(data)
    os.chmod(file_of(store, name), 0o600)
    file_of(store, name).write_bytes(b"rubbish")
    assert await store.get(name) == data


async def test_a_stream_is_stored_in_blocks(store: FileObjectStore) -> None:
    data = os.urandom(BLOCK) + TEXT
    blocks = await store.put_stream(io.BytesIO(data), len(data))
    assert len(blocks) == 2
    assert b"".join([await store.get(name) for name in blocks]) == data
    assert await store.put_stream(io.BytesIO(b""), 0) == ()


class Slow(io.RawIOBase):
    """A raw stream that answers in pieces."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece, self.rest = self.rest[: min(size, 1000)], self.rest[min(size, 1000) :]
        return piece


async def test_a_stream_that_answers_in_pieces_makes_the_same_blocks(store: FileObjectStore) -> None:
    assert await store.put_stream(Slow(NOISE), len(NOISE)) == (store.name(NOISE),)  # type: ignore[arg-type]  # reads alike


async def test_a_stream_that_ends_early_is_said_to(store: FileObjectStore) -> None:
    with pytest.raises(ObjectError, match="ended 5 bytes early"):
        await store.put_stream(io.BytesIO(NOISE), len(NOISE) + 5)


class Unread(io.BytesIO):
    """A stream that must not be read."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("it was read")


async def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path, journal: Journal) -> None:
    store = await open_store(tmp_path / "objects", journal, object_bytes=1000)
    with pytest.raises(QuotaExceeded, match="1001"):
        await store.put_stream(Unread(), 1001)
    with pytest.raises(QuotaExceeded):
        await store.put(b"x" * 1001)
    assert [name async for name in store.names()] == []


async def test_the_quota_refuses_before_anything_is_written(tmp_path: Path, journal: Journal) -> None:
    store = await open_store(tmp_path / "objects", journal, store_bytes=250_000)
    await store.put(NOISE)
    await store.put(NOISE[::-1])
    before = sorted(os.walk(store.folder))
    for attempt in (store.put(NOISE[1:]), store.reserve(60_000), store.put_stream(Unread(), 60_000)):
        with pytest.raises(QuotaExceeded, match="250000"):
            await attempt
    assert sorted(os.walk(store.folder)) == before
    await store.reserve(40_000)
    assert await store.put(NOISE) == store.name(NOISE)  # what is there already needs no room


async def test_small_objects_count_for_the_quota(tmp_path: Path, journal: Journal) -> None:
    store = await open_store(tmp_path / "objects", journal, store_bytes=50_000)
    run_id = await start_run(journal)
    for _ in range(2):
        name, blobs = store.small(os.urandom(20_000))
        await store.reserve(20_000)
        await act(journal, run_id, change(stored(name)), blobs=blobs)
    with pytest.raises(QuotaExceeded):
        await store.reserve(20_000)
    with pytest.raises(QuotaExceeded):
        await (await open_store(tmp_path / "objects", journal, store_bytes=50_000)).reserve(20_000)


async def test_dropping_makes_room_for_every_process_on_the_folder(tmp_path: Path, journal: Journal) -> None:
    one = await open_store(tmp_path / "objects", journal, store_bytes=150_000)
    two = await open_store(tmp_path / "objects", journal, store_bytes=150_000)
    name = await one.put(NOISE)
    with pytest.raises(QuotaExceeded):
        await two.put(NOISE[::-1])
    assert await one.drop([name, one.name(b"unknown")]) > len(NOISE)
    await two.put(NOISE[::-1])
    assert not await two.has(name)
    with pytest.raises(QuotaExceeded):
        await one.reserve(100_000)


async def test_a_count_that_is_too_high_after_a_crash_refuses_nobody(tmp_path: Path, journal: Journal) -> None:
    store = await open_store(tmp_path / "objects", journal, store_bytes=150_000)
    await store.usage()
    store._counter.add(1, 140_000)  # pyright: ignore[reportPrivateUsage]  # a writer that died after counting
    await store.put(NOISE)
    assert (await store.usage()).objects == 1


async def test_a_torn_count_is_counted_anew(tmp_path: Path, journal: Journal) -> None:
    store = await open_store(tmp_path / "objects", journal, store_bytes=150_000)
    await store.put(NOISE)
    record = (store.folder / "usage").read_bytes()
    for damaged in (b"torn", b"", record[:16] + bytes(16) + record[32:]):
        (store.folder / "usage").write_bytes(damaged)
        with pytest.raises(QuotaExceeded):
            await store.put(NOISE[::-1])


async def test_the_disks_reserve_is_not_touched(tmp_path: Path, journal: Journal) -> None:
    store = await open_store(tmp_path / "objects", journal, ballast_bytes=1 << 60)
    with pytest.raises(QuotaExceeded, match="disk"):
        await store.reserve(1)
    with pytest.raises(QuotaExceeded, match="disk"):
        await store.put(NOISE)


async def test_an_undo_is_refused_neither_for_the_quota_nor_for_the_reserve(tmp_path: Path, journal: Journal) -> None:
    store = await open_store(tmp_path / "objects", journal, store_bytes=10, ballast_bytes=1 << 60)
    with store.for_undo():
        await store.reserve(MIB)
        name = await store.put(NOISE)
        large = await store.put(NOISE * 10)
    assert await store.get(name) == NOISE
    assert await store.get(large) == NOISE * 10
    with pytest.raises(QuotaExceeded):
        await store.reserve(1)


async def test_a_full_disk_leaves_nothing_behind(store: FileObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    await store.usage()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(NotStored, match="full"):
            await store.put(NOISE)
    assert list(store.files.temporary()) == []
    assert (await store.usage()).stored_bytes == 0
    await store.put(NOISE)


async def test_nothing_is_acknowledged_after_a_failed_fsync(
    store: FileObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(NotStored):
            await store.put(NOISE)
    assert not await store.has(store.name(NOISE))


async def test_the_key_is_never_replaced_while_there_are_objects(store: FileObjectStore, journal: Journal) -> None:
    name = await store.put(NOISE)
    key = (store.folder / "names.key").read_bytes()
    (store.folder / "names.key").unlink()
    with pytest.raises(NamesKeyUnavailable):
        await open_store(store.folder, journal)
    (store.folder / "names.key").write_bytes(key[:-8])
    with pytest.raises(NamesKeyUnavailable):
        await open_store(store.folder, journal)
    (store.folder / "names.key").write_bytes(key)
    assert await (await open_store(store.folder, journal)).get(name) == NOISE


async def test_the_key_is_never_replaced_while_the_journal_holds_small_objects(
    store: FileObjectStore, journal: Journal
) -> None:
    name, blobs = store.small(b"x")
    await act(journal, await start_run(journal), change(stored(name)), blobs=blobs)
    (store.folder / "names.key").unlink()
    with pytest.raises(NamesKeyUnavailable):
        await open_store(store.folder, journal)


async def test_an_undo_goes_on_where_not_even_the_count_can_be_written(
    store: FileObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) < 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    await store.usage()
    with monkeypatch.context() as patch, store.for_undo():
        patch.setattr(os, "write", full)
        name = await store.put(NOISE)
    assert await store.get(name) == NOISE
    assert (await store.usage()).objects == 1


def test_a_key_that_another_process_made_a_moment_earlier_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = os.fspath(tmp_path / "names.key"), os.fspath(tmp_path / "names.lock")
    first: list[bytes] = []

    def overtaken(file: str) -> AbstractContextManager[bool]:
        with monkeypatch.context() as patch:
            patch.setattr(names, "held", held)
            first.append(names.load_key(path, lock=lock, in_use=False))
        return held(file)

    monkeypatch.setattr(names, "held", overtaken)
    assert names.load_key(path, lock=lock, in_use=False) == first[0]


PUTTER = """
import sys
from takeback.checkpoints.names import Names, load_key
from takeback.checkpoints.objectfiles import ObjectFiles
from takeback.checkpoints.usage import Counter
from takeback.checkpoints.encoding import encode
folder = sys.argv[1]
names = Names(load_key(folder + "/names.key", lock=folder + "/names.lock", in_use=False))
files = ObjectFiles(folder)
counter = Counter(folder)
print("ready", flush=True)
sys.stdin.readline()
for number in range(60):
    data = b"%d" % number * 5000
    digest = names.digest(data)
    if not files.refresh(digest):
        stored = encode(data)
        counter.add(1, len(stored))
        grown = files.write(digest, stored)
        if not grown:
            counter.add(-1, -len(stored))
    print(digest, flush=True)
"""


def in_three_processes(folder: Path) -> list[list[str]]:
    """Put the same sixty objects in three processes at once; what each of them was told."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PUTTER, os.fspath(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    return answers


async def test_processes_that_start_together_agree_on_the_key_and_on_every_object(
    tmp_path: Path, journal: Journal
) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    answers = in_three_processes(folder)
    assert answers[0] == answers[1] == answers[2]
    store = await open_store(folder, journal)
    for number in range(60):
        assert await store.get(store.name(b"%d" % number * 5000)) == b"%d" % number * 5000
    assert list(store.files.temporary()) == []
    assert (await store.usage()).objects == 60
