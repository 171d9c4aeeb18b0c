"""Judging past calls again, by another policy: what a change of the rules would have meant.

From the journal alone, so within what it holds: of a call that was refused it keeps no effects. What a tool counted beside the
effects (rows, recipients …) stands in the call's event, and not in its view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from takeback.journal.events import ActionIntended, ActionShadowed
from takeback.journal.log import Journal
from takeback.journal.states import Effect
from takeback.journal.views import ActionView, RunView
from takeback.server.engine.outgoing import has_window
from takeback.server.engine.policy import Decision, Judged, Policy, Verdict
from takeback.tools.outbox.acts import foreseen

_JUDGED = ("applied", "not_applied", "in_doubt", "intended", "shadowed")
"""Statuses of calls that came as far as to be judged by their effects."""


@dataclass(frozen=True, slots=True)
class Rejudged:
    """One past call."""

    action: ActionView
    then: Decision
    """What was decided when it was made."""
    now: Verdict

    @property
    def differs(self) -> bool:
        """Whether the policy would decide otherwise."""
        return self.then != self.now.decision


Labels = Callable[[Effect], Mapping[str, str]]


def no_labels(effect: Effect) -> Mapping[str, str]:
    """Where nobody has given any."""
    return {}


async def counted(journal: Journal, actions: Sequence[ActionView]) -> dict[str, Mapping[str, int]]:
    """What the tools counted of these calls when they were made, by action; nothing of those that were erased since."""
    found: dict[str, Mapping[str, int]] = {}
    for action in actions:
        for recorded in await journal.read(action.run_id, after=action.position - 1, limit=1):
            event = recorded.event
            if isinstance(event, ActionIntended | ActionShadowed) and event.action_id == action.id:
                found[action.id] = event.counts
    return found


def call_of(
    action: ActionView,
    run: RunView,
    labels: Labels = no_labels,
    counts: Mapping[str, int] | None = None,
    *,
    least: float = 0.0,
) -> Judged | None:
    """The call as a policy sees it; `None` if the journal does not hold its effects.

    :param least: as `has_window` takes it.
    """
    if action.status not in _JUDGED and not (action.status == "failed" and action.caller is not None):
        return None
    return Judged(
        tool=action.tool,
        known=True,
        caller=action.caller or run.owner,
        mode=run.mode,
        scope=run.scope,
        effects=(effects := foreseen(action.effects)),
        labels=tuple(labels(effect) for effect in effects),
        reversibility=action.reversibility,
        reason=action.reason,
        counts=counts or {},
        at=action.at,
        held=has_window(action.effects, least=least),
    )


def replay(
    policy: Policy,
    actions: Sequence[ActionView],
    runs: Mapping[str, RunView],
    labels: Labels = no_labels,
    counts: Mapping[str, Mapping[str, int]] | None = None,
    *,
    least: float = 0.0,
) -> list[Rejudged]:
    """Judge again whatever can be judged again, in the order given.

    :param counts: as `counted` found them.
    :param least: as `has_window` takes it.
    """
    found: list[Rejudged] = []
    for action in actions:
        run = runs.get(action.run_id)
        call = None if run is None else call_of(action, run, labels, (counts or {}).get(action.id), least=least)
        if call is not None:
            found.append(Rejudged(action, _then(action), policy.judge(call)))
    return found


def _then(action: ActionView) -> Decision:
    if action.status == "shadowed":
        return "shadow"
    return "ask" if action.approval_id is not None else "allow"
