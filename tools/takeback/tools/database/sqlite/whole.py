"""A database as a whole: its fingerprint, its image, and putting the image back.

The fingerprint is over what the database says (schema, every cell with its type, rowids, counters, the two numbers that
programs keep in the header), not over its pages: SQLite stores the same content in many ways.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw
from blake3 import blake3

from takeback.tools.database.port import Changed
from takeback.tools.database.sqlite.reading import exactly
from takeback.tools.database.sqlite.schema import Schema, quoted

_BATCH: Final = 1000
_HEADER: Final = ("user_version", "application_id", "encoding")


@dataclass(frozen=True, slots=True)
class Content:
    """What a database says."""

    digest: str
    schema: dict[tuple[str, str], str]
    """SQL by kind and name."""
    tables: dict[str, tuple[int, str]]
    """Rows and their fingerprint, by table."""
    header: tuple[object, ...]


def content_of(connection: apsw.Connection) -> Content:
    """Read everything. Call it inside a transaction.

    :raises apsw.Error: it cannot be read.
    """
    schema: dict[tuple[str, str], str] = {}
    tables: dict[str, tuple[int, str]] = {}
    known = Schema(connection)
    virtual = {
        str(name)
        for (name,) in connection.execute(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'virtual'"
        )
    }
    for kind, name, sql in list(
        connection.execute("SELECT type, name, sql FROM main.sqlite_schema ORDER BY type, name")
    ):
        schema[str(kind), str(name)] = str(sql or "")
        if kind == "table" and name not in virtual:
            tables[str(name)] = fingerprint(connection, known, str(name))
    header = tuple(next(iter(connection.execute(f"PRAGMA main.{name}")))[0] for name in _HEADER)
    whole = blake3(repr((sorted(schema.items()), sorted(tables.items()), header)).encode("utf-8", "surrogatepass"))
    return Content(f"database:{whole.hexdigest()}", schema, tables, header)


def digest_of(path: Path) -> str:
    """What the file at a path says, for whoever compares copies; nothing else may have it open."""
    connection = apsw.Connection(os.fspath(path))
    try:
        connection.execute("BEGIN")
        return content_of(connection).digest
    finally:
        connection.close()


def fingerprint(connection: apsw.Connection, known: Schema, name: str) -> tuple[int, str]:
    """How many rows a table has, and their fingerprint."""
    table = known.table(name)
    if table is None:  # SQLite's own
        listed = connection.execute("SELECT name FROM pragma_table_info(?, 'main')", (name,))
        columns = [quoted(str(column)) for (column,) in listed]
        order = ", ".join(columns)
    else:
        columns = [quoted(column) for column in table.columns]
        if table.rowid:
            columns.insert(0, table.rowid)
        order = table.rowid or ", ".join(map(quoted, table.key))
    source = f"FROM main.{quoted(name)}" + (f" ORDER BY {order}" if order else "")
    try:
        return _hash(connection, f"SELECT {', '.join(columns)} {source}")
    except UnicodeDecodeError:
        return _hash(connection, f"SELECT {', '.join(map(exactly, columns))} {source}")


def _hash(connection: apsw.Connection, sql: str) -> tuple[int, str]:
    digest, count = blake3(), 0
    for batch in _batches(connection, sql):
        count += len(batch)
        digest.update(repr(batch).encode("utf-8", "surrogatepass"))
    return count, digest.hexdigest()


def _batches(connection: apsw.Connection, sql: str) -> Iterator[list[object]]:
    batch: list[object] = []
    for row in connection.execute(sql):
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def differences(before: Content, after: Content) -> list[Changed]:
    """What is another thing afterwards, in words."""
    found: list[Changed] = []
    for place in dict.fromkeys([*before.schema, *after.schema]):
        kind, name = place
        if place not in before.schema:
            word = "created"
        elif place not in after.schema:
            word = "dropped"
        elif before.schema[place] != after.schema[place]:
            word = "altered"
        else:
            continue
        if not name.startswith("sqlite_"):
            found.append(Changed(table=name, note=f"{kind} {word}"))
    named = {each.table for each in found}
    for name, (rows, digest) in before.tables.items():
        now = after.tables.get(name)
        if now is None or now[1] == digest or name.startswith("sqlite_") or name in named:
            continue
        more = now[0] - rows
        found.append(
            Changed(table=name, inserted=max(more, 0), deleted=max(-more, 0), note="rows changed" if more == 0 else "")
        )
    if before.header != after.header:
        found.append(Changed(table="(header)", note="user_version or application_id set"))
    return found


def reshaped(before: Content, after: Content) -> int:
    """How many tables, views, indexes and triggers are not defined as they were; SQLite's own are not counted."""
    places = before.schema.keys() | after.schema.keys()
    return sum(
        before.schema.get(place) != after.schema.get(place) for place in places if not place[1].startswith("sqlite_")
    )


def size_of(connection: apsw.Connection) -> int:
    """Bytes of the database."""
    pages = next(iter(connection.execute("PRAGMA main.page_count")))[0]
    page = next(iter(connection.execute("PRAGMA main.page_size")))[0]
    assert isinstance(pages, int) and isinstance(page, int)
    return pages * page


def image_of(connection: apsw.Connection) -> bytes:
    """The pages, as the connection's read transaction sees them."""
    data = connection.serialize("main")
    return data if size_of(connection) else b""


@contextmanager
def source_of(image: bytes, scratch: Path) -> Generator[apsw.Connection]:
    """An image as a database that can be copied from.

    :param scratch: a folder for it meanwhile.
    """
    data = bytearray(image)
    if len(data) >= 20:
        data[18:20] = (
            b"\1\1"  # an image that says WAL cannot be opened by itself; what it is copied to keeps its own mode
        )
    handle, path = tempfile.mkstemp(prefix="image-", suffix=".db", dir=scratch)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        source = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            yield source
        finally:
            source.close(True)
    finally:
        os.unlink(path)
