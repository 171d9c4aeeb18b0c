"""Rows before and after, as changes that SQLite can apply."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from takeback.tools.database.rows import Row
from takeback.tools.database.sqlite.cells import SAME, Change, Op, TableHead
from takeback.tools.database.sqlite.schema import TableInfo


class Hindered(Exception):
    """The change cannot be made without breaking what a constraint promises: the sentence says which."""


def change_of(info: TableInfo, key: Sequence[JsonValue], before: Row | None, after: Row | None) -> Change | None:
    """What has to happen to a row; `None` if nothing of its cells changes.

    :raises Hindered: the table has other columns by now.
    """
    head = head_of(info)
    for row in (before, after):
        if row is not None and set(row) != {*info.columns, *([info.extra] if info.extra else [])}:
            raise Hindered(f"the columns of {info.name} are not what they were")
    first = tuple(key) if info.keyless else ()
    if before is None and after is None:
        return None
    if before is None and after is not None:
        return Change(head, Op.INSERT, (), (*first, *(after[column] for column in info.columns)))
    if before is not None and after is None:
        return Change(head, Op.DELETE, (*first, *(before[column] for column in info.columns)), ())
    assert before is not None and after is not None
    old = (*first, *(before[column] for column in info.columns))
    new = (*first, *(after[column] for column in info.columns))
    if old == new:
        return None
    return Change(
        head,
        Op.UPDATE,
        tuple(o if o != n or k else SAME for o, n, k in zip(old, new, head.key, strict=True)),
        tuple(n if o != n else SAME for o, n in zip(old, new, strict=True)),
    )


def head_of(info: TableInfo) -> TableHead:
    """The table as changesets call it."""
    if info.keyless:
        return TableHead(info.name, (1, *(0 for _ in info.columns)))
    return TableHead(info.name, info.places)
