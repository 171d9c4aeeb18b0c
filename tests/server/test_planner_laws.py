"""The laws of the planner, each with a mutant that it kills.

A law is a function from a planning to nothing; it raises when it is broken. The same function is run over the planner (it has
to hold) and over a planner with one defect (it has to break).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.server.planner_world import ACTED, History, Planning, Tree, execute, observe, related, settled_plan

from takeback.journal.states import ABSENT, Effect, State
from takeback.server.engine import plan as plan_module
from takeback.server.engine.graph import Cover, Left, Node, Touch
from takeback.server.engine.plan import Entry, Goal, MergeAnswer, Observations, Plan, Planner, PlanStep

GONE = ACTED | {"already_undone"}


# --- random worlds ------------------------------------------------------------------------------------------------

PLACES = ("d", "d/a", "d/b", "d/e", "d/e/c", "x", "y")
FOLDERS = ("d", "d/e")
FILES = tuple(place for place in PLACES if place not in FOLDERS)


@st.composite
def histories(draw: st.DrawFn, *, plain: bool = False) -> History:
    """A few actions of two runs, and edits by others among and after them.

    :param plain: nobody else edits, everything is reversible, and there is one run.
    """
    history = History()
    for turn in range(draw(st.integers(2, 8))):
        run = "run_a" if plain else draw(st.sampled_from(["run_a", "run_a", "run_a", "run_b"]))
        more: dict[str, object] = {}
        if not plain:
            kind = draw(st.sampled_from(["plain"] * 8 + ["irreversible", "compensable", "in_doubt"]))
            if kind == "in_doubt":
                more = {"in_doubt": True}
            elif kind != "plain":
                more = {"reversibility": kind}
        place = draw(st.sampled_from(PLACES))
        tree = history.tree
        if not tree.possible(place):
            continue
        if place in FOLDERS:
            if place not in tree.things:
                history.mkdir(run, place, **more)
            elif draw(st.booleans()):
                history.delete(run, place, **more)
            elif place == "d/e" and "x" not in tree.things:
                history.move(run, place, "x", **more)
        elif tree.things.get(place, {}) is None or (place in tree.things and draw(st.integers(0, 3)) == 0):
            history.delete(run, place, **more)
        else:
            new = dict(tree.things.get(place) or {}) | {draw(st.sampled_from("kl")): str(turn)}
            changes = [(place, Tree({place: new}).look(place))]
            other = draw(st.sampled_from(["", "", "x", "y", "d/b"]))
            if other and other != place and tree.possible(other) and tree.look(other).kind != "folder":
                changes.append((other, Tree({other: {"k": f"{turn}*"}}).look(other)))
            history.act(run, changes, **more)
        if not plain and draw(st.integers(0, 3)) == 0:
            disturb(history.tree, draw(st.sampled_from(PLACES)), draw(st.sampled_from("klm")), f"foreign {turn}")
    return history


def disturb(tree: Tree, place: str, key: str, value: str) -> None:
    """Somebody else writes a value into a file, or a new file into a folder."""
    if not tree.possible(place):
        return
    if place in tree.things and tree.things[place] is None:
        place = f"{place}/theirs"
    tree.things[place] = dict(tree.things.get(place) or {}) | {key: value}


def foreign(tree: Tree) -> set[str]:
    """What somebody else wrote that stands in the world."""
    return {value for what in tree.things.values() if what for value in what.values() if value.startswith("foreign")}


# --- what the laws are about, worked out by comparing all pairs -----------------------------------------------------


def touched(entry: Entry) -> list[Effect]:
    return [effect for effect in entry.effects if not effect.before.same(effect.after)]


def depend(later: Entry, earlier: Entry) -> bool:
    return any(
        one.system == other.system and related(one.object, other.object)
        for one, other in product(touched(later), touched(earlier))
    )


def settled(planning: Planning, history: History, *, merging: bool = True, cascade: Sequence[str] = ()) -> Plan:
    goal = history.goal("run_a", cascade=tuple(cascade))
    return settled_plan(planning, history.entries, goal, observe(history.tree, history.entries), merging=merging)


def acted(plan: Plan) -> set[str]:
    return {step.entry_id for step in plan.steps if step.decision in ACTED}


def each_gets_one_step(planning: Planning, history: History) -> None:
    plan = settled(planning, history)
    assert sorted(step.entry_id for step in plan.steps) == sorted(
        entry.id for entry in history.entries if entry.run_id == "run_a"
    )
    wider = [step.entry_id for step in settled(planning, history, cascade=["run_b"]).steps]
    assert len(wider) == len(set(wider))
    for entry in history.entries:
        built_on = any(
            other.id in wider and other.position < entry.position and depend(entry, other) for other in history.entries
        )
        assert (entry.id in wider) == (entry.run_id == "run_a" or built_on)


def dependents_come_first(planning: Planning, history: History) -> None:
    plan = settled(planning, history, cascade=["run_b"])
    entries = {entry.id: entry for entry in history.entries}
    done: dict[str, set[str]] = {}
    for step in plan.steps:
        assert set(step.after_steps) <= set(done)
        done[step.entry_id] = set(step.after_steps).union(*(done[id] for id in step.after_steps))
    for one, other in product(plan.steps, plan.steps):
        later, earlier = entries[one.entry_id], entries[other.entry_id]
        if later.position > earlier.position and depend(later, earlier):
            assert later.id in done[earlier.id]


def nothing_is_undone_from_under_what_stays(planning: Planning, history: History) -> None:
    for merging, cascade in product((True, False), ((), ("run_b",))):
        plan = settled(planning, history, merging=merging, cascade=cascade)
        steps = {step.entry_id: step for step in plan.steps}
        entries = {entry.id: entry for entry in history.entries}
        for step in plan.steps:
            if step.decision not in ACTED:
                continue
            mine = entries[step.entry_id]
            for other in history.entries:
                if other.position < mine.position or other.id == mine.id or not depend(other, mine):
                    continue
                assert other.id in steps, "another run built on it"
                assert steps[other.id].decision in GONE


def drift_and_the_irreversible_are_left_alone(planning: Planning, history: History) -> None:
    plan = settled(planning, history, merging=False)
    present = observe(history.tree, history.entries)
    entries = {entry.id: entry for entry in history.entries}
    newest: dict[str, Effect] = {}
    for entry in sorted(history.entries, key=lambda entry: entry.position):
        newest.update({effect.object: effect for effect in touched(entry)})
    for step in plan.steps:
        entry = entries[step.entry_id]
        if entry.reversibility == "irreversible" or (entry.in_doubt and entry.reversibility == "reversible"):
            assert step.decision not in GONE
        if entry.reversibility != "reversible" or step.assumed:
            continue
        for effect in touched(entry):
            now = present[f"files:{effect.object}"]
            if newest[effect.object] is effect and not now.same(effect.after) and not now.same(effect.before):
                assert step.decision not in GONE


def more_drift_never_unblocks(planning: Planning, history: History, place: str) -> None:
    present = observe(history.tree, history.entries)
    drifted = {f"files:{place}": State(digest="somebody else's", kind="file", content="somebody else's")}
    goal = history.goal("run_a")
    calm = settled_plan(planning, history.entries, goal, present, merging=False)
    worse = settled_plan(planning, history.entries, goal, present | drifted, merging=False)
    assert acted(worse) <= acted(calm)


def the_order_of_reading_is_irrelevant(planning: Planning, history: History) -> None:
    goal = history.goal("run_a", cascade=("run_b",))
    backwards = goal.model_copy(update={"chosen": goal.chosen[::-1]})
    present = observe(history.tree, history.entries)
    one = settled_plan(planning, history.entries, goal, present)
    other = settled_plan(planning, history.entries[::-1], backwards, dict(reversed(present.items())))
    assert one.steps == other.steps
    assert one.digest == other.digest
    assert one.other_runs == other.other_runs


def a_finished_rollback_has_nothing_left_to_do(planning: Planning, history: History) -> None:
    # what only the swap can tell is left out: a plan that is refused on the way is not finished
    plan = settled(planning, history, cascade=["run_b"])
    gone = set(execute(plan, history.tree, history.entries))
    if any(step.entry_id not in gone for step in plan.steps if step.decision in GONE):
        return
    history.entries = [entry for entry in history.entries if entry.id not in gone]
    assert not acted(settled(planning, history, cascade=["run_b"]))


def foreign_edits_survive(planning: Planning, history: History) -> None:
    before = foreign(history.tree)
    execute(settled(planning, history, cascade=["run_b"]), history.tree)
    assert before <= foreign(history.tree)


def a_run_that_nobody_disturbed_is_taken_back_to_the_start(planning: Planning, history: History) -> None:
    plan = settled(planning, history)
    assert {step.decision for step in plan.steps} <= {"restore", "skip"}
    done = execute(plan, history.tree)
    assert len(done) == sum(step.decision == "restore" for step in plan.steps)
    assert history.tree.things == {}


Law = Callable[[Planning, History], None]
LAWS: tuple[Law, ...] = (
    each_gets_one_step,
    dependents_come_first,
    nothing_is_undone_from_under_what_stays,
    drift_and_the_irreversible_are_left_alone,
    the_order_of_reading_is_irrelevant,
    a_finished_rollback_has_nothing_left_to_do,
    foreign_edits_survive,
)

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def holds(law: Law, planning: Planning, strategy: st.SearchStrategy[History], tries: settings) -> None:
    @tries
    @given(strategy)
    def check(history: History) -> None:
        law(planning, history)

    check()


def drift_law(planning: Planning, tries: settings) -> None:
    @tries
    @given(histories(), st.sampled_from(PLACES))
    def check(history: History, place: str) -> None:
        more_drift_never_unblocks(planning, history, place)

    check()


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_law_holds(law: Law) -> None:
    holds(law, plan_module.plan_rollback, histories(), QUICK)


def test_more_drift_never_unblocks() -> None:
    drift_law(plan_module.plan_rollback, QUICK)


def test_a_run_that_nobody_disturbed_is_taken_back_to_the_start() -> None:
    holds(
        a_run_that_nobody_disturbed_is_taken_back_to_the_start,
        plan_module.plan_rollback,
        histories(plain=True),
        QUICK,
    )


# --- mutants --------------------------------------------------------------------------------------------------------


def with_planner(kind: type[Planner]) -> Planning:
    return lambda entries, goal, observations: kind(entries, goal, observations).plan()


class ForgetsWhatIsBlocked(Planner):
    def plan(self) -> Plan:
        plan = super().plan()
        return plan.model_copy(update={"steps": tuple(s for s in plan.steps if s.decision != "blocked")})


class CascadesOneStepOnly(Planner):
    def __init__(self, entries: Sequence[Entry], goal: Goal, observations: Observations) -> None:
        super().__init__(entries, goal, observations)
        named = [node for node in self.nodes if node.entry.id in goal.chosen]
        self.chosen = set(goal.chosen) | {
            node.entry.id
            for node in self.nodes
            if node.entry.run_id in goal.cascade
            and any(depend(node.entry, other.entry) and node.rank > other.rank for other in named)
        }


class SeesOnlyTheSameObject(Planner):
    """Forgets that a file lies in a folder."""

    def __init__(self, entries: Sequence[Entry], goal: Goal, observations: Observations) -> None:
        super().__init__(entries, goal, observations)
        self.nodes = [
            Node(node.rank, node.entry, tuple(Touch(t.key, (), t.effect, t.rebuilds) for t in node.touches))
            for node in self.nodes
        ]


class OldestFirst(Planner):
    def plan(self) -> Plan:
        plan = super().plan()
        return plan.model_copy(update={"steps": plan.steps[::-1]})


class NothingBlocks(Planner):
    def blocked(self, node: Node) -> tuple[tuple[str, ...], str]:
        return (), ""


class OtherRunsDoNotMatter(Planner):
    def blocked(self, node: Node) -> tuple[tuple[str, ...], str]:
        self.left = Left()
        return super().blocked(node)


class ConflictsDoNotBlock(Planner):
    def gives_way(self, step: PlanStep) -> bool:
        return super().gives_way(step) or step.decision == "conflict"


class ThePresentDoesNotMatter(Planner):
    def as_left(self, touch: Touch, now: State) -> bool:
        return True


class EverythingIsReversible(Planner):
    def step(self, node: Node) -> PlanStep:
        entry = node.entry.model_copy(update={"reversibility": "reversible", "in_doubt": False})
        return super().step(Node(node.rank, entry, node.touches))


class TakesWhatDriftedForGone(Planner):
    """An act that cannot be taken back does not block any more once somebody else changed its object."""

    def gives_way(self, step: PlanStep) -> bool:
        if step.decision in ("irreversible", "in_doubt"):
            nodes = {node.entry.id: node for node in self.nodes}
            for touch in nodes[step.entry_id].touches:
                now, _ = self.world.look(touch)
                if now is not None and not now.same(touch.effect.after):
                    return True
        return super().gives_way(step)


class ReadsInTheOrderGiven(Planner):
    def __init__(self, entries: Sequence[Entry], goal: Goal, observations: Observations) -> None:
        super().__init__(entries, goal, observations)
        ranks = {entry.id: rank for rank, entry in enumerate(entries)}
        self.nodes = sorted(self.nodes, key=lambda node: ranks[node.entry.id])


class OneLayerAtATime(Planner):
    """Blocks on everything later, though it is being taken back."""

    def __init__(self, entries: Sequence[Entry], goal: Goal, observations: Observations) -> None:
        super().__init__(entries, goal, observations)
        self.obstacles = Cover()

    def gives_way(self, step: PlanStep) -> bool:
        return False


class FollowsAnyMerge(Planner):
    """Takes our side where both changed the same key."""

    def by_merge(
        self, node: Node, wanted: tuple[Effect, ...], present: tuple[State, ...], *, covered: bool
    ) -> PlanStep:
        swaps = tuple(
            Effect(system=want.system, object=want.object, before=now, after=want.after)
            for want, now in zip(wanted, present, strict=True)
        )
        self.world.apply(swaps, node)
        return self.of(node, "merge", "", effects=swaps)


class KnowsNothingOfFolders(Planner):
    """Takes what it saw below a folder for what will be there when the folder is back."""

    def by_state(self, node: Node) -> PlanStep:
        self.world._unsure.clear()
        return super().by_state(node)


MUTANTS: tuple[tuple[type[Planner], Law], ...] = (
    (ForgetsWhatIsBlocked, each_gets_one_step),
    (CascadesOneStepOnly, each_gets_one_step),
    (OldestFirst, dependents_come_first),
    (SeesOnlyTheSameObject, dependents_come_first),
    (NothingBlocks, nothing_is_undone_from_under_what_stays),
    (OtherRunsDoNotMatter, nothing_is_undone_from_under_what_stays),
    (ConflictsDoNotBlock, nothing_is_undone_from_under_what_stays),
    (SeesOnlyTheSameObject, nothing_is_undone_from_under_what_stays),
    (ThePresentDoesNotMatter, drift_and_the_irreversible_are_left_alone),
    (EverythingIsReversible, drift_and_the_irreversible_are_left_alone),
    (ReadsInTheOrderGiven, the_order_of_reading_is_irrelevant),
    (OneLayerAtATime, a_finished_rollback_has_nothing_left_to_do),
    (ThePresentDoesNotMatter, foreign_edits_survive),
    (FollowsAnyMerge, foreign_edits_survive),
)

HUNT = settings(
    derandomize=True,
    max_examples=3000,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.generate],
)


@pytest.mark.parametrize(("mutant", "law"), MUTANTS, ids=lambda part: part.__name__)
def test_the_law_kills_the_mutant(mutant: type[Planner], law: Law) -> None:
    with pytest.raises(AssertionError):
        holds(law, with_planner(mutant), histories(), HUNT)


def test_more_drift_kills_the_one_that_takes_what_drifted_for_gone() -> None:
    with pytest.raises(AssertionError):
        drift_law(with_planner(TakesWhatDriftedForGone), HUNT)


def test_the_round_trip_kills_the_one_that_knows_nothing_of_folders() -> None:
    law = a_run_that_nobody_disturbed_is_taken_back_to_the_start
    with pytest.raises(AssertionError):
        holds(law, with_planner(KnowsNothingOfFolders), histories(plain=True), HUNT)


# --- all small worlds -------------------------------------------------------------------------------------------------

SMALL = ("d", "d/a", "y")


def small_worlds(count: int) -> Iterator[tuple[list[Entry], dict[str, State]]]:
    """Every history of so many actions over three nested objects, and every way of drifting from it."""
    choices = tuple(product(SMALL, ("run_a", "run_b"), ("reversible", "compensable", "irreversible", "in_doubt")))
    for picks in product(choices, repeat=count):
        now = dict.fromkeys(SMALL, ABSENT)
        entries: list[Entry] = []
        for n, (place, run, how) in enumerate(picks):
            after = State(digest=f"s{n}", kind="file")
            effect = Effect(system="files", object=place, before=now[place], after=after)
            now[place] = after
            entries.append(
                Entry.model_construct(
                    id=f"e{n}", action_id=f"e{n}", run_id=run, position=n, tool="t", effects=(effect,), reason="",
                    reversibility="reversible" if how == "in_doubt" else how, in_doubt=how == "in_doubt",
                )
            )  # fmt: skip
        used = sorted({place for place, _, _ in picks})
        for drift in product((False, True), repeat=len(used)):
            theirs = State(digest="theirs", kind="file")
            yield (
                entries,
                {f"files:{place}": theirs if gone else now[place] for place, gone in zip(used, drift, strict=True)},
            )


def check_small(planning: Planning, entries: list[Entry], present: dict[str, State]) -> None:
    goal = Goal(chosen=tuple(entry.id for entry in entries if entry.run_id == "run_a"))
    clashes = {
        entry.id: MergeAnswer(present=(present[f"files:{entry.effects[0].object}"],), effects=None) for entry in entries
    }
    plan = planning(entries, goal, Observations(present=present, merges=clashes))
    assert not plan.needs or any(entry.run_id == "run_b" for entry in entries)
    steps = {step.entry_id: step for step in plan.steps}
    assert [step.entry_id for step in plan.steps] == list(reversed(goal.chosen))
    for n, mine in enumerate(entries):
        if mine.id not in steps:
            continue
        decision = steps[mine.id].decision
        later = [other for other in entries[n + 1 :] if depend(other, mine)]
        stay = [other for other in later if other.id not in steps or steps[other.id].decision not in GONE]
        place = mine.effects[0].object
        drifted = present[f"files:{place}"].digest == "theirs"
        if mine.reversibility == "irreversible":
            assert decision == "irreversible"
        elif mine.in_doubt:
            assert decision == "in_doubt"
        elif stay:
            assert decision == "blocked"
        elif mine.reversibility == "compensable":
            assert decision == "compensate"
        elif drifted:
            assert decision == "conflict"
        else:
            assert decision == "restore"
            assert steps[mine.id].effects[0].after == mine.effects[0].before


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_laws_hold_in_every_small_world(count: int) -> None:
    for entries, present in small_worlds(count):
        check_small(plan_module.plan_rollback, entries, present)


@pytest.mark.parametrize(
    "mutant",
    [
        NothingBlocks,
        OtherRunsDoNotMatter,
        ConflictsDoNotBlock,
        SeesOnlyTheSameObject,
        ThePresentDoesNotMatter,
        OldestFirst,
    ],
)
def test_the_small_worlds_kill_the_mutants(mutant: type[Planner]) -> None:
    with pytest.raises(AssertionError):
        for entries, present in small_worlds(2):
            check_small(with_planner(mutant), entries, present)
