"""Bearer tokens of the HTTP server that are known by their digests: the local one, and those of named people.

A token is compared by its digest, in constant time, with each that is known. What passes on from here is who it belongs to,
never the token.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

FILE_NAME: Final = "http.token"
SHORTEST: Final = 20
"""Characters; what is shorter could be guessed."""
_PREFIX: Final = "sha256:"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token belongs to."""

    principal: str
    client: str
    """The program that the token was given to; the principal where that is not known."""
    scopes: tuple[str, ...] = ()
    expires_at: int | None = None
    """Seconds since 1970; None: it does not expire."""
    issuer: str | None = None
    subject: str | None = None


class Verifier(Protocol):
    """Tells whose a token is."""

    async def identify(self, token: str) -> Identity | None:
        """None: it is not valid."""
        ...


class KnownTokens:
    """Tokens known by digest."""

    def __init__(self, principals: Mapping[str, str]) -> None:
        """
        :param principals: per digest (`digest_of`), whose it is.
        """
        self._known = [(digest.encode(), Identity(principal, principal)) for digest, principal in principals.items()]

    async def identify(self, token: str) -> Identity | None:
        given = digest_of(token).encode()
        found: Identity | None = None
        for digest, identity in self._known:  # all of them, so that time says nothing about which
            if hmac.compare_digest(given, digest):
                found = identity
        return found


def digest_of(token: str) -> str:
    """As it stands in `[http.tokens]`. Tokens are random and long, so a plain digest cannot be reversed."""
    return _PREFIX + hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def new_token() -> str:
    """A token of 256 random bits."""
    return secrets.token_urlsafe(32)


def named_principal(name: str) -> str:
    """The principal of a name in `[http.tokens]`."""
    return f"token:{name}"


class UnsafeToken(Exception):
    """The token cannot be used as it is: one sentence of fact, one of advice."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message, self.advice = message, advice


def check_given(token: str) -> None:
    """Refuse a token from the environment that is no good.

    :raises UnsafeToken:
    """
    if len(token) < SHORTEST or not token.isascii() or any(c.isspace() or not c.isprintable() for c in token):
        raise UnsafeToken(
            f"The token in the environment has fewer than {SHORTEST} characters, or some that a header cannot carry.",
            "Take a random one: takeback token NAME prints one.",
        )


def token_file(data: Path) -> Path:
    """Where the token of this data directory lies."""
    return data / FILE_NAME


def local_token(data: Path) -> tuple[str, bool]:
    """The token of this data directory, and whether it has just been made.

    :raises UnsafeToken: the file can be read by others, or holds no token.
    :raises OSError:
    """
    path = token_file(data)
    known = _read(path)
    if known is not None:
        return known, False
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = data / f".{FILE_NAME}.{secrets.token_hex(8)}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    ours = True
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(new_token() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:  # another process was first: its token is ours too
            ours = False
        except OSError:  # a file system without hard links
            os.replace(fresh, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
    made = _read(path)
    if made is None:
        raise UnsafeToken(f"The token in {path} cannot be read back.", "Look whether the disk is full.")
    return made, ours


def _read(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        mode = os.fstat(file.fileno()).st_mode
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise UnsafeToken(f"Others can read the token in {path}.", "Delete the file; a new token is made.")
        token = file.read(4096).strip()
    if len(token) < SHORTEST:
        raise UnsafeToken(f"There is no token in {path}.", "Delete the file; a new one is made.")
    return token
