"""Seeing what a transaction changed without installing anything: a second connection on the same snapshot is the state before.

Rows that only the second one sees are the before-images, rows that only the first one sees the after-images. Which rows to look
at is told by their transaction numbers (compared so that their wrapping around does no harm, and only to have less to look at:
what decides is whether the other side sees the same version of the row).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.changes import Count, TableChange, paired, record
from takeback.tools.database.postgres.driver import Connection, Line, array, literal
from takeback.tools.database.postgres.reading import AT_ONCE, Budget, batches, columns_of, counted

_NEW: Final = "((_t.xmin::text::bigint - {first}) & 4294967295) < 2147483648"
"""Row versions that were made by transactions that began after the snapshot: of those this one only sees its own."""
_OLD: Final = "_t.xmax::text <> '0'"
"""Row versions that somebody replaced, deleted or locked."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The moment at which a transaction began to look at the database."""

    id: str
    first: int
    """The lower half of the first transaction number that it does not see."""
    transaction: str
    """Which virtual transaction it is: a statement that ended it would have begun another."""


def begin(connection: Connection) -> Snapshot:
    """Begin a transaction whose snapshot another connection can share."""
    connection.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
    return take(connection)


def take(connection: Connection) -> Snapshot:
    """The snapshot of the transaction that has been begun, and has not looked at anything yet."""
    id, first = connection.one(
        "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text"
    )
    return Snapshot(id or "", int(first or 0) & 0xFFFFFFFF, virtual(connection))


def virtual(connection: Connection) -> str:
    """The virtual transaction that the connection is in."""
    return connection.value(
        "SELECT virtualtransaction FROM pg_catalog.pg_locks"
        " WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'virtualxid'"
    )


def observe(connection: Connection, snapshot: Snapshot) -> None:
    """Make another connection see the database as it was at that moment."""
    connection.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    connection.run(f"SET TRANSACTION SNAPSHOT{literal(snapshot.id)}")


def difference(
    acting: Connection, observing: Connection, snapshot: Snapshot, info: TableInfo, budget: Budget
) -> TableChange | None:
    """What the acting transaction changed in a table; `None` if nothing is different.

    :raises TooMuch: the images are more than may be kept.
    """
    new = _versions(acting, info, _NEW.format(first=snapshot.first), budget)
    old = _versions(observing, info, _OLD, budget)
    seen_before = _seen(observing, info, [place for place, _ in new])
    seen_after = _seen(acting, info, [place for place, _ in old])
    after = [row for place, row in new if place not in seen_before]
    before = [row for place, row in old if place not in seen_after]
    return change_of(acting, info, before, after)


def change_of(acting: Connection, info: TableInfo, before: list[Line], after: list[Line]) -> TableChange | None:
    """The change that these row versions amount to.

    :param acting: sees the rows as they are afterwards.
    """
    if info.keyed:
        pairs = paired(info, before, after)
        return TableChange(info, pairs=pairs) if pairs else None
    delta: dict[str, int] = {}
    rows: dict[str, Line] = {}
    for lines, step in ((before, -1), (after, 1)):
        for line in lines:
            text = record(line)
            rows.setdefault(text, line)
            delta[text] = delta.get(text, 0) + step
    changed = [text for text, step in delta.items() if step]
    if not changed:
        return None
    there = counted(acting, info, [rows[text] for text in changed])
    counts = [Count(rows[text], now - delta[text], now) for text, now in zip(changed, there, strict=True)]
    return TableChange(info, counts=counts)


def _versions(connection: Connection, info: TableInfo, where: str, budget: Budget) -> list[tuple[str, Line]]:
    found: list[tuple[str, Line]] = []
    select = f"SELECT _t.ctid, {columns_of(info, '_t')} FROM ONLY {info.sql} _t WHERE {where}"
    for rows in batches(connection, select):
        budget.take(rows)
        found.extend((row[0] or "", row[1:]) for row in rows)
    return found


def _seen(connection: Connection, info: TableInfo, places: list[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(places), AT_ONCE):
        found.update(
            place or ""
            for (place,) in connection.rows(
                f"SELECT _t.ctid FROM ONLY {info.sql} _t WHERE _t.ctid = ANY($1::tid[])",
                [array(places[start : start + AT_ONCE])],
            )
        )
    return found
