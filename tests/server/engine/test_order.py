"""The order in which a plan is executed: what goes together, and what waits."""

from __future__ import annotations

from takeback.journal.ids import ActionId, RunId
from takeback.journal.states import ABSENT, Effect, State
from takeback.server.engine.order import Order
from takeback.server.engine.plan import PlanStep

THERE = State(digest="blake3:1", kind="file")


def step(name: str, *paths: str, after: tuple[str, ...] = (), system: str = "files") -> PlanStep:
    effects = tuple(Effect(system=system, object=path, before=THERE, after=ABSENT) for path in paths)
    return PlanStep(
        entry_id=name,
        action_id=ActionId(name),
        run_id=RunId("run"),
        tool="t",
        object=paths[0],
        decision="restore",
        effects=effects,
        wanted=effects,
        after_steps=after,
    )


def order(*steps: PlanStep, alone: tuple[int, ...] = ()) -> Order:
    return Order(steps, lambda effect: effect.object.rpartition("/")[0], lambda index: index not in alone)


def test_what_has_nothing_to_do_with_each_other_goes_together() -> None:
    assert order(step("a", "/d/a"), step("b", "/e/b"), step("c", "/d/c")).batch(10, 10) == [0, 2, 1]


def test_what_depends_on_another_waits_until_that_is_done() -> None:
    found = order(step("a", "/d/a"), step("b", "/d/a/b", after=("a",)), step("c", "/d/c"))
    assert found.batch(10, 10) == [0]
    found.done({0})
    assert found.batch(10, 10) == [1, 2]


def test_one_object_is_never_twice_in_a_batch() -> None:
    assert order(step("a", "/d/a"), step("b", "/d/a")).batch(10, 10) == [0]


def test_what_has_to_be_done_by_itself_holds_up_its_own_place_only() -> None:
    found = order(step("a", "/d/a"), step("b", "/d/b"), step("c", "/d/c"), step("e", "/e/e"), alone=(1,))
    assert found.batch(10, 10) == [0, 3]
    found.done({0, 3})
    assert found.batch(10, 10) == [] and found.alone(found.left()[0])


def test_a_batch_is_of_one_system() -> None:
    assert order(step("a", "/d/a"), step("b", "/e/b", system="other")).batch(10, 10) == [0]


def test_a_batch_is_bounded_in_steps_and_in_places() -> None:
    steps = [step(f"{number}", f"/d{number % 4}/{number}") for number in range(40)]
    assert len(order(*steps).batch(7, 100)) == 7
    assert len(order(*steps).batch(100, 2)) == 20
