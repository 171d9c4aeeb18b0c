"""What the server's catalogs say of tables. Read with `search_path` fixed, so that every name is spelled in full."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from blake3 import blake3

from takeback.tools.database.postgres.driver import Connection, array, identifier

USUAL: Final = "public"
"""The schema that is left out of names."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    type: str
    """As PostgreSQL spells it, with its modifiers; reads a text back exactly."""
    generated: bool


@dataclass(frozen=True)
class TableInfo:
    """A table as it is now."""

    oid: int
    schema: str
    name: str
    kind: str
    """`pg_class.relkind`: `r` table, `p` partitioned, `f` foreign, `v` view, `m` materialized view, `S` counter."""
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    """Columns of the primary key."""
    equals: tuple[str, ...]
    """For each of them the operator by which the key's index tells values apart."""
    owned: bool
    """Whether the role is, or acts for, its owner."""
    readable: bool
    writable: bool
    """INSERT, UPDATE and DELETE, all three."""
    secured: bool
    """Whether row security applies to the role."""
    triggers: tuple[str, ...]
    """Of users, enabled."""
    noisy: bool
    """Whether writing to it makes other things happen: triggers, rules, foreign keys with cascades onto others."""
    loud: bool
    """Whether some of its triggers and rules run even where those of others sleep (ENABLE ALWAYS, ENABLE REPLICA)."""

    @cached_property
    def stored(self) -> tuple[Column, ...]:
        """The columns that are stored: all but the generated ones."""
        return tuple(column for column in self.columns if not column.generated)

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Places of the key's columns among the stored ones."""
        order = {column.name: place for place, column in enumerate(self.stored)}
        return tuple(order[name] for name in self.key)

    @cached_property
    def shape(self) -> str:
        """Fingerprint of what an image of its rows depends on."""
        told = [[[column.name, column.type, column.generated] for column in self.columns], list(self.key)]
        return blake3(json.dumps(told, ensure_ascii=False).encode()).hexdigest()[:32]

    @property
    def keyed(self) -> bool:
        """Whether its rows can be told apart by a key."""
        return bool(self.key)

    @property
    def sql(self) -> str:
        """Its name inside a statement."""
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    @property
    def shown(self) -> str:
        """Its name for people, and in the names of objects."""
        return qualified(self.schema, self.name)


def qualified(schema: str, name: str) -> str:
    """`orders`, `sales.orders`, `"odd.name"`."""
    last = _quoted(name)
    return last if schema == USUAL else f"{_quoted(schema)}.{last}"


def unqualified(text: str) -> tuple[str, str]:
    """Schema and name.

    :raises ValueError: it is not such a name.
    """
    parts: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == '"':
            end = at + 1
            while (end := text.index('"', end)) + 1 < len(text) and text[end + 1] == '"':
                end += 2
            parts.append(text[at + 1 : end].replace('""', '"'))
            at = end + 1
        else:
            end = text.find(".", at)
            end = len(text) if end < 0 else end
            parts.append(text[at:end])
            at = end
        if at < len(text):
            if text[at] != "." or at + 1 == len(text):
                raise ValueError(f"{text!r} is no name of a table")
            at += 1
    if len(parts) == 1:
        return USUAL, parts[0]
    if len(parts) != 2:
        raise ValueError(f"{text!r} is no name of a table")
    return parts[0], parts[1]


def _quoted(name: str) -> str:
    return identifier(name) if not name or "." in name or '"' in name else name


_TABLES: Final = """
SELECT k.oid, n.nspname, k.relname, k.relkind,
  (SELECT coalesce(json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated <> '')
     ORDER BY a.attnum), '[]') FROM pg_attribute a WHERE a.attrelid = k.oid AND a.attnum > 0 AND NOT a.attisdropped),
  (SELECT coalesce(json_agg(json_build_array(a.attname, coalesce(
       (SELECT format('OPERATOR(%I.%s)', s.nspname, o.oprname) FROM pg_opclass c
          JOIN pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
          JOIN pg_amop x ON x.amopfamily = c.opcfamily AND x.amoplefttype = c.opcintype
            AND x.amoprighttype = c.opcintype AND x.amopstrategy = 3
          JOIN pg_operator o ON o.oid = x.amopopr JOIN pg_namespace s ON s.oid = o.oprnamespace
          WHERE c.oid = i.indclass[w.place - 1]), '=')) ORDER BY w.place), '[]') FROM pg_index i
     CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY w(attnum, place)
     JOIN pg_attribute a ON a.attrelid = k.oid AND a.attnum = w.attnum
     WHERE i.indrelid = k.oid AND i.indisprimary AND w.place <= i.indnkeyatts),
  pg_has_role(k.relowner, 'USAGE'),
  has_table_privilege(k.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'),
  has_table_privilege(k.oid, 'INSERT') AND has_table_privilege(k.oid, 'UPDATE') AND has_table_privilege(k.oid, 'DELETE'),
  CASE WHEN k.relkind IN ('r', 'p') THEN row_security_active(k.oid) ELSE false END,
  (SELECT coalesce(json_agg(t.tgname ORDER BY t.tgname), '[]') FROM pg_trigger t
     WHERE t.tgrelid = k.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgname NOT LIKE '!takeback%'),
  EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = k.oid AND r.ev_type <> '1' AND r.ev_enabled <> 'D')
    OR EXISTS (SELECT FROM pg_constraint c WHERE c.confrelid = k.oid AND c.contype = 'f'
      AND (c.confdeltype NOT IN ('a', 'r') OR c.confupdtype NOT IN ('a', 'r'))),
  EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = k.oid AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R')
      AND t.tgname NOT LIKE '!takeback%')
    OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = k.oid AND r.ev_type <> '1' AND r.ev_enabled IN ('A', 'R'))
FROM pg_class k JOIN pg_namespace n ON n.oid = k.relnamespace
"""


def tables(connection: Connection, oids: Iterable[int]) -> dict[int, TableInfo]:
    """These relations by their object ids; what is not there (any more) is left out."""
    wanted = array(str(oid) for oid in oids)
    if wanted == "{}":
        return {}
    rows = connection.rows(f"{_TABLES} WHERE k.oid = ANY($1::oid[])", [wanted])
    return {info.oid: info for info in map(_info, rows)}


def table_named(connection: Connection, shown: str) -> TableInfo | None:
    """The table of that name (as `qualified` gives it)."""
    return tables_named(connection, [shown]).get(shown)


def tables_named(connection: Connection, shown: Sequence[str]) -> dict[str, TableInfo]:
    """Tables by their names; what is not there is left out."""
    pairs: dict[tuple[str, str], str] = {}
    for each in shown:
        try:
            pairs[unqualified(each)] = each
        except ValueError:
            continue
    if not pairs:
        return {}
    rows = connection.rows(
        f"{_TABLES} JOIN unnest($1::text[], $2::text[]) q(s, t) ON q.s = n.nspname AND q.t = k.relname"
        " WHERE k.relkind IN ('r', 'p', 'f', 'v', 'm')",
        [array(schema for schema, _ in pairs), array(name for _, name in pairs)],
    )
    return {pairs[info.schema, info.name]: info for info in map(_info, rows)}


def all_tables(connection: Connection, limit: int, graveyard: str) -> list[TableInfo]:
    """Tables and views that the role can see, without those of the system and of takeback.

    :param graveyard: the schema of the configuration in which dropped tables wait.
    """
    first = re.sub(r"(\W)", r"\\\1", graveyard.encode()[:28].decode(errors="ignore"))
    rows = connection.rows(
        f"{_TABLES} WHERE k.relkind IN ('r', 'p', 'f', 'v', 'm') AND n.nspname NOT LIKE 'pg\\_%'"
        " AND n.nspname NOT IN ('information_schema', 'takeback') AND has_schema_privilege(n.oid, 'USAGE')"
        " AND n.nspname <> $1 AND n.nspname !~ $2 ORDER BY n.nspname, k.relname LIMIT $3::int",
        [graveyard, f"^{first}_([0-9a-f]+_[0-9a-f]{{8}}_)?[0-9]+$", str(limit)],
    )
    return list(map(_info, rows))


def _info(row: tuple[str | None, ...]) -> TableInfo:
    oid, schema, name, kind, columns, key, owned, readable, writable, secured, triggers, noisy, loud = (
        value or "" for value in row
    )
    trigger_names: list[str] = json.loads(triggers)
    keys: list[tuple[str, str]] = json.loads(key)
    return TableInfo(
        oid=int(oid),
        schema=schema,
        name=name,
        kind=kind,
        columns=tuple(Column(*each) for each in json.loads(columns)),
        key=tuple(name for name, _ in keys),
        equals=tuple(operator for _, operator in keys),
        owned=owned == "t",
        readable=readable == "t",
        writable=writable == "t",
        secured=secured == "t",
        triggers=tuple(trigger_names),
        noisy=noisy == "t" or bool(trigger_names),
        loud=loud == "t",
    )


_DEFINITION: Final = """
SELECT md5(concat_ws(E'\\n',
  k.relkind, k.relpersistence, k.relrowsecurity, k.relforcerowsecurity, k.relispartition,
  array_to_string(k.reloptions, ','), k.relreplident,
  (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated,
     a.attidentity, a.attcollation, pg_get_expr(d.adbin, d.adrelid)), E'\\n' ORDER BY a.attnum)
     FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = k.oid AND a.attnum > 0 AND NOT a.attisdropped),
  (SELECT string_agg(c.conname || ' ' || pg_get_constraintdef(c.oid), E'\\n' ORDER BY c.conname) FROM pg_constraint c
     WHERE c.conrelid = k.oid AND c.contype <> 'f'),
  (SELECT string_agg(concat_ws(' ', x.relname, i.indisunique, i.indnkeyatts, i.indkey, i.indclass, i.indoption,
     pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid)), E'\\n' ORDER BY x.relname)
     FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = k.oid),
  (SELECT string_agg(concat_ws(' ', t.tgname, t.tgtype, t.tgenabled, t.tgfoid), E'\\n' ORDER BY t.tgname)
     FROM pg_trigger t WHERE t.tgrelid = k.oid AND NOT t.tgisinternal AND t.tgname NOT LIKE '!takeback%'),
  (SELECT string_agg(pg_get_constraintdef(c.oid), E'\\n' ORDER BY c.conname) FROM pg_constraint c
     WHERE c.conrelid = k.oid AND c.contype = 'f')
)) FROM pg_class k WHERE k.oid = $1::oid
"""


def definition(connection: Connection, oid: int) -> str:
    """Fingerprint of a table's definition, wherever it stands: columns, constraints, indexes, triggers."""
    return connection.value(_DEFINITION, [str(oid)])
