"""What moved where: UIDs change with every move, and an act that is taken back next week has to find its message.

The journal says so with every act, and this is a table of it, by message and by place: lost, it is made anew from there.

What is not in the journal helps to find a message that is not where it was left. A row is written, durably, before a message
is changed: what it is, where it lies, and the next free number of every folder. What turns up afterwards with the same content
and a later number is that message: moved by us before a crash, or by others. A row that was made anew has no such numbers; what
is like its message may be another one then, and is not taken for it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from takeback.tools.email.imap.names import Spot
from takeback.tools.system import Unavailable

Floors = Mapping[str, tuple[int, int]]
"""Per folder its UIDVALIDITY and its next number, as they were when the message was last changed by us."""
_WAIT_SECONDS: Final = 20.0
_MADE: Final = 1
"""In the file's `user_version`: everything that the journal knows is in it."""
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS floors (id INTEGER PRIMARY KEY, folders TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS messages (
    key TEXT PRIMARY KEY, folder TEXT NOT NULL, validity INTEGER NOT NULL, uid INTEGER NOT NULL,
    size INTEGER NOT NULL, date_ns INTEGER NOT NULL, digest TEXT NOT NULL, message_id TEXT NOT NULL,
    whole TEXT NOT NULL, heading TEXT NOT NULL, begun TEXT NOT NULL, floors INTEGER NOT NULL REFERENCES floors (id)
) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS spots ON messages (folder, validity, uid)",
)


@dataclass(frozen=True, slots=True)
class Known:
    """A message that takeback has changed, or was about to."""

    key: str
    spot: Spot
    """Where it lay when that was last seen; number 0: it was nowhere."""
    size: int
    date_ns: int
    digest: str
    message_id: str
    whole: str = ""
    """Of all its bytes, if takeback put it there. Nothing else is ever taken out of a mailbox."""
    heading: str = ""
    """The folder that it is just being copied to, on a server that cannot move in one step."""
    begun: str = ""
    """What it is just being made into: of an act that took effect in part, the rest can be told from somebody else's change."""


class Remap:
    """The table of one mailbox on one server. Used from one thread at a time; other processes use the file too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        """The file that was found to be whole."""

    def whole(self) -> bool:
        """Whether everything that the journal knows is in it; else `make` it first. Cheap.

        :raises Unavailable: the file cannot be read.
        """
        try:
            there = self._path.stat()
        except OSError:
            return False
        if (there.st_dev, there.st_ino) != self._seen:
            with self._connected() as db:
                if not _made(db):
                    return False
            self._seen = (there.st_dev, there.st_ino)
        return True

    def make(self, known: Iterable[Known]) -> None:
        """Make it of what the journal knows, unless another process has done so meanwhile."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._connected() as db, _transaction(db):
            if _made(db):
                return
            for statement in _SCHEMA:
                db.execute(statement)
            number = db.execute("INSERT INTO floors (folders) VALUES ('null')").lastrowid
            marks = ", ".join("?" * 12)
            rows = [(*_values(each), number) for each in known]
            db.executemany(f"INSERT OR IGNORE INTO messages VALUES ({marks})", rows)  # noqa: S608 -- marks only
            db.execute(f"PRAGMA user_version = {_MADE}")

    def get(self, keys: Iterable[str]) -> dict[str, Known]:
        """What is known of each."""
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        found: dict[str, Known] = {}
        with self._opened() as db:
            for start in range(0, len(wanted), 500):
                some = wanted[start : start + 500]
                marks = ", ".join("?" * len(some))
                for row in db.execute(f"SELECT {_COLUMNS} FROM messages WHERE key IN ({marks})", some):  # noqa: S608 -- marks only
                    found[str(row[0])] = _known(row)
        return found

    def in_folder(self, folder: str, validity: int) -> dict[int, str]:
        """Keys of the messages that are known to lie there, by number; the oldest key of each."""
        with self._opened() as db:
            rows = db.execute(
                "SELECT uid, key FROM messages WHERE folder = ? AND validity = ? AND uid > 0 ORDER BY floors DESC, key DESC",
                (folder, validity),
            ).fetchall()
        return {int(uid): str(key) for uid, key in rows}

    def floors(self, key: str) -> dict[str, tuple[int, int]] | None:
        """The floors of a message; `None`: they are not known any more."""
        with self._opened() as db:
            row = db.execute(
                "SELECT folders FROM floors JOIN messages ON messages.floors = floors.id WHERE key = ?", (key,)
            ).fetchone()
        folders = None if row is None else json.loads(row[0])
        return None if folders is None else {folder: (one, two) for folder, (one, two) in folders.items()}

    def begin(self, known: Sequence[Known], floors: Floors) -> None:
        """Keep what is about to be changed. On disk when it returns."""
        with self._opened() as db, _transaction(db):
            number = db.execute("INSERT INTO floors (folders) VALUES (?)", (json.dumps(floors),)).lastrowid
            db.executemany(
                "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET folder ="
                " excluded.folder, validity = excluded.validity, uid = excluded.uid, size = excluded.size, date_ns ="
                " excluded.date_ns, digest = excluded.digest, message_id = excluded.message_id, whole = excluded.whole,"
                " heading = excluded.heading, begun = excluded.begun, floors = excluded.floors",
                [(*_values(each), number) for each in known],
            )
            db.execute("DELETE FROM floors WHERE id NOT IN (SELECT floors FROM messages)")

    def put(self, places: Mapping[str, Spot]) -> None:
        """Where the messages lie now; other keys of the same message follow."""
        with self._opened() as db, _transaction(db):
            for key, spot in places.items():
                old = db.execute("SELECT folder, validity, uid FROM messages WHERE key = ?", (key,)).fetchone()
                here = (spot.folder, spot.validity, spot.uid)
                if old is not None and old[2] > 0:
                    db.execute(
                        "UPDATE messages SET folder = ?, validity = ?, uid = ?, heading = '', begun = ''"
                        " WHERE folder = ? AND validity = ? AND uid = ?",
                        (*here, *old),
                    )
                db.execute(
                    "UPDATE messages SET folder = ?, validity = ?, uid = ?, heading = '', begun = '' WHERE key = ?",
                    (*here, key),
                )

    @contextmanager
    def _opened(self) -> Generator[sqlite3.Connection]:
        with self._connected() as db:
            if not _made(db):
                # a file that somebody took away just now, in whose place this one lies
                raise Unavailable("The record of what was moved where is gone.", advice="Try again: it is made anew.")
            yield db

    @contextmanager
    def _connected(self) -> Generator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous = FULL")
                # not WAL: writes are few, and a rollback journal has no shared memory that could outlive its file
                yield db
        except sqlite3.Error as error:
            away = isinstance(error, sqlite3.OperationalError)
            raise Unavailable(
                f"The record of what was moved where cannot be read: {error}.",
                advice="See whether the disk is full, or the data directory read-only."
                if away
                else f"Delete mail/imap/{self._path.name} in the data directory: it is made anew from the journal.",
            ) from error


def _made(db: sqlite3.Connection) -> bool:
    return int(db.execute("PRAGMA user_version").fetchone()[0]) == _MADE


_COLUMNS: Final = "key, folder, validity, uid, size, date_ns, digest, message_id, whole, heading, begun"


class _transaction:  # noqa: N801 -- used like a function
    """One transaction, taken back if something fails."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _failed(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            self._db.rollback()
            if isinstance(error, sqlite3.Error):
                raise _failed(error) from error
            return
        try:
            self._db.commit()
        except sqlite3.Error as broken:
            raise _failed(broken) from broken


def _failed(error: sqlite3.Error) -> Unavailable:
    return Unavailable(
        f"What is moved where cannot be recorded: {error}.", advice="See whether the disk is full, then try again."
    )


def _known(row: tuple[object, ...]) -> Known:
    key, folder, validity, uid, size, date_ns, digest, message_id, whole, heading, begun = row
    return Known(
        str(key),
        Spot(str(folder), _int(validity), _int(uid)),
        _int(size),
        _int(date_ns),
        str(digest),
        str(message_id),
        str(whole),
        str(heading),
        str(begun),
    )


def _values(known: Known) -> tuple[object, ...]:
    spot = known.spot
    what = (known.size, known.date_ns, known.digest, known.message_id, known.whole, known.heading, known.begun)
    return (known.key, spot.folder, spot.validity, spot.uid, *what)


def _int(value: object) -> int:
    assert isinstance(value, int), "columns of numbers"
    return value
