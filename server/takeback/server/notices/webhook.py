"""Signed webhooks, as the Standard Webhooks specification (standardwebhooks.com) has them.

Each request has `webhook-id`, `webhook-timestamp` (seconds since 1970) and `webhook-signature`: `v1,` and the base64 of an
HMAC-SHA256 over `id.timestamp.body`. A secret that begins with `whsec_` is base64, any other is taken by its bytes. The id
stays the same when a request is repeated, so that a receiver that has seen it can pass it over.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Mapping
from typing import Final

from takeback.server.notices.channel import Channel, Notice, NotSent
from takeback.server.notices.settings import WebhookSettings

SECONDS: Final = 10.0
SERVICE: Final = "takeback"
PREFIX: Final = "whsec_"
_LATER: Final = frozenset({408, 409, 421, 425, 429})
"""Answers after which the same request may be taken later, as it may after 500 and above."""


def new_secret() -> str:
    """A fresh secret of 256 bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """The key that a secret stands for.

    :raises ValueError: it begins with `whsec_` and is no base64.
    """
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("a secret that begins with whsec_ has to go on in base64") from error


def signed(key: bytes, id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers by which a receiver knows that the request is ours, whole, and when it was made."""
    mac = hmac.digest(key, b".".join((id.encode(), str(timestamp).encode(), body)), hashlib.sha256)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def secret_of(name: str, settings: WebhookSettings, environment: Mapping[str, str] = os.environ) -> str:
    """The secret of a webhook. It appears in no error.

    :raises LookupError: there is none; in words.
    """
    if settings.secret_variable:
        if not (given := environment.get(settings.secret_variable)):
            raise LookupError(f"the environment variable {settings.secret_variable}, with its secret, is not set")
        return given
    import keyring
    from keyring.errors import KeyringError

    try:
        kept = keyring.get_password(SERVICE, entry_of(name, settings))
    except KeyringError:
        raise LookupError("the keyring with its secret cannot be opened") from None
    if not kept:
        raise LookupError(f"it has no secret yet: takeback notices secret {name} makes one")
    return kept


def entry_of(name: str, settings: WebhookSettings) -> str:
    """Where the keyring has the secret: at another url the old one must not sign."""
    return f"webhook/{name} {settings.url}"


async def post(url: str, key: bytes, id: str, body: bytes, content_type: str) -> None:
    """Post a signed request. Redirects are not followed: what is signed is meant for one place.

    :raises NotSent: it was not taken.
    """
    import httpx2

    headers = {"content-type": content_type, "user-agent": "takeback", **signed(key, id, int(time.time()), body)}
    try:
        async with httpx2.AsyncClient(timeout=SECONDS, follow_redirects=False, trust_env=False) as client:
            answer = await client.post(url, content=body, headers=headers)
    except (httpx2.HTTPError, OSError) as error:
        raise NotSent(f"the server could not be reached ({type(error).__name__})", again=True) from error
    if answer.is_success:
        return
    again = answer.status_code >= 500 or answer.status_code in _LATER
    raise NotSent(f"the server answered {answer.status_code}", again=again)


class Webhook(Channel):
    """One webhook of the configuration."""

    repeatable = True

    def __init__(self, name: str, url: str, key: bytes) -> None:
        self.name, self._url, self._key = name, url, key

    async def send(self, notice: Notice) -> None:
        body = {"type": notice.kind, "id": notice.id, "title": notice.title, "text": notice.body, **notice.data}
        await post(
            self._url, self._key, notice.id, json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace"),
            "application/json",
        )  # fmt: skip
