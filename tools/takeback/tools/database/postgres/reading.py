"""Reading rows as they stand: whole tables, rows by key, how often a row stands in a table without a key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.changes import record
from takeback.tools.database.postgres.driver import Connection, Line, array, identifier

AT_ONCE: Final = 10_000
"""Rows that one statement reads or writes."""


class TooMuch(Exception):
    """More rows, or more bytes, than are kept."""


@dataclass(slots=True)
class Budget:
    """What may still be kept of images."""

    rows: int
    size: int
    """Bytes."""

    def take(self, lines: Sequence[Line]) -> None:
        """These rows are kept.

        :raises TooMuch: they are more than there is room for.
        """
        self.rows -= len(lines)
        self.size -= sum(8 + len(value) for line in lines for value in line if value is not None)
        if self.rows < 0 or self.size < 0:
            raise TooMuch


def columns_of(info: TableInfo, alias: str) -> str:
    """The stored columns in a select list."""
    return ", ".join(f"{alias}.{identifier(column.name)}" for column in info.stored)


def image_of(info: TableInfo, alias: str) -> str:
    """A row as one text (`changes.record` makes the same)."""
    return f"ROW({columns_of(info, alias)})::text"


def batches(connection: Connection, select: str) -> Iterator[list[Line]]:
    """The rows of a query, so many at a time. Needs an open transaction."""
    connection.run(f"DECLARE _takeback NO SCROLL CURSOR FOR {select}")
    try:
        while rows := connection.rows(f"FETCH {AT_ONCE} FROM _takeback"):
            yield rows
            if len(rows) < AT_ONCE:
                break
    finally:
        if connection.in_transaction:
            connection.run("CLOSE _takeback")


def whole(connection: Connection, info: TableInfo, budget: Budget) -> list[Line]:
    """All rows of a table.

    :raises TooMuch: they are more than may be kept.
    """
    found: list[Line] = []
    for rows in batches(connection, f"SELECT {columns_of(info, '_t')} FROM ONLY {info.sql} _t"):
        budget.take(rows)
        found.extend(rows)
    return found


def present(
    connection: Connection, info: TableInfo, keys: Sequence[Line], *, lock: bool = False
) -> tuple[list[Line | None], list[str]]:
    """The rows with these keys, in their order (`None`: there is none), and where each lies (`ctid`).

    :param lock: keep others from changing them until the transaction ends.
    """
    found: list[Line | None] = [None] * len(keys)
    places = [""] * len(keys)
    typed = {column.name: column.type for column in info.stored}
    names = ", ".join(f"_k{place}" for place in range(len(info.key)))
    on = " AND ".join(
        f"_t.{identifier(name)} {operator} _q._k{place}::{typed[name]}"
        for place, (name, operator) in enumerate(zip(info.key, info.equals, strict=True))
    )
    unnest = ", ".join(f"${place + 1}::text[]" for place in range(len(info.key)))
    select = (
        f"SELECT _q._n, _t.ctid, {columns_of(info, '_t')} FROM unnest({unnest}) WITH ORDINALITY _q({names}, _n)"
        f" JOIN ONLY {info.sql} _t ON {on}{' FOR UPDATE OF _t' if lock else ''}"
    )
    for start in range(0, len(keys), AT_ONCE):
        part = keys[start : start + AT_ONCE]
        for row in connection.rows(select, [array(column) for column in zip(*part, strict=True)]):
            place = start + int(row[0] or 0) - 1
            found[place], places[place] = row[2:], row[1] or ""
    return found, places


def counted(connection: Connection, info: TableInfo, rows: Sequence[Line]) -> list[int]:
    """How often each of these rows stands in a table without a key."""
    image = image_of(info, "_t")
    found: dict[str, int] = {}
    texts = [record(row) for row in rows]
    for start in range(0, len(texts), AT_ONCE):
        for text, count in connection.rows(
            f"SELECT {image}, count(*) FROM ONLY {info.sql} _t WHERE {image} = ANY($1::text[]) GROUP BY 1",
            [array(texts[start : start + AT_ONCE])],
        ):
            found[text or ""] = int(count or 0)
    return [found.get(text, 0) for text in texts]


def located(connection: Connection, info: TableInfo, rows: Sequence[Line]) -> list[list[str]]:
    """Where each of these rows of a table without a key lies, locked until the transaction ends."""
    image = image_of(info, "_t")
    found: dict[str, list[str]] = {}
    texts = [record(row) for row in rows]
    for start in range(0, len(texts), AT_ONCE):
        for text, place in connection.rows(
            f"SELECT {image}, _t.ctid FROM ONLY {info.sql} _t WHERE {image} = ANY($1::text[]) FOR UPDATE",
            [array(texts[start : start + AT_ONCE])],
        ):
            found.setdefault(text or "", []).append(place or "")
    return [found.get(text, []) for text in texts]
