"""Reconciling: whether what the user wants to be true (`[[checks]]`) is, where a run has been; before and after a recovery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from takeback.journal.events import Caller, RunReconciled
from takeback.journal.recovering import CheckFound, CheckStatus
from takeback.journal.views import ActionView, RunView
from takeback.server.engine import containment
from takeback.server.engine.answers import AnswerModel
from takeback.server.engine.checks.running import Checked, Checks
from takeback.server.engine.core import Core

NONE_CONFIGURED = (
    "No checks are configured, so nobody looked further than at the objects themselves. [[checks]] in the configuration "
    "says what has to hold."
)


class Invariant(AnswerModel):
    """One of the user's checks, as it stands now."""

    check: str
    object: str
    """As people call it; empty if the check is about the whole."""
    status: CheckStatus
    """`unknown`: it could not be made."""
    text: str


class Reconciled(AnswerModel):
    """All checks on what a run, and what belongs to it, has touched."""

    moment: Literal["before", "after"]
    checks: list[Invariant] = []
    text: str

    @property
    def true(self) -> bool:
        """Whether everything is known to hold. What nobody could look at is not known."""
        return all(one.status == "holds" for one in self.checks)


async def reconcile(
    core: Core, checks: Checks, caller: Caller, run: RunView, moment: Literal["before", "after"], *, record: bool
) -> Reconciled:
    """Make every check; those that are about single objects, on each that the run or a part of it touched.

    :param record: write down in the run what was found.
    """
    found = await checks.all(caller, await _touched(core, run)) if core.settings.checks else []
    if record and found:
        event = RunReconciled(
            run_id=run.run_id,
            at=core.now(),
            by=caller.principal,
            moment=moment,
            checks=tuple(
                CheckFound(check=one.check, object=one.object, status=one.status, why=one.why) for one in found
            ),
        )
        await core.record([event])
    told = [Invariant(check=one.check, object=one.object, status=one.status, text=one.sentence) for one in found]
    return Reconciled(moment=moment, checks=told, text=_text(core, found))


async def _touched(core: Core, run: RunView) -> Sequence[tuple[str, str]]:
    places: dict[tuple[str, str], None] = {}
    for each in (run, *await containment.parts_of(core, run)):
        for action in await core.journal.find(ActionView, run_id=each.run_id, oldest_first=True):
            if action.status not in ("shadowed", "denied"):
                places.update({(effect.system, effect.object): None for effect in action.effects})
    return list(places)


def _text(core: Core, found: Sequence[Checked]) -> str:
    if not core.settings.checks:
        return NONE_CONFIGURED
    if not found:
        return "None of the checks is about anything that is there now, so none was made."
    fails, unknown = (sum(one.status == status for one in found) for status in ("fails", "unknown"))
    if not fails and not unknown:
        return f"{_checks(len(found))} made, and what they say holds."
    parts = [f"{fails:,} failed"] if fails else []
    parts += [f"{unknown:,} could not be made, so nobody knows"] if unknown else []
    return f"{_checks(len(found))} made or tried: {'; '.join(parts)}."


def _checks(number: int) -> str:
    return f"{number:,} {'check was' if number == 1 else 'checks were'}"
