"""One step of a rollback that is made up for: by the tool's own follow-up act, or by putting back what can be put back."""

from __future__ import annotations

import logging

import anyio

from takeback.journal.states import altered
from takeback.journal.views import ActionView
from takeback.server.engine import held_acts
from takeback.server.engine.core import Core
from takeback.server.engine.corrections import close_items
from takeback.server.engine.ledger import Ledger
from takeback.server.engine.outcome import Done
from takeback.server.engine.plan import PlanStep
from takeback.server.engine.shield import shielded
from takeback.server.engine.swaps import GaveUp, swap
from takeback.tools import adapt
from takeback.tools.adapt import MemoError
from takeback.tools.contract import ReversibleTool
from takeback.tools.system import Drifted

log = logging.getLogger(__name__)


async def compensate(core: Core, ledger: Ledger, index: int, step: PlanStep, action: ActionView | None) -> Done:
    """Have the tool make up for the action. The caller holds its locks, has asked policy, and concludes."""
    tool = core.tools.get(step.tool)
    if action is None or tool is None:
        return ledger.open(step, "failed", f"the tool {step.tool} is not installed any more")
    if isinstance(tool, ReversibleTool):
        return await _put_back(core, ledger, index, step, action)
    for attempt, pause in enumerate((*core.retry_pauses, None), start=1):
        await core.record([ledger.intended(index, step, attempt=attempt)])
        try:
            words = await shielded(
                lambda: adapt.compensate(tool, action.memo, action.outcome),
                seconds=core.settings.limits.step_seconds,
            )
            for row in await held_acts.made_up_for(core, step.action_id):
                await close_items(core, row, why=held_acts.MADE_UP_FOR)
            return Done(step, "compensated", words)
        except TimeoutError:
            return ledger.open(step, "failed", "compensation_timeout: it took longer than the bound for one step")
        except (MemoError, TypeError) as error:
            return ledger.open(step, "failed", str(error))
        except Exception as error:
            # the author's code: whatever it raises means that it did not work
            log.info("compensation of %s, attempt %d: %s", step.action_id, attempt, type(error).__name__)
            if pause is None:
                return ledger.open(step, "failed", f"gave up after {attempt} attempts: {error}")
        await anyio.sleep(pause)
    raise AssertionError("the last attempt returns")


async def _put_back(core: Core, ledger: Ledger, index: int, step: PlanStep, action: ActionView) -> Done:
    """Of an act that was compensable from the start: its system cannot keep still what else happens when the earlier states are
    put back (triggers that fire again)."""
    effects = tuple(effect.reversed() for effect in reversed(action.effects))
    step = altered(step, wanted=effects)
    await core.record([ledger.intended(index, step, effects)])
    try:
        swapped = await swap(core, effects, pauses=core.retry_pauses)
    except GaveUp as error:
        if error.there:
            return Done(step, "compensated", f"the system reported a failure ({error}), but it was read back as wanted")
        return ledger.open(step, "failed", str(error))
    if isinstance(swapped, Drifted):
        return ledger.open(step, "conflict", swapped.why, present=swapped.present)
    return Done(step, "compensated", action.reason, warnings=swapped.warnings)
