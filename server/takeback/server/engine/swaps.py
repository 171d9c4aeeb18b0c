"""Swapping for good: swap, and where the system fails, look at the world and swap again within bounds.

Rollbacks, resolutions and restored versions are all made in this way. Swapping again is safe by the contract of `TargetSystem`:
what is there already is a success, and what was begun is finished or put back.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from takeback.journal.states import Effect
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.shield import shielded
from takeback.tools.system import Drifted, Swapped, TargetError

HALF_DONE = "half_done"
"""What systems call a swap that could be neither finished nor put back: swapping again is safe, and does one or the other."""
DISK_FULL = "no_space"
"""What systems call it (`TargetError.code`): then the ballast is given up, so that the undo can go on."""


class GaveUp(Exception):
    """It did not work; the text says why."""

    def __init__(self, why: str, cause: Exception) -> None:
        super().__init__(why)
        self.cause = cause
        self.there: bool | None = None
        """Whether all of it was read back as wanted all the same; `None`: nobody could look."""

    @property
    def unsure(self) -> bool:
        """Whether a part may stand: then this is not over, and must not be told as if nothing had happened."""
        return self.there is None or (not self.there and getattr(self.cause, "code", "") == HALF_DONE)


async def swap(core: Core, effects: Sequence[Effect], *, pauses: Sequence[float]) -> Swapped | Drifted:
    """Make the effects true, or find that somebody else was faster.

    :param pauses: seconds to wait between attempts.
    :raises GaveUp: neither came about; the world has been looked at.
    """
    try:
        return await _try(core, effects, pauses)
    except GaveUp as error:
        error.there = await _there(core, effects)
        raise


async def _try(core: Core, effects: Sequence[Effect], pauses: Sequence[float]) -> Swapped | Drifted:
    system = core.systems[effects[0].system]
    given_up = GaveUp("it was not tried", RuntimeError())
    for pause in (*pauses, None):
        try:
            return await shielded(lambda: system.swap(effects), seconds=core.settings.limits.step_seconds)
        except TimeoutError as error:
            raise GaveUp("compensation_timeout: it took longer than the bound for one step", error) from error
        except TargetError as error:
            given_up = GaveUp(str(error), error)
            if error.code == DISK_FULL and core.ballast.release():
                continue
            if not (error.retry or error.code == HALF_DONE) or pause is None:
                raise given_up from error
        except OSError as error:
            given_up = GaveUp(f"the system failed: {fault(error)}", error)
            if pause is None:
                raise given_up from error
        except Exception as error:  # third-party code: it may have done it or not, so the world is looked at
            raise GaveUp(f"the system failed: {fault(error)}", error) from error
        await anyio.sleep(pause or 0)
    raise given_up


async def _there(core: Core, effects: Sequence[Effect]) -> bool | None:
    system = core.systems[effects[0].system]
    try:
        looked = await system.look([effect.object for effect in effects], [effect.after for effect in effects])
    except Exception:  # third-party code: what nobody could look at is not said to be there
        return None
    return len(looked) == len(effects) and all(
        now.same(effect.after) for now, effect in zip(looked, effects, strict=True)
    )
