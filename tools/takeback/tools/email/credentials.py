"""Passwords of mailboxes: one for each server."""

from __future__ import annotations

import os
from collections.abc import Mapping

from takeback.tools import passwords
from takeback.tools.email.settings import MailboxSettings, server


def password_of(name: str, settings: MailboxSettings, url: str, environment: Mapping[str, str] = os.environ) -> str:
    """The password for that server of the mailbox. It appears in no error.

    :param url: the settings' imap or smtp.
    :raises Refused: there is none.
    :raises Unavailable: the keyring cannot be asked.
    """
    return passwords.password_of(f"mailbox {name}", entry(name, settings, url), settings.password_variable, environment)


def keep_password(name: str, settings: MailboxSettings, url: str, password: str) -> None:
    """Put it into the keyring.

    :raises Unavailable: the keyring does not take it.
    """
    passwords.keep_password(entry(name, settings, url), password)


def entry(name: str, settings: MailboxSettings, url: str) -> str:
    """What the keyring calls it: `mailbox/work anna@imap.example.org`."""
    where = server(url)
    assert where is not None, "checked when the settings were read"
    return f"mailbox/{name} {settings.username}@{where[1].lower()}"
