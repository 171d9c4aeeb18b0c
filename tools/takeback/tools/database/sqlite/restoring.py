"""Putting a whole database back, if it is still as it was left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import apsw

from takeback.tools.database.sqlite import whole
from takeback.tools.database.sqlite.opening import DatabaseFile
from takeback.tools.system import Refused


@dataclass(frozen=True, slots=True)
class Imaged:
    """A database as it is now."""

    digest: str
    image: bytes


def image(connection: apsw.Connection) -> Imaged:
    """Its fingerprint and its pages, of one moment."""
    return Imaged(whole.content_of(connection).digest, whole.image_of(connection))


def restore(file: DatabaseFile, data: bytes, expected: str, wanted: str, scratch: Path) -> str | None:
    """Put the image there, if what is there has the expected fingerprint: its fingerprint otherwise, `None` if it is done.

    :raises Refused: what was put back was read back and found different.
    :raises apsw.Error: nothing was changed.
    """
    connection = file.connect(write=True)
    try:
        with whole.source_of(data, scratch) as source:
            mode = next(iter(connection.execute("PRAGMA main.journal_mode")))[0]
            found = (
                _beside(file, connection, source, expected) if mode == "wal" else _alone(connection, source, expected)
            )
        if found is not None:
            return found
        if whole.content_of(connection).digest != wanted:
            raise Refused(
                "The database was put back, read back, and found different.",
                advice="Compare it with a copy of your own.",
            )
        return None
    finally:
        connection.close(True)


def _beside(file: DatabaseFile, connection: apsw.Connection, source: apsw.Connection, expected: str) -> str | None:
    """With a write-ahead log: the copying takes the writer's place first, then readers still see what is to be compared."""
    with connection.backup("main", source, "main") as backup:
        backup.step(1)  # the writer's place is ours from here on
        reader = file.connect(write=False)
        try:
            reader.execute("BEGIN")
            found = whole.content_of(reader).digest
        finally:
            reader.close(True)
        if found != expected:
            return found  # leaving without finishing rolls back
        while not backup.done:
            backup.step(-1)
    return None


def _alone(connection: apsw.Connection, source: apsw.Connection, expected: str) -> str | None:
    """With a rollback journal: nobody else may even read while it is compared and copied."""
    connection.execute("PRAGMA main.locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    found = whole.content_of(connection).digest
    connection.execute("COMMIT")  # the lock stays
    if found != expected:
        return found
    with connection.backup("main", source, "main") as backup:
        while not backup.done:
            backup.step(-1)
    return None
