"""Seeing what a transaction changed by triggers that are installed once and sleep until a transaction of takeback wakes them.

`takeback db prepare` installs them (`preparing.py`). They cost one row of a log for each row changed, whatever the size of the
table; the snapshot needs nothing installed, but reads each changed table twice.
"""

from __future__ import annotations

from typing import Final

from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.changes import TableChange
from takeback.tools.database.postgres.driver import Connection, Line, identifier
from takeback.tools.database.postgres.reading import Budget, batches
from takeback.tools.database.postgres.snapshot import change_of

SCHEMA: Final = "takeback"
TRIGGER: Final = "!takeback"
"""Sorts before any name that a person would choose."""
VERSION: Final = "1"
"""Of what `prepare` installs; kept in the comment of the schema."""


def prepared(connection: Connection) -> bool:
    """Whether the triggers of this version are installed, and the role may use their log."""
    return (
        connection.value(
            "SELECT coalesce((SELECT pg_catalog.obj_description(n.oid, 'pg_namespace') = $2"
            " AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') FROM pg_catalog.pg_namespace n WHERE n.nspname = $1), false)",
            [SCHEMA, comment()],
        )
        == "t"
    )


def comment() -> str:
    """What stands at the schema."""
    return f"takeback: change log, version {VERSION}"


def wake(connection: Connection) -> None:
    """Have the triggers write down what the open transaction changes."""
    connection.run("SELECT pg_catalog.set_config('takeback.active', '1', true)")


class Unseen(Exception):
    """The triggers do not cover what was changed: it has to be seen in the other way."""


def forget(connection: Connection) -> None:
    """Remove what the open transaction's triggers wrote down: it has been read."""
    connection.run("SELECT pg_catalog.set_config('takeback.active', '', true)")
    connection.run(f"SELECT {SCHEMA}.forget()")


def difference(connection: Connection, info: TableInfo, budget: Budget) -> TableChange | None:
    """What the open transaction changed in a table, as the log has it.

    :raises Unseen: the table has no trigger.
    :raises TooMuch: the images are more than may be kept.
    """
    armed = connection.value(
        "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = $1::oid AND tgname = $2 AND tgenabled = 'A')",
        [str(info.oid), TRIGGER],
    )
    if armed != "t":
        raise Unseen(info.shown)
    fields = ", ".join(f"(_l.image).{identifier(column.name)}" for column in info.stored)
    before: list[Line] = []
    after: list[Line] = []
    select = (
        f"SELECT _l.old, {fields} FROM (SELECT old, image::{info.sql} AS image"
        f" FROM {SCHEMA}.log({info.oid}::oid) OFFSET 0) _l"
    )
    for rows in batches(connection, select):
        lines = [row[1:] for row in rows]
        budget.take(lines)
        for row, line in zip(rows, lines, strict=True):
            (before if row[0] == "t" else after).append(line)
    return change_of(connection, info, before, after)
