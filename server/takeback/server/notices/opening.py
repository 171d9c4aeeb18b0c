"""From the configuration to channels. One that cannot be used is there all the same, and fails where people see it."""

from __future__ import annotations

from collections.abc import Mapping

from takeback.server.notices.channel import Broken, Channel
from takeback.server.notices.desktop import Desktop, Entry
from takeback.server.notices.services import Service, filled
from takeback.server.notices.settings import Kind, NotifySettings, channel_names
from takeback.server.notices.webhook import Webhook, key_of, secret_of

DESKTOP = "desktop://"


def open_channels(settings: NotifySettings, entry: Entry | None = None) -> list[Channel]:
    """All of them, in the order of the settings. Imports what they need: not for the first milliseconds of a server.

    :param entry: lets a person in at the local page; given to the desktop of this machine, and to nothing else.
    """
    names = channel_names(settings)
    channels = [_of_url(name, url, entry) for name, url in zip(names, settings.urls, strict=False)]
    for name, webhook in settings.webhooks.items():
        try:
            channels.append(Webhook(f"webhook:{name}", webhook.url, key_of(secret_of(name, webhook))))
        except (LookupError, ValueError) as error:
            channels.append(Broken(f"webhook:{name}", _words(error)))
    return channels


def _of_url(name: str, url: str, entry: Entry | None) -> Channel:
    try:
        whole = filled(url)
        return Desktop(name, entry) if whole.rstrip("/") == DESKTOP.rstrip("/") else Service(name, whole)
    except LookupError as error:
        return Broken(name, _words(error))


def _words(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__


def wanted(settings: NotifySettings) -> Mapping[str, frozenset[Kind]]:
    """Of which events each channel tells."""
    everything = frozenset(settings.events)
    told = dict.fromkeys(channel_names(settings), everything)
    for name, webhook in settings.webhooks.items():
        if webhook.events:
            told[f"webhook:{name}"] = frozenset(webhook.events)
    return told
