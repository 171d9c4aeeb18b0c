"""Dropped tables that no undo needs any more are dropped for good.

Only what this installation moved aside, each in a schema of its own: whether a table is needed is known to the journal that
tells of it, and to no other.

Blocking: runs in a thread.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from takeback.journal.states import State
from takeback.tools.database.postgres.connecting import fix
from takeback.tools.database.postgres.driver import Connection, identifier
from takeback.tools.database.postgres.failures import ServerFailure
from takeback.tools.database.postgres.graveyard import Yard

LOCK_MS = 1000
"""Milliseconds to wait for somebody who looks into a grave; the next collection tries again."""


def clear(connection: Connection, yard: Yard, keep: Collection[State], *, older_than: float) -> int:
    """Drop the tables that wait for none of these states.

    :param older_than: seconds that they have to have waited.
    :return: bytes freed.
    """
    oids, graves = _needed(keep)
    freed = 0
    for grave, oid in _graves(connection, yard, older_than):
        # tables of two databases may have the same number: then one of them stays longer than it would have to
        if oid not in oids and grave not in graves:
            with suppress(ServerFailure):  # somebody built something on it, or is looking at it: it stays
                freed += _drop(connection, grave, oid)
    return freed


def _needed(keep: Collection[State]) -> tuple[set[str], set[str]]:
    refs = [state.ref for state in keep if state.kind == "table"]
    return {str(ref.get("oid", "")) for ref in refs}, {str(ref.get("grave", "")) for ref in refs}


def _graves(connection: Connection, yard: Yard, older_than: float) -> list[tuple[str, str]]:
    rows = connection.rows(
        "SELECT nspname, extract(epoch FROM clock_timestamp())::bigint FROM pg_catalog.pg_namespace"
        " WHERE pg_catalog.pg_has_role(nspowner, 'USAGE')"
    )
    found: list[tuple[str, str]] = []
    for name, now in rows:
        parsed = yard.parse(name or "")
        if parsed is not None and int(now or 0) - parsed[0] > older_than:
            found.append((name or "", str(parsed[1])))
    return found


def _drop(connection: Connection, grave: str, oid: str) -> int:
    try:
        connection.run("BEGIN")
        fix(connection, lock_ms=LOCK_MS)
        inside = connection.rows(
            "SELECT k.relname, pg_total_relation_size(k.oid) FROM pg_class k JOIN pg_namespace n ON n.oid = k.relnamespace"
            " WHERE n.nspname = $1 AND k.oid = $2::oid AND k.relkind IN ('r', 'p')",
            [grave, oid],
        )
        size = 0
        for name, bytes_ in inside:
            # by its name there: one that was put back meanwhile is not touched. RESTRICT: nothing of others goes with it
            connection.run(f"DROP TABLE {identifier(grave)}.{identifier(name or '')}")
            size += int(bytes_ or 0)
        connection.run(f"DROP SCHEMA {identifier(grave)}")
        connection.run("COMMIT")
        return size
    finally:
        connection.rollback()
