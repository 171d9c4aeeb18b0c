"""Names of objects: keyed BLAKE3 of the content. The key is one small file beside the objects.

Keyed, so that a name tells nothing about the content to whoever sees the journal but not the store. The key is made once and
never replaced: with another key no stored object could be found again.
"""

from __future__ import annotations

import os
import secrets
import string
from typing import Final

from blake3 import blake3

from takeback.checkpoints.objects import ObjectError
from takeback.checkpoints.oslock import held

PREFIX: Final = "blake3:"
_HEX: Final = frozenset(string.digits + "abcdef")
_KEY_BYTES: Final = 32


class NamesKeyUnavailable(ObjectError):
    """The key for names is gone or damaged while there are objects. It is never replaced."""

    advice = "Put names.key back from a backup; without it no stored object can be found again."


class Names:
    """Makes names with one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def digest(self, data: bytes) -> str:
        """The hexadecimal part of the name."""
        return blake3(data, key=self._key).hexdigest()

    def name(self, data: bytes) -> str:
        """`blake3:` and 64 hexadecimal digits."""
        return PREFIX + self.digest(data)


def digest_of(name: str) -> str | None:
    """The hexadecimal part of a name; `None` for anything that no store of ours can have named."""
    digest = name.removeprefix(PREFIX)
    return digest if digest != name and len(digest) == 2 * _KEY_BYTES and _HEX.issuperset(digest) else None


def load_key(path: str, *, lock: str, in_use: bool) -> bytes:
    """Read the key; make one if there is none yet. Safe in several processes at once: all get the same.

    :param lock: file whose lock is held while a key is made.
    :param in_use: there are objects already, so that a missing key is a loss and not a beginning.
    :raises NamesKeyUnavailable:
    """
    key = _read(path)
    if key is not None:
        return key
    with held(lock):
        key = _read(path)
        if key is not None:
            return key
        if in_use:
            raise NamesKeyUnavailable("the key for object names is missing although objects are stored")
        key = secrets.token_bytes(_KEY_BYTES)
        beside = f"{path}.{secrets.token_hex(4)}.new"
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(fd, key.hex().encode("ascii") + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(beside, path)
        sync_directory(os.path.dirname(path))
        return key


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            text = file.read(1024)
    except FileNotFoundError:
        return None
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError as error:
        raise NamesKeyUnavailable("the key for object names is not readable") from error
    if len(key) != _KEY_BYTES:
        raise NamesKeyUnavailable("the key for object names is damaged")
    return key


def sync_directory(path: str) -> None:
    """Make renames in this folder survive a power cut. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
