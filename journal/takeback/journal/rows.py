"""The `events` table: rows in and out, and the payloads that frames rest on. Plain functions of a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, cast

from takeback.journal.chain import Row, decode, digest
from takeback.journal.events import Recorded
from takeback.journal.frames import bases_of, pack, unpack
from takeback.journal.ids import RunId
from takeback.journal.states import trusted

_ROWS: Final = (
    "SELECT position, runs.name, seq, type, at, action_id, payload, salt, payload_digest, mac, keys.name FROM events "
    "LEFT JOIN names AS runs ON runs.row = run LEFT JOIN names AS keys ON keys.row = key"
)

_RUNS_OF: Final = "SELECT run FROM events WHERE position IN ({})"

_MOST_KNOWN: Final = 2048

_MOST_BYTES: Final = 2 * 1024 * 1024


class Payloads:
    """Payloads and events by position, as one transaction sees them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[int, tuple[str, bytes | None]] = {}
        self._bytes = 0

    def get(self, position: int) -> bytes | None:
        """The payload at a position; `None` if it was erased, or cannot be unpacked."""
        return self._typed(position)[1]

    def event(self, position: int) -> Recorded:
        """The event at a position, as the fold takes it.

        :raises ValueError: there is none, or it cannot be read.
        """
        type, payload = self._typed(position)
        if payload is None:
            raise ValueError(f"the event at {position} is not there")
        event = decode(type, payload)
        return trusted(
            Recorded, position=position, seq=0, mac="", key_id="", event=event, type=type, run_id=event.run_id
        )

    def _typed(self, position: int) -> tuple[str, bytes | None]:
        known = self._known.get(position)
        if known is not None:
            return known
        found = self._connection.execute("SELECT type, payload FROM events WHERE position = ?", (position,)).fetchone()
        type, payload = "", None
        if found is not None and found[1] is not None:
            type = str(found[0])
            try:
                payload = self.unpacked(position, as_bytes(found[1]))
            except ValueError:
                payload = None
        self.note(position, type, payload)
        return type, payload

    def note(self, position: int, type: str, payload: bytes | None) -> None:
        """Remember a payload that is at hand anyway."""
        if len(self._known) >= _MOST_KNOWN or self._bytes > _MOST_BYTES:
            self._known.clear()
            self._bytes = 0
        self._known[position] = (type, payload)
        self._bytes += 0 if payload is None else len(payload)

    def unpacked(self, position: int, frame: bytes) -> bytes:
        """The payload in the frame of an event, which rests on earlier events only.

        :raises ValueError: see `frames.unpack`.
        """
        return unpack(frame, lambda base: self.get(base) if base < position else None)

    def bases(self, positions: Iterable[int]) -> list[tuple[int, bytes]]:
        """Those of the events that can be rested on, each with its payload."""
        found = ((position, self.get(position)) for position in positions)
        return [(position, payload) for position, payload in found if payload is not None]


def named(connection: sqlite3.Connection, name: str) -> int:
    """The number that stands for the id of a run or key; given now if it has none yet."""
    found = number_of(connection, name)
    if found:
        return found
    return int(connection.execute("INSERT INTO names(name) VALUES (?) RETURNING row", (name,)).fetchone()[0])


def number_of(connection: sqlite3.Connection, name: str) -> int:
    """The number that stands for the id of a run or key; 0 if it has none."""
    found = connection.execute("SELECT row FROM names WHERE name = ?", (name,)).fetchone()
    return 0 if found is None else int(found[0])


def as_bytes(value: object) -> bytes:
    """What lies in a column of bytes, whatever somebody put there."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _row_of(columns: Sequence[object], payloads: Payloads) -> Row:
    # SQLite keeps any kind of value in any column, so somebody may have put another one there
    position, run_id, seq, type, at, action_id, frame, salt, payload_digest, mac, key_id = columns
    position = cast("int", position)
    payload: bytes | None = None
    if frame is not None:
        try:
            payload = payloads.unpacked(position, as_bytes(frame))
        except ValueError:
            payload = as_bytes(frame)  # which is not what was written, and the chain says so
        payloads.note(position, str(type), payload)
    salt = None if salt is None else as_bytes(salt)
    if payload_digest is None:
        payload_digest = b"" if payload is None or salt is None else digest(salt, payload)
    return Row(
        position=position,
        run_id=RunId(str(run_id)),
        seq=seq if isinstance(seq, int) else -1,
        type=str(type),
        at=str(at),
        action_id=None if action_id is None else str(action_id),
        payload=payload,
        salt=salt,
        payload_digest=as_bytes(payload_digest),
        mac=as_bytes(mac),
        key_id=str(key_id),
    )


def newest(connection: sqlite3.Connection) -> tuple[int, str | None]:
    """Position and key id of the newest event; (0, None) if there is none."""
    found = connection.execute(
        "SELECT position, name FROM events LEFT JOIN names ON row = key ORDER BY position DESC LIMIT 1"
    ).fetchone()
    return (0, None) if found is None else (int(found[0]), str(found[1]))


def head(connection: sqlite3.Connection, run_id: str) -> tuple[int, bytes]:
    """Seq and mac of a run's newest event; (0, empty) if there is none."""
    found = connection.execute(
        "SELECT seq, mac FROM events WHERE run = (SELECT row FROM names WHERE name = ?) ORDER BY seq DESC LIMIT 1",
        (run_id,),
    ).fetchone()
    return (0, b"") if found is None else (int(found[0]), bytes(found[1]))


def heads(connection: sqlite3.Connection, run_ids: Sequence[str] | None) -> dict[RunId, tuple[int, str]]:
    """Per run the seq and mac of its newest event."""
    if run_ids is None:
        found = connection.execute("SELECT name FROM names WHERE row IN (SELECT run FROM events) ORDER BY name")
        run_ids = [str(run_id) for (run_id,) in found.fetchall()]
    at_end = {RunId(run_id): head(connection, run_id) for run_id in run_ids}
    return {run_id: (seq, mac.hex()) for run_id, (seq, mac) in at_end.items() if seq}


def insert(
    connection: sqlite3.Connection,
    rows: Sequence[tuple[Row, int | None]],
    payloads: Payloads,
    number: Callable[[sqlite3.Connection, str], int] = named,
) -> None:
    """Append events, each with the position of an earlier event of the same run that says much the same (or `None`).

    :param number: gives the number of an id; see `named`.
    """
    numbers = {name: number(connection, name) for row, _ in rows for name in (row.run_id, row.key_id)}
    connection.executemany(
        # the digest follows from payload and salt; it is written down when these are erased
        "INSERT INTO events(position, run, seq, type, at, action_id, payload, salt, mac, key) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                row.position,
                numbers[row.run_id],
                row.seq,
                row.type,
                row.at,
                row.action_id,
                None if row.payload is None else pack(row.payload, payloads.bases(() if like is None else (like,))),
                row.salt,
                row.mac,
                numbers[row.key_id],
            )
            for row, like in rows
        ],
    )


def rows(
    connection: sqlite3.Connection, *, after: int = 0, limit: int = -1, payloads: Payloads | None = None
) -> Iterator[Row]:
    """Events of the whole journal, by position."""
    known = payloads or Payloads(connection)
    found = connection.execute(f"{_ROWS} WHERE position > ? ORDER BY position LIMIT ?", (after, limit))
    return (_row_of(row, known) for row in found)


def rows_of_run(connection: sqlite3.Connection, run_id: str, *, after: int = 0, limit: int = -1) -> Iterator[Row]:
    """Events of one run after a position, by position."""
    payloads = Payloads(connection)
    first = _seq_at(connection, run_id, after) if after else 0
    found = connection.execute(
        f"{_ROWS} WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?", (number_of(connection, run_id), first, limit)
    )
    return (_row_of(row, payloads) for row in found)


def _seq_at(connection: sqlite3.Connection, run_id: str, position: int) -> int:
    """The last seq of a run that is not after a position. Both grow together, so halving finds it."""
    run = number_of(connection, run_id)
    low, high = 0, head(connection, run_id)[0]
    while low < high:
        middle = (low + high + 1) // 2
        found = connection.execute(
            "SELECT seq, position FROM events WHERE run = ? AND seq >= ? ORDER BY seq LIMIT 1", (run, middle)
        ).fetchone()
        if found is not None and found[1] <= position:
            low = int(found[0])
        else:
            high = middle - 1
    return low


def erased_events(connection: sqlite3.Connection) -> Iterator[Row]:
    """The events that record erasures."""
    payloads = Payloads(connection)
    found = connection.execute(f"{_ROWS} WHERE type = 'erased' ORDER BY position").fetchall()
    return (_row_of(row, payloads) for row in found)


def destroy(connection: sqlite3.Connection, positions: Iterable[int]) -> None:
    """Take payload and salt away. What rested on them is written anew, so that it stays readable without them."""
    gone = set(positions)
    payloads = Payloads(connection)
    runs = {
        int(run)
        for position in gone
        for (run,) in connection.execute("SELECT run FROM events WHERE position = ?", (position,))
    }
    frames = [
        found
        for run in runs
        for found in connection.execute(
            "SELECT position, payload, salt FROM events WHERE run = ? AND payload IS NOT NULL", (run,)
        )
    ]
    digests: list[tuple[bytes, int]] = []
    alone: list[tuple[bytes, int]] = []
    for position, frame, salt in frames:
        if position in gone:
            digests.append((digest(as_bytes(salt), payloads.unpacked(position, as_bytes(frame))), position))
        elif gone.intersection(bases_of(as_bytes(frame))):
            alone.append((pack(payloads.unpacked(position, as_bytes(frame))), position))
    connection.executemany("UPDATE events SET payload = ? WHERE position = ?", alone)
    connection.executemany(
        "UPDATE events SET payload = NULL, salt = NULL, payload_digest = ? WHERE position = ?", digests
    )
