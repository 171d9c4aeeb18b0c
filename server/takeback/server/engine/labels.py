"""What people call the systems that hold the objects: `[databases.NAME] labels = {env = "production"}`, for rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from takeback.journal.states import Effect
from takeback.server.settings import Settings

NONE: Final[Mapping[str, str]] = {}


def labels_of(settings: Settings, effect: Effect) -> Mapping[str, str]:
    """The labels of the database, calendar or mailbox that an effect is in. What lies in none has none."""
    match effect.system:
        case "database":
            database = settings.databases.get(effect.object.partition("//")[0])
            return NONE if database is None else database.labels
        case "calendar":
            calendar = settings.calendars.get(effect.object.partition("//")[0])
            return NONE if calendar is None else calendar.labels
        case "email" | "outbox":
            mailbox = settings.mailboxes.get(_mailbox(effect))
            return NONE if mailbox is None else mailbox.labels
        case _:
            return NONE


def _mailbox(effect: Effect) -> str:
    if effect.system == "email":
        return effect.object.partition("/")[0]
    for state in (effect.after, effect.before):
        message = state.ref.get("message")
        if isinstance(message, dict) and isinstance(more := message.get("carrier"), str):
            return more.rpartition(":")[2]
    return ""
