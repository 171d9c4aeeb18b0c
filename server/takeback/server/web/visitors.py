"""Who is let in: a key that opens once, and the session that a browser gets for it.

Keys and sessions are random; on disk lie only their digests, each as an empty-handed file with a time, so that every process of
this person (the command line makes a key, the page takes it) sees the same, and whoever deletes a file has ended it. That a key
opens once is decided by the file system: only one can remove its file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

KEY_SECONDS: Final = 600.0
"""How long a key opens the page."""
SESSION_SECONDS: Final = 30 * 86400.0
"""How long a browser is known: links in a chat are to open weeks later too."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Visitors:
    """The keys and sessions of one data directory."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        """
        :param folder: theirs alone; made when it is needed.
        """
        self._keys, self._sessions, self._now = folder / "keys", folder / "sessions", now

    def key(self) -> str:
        """A new key.

        :raises OSError:
        """
        self._sweep()
        return self._made(self._keys, KEY_SECONDS)

    def enter(self, key: str) -> str | None:
        """The session that a key opens; None if it opens nothing (any more).

        :raises OSError: the session cannot be kept.
        """
        file = self._file(self._keys, key)
        if file is None or not self._lives(file):
            return None
        try:
            file.unlink()
        except FileNotFoundError:  # somebody else was first
            return None
        return self._made(self._sessions, SESSION_SECONDS)

    def known(self, session: str) -> bool:
        """Whether a session is one of ours."""
        file = self._file(self._sessions, session)
        return file is not None and self._lives(file)

    def leave(self, session: str) -> None:
        """End a session."""
        file = self._file(self._sessions, session)
        if file is not None:
            file.unlink(missing_ok=True)

    def _made(self, folder: Path, seconds: float) -> str:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        token = secrets.token_urlsafe(32)
        descriptor = os.open(folder / _digest(token), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{self._now() + seconds:.0f}\n")
        return token

    def _file(self, folder: Path, token: str) -> Path | None:
        return folder / _digest(token) if _TOKEN.fullmatch(token) else None

    def _lives(self, file: Path) -> bool:
        try:
            return self._now() < float(file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return False

    def _sweep(self) -> None:
        for folder in (self._keys, self._sessions):
            with contextlib.suppress(OSError):
                for file in list(folder.iterdir()):
                    if not self._lives(file):
                        file.unlink(missing_ok=True)


def _digest(token: str) -> str:
    # random and long, so a plain digest cannot be reversed
    return hashlib.sha256(token.encode("ascii")).hexdigest()
