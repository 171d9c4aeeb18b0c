"""The tables of the SQLite journal, and how its connections are opened.

`events` is appended to and never updated, but for erasing a payload with its salt (and for repacking what rested on it; see
`frames.py`). `names` gives the ids of runs and keys small numbers. All other tables can be made anew from the events (`views`,
`touched`), or hold bytes that name themselves (`blobs`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from pathlib import Path
from typing import Final

from takeback.journal.log import JournalError

SCHEMA: Final = 2
"""Version of the tables below, kept in `user_version`."""

APPLICATION_ID: Final = 0x7462_6A31
"""Marks the file as ours ("tbj1"), so that a foreign database is refused and never written to."""

BUSY_SECONDS: Final = 30.0

WAL_RESET_SAFE: Final = (3, 51, 3)
"""From this version on SQLite has no race between a writer and a checkpointer that resets the WAL."""

_NAMES: Final = """
CREATE TABLE names(
    row INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
"""

_TABLES: Final = """
CREATE TABLE meta(
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE events(
    position INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    type TEXT NOT NULL,
    at TEXT NOT NULL,
    action_id TEXT,
    payload BLOB,
    salt BLOB,
    payload_digest BLOB,
    mac BLOB NOT NULL,
    key INTEGER NOT NULL,
    UNIQUE(run, seq)
);
CREATE INDEX events_erased ON events(position) WHERE type = 'erased';

CREATE TABLE blobs(
    name TEXT NOT NULL UNIQUE,
    data BLOB NOT NULL
);
"""

_PROJECTIONS: Final = """
CREATE TABLE views(
    row INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    run INTEGER NOT NULL,
    status TEXT,
    live INTEGER NOT NULL,
    first_position INTEGER NOT NULL,
    version INTEGER NOT NULL,
    doc BLOB NOT NULL,
    UNIQUE(kind, id)
);
CREATE INDEX views_run ON views(run, kind, first_position);
CREATE INDEX views_order ON views(kind, first_position);
CREATE INDEX views_live ON views(kind, status, first_position) WHERE live;

CREATE TABLE touched(
    system TEXT NOT NULL,
    object TEXT NOT NULL,
    position INTEGER NOT NULL,
    action_id TEXT NOT NULL,
    PRIMARY KEY(system, object, position, action_id)
) WITHOUT ROWID;
"""


def create_projections(connection: sqlite3.Connection) -> None:
    """Make the tables that can be made anew from the events, and the names that these use."""
    _run(connection, _NAMES)
    _run(connection, _PROJECTIONS)


def _run(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        if statement.strip():
            connection.execute(statement)


class SchemaUnknown(JournalError):
    """The file was written by a newer takeback, or is not a journal at all. It is left alone."""

    advice = "Install the takeback that wrote it, or name another data directory."


def make_private(path: Path) -> None:
    """Make an empty database that only its owner can read, unless it is there.

    One that is there is not even opened: to close a file lets go of all locks that this process has on it, those of its other
    connections too. The next process to close the database would think itself the last, and delete the log (-wal) that they
    still write to: what they acknowledged from then on would be lost.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600))


def connect_writer(path: Path) -> sqlite3.Connection:
    """A connection that writes; makes the database if there is none. Call it under the lock of the data directory."""
    # SQLite gives -wal and -shm the permissions of the database itself
    make_private(path)
    connection = _connect(path, "rw")
    try:
        _check(connection)
        if _version(connection) == 0:
            connection.execute("PRAGMA journal_mode=WAL")
            _create(connection)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # what is erased or collected is overwritten, not merely unlinked
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("PRAGMA journal_size_limit=67108864")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection that cannot write.

    :param busy_seconds: how long it waits where it has to.
    :raises JournalError: there is no journal.
    """
    if not path.exists():
        raise JournalError(f"there is no journal at {path.name}")
    # the file is opened for writing because a reader of a WAL database takes part in its shared memory
    connection = _connect(path, "rw" if os.access(path, os.W_OK) else "ro")
    try:
        connection.execute("PRAGMA query_only=ON")
        _check(connection)
        if _version(connection) == 0:
            raise SchemaUnknown(f"{path.name} is empty, not a journal")
        connection.execute(f"PRAGMA busy_timeout={int(1000 * busy_seconds)}")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _version(connection: sqlite3.Connection) -> int:
    return _pragma(connection, "user_version")


def _check(connection: sqlite3.Connection) -> None:
    try:
        version, application = _version(connection), _pragma(connection, "application_id")
        tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        raise SchemaUnknown("the file in the journal's place is not an SQLite database") from error
    if tables and application != APPLICATION_ID:
        raise SchemaUnknown("the database in the journal's place belongs to another program")
    if version not in (0, SCHEMA):
        raise SchemaUnknown(f"the journal has schema {version}; this takeback knows schema {SCHEMA}")


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _version(connection) == 0:  # another process may have been faster
            _run(connection, _TABLES)
            create_projections(connection)
            connection.execute("INSERT INTO meta VALUES ('journal', ?)", (secrets.token_hex(16),))
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
