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

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from takeback.journal.ids import ActionId, RunId
from takeback.journal.states import Effect, Frozen, Reversibility, State, altered, trusted
from takeback.server.engine.graph import Cover, Left, Node, Touch, World, nodes_of, with_cascade

Decision = Literal[
    "restore", "already_undone", "merge", "conflict", "compensate", "irreversible", "blocked", "skip", "in_doubt"
]


COVERED = "a later act of the same run has undone it; if that is taken back, this has to be taken back after it"
AGAIN = "a later act of the same run did the same again and is not being taken back"
IN_PART = "a later act of the same run has undone part of it; if that is taken back, this has to be taken back after it"


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
    """The states it was asked about: those of `MergeNeeded.present`, in that order."""
    effects: tuple[Effect, ...] | None
    """The merged effects, or `None` for a clash."""
    why: str = ""
    proposal: State | None = None
    remains: str = ""
    """What of the entry stays all the same, and is to be made up for."""


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
    """The plain inverse, newest change first: what to hand to the system's `merge`."""
    present: tuple[State, ...]
    """What will stand there when it is this entry's turn, parallel to `wanted`."""


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
    assumed: bool = False
    """Part of `before` could not be seen, because it only comes to be by earlier steps: the swap tells whether it is so."""
    covered: bool = False
    """Part of it is not there only because of a later act that stays: if that is taken back, this is there again."""
    remains: str = ""
    """What of it cannot be taken back, though all else is: it is made up for, if a person agrees."""


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
    return Planner(entries, goal, observations).plan()


class Planner:
    """One planning. Walks from the newest entry to the oldest, with the world as it will be by then."""

    def __init__(self, entries: Sequence[Entry], goal: Goal, observations: Observations) -> None:
        self.goal = goal
        self.merges = observations.merges
        self.nodes = nodes_of(entries)
        self.chosen = with_cascade(self.nodes, goal.chosen, goal.cascade)
        self.world = World(self.nodes, dict(observations.present))
        self.dependents = Cover()
        """Chosen entries walked past: they come first."""
        self.obstacles = Cover()
        """Chosen entries walked past that will stay: nothing is undone from under them."""
        self.left = Left()
        self.other_runs: set[RunId] = set()
        self.needs: list[MergeNeeded] = []

    def plan(self) -> Plan:
        """The whole plan."""
        steps: list[PlanStep] = []
        for node in reversed(self.nodes):
            if node.entry.id not in self.chosen:
                self.left.put(node)
                continue
            step = self.step(node)
            self.dependents.put(node)
            if not self.gives_way(step):
                self.obstacles.put(node)
            steps.append(step)
        return Plan(
            goal=self.goal,
            steps=tuple(steps),
            other_runs=tuple(sorted(self.other_runs)),
            needs=tuple(self.needs),
            digest=digest_of(self.goal, steps),
        )

    def gives_way(self, step: PlanStep) -> bool:
        """Whether the entry's effects are gone when its step is done, so that older ones can be taken back."""
        return step.decision in ("restore", "merge", "already_undone", "compensate")

    def step(self, node: Node) -> PlanStep:
        """What happens to one chosen entry; the world is moved on accordingly."""
        entry = node.entry
        if not node.touches and entry.reversibility == "reversible":
            return self.of(node, "skip", "it changed nothing")
        if entry.reversibility == "irreversible":
            if self.goal.kind == "redo":
                return self.of(node, "skip", entry.reason or "it was made up for, which is not made undone")
            return self.of(node, "irreversible", entry.reason or "it cannot be taken back")
        if entry.in_doubt and entry.reversibility == "reversible":
            return self.of(node, "in_doubt", "nobody knows yet whether it took effect")
        blocked_by, why = self.blocked(node)
        if blocked_by:
            return self.of(node, "blocked", why, blocked_by=blocked_by)
        if entry.reversibility == "compensable":
            self.world.compensate(node)
            return self.of(node, "compensate", entry.reason)
        return self.by_state(node)

    def blocked(self, node: Node) -> tuple[tuple[str, ...], str]:
        """Which entries stand in the way, and why."""
        over = self.obstacles.over(node)
        if over:
            return over, "what was done later on top of it stays"
        same_run = self.left.of_same_run(node) or self.on_what_moved(node)
        if same_run:
            return same_run, "a later act of the same run builds on it and is not being taken back"
        others = self.left.of_other_runs(node)
        if others:
            self.other_runs.update(others)
            return tuple(others[run] for run in sorted(others)), "another run has built on it since"
        return (), ""

    def on_what_moved(self, node: Node) -> tuple[str, ...]:
        """Later entries of the same run on what this one moved: their doing would be carried to where it came from."""
        effects = [touch.effect for touch in node.touches]
        gone = [effect.before for effect in effects if effect.after.absent and not effect.before.absent]
        if not any(effect.after.same(before) for before in gone for effect in effects):
            return ()
        found = {self.left.on(node, touch): None for touch in node.touches}
        return tuple(id for id in found if id is not None)

    def by_state(self, node: Node) -> PlanStep:
        """The three-way rule."""
        wanted: list[Effect] = []
        present: list[State] = []
        swaps: list[Effect] = []
        drifted, assumed, covered, unseen = False, False, False, ""
        for touch in reversed(node.touches):
            did = touch.effect
            want = trusted(Effect, system=did.system, object=did.object, before=did.after, after=did.before)
            if self.world.pending(touch):
                self.world.suspend(node)
                return self.of(node, "merge", "what stands there hangs on another merge")
            now, guess = self.world.look(touch)
            if self.world.hidden(touch):
                # parts of it are put back first, so that what was seen of it says nothing about its turn
                swaps.append(want)
                now, assumed = want.before, True
            elif now is None:
                unseen = unseen or touch.effect.object
                now = want.before
            elif now.same(want.after):
                covered = covered or self.left.on(node, touch) is not None
            elif later := self.left.did_again(node, touch, now):
                # deleted, made again, deleted again: what stands there is the later one's doing
                return self.of(node, "blocked", AGAIN, blocked_by=(later,))
            elif self.as_left(touch, now):
                # the same state, but the journal's own also knows where its image is kept
                swaps.append(want if now.same(want.before) else altered(want, before=now))
                assumed = assumed or guess
            elif self.world.explained(touch, now):
                swaps.append(want)
                now, assumed = want.before, True
            else:
                drifted = True
            wanted.append(want)
            present.append(now)
        three = (tuple(wanted), tuple(present))
        if unseen:
            return self.of(node, "conflict", f"{unseen} could not be looked at", three=(three[0], ()))
        if drifted:
            return self.by_merge(node, *three, covered=covered)
        if not swaps:
            why = COVERED if covered else "it is as it was before already"
            return self.of(node, "already_undone", why, three=three, covered=covered)
        self.world.apply(swaps, node)
        why = IN_PART if covered else ""
        return self.of(node, "restore", why, effects=tuple(swaps), three=three, assumed=assumed, covered=covered)

    def as_left(self, touch: Touch, now: State) -> bool:
        """Whether the object is as the entry left it."""
        return now.same(touch.effect.after)

    def by_merge(
        self, node: Node, wanted: tuple[Effect, ...], present: tuple[State, ...], *, covered: bool
    ) -> PlanStep:
        """Somebody else changed an object: ask for the merge, or follow what it said."""
        entry, three = node.entry, (wanted, present)
        answer = self.merges.get(entry.id)
        if answer is None or not self.answers(answer, present):
            self.needs.append(MergeNeeded(entry_id=entry.id, wanted=wanted, present=present))
            self.world.suspend(node)
            return self.of(node, "merge", "it has to be merged with what somebody else changed", three=three)
        if answer.effects is None or not _fits(answer.effects, wanted, present):
            why = answer.why or "somebody else changed it at the same place"
            return self.of(node, "conflict", why, three=three, proposal=answer.proposal)
        swaps = tuple(effect for effect in answer.effects if not effect.before.same(effect.after))
        if not swaps:
            covered = covered or any(map(partial(self.left.on, node), node.touches))
            why = COVERED if covered else answer.why or "nothing of it is left there"
            return self.of(node, "already_undone", why, three=three, covered=covered, remains=answer.remains)
        self.world.apply(swaps, node)
        why = "; ".join(filter(None, (IN_PART, answer.why))) if covered else answer.why
        return self.of(node, "merge", why, effects=swaps, three=three, covered=covered, remains=answer.remains)

    def answers(self, answer: MergeAnswer, present: tuple[State, ...]) -> bool:
        """Whether a merge was made with what will stand there, and not with something older."""
        return len(answer.present) == len(present) and all(
            told.same(now) for told, now in zip(answer.present, present, strict=True)
        )

    def of(
        self,
        node: Node,
        decision: Decision,
        why: str,
        *,
        effects: tuple[Effect, ...] = (),
        three: tuple[tuple[Effect, ...], tuple[State, ...]] = ((), ()),
        proposal: State | None = None,
        blocked_by: tuple[str, ...] = (),
        assumed: bool = False,
        covered: bool = False,
        remains: str = "",
    ) -> PlanStep:
        """A step of the plan."""
        entry = node.entry
        return trusted(
            PlanStep,
            entry_id=entry.id,
            action_id=entry.action_id,
            run_id=entry.run_id,
            tool=entry.tool,
            object=entry.effects[0].object if entry.effects else "",
            decision=decision,
            why=why,
            effects=effects,
            wanted=three[0],
            present=three[1],
            proposal=proposal,
            after_steps=self.dependents.over(node),
            blocked_by=blocked_by,
            assumed=assumed,
            covered=covered,
            remains=remains,
        )


def _fits(effects: Sequence[Effect], wanted: Sequence[Effect], present: Sequence[State]) -> bool:
    # a merge may only start from what stands there, and only touch what the entry touched, each object once
    there = {(want.system, want.object): now for want, now in zip(wanted, present, strict=True)}
    for effect in effects:
        now = there.pop((effect.system, effect.object), None)
        if now is None or not effect.before.same(now):
            return False
    return True


def digest_of(goal: Goal, steps: Sequence[PlanStep]) -> str:
    """What consent is bound to: the goal, and what each step will do to which object. Texts and clocks do not count."""
    said = [
        [goal.kind, sorted(set(goal.chosen)), sorted(set(goal.cascade))],
        [
            [
                step.entry_id,
                step.decision,
                [[e.system, e.object, e.before.digest, e.after.digest] for e in step.effects],
                sorted(step.blocked_by),
            ]
            for step in steps
        ],
    ]
    text = json.dumps(said, ensure_ascii=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode('ascii')).hexdigest()}"
