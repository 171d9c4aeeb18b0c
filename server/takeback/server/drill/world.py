"""What a sandbox looks like, in a digest for each name: measured without the engine, so that it can be held against it.

Of files: kind, permissions, time of change and content; of SQLite files what they say, because two with the same rows need not
have the same bytes. Of calendars and mailboxes only what is in them, not their folders; of events no time of change.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from takeback.tools.database.sqlite.whole import digest_of
from takeback.tools.database.workspace import MAGIC

World = dict[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """A folder that belongs to a world."""

    name: str
    path: Path
    folders: bool = True
    """Folders count, not only what is in them."""
    times: bool = True
    """Files have the same time of change."""


BESIDE: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database while it is open."""
_OURS: Final = ".takeback"


def world(parts: Iterable[Part]) -> World:
    """All that lies in the folders that are there, by its path."""
    found: World = {}
    for part in parts:
        for folder, below, files in os.walk(part.path):
            below[:] = sorted(name for name in below if name != _OURS)
            for name in [*(below if part.folders else ()), *files]:
                path = Path(folder, name)
                if not is_beside(path):
                    found[f"{part.name}/{path.relative_to(part.path).as_posix()}"] = _digest(path, times=part.times)
    return found


def differences(expected: World, found: World) -> list[str]:
    """Names that are missing, too many, or otherwise than expected."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def is_sqlite(path: Path) -> bool:
    """Whether a regular file is a SQLite database by its first bytes."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def is_beside(path: Path) -> bool:
    """Whether this is what SQLite keeps beside a database."""
    for ending in BESIDE:
        if path.name.endswith(ending):
            return is_sqlite(path.with_name(path.name.removesuffix(ending)))
    return False


def _digest(path: Path, *, times: bool) -> str:
    there = path.lstat()
    facts: list[object] = [stat.S_IFMT(there.st_mode), stat.S_IMODE(there.st_mode)]
    if stat.S_ISLNK(there.st_mode):
        facts.append(os.readlink(path))
    elif is_sqlite(path):
        facts.append(digest_of(path))
    elif stat.S_ISREG(there.st_mode):
        facts += [there.st_mtime_ns if times else 0, blake3(path.read_bytes()).hexdigest()]
    return blake3(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()
