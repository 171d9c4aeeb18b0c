"""A Maildir as a `MailStore`. All work on the disk is done in worker threads."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
from blake3 import blake3

from takeback.tools.email.maildir import names
from takeback.tools.email.maildir.changing import Changing
from takeback.tools.email.maildir.folders import LARGEST, Folders
from takeback.tools.email.merging import flags_of_both, folder_of_both, hindrance
from takeback.tools.email.port import (
    INBOX,
    Change,
    Flag,
    FolderInfo,
    Found,
    Made,
    MailStore,
    Moved,
    Placement,
    Role,
)
from takeback.tools.files.calls import Calls
from takeback.tools.system import Refused, Unavailable

T = TypeVar("T")


class MaildirStore(MailStore):
    """A Maildir with its folders."""

    local = True

    def __init__(self, path: Path, calls: Callable[[], Calls], *, roles: Sequence[str]) -> None:
        """
        :param calls: how files are reached here; asked when the first one is.
        :param roles: the folders for sent, deleted and drafted mail, which are made when something is put into them.
        :raises Refused: one of them can be no folder's name.
        """
        for role in roles:
            if names.directory_of(role) is None:
                raise Refused(f"There can be no folder {role!r} in a Maildir.", advice="Choose a name without dots.")
        self._path, self._choose, self._roles = path, calls, tuple(roles)
        self._folders: Folders | None = None

    async def folders(self) -> Sequence[FolderInfo]:
        return await self._run(self._folder_infos)

    async def roles(self) -> Mapping[Role, str]:
        names: tuple[Role, ...] = ("sent", "trash", "drafts")
        return {"inbox": INBOX, **dict(zip(names, self._roles, strict=True))}

    async def listed(self, folder: str | None) -> Sequence[Found]:
        return await self._run(lambda folders: self._list(folders, folder))

    async def head(self, keys: Sequence[str], limit: int) -> Sequence[bytes | None]:
        def read(folders: Folders) -> list[bytes | None]:
            with folders.root() as root:
                found = folders.find(root, keys)
                return [
                    folders.read(root, found[key][0], limit) if root is not None and found[key] else None
                    for key in keys
                ]

        return await self._run(read)

    async def raw(self, key: str, limit: int) -> tuple[Placement, bytes] | None:
        def read(folders: Folders) -> tuple[Placement, bytes] | None:
            with folders.root() as root:
                entries = folders.find(root, [key])[key]
                if root is None or not entries:
                    return None
                if entries[0].stats.st_size > min(limit, LARGEST):
                    raise Refused(
                        f"The message has {entries[0].stats.st_size:,} bytes, more than the {limit:,} that are read.",
                        advice="Use another mail program for it.",
                    )
                placement = folders.placement(root, entries)
                data = folders.read(root, entries[0])
                return None if placement is None or data is None else (placement, data)

        return await self._run(read)

    async def look(self, keys: Sequence[str]) -> Sequence[Placement | None]:
        def look(folders: Folders) -> list[Placement | None]:
            with folders.root() as root:
                found = folders.find(root, keys)
                return [None if root is None else folders.placement(root, found[key]) for key in keys]

        return await self._run(look)

    async def change(self, changes: Sequence[Change]) -> Made | Moved:
        return await self._run(lambda folders: Changing(folders, frozenset(self._roles)).change(changes))

    # -- pure ------------------------------------------------------------------------------------------------------------

    def marked(self, placement: Placement, *, add: Sequence[Flag] = (), remove: Sequence[Flag] = ()) -> Placement:
        known = names.letters(str(placement.ref["info"]))
        if known is None:
            raise Refused(
                "The flags of this message are written in a way that is not understood.",
                advice="Change them in the program that wrote them.",
            )
        wanted = (known | {names.LETTERS[flag] for flag in add}) - {names.LETTERS[flag] for flag in remove}
        return placement if wanted == known else _with_flags(placement, wanted)

    def moved(self, placement: Placement, folder: str) -> Placement:
        if folder == placement.folder:
            return placement
        return dataclasses.replace(placement, folder=folder)

    def merged(self, base: Placement, wanted: Placement, present: Placement) -> Placement | str:
        why_not = hindrance(base, wanted, present)
        if why_not is not None:
            return why_not
        folder = folder_of_both(base, wanted, present)
        its = [names.letters(str(each.ref["info"])) for each in (base, wanted, present)]
        if None in its:
            return "its flags are written in a way that is not understood"
        ours, theirs, now = (flags or frozenset[str]() for flags in its)
        flags = flags_of_both(ours, theirs, now)
        goal = dataclasses.replace(present, folder=folder)
        # another program that filed it has seen it: only where nobody did does it become new again
        if flags == theirs and present.ref["in"] == base.ref["in"] and present.folder == base.folder:
            return dataclasses.replace(goal, flags=wanted.flags, ref=wanted.ref)
        return goal if flags == now else _with_flags(goal, flags)

    def flag_names(self, flags: frozenset[str]) -> Sequence[Flag]:
        return [flag for flag, letter in names.LETTERS.items() if letter in flags]

    def fresh(
        self, content: bytes, digest: str, folder: str, flags: Sequence[Flag], seed: str
    ) -> tuple[str, Placement]:
        now = time.time_ns()
        letters = frozenset(names.LETTERS[flag] for flag in flags)
        key = f"takeback.{blake3(seed.encode()).hexdigest()[:32]}"
        ref = {"in": "cur", "info": names.info_of(letters)} if letters else {"in": "new", "info": ""}
        return key, Placement(folder, letters, now, digest, len(content), {**ref})

    # -- in a thread -----------------------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[Folders], T]) -> T:
        def run() -> T:
            if self._folders is None:
                self._folders = Folders(os.fsencode(os.path.abspath(self._path)), self._choose())
            try:
                return work(self._folders)
            except OSError as error:
                raise Unavailable(
                    f"The Maildir cannot be read: {error.strerror}.", advice="See that it is there and readable."
                ) from error

        # what has been begun is brought to its end, whoever stops waiting for it
        return await anyio.to_thread.run_sync(run)

    def _folder_infos(self, folders: Folders) -> list[FolderInfo]:
        with folders.root() as root:
            found: list[FolderInfo] = []
            for folder in folders.all(root):
                messages = unseen = 0
                for entry in folders.entries(root, [folder]):
                    messages += 1
                    unseen += "S" not in (names.letters(entry.info) or ())
                found.append(FolderInfo(folder, messages, unseen))
            return found

    def _list(self, folders: Folders, folder: str | None) -> list[Found]:
        with folders.root() as root:
            there = folders.all(root)
            if folder is not None and folder not in there:
                raise Refused(f"There is no folder {folder!r}.", advice="Call list_mailboxes to see which there are.")
            entries = folders.entries(root, there if folder is None else [folder])
            found = [
                Found(e.key, e.folder, names.letters(e.info) or frozenset(), e.stats.st_mtime_ns, e.stats.st_size)
                for e in entries
            ]
        return sorted(found, key=lambda each: (-each.date_ns, each.key))


def _with_flags(placement: Placement, letters: frozenset[str]) -> Placement:
    # flags are said in `cur` only
    return dataclasses.replace(placement, flags=letters, ref={"in": "cur", "info": names.info_of(letters)})
