"""What the open transaction left behind in the server: its locks, its numbers, the catalogs it wrote to.

Locks are held until the transaction ends, and every writer takes them, whatever made it write: cascades, triggers, functions,
rules, partitions. So a transaction's own locks are the list of what it may have changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from takeback.tools.database.postgres.driver import Connection

HARMLESS: Final = frozenset({"AccessShareLock", "RowShareLock"})
WRITING: Final = "RowExclusiveLock"
_STATISTICS: Final = frozenset({"pg_statistic", "pg_statistic_ext_data"})
"""Catalogs that only say what the planner believes."""

SERVER: Final = "SELECT system_identifier FROM pg_catalog.pg_control_system()"
UP: Final = """
SELECT concat_ws('/', (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint,
(extract(epoch FROM stats_reset) * 1000000)::bigint) FROM pg_catalog.pg_stat_bgwriter
"""
"""Is another one once the server has started anew: also if it came back by itself after one of its processes crashed, which
loses its statistics. Then a number whose transaction never reached the disk may have been given once more."""
_LOCKS: Final = """
SELECT l.relation, l.mode, k.relkind, n.nspname, k.relname, k.relpersistence, l.database = 0
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_class k ON k.oid = l.relation
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace
WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.granted
  AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
"""
_CATALOGS: Final = """
SELECT relname FROM pg_catalog.pg_stat_xact_sys_tables
WHERE schemaname = 'pg_catalog' AND n_tup_ins + n_tup_upd + n_tup_del > 0
"""


@dataclass(slots=True)
class Traces:
    """What a transaction has its hands on."""

    written: set[int] = field(default_factory=lambda: set[int]())
    """Tables that rows of may have changed."""
    exclusive: set[int] = field(default_factory=lambda: set[int]())
    """Tables that nobody else may even read until the transaction ends."""
    strong: set[int] = field(default_factory=lambda: set[int]())
    """Relations that were locked harder than for changing rows: DDL, TRUNCATE, LOCK."""
    gone: set[int] = field(default_factory=lambda: set[int]())
    """Relations that are not there any more."""
    sequences: set[int] = field(default_factory=lambda: set[int]())
    foreign: list[str] = field(default_factory=lambda: list[str]())
    """Foreign tables that were written to."""
    materialized: list[str] = field(default_factory=lambda: list[str]())
    large_objects: bool = False
    shared: list[str] = field(default_factory=lambda: list[str]())
    """Catalogs of the whole server that were written to (roles, databases …)."""
    catalogs: frozenset[str] = frozenset()
    """Catalogs of this database that were written to."""


def mark(connection: Connection) -> str:
    """By what the open transaction can be found again: its number, and the server that gave it. Empty if it has none."""
    return connection.value(
        f"SELECT pg_catalog.pg_current_xact_id_if_assigned()::text || '@' || ({SERVER}) || '@' || ({UP})"
    )


def traces(connection: Connection) -> Traces:
    """What the open transaction has changed, or may have."""
    found = Traces()
    for relation, mode, kind, schema, name, persistence, shared in connection.rows(_LOCKS):
        oid = int(relation or 0)
        if kind is None:
            found.gone.add(oid)
        elif shared == "t":
            found.shared.append(name or "")
        elif schema == "pg_catalog":
            found.large_objects = found.large_objects or (name or "").startswith("pg_largeobject")
        elif persistence == "t" or schema == "takeback" or (schema or "").startswith("pg_"):
            continue  # temporary tables end with the call; TOAST tables follow theirs; the log is our own
        elif kind == "S":
            found.sequences.add(oid)
        elif kind == "f":
            found.foreign.append(name or "")
        elif kind == "m":
            found.materialized.append(name or "")
        elif kind == "r":
            (found.written if mode == WRITING else found.strong).add(oid)
            if mode == "AccessExclusiveLock":
                found.exclusive.add(oid)
        elif mode != WRITING and kind in ("p", "v", "c"):
            found.strong.add(oid)
    found.catalogs = frozenset(name or "" for (name,) in connection.rows(_CATALOGS)) - _STATISTICS
    return found
