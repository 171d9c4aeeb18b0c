"""Compiles the shim, and drives workers under it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from tests.signs import SECONDS

REPOSITORY = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("shim.c")
EVERY = int(os.environ.get("TAKEBACK_CRASH_EVERY", "0"))
"""Of the calls at which a process can die every so manieth is tried; 0 leaves it to each test."""
KILLED = 9


def every(otherwise: int) -> int:
    """The stride of a test that would try every `otherwise`-th call by itself."""
    return EVERY or otherwise


def compiled(folder: Path) -> Path:
    """The shim as a library; skips the test where there is nothing to compile it with or to load it into."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not sys.platform.startswith("linux") or compiler is None:
        if os.environ.get("CI") and sys.platform.startswith("linux"):
            pytest.fail("there is no C compiler here, and in CI this must not be skipped")
        pytest.skip("the shim is for Linux and needs a C compiler")
    library = folder / "shim.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"],
        check=True,
        timeout=60,
    )
    return library


def memory_folder() -> Iterator[Path]:
    """A scratch folder in memory where there is such a place: what is tried here is an order of calls, not a disk."""
    path = Path(tempfile.mkdtemp(prefix="takeback-crash-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Worker:
    """A process under the shim that forks a child for each order."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.worker"],
            cwd=REPOSITORY,
            env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(timeout=SECONDS)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def ask(self, phase: str, scenario: str, **order: Any) -> dict[str, Any]:
        """One order; a child that hangs is ended by its alarm."""
        assert self._process.stdin is not None and self._process.stdout is not None
        line = json.dumps({"phase": phase, "scenario": scenario, "folder": str(self.folder / "one"), **order})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the worker died"
        told: dict[str, Any] = json.loads(answer)
        assert told["died"] in (0, KILLED), told
        return told

    def untouched(self, scenario: str, **order: Any) -> dict[str, Any]:
        """The scenario with nothing in its way: how many calls it makes, and through which worlds it passes."""
        answer = self.ask("work", scenario, mode="count", **order)
        assert "told" in answer, answer
        told: dict[str, Any] = answer["told"]
        assert not told["stopped"], told["stopped"]
        return told

    def clean(self) -> None:
        """Make room for the next try."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
