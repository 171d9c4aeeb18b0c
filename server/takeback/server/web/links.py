"""Links to the page in what an agent is answered. They carry no key: an agent that follows one is a stranger there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from takeback.journal.events import Caller
from takeback.server.principal import local_principal
from takeback.server.settings import Settings
from takeback.server.web.detached import page_of

log = logging.getLogger(__name__)

Links = Callable[[Caller, str], Awaitable[str | None]]
"""The address of a place on the page for the person of this caller; None: there is no page for them."""


def links_of(settings: Settings) -> Links | None:
    """Links that open the page when one is needed; None: that is switched off."""
    if not settings.web.on_demand:
        return None
    opening = asyncio.Lock()

    async def link(caller: Caller, place: str) -> str | None:
        if caller.principal != local_principal():  # the page is this person's; others do not see their runs there
            return None
        try:
            async with opening:
                where = await page_of(settings, server=True)
        except Exception as error:  # an answer without a link is still the answer
            log.warning("the page could not be opened (%s); run `takeback web`", type(error).__name__)
            return None
        return None if where is None else where.url(place)

    return link
