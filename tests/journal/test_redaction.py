"""What is called a secret or looks like one does not get into the journal; ordinary content does, unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from takeback.journal.redaction import is_secret_name, redact, redact_text

SALT = b"salt of these tests"


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PASSWORD",
        "db_password",
        "userPassword",
        "passphrase",
        "apiKey",
        "api_key",
        "api-key",
        "X-API-Key",
        "token",
        "access_token",
        "authToken",
        "client_secret",
        "Authorization",
        "aws_secret_access_key",
        "private_key",
        "Set-Cookie",
        "credentials",
    ],
)
def test_names_that_say_secret_are_known(name: str) -> None:
    assert is_secret_name(name)
    found = redact({"outer": [{name: "hunter2"}]}, SALT)
    assert "hunter2" not in str(found)
    assert "redacted:hmac:" in str(found)


@pytest.mark.parametrize(
    "name",
    [
        "path",
        "content",
        "key",
        "tokens",
        "max_tokens",
        "token_count",
        "password_hint",
        "secret_name",
        "author",
        "monkey",
        "keyboard",
    ],
)
def test_names_that_only_remind_of_one_are_left_alone(name: str) -> None:
    assert redact({name: "hunter2"}, SALT) == {name: "hunter2"}


SECRETS = {
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAK\n-----END RSA PRIVATE KEY-----",
    "private key without an end": "-----BEGIN PRIVATE KEY-----\nMIIBOgIBAAJBAK",
    "web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    "access key": "AKIAIOSFODNN7EXAMPLE",
    "model key": "sk-proj-abcdefghijklmnop1234",
    "repository token": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "password in a statement": "hunter2hunter2",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_shapes_of_secrets_are_known_inside_other_text(kind: str) -> None:
    secret = SECRETS[kind]
    text = f"before {secret} after"
    if kind.startswith("password"):
        text = f"ALTER USER me PASSWORD '{secret}' ; after"
    found = redact_text(text, SALT)
    assert secret not in found
    assert "redacted:hmac:" in found
    assert found.endswith("after") or kind.endswith("without an end")


@pytest.mark.parametrize(
    ("text", "secret", "kept"),
    [
        ("https://me:hunter2@host/path", "hunter2", "@host/path"),
        ("postgres://me:hunter2@host/db", "hunter2", "postgres://me:"),
        ("https://abcdef0123@host/path", "abcdef0123", "@host/path"),
        ("Authorization: Basic aHVudGVyMg==", "aHVudGVyMg==", "Authorization: "),
        ("curl -H 'bearer abcdef0123456789abc'", "abcdef0123456789abc", "bearer "),
        ("https://host/x?token=hunter2hunter&page=2", "hunter2hunter", "&page=2"),
        ("DB_PASSWORD=hunter2\nDEBUG=1", "hunter2", "\nDEBUG=1"),
        ('api_key = "hunter2hunter2"', "hunter2", "api_key = "),
        ("[db]\nuser = me\npassword = hunter2\nport = 5432", "hunter2", "\nport = 5432"),
        ("spring.datasource.password=hunter2\r\nmore", "hunter2", "\r\nmore"),
        ("  client_secret: hunter2\nother: x", "hunter2", "  client_secret: "),
    ],
)
def test_only_the_secret_goes_and_the_rest_stays(text: str, secret: str, kept: str) -> None:
    found = redact_text(text, SALT)
    assert secret not in found
    assert kept in found


@pytest.mark.parametrize(
    "text",
    [
        "token = get_token()\npassword: str = Field(...)\nif secret == other_secret:",
        "the bearer of responsibilities and basic understanding",
        "ssh://git@host/repository.git and mailto:me@example.org at http://host:8080/@me",
        "sk-1, task-list, AKIA, eyJ, risk-assessment",
        "git commit 3f786850e387550fdab836ed7e6dc881de23001b",
    ],
)
def test_ordinary_text_passes_unchanged(text: str) -> None:
    assert redact_text(text, SALT) == text


def test_equal_secrets_are_recognisable_as_equal_under_one_salt_only() -> None:
    first, again = redact({"password": "a"}, SALT), redact({"password": "a"}, SALT)
    assert first == again
    assert redact({"password": "b"}, SALT) != first
    assert redact({"password": "a"}, b"other salt") != first


def test_nothing_is_no_secret_and_structures_keep_their_shape() -> None:
    value = {"password": None, "token": "", "secret": True, "n": [1, 2.5, None], "deep": {"a": [{"b": "c"}]}}
    assert redact(value, SALT) == value
    assert redact(("a", 1), SALT) == ["a", 1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_redacting_twice_is_redacting_once(value: object) -> None:
    once = redact(value, SALT)
    assert redact(once, SALT) == once
