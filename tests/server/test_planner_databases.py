"""What a plan says of rows, tables and databases: what lies in what, and states that tell of a part only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from takeback.journal.states import ABSENT, Effect, State
from takeback.server.engine.plan import Entry, Goal, Observations, Plan, object_key, plan_rollback

APP = "files:/home/ada/app.db"


def state(kind: str, text: str) -> State:
    return ABSENT if not text else State(digest=f"{kind}:{text}", kind=kind, content=text)


def entry(number: int, object: str, kind: str, before: str, after: str, *, run: str = "run_a", system="database"):
    effect = Effect(system=system, object=object, before=state(kind, before), after=state(kind, after))
    return Entry(
        id=f"act_{number}",
        action_id=f"act_{number}",
        run_id=run,
        position=number,
        tool="execute_sql",
        effects=(effect,),
        reversibility="reversible",
    )


def plan(entries: Sequence[Entry], present: Mapping[str, State], *chosen: str, cascade: Sequence[str] = ()) -> Plan:
    seen = {object_key("database", object): now for object, now in present.items()}
    goal = Goal(chosen=chosen or tuple(entry.id for entry in entries), cascade=tuple(cascade))
    return plan_rollback(entries, goal, Observations(present=seen))


def told(plan: Plan) -> list[tuple[str, str, bool]]:
    return [(step.entry_id, step.decision, step.assumed) for step in plan.steps]


def test_a_table_changed_twice_is_taken_back_twice_though_the_two_states_cannot_be_compared():
    entries = [
        entry(1, "shop//orders", "rows", "img1:before", "img1:after"),
        entry(2, "shop//orders", "rows", "img2:before", "img2:after"),
    ]
    made = plan(entries, {"shop//orders": state("rows", "img2:after")})
    assert told(made) == [("act_2", "restore", False), ("act_1", "restore", True)]
    assert made.steps[1].effects[0].before.content == "img1:after"
    assert made.steps[1].after_steps == ("act_2",)


def test_what_somebody_else_changed_among_the_newest_rows_is_merged():
    entries = [entry(1, "shop//orders", "rows", "img1:before", "img1:after")]
    made = plan(entries, {"shop//orders": state("rows", "mixed")})
    assert [need.entry_id for need in made.needs] == ["act_1"]


def test_rows_changed_one_by_one_before_and_after_a_change_of_the_whole_table_are_taken_back_in_order():
    entries = [
        entry(1, "shop//orders/5", "row", "a", "b"),
        entry(2, "shop//orders", "rows", "img:before", "img:after"),
        entry(3, "shop//orders/5", "row", "c", "d"),
    ]
    present = {"shop//orders/5": state("row", "d"), "shop//orders": state("rows", "mixed")}
    assert told(plan(entries, present)) == [
        ("act_3", "restore", False),
        ("act_2", "restore", True),
        ("act_1", "restore", True),
    ]


def test_rows_of_a_table_that_was_dropped_later_are_taken_back_after_it():
    entries = [
        entry(1, "shop//orders", "table", "", "empty"),
        entry(2, "shop//orders", "rows", "img:before", "img:after"),
        entry(3, "shop//orders", "table", "full", ""),
    ]
    made = plan(entries, {"shop//orders": ABSENT})
    assert told(made) == [("act_3", "restore", False), ("act_2", "restore", True), ("act_1", "restore", True)]


def test_a_row_that_is_taken_back_alone_stays_while_a_later_change_of_its_whole_table_stands():
    entries = [entry(1, "shop//orders/5", "row", "a", "b"), entry(2, "shop//orders", "rows", "i:before", "i:after")]
    made = plan(entries, {"shop//orders/5": state("row", "b")}, "act_1")
    assert [(step.decision, step.blocked_by) for step in made.steps] == [("blocked", ("act_2",))]


def test_rows_that_have_nothing_to_do_with_each_other_can_be_taken_back_alone():
    entries = [entry(1, "shop//orders/5", "row", "a", "b"), entry(2, "shop//orders/6", "row", "a", "b", run="run_b")]
    made = plan(entries, {"shop//orders/5": state("row", "b")}, "act_1")
    assert told(made) == [("act_1", "restore", False)]


def test_another_run_that_changed_the_same_row_since_is_named_first():
    entries = [entry(1, "shop//orders/5", "row", "a", "b"), entry(2, "shop//orders/5", "row", "b", "c", run="run_b")]
    present = {"shop//orders/5": state("row", "c")}
    made = plan(entries, present, "act_1")
    assert made.other_runs == ("run_b",)
    cascaded = plan(entries, present, "act_1", cascade=["run_b"])
    assert told(cascaded) == [("act_2", "restore", False), ("act_1", "restore", False)]


def test_a_change_of_the_whole_database_is_taken_back_before_the_rows_that_were_changed_before_it():
    entries = [entry(1, "shop//orders/5", "row", "a", "b"), entry(2, "shop", "database", "old", "new")]
    present = {"shop//orders/5": state("row", "b"), "shop": state("database", "new")}
    assert told(plan(entries, present)) == [("act_2", "restore", False), ("act_1", "restore", True)]


def test_rows_of_a_file_that_was_deleted_later_are_taken_back_after_the_file():
    entries = [
        entry(1, f"{APP}//orders/5", "row", "a", "b"),
        entry(2, "/home/ada/app.db", "file", "content", "", system="files"),
    ]
    present = {f"database:{APP}//orders/5": ABSENT, "files:/home/ada/app.db": ABSENT}
    goal = Goal(chosen=("act_1", "act_2"))
    made = plan_rollback(entries, goal, Observations(present=present))
    assert told(made) == [("act_2", "restore", False), ("act_1", "restore", True)]
    assert made.steps[1].after_steps == ("act_2",)


def test_a_file_is_not_taken_back_from_under_rows_that_stay():
    entries = [
        entry(1, "/home/ada/app.db", "file", "", "content", system="files"),
        entry(2, f"{APP}//orders/5", "row", "a", "b", run="run_b"),
    ]
    present = {f"database:{APP}//orders/5": state("row", "b"), "files:/home/ada/app.db": state("file", "content")}
    made = plan_rollback(entries, Goal(chosen=("act_1",)), Observations(present=present))
    assert [step.decision for step in made.steps] == ["blocked"]
    assert made.other_runs == ("run_b",)
