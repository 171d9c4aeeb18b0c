"""The outbox's own file: one SQLite table, changed by compare-and-set only, durable before anybody acts on it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from pydantic import JsonValue

from takeback.journal.sidefile import SideFile
from takeback.tools.outbox.port import Outgoing
from takeback.tools.outbox.rows import Row, Status
from takeback.tools.system import Unavailable

T = TypeVar("T")

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    message TEXT NOT NULL,
    content BLOB,
    window REAL NOT NULL,
    held_at REAL NOT NULL,
    release_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    changed_at REAL NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    told TEXT NOT NULL DEFAULT '',
    corrects TEXT NOT NULL DEFAULT '',
    run_id TEXT NOT NULL DEFAULT '',
    action_id TEXT NOT NULL DEFAULT '',
    owner TEXT NOT NULL DEFAULT '',
    held_as TEXT NOT NULL DEFAULT ''
) STRICT
"""
_COLUMNS: Final = (
    "id, status, message, window, held_at, release_at, attempts, changed_at, detail, told, corrects, run_id, action_id,"
    " owner, held_as"
)
RETURNED: Final = b"returned\0"
"""What the content of a held act begins with once it is done: JSON of what it returned follows."""


class OutboxStore:
    """The file that holds the messages."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._side = SideFile(file, _prepare)

    def close(self) -> None:
        """Let go of the file."""
        self._side.close()

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Do something in one transaction, durable on return. To its end, whether the caller is cancelled or not.

        :raises Unavailable: the file is locked for too long, or the disk is full; nothing has changed.
        """
        try:
            return await self._side.write(lambda db: work(Transaction(db)))
        except (sqlite3.OperationalError, OSError) as error:
            raise Unavailable(f"The outbox cannot be used: {error}.", advice="Try again in a moment.") from error

    async def shed(self) -> None:
        """Leave nothing behind in the log either of what was deleted."""
        await self._side.shed()

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Look, without keeping others from writing.

        :raises Unavailable: the file cannot be read now.
        """
        try:
            return await self._side.read(lambda db: work(Transaction(db)))
        except (sqlite3.OperationalError, OSError) as error:
            raise Unavailable(f"The outbox cannot be read: {error}.", advice="Try again in a moment.") from error


def _prepare(db: sqlite3.Connection) -> None:
    db.execute(_TABLE)
    if not any(name == "held_as" for _, name, *_ in db.execute("PRAGMA table_info(messages)")):
        with suppress(sqlite3.OperationalError):  # another process was faster
            db.execute("ALTER TABLE messages ADD COLUMN held_as TEXT NOT NULL DEFAULT ''")


class Transaction:
    """What can be done to rows, inside of one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get(self, id: str) -> Row | None:
        """One row."""
        rows = self._rows("WHERE id = ?", (id,))
        return rows[0] if rows else None

    def content(self, id: str) -> bytes | None:
        """The bytes of a message that has not left; `None` if they are not kept here (any more)."""
        found = cast(
            "tuple[bytes | None] | None",
            self._db.execute("SELECT content FROM messages WHERE id = ?", (id,)).fetchone(),
        )
        return found[0] if found else None

    def returned(self, id: str) -> JsonValue:
        """What a held act returned when it was done; `None` if it was not, or that is not kept (any more)."""
        row = self.get(id)
        kept = self.content(id) if row is not None and row.status == "SENT" else None
        if kept is None or not kept.startswith(RETURNED):
            return None
        returned: JsonValue = json.loads(kept.removeprefix(RETURNED))
        return returned

    def find(self, statuses: tuple[Status, ...] = (), owner: str | None = None) -> Sequence[Row]:
        """Rows, the one that is due first in front.

        :param owner: only those of this principal.
        """
        where = [f"status IN ({', '.join('?' * len(statuses))})"] if statuses else []
        values: list[Any] = list(statuses)
        if owner is not None:
            where.append("owner = ?")
            values.append(owner)
        clause = f"WHERE {' AND '.join(where)} " if where else ""
        return self._rows(f"{clause}ORDER BY release_at, id", values)

    def of_action(self, action_id: str) -> Sequence[Row]:
        """The messages of an act, and their corrections."""
        return self._rows("WHERE action_id = ? ORDER BY id", (action_id,))

    def insert(self, row: Row, content: bytes) -> None:
        """Put a new one in."""
        self._db.execute(
            f"INSERT INTO messages ({_COLUMNS}, content) VALUES ({', '.join('?' * 16)})",  # noqa: S608 -- column names of this file
            (
                row.id,
                row.status,
                row.message.model_dump_json(),
                row.window,
                row.held_at,
                row.release_at,
                row.attempts,
                row.changed_at,
                row.detail,
                row.told,
                row.corrects,
                row.run_id,
                row.action_id,
                row.owner,
                "" if row.held_as is None else row.held_as.model_dump_json(),
                content,
            ),
        )

    def delete(self, id: str) -> int:
        """Forget a row; the bytes that it kept."""
        kept = self.content(id)
        self._db.execute("DELETE FROM messages WHERE id = ?", (id,))
        return len(kept or b"")

    def change(self, id: str, *, only: tuple[Status, ...], **values: Any) -> bool:
        """The compare-and-set: change a row if it has one of these statuses; whether it had."""
        names = ", ".join(f"{name} = ?" for name in values)
        changed = self._db.execute(
            f"UPDATE messages SET {names} WHERE id = ? AND status IN ({', '.join('?' * len(only))})",  # noqa: S608 -- names are keywords of this package
            (*values.values(), id, *only),
        )
        return changed.rowcount == 1

    def _rows(self, clause: str, values: Sequence[Any]) -> Sequence[Row]:
        found = self._db.execute(f"SELECT {_COLUMNS} FROM messages {clause}", values).fetchall()  # noqa: S608 -- clauses of this file
        return [
            Row(id, status, Outgoing.model_validate_json(message), *rest, **_edited(held_as))
            for id, status, message, *rest, held_as in cast("list[tuple[Any, ...]]", found)
        ]


def _edited(held_as: str) -> dict[str, Any]:
    return {"held_as": Outgoing.model_validate_json(held_as)} if held_as else {}
