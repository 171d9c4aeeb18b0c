"""What is known before statements run: which they are, and for those that change the schema, what a rehearsal showed.

Blocking: runs in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from takeback.tools.database.port import Bounds, Statement
from takeback.tools.database.postgres import catalog, guard, sequences
from takeback.tools.database.postgres.connecting import Connections, fix
from takeback.tools.database.postgres.driver import Connection, array
from takeback.tools.database.postgres.texts import bound
from takeback.tools.database.postgres.threads import Watch
from takeback.tools.database.postgres.traces import traces

SCHEMA_KINDS = frozenset({"table", "drop", "truncate", "schema"})
"""Kinds of statements that are rehearsed."""


@dataclass(slots=True)
class Plan:
    """What is known before the attempt."""

    statements: Sequence[Statement]
    kinds: Sequence[guard.Kind]
    by_triggers: bool
    rehearsed: bool = False
    truncated: list[int] = field(default_factory=lambda: list[int]())
    """Tables that will be emptied at once, as the rehearsal showed."""
    definitions: dict[int, str] = field(default_factory=lambda: dict[int, str]())
    """Fingerprints of the definitions that may change, as they were."""
    counters: dict[int, sequences.Value] | None = None
    """Where the counters stood before the first attempt."""
    moment: str = ""
    """When that was (`sequences.moment`)."""


def rehearse(connections: Connections, plan: Plan, bounds: Bounds, watch: Watch) -> None:
    """Run the statements and take them back at once, to learn which tables to look at before they run.

    :raises ServerFailure, Lost, ToolError: they do not run.
    """
    plan.rehearsed = True
    with connections.use(watch) as connection:
        if plan.counters is None:
            plan.moment = sequences.moment(connection)
            plan.counters = sequences.values(connection, sequences.readable(connection))
        connection.run("BEGIN")
        connection.run("SAVEPOINT _takeback_rehearsal")
        for statement in plan.statements:
            connection.run(f"SET LOCAL statement_timeout = {watch.left_ms()}")
            connection.run("SET LOCAL lock_timeout = 10000")
            connection.first(
                statement.sql, bound(connection, statement), rows=bounds.returned_rows, size=bounds.returned_bytes
            )
        found = traces(connection)
        fix(connection, seconds_ms=watch.left_ms())
        files = _files(connection, found.strong)
        definitions = {oid: catalog.definition(connection, oid) for oid in files}
        connection.run("ROLLBACK TO SAVEPOINT _takeback_rehearsal")
        fix(connection, seconds_ms=watch.left_ms())
        there = catalog.tables(connection, found.strong | found.gone)
        plan.definitions = {oid: catalog.definition(connection, oid) for oid in there}
        earlier = _files(connection, found.strong)
        plan.truncated = [
            oid
            for oid, file in earlier.items()
            if files.get(oid, file) != file and there[oid].kind == "r" and definitions.get(oid) == plan.definitions[oid]
        ]


def _files(connection: Connection, oids: set[int]) -> dict[int, str]:
    return {
        int(oid or 0): file or ""
        for oid, file in connection.rows(
            "SELECT oid, relfilenode FROM pg_catalog.pg_class WHERE oid = ANY($1::oid[])", [array(map(str, oids))]
        )
    }
