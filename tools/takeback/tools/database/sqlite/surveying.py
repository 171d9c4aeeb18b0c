"""Counting what a large changeset holds."""

from __future__ import annotations

import apsw

from takeback.tools.database.rows import SHOWN, encode
from takeback.tools.database.sqlite import cells
from takeback.tools.database.sqlite.cells import SAME, Change, Op, TableHead


def survey(changeset: bytes) -> tuple[dict[str, dict[Op, int]], list[Change]]:
    """Rows per table and kind, and the first of each table, without reading what is in the others."""
    counts: dict[tuple[str, int], int] = {}
    shown: dict[str, int] = {}
    first: list[Change] = []
    for change in apsw.Changeset.iter(changeset):
        place = (change.name, change.opcode)
        counts[place] = counts.get(place, 0) + 1
        if shown.get(change.name, 0) < SHOWN:
            shown[change.name] = shown.get(change.name, 0) + 1
            try:
                first.append(_change_of(change))
            except UnicodeDecodeError:
                continue  # what is not Unicode is not shown
    found: dict[str, dict[Op, int]] = {}
    for (name, op), count in counts.items():
        found.setdefault(name, {})[Op(op)] = count
    return found, first


def _change_of(change: apsw.TableChange) -> Change:
    head = TableHead(change.name, tuple(int(index in change.pk_columns) for index in range(change.column_count)))

    def told(values: tuple[object, ...] | None) -> tuple[cells.Cell, ...]:
        return tuple(SAME if value is apsw.no_change else encode(value) for value in values or ())

    return Change(head, Op(change.opcode), told(change.old), told(change.new))


def owner_of(connection: apsw.Connection, shadow: str) -> str:
    """The virtual table that a shadow table belongs to."""
    at = shadow.rfind("_")
    while at > 0:
        owner = shadow[:at]
        if list(
            connection.execute(
                "SELECT 1 FROM pragma_table_list WHERE schema = 'main' AND type = 'virtual' AND name = ?", (owner,)
            )
        ):
            return owner
        at = shadow.rfind("_", 0, at)
    return shadow
