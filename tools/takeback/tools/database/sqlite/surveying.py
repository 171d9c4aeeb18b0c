"""Counting what a large changeset holds."""

from __future__ import annotations

from collections import Counter
from itertools import groupby, islice
from operator import attrgetter
from typing import Final

import apsw

from takeback.tools.database.rows import SHOWN, encode
from takeback.tools.database.sqlite import cells
from takeback.tools.database.sqlite.cells import SAME, Change, Op, TableHead

_NAME: Final = attrgetter("name")
_OPCODE: Final = attrgetter("opcode")


def survey(changeset: bytes) -> tuple[dict[str, dict[Op, int]], list[Change]]:
    """Rows per table and kind, and the first of each table, without reading what is in the others."""
    found: dict[str, dict[Op, int]] = {}
    first: list[Change] = []
    # the changes of a table stand together; all but the first are counted without a step of Python's
    for name, changes in groupby(apsw.Changeset.iter(changeset), _NAME):
        ops = Counter[int]()
        for change in islice(changes, SHOWN):
            ops[change.opcode] += 1
            try:
                first.append(_change_of(change))
            except UnicodeDecodeError:
                continue  # what is not Unicode is not shown
        ops.update(map(_OPCODE, changes))
        kinds = found.setdefault(name, {})
        for op, count in ops.items():
            kinds[Op(op)] = kinds.get(Op(op), 0) + count
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
