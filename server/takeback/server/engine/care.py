"""Care of the data directory while the server runs: idle runs end, and what nobody needs any more is collected.

Undo storage that only grows is what makes people turn undo off; so nobody has to remember to run `takeback gc`.
"""

from __future__ import annotations

import logging

import anyio

from takeback.checkpoints.retention import CollectorBusy, collect
from takeback.checkpoints.store import FileObjectStore
from takeback.server.engine import runs
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.settle import settle_all

log = logging.getLogger(__name__)

FIRST_SECONDS, EVERY_SECONDS = 60.0, 3600.0
"""A session that lasts a minute does not pay for a collection; a long one collects every hour."""


async def tend(core: Core) -> None:
    """One round: settle what nobody works on any more, end idle runs, collect what is not needed, put the ballast back.

    Errors are logged, never raised.
    """
    try:
        await settle_all(core)  # whose outcome could not be written down, for a full disk
        await runs.tidy(core)
        if isinstance(core.objects, FileObjectStore):
            await collect(
                core.journal,
                core.objects,
                tuple(core.systems.values()),
                now=core.now(),
                keep_days=core.settings.limits.keep_days,
            )
        core.ballast.ensure()
    except CollectorBusy:
        return  # another server of the same data directory is at it
    except (
        Exception
    ) as error:  # systems may be anybody's code, and the server does not end because it could not tidy up
        log.warning("the data directory could not be tended: %s", fault(error))


async def tend_forever(core: Core) -> None:
    """Rounds until cancelled."""
    await anyio.sleep(FIRST_SECONDS)
    while True:
        await tend(core)
        await anyio.sleep(EVERY_SECONDS)
