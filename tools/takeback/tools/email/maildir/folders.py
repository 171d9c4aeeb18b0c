"""A Maildir on disk: what lies where, without following a link or leaving the Maildir. Nothing here writes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass

from blake3 import blake3

from takeback.tools.email.maildir import names
from takeback.tools.email.port import INBOX, Placement
from takeback.tools.files.calls import OPEN_READ, Calls, Dir
from takeback.tools.files.paths import escape, unescape
from takeback.tools.system import Refused, Unavailable

SUBS = ("new", "cur")
"""Where messages lie: not yet seen by any program, and seen by one."""
LARGEST = 64 * 1024 * 1024
"""Bytes of a message; larger ones are listed and left alone."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message's file."""

    folder: str
    sub: str
    name: bytes
    key: str
    info: str
    stats: os.stat_result


class Folders:
    """One Maildir, opened anew for each look: other programs, and other machines, work on it too."""

    def __init__(self, path: bytes, calls: Calls) -> None:
        self.path, self.calls = path, calls

    @contextmanager
    def root(self) -> Generator[Dir | None]:
        """The Maildir; `None` if it is not there yet."""
        try:
            root = self.calls.open_root(self.path)
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            raise Unavailable(
                f"The Maildir cannot be opened: {error.strerror}.", advice="See that the folder is there and readable."
            ) from error
        with root:
            yield root

    def all(self, root: Dir | None) -> list[str]:
        """Names of the folders, INBOX first."""
        if root is None:
            return [INBOX]
        found: list[str] = []
        for name, there in self.calls.entries(root):
            folder = names.folder_of(os.fsdecode(name)) if stat.S_ISDIR(there.st_mode) else None
            if folder is not None and self.has(root, folder):
                found.append(folder)
        return [INBOX, *sorted(found)]

    def has(self, root: Dir, folder: str) -> bool:
        """Whether the folder is there."""
        for sub in SUBS:
            opened = self.open(root, folder, sub)
            if opened is None:
                return False
            opened.close()
        return True

    def open(self, root: Dir, folder: str, sub: str) -> Dir | None:
        """`cur`, `new` or `tmp` of a folder; `None` if that is not there, or is reached by a link."""
        directory = names.directory_of(folder)
        if directory is None:
            return None
        parts = [os.fsencode(part) for part in (directory, sub) if part]
        try:
            return self.calls.open_below(root, parts)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                return None
            raise

    def entries(self, root: Dir | None, folders: Iterable[str]) -> Generator[Entry]:
        """The messages in some folders; links and folders among them are none."""
        if root is None:
            return
        for folder in folders:
            for sub in SUBS:
                opened = self.open(root, folder, sub)
                if opened is None:
                    continue
                with opened:
                    for name, there in self.calls.entries(opened):
                        base, info = names.split(escape(name))
                        if stat.S_ISREG(there.st_mode) and names.is_key(base):
                            yield Entry(folder, sub, name, base, info, there)

    def find(self, root: Dir | None, keys: Iterable[str]) -> dict[str, list[Entry]]:
        """The files of each message: one, or two while a rename in two steps is half done."""
        found: dict[str, list[Entry]] = {key: [] for key in keys}
        for entry in self.entries(root, self.all(root)):
            if entry.key in found:
                found[entry.key].append(entry)
        return found

    def read(self, root: Dir, entry: Entry, limit: int | None = None) -> bytes | None:
        """Bytes of a message, at most `limit`; `None` if the file is not there any more."""
        opened = self.open(root, entry.folder, entry.sub)
        if opened is None:
            return None
        with opened:
            return self.read_in(opened, entry.name, limit)

    def read_in(self, opened: Dir, name: bytes, limit: int | None = None) -> bytes | None:
        """The same in an open folder."""
        try:
            fd = self.calls.open_file(opened, name, OPEN_READ)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            there = os.fstat(fd)
            if not stat.S_ISREG(there.st_mode):
                return None
            if limit is None and there.st_size > LARGEST:
                raise Refused(
                    f"The message has {there.st_size:,} bytes, more than the {LARGEST:,} that are handled.",
                    advice="Use another mail program for it.",
                )
            return file.read(LARGEST + 1 if limit is None else limit)

    def placement(self, root: Dir, entries: list[Entry]) -> Placement | None:
        """Where a message is; `None` if it is nowhere (any more).

        :raises Refused: several messages bear the same name.
        """
        if not entries:
            return None
        if len(entries) > 1 and len({(e.stats.st_dev, e.stats.st_ino) for e in entries}) > 1:
            raise Refused(
                f"Several messages of the Maildir bear the name {entries[0].key}.",
                advice="Rename one of the files; names in a Maildir have to be unique.",
            )
        entry = entries[0]
        data = self.read(root, entry)
        if data is None:
            return None
        # two names of one file: a rename in two steps was cut short; it is as neither of them says, until that is finished
        folder = (
            " + ".join(sorted(f"{e.folder}/{e.sub}/{e.info}" for e in entries)) if len(entries) > 1 else entry.folder
        )
        return Placement(
            folder=folder,
            flags=names.letters(entry.info) or frozenset(),
            date_ns=entry.stats.st_mtime_ns,
            digest=digest_of(data),
            size=len(data),
            ref={"in": entry.sub, "info": entry.info},
        )


def digest_of(data: bytes) -> str:
    """Fingerprint of a message's raw bytes."""
    return f"blake3:{blake3(data).hexdigest()}"


def file_name(key: str, placement: Placement) -> bytes:
    """What the file of a message is called."""
    return unescape(key + str(placement.ref["info"]))
