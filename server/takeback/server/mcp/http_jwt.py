"""OAuth for teams: access tokens that an authorization server has signed (RFC 9068), checked with the keys it publishes.

A token must be signed by one of the issuer's present keys with a public-key algorithm, name this server as its audience,
name its issuer and its subject, and not be out of date. Nothing in the token chooses where keys come from or what is
checked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import httpx2
import jwt

from takeback.server.mcp.http_tokens import Identity

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Public-key signatures only: with a shared secret, whoever can check a token can make one."""

LEEWAY_SECONDS: Final = 10
FRESH_SECONDS: Final = 300.0
"""After so long the keys are read again before they are used."""
PAUSE_SECONDS: Final = 10.0
"""Between two readings, whatever tokens ask for: a made-up key id must not become a request to the issuer each time."""
STALE_SECONDS: Final = 3600.0
"""So long the last keys are good while the issuer cannot be reached."""
FETCH_SECONDS: Final = 5.0
JWKS_BYTES: Final = 256 * 1024
LONGEST: Final = 200
"""Characters of a subject or client id."""
_TYPES: Final = {"at+jwt", "application/at+jwt", "jwt"}

_log = logging.getLogger("takeback")

Source = Callable[[], Awaitable[bytes]]


class KeysUnavailable(Exception):
    """The issuer's keys cannot be had at the moment, so nobody can be let in or turned away."""


def from_file(path: Path) -> Source:
    """Keys in a file, read anew when it is time to."""

    async def read() -> bytes:
        return await asyncio.to_thread(path.read_bytes)

    return read


def from_url(url: str) -> Source:
    """Keys at an address. No redirects: the address is the configuration's word."""

    async def read() -> bytes:
        body = bytearray()
        async with (
            httpx2.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False) as client,
            client.stream("GET", url, headers={"Accept": "application/jwk-set+json, application/json"}) as answer,
        ):
            answer.raise_for_status()
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > JWKS_BYTES:
                    raise ValueError("the key set is too large")
        return bytes(body)

    return read


class Keys:
    """The issuer's keys, read when needed and kept for a while."""

    def __init__(self, source: Source, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._clock = source, clock
        self._keys: dict[str | None, list[jwt.PyJWK]] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._reading = asyncio.Lock()

    async def find(self, kid: str | None) -> list[jwt.PyJWK]:
        """The keys of that id, or all if the token names none.

        :raises KeysUnavailable:
        """
        if not self._fresh() or (kid is not None and kid not in self._keys):
            await self._renew(kid)
        if self._read_at is None or self._clock() - self._read_at > STALE_SECONDS:
            raise KeysUnavailable
        if kid is None:
            return [key for keys in self._keys.values() for key in keys]
        return self._keys.get(kid, [])

    def _fresh(self) -> bool:
        return self._read_at is not None and self._clock() - self._read_at < FRESH_SECONDS

    async def _renew(self, kid: str | None) -> None:
        async with self._reading:
            if self._fresh() and (kid is None or kid in self._keys):
                return  # somebody else has just done it
            now = self._clock()
            if self._tried_at is not None and now - self._tried_at < PAUSE_SECONDS:
                return
            self._tried_at = now
            try:
                async with asyncio.timeout(FETCH_SECONDS):
                    self._keys = _usable(await self._source())
                self._read_at = now
            except (OSError, ValueError, TimeoutError, httpx2.HTTPError) as error:
                _log.warning("The issuer's keys could not be read (%s).", type(error).__name__)


def _usable(raw: bytes) -> dict[str | None, list[jwt.PyJWK]]:
    """Public signing keys by id. Others in the set are for others.

    :raises ValueError: it is no key set.
    """
    document: object = json.loads(raw)
    listed = cast(dict[str, Any], document).get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("not a key set")
    found: dict[str | None, list[jwt.PyJWK]] = {}
    for each in cast(Sequence[object], listed):
        if not isinstance(each, dict):
            continue
        description = cast(dict[str, Any], each)
        if description.get("kty") not in ("RSA", "EC", "OKP") or description.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(description)
        except jwt.PyJWTError:
            continue
        found.setdefault(key.key_id, []).append(key)
    return found


class SignedTokens:
    """Access tokens of one issuer for one resource."""

    def __init__(self, keys: Keys, *, issuer: str, resource: str) -> None:
        self._keys, self._issuer = keys, issuer
        self._audience = sorted({resource, resource.rstrip("/"), resource.rstrip("/") + "/"})

    async def identify(self, token: str) -> Identity | None:
        """Whose the token is.

        :raises KeysUnavailable:
        """
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            return None
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if algorithm not in ALGORITHMS or not isinstance(kid, str | None) or str(kind).lower() not in _TYPES:
            return None
        for key in await self._keys.find(kid):
            if key.algorithm_name != algorithm:
                continue
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    issuer=self._issuer,
                    audience=self._audience,
                    leeway=LEEWAY_SECONDS,
                    options={"require": ["exp", "iss", "aud", "sub"]},
                )
            except jwt.PyJWTError as error:
                _log.info("A token was refused (%s).", type(error).__name__)
                continue
            return self._identity(claims)
        return None

    def _identity(self, claims: dict[str, Any]) -> Identity | None:
        subject, client = claims["sub"], claims.get("client_id") or claims.get("azp") or claims["sub"]
        if not _plain(subject) or not _plain(client):
            return None
        return Identity(
            principal=f"oauth:{self._issuer}#{subject}",
            client=client,
            scopes=_scopes(claims),
            expires_at=int(claims["exp"]) + LEEWAY_SECONDS,
            issuer=self._issuer,
            subject=subject,
        )


def _plain(word: object) -> bool:
    """Short and printable: it ends up in the journal and on terminals."""
    return isinstance(word, str) and 0 < len(word) <= LONGEST and word.isprintable()


def _scopes(claims: dict[str, Any]) -> tuple[str, ...]:
    """`scope` as RFC 9068 writes it, or `scp` as some servers do."""
    given: object = claims.get("scope", claims.get("scp", ()))
    if isinstance(given, str):
        return tuple(given.split())
    if not isinstance(given, list):
        return ()
    return tuple(each for each in cast(Sequence[object], given) if isinstance(each, str))
