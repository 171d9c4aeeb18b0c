"""What `put` has returned is there, however busily a collector works on the same object."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from takeback.checkpoints.encoding import encode
from takeback.checkpoints.objectfiles import ObjectFiles

DIGEST = "ab" * 32
STORED = encode(os.urandom(100))


def put(files: ObjectFiles) -> None:
    if not files.refresh(DIGEST):
        files.write(DIGEST, STORED)


@pytest.mark.parametrize("found", ["whole", "gone", "damaged"])
def test_a_collector_between_its_look_and_its_deletion_holds_off_a_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    """The put starts right after the collector has looked; whichever comes first, the object is there afterwards."""
    files = ObjectFiles(os.fspath(tmp_path))
    put(files)
    path = files.path(DIGEST)
    if found == "damaged":
        os.chmod(path, 0o600)
        Path(path).write_bytes(b"rubbish")
    os.utime(path, (1, 1))
    cutoff = os.stat(tmp_path).st_mtime_ns - 10**9
    # a put that has found damage is already writing when the collector comes
    act = partial(files.write, DIGEST, STORED) if found == "damaged" else partial(put, files)
    unlink, putter = os.unlink, threading.Thread(target=act)

    def unlink_late(victim: str) -> None:
        if victim == path and not putter.ident:
            if found == "gone":
                unlink(victim)
            putter.start()
            putter.join(0.05)  # as far as it gets: without the lock it would be through
            with suppress(FileNotFoundError):
                unlink(victim)
            return
        unlink(victim)

    monkeypatch.setattr(os, "unlink", unlink_late)
    files.remove(DIGEST, written_before_ns=cutoff)
    putter.join()
    assert files.read(DIGEST) == STORED


@contextmanager
def in_the_background(work: Callable[[], object]) -> Generator[None, None, None]:
    """Repeat some work in another thread while inside."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_many_puts_beside_a_collector_that_never_rests(tmp_path: Path) -> None:
    files = ObjectFiles(os.fspath(tmp_path))
    put(files)
    cutoff = os.stat(tmp_path).st_mtime_ns - 10**9
    with in_the_background(lambda: files.remove(DIGEST, written_before_ns=cutoff)):
        for _ in range(300):
            with suppress(FileNotFoundError):
                os.utime(files.path(DIGEST), (1, 1))
            put(files)
            assert files.read(DIGEST) == STORED
