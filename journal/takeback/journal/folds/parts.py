"""What a fold works with: the kinds of views that are kept, the parts of rollbacks, and a change of one view.

A rollback of ten thousand steps must not rewrite ten thousand steps with each of them, so a rollback is kept in parts: the
bare `RollbackView`, one `PlanPart`, and one `StepPart` per step. Readers get them put together by `whole`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeVar, cast

from pydantic import JsonValue

from takeback.journal.ids import RollbackId
from takeback.journal.states import altered
from takeback.journal.views import VIEWS, AnyView, RollbackView, StepView, View


class PlanPart(View):
    """The plan of the rollback `id`: written once."""

    plan: JsonValue


class StepPart(View):
    """One step of a rollback."""

    rollback_id: RollbackId
    step: StepView


Folded = AnyView | PlanPart | StepPart

KINDS: Final[dict[str, type[Folded]]] = {**VIEWS, "plan": PlanPart, "step": StepPart}
"""Every kind that is stored: the views of the port, and the parts of rollbacks."""

NAMES: Final[dict[type[View], str]] = {view: name for name, view in KINDS.items()}

Lookup = Callable[[str, str], Folded | None]
"""The present view of a kind and id."""

LIVE: Final = frozenset(
    [
        "open",
        "sealed",
        "stalled",
        "contained",
        "quarantined",
        "intended",
        "in_doubt",
        "in_flight",
        "requested",
        "granted",
        "running",
        "collected",
        "begun",
    ]
)
"""Statuses from which something still has to happen: few at any time, so they have an index of their own."""


class Change(NamedTuple):
    """One view as it is after an event."""

    kind: str
    id: str
    view: Folded


V = TypeVar("V", bound=Folded)


def step_id(rollback_id: str, index: int) -> str:
    """Where the part of a step is found; sorts by index."""
    return f"{rollback_id}/{index:08d}"


def status_of(view: Folded) -> str | None:
    """The status that `find` selects by; checkpoints have none."""
    status = getattr(view, "status", None)
    return None if status is None else str(status)


def whole(bare: RollbackView, plan: PlanPart | None, steps: Iterable[StepPart]) -> RollbackView:
    """A rollback put together from its parts."""
    return bare.model_copy(
        update={"plan": plan.plan if plan is not None else None, "steps": tuple(part.step for part in steps)}
    )


def known(get: Lookup, kind: type[V], id: str) -> V | None:
    """The present view of a kind and id, if there is one."""
    return cast("V | None", get(NAMES[kind], id))


def changed(view: Folded, position: int, **update: object) -> Change:
    """A view as it is after the event at a position."""
    return Change(NAMES[type(view)], view.id, altered(view, **update, version=position))
