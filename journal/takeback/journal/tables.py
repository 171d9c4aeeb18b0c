"""What the SQLite journal does inside one transaction: a batch of callers written, views made anew, payloads erased."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from takeback.journal.chain import Draft, Row, draft, link, recorded
from takeback.journal.erasure import Remains, erasures_of, foldable, remains
from takeback.journal.events import Recorded
from takeback.journal.kept import Kept
from takeback.journal.keys import Key
from takeback.journal.log import JournalError, Stale, ViewKey
from takeback.journal.rows import Payloads, destroy, erased_events, insert, rows
from takeback.journal.stored import Views

_CHUNK = 500


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


@dataclass(slots=True)
class Batch:
    """What a transaction wrote."""

    written: list[Written]
    heads: dict[str, tuple[int, bytes]]
    position: int


def write_batch(
    connection: sqlite3.Connection,
    entries: Sequence[Entry],
    key: Callable[[str | None], Key],
    kept: Kept | None = None,
) -> Batch:
    """Write the entries that hold, inside a transaction that is open already. One that does not hold leaves no trace.

    :param key: gives the key for new events, told the id of the one with which the newest event was chained.
    :param kept: what is known from earlier transactions. Whoever does not commit this one has to tell it to forget.
    """
    kept = Kept() if kept is None else kept
    kept.check(connection)
    position, key_id = kept.newest_of(connection)
    signing = key(key_id)
    payloads = kept.payloads_of(connection)
    views = Views(connection, payloads, kept=kept)
    heads: dict[str, tuple[int, bytes]] = {}
    written: list[Written] = []
    fresh: list[tuple[Row, int | None]] = []
    blobs: dict[str, bytes] = {}
    for entry in entries:
        refused = _judge(views, entry.expect)
        if refused is not None:
            written.append(Written(refused=refused))
            continue
        done = Written()
        for drafted in entry.drafts:
            run_id = drafted.event.run_id
            seq, previous = heads[run_id] if run_id in heads else kept.head(connection, run_id)
            position += 1
            row = link(
                drafted, position=position, seq=seq + 1, previous=previous, key_id=signing.id, key=signing.secret
            )
            heads[run_id] = (row.seq, row.mac)
            fresh.append((row, views.like(drafted.event)))
            payloads.note(position, row.type, row.payload)
            event = recorded(row, drafted.event)
            views.fold(event)
            done.recorded.append(event)
        blobs.update(entry.blobs)
        written.append(done)
    insert(connection, fresh, payloads, kept.number)
    views.write()
    if blobs:
        connection.executemany("INSERT OR IGNORE INTO blobs(name, data) VALUES (?, ?)", blobs.items())
    kept.heads.update(heads)
    if fresh:
        kept.newest = (position, signing.id)
    return Batch(written, heads, position)


def _judge(views: Views, expect: Mapping[ViewKey, int]) -> Stale | None:
    for (kind, id), expected in expect.items():
        found = views.version(kind, id)
        if found != expected:
            return Stale(kind, id, expected, found)
    return None


def all_remains(connection: sqlite3.Connection) -> Remains:
    """What is left of every erased event."""
    return remains(row.recorded().event for row in erased_events(connection))


def refold(connection: sqlite3.Connection, *, source: sqlite3.Connection | None = None) -> int:
    """Make all views anew from the events; how many views of the port there are.

    :param source: where the events lie, if elsewhere; then documents are written as plain JSON, for comparing.
    """
    events = connection if source is None else source
    connection.execute("DELETE FROM views")
    connection.execute("DELETE FROM touched")
    left = all_remains(events)
    payloads = Payloads(events)
    views = Views(connection, payloads, plain=source is not None)
    position = 0
    while True:
        chunk = list(rows(events, after=position, limit=_CHUNK, payloads=payloads))
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
    destroy(connection, [int(position) for event in erasures for position in event.positions])
    refold(connection)
    return batch
