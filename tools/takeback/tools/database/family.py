"""The family of the database tools. Opens nothing at the start: a database and its driver are loaded when it is first used."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Self

from takeback.checkpoints.objects import ObjectStore
from takeback.tools.database.execute_tool import ExecuteSqlTool
from takeback.tools.database.port import Database
from takeback.tools.database.read_tools import DescribeDatabaseTool, ListDatabasesTool, QueryDatabaseTool
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.database.system import DatabaseSystem
from takeback.tools.database.workspace import Workspace
from takeback.tools.registry import Family, Services

TOOLS = (ListDatabasesTool, DescribeDatabaseTool, QueryDatabaseTool, ExecuteSqlTool)
"""In the order in which they are listed."""


class DatabaseFamily(Family):
    """Databases: configured ones, and SQLite files of the workspace."""

    name = "database"

    def __init__(self, system: DatabaseSystem, workspace: Workspace, settings: dict[str, DatabaseSettings]) -> None:
        self._system, self._workspace = system, workspace
        self.systems = (system,)
        self.tools = tuple(tool(system, workspace, settings) for tool in TOOLS)

    @classmethod
    async def open(cls, services: Services) -> Self:
        settings = dict(services.databases)
        workspace = Workspace(services.roots, services.data, portable=services.portable_files)
        system = DatabaseSystem(
            {
                name: partial(open_configured, name, its, services.data, services.objects)
                for name, its in settings.items()
            },
            services.objects,
            by_file=partial(open_file, workspace, services.data, services.objects),
        )
        return cls(system, workspace, settings)

    async def close(self) -> None:
        await self._system.close()
        self._workspace.close()


def open_configured(name: str, settings: DatabaseSettings, data: Path, objects: ObjectStore) -> Database:
    """A database of the configuration.

    :raises TargetError: its driver is not installed, or its address means nothing.
    """
    if settings.url.startswith("sqlite:"):
        from takeback.tools.database.sqlite.database import SqliteDatabase

        return SqliteDatabase.configured(name, settings, data, objects)
    from takeback.tools.database.postgres.database import PostgresDatabase

    return PostgresDatabase(name, settings, objects)


def open_file(workspace: Workspace, data: Path, objects: ObjectStore, id: str) -> Database:
    """A SQLite file of the workspace.

    :raises TargetError: there is no such file in the workspace any more.
    """
    from takeback.tools.database.sqlite.database import SqliteDatabase

    return SqliteDatabase.in_workspace(id, workspace, data, objects)
