"""SQLite files in the workspace: found, named, and reached without following a link.

The id of such a database is `files:` and the id that the file tools give the file: what happens to the file happens to
everything in it, and the engine can see that from the names alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio.to_thread

from takeback.tools.files.choosing import choose_calls
from takeback.tools.files.held import close
from takeback.tools.files.paths import RESERVED, Names
from takeback.tools.system import Refused

FILES: Final = "files:"
MAGIC: Final = b"SQLite format 3\0"
"""How every SQLite file begins (https://www.sqlite.org/fileformat.html)."""
ENDINGS: Final = (".db", ".sqlite", ".sqlite3", ".db3", ".s3db", ".sl3")
LOOKED_AT: Final = 20_000
"""Names that `list_databases` looks at."""
LISTED: Final = 200


class Workspace:
    """The folders in which SQLite files may be named by their path. The folders are opened when the first one is."""

    def __init__(self, roots: Sequence[Path], data: Path, *, portable: bool) -> None:
        self._roots, self._data, self._portable = roots, data, portable
        self._names: Names | None = None

    @property
    def names(self) -> Names:
        """The roots, held open, and the names below them.

        :raises Refused: a root is no folder, or overlaps another or the data directory.
        """
        if self._names is None:
            raw = os.fsencode(os.path.abspath(self._data))
            calls = choose_calls(raw, [os.fsencode(root) for root in self._roots], portable=self._portable)
            self._names = Names(calls, self._roots, self._data)
        return self._names

    def close(self) -> None:
        """Let go of the folders."""
        if self._names is not None:
            self._names.close()

    def database_id(self, path: str) -> str:
        """The database that a path means; whether there is such a file is not looked at.

        :raises Refused: it lies outside the workspace, leads through a link, or is no name.
        """
        if not self._roots:
            raise Refused(
                f"There is no database {path!r}, and no workspace in which a file could be named.",
                advice="Call list_databases to see which there are.",
            )
        return FILES + self.names.resolve(path).object

    def file_of(self, id: str) -> str | None:
        """The file that a database is, as the file tools call it; `None` for configured databases."""
        return id.removeprefix(FILES) if id.startswith(FILES) else None

    def shown(self, id: str) -> str:
        """The path of a database's file for people, and for passing it in again."""
        file = self.file_of(id)
        return id if file is None else self.names.locate(file).shown

    def find(self, id: str) -> tuple[str, os.stat_result | None]:
        """Walk to a database's file without following a link: its path, and its status (`None`: it is not there).

        :raises Refused: it lies outside the workspace, or the way leads through a link.
        """
        names = self.names
        names.present()
        place = names.locate(id.removeprefix(FILES))
        return os.path.join(str(place.root.path), *map(os.fsdecode, place.parts)), names.lstat(place)

    async def sqlite_files(self) -> tuple[list[str], bool]:
        """Paths of SQLite files, and whether there are more than were looked for. Follows no link."""
        return await anyio.to_thread.run_sync(self._search) if self._roots else ([], False)

    def _search(self) -> tuple[list[str], bool]:
        found: list[str] = []
        looked = 0
        for root in self.names.roots:
            for folder, folders, files in os.walk(root.path):
                folders[:] = sorted(each for each in folders if os.fsencode(each) != RESERVED and each != ".git")
                for name in sorted(files):
                    looked += 1
                    if looked > LOOKED_AT or len(found) >= LISTED:
                        return found, True
                    path = os.path.join(folder, name)
                    if name.endswith(ENDINGS) and _is_sqlite(path):
                        found.append(self.names.resolve(path).shown)
        return found, False


def _is_sqlite(path: str) -> bool:
    """Whether the file says so itself; an empty one becomes a database with its first table."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        return os.read(fd, len(MAGIC)) in (MAGIC, b"")
    except OSError:
        return False
    finally:
        close(fd)
