"""Addresses that let one browser in, once. Only for the person: each has a key, so none is for a model, a log or a chat."""

from __future__ import annotations

import asyncio
import logging
from typing import Final
from urllib.parse import urlencode

from takeback.server.notices.desktop import Entry
from takeback.server.settings import Settings
from takeback.server.web import address
from takeback.server.web.address import Address
from takeback.server.web.visitors import Visitors

SOON_SECONDS: Final = 1.5
"""What a page gets to open for a notice: people are to hear of an event within two."""

log = logging.getLogger(__name__)


def visitors_of(settings: Settings) -> Visitors:
    """Who the page of this data directory lets in."""
    return Visitors(address.folder(settings.data))


def entry(settings: Settings, where: Address, place: str = "/") -> str:
    """An address that lets one browser in, once. Only for the person: it is a key.

    :raises OSError:
    """
    asked = {"key": visitors_of(settings).key()} | ({"to": place} if place != "/" else {})
    return where.url(f"/enter?{urlencode(asked)}")


def entry_on_demand(settings: Settings, *, within: float = SOON_SECONDS) -> Entry:
    """Entries to a page that is opened if there is none, unless that is switched off.

    :param within: seconds; what opens later is there for the next one.
    """

    async def enter(place: str) -> str | None:
        from takeback.server.web.detached import page_of  # only where somebody is told

        try:
            if not settings.web.on_demand:
                where = await asyncio.to_thread(address.running, settings.data)
            else:
                async with asyncio.timeout(within):
                    # not tied to this process: who reads a notice later finds it open as long as its key opens
                    where = await page_of(settings, server=False)
            return None if where is None else entry(settings, where, place)
        except Exception as error:  # what was to be told is told without it
            log.warning("the page could not be opened for a notice (%s); run `takeback web`", type(error).__name__)
            return None

    return enter
