"""Which folders this data directory has been used with, so that a command can take back what a server did there.

`takeback serve --workspace DIR` is told its folders by the client's configuration; `takeback rollback` is typed by a person who
should not have to repeat them. One small file per folder, so that servers starting at once do not overwrite each other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_FOLDER: Final = "roots"


def remember(data: Path, roots: Iterable[Path]) -> None:
    """Note the folders. Only a convenience: a full disk or a read-only folder is passed over in silence."""
    folder = data / _FOLDER
    with suppress(OSError):
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        for root in roots:
            raw = os.fsencode(root)
            note = folder / hashlib.sha256(raw).hexdigest()[:32]
            if not note.exists():
                beside = note.with_suffix(f".{os.getpid()}")
                beside.write_bytes(raw)
                beside.replace(note)


def remembered(data: Path) -> tuple[Path, ...]:
    """The folders that were noted, in the order of their names."""
    try:
        notes = [note for note in (data / _FOLDER).iterdir() if not note.suffix]
    except OSError:
        return ()
    found: set[Path] = set()
    for note in notes:
        with suppress(OSError):
            found.add(Path(os.fsdecode(note.read_bytes())))
    return tuple(sorted(found))


def together(data: Path, *groups: Iterable[Path]) -> tuple[Path, ...]:
    """All the folders that can be opened side by side: they exist, none lies in another, none meets the data directory."""
    real = {os.path.realpath(root): root for group in groups for root in group if root.is_dir()}
    apart = os.path.realpath(data)
    chosen: list[str] = []
    for path in sorted(real, key=len):
        if not any(_inside(path, other) for other in chosen) and not _inside(apart, path) and not _inside(path, apart):
            chosen.append(path)
    return tuple(root for path, root in real.items() if path in chosen)


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
