"""Passwords of calendars."""

from __future__ import annotations

import os
from collections.abc import Mapping

from takeback.tools import passwords
from takeback.tools.calendar.settings import CalendarSettings


def password_of(name: str, settings: CalendarSettings, environment: Mapping[str, str] = os.environ) -> str:
    """The password of that calendar. It appears in no error.

    :raises Refused: there is none.
    :raises Unavailable: the keyring cannot be asked.
    """
    return passwords.password_of(f"calendar {name}", _entry(name, settings), settings.password_variable, environment)


def keep_password(name: str, settings: CalendarSettings, password: str) -> None:
    """Put it into the keyring.

    :raises Unavailable: the keyring does not take it.
    """
    passwords.keep_password(_entry(name, settings), password)


def _entry(name: str, settings: CalendarSettings) -> str:
    return f"calendar/{name} {settings.username} {settings.url}"
