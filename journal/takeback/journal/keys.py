"""The keys of the chain: made once, kept apart from the data they vouch for, named by every event, never replaced.

By default they are one file with mode 0600 outside the data directory; `OsKeyring` keeps the same document in the operating
system's keyring. Rotating adds a key for new events; the old ones stay, because old events are verified with them.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import platformdirs

from takeback.journal.log import KeyUnavailable
from takeback.journal.oslock import FileLock

_KEY_BYTES: Final = 32
_ID = re.compile(r"key_[0-9a-f]{16}")


def default_key_file(name: str = "journal") -> Path:
    """Where the keys of a journal lie unless somebody says otherwise: below the user's configuration folder."""
    return Path(platformdirs.user_config_dir("takeback")) / "keys" / f"{name}.json"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. Its id is made from it, so that a key under a foreign name is noticed."""

    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Key({self.id})"  # the secret stays out of logs and tracebacks


def new_key() -> Key:
    """A fresh random key."""
    return _named(secrets.token_bytes(_KEY_BYTES))


def _named(secret: bytes) -> Key:
    return Key(id=f"key_{hmac.digest(secret, b'takeback key id', 'sha256').hex()[:16]}", secret=secret)


class KeyStore(ABC):
    """Where the document with the keys lies."""

    @abstractmethod
    def load(self) -> str | None:
        """The document; `None` if there is none.

        :raises KeyUnavailable: there may be one, but it cannot be read.
        """

    @abstractmethod
    def create(self, text: str) -> str:
        """Put the first document there, unless another process was faster; the document that is there now."""

    @abstractmethod
    def replace(self, old: str, new: str) -> None:
        """Put a new document in the place of `old`.

        :raises KeyUnavailable: the document is no longer `old`.
        """


class KeyFile(KeyStore):
    """The document as a file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return f"key file {self.path.name}"

    def load(self) -> str | None:
        try:
            return self.path.read_text(encoding="ascii")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise KeyUnavailable(f"the {self} cannot be read ({type(error).__name__})") from error

    def create(self, text: str) -> str:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._write_beside(text)
        try:
            # the document appears whole and exactly once: of several processes all but one find it there
            if sys.platform == "win32":
                fresh.rename(self.path)
            else:
                os.link(fresh, self.path)
                self._sync_folder()
        except FileExistsError:
            pass
        finally:
            fresh.unlink(missing_ok=True)
        found = self.load()
        if found is None:
            raise KeyUnavailable(f"the {self} vanished while it was made")
        return found

    def replace(self, old: str, new: str) -> None:
        lock = FileLock(self.path.with_name(f"{self.path.name}.lock"), timeout=10)
        try:
            with lock.held():
                if self.load() != old:
                    raise KeyUnavailable(f"the {self} was changed by another process")
                fresh = self._write_beside(new)
                fresh.replace(self.path)
                self._sync_folder()
        finally:
            lock.close()

    def _write_beside(self, text: str) -> Path:
        fresh = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        with open(fd, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return fresh

    def _sync_folder(self) -> None:
        if sys.platform == "win32":
            return
        fd = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class OsKeyring(KeyStore):
    """The document in the keyring of the operating system."""

    def __init__(self, name: str, service: str = "takeback journal") -> None:
        self._service, self._name = service, name

    def __str__(self) -> str:
        return f"keyring entry {self._service}/{self._name}"

    def load(self) -> str | None:
        import keyring
        from keyring.errors import KeyringError

        try:
            return keyring.get_password(self._service, self._name)
        except KeyringError as error:
            raise KeyUnavailable(f"the {self} cannot be read ({type(error).__name__})") from error

    def create(self, text: str) -> str:
        # keyrings cannot create exclusively, so whoever comes later looks again before and after
        found = self.load()
        if found is None:
            self._set(text)
            found = self.load()
        if found is None:
            raise KeyUnavailable(f"the {self} was not kept by the keyring")
        return found

    def replace(self, old: str, new: str) -> None:
        if self.load() != old:
            raise KeyUnavailable(f"the {self} was changed by another process")
        self._set(new)

    def _set(self, text: str) -> None:
        import keyring
        from keyring.errors import KeyringError

        try:
            keyring.set_password(self._service, self._name, text)
        except KeyringError as error:
            raise KeyUnavailable(f"the {self} cannot be written ({type(error).__name__})") from error


class KeyRing:
    """The keys that are at hand, and which of them new events are chained with."""

    def __init__(self, store: KeyStore | None, keys: dict[str, Key], current: str | None) -> None:
        self._store, self._keys, self._current = store, keys, current

    @classmethod
    def of(cls, key: Key) -> KeyRing:
        """A ring of one key that lies nowhere: for journals in memory."""
        return cls(None, {key.id: key}, key.id)

    @classmethod
    def load(cls, store: KeyStore) -> KeyRing:
        """The keys of a store; an empty ring if there are none.

        :raises KeyUnavailable: what lies there cannot be read.
        """
        ring = cls(store, {}, None)
        ring.reload()
        return ring

    @property
    def empty(self) -> bool:
        """True if there is no key at all."""
        return self._current is None

    def reload(self) -> None:
        """Look again: another process may have made or rotated the keys. Keys once seen stay known."""
        if self._store is None:
            return
        text = self._store.load()
        if text is not None:
            self._read(text)

    def create(self) -> None:
        """Make the first key, unless another process is faster; then take that one."""
        if self._store is None or not self.empty:
            return
        key = new_key()
        self._read(self._store.create(_document({key.id: key}, key.id)))

    def rotate(self) -> str:
        """Make a new key for new events and return its id. Old events are still verified with the old keys."""
        key = new_key()
        keys = {**self._keys, key.id: key}
        if self._store is not None:
            text = self._store.load()
            if text is None:
                raise KeyUnavailable("there is no key to rotate")
            self._read(text)
            keys = {**self._keys, key.id: key}
            self._store.replace(text, _document(keys, key.id))
        self._keys, self._current = keys, key.id
        return key.id

    @property
    def current(self) -> Key:
        """The key for new events.

        :raises KeyUnavailable: there is none.
        """
        if self._current is None:
            raise KeyUnavailable("the journal's key is missing")
        return self._keys[self._current]

    def find(self, key_id: str) -> Key | None:
        """A key by its id."""
        return self._keys.get(key_id)

    def _read(self, text: str) -> None:
        keys, current = _keys_of(text)
        self._keys, self._current = {**self._keys, **keys}, current


def _document(keys: dict[str, Key], current: str) -> str:
    return json.dumps({"current": current, "keys": {key.id: key.secret.hex() for key in keys.values()}}, indent=1)


def _keys_of(text: str) -> tuple[dict[str, Key], str]:
    try:
        document = cast("dict[str, object]", json.loads(text))
        named = cast("dict[str, str]", document["keys"])
        current = str(document["current"])
        keys = {id: _named(bytes.fromhex(secret)) for id, secret in named.items()}
        # a key whose id is not made from it was put under a foreign name
        whole = current in keys and all(_ID.fullmatch(id) and key.id == id for id, key in keys.items())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KeyUnavailable("what lies in the place of the journal's key is not a key") from error
    if not whole:
        raise KeyUnavailable("what lies in the place of the journal's key was changed")
    return keys, current
