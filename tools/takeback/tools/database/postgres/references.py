"""Foreign keys, checked by hand: while triggers sleep, PostgreSQL's own checks sleep too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.driver import Connection, Line, array, identifier
from takeback.tools.database.postgres.reading import AT_ONCE
from takeback.tools.database.postgres.writing import TableWork


class Dangling(Exception):
    """A row would refer to one that is not there."""

    def __init__(self, constraint: str, child: str, parent: str) -> None:
        super().__init__(f"the foreign key {constraint} of {child} would refer to a row of {parent} that is not there")


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key."""

    name: str
    child: int
    parent: int
    child_sql: str
    parent_sql: str
    columns: tuple[str, ...]
    referred: tuple[str, ...]
    types: tuple[str, ...]
    """Of the columns referred to."""


_REFERENCES: Final = """
SELECT c.conname, c.conrelid, c.confrelid, c.conrelid::regclass, c.confrelid::regclass,
  (SELECT json_agg(a.attname ORDER BY k.place) FROM unnest(c.conkey) WITH ORDINALITY k(n, place)
     JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n),
  (SELECT json_agg(a.attname ORDER BY k.place) FROM unnest(c.confkey) WITH ORDINALITY k(n, place)
     JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n),
  (SELECT json_agg(format_type(a.atttypid, a.atttypmod) ORDER BY k.place) FROM unnest(c.confkey)
     WITH ORDINALITY k(n, place) JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n)
FROM pg_constraint c WHERE c.contype = 'f' AND (c.conrelid = ANY($1::oid[]) OR c.confrelid = ANY($2::oid[]))
"""


def between(connection: Connection, oids: Iterable[int]) -> list[Reference]:
    """Foreign keys from and to these tables; to a partition they are declared at what it is a part of."""
    own = array(map(str, oids))
    wider = array(
        oid
        for (oid,) in connection.rows(
            "SELECT DISTINCT a::oid FROM unnest($1::oid[]) x CROSS JOIN LATERAL ("
            "SELECT x UNION SELECT relid FROM pg_partition_ancestors(x)) t(a)",
            [own],
        )
    )
    return [
        Reference(
            name or "",
            int(child or 0),
            int(parent or 0),
            child_sql or "",
            parent_sql or "",
            tuple(json.loads(columns or "[]")),
            tuple(json.loads(referred or "[]")),
            tuple(json.loads(types or "[]")),
        )
        for name, child, parent, child_sql, parent_sql, columns, referred, types in connection.rows(
            _REFERENCES, [own, wider]
        )
    ]


def check(connection: Connection, work: Sequence[TableWork]) -> None:
    """Hold what was written against the foreign keys that it touches.

    :raises Dangling: a row refers to one that is not there.
    """
    by_table = {each.info.oid: each for each in work}
    ancestors = _ancestors(connection, by_table)
    for reference in between(connection, by_table):
        child = by_table.get(reference.child)
        if child is not None:
            lines = child.come + [after for _, _, after in child.changed]
            wanted = _values(child.info, reference.columns, lines)
            if wanted and _missing(connection, reference, wanted):
                raise Dangling(reference.name, reference.child_sql, reference.parent_sql)
        for oid, parent in by_table.items():
            if reference.parent not in ancestors[oid]:
                continue
            lines = [before for _, before in parent.gone] + [before for _, before, _ in parent.changed]
            removed = _values(parent.info, reference.referred, lines)
            if removed and _referred_to(connection, reference, removed):
                raise Dangling(reference.name, reference.child_sql, reference.parent_sql)


def in_order(connection: Connection, work: Sequence[TableWork]) -> list[TableWork]:
    """The tables, those that others refer to first; circles are broken somewhere."""
    by_table = {each.info.oid: each for each in work}
    needs: dict[int, set[int]] = {oid: set() for oid in by_table}
    for reference in between(connection, by_table):
        if reference.child in by_table and reference.parent in by_table and reference.child != reference.parent:
            needs[reference.child].add(reference.parent)
    ordered: list[TableWork] = []
    while needs:
        ready = [oid for oid, parents in needs.items() if not parents & needs.keys()] or [next(iter(needs))]
        for oid in ready:
            ordered.append(by_table[oid])
            del needs[oid]
    return ordered


def _ancestors(connection: Connection, by_table: Mapping[int, TableWork]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {oid: {oid} for oid in by_table}
    for oid, above in connection.rows(
        "SELECT x, t.relid::oid FROM unnest($1::oid[]) x CROSS JOIN LATERAL pg_partition_ancestors(x) t(relid)",
        [array(map(str, by_table))],
    ):
        found[int(oid or 0)].add(int(above or 0))
    return found


def _values(info: TableInfo, columns: Sequence[str], lines: Iterable[Line]) -> list[Line]:
    order = {column.name: place for place, column in enumerate(info.stored)}
    if any(name not in order for name in columns):
        return []  # a generated column: PostgreSQL made it from what was compared
    places = [order[name] for name in columns]
    values = dict.fromkeys(tuple(line[place] for place in places) for line in lines)
    return [value for value in values if None not in value]


def _keys(reference: Reference, alias: str, columns: Sequence[str]) -> str:
    return " AND ".join(
        f"{alias}.{identifier(column)} = _q._k{place}::{type}"
        for place, (column, type) in enumerate(zip(columns, reference.types, strict=True))
    )


def _unnest(reference: Reference) -> str:
    arrays = ", ".join(f"${place + 1}::text[]" for place in range(len(reference.columns)))
    return f"unnest({arrays}) _q({', '.join(f'_k{place}' for place in range(len(reference.columns)))})"


def _missing(connection: Connection, reference: Reference, wanted: Sequence[Line]) -> bool:
    # the rows referred to are held until COMMIT, as PostgreSQL's own check does it
    held = connection.value("SELECT has_table_privilege($1::oid, 'UPDATE')", [str(reference.parent)]) == "t"
    lock = " FOR KEY SHARE OF _p" if held else ""
    for start in range(0, len(wanted), AT_ONCE):
        part = wanted[start : start + AT_ONCE]
        values = [array(column) for column in zip(*part, strict=True)]
        join = f"{_unnest(reference)} JOIN {reference.parent_sql} _p ON {_keys(reference, '_p', reference.referred)}"
        there = connection.rows(f"SELECT 1 FROM {join}{lock}", values)
        if len(there) < len(part):
            return True
    return False


def _referred_to(connection: Connection, reference: Reference, removed: Sequence[Line]) -> bool:
    for start in range(0, len(removed), AT_ONCE):
        part = removed[start : start + AT_ONCE]
        found = connection.rows(
            f"SELECT 1 FROM {_unnest(reference)} JOIN {reference.child_sql} _c ON {_keys(reference, '_c', reference.columns)}"
            f" WHERE NOT EXISTS (SELECT FROM {reference.parent_sql} _p WHERE {_keys(reference, '_p', reference.referred)})"
            " LIMIT 1",
            [array(column) for column in zip(*part, strict=True)],
        )
        if found:
            return True
    return False
