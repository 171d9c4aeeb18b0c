"""The issuer's keys: read when needed, not more often, and not for ever."""

from __future__ import annotations

import json

import pytest
from tests.http.house import ISSUER, RESOURCE, Issuer

from takeback.server.mcp.http_jwt import (
    FRESH_SECONDS,
    PAUSE_SECONDS,
    STALE_SECONDS,
    Keys,
    KeysUnavailable,
    SignedTokens,
)


class Published:
    """Keys at an address that may be out of reach, and a clock that is set by hand."""

    def __init__(self, issuer: Issuer) -> None:
        self.document, self.read, self.time, self.reachable = issuer.published().encode(), 0, 1000.0, True

    async def __call__(self) -> bytes:
        self.read += 1
        if not self.reachable:
            raise OSError
        return self.document

    def tokens(self) -> SignedTokens:
        return SignedTokens(Keys(self, clock=lambda: self.time), issuer=ISSUER, resource=RESOURCE)


async def test_keys_are_read_once_for_many_tokens(issuer: Issuer) -> None:
    published = Published(issuer)
    tokens = published.tokens()
    for name in ("carol", "dave", "carol"):
        identity = await tokens.identify(issuer.token(name))
        assert identity is not None
        assert (identity.subject, identity.scopes) == (name, ("takeback", "openid"))
    assert published.read == 1


async def test_made_up_key_ids_do_not_make_requests(issuer: Issuer) -> None:
    published = Published(issuer)
    tokens = published.tokens()
    for number in range(50):
        assert await tokens.identify(issuer.token(key=issuer.other, kid=f"made-up-{number}")) is None
    assert published.read == 1


async def test_a_new_key_is_found_and_an_old_one_forgotten(issuer: Issuer) -> None:
    published, successor = Published(issuer), Issuer()
    tokens = published.tokens()
    assert await tokens.identify(issuer.token())
    document = json.loads(successor.published())
    document["keys"][0]["kid"] = "three"
    published.document = json.dumps(document).encode()
    published.time += PAUSE_SECONDS
    assert await tokens.identify(successor.token(kid="three"))
    assert await tokens.identify(issuer.token()) is None


async def test_a_revoked_key_is_no_good_once_the_keys_are_read_anew(issuer: Issuer) -> None:
    published = Published(issuer)
    tokens = published.tokens()
    assert await tokens.identify(issuer.token())
    published.document = b'{"keys": []}'
    published.time += FRESH_SECONDS
    assert await tokens.identify(issuer.token()) is None


async def test_an_outage_of_the_issuer_is_bridged_but_not_for_ever(issuer: Issuer) -> None:
    published = Published(issuer)
    tokens = published.tokens()
    assert await tokens.identify(issuer.token())
    published.reachable = False
    published.time += FRESH_SECONDS
    assert await tokens.identify(issuer.token())
    published.time += STALE_SECONDS
    with pytest.raises(KeysUnavailable):
        await tokens.identify(issuer.token())


@pytest.mark.parametrize("document", [b"", b"[]", b'{"keys": 3}', b"<html>", b"\xff"])
async def test_what_is_no_key_set_is_no_reason_to_let_anybody_in(issuer: Issuer, document: bytes) -> None:
    published = Published(issuer)
    published.document = document
    with pytest.raises(KeysUnavailable):
        await published.tokens().identify(issuer.token())


async def test_keys_without_ids_are_tried_in_turn(issuer: Issuer) -> None:
    published = Published(issuer)
    document = json.loads(published.document)
    for key in document["keys"]:
        key.pop("kid", None)
    published.document = json.dumps(document).encode()
    header_without_kid = issuer.token(kid=None)
    assert await published.tokens().identify(header_without_kid)
