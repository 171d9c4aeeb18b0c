"""The tables of a SQLite database as far as capture and undo have to know them. Read from the database itself each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import apsw

ALIASES: Final = ("rowid", "_rowid_", "oid")
"""How SQLite lets one say rowid, where no column has that name."""


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever it consists of."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class TableInfo:
    """One ordinary table."""

    name: str
    columns: tuple[str, ...]
    """Those that are stored: generated ones are left out."""
    key: tuple[str, ...]
    """Columns of the primary key in the order of the table; empty if there is none."""
    key_at: tuple[int, ...]
    """Where they stand in `columns`."""
    places: tuple[int, ...]
    """Per column, its place in the key as it was declared, from 1 on; 0 outside of the key."""
    rowid: str
    """What the rowid is called in SQL; empty if the table has none, or nobody can name it."""
    keyless: bool
    """Rows are told apart by their rowid alone."""
    tracked: bool
    """Rows have a key and beside it a rowid of their own, which is part of what is put back."""
    loose_key: bool
    """Columns of the key may hold NULL; then the session extension does not see the row."""
    shadow: bool
    """Belongs to a virtual table."""

    @property
    def selected(self) -> str:
        """The stored columns, as a list in SQL."""
        return ", ".join(map(quoted, self.columns))

    @property
    def matched(self) -> str:
        """A condition that the key's values, given as parameters, find their row by."""
        names = [self.rowid] if self.keyless else [quoted(each) for each in self.key]
        return " AND ".join(f"{name} = ?" for name in names)

    @property
    def extra(self) -> str:
        """The name under which a tracked rowid stands among the columns of a row; empty if it does not."""
        return self.rowid if self.tracked else ""


class Schema:
    """The tables of the main database of a connection, each read when it is first asked for."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._known: dict[str, TableInfo | None] = {}

    def table(self, name: str) -> TableInfo | None:
        """The ordinary table of that name; `None` if there is none (a view and a virtual table are not)."""
        folded = name.casefold()
        if folded not in self._known:
            self._known[folded] = _read(self._connection, name)
        return self._known[folded]


def _rows(connection: apsw.Connection, sql: str, *values: str) -> list[tuple[object, ...]]:
    return list(connection.execute(sql, values))


def _read(connection: apsw.Connection, name: str) -> TableInfo | None:
    listed = _rows(
        connection,
        "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE",
        name,
    )
    if not listed or listed[0][1] not in ("table", "shadow"):
        return None
    real, kind, without, strict = str(listed[0][0]), listed[0][1], bool(listed[0][2]), bool(listed[0][3])
    columns: list[str] = []
    places: list[int] = []
    keyed: list[tuple[int, str, bool]] = []
    taken: set[str] = set()
    for column, not_null, key, hidden in _rows(
        connection, "SELECT name, \"notnull\", pk, hidden FROM pragma_table_xinfo(?, 'main') ORDER BY cid", real
    ):
        taken.add(str(column).casefold())
        if hidden == 0:
            if key:
                keyed.append((len(columns), str(column), bool(not_null)))
            columns.append(str(column))
            places.append(int(str(key)))
    rowid = "" if without else next((each for each in ALIASES if each not in taken), "")
    alias = False
    if len(keyed) == 1 and not without:
        origins = _rows(connection, "SELECT 1 FROM pragma_index_list(?, 'main') WHERE origin = 'pk'", real)
        alias = not origins  # only a key that is the rowid itself needs no index
    tracked = bool(keyed) and not alias and not without and bool(rowid) and kind == "table"
    return TableInfo(
        name=real,
        columns=tuple(columns),
        key=tuple(column for _, column, _ in keyed),
        key_at=tuple(at for at, _, _ in keyed),
        places=tuple(places),
        rowid=rowid,
        keyless=not keyed,
        tracked=tracked,
        loose_key=bool(keyed) and not alias and not without and not strict and not all(each for *_, each in keyed),
        shadow=kind == "shadow",
    )


def names_of(connection: apsw.Connection, kinds: Sequence[str] = ("table", "shadow")) -> list[str]:
    """The tables of the main database, by name; SQLite's own are left out."""
    found = _rows(
        connection,
        "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        " ORDER BY name",
    )
    return [str(name) for name, kind in found if kind in kinds]
