"""The key that seals `requestState`, kept in the data directory so that a question survives the process that asked it.

Sealing keeps clients from making states up. That a consent is used once is not its business: the engine sees to that.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

KEY_BYTES = 32
FILE_NAME = "request-state.key"


def request_state_key(data: Path) -> bytes:
    """The key; made on first use, the same for all processes that share the data directory."""
    path = data / FILE_NAME
    known = _read(path)
    if known is not None:
        return known
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = data / f".{FILE_NAME}.{secrets.token_hex(8)}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size != KEY_BYTES:  # damaged: states sealed with it are void anyway
                path.unlink()
        with contextlib.suppress(FileExistsError):  # another process was first: its key is ours too
            os.link(fresh, path)
    except OSError:
        if _read(path) is None:  # a file system without hard links
            os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    made = _read(path)
    if made is None:
        raise OSError(f"{FILE_NAME} in the data directory cannot be read back")
    return made


def _read(path: Path) -> bytes | None:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    return key if len(key) == KEY_BYTES else None
