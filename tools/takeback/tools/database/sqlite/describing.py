"""Describing a SQLite database, and effects on it, for people and models."""

from __future__ import annotations

import apsw

from takeback.journal.states import Effect
from takeback.tools.database import names
from takeback.tools.database.port import Column, Description, ForeignKey, Table
from takeback.tools.database.rows import Row, changes_of, diff_of, text_of
from takeback.tools.database.sqlite.schema import Schema, quoted
from takeback.tools.system import Preview

COUNTED_BYTES = 256 * 1024 * 1024
"""Up to this size of a database its rows are counted."""
KEPT_WHOLE = "rows cannot be told apart by it, so the whole database is kept and put back"


def describe_all(connection: apsw.Connection) -> Description:
    """What is in it. The name under which the caller knows it is put in by the tool."""
    schema = Schema(connection)
    listed = list(
        connection.execute(
            "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type != 'shadow'"
            " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
        )
    )
    size = next(iter(connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")))[0]
    counting = isinstance(size, int) and size <= COUNTED_BYTES
    tables = [_table(connection, schema, str(name), str(kind), counting=counting) for name, kind in listed]
    notes = [
        "What statements change is seen by SQLite's session extension while they run, cascades and triggers included.",
        "DDL keeps an image of the whole database; it can be taken back as long as nobody else has changed anything since.",
        "Foreign keys are enforced, whatever the default of other programs.",
    ]
    if not counting:
        notes.append("The database is large, so its rows were not counted.")
    return Description(
        database="", kind="sqlite", version=apsw.sqlite_lib_version(), tables=tables, undo="reversible", notes=notes
    )


def _table(connection: apsw.Connection, schema: Schema, name: str, kind: str, *, counting: bool) -> Table:
    info = schema.table(name)
    columns = [
        Column(
            name=str(column),
            type=str(type_),
            nullable=not not_null,
            default=None if default is None else str(default),
            generated=hidden in (2, 3),
        )
        for column, type_, not_null, default, hidden in connection.execute(
            "SELECT name, type, \"notnull\", dflt_value, hidden FROM pragma_table_xinfo(?, 'main')"
            " WHERE hidden != 1 ORDER BY cid",
            (name,),
        )
    ]
    why = ""
    if info is not None and info.keyless and not info.rowid:
        why = f"It has no key, and columns with all the names of a rowid: {KEPT_WHOLE}."
    elif info is not None and info.loose_key and not info.shadow:
        nulls = " OR ".join(f"{quoted(column)} IS NULL" for column in info.key)
        if list(connection.execute(f"SELECT 1 FROM main.{quoted(name)} WHERE {nulls} LIMIT 1")):
            why = f"It has rows with NULL in their key: {KEPT_WHOLE}."
    count: int | None = None
    if counting and kind != "view":
        try:
            found = next(iter(connection.execute(f"SELECT count(*) FROM main.{quoted(name)}")))[0]
            count = found if isinstance(found, int) else None
        except apsw.Error:
            why = why or "It cannot be read here: its module or something it needs is missing."
    return Table(
        name=name,
        kind={"virtual": "virtual table"}.get(kind, kind),
        rows=count,
        columns=columns,
        key=list(info.key) if info is not None else [],
        foreign_keys=_foreign_keys(connection, name),
        triggers=[
            str(trigger)
            for (trigger,) in connection.execute(
                "SELECT name FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? ORDER BY name", (name,)
            )
        ],
        undo="reversible",
        why=why,
    )


def _foreign_keys(connection: apsw.Connection, name: str) -> list[ForeignKey]:
    found: dict[int, ForeignKey] = {}
    for id, table, column, to, on_update, on_delete in connection.execute(
        'SELECT id, "table", "from", "to", on_update, on_delete FROM pragma_foreign_key_list(?, \'main\') ORDER BY id, seq',
        (name,),
    ):
        assert isinstance(id, int)
        key = found.setdefault(
            id,
            ForeignKey(columns=[], table=str(table), references=[], on_delete=str(on_delete), on_update=str(on_update)),
        )
        key.columns.append(str(column))
        if to is not None:
            key.references.append(str(to))
    return list(found.values())


def preview(effect: Effect, before: Row | None, after: Row | None) -> Preview:
    """An effect for a person's eyes.

    :param before: the rows, where it is about one.
    """
    name = names.parse(effect.object)
    database = name.database.removeprefix("files:")
    if name.table is None:
        return Preview(f"change the database {database} (put back as a whole)")
    if name.table == names.SEQUENCE:
        counter = str((name.key or ("",))[0])
        sides = [
            text_of(state.ref.get("value")) if not state.absent else "none" for state in (effect.before, effect.after)
        ]
        return Preview(f"set the counter of {counter} in {database}: {sides[0]} → {sides[1]}")
    if name.key is None:
        return Preview(f"change rows of {name.table} in {database}")
    verb = {"created": "insert", "deleted": "delete", "changed": "update", "unchanged": "leave"}[effect.verb]
    title = f"{verb} {name.table} {names.key_text(name.key)} in {database}"
    told = changes_of(before, after) if verb == "update" else ""
    return Preview(f"{title}: {told}" if told else title, diff_of([(before, after)]))
