"""Tables that were dropped wait in a schema of their own, whole: rows, indexes, constraints, grants. Then they are moved back.

Source of what moves along: https://www.postgresql.org/docs/current/sql-altertable.html (SET SCHEMA)
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from takeback.tools.database.postgres import catalog
from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.changes import TableTurn
from takeback.tools.database.postgres.driver import Connection, identifier
from takeback.tools.database.postgres.failures import ServerFailure
from takeback.tools.database.postgres.reading import columns_of
from takeback.tools.database.postgres.traces import traces


class CannotWait(Exception):
    """The table cannot be moved aside: the sentence says why."""


@dataclass(frozen=True, slots=True)
class Yard:
    """Where this installation's tables wait."""

    schema: str
    """The schema of the configuration: where the role may not make any, all of them wait in this one."""
    owner: str
    """Stands for the data directory, whose journal alone knows what is still needed: twelve hexadecimal digits."""

    def grave(self, since: int, oid: int) -> str:
        """The schema that one table has to itself.

        :param since: seconds since 1970, by the server's clock.
        """
        return f"{self._first}_{since:08x}_{oid}"

    def parse(self, grave: str) -> tuple[int, int] | None:
        """Since when which table waits there; `None`: it is no grave of this installation's."""
        found = re.fullmatch(f"{re.escape(self._first)}_([0-9a-f]{{8}})_([0-9]+)", grave)
        return None if found is None else (int(found[1], 16), int(found[2]))

    @property
    def _first(self) -> str:
        # PostgreSQL cuts names at 63 bytes
        return f"{self.schema.encode()[:28].decode(errors='ignore')}_{self.owner}"


@contextmanager
def savepoint(connection: Connection, name: str) -> Generator[None]:
    """What is done inside is undone if it fails."""
    connection.run(f"SAVEPOINT {name}")
    try:
        yield
    except BaseException:
        if connection.alive:
            connection.run(f"ROLLBACK TO SAVEPOINT {name}")
        raise
    connection.run(f"RELEASE SAVEPOINT {name}")


def doomed(connection: Connection, sql: str) -> list[TableInfo]:
    """The tables that a DROP TABLE would drop. It is run, and taken back at once.

    :raises ServerFailure: PostgreSQL refuses it, as it would have anyway.
    :raises CannotWait: it would drop more than tables that stand alone.
    """
    connection.run("SAVEPOINT _takeback_drop")
    already = traces(connection).gone
    try:
        connection.run(sql)
        gone = traces(connection).gone - already
    finally:
        if connection.alive:
            connection.run("ROLLBACK TO SAVEPOINT _takeback_drop")
    found = [info for info in catalog.tables(connection, gone).values() if info.kind in ("r", "p", "v", "m", "f")]
    for info in found:
        check(connection, info)
    return found


def check(connection: Connection, info: TableInfo) -> None:
    """Hold a table against what can be moved aside.

    :raises CannotWait: it cannot.
    """
    if info.kind not in ("r", "p"):
        raise CannotWait(f"{info.shown} is no table of rows")
    if not info.owned:
        raise CannotWait(f"the role does not own {info.shown}")
    related = connection.value(
        "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = $1::oid OR inhparent = $1::oid)", [str(info.oid)]
    )
    if related == "t":
        raise CannotWait(f"{info.shown} is a partition, has partitions or takes part in inheritance")


def content(connection: Connection, info: TableInfo) -> str:
    """Fingerprint of all rows of a table: how many, and which. Reads them all, at the server."""
    if not info.stored:
        return connection.value(f"SELECT count(*) FROM ONLY {info.sql}")
    return connection.value(
        "SELECT count(*) || ':' || coalesce(sum(hashtextextended(ROW("
        + columns_of(info, "_t")
        + f")::text, 0)::numeric), 0) FROM ONLY {info.sql} _t"
    )


def grave_for(connection: Connection, info: TableInfo, yard: Yard) -> tuple[str, bool]:
    """The schema in which the table would wait, and whether it has to be made.

    :raises CannotWait: the role may neither make one nor use the one that is there.
    """
    may, there, usable, now = connection.one(
        "SELECT has_database_privilege(current_database(), 'CREATE'),"
        " EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),"
        " coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1), false),"
        " extract(epoch FROM clock_timestamp())::bigint",
        [yard.schema],
    )
    if may == "t":
        return yard.grave(int(now or 0), info.oid), True
    if there == "t" and usable == "t":
        return yard.schema, False
    raise CannotWait(
        f"there is no place where it could wait: the role may not make a schema, and there is no schema {yard.schema} for it"
    )


def bury(connection: Connection, info: TableInfo, yard: Yard, *, fingerprint: bool = True) -> TableTurn:
    """Move a table aside.

    :raises CannotWait: it cannot be moved.
    """
    check(connection, info)
    grave, make = grave_for(connection, info, yard)
    definition = catalog.definition(connection, info.oid)
    keys = foreign_keys(connection, info)
    told = content(connection, info) if fingerprint else ""
    for name, _ in keys:
        # it would keep others from deleting what the waiting rows refer to
        connection.run(f"ALTER TABLE {info.sql} DROP CONSTRAINT {identifier(name)}")
    if make:
        connection.run(f"CREATE SCHEMA {identifier(grave)}")
    try:
        connection.run(f"ALTER TABLE {info.sql} SET SCHEMA {identifier(grave)}")
    except ServerFailure as error:
        if error.code == "42P07":
            raise CannotWait(f"another table of that name waits in {grave} already") from error
        raise
    statements = tuple(
        f"ALTER TABLE {info.sql} ADD CONSTRAINT {identifier(name)} {definition_}" for name, definition_ in keys
    )
    return TableTurn(info, definition, told, dropped=True, grave=grave, name=info.name, keys=statements)


def foreign_keys(connection: Connection, info: TableInfo) -> list[tuple[str, str]]:
    """Names and definitions of the foreign keys by which the table refers to others."""
    rows = connection.rows(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = $1::oid AND contype = 'f' AND confrelid <> conrelid ORDER BY conname",
        [str(info.oid)],
    )
    return [(name or "", definition or "") for name, definition in rows]


def exhume(connection: Connection, oid: int, schema: str) -> None:
    """Move a table back. Its foreign keys come back with `bind`, when the rows that they refer to are there again.

    :raises CannotWait: it is not there any more.
    :raises ServerFailure: something else has its name.
    """
    info = catalog.tables(connection, [oid]).get(oid)
    if info is None:
        raise CannotWait("it does not wait anywhere any more: it was removed for good")
    grave = info.schema
    connection.run(f"ALTER TABLE {info.sql} SET SCHEMA {identifier(schema)}")
    if grave.endswith(f"_{oid}"):
        try:
            with savepoint(connection, "_takeback_grave"):
                connection.run(f"DROP SCHEMA {identifier(grave)}")
        except ServerFailure:
            pass  # somebody put something else there; it is an empty room otherwise, and stays


def bind(connection: Connection, oid: int, keys: Collection[str]) -> TableInfo:
    """Give a table that was moved back its foreign keys again.

    :raises ServerFailure: what it refers to is gone.
    """
    for statement in keys:
        connection.run(statement)
    return catalog.tables(connection, [oid])[oid]


def keys_of(text: str) -> tuple[str, ...]:
    """Statements as a state keeps them."""
    return tuple(json.loads(text)) if text else ()
