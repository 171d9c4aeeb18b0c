"""Passwords of mailboxes: in the environment variable that the settings name, or in the keyring of the operating system.

An entry of the keyring names the host and the user: if the configuration names another server, there is no password for it yet,
and the old one does not go there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from takeback.tools.email.settings import MailboxSettings, server
from takeback.tools.system import Refused, Unavailable

SERVICE: Final = "takeback"


def password_of(name: str, settings: MailboxSettings, url: str, environment: Mapping[str, str] = os.environ) -> str:
    """The password for that server of the mailbox. It appears in no error.

    :param url: the settings' imap or smtp.
    :raises Refused: there is none.
    :raises Unavailable: the keyring cannot be asked.
    """
    if settings.password_variable:
        given = environment.get(settings.password_variable)
        if not given:
            raise Refused(
                f"There is no password for the mailbox {name}: the variable {settings.password_variable} is not set.",
                advice="Set it where the server is started.",
            )
        return given
    import keyring  # not before a password is needed
    from keyring.errors import KeyringError

    try:
        kept = keyring.get_password(SERVICE, entry(name, settings, url))
    except KeyringError:
        raise Unavailable(
            f"The keyring with the password of {name} cannot be opened.",
            advice="Unlock it, or name an environment variable by password_variable.",
        ) from None
    if kept is None:
        raise Refused(f"There is no password for the mailbox {name}.", advice=f"Run takeback connect mailbox {name}.")
    return kept


def keep_password(name: str, settings: MailboxSettings, url: str, password: str) -> None:
    """Put it into the keyring.

    :raises Unavailable: the keyring does not take it.
    """
    import keyring
    from keyring.errors import KeyringError

    try:
        keyring.set_password(SERVICE, entry(name, settings, url), password)
    except KeyringError:
        raise Unavailable(
            "The keyring does not take the password.",
            advice="Unlock it, or name an environment variable by password_variable.",
        ) from None


def entry(name: str, settings: MailboxSettings, url: str) -> str:
    """What the keyring calls it: `mailbox/work anna@imap.example.org`."""
    where = server(url)
    assert where is not None, "checked when the settings were read"
    return f"mailbox/{name} {settings.username}@{where[1].lower()}"
