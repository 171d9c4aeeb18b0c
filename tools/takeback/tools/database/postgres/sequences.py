"""Counters: PostgreSQL moves them outside of transactions, so they are read before and after, and set back by comparison."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from takeback.tools.database.postgres.catalog import qualified
from takeback.tools.database.postgres.changes import SequenceChange
from takeback.tools.database.postgres.driver import Connection, array, identifier
from takeback.tools.database.postgres.failures import ServerFailure

Value = tuple[str, bool]
"""Last value, and whether it has been handed out."""
HELD: Final = 1000
"""Numbers that rows had already and that are remembered of a counter; where there are more, it stays where it is."""


def readable(connection: Connection) -> dict[int, tuple[str, str]]:
    """Counters that the role can read: schema and name by object id."""
    rows = connection.rows(
        "SELECT k.oid, n.nspname, k.relname FROM pg_catalog.pg_class k"
        " JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace WHERE k.relkind = 'S' AND k.relpersistence <> 't'"
        " AND n.nspname <> 'takeback' AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')"
        " AND CASE WHEN k.relkind = 'S' THEN pg_catalog.has_sequence_privilege(k.oid, 'SELECT') ELSE false END"
    )
    return {int(oid or 0): (schema or "", name or "") for oid, schema, name in rows}


def values(connection: Connection, which: Mapping[int, tuple[str, str]]) -> dict[int, Value]:
    """Where these counters stand."""
    if not which:
        return {}
    rows = connection.rows(
        " UNION ALL ".join(
            f"SELECT {oid}, last_value, is_called FROM {identifier(schema)}.{identifier(name)}"
            for oid, (schema, name) in which.items()
        )
    )
    return {int(oid or 0): (value or "", called == "t") for oid, value, called in rows}


def moved(
    connection: Connection, before: Mapping[int, Value], which: Mapping[int, tuple[str, str]], touched: Collection[int]
) -> tuple[list[SequenceChange], list[str]]:
    """The counters that the open transaction moved, and warnings about those that will stay where they are."""
    now = values(connection, {oid: name for oid, name in which.items() if oid in touched})
    writable = {
        int(oid or 0)
        for (oid,) in connection.rows(
            "SELECT x FROM unnest($1::oid[]) x WHERE pg_catalog.has_sequence_privilege(x, 'UPDATE')",
            [array(map(str, now))],
        )
    }
    changes: list[SequenceChange] = []
    stay: list[str] = []
    for oid, after in now.items():
        if oid not in before or before[oid] == after:
            continue
        shown = qualified(*which[oid])
        if oid not in writable:
            stay.append(f"The counter {shown} stays where it is: the role may not set it.")
        elif not _ours(connection, oid, after):
            stay.append(f"The counter {shown} stays where it is: others use it at the same time.")
        else:
            back = backwards(before[oid], after, direction(connection, oid))
            changes.append(SequenceChange(oid, shown, before[oid], after, back))
    stay += [
        f"The counter with id {oid} stays where it is: the role may not read it." for oid in touched if oid not in which
    ]
    return changes, stay


def backwards(one: Value, other: Value, step: int) -> bool:
    """Whether a counter that goes from one value to the other will hand out again what it has handed out.

    :param step: its `direction`.
    """
    far = (int(other[0]) - int(one[0])) * step
    return far < 0 or (far == 0 and one[1] and not other[1])


def _ours(connection: Connection, oid: int, after: Value) -> bool:
    # whether the value that was handed out last was handed out to this session
    if not after[1]:
        return True
    connection.run("SAVEPOINT _takeback_counter")
    mine = ""
    with suppress(ServerFailure):
        mine = connection.value("SELECT pg_catalog.currval($1::oid::regclass)", [str(oid)])
    connection.run("ROLLBACK TO SAVEPOINT _takeback_counter")
    return mine == after[0]


def set_back(connection: Connection, schema: str, name: str, now: Value, wanted: Value) -> bool:
    """Set a counter, if it stands where it is believed to stand; whether it did."""
    where = f"{identifier(schema)}.{identifier(name)}"
    owner = connection.value(
        "SELECT pg_catalog.pg_has_role(relowner, 'USAGE') AND relkind = 'S' FROM pg_catalog.pg_class WHERE oid = $1::regclass",
        [where],
    )
    if owner == "t":
        # nobody draws from it between the comparison and the setting; the owner alone can ask for that
        cache = connection.value("SELECT seqcache FROM pg_catalog.pg_sequence WHERE seqrelid = $1::regclass", [where])
        connection.run(f"ALTER SEQUENCE {where} CACHE {int(cache)}")
    done = connection.rows(
        f"SELECT pg_catalog.setval($1::regclass, $2::bigint, $3::bool) FROM {where}"
        " WHERE last_value = $4::bigint AND is_called = $5::bool",
        [where, wanted[0], _bool(wanted[1]), now[0], _bool(now[1])],
    )
    return bool(done)


def in_use(connection: Connection, oid: int, wanted: Value, now: Value, held: Collection[int] = ()) -> bool:
    """Whether a row has a value that the counter would hand out again: somebody drew it in between.

    :param held: values that rows had before the counter moved at all. Nobody drew those from it since.
    """
    low, high = sorted((int(wanted[0]), int(now[0])))
    for _, where, named in _fed(connection, oid):
        connection.run("SAVEPOINT _takeback_numbers")
        try:
            found = connection.rows(
                f"SELECT 1 FROM {where} WHERE {named} BETWEEN $1::bigint AND $2::bigint"
                f" AND ({named} <> $3::bigint OR NOT $4::bool) AND NOT {named} = ANY($5::bigint[]) LIMIT 1",
                [str(low), str(high), wanted[0], _bool(wanted[1]), array(map(str, held))],
            )
        except ServerFailure:
            # no numbers, or none that the role may read: nobody can say that they are free
            connection.run("ROLLBACK TO SAVEPOINT _takeback_numbers")
            return True
        if found:
            return True
    return False


def moment(connection: Connection) -> str:
    """Now, as the lower half of the oldest transaction number that is still at work: what is older is there for all to see.

    Take it before the counters are read: then a row that is older and has a number that a counter has yet to reach did not
    draw it from there.
    """
    return connection.value(
        "SELECT (pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::numeric % 4294967296)::text"
    )


def holding(connection: Connection, change: SequenceChange, since: str, locked: Collection[int]) -> SequenceChange:
    """The same change, with the numbers on its way that rows had before, without having drawn them from it.

    :param connection: sees the rows, as they are or as they were.
    :param since: the `moment` before the counters were read.
    :param locked: tables that it would have to wait for.
    """
    before, after = change.before, change.after
    free = int(before[0]) + (direction(connection, change.oid) if before[1] else 0)
    low, high = sorted((free, int(after[0])))
    held: set[int] = set()
    for oid, where, named in _fed(connection, change.oid):
        if oid in locked:
            return change
        connection.run("SAVEPOINT _takeback_numbers")
        try:
            rows = connection.rows(
                f"SELECT DISTINCT _t.{named}::bigint FROM {where} _t WHERE _t.{named} BETWEEN $1::bigint AND $2::bigint"
                f" AND ((_t.xmin::text::bigint - {int(since)}) & 4294967295) >= 2147483648 LIMIT {HELD + 1}",
                [str(low), str(high)],
            )
        except ServerFailure:
            connection.run("ROLLBACK TO SAVEPOINT _takeback_numbers")
            return change
        held |= {int(value or 0) for (value,) in rows}
    return replace(change, held=tuple(sorted(held))) if len(held) <= HELD else change


def _fed(connection: Connection, oid: int) -> Iterator[tuple[int, str, str]]:
    # tables, and their columns as a statement names them, that take their numbers from the counter
    for table_oid, schema, table, column in connection.rows(
        "SELECT k.oid, n.nspname, k.relname, a.attname FROM pg_catalog.pg_depend d"
        " JOIN pg_catalog.pg_class k ON k.oid = d.refobjid JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace"
        " JOIN pg_catalog.pg_attribute a ON a.attrelid = k.oid AND a.attnum = d.refobjsubid"
        " WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = $1::oid AND d.deptype IN ('a', 'i')"
        " AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0",
        [str(oid)],
    ):
        yield int(table_oid or 0), f"{identifier(schema or '')}.{identifier(table or '')}", identifier(column or "")


def _bool(value: bool) -> str:
    return "t" if value else "f"


def direction(connection: Connection, oid: int) -> int:
    """1 for a counter that counts up, -1 for one that counts down."""
    return (
        1
        if int(connection.value("SELECT seqincrement FROM pg_catalog.pg_sequence WHERE seqrelid = $1::oid", [str(oid)]))
        > 0
        else -1
    )
