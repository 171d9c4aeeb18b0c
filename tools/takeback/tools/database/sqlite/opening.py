"""Reaching a SQLite file, and opening it without being led astray.

A file is opened by its path (SQLite knows no other way), with `NOFOLLOW`. What was opened is then held against what the
walk over folder descriptors finds there, by device and inode, so that a link put in between is noticed.

The file is opened by this library alone: a second one in the same process, and even opening and closing the file with `open()`,
would drop the locks that a transaction holds (https://www.sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import apsw

from takeback.tools.contract import ToolError
from takeback.tools.database.sqlite.refusals import target_error
from takeback.tools.files.held import Inode, hold, release
from takeback.tools.system import Refused, TargetError

BUSY_MS: Final = 3_000
"""How long another process's transaction is waited for."""
_FCNTL_MOVED: Final = apsw.SQLITE_FCNTL_HAS_MOVED


class Connection(apsw.Connection):
    """A connection that the file tools of this process know of until it is closed, so that they cost it no lock."""

    held: tuple[Inode, ...] = ()

    def close(self, force: bool = False) -> None:
        """Let go of the file."""
        super().close(force)
        inodes, self.held = self.held, ()
        for inode in inodes:
            release(inode)


class Absent(Refused):
    """There is no such file."""

    code = "not_found"
    advice = "Call list_databases to see which there are; a new one begins as an empty file (write_file)."


class DatabaseFile:
    """One SQLite file: where it is, and what may not be it."""

    def __init__(self, find: Callable[[], tuple[str, os.stat_result | None]], data: Path, shown: str) -> None:
        """
        :param find: walks to the file: its absolute path, and its status without following a link (`None`: it is not there).
        :param data: takeback's own folder.
        :param shown: the file for people.
        """
        self._find, self._data, self.shown = find, os.path.realpath(data), shown

    def check(self) -> tuple[str, os.stat_result]:
        """The path, and what lies there.

        :raises Absent: nothing.
        :raises Refused: something that is no regular file, or a file of takeback's own.
        """
        path, there = self._find()
        if there is None:
            raise Absent(f"There is no database {self.shown}.")
        if not stat.S_ISREG(there.st_mode):
            raise _refused(
                "not_a_file",
                f"{self.shown} is not a regular file.",
                "Name the database file itself, not a folder or a link.",
            )
        self._not_ours(path, there)
        if there.st_size == 1:  # SQLite takes that for an empty database, and would write over the byte
            raise _refused("not_a_database", f"{self.shown} is not a SQLite database.", "Name another file.")
        return path, there

    def _not_ours(self, path: str, there: os.stat_result) -> None:
        data = self._data
        ours = path == data or path.startswith(data + os.sep)
        if not ours and there.st_nlink > 1:
            ours = any((file.st_dev, file.st_ino) == (there.st_dev, there.st_ino) for file in _files_in(data))
        if ours:
            raise _refused("own_data", f"{self.shown} is takeback's own data.", "Name a database of yours.")

    def connect(self, *, write: bool, cached: int = 0) -> apsw.Connection:
        """A fresh connection.

        :param cached: statements that are kept ready: our own, never a caller's (one that was prepared before a session is
            attached would bypass it).
        :param write: whether it has to be writable; otherwise it is opened read-only where nothing else is possible.
        :raises Refused, Unavailable: it cannot be opened, or is no database.
        """
        path, there = self.check()
        flags = apsw.SQLITE_OPEN_NOFOLLOW
        way = apsw.SQLITE_OPEN_READWRITE if write or os.access(path, os.W_OK) else apsw.SQLITE_OPEN_READONLY
        try:
            connection = Connection(path, flags=flags | way, statementcachesize=cached)
        except apsw.Error as error:
            raise target_error(error) from error
        connection.held = (hold(there),)  # SQLite takes no lock before its first statement
        try:
            connection.set_busy_timeout(BUSY_MS)
            if write and connection.readonly("main"):
                raise _refused(
                    "read_only",
                    f"{self.shown} cannot be written.",
                    "Make the file and its folder writable, or only query it.",
                )
            list(connection.execute("PRAGMA schema_version"))
            with suppress(FileNotFoundError):  # with a write-ahead log the locks are on this one
                connection.held += (hold(os.lstat(f"{path}-shm")),)
            self._still(connection, there)
        except apsw.Error as error:
            connection.close()
            raise target_error(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _still(self, connection: apsw.Connection, before: os.stat_result) -> None:
        # opened == what lies at the path by now == what the walk finds, as it did before
        moved = _moved(connection)
        _, now = self.check()
        if moved or (before.st_dev, before.st_ino) != (now.st_dev, now.st_ino):
            raise _refused(
                "moved",
                f"{self.shown} was replaced while it was being opened.",
                "Repeat the call when nobody moves it.",
            )


def _moved(connection: apsw.Connection) -> bool:
    # SQLite compares the inode it holds open with the one at the path
    found = ctypes.c_int(0)
    known = connection.file_control("main", _FCNTL_MOVED, ctypes.addressof(found))
    return known and found.value != 0


def _files_in(folder: str) -> list[os.stat_result]:
    found: list[os.stat_result] = []
    try:
        with os.scandir(folder) as entries:
            found.extend(entry.stat(follow_symlinks=False) for entry in entries if entry.is_file(follow_symlinks=False))
    except OSError:
        return found
    return found


def configured_path(url: str) -> str:
    """The file that `sqlite:///path` names; `~` is the home folder.

    :raises Refused: it names none.
    """
    rest = url.removeprefix("sqlite://")
    path = rest.removeprefix("/") if rest.startswith(("/~", "//")) else rest
    if not path or path == "/":
        raise _refused("bad_url", f"{url} names no file.", "Write sqlite:///path/to/file.db.")
    return os.path.abspath(os.path.expanduser(path))


def _refused(code: str, fact: str, advice: str) -> Refused:
    error = Refused(fact, advice=advice)
    error.code = code
    return error


def told(error: TargetError) -> ToolError:
    """The same refusal for a caller of a tool."""
    return ToolError(str(error), advice=error.advice, code=error.code)
