"""One engine over a workspace with a database in it, and another program that looks at the same file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.server.engine.bench import Bench, settings_for
from tests.tools.database.sqlite.outside import Outside

from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import LimitSettings, ToolSettings


@pytest.fixture(scope="session")
def outside() -> Iterator[Outside]:
    with Outside() as other:
        yield other


@pytest.fixture
def folder() -> Iterator[Path]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="takeback-", dir=base))
    (path / "work").mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def bench(folder: Path) -> AsyncIterator[Bench]:
    limits = LimitSettings(ballast_bytes=4096, step_seconds=20)
    engine = await Engine.open(
        settings_for(folder, tools=ToolSettings(), limits=limits, triggers=TriggerSettings.off())
    )
    engine.core.retry_pauses = ()
    yield Bench(engine, folder / "work")
    await engine.close()


@pytest.fixture(params=["wal", "delete"])
def db(request: pytest.FixtureRequest, folder: Path, outside: Outside) -> Iterator[Path]:
    """A database with a write-ahead log, and one with a rollback journal."""
    path = folder / "work" / "app.db"
    outside.run(path, f"PRAGMA journal_mode = {request.param}")
    outside.script(
        path,
        """
        CREATE TABLE parent(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, amount INTEGER CHECK (amount > -100));
        CREATE TABLE child(id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent(id) ON DELETE CASCADE, note TEXT);
        CREATE TABLE keyed(k TEXT PRIMARY KEY, v, w);
        CREATE TABLE log(what TEXT, old, new);
        CREATE TABLE made(id INTEGER PRIMARY KEY, base, twice GENERATED ALWAYS AS (base * 2) STORED, tail);
        CREATE TRIGGER logged AFTER UPDATE ON parent BEGIN
          INSERT INTO log VALUES (new.name, old.amount, new.amount);
        END;
        CREATE TRIGGER kept BEFORE DELETE ON parent WHEN old.amount = 13 BEGIN SELECT RAISE(ABORT, 'thirteen stays'); END;
        CREATE TRIGGER told BEFORE DELETE ON keyed WHEN old.v = 'secret' BEGIN SELECT RAISE(ABORT, 'it is kept'); END;
        INSERT INTO parent(name, amount) VALUES ('a', 1), ('b', 2), ('c', 13);
        INSERT INTO child(parent, note) VALUES (1, 'x'), (1, 'y'), (2, 'z');
        INSERT INTO made(base, tail) VALUES (1, 'a'), (2, 'b');
        INSERT INTO keyed VALUES ('k1', 1, 'w'), ('k2', 'secret', 'w');
        """,
    )
    yield path
    outside.close()
