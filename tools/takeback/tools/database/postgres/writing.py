"""Writing rows as images have them: by where they lie, in any order that the constraints allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.driver import Connection, Line, array, identifier
from takeback.tools.database.postgres.reading import AT_ONCE


class LostRace(Exception):
    """A row that was locked is not there any more."""


@dataclass(slots=True)
class TableWork:
    """What has to happen to the rows of one table."""

    info: TableInfo
    gone: list[tuple[str, Line]] = field(default_factory=lambda: list[tuple[str, Line]]())
    """Rows to remove, and where they lie."""
    come: list[Line] = field(default_factory=lambda: list[Line]())
    changed: list[tuple[str, Line, Line]] = field(default_factory=lambda: list[tuple[str, Line, Line]]())
    """Rows to change: where they lie, as they are, as they are to be."""


def replace(connection: Connection, work: Sequence[TableWork]) -> None:
    """All at once, where nothing else happens along with it: what is to change is removed and put in anew.

    :raises LostRace, ServerFailure:
    """
    for each in work:
        delete(connection, each.info, [place for place, _ in each.gone] + [place for place, _, _ in each.changed])
    for each in work:
        insert(connection, each.info, each.come + [after for _, _, after in each.changed])


ORDERS = ("come changed gone", "gone changed come", "changed gone come", "gone come changed")
"""In which order foreign keys and unique constraints may allow it."""


def amend(connection: Connection, work: Sequence[TableWork], order: str) -> None:
    """One kind of change after the other, where triggers and foreign keys are awake.

    :param work: tables that others refer to first.
    """
    connection.run("SET CONSTRAINTS ALL DEFERRED")
    for kind in order.split():
        for each in work if kind != "gone" else reversed(work):
            match kind:
                case "come":
                    insert(connection, each.info, each.come)
                case "changed":
                    update(connection, each.info, each.changed)
                case _:
                    delete(connection, each.info, [place for place, _ in each.gone])
    connection.run("SET CONSTRAINTS ALL IMMEDIATE")


def delete(connection: Connection, info: TableInfo, places: Sequence[str]) -> None:
    """Remove the rows that lie there."""
    for start in range(0, len(places), AT_ONCE):
        part = places[start : start + AT_ONCE]
        answer = connection.run(f"DELETE FROM ONLY {info.sql} _t WHERE _t.ctid = ANY($1::tid[])", [array(part)])
        if answer.changed != len(part):
            raise LostRace(info.shown)


def insert(connection: Connection, info: TableInfo, lines: Sequence[Line]) -> None:
    """Put rows in, whatever their columns are generated from."""
    names = ", ".join(identifier(column.name) for column in info.stored)
    values = ", ".join(f"_q._c{place}::{column.type}" for place, column in enumerate(info.stored))
    unnest = ", ".join(f"${place + 1}::text[]" for place in range(len(info.stored)))
    alias = ", ".join(f"_c{place}" for place in range(len(info.stored)))
    for start in range(0, len(lines), AT_ONCE):
        part = lines[start : start + AT_ONCE]
        connection.run(
            f"INSERT INTO {info.sql} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM unnest({unnest}) _q({alias})",
            [array(column) for column in zip(*part, strict=True)],
        )


def update(connection: Connection, info: TableInfo, changes: Sequence[tuple[str, Line, Line]]) -> None:
    """Change rows where they lie; only columns that differ are named, so that triggers see no more than that."""
    if not changes:
        return
    columns = [
        (place, column)
        for place, column in enumerate(info.stored)
        if any(before[place] != after[place] for _, before, after in changes)
    ]
    if not columns:
        return
    sets = ", ".join(
        f"{identifier(column.name)} = _q._c{number}::{column.type}" for number, (_, column) in enumerate(columns)
    )
    unnest = ", ".join(["$1::text[]", *(f"${number + 2}::text[]" for number in range(len(columns)))])
    alias = ", ".join(["_at", *(f"_c{number}" for number in range(len(columns)))])
    for start in range(0, len(changes), AT_ONCE):
        part = changes[start : start + AT_ONCE]
        answer = connection.run(
            f"UPDATE ONLY {info.sql} _t SET {sets} FROM unnest({unnest}) _q({alias}) WHERE _t.ctid = _q._at::tid",
            [
                array(place for place, _, _ in part),
                *(array(after[place] for _, _, after in part) for place, _ in columns),
            ],
        )
        if answer.changed != len(part):
            raise LostRace(info.shown)
