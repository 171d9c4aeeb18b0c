"""The statements of the SQLite journal: what is done inside a transaction. Plain functions of a connection, without threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar, cast

from takeback.journal.chain import Draft, Row, draft, link, recorded
from takeback.journal.erasure import Remains, erasures_of, foldable, remains
from takeback.journal.events import Recorded
from takeback.journal.ids import RunId
from takeback.journal.keys import Key
from takeback.journal.log import JournalError, Stale, ViewKey
from takeback.journal.projections import (
    KINDS,
    LIVE,
    NAMES,
    Folded,
    PlanPart,
    StepPart,
    fold,
    status_of,
    touches,
    whole,
)
from takeback.journal.views import ActionView, AnyView, RollbackView

_COLUMNS: Final = "position, run_id, seq, type, at, action_id, payload, salt, payload_digest, mac, key_id"

V = TypeVar("V", bound=AnyView)


@dataclass(slots=True)
class Entry:
    """What one caller of `append` wants written."""

    drafts: Sequence[Draft]
    blobs: Mapping[str, bytes]
    expect: Mapping[ViewKey, int]


@dataclass(slots=True)
class Written:
    """What became of an entry: its events, or why it was not written."""

    recorded: list[Recorded] = field(default_factory=list[Recorded])
    refused: JournalError | None = None


def row_of(columns: Sequence[object]) -> Row:
    """A row of `events`. SQLite keeps any kind of value in any column, so somebody may have put another one there."""
    position, run_id, seq, type, at, action_id, payload, salt, payload_digest, mac, key_id = columns
    return Row(
        position=cast("int", position),
        run_id=RunId(str(run_id)),
        seq=seq if isinstance(seq, int) else -1,
        type=str(type),
        at=str(at),
        action_id=None if action_id is None else str(action_id),
        payload=None if payload is None else _bytes(payload),
        salt=None if salt is None else _bytes(salt),
        payload_digest=_bytes(payload_digest),
        mac=_bytes(mac),
        key_id=str(key_id),
    )


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def encode_view(view: Folded) -> bytes:
    """A view as it is stored."""
    return view.model_dump_json(exclude_defaults=True).encode()


def decode_view(kind: str, doc: bytes) -> Folded:
    """A stored view."""
    return KINDS[kind].model_validate_json(doc)


class Views:
    """The views as a transaction sees them: what is stored, under what it has changed so far."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._changed: dict[tuple[str, str], tuple[Folded, int]] = {}
        self._touched: set[tuple[str, str, int, str]] = set()

    def get(self, kind: str, id: str) -> Folded | None:
        """The present view; a rollback without its parts."""
        changed = self._changed.get((kind, id))
        if changed is not None:
            return changed[0]
        found = self._connection.execute("SELECT doc FROM views WHERE kind = ? AND id = ?", (kind, id)).fetchone()
        return None if found is None else decode_view(kind, found[0])

    def version(self, kind: str, id: str) -> int:
        """Version of the present view, 0 if there is none."""
        changed = self._changed.get((kind, id))
        if changed is not None:
            return changed[0].version
        found = self._connection.execute("SELECT version FROM views WHERE kind = ? AND id = ?", (kind, id)).fetchone()
        return 0 if found is None else int(found[0])

    def fold(self, recorded: Recorded) -> None:
        """Take one event in."""
        for kind, id, view in fold(recorded, self.get):
            earlier = self._changed.get((kind, id))
            self._changed[kind, id] = (view, recorded.position if earlier is None else earlier[1])
        for system, object in touches(recorded):
            action_id = str(getattr(recorded.event, "action_id", ""))
            action = self.get("action", action_id)
            if isinstance(action, ActionView):
                self._touched.add((system, object, action.position, action_id))

    @property
    def pending(self) -> int:
        """How many changes wait to be written."""
        return len(self._changed) + len(self._touched)

    def write(self) -> None:
        """Write the changes."""
        self._connection.executemany(
            "INSERT INTO views(kind, id, run_id, status, live, first_position, version, doc) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(kind, id) DO UPDATE SET "
            "run_id = excluded.run_id, status = excluded.status, live = excluded.live, version = excluded.version, "
            "doc = excluded.doc",
            [self._row(kind, id, view, first) for (kind, id), (view, first) in self._changed.items()],
        )
        self._connection.executemany("INSERT OR IGNORE INTO touched VALUES (?, ?, ?, ?)", sorted(self._touched))
        self._changed.clear()
        self._touched.clear()

    @staticmethod
    def _row(kind: str, id: str, view: Folded, first: int) -> tuple[object, ...]:
        status = status_of(view)
        return (kind, id, view.run_id, status, status in LIVE, first, view.version, encode_view(view))


def newest(connection: sqlite3.Connection) -> tuple[int, str | None]:
    """Position and key id of the newest event; (0, None) if there is none."""
    found = connection.execute("SELECT position, key_id FROM events ORDER BY position DESC LIMIT 1").fetchone()
    return (0, None) if found is None else (int(found[0]), str(found[1]))


def head(connection: sqlite3.Connection, run_id: str) -> tuple[int, bytes]:
    """Seq and mac of a run's newest event; (0, empty) if there is none."""
    found = connection.execute(
        "SELECT seq, mac FROM events WHERE run_id = ? ORDER BY seq DESC LIMIT 1", (run_id,)
    ).fetchone()
    return (0, b"") if found is None else (int(found[0]), bytes(found[1]))


@dataclass(slots=True)
class Batch:
    """What a transaction wrote."""

    written: list[Written]
    heads: dict[str, tuple[int, bytes]]
    position: int


def write_batch(connection: sqlite3.Connection, entries: Sequence[Entry], key: Callable[[str | None], Key]) -> Batch:
    """Write the entries that hold, inside a transaction that is open already. One that does not hold leaves no trace.

    :param key: gives the key for new events, told the id of the one with which the newest event was chained.
    """
    position, key_id = newest(connection)
    signing = key(key_id)
    views = Views(connection)
    heads: dict[str, tuple[int, bytes]] = {}
    written: list[Written] = []
    rows: list[Row] = []
    blobs: dict[str, bytes] = {}
    for entry in entries:
        refused = _judge(views, entry.expect)
        if refused is not None:
            written.append(Written(refused=refused))
            continue
        done = Written()
        for drafted in entry.drafts:
            run_id = drafted.event.run_id
            seq, previous = heads[run_id] if run_id in heads else head(connection, run_id)
            position += 1
            row = link(
                drafted, position=position, seq=seq + 1, previous=previous, key_id=signing.id, key=signing.secret
            )
            heads[run_id] = (row.seq, row.mac)
            rows.append(row)
            event = recorded(row, drafted.event)
            views.fold(event)
            done.recorded.append(event)
        blobs.update(entry.blobs)
        written.append(done)
    insert_rows(connection, rows)
    views.write()
    connection.executemany("INSERT OR IGNORE INTO blobs(name, data) VALUES (?, ?)", blobs.items())
    return Batch(written, heads, position)


def _judge(views: Views, expect: Mapping[ViewKey, int]) -> Stale | None:
    for (kind, id), expected in expect.items():
        found = views.version(kind, id)
        if found != expected:
            return Stale(kind, id, expected, found)
    return None


def insert_rows(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Append events."""
    connection.executemany(
        f"INSERT INTO events({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  # constant columns
        [
            (
                row.position,
                row.run_id,
                row.seq,
                row.type,
                row.at,
                row.action_id,
                row.payload,
                row.salt,
                row.payload_digest,
                row.mac,
                row.key_id,
            )
            for row in rows
        ],
    )


# --- reading ------------------------------------------------------------------------------------------------------


def rows(connection: sqlite3.Connection, *, after: int = 0, limit: int = -1) -> Iterator[Row]:
    """Events of the whole journal, by position."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT ?",  # noqa: S608  # constant columns
        (after, limit),
    )
    return map(row_of, found)


def rows_of_run(connection: sqlite3.Connection, run_id: str, *, after: int = 0, limit: int = -1) -> Iterator[Row]:
    """Events of one run after a position, by position."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?",  # noqa: S608  # constant columns
        (run_id, _seq_at(connection, run_id, after) if after else 0, limit),
    )
    return map(row_of, found)


def _seq_at(connection: sqlite3.Connection, run_id: str, position: int) -> int:
    """The last seq of a run that is not after a position. Both grow together, so halving finds it."""
    low, high = 0, head(connection, run_id)[0]
    while low < high:
        middle = (low + high + 1) // 2
        found = connection.execute(
            "SELECT seq, position FROM events WHERE run_id = ? AND seq >= ? ORDER BY seq LIMIT 1", (run_id, middle)
        ).fetchone()
        if found is not None and found[1] <= position:
            low = int(found[0])
        else:
            high = middle - 1
    return low


def view(connection: sqlite3.Connection, kind: type[V], id: str) -> V | None:
    """One view, put together."""
    found = connection.execute("SELECT doc FROM views WHERE kind = ? AND id = ?", (NAMES[kind], id)).fetchone()
    return None if found is None else _assembled(connection, kind, found[0])


def _assembled(connection: sqlite3.Connection, kind: type[V], doc: bytes) -> V:
    view = kind.model_validate_json(doc)
    if not isinstance(view, RollbackView):
        return cast("V", view)
    plan = connection.execute("SELECT doc FROM views WHERE kind = 'plan' AND id = ?", (view.id,)).fetchone()
    steps = connection.execute(
        "SELECT doc FROM views WHERE kind = 'step' AND id >= ? AND id < ? ORDER BY id", (f"{view.id}/", f"{view.id}0")
    )
    put_together = whole(
        view,
        None if plan is None else PlanPart.model_validate_json(plan[0]),
        [StepPart.model_validate_json(step[0]) for step in steps],
    )
    return cast("V", put_together)


def find(
    connection: sqlite3.Connection,
    kind: type[V],
    *,
    run_id: str | None,
    statuses: Sequence[str] | None,
    before: int | None,
    after: int | None,
    limit: int | None,
    oldest_first: bool,
) -> list[V]:
    """Views of a kind."""
    terms, values = ["kind = ?"], [cast("object", NAMES[kind])]
    if run_id is not None:
        terms.append("run_id = ?")
        values.append(run_id)
    if statuses is not None:
        terms.append(f"status IN ({', '.join('?' * len(statuses))})")
        values.extend(statuses)
        if LIVE.issuperset(statuses):
            terms.append("live")  # tells the planner that the small index will do
    if before is not None:
        terms.append("first_position < ?")
        values.append(before)
    if after is not None:
        terms.append("first_position > ?")
        values.append(after)
    order = "ASC" if oldest_first else "DESC"
    values.append(-1 if limit is None else limit)
    found = connection.execute(
        f"SELECT doc FROM views WHERE {' AND '.join(terms)} ORDER BY first_position {order} LIMIT ?",  # noqa: S608  # the terms are those above
        values,
    ).fetchall()
    return [_assembled(connection, kind, doc) for (doc,) in found]


def touching(
    connection: sqlite3.Connection, system: str, objects: Iterable[str], *, nested: bool, after: int
) -> list[ActionView]:
    """Actions with an effect on one of the objects, oldest first."""
    found: set[tuple[int, str]] = set()
    asked: set[str] = set()
    for object in objects:
        names = {object, *ancestors(object)} if nested else {object}
        for name in names - asked:
            found.update(
                connection.execute(
                    "SELECT position, action_id FROM touched WHERE system = ? AND object = ? AND position > ?",
                    (system, name, after),
                )
            )
        asked |= names
        if nested:
            found.update(
                connection.execute(
                    "SELECT position, action_id FROM touched WHERE system = ? AND object >= ? AND object < ? "
                    "AND position > ?",
                    (system, *below(object), after),
                )
            )
    actions = (view(connection, ActionView, action_id) for _, action_id in sorted(found))
    return [action for action in actions if action is not None]


def ancestors(object: str) -> list[str]:
    """The objects above one, nearest first; `/` separates."""
    parts = object.rstrip("/").split("/")
    return ["/".join(parts[:count]) or "/" for count in range(len(parts) - 1, 0, -1)]


def below(object: str) -> tuple[str, str]:
    """First and past-the-last name that an object below this one can have."""
    stem = object.rstrip("/")
    return f"{stem}/", f"{stem}0"  # "0" is the character after "/"


def heads(connection: sqlite3.Connection, run_ids: Sequence[str] | None) -> dict[RunId, tuple[int, str]]:
    """Per run the seq and mac of its newest event."""
    if run_ids is None:
        found = connection.execute("SELECT DISTINCT run_id FROM events ORDER BY run_id").fetchall()
        run_ids = [str(run_id) for (run_id,) in found]
    newest = {RunId(run_id): head(connection, run_id) for run_id in run_ids}
    return {run_id: (seq, mac.hex()) for run_id, (seq, mac) in newest.items() if seq}


# --- care ---------------------------------------------------------------------------------------------------------


def all_remains(connection: sqlite3.Connection) -> Remains:
    """What is left of every erased event."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM events WHERE type = 'erased' ORDER BY position")  # noqa: S608  # constant columns
    return remains(row_of(row).recorded().event for row in found.fetchall())


def refold(connection: sqlite3.Connection, *, source: sqlite3.Connection | None = None) -> int:
    """Make all views anew from the events (of `source`, if they lie elsewhere); how many views of the port there are."""
    events = connection if source is None else source
    connection.execute("DELETE FROM views")
    connection.execute("DELETE FROM touched")
    left, views = all_remains(events), Views(connection)
    position = 0
    while True:
        chunk = list(rows(events, after=position, limit=500))
        if not chunk:
            break
        for row in chunk:
            views.fold(foldable(row, left))
        views.write()
        position = chunk[-1].position
    found = connection.execute("SELECT count(*) FROM views WHERE kind NOT IN ('plan', 'step')").fetchone()
    return int(found[0])


def erase(
    connection: sqlite3.Connection,
    positions: Sequence[int],
    *,
    by: str,
    why: str,
    at: datetime,
    key: Callable[[str | None], Key],
) -> Batch:
    """Destroy payloads, record that under the chain, and fold the views anew."""
    found = [next(rows(connection, after=position - 1, limit=1), None) for position in positions]
    wanted = [
        row if row is not None and row.position == position else None
        for row, position in zip(found, positions, strict=True)
    ]
    erasures = erasures_of(wanted, positions, by, why, at)
    batch = write_batch(connection, [Entry([draft(event) for event in erasures], {}, {})], key)
    erased = [(int(position),) for event in erasures for position in event.positions]
    connection.executemany("UPDATE events SET payload = NULL, salt = NULL WHERE position = ?", erased)
    refold(connection)
    return batch
