"""Swapping for good: swap, and where the system fails, look at the world and swap again within bounds.

Rollbacks, resolutions and restored versions are all made in this way. Swapping again is safe by the contract of `TargetSystem`:
what is there already is a success, and what was begun is finished or put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import anyio

from takeback.journal.states import Effect, State
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.shield import shielded
from takeback.tools.system import Drifted, Swapped, TargetError

HALF_DONE = "half_done"
"""What systems call a swap that could be neither finished nor put back: swapping again is safe, and does one or the other."""
DISK_FULL = "no_space"
"""What systems call it (`TargetError.code`): then the ballast is given up, so that the undo can go on."""


CLAIMS = 3
"""How often a swap is made again that met with something that was over before anybody could look."""


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

    Of effects on several systems (an event, and the messages about it) one system's come after the other's, in the order given.
    If one of the later ones has drifted, the earlier ones are put back.

    :param pauses: seconds to wait between attempts.
    :raises GaveUp: neither came about; the world has been looked at.
    """
    try:
        parts = [list(own) for _, own in groupby(effects, key=lambda effect: effect.system)]
        if len(parts) == 1 and parts[0][0].system != core.outbox.name:
            return await _try(core, effects, pauses)
        return await _swap_parts(core, effects, parts, pauses)
    except GaveUp as error:
        error.there = await _there(core, effects)
        raise


async def _swap_parts(
    core: Core, effects: Sequence[Effect], parts: Sequence[Sequence[Effect]], pauses: Sequence[float]
) -> Swapped | Drifted:
    made: list[Swapped] = []
    for part in parts:
        swapped = await _try(core, part, pauses)
        for _ in range(CLAIMS):
            # a sender that claims a message of a run that is sealed lets go of it again
            if isinstance(swapped, Swapped) or not await _as_before(core, part):
                break
            swapped = await _try(core, part, pauses)
        if isinstance(swapped, Swapped):
            made.append(swapped)
            continue
        for earlier in reversed(made):
            if not earlier.already:
                await _try(core, [effect.reversed() for effect in reversed(earlier.effects)], pauses)
        return Drifted(tuple(await look(core, effects)), swapped.why, swapped.warnings)
    return Swapped(
        tuple(effect for one in made for effect in one.effects),
        tuple(dict.fromkeys(warning for one in made for warning in one.warnings)),
        already=all(one.already for one in made),
    )


async def _as_before(core: Core, effects: Sequence[Effect]) -> bool:
    return all(now.same(effect.before) for now, effect in zip(await look(core, effects), effects, strict=True))


async def look(core: Core, effects: Sequence[Effect], *, like_after: bool = False) -> list[State]:
    """The present states of the effects' objects, parallel to them, whatever systems they are in.

    :param like_after: measured so that they can be compared with `after`; else with `before`.
    :raises Exception: whatever a system raises.
    """
    found: dict[int, State] = {}
    for name in dict.fromkeys(effect.system for effect in effects):
        own = [(index, effect) for index, effect in enumerate(effects) if effect.system == name]
        likes = [effect.after if like_after else effect.before for _, effect in own]
        looked = await core.systems[name].look([effect.object for _, effect in own], likes)
        found.update({index: state for (index, _), state in zip(own, looked, strict=True)})
    return [found[index] for index in range(len(effects))]


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
    try:
        looked = await look(core, effects, like_after=True)
    except Exception:  # third-party code: what nobody could look at is not said to be there
        return None
    return all(now.same(effect.after) for now, effect in zip(looked, effects, strict=True))
