"""Changes of a Maildir, each one rename that overwrites nothing, checked before and after, made durable, taken back if a later
one of the same act cannot be made. The bytes of a message are never written anew."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from takeback.tools.email.maildir import names
from takeback.tools.email.maildir.folders import SUBS, Entry, Folders, digest_of, file_name
from takeback.tools.email.port import INBOX, Change, Made, Moved, Placement
from takeback.tools.files.calls import OPEN_NEW, Dir
from takeback.tools.files.paths import escape, unescape
from takeback.tools.system import TargetError, Unavailable


class _Drift(Exception):
    """Another program was faster."""


class Changing:
    """One act on a Maildir."""

    def __init__(self, folders: Folders, creatable: frozenset[str]) -> None:
        """
        :param creatable: folders that are made when something is put into them.
        """
        self.folders, self.calls, self.creatable = folders, folders.calls, creatable
        self._dirs: dict[tuple[str, str], Dir] = {}

    def change(self, changes: Sequence[Change]) -> Made | Moved:
        """As `MailStore.change`."""
        if any(change.before is None for change in changes):
            self._make_root()
        try:
            with self.folders.root() as root:
                return self._change(root, changes)
        finally:
            while self._dirs:
                self._dirs.popitem()[1].close()

    def _change(self, root: Dir | None, changes: Sequence[Change]) -> Made | Moved:
        found = self.folders.find(root, [change.key for change in changes])
        if root is not None:
            for change in changes:
                self._finish(root, change, found[change.key])
        present = tuple(None if root is None else self.folders.placement(root, found[change.key]) for change in changes)
        todo: list[Change] = []
        for change, now in zip(changes, present, strict=True):
            if now == change.after:
                continue
            if now != change.before:
                return Moved(
                    present,
                    f"{_told(change.key)} is not as it was expected to be: somebody moved, flagged or deleted it.",
                )
            todo.append(change)
        keys = tuple(change.key for change in changes)
        if not todo or root is None:
            return Made(keys, already=True)
        done: list[Change] = []
        try:
            for change in todo:
                self._make(root, change, found[change.key])
                done.append(change)
            for opened in self._dirs.values():
                self.calls.sync_folder(opened)
        except (_Drift, OSError, TargetError) as error:
            self._take_back(root, done)
            if isinstance(error, _Drift):
                again = self.folders.find(root, keys)
                there = tuple(self.folders.placement(root, again[key]) for key in keys)
                return Moved(there, str(error))
            if isinstance(error, TargetError):
                raise
            raise Unavailable(
                f"The Maildir could not be changed: {error.strerror}. Nothing was changed.",
                advice="See whether the disk is full or the folder read-only.",
            ) from error
        return Made(keys)

    def _make(self, root: Dir, change: Change, entries: list[Entry]) -> None:
        if change.before is None:
            assert change.after is not None
            self._put(root, change, change.after)
        elif change.after is None:
            self._remove(root, change, change.before, entries[0])
        else:
            self._rename(root, change.key, change.before, change.after, entries[0])

    def _rename(self, root: Dir, key: str, before: Placement, after: Placement, entry: Entry) -> None:
        source = self._dir(root, before.folder, str(before.ref["in"]))
        target = self._dir(root, after.folder, str(after.ref["in"]))
        old, new = file_name(key, before), file_name(key, after)
        self._place(source, old, target, new, key)
        if _identity(self.calls.lstat(target, new)) != _identity(entry.stats):
            # what came along is not what was looked at: it goes back where it lay
            self._place(target, new, source, old, key)
            raise _Drift(f"{_told(key)} was replaced by another program.")

    def _put(self, root: Dir, change: Change, after: Placement) -> None:
        assert change.content is not None
        if digest_of(change.content) != after.digest:
            raise Unavailable("The stored message is not the one that was meant.", advice="Run takeback verify.")
        target = self._dir(root, after.folder, str(after.ref["in"]))
        staging = self._dir(root, after.folder, "tmp")
        name = unescape(change.key)
        if self.calls.lstat(staging, name) is not None:
            self.calls.unlink(staging, name)  # left by a crash of ours: keys of fresh messages are random
        fd = self.calls.open_file(staging, name, OPEN_NEW)
        try:
            try:
                self.calls.pwrite(fd, change.content, 0)
                self.calls.utime_of(fd, staging, name, after.date_ns, after.date_ns)
                self.calls.sync(fd)
            finally:
                os.close(fd)
            self._place(staging, name, target, file_name(change.key, after), change.key)
        except BaseException:
            if self.calls.lstat(staging, name) is not None:
                self.calls.unlink(staging, name)
            raise

    def _remove(self, root: Dir, change: Change, before: Placement, entry: Entry) -> None:
        source = self._dir(root, before.folder, str(before.ref["in"]))
        staging = self._dir(root, before.folder, "tmp")
        aside = unescape(change.key)
        self._place(source, entry.name, staging, aside, change.key)
        data = self.folders.read_in(staging, aside)
        if data is None or digest_of(data) != before.digest:
            self._place(staging, aside, source, entry.name, change.key)
            raise _Drift(f"{_told(change.key)} was replaced by another program.")
        self.calls.unlink(staging, aside)

    def _place(self, source: Dir, old: bytes, target: Dir, new: bytes, key: str) -> None:
        try:
            self.calls.place(source, old, target, new)
        except FileNotFoundError as error:
            raise _Drift(f"{_told(key)} was moved, flagged or deleted by another program just now.") from error
        except OSError as error:
            if error.errno == errno.EEXIST:
                raise _Drift(f"Another message of the name {escape(new)} lies there already.") from error
            raise

    def _finish(self, root: Dir, change: Change, entries: list[Entry]) -> None:
        """A rename in two steps (link, unlink) that a crash cut in between: the old name goes."""
        before, after = change.before, change.after
        if (
            len(entries) != 2
            or before is None
            or after is None
            or _identity(entries[0].stats) != _identity(entries[1].stats)
        ):
            return
        sides = {(side.folder, side.ref["in"], file_name(change.key, side)): side is after for side in (before, after)}
        if {(e.folder, e.sub, e.name) for e in entries} != set(sides):
            return
        old = next(e for e in entries if not sides[(e.folder, e.sub, e.name)])
        self.calls.unlink(self._dir(root, old.folder, old.sub), old.name)
        entries.remove(old)

    def _take_back(self, root: Dir, done: list[Change]) -> None:
        for change in reversed(done):
            back = Change(change.key, change.after, change.before, change.content)
            entries = self.folders.find(root, [change.key])[change.key]
            try:
                if (self.folders.placement(root, entries) if entries else None) == change.after:
                    self._make(root, back, entries)
            except (_Drift, OSError, TargetError) as error:
                raise TargetError(
                    f"{_told(change.key)} was changed, a later one was not, and the first could not be put back: {error}",
                    advice="Look at both messages.",
                ) from error

    def _dir(self, root: Dir, folder: str, sub: str) -> Dir:
        known = self._dirs.get((folder, sub))
        if known is not None:
            return known
        opened = self.folders.open(root, folder, sub)
        if opened is None:
            if folder not in self.creatable and folder != INBOX:
                raise Unavailable(f"There is no folder {folder!r} any more.", advice="Call list_mailboxes.")
            self._make_folder(root, folder)
            opened = self.folders.open(root, folder, sub)
            if opened is None:
                raise Unavailable(
                    f"The folder {folder!r} is no Maildir folder, or is reached by a link.",
                    advice="Name another folder for it in the configuration.",
                )
        self._dirs[(folder, sub)] = opened
        return opened

    def _make_root(self) -> None:
        try:
            os.makedirs(self.folders.path, 0o700, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"The Maildir cannot be made: {error.strerror}.", advice="Check its path.") from error

    def _make_folder(self, root: Dir, folder: str) -> None:
        directory = names.directory_of(folder)
        assert directory is not None, "names of roles are checked when the mailbox is opened"
        parent = root
        if directory:
            self._mkdir(root, os.fsencode(directory))
            parent = self.calls.open_folder(root, os.fsencode(directory))
        try:
            for sub in ("tmp", *SUBS):
                self._mkdir(parent, sub.encode())
            if directory and self.calls.lstat(parent, b"maildirfolder") is None:
                # how Maildir++ tells a folder from a Maildir of its own
                os.close(self.calls.open_file(parent, b"maildirfolder", OPEN_NEW))
            self.calls.sync_folder(parent)
        finally:
            if parent is not root:
                parent.close()
        self.calls.sync_folder(root)

    def _mkdir(self, parent: Dir, name: bytes) -> None:
        try:
            self.calls.mkdir(parent, name, 0o700)
        except FileExistsError:
            return


def _identity(there: os.stat_result | None) -> tuple[int, ...] | None:
    return None if there is None else (there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns)


def _told(key: str) -> str:
    return f"The message {key}"
