"""Passwords of servers: in the environment variable that the settings name, or in the keyring of the operating system.

An entry of the keyring names server and user: if the configuration names another server, there is no password for it yet, and
the old one does not go there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from takeback.tools.system import Refused, Unavailable

SERVICE: Final = "takeback"


def password_of(what: str, entry: str, variable: str | None, environment: Mapping[str, str]) -> str:
    """A password. It appears in no error.

    :param what: what it is for, as `takeback connect` names it: `mailbox work`.
    :param entry: what the keyring calls it.
    :raises Refused: there is none.
    :raises Unavailable: the keyring cannot be asked.
    """
    if variable:
        given = environment.get(variable)
        if not given:
            raise Refused(
                f"There is no password for the {what}: the variable {variable} is not set.",
                advice="Set it where the server is started.",
            )
        return given
    import keyring  # not before a password is needed
    from keyring.errors import KeyringError

    try:
        kept = keyring.get_password(SERVICE, entry)
    except KeyringError:
        raise Unavailable(
            f"The keyring with the password of the {what} cannot be opened.",
            advice="Unlock it, or name an environment variable by password_variable.",
        ) from None
    if kept is None:
        raise Refused(f"There is no password for the {what}.", advice=f"Run takeback connect {what}.")
    return kept


def keep_password(entry: str, password: str) -> None:
    """Put it into the keyring.

    :raises Unavailable: the keyring does not take it.
    """
    import keyring
    from keyring.errors import KeyringError

    try:
        keyring.set_password(SERVICE, entry, password)
    except KeyringError:
        raise Unavailable(
            "The keyring does not take the password.",
            advice="Unlock it, or name an environment variable by password_variable.",
        ) from None
