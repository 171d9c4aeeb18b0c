"""Passwords of calendars: in the environment variable that the settings name, or in the keyring of the operating system."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import keyring
import keyring.errors

from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.system import Refused, Unavailable

SERVICE: Final = "takeback"


def password_of(name: str, settings: CalendarSettings, environment: Mapping[str, str] = os.environ) -> str:
    """The password of that calendar. It appears in no error.

    :raises Refused: there is none.
    :raises Unavailable: the keyring cannot be asked.
    """
    if settings.password_variable:
        given = environment.get(settings.password_variable)
        if not given:
            raise Refused(
                f"The environment variable {settings.password_variable}, with the password of {name}, is not set.",
                advice="Set it where the server is started.",
            )
        return given
    try:
        kept = keyring.get_password(SERVICE, _entry(name, settings))
    except keyring.errors.KeyringError:
        raise Unavailable(
            f"The keyring with the password of {name} cannot be opened.",
            advice="Unlock it, or name an environment variable by password_variable.",
        ) from None
    if kept is None:
        raise Refused(f"There is no password for the calendar {name}.", advice=f"Run takeback connect calendar {name}.")
    return kept


def keep_password(name: str, settings: CalendarSettings, password: str) -> None:
    """Put it into the keyring.

    :raises Unavailable: the keyring does not take it.
    """
    try:
        keyring.set_password(SERVICE, _entry(name, settings), password)
    except keyring.errors.KeyringError:
        raise Unavailable(
            "The keyring does not take the password.",
            advice="Unlock it, or name an environment variable by password_variable.",
        ) from None


def _entry(name: str, settings: CalendarSettings) -> str:
    """A changed url or user has no password yet: the old one must not go to another host."""
    return f"calendar/{name} {settings.username} {settings.url}"
