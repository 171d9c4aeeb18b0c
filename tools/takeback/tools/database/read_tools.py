"""The tools that look at databases, and change nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from takeback.tools.contract import EVERYTHING, Arguments, CallContext, ReadTool, Result
from takeback.tools.database.port import Column, Description, ForeignKey, Rows, Table
from takeback.tools.database.toolkit import DatabaseName, DatabaseTool, Sql, Values, statement, told

__all__ = ["Column", "DescribeDatabaseTool", "ForeignKey", "ListDatabasesTool", "QueryDatabaseTool", "Table"]


class ListDatabases(Arguments):
    """Arguments of `list_databases`."""


class DescribeDatabase(Arguments):
    """Arguments of `describe_database`."""

    database: DatabaseName


class QueryDatabase(Arguments):
    """Arguments of `query_database`."""

    database: DatabaseName
    sql: Sql
    parameters: Values = None
    limit: int = Field(default=200, ge=1, le=5000, description="Rows to answer at most.")


class KnownDatabase(Result):
    """A database that can be named."""

    database: str = Field(description="Pass this as `database`.")
    kind: Literal["sqlite", "postgresql"]
    label: str = ""
    read_only: bool = False
    configured: bool = Field(description="False for SQLite files found in the workspace.")


class Databases(Result):
    """What `list_databases` answers."""

    databases: list[KnownDatabase]
    truncated: bool = Field(description="Whether the workspace holds more SQLite files than were looked for.")


class QueryResult(Rows):
    """What `query_database` answers."""

    database: str


class ListDatabasesTool(DatabaseTool, ReadTool[ListDatabases]):
    """Which databases there are."""

    name = "list_databases"
    title = "List databases"
    description = "Lists the configured databases and the SQLite files in the workspace."
    arguments = ListDatabases
    result = Databases

    async def run(self, arguments: ListDatabases, context: CallContext) -> Databases:
        known = [
            KnownDatabase(
                database=name,
                kind="sqlite" if its.url.startswith("sqlite:") else "postgresql",
                label=its.label,
                read_only=its.read_only,
                configured=True,
            )
            for name, its in self.settings.items()
        ]
        with told():
            files, truncated = await self.workspace.sqlite_files()
        known += [KnownDatabase(database=path, kind="sqlite", configured=False) for path in files]
        return Databases(databases=known, truncated=truncated)


class DescribeDatabaseTool(DatabaseTool, ReadTool[DescribeDatabase]):
    """What is in a database."""

    name = "describe_database"
    title = "Describe database"
    description = (
        "Tells tables, columns, keys and row counts of a database, and how far changes to each can be taken back."
    )
    arguments = DescribeDatabase
    result = Description

    async def run(self, arguments: DescribeDatabase, context: CallContext) -> Description:
        id = self.id_of(arguments.database)
        with told():
            found = await self.opened(id).describe_all()
        return found.model_copy(update={"database": self.shown(id)})


class QueryDatabaseTool(DatabaseTool, ReadTool[QueryDatabase]):
    """Rows of a database."""

    name = "query_database"
    title = "Query database"
    description = "Runs one SELECT and answers its rows. Nothing that writes gets through: for that use execute_sql."
    arguments = QueryDatabase
    result = QueryResult

    async def run(self, arguments: QueryDatabase, context: CallContext) -> QueryResult:
        id = self.id_of(arguments.database)
        with told():
            rows = await self.opened(id).query(
                statement(arguments.sql, arguments.parameters), self.bounds(id, rows=arguments.limit)
            )
        context.seen[(self.system.name, id)] = EVERYTHING
        return QueryResult(database=self.shown(id), columns=rows.columns, rows=rows.rows, truncated=rows.truncated)
