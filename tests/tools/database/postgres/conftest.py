"""Databases on real servers: one server a session and version, one database a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.postgres_server import Server, drop, fresh, server
from tests.tools.database.postgres.world import build, dump

from takeback.checkpoints.objects import ObjectStore
from takeback.journal.states import Effect
from takeback.tools.conformance import kit_services
from takeback.tools.database.port import Bounds, Execution, Statement
from takeback.tools.database.postgres.database import PostgresDatabase
from takeback.tools.database.rows import reversed_effects
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.system import Drifted, Swapped

VERSIONS = (18, 16, 15)
BOUNDS = Bounds(seconds=30, returned_rows=200, returned_bytes=1 << 20, capture_rows=1_000_000, capture_bytes=1 << 28)


@dataclass
class Shop:
    """A database of the product, and a person who looks into it by other means."""

    server: Server
    name: str
    person: psycopg.Connection[Any]
    objects: ObjectStore
    opened: list[PostgresDatabase]

    def open(self, *, user: str = "agent", **settings: Any) -> PostgresDatabase:
        url = self.server.url(self.name, user)
        self.opened.append(PostgresDatabase("shop", DatabaseSettings(url=url, **settings), self.objects))
        return self.opened[-1]

    async def run(self, database: PostgresDatabase, *texts: str, bounds: Bounds = BOUNDS) -> Execution:
        return await database.execute([Statement(text) for text in texts], bounds)

    async def do(self, database: PostgresDatabase, *texts: str) -> tuple[Effect, ...]:
        execution = await self.run(database, *texts)
        await self.objects.put_blobs(execution.blobs)
        return await execution.commit()

    async def undo(self, database: PostgresDatabase, effects: tuple[Effect, ...]) -> Swapped | Drifted:
        return await database.swap(reversed_effects(effects))

    def dump(self) -> dict[str, Any]:
        return dump(self.person)

    def sql(self, text: str) -> list[Any]:
        cursor = self.person.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
async def shop(version: int, tmp_path: Path) -> AsyncIterator[Shop]:
    async for made in make_shop(version, tmp_path):
        yield made


@pytest.fixture
async def newest(tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop on the newest version alone: for what no version does differently."""
    async for made in make_shop(18, tmp_path):
        yield made


_templates: dict[int, str] = {}


async def make_shop(version: int, folder: Path) -> AsyncIterator[Shop]:
    running = server(version)
    if version not in _templates:
        template = fresh(running)
        with psycopg.connect(running.url(template), autocommit=True) as connection:
            build(connection)
        _templates[version] = template
    name = fresh(running, template=_templates[version])
    person = psycopg.connect(running.url(name), autocommit=True)
    shop = Shop(running, name, person, kit_services(folder).objects, [])
    yield shop
    for database in shop.opened:
        await database.close()
    person.close()
    drop(running, name)


MakeShop = Callable[[], Shop]
