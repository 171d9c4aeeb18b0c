"""The planner: what a rollback would do, decided before anything is done.

Pure. The journal's entries and what was observed of the world are arguments; refusals are values; there is no clock, no IO,
no randomness. The same `Plan` is shown as the dry run, bound to consent by its digest, and executed.

The three-way rule, per object of an entry, with `now` = what stands there (after the steps that come before this one):

=======================  ================================================  =================
`now`                    what happens                                      decision
=======================  ================================================  =================
equals `after`           put `before` back                                 `restore`
equals `before`          nothing to do                                     `already_undone`
changed elsewhere        remove our change only (the system's merge)       `merge`
changed at same place    nothing is touched                                `conflict`
=======================  ================================================  =================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from takeback.journal.ids import ActionId, RunId
from takeback.journal.states import Effect, Frozen, Reversibility, State

Decision = Literal[
    "restore", "already_undone", "merge", "conflict", "compensate", "irreversible", "blocked", "skip", "in_doubt"
]


class Entry(Frozen):
    """One thing that stands in the world and may be taken back: an action, or a step of an earlier rollback."""

    id: str
    """Of the action; for a step of a rollback `<rollback_id>/<index>`."""
    action_id: ActionId
    run_id: RunId
    position: int
    """Order in the journal: of the intent, or of the concluded step."""
    tool: str
    effects: tuple[Effect, ...]
    reversibility: Reversibility
    reason: str = ""
    in_doubt: bool = False
    """Nobody knows whether it took effect: not touched, named instead (a compensable one is compensated)."""


class Goal(Frozen):
    """What the caller wants taken back."""

    chosen: tuple[str, ...]
    """Ids of entries. A whole run, or all after a checkpoint, is a list too: the caller makes it."""
    cascade: tuple[RunId, ...] = ()
    """Other runs whose later actions on the same objects may be taken back along."""
    kind: Literal["rollback", "redo"] = "rollback"
    label: str = ""
    """For people: "run run_… back to checkpoint chk_…"."""


class MergeAnswer(Frozen):
    """What the system's merge said about one entry."""

    present: tuple[State, ...]
    """The states it was asked about, parallel to the entry's effects."""
    effects: tuple[Effect, ...] | None
    """The merged effects, or `None` for a clash."""
    why: str = ""
    proposal: State | None = None


class Observations(Frozen):
    """What was seen of the world, gathered before planning."""

    present: Mapping[str, State]
    """By `object_key(system, object)`, each object of each entry."""
    merges: Mapping[str, MergeAnswer] = {}
    """By entry id."""


class MergeNeeded(Frozen):
    """The planner has to know what this merge gives. Gather it, and plan again."""

    entry_id: str
    wanted: tuple[Effect, ...]
    present: tuple[State, ...]


class PlanStep(Frozen):
    """What happens to one entry. Executed in the order of the plan."""

    entry_id: str
    action_id: ActionId
    run_id: RunId
    tool: str
    object: str
    """The first object, for people; all are in `effects`."""
    decision: Decision
    why: str = ""
    effects: tuple[Effect, ...] = ()
    """To be swapped: `before` is what stands there now, `after` what will. Empty where nothing is swapped."""
    wanted: tuple[Effect, ...] = ()
    """The plain inverse, for conflicts: `before` = as we left it, `after` = what we wanted back."""
    present: tuple[State, ...] = ()
    """What was seen there, parallel to `wanted`."""
    proposal: State | None = None
    after_steps: tuple[str, ...] = ()
    """Entry ids that have to be done before this one (they depend on it in the world)."""
    blocked_by: tuple[str, ...] = ()
    """Entry ids because of which nothing is done here."""


class Plan(Frozen):
    """What a rollback would do, step by step; a value."""

    goal: Goal
    steps: tuple[PlanStep, ...]
    other_runs: tuple[RunId, ...] = ()
    """Runs whose later actions stand in the way and were not named in `cascade`."""
    needs: tuple[MergeNeeded, ...] = ()
    """Not final: gather these merges and plan again. Empty in a finished plan."""
    digest: str = ""
    """Over goal and steps; what consent is bound to. Same entries and same world give the same digest."""


def object_key(system: str, object: str) -> str:
    """One string for an object of a system."""
    return f"{system}:{object}"


def plan_rollback(entries: Sequence[Entry], goal: Goal, observations: Observations) -> Plan:
    """Decide. See the module's docstring.

    :param entries: everything that stands and touches an object of the chosen entries (or an object above or below one),
        of all runs, in any order.
    """
    raise AssertionError("to be written")
