"""Reading rows and counters, to the last bit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw
from pydantic import JsonValue

from takeback.tools.database.rows import RawText, decode, encode, encode_text
from takeback.tools.database.sqlite.schema import TableInfo, quoted

Encoded = tuple[JsonValue, ...]


def bound(value: JsonValue) -> tuple[str, apsw.SQLiteValue]:
    """How an encoded value is passed: the placeholder, and what is bound to it."""
    raw = decode(value)
    if isinstance(raw, RawText):
        return "CAST(? AS TEXT)", bytes(raw)
    return "?", raw


def condition(names: Iterable[str], values: Iterable[JsonValue]) -> tuple[str, list[apsw.SQLiteValue]]:
    """`a = ? AND b = ?`, with what to bind."""
    terms: list[str] = []
    bindings: list[apsw.SQLiteValue] = []
    for name, value in zip(names, values, strict=True):
        place, raw = bound(value)
        terms.append(f"{name} = {place}")
        bindings.append(raw)
    return " AND ".join(terms), bindings


class Reader:
    """Reads rows of one table by their keys."""

    def __init__(self, connection: apsw.Connection, table: TableInfo) -> None:
        self.connection, self.table = connection, table
        names = [quoted(each) for each in table.columns]
        if table.extra:
            names.append(table.extra)
        self._names = names
        self._from = f"FROM main.{quoted(table.name)} WHERE"
        self._key = [table.rowid] if table.keyless else [quoted(each) for each in table.key]
        self._by_key = f"SELECT {', '.join(names)} {self._from} " + " AND ".join(f"{each} = ?" for each in self._key)

    def cells(self, key: Sequence[JsonValue]) -> Encoded | None:
        """The stored columns of a row (and its own rowid last, where that is tracked); `None` if there is no such row."""
        if len(key) != len(self._key):
            return None
        found = self._found(key)
        if (
            found is None
            or self.table.keyless
            or all(found[at] == value for at, value in zip(self.table.key_at, key, strict=True))
        ):
            return found
        return None  # equal by its collation only: another key

    def _found(self, key: Sequence[JsonValue]) -> Encoded | None:
        plain = [decode(value) for value in key]
        if not any(isinstance(value, RawText) for value in plain):
            try:
                for row in self.connection.execute(self._by_key, plain):
                    return tuple(map(encode, row))
                return None
            except UnicodeDecodeError:
                pass  # then to the byte
        where, bindings = condition(self._key, key)
        return self._select(self._names, where, bindings)

    def _select(self, names: Sequence[str], where: str, bindings: list[apsw.SQLiteValue]) -> Encoded | None:
        try:
            for row in self.connection.execute(f"SELECT {', '.join(names)} {self._from} {where}", bindings):
                return tuple(map(encode, row))
        except UnicodeDecodeError:
            sql = f"SELECT {', '.join(map(exactly, names))} {self._from} {where}"
            for row in self.connection.execute(sql, bindings):
                return tuple(_as_typed(kind, value) for kind, value in zip(row[::2], row[1::2], strict=True))
        return None

    def key_at(self, rowid: int) -> Encoded | None:
        """The key of the row that has this rowid."""
        return self._select(self._key, f"{self.table.rowid} = ?", [rowid])

    def rowid_of(self, key: Sequence[JsonValue]) -> int | None:
        """The rowid of the row with this key."""
        where, bindings = condition(self._key, key)
        found = self._select([self.table.rowid], where, bindings)
        return found[0] if found is not None and isinstance(found[0], int) else None


def named(table: TableInfo, cells: Sequence[JsonValue]) -> dict[str, JsonValue]:
    """A row by the names of its columns."""
    names = (*table.columns, table.extra) if table.extra else table.columns
    return dict(zip(names, cells, strict=True))


def exactly(name: str) -> str:
    """Two columns in SQL for one: its type, and its value, texts as their bytes (not all of them are Unicode)."""
    return f"typeof({name}), CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END"


def _as_typed(kind: object, value: object) -> JsonValue:
    return encode_text(value) if kind == "text" and isinstance(value, bytes) else encode(value)


def counters(connection: apsw.Connection) -> dict[str, JsonValue]:
    """The counters of tables with AUTOINCREMENT, by table."""
    if not list(connection.execute("SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence'")):
        return {}
    return {
        str(name): encode(value) for name, value in connection.execute("SELECT name, seq FROM main.sqlite_sequence")
    }


def put_counter(connection: apsw.Connection, name: str, value: JsonValue | None, *, there: bool) -> None:
    """Set a counter, or remove it (`value` None)."""
    if not there:
        connection.execute("DELETE FROM main.sqlite_sequence WHERE name = ?", (name,))
        return
    raw = decode(value)
    connection.execute("UPDATE main.sqlite_sequence SET seq = ? WHERE name = ?", (raw, name))
    if connection.changes() == 0:
        connection.execute("INSERT INTO main.sqlite_sequence(name, seq) VALUES (?, ?)", (name, raw))
