"""Passwords go to the server that they were given for, and to no other."""

from __future__ import annotations

import keyring
import keyring.backend
import pytest

from takeback.tools.email.credentials import keep_password, password_of
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.system import Refused


class Kept(keyring.backend.KeyringBackend):
    """A keyring of one test."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password


@pytest.fixture
def kept():
    before = keyring.get_keyring()
    keyring.set_keyring(Kept())
    yield
    keyring.set_keyring(before)


def settings(smtp: str, username: str = "ada") -> MailboxSettings:
    return MailboxSettings.model_validate(
        {"path": "/mail", "smtp": smtp, "address": "ada@example.org", "username": username}
    )


def test_another_host_or_user_has_no_password_yet(kept: None):
    url = "smtp://mail.example.org:587"
    keep_password("work", settings(url), url, "correct horse")
    assert password_of("work", settings(url), url) == "correct horse"
    again = "smtps://MAIL.example.org:465"  # the same host
    assert password_of("work", settings(again), again) == "correct horse"
    for name, its in (
        ("work", settings("smtp://mail.example.net")),
        ("work", settings(url, "eve")),
        ("home", settings(url)),
    ):
        assert its.smtp is not None
        with pytest.raises(Refused) as refused:
            password_of(name, its, its.smtp)
        assert "horse" not in f"{refused.value} {refused.value.advice}"


def test_an_entry_without_a_host_goes_nowhere(kept: None):
    keyring.set_password("takeback", "mailbox/work", "correct horse")
    with pytest.raises(Refused):
        password_of("work", settings("smtp://mail.example.net"), "smtp://mail.example.net")
