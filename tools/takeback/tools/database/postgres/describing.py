"""What is in a database, and how far changes to each table can be taken back."""

from __future__ import annotations

import json
from typing import Final

from takeback.journal.states import Reversibility
from takeback.tools.database.port import Column, Description, ForeignKey, Table
from takeback.tools.database.postgres import catalog, triggers
from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.driver import Connection, array
from takeback.tools.database.postgres.inverse import silent
from takeback.tools.database.settings import DatabaseSettings

LISTED: Final = 500
COUNTED: Final = 8 * 1024 * 1024
"""Bytes of a table up to which its rows are counted; of larger ones the server's estimate is told."""
_KINDS: Final = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
}
_ACTIONS: Final = {"a": "", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}
_COLUMNS: Final = """
SELECT a.attrelid, json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
  pg_get_expr(d.adbin, d.adrelid), a.attgenerated <> '') ORDER BY a.attnum)
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1
"""
_SIZES: Final = """
SELECT k.oid, CASE WHEN k.relkind IN ('r', 'm') THEN pg_relation_size(k.oid) END, k.reltuples::bigint
FROM pg_class k WHERE k.oid = ANY($1::oid[])
"""
_KEYS: Final = """
SELECT c.conrelid, json_agg(json_build_array(
  (SELECT json_agg(a.attname ORDER BY k.place) FROM unnest(c.conkey) WITH ORDINALITY k(n, place)
     JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n),
  n.nspname, p.relname,
  (SELECT json_agg(a.attname ORDER BY k.place) FROM unnest(c.confkey) WITH ORDINALITY k(n, place)
     JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n),
  c.confdeltype, c.confupdtype) ORDER BY c.conname)
FROM pg_constraint c JOIN pg_class p ON p.oid = c.confrelid JOIN pg_namespace n ON n.oid = p.relnamespace
WHERE c.contype = 'f' AND c.conrelid = ANY($1::oid[]) GROUP BY 1
"""


def describe(connection: Connection, name: str, settings: DatabaseSettings) -> Description:
    """Tables, columns, keys, rows, and what can be taken back. In an open transaction with the settings of `connecting.fix`."""
    quiet = silent(connection)
    armed = triggers.prepared(connection)
    infos = catalog.all_tables(connection, LISTED + 1, settings.graveyard)
    more, infos = len(infos) > LISTED, infos[:LISTED]
    oids = array(str(info.oid) for info in infos)
    columns = {row[0]: json.loads(row[1] or "[]") for row in connection.rows(_COLUMNS, [oids])}
    keys = {row[0]: json.loads(row[1] or "[]") for row in connection.rows(_KEYS, [oids])}
    sizes = {row[0]: row[1:] for row in connection.rows(_SIZES, [oids])}
    tables: list[Table] = []
    for info in infos:
        rows, estimated = _rows(connection, info, *sizes[str(info.oid)])
        undo, why = judged(info, quiet=quiet)
        tables.append(
            Table(
                name=info.shown,
                kind=_KINDS[info.kind],
                rows=rows,
                estimated=estimated,
                columns=[
                    Column(
                        name=each[0],
                        type=each[1],
                        nullable=each[2],
                        default=None if each[4] else each[3],
                        generated=each[4],
                    )
                    for each in columns.get(str(info.oid), [])
                ],
                key=list(info.key),
                foreign_keys=[
                    ForeignKey(
                        columns=each[0],
                        table=catalog.qualified(each[1], each[2]),
                        references=each[3],
                        on_delete=_ACTIONS[each[4]],
                        on_update=_ACTIONS[each[5]],
                    )
                    for each in keys.get(str(info.oid), [])
                ],
                triggers=list(info.triggers),
                undo=undo,
                why=why,
            )
        )
    return Description(
        database=name,
        kind="postgresql",
        version=_version(connection.version),
        tables=tables,
        undo="reversible" if quiet or all(table.undo == "reversible" for table in tables) else "compensable",
        why="" if quiet else NOT_SILENT,
        notes=_notes(settings, quiet=quiet, armed=armed, more=more),
    )


NOT_SILENT: Final = "The role may not keep triggers and cascades silent, so they run again when rows are put back."


def judged(info: TableInfo, *, quiet: bool) -> tuple[Reversibility, str]:
    """How far changes of a table's rows can be taken back, and why not further."""
    if info.kind == "f":
        return "irreversible", "Its rows lie on another server."
    if info.kind == "m":
        return "irreversible", "It is made anew by REFRESH."
    if info.kind == "r" and (not info.readable or info.secured):
        return "irreversible", "Row security may hide rows." if info.secured else "The role may not read it."
    if info.kind == "r" and not info.writable:
        return "irreversible", "The role may not insert, update and delete its rows, so it could not put them back."
    if info.loud:
        return "compensable", "Some of its triggers are always on, so they run again when rows are put back."
    if info.noisy and not quiet and info.kind in ("r", "p"):
        return "compensable", NOT_SILENT
    return "reversible", ""


def _rows(connection: Connection, info: TableInfo, size: str | None, estimate: str | None) -> tuple[int | None, bool]:
    if not info.readable or info.secured or info.kind not in ("r", "m") or size is None:
        return None, False
    if int(size) <= COUNTED:
        return int(connection.value(f"SELECT count(*) FROM ONLY {info.sql}")), False
    return (int(estimate), True) if estimate is not None and int(estimate) >= 0 else (None, False)


def _version(number: int) -> str:
    return f"{number // 10000}.{number % 10000}"


def _notes(settings: DatabaseSettings, *, quiet: bool, armed: bool, more: bool) -> list[str]:
    by_triggers = armed and settings.capture != "snapshot"
    notes = [
        "Changes are seen by triggers of takeback, at a cost for each row changed."
        if by_triggers
        else "Changes are seen by a second look at each changed table, twice over; takeback db prepare makes that cheaper."
    ]
    if quiet:
        notes.append("Triggers and cascades stay silent while rows are put back.")
    if more:
        notes.append(f"Only the first {LISTED} tables and views are listed.")
    notes.append("Numbers drawn from a counter by a call that is not carried out stay drawn.")
    return notes
