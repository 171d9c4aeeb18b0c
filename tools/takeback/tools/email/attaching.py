"""Files of the workspace as attachments: reached as the file tools reach them, through no link and out of no root."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread
from blake3 import blake3

from takeback.journal.states import Effect
from takeback.tools.email.compose import LARGEST, Attachment
from takeback.tools.files.calls import OPEN_READ, Calls
from takeback.tools.files.choosing import choose_calls
from takeback.tools.files.paths import Names
from takeback.tools.outbox.port import ATTACHED
from takeback.tools.system import Refused


def told_of(effects: Sequence[Effect], attachments: Sequence[Attachment]) -> tuple[Effect, ...]:
    """The effects of a new message, which say what is attached to it."""
    if not attachments:
        return tuple(effects)
    whole = blake3()
    for each in attachments:
        whole.update(blake3(each.name.encode("utf-8", "surrogatepass")).digest() + blake3(each.data).digest())
    ref = {ATTACHED: f"blake3:{whole.hexdigest()}"}
    return tuple(
        effect.model_copy(update={"after": effect.after.model_copy(update={"ref": {**effect.after.ref, **ref}})})
        for effect in effects
    )


class Attaching:
    """Reads files of the workspace. The folders are opened when the first file is asked for."""

    def __init__(self, roots: Sequence[Path], data: Path, *, portable: bool) -> None:
        self._roots, self._data, self._portable = roots, data, portable
        self._names: Names | None = None
        self._calls: Calls | None = None

    def close(self) -> None:
        """Let go of the folders."""
        if self._names is not None:
            self._names.close()

    async def read(self, paths: Sequence[str]) -> tuple[Attachment, ...]:
        """The files, whole.

        :raises Refused: one is no file in the workspace, or they are too large together.
        """
        return await anyio.to_thread.run_sync(self._read, paths) if paths else ()

    def _read(self, paths: Sequence[str]) -> tuple[Attachment, ...]:
        if not self._roots:
            raise Refused("There is no workspace to attach files from.", advice="Leave attachments out.")
        if self._names is None or self._calls is None:
            self._calls = choose_calls(
                os.fsencode(os.path.abspath(self._data)), [os.fsencode(r) for r in self._roots], portable=self._portable
            )
            self._names = Names(self._calls, self._roots, self._data)
        left = LARGEST
        found: list[Attachment] = []
        for path in paths:
            data = self._one(self._calls, self._names, path, left)
            left -= len(data)
            found.append(Attachment(os.path.basename(path.replace("\\", "/").rstrip("/")), data))
        return tuple(found)

    def _one(self, calls: Calls, names: Names, path: str, left: int) -> bytes:
        if not path or "\0" in path or len(path) > 4096:
            raise Refused("The path of an attachment is none.", advice="Copy it from list_directory.")
        place = names.resolve(path)
        missing = Refused(f"The attachment {place.shown} is no file.", advice="Name a file in the workspace.")
        if not place.parts:
            raise missing
        try:
            with calls.open_below(place.root_dir, place.parts[:-1]) as folder:
                fd = calls.open_file(folder, place.name, OPEN_READ)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                raise missing from error
            raise Refused(
                f"The attachment {place.shown} cannot be read: {error.strerror}.", advice="Check its permissions."
            ) from error
        with os.fdopen(fd, "rb") as file:
            there = os.fstat(fd)
            if not stat.S_ISREG(there.st_mode):
                raise missing
            data = file.read(left + 1) if there.st_size <= left else b""
            if there.st_size > left or len(data) > left:
                raise Refused(
                    f"The attachments have more than {LARGEST:,} bytes together.", advice="Attach less, or send a link."
                )
            return data
