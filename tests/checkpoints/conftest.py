"""A real journal and a real store in a temporary folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.checkpoints.history import open_store

from takeback.checkpoints.store import FileObjectStore
from takeback.journal.log import Journal
from takeback.journal.memory import MemoryJournal
from takeback.journal.sqlite import SqliteJournal


@pytest.fixture(params=["sqlite", "memory"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Journal]:
    if request.param == "memory":
        journal: Journal = MemoryJournal()
    else:
        journal = await SqliteJournal.open(
            tmp_path / "data" / "journal.db", key_file=tmp_path / "chain.key", anchor_file=None
        )
    yield journal
    await journal.close()


@pytest.fixture
async def store(tmp_path: Path, journal: Journal) -> FileObjectStore:
    return await open_store(tmp_path / "data" / "objects", journal)
