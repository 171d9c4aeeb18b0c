"""The shim, compiled once, and a worker under it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.crash.shim import Worker, compiled, memory_folder


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="module")
def worker(library: Path) -> Iterator[Worker]:
    for folder in memory_folder():
        with Worker(library, folder) as made:
            yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    yield from memory_folder()
