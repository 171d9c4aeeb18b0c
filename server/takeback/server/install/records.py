"""Where it is remembered what was done to the clients: one small file each, in the user's state folder, for their eyes only."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs
from pydantic import ValidationError

from takeback.server.install.change import Record
from takeback.server.settings import APP


def record_file(path: Path, name: str) -> Path:
    """Where it is remembered what was done to the file at `path` for the entry `name`."""
    key = hashlib.sha256(os.fsencode(path) + b"\0" + name.encode()).hexdigest()[:32]
    return Path(platformdirs.user_state_dir(APP)) / "clients" / f"{key}.json"


def recall(path: Path, name: str) -> Record | None:
    """What is remembered. A record that cannot be read is as good as none: the entry can be taken out without it."""
    try:
        return Record.model_validate_json(record_file(path, name).read_bytes())
    except (OSError, ValidationError):
        return None


def remember(path: Path, name: str, record: Record) -> None:
    """Remember, in one step, before the file itself is written."""
    file = record_file(path, name)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd, beside = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(fd, "wb") as writing:
            writing.write(record.model_dump_json().encode())
            writing.flush()
            os.fsync(writing.fileno())
        os.replace(beside, file)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise


def forget(path: Path, name: str) -> None:
    """Nothing of ours is in the file any more."""
    record_file(path, name).unlink(missing_ok=True)
