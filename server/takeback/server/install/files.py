"""A client's configuration file on disk: read with care, kept aside, exchanged in one step."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from takeback.server.engine.answers import EngineError

_LARGEST: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """What lies at a path."""

    path: Path
    """The file itself, past all links."""
    text: str | None
    """`None`: there is none."""
    mode: int = 0o666
    owner: tuple[int, int] | None = None


def digest(text: str | None) -> str:
    """What tells one content from another; empty if there is none."""
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()


def look(path: Path) -> Found:
    """Read a file, if it is there.

    :raises EngineError: it is no regular file, not UTF-8, or cannot be read.
    """
    real = Path(os.path.realpath(path))
    try:
        info = os.stat(real)
    except FileNotFoundError:
        return Found(real, None)
    if not stat.S_ISREG(info.st_mode):
        raise EngineError("refused", f"{real} is not a file.", "Name the client's configuration file with --file.")
    if info.st_size > _LARGEST:
        raise EngineError("refused", f"{real} is larger than any configuration.", "Look at what it holds.")
    try:
        text = real.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise EngineError(
            "refused", f"{real} is not UTF-8; it was not touched.", "Save it as UTF-8 and repeat the command."
        ) from error
    return Found(real, text, stat.S_IMODE(info.st_mode), (info.st_uid, info.st_gid))


def keep(found: Found) -> Path | None:
    """Keep a copy beside the file, under a number that none has yet; only its owner may read what only they could before."""
    if found.text is None:
        return None
    number = 0
    while True:
        number += 1
        copy = found.path.with_name(f"{found.path.name}.takeback-{number}.bak")
        try:
            fd = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        except FileExistsError:
            continue
        with os.fdopen(fd, "wb") as file:
            file.write(found.text.encode())
            file.flush()
            os.fsync(file.fileno())
        _as_before(str(copy), found)
        return copy


def exchange(found: Found, text: str) -> tuple[Path, ...]:
    """Put the text where what was found lies, in one step; mode and owner stay. Returns the folders that had to be made.

    :raises EngineError: it was changed since it was looked at, or may not be written.
    """
    made = _folders(found.path.parent)
    if found.text is not None and not os.access(found.path, os.W_OK):
        raise EngineError("refused", f"{found.path} is read-only.", "Make it writable if takeback may change it.")
    fd, beside = tempfile.mkstemp(dir=found.path.parent, prefix=f".{found.path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        _as_before(beside, found)
        unchanged(found)
        os.replace(beside, found.path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    return made


def discard(found: Found, folders: tuple[Path, ...]) -> None:
    """Delete a file that was not there before, and the folders made for it as far as they are empty.

    :raises EngineError: it was changed since it was looked at.
    """
    unchanged(found)
    found.path.unlink()
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def unchanged(found: Found) -> None:
    """Make sure that nobody wrote the file since.

    :raises EngineError: somebody did.
    """
    if look(found.path).text != found.text:
        raise EngineError(
            "changed", f"{found.path} was changed just now by somebody else; it was not touched.", "Repeat the command."
        )


def _folders(folder: Path) -> tuple[Path, ...]:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(missing)


def _as_before(path: str, found: Found) -> None:
    mode = found.mode
    if found.owner is None:
        mask = os.umask(0)
        os.umask(mask)
        mode &= ~mask
    elif hasattr(os, "chown"):
        with suppress(
            PermissionError
        ):  # then it is ours, which is what it was unless somebody else's rights let us write
            os.chown(path, *found.owner)
    os.chmod(path, mode)
