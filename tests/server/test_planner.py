"""What a plan says in the cases that people meet."""

from __future__ import annotations

from tests.server.planner_world import History, Tree, execute, observe, settled_plan

from takeback.journal.states import ABSENT, Effect, State
from takeback.server.engine.plan import (
    Entry,
    Goal,
    MergeAnswer,
    Observations,
    Plan,
    object_key,
    plan_rollback,
)


def decisions(plan: Plan) -> list[str]:
    return [step.decision for step in plan.steps]


def test_a_run_of_writes_is_restored_newest_first() -> None:
    history = History()
    history.write("run_a", "notes", {"a": "1"})
    history.write("run_a", "notes", {"a": "2"})
    history.write("run_a", "other", {"b": "1"})
    plan = history.plan()
    assert decisions(plan) == ["restore"] * 3
    assert [step.entry_id for step in plan.steps] == ["act_003", "act_002", "act_001"]
    assert plan.steps[2].after_steps == ("act_002",)
    assert plan.steps[1].after_steps == ()
    assert plan.steps[1].effects[0].after == plan.steps[2].effects[0].before
    execute(plan, history.tree)
    assert history.tree.things == {}


def test_what_is_as_it_was_before_already_needs_nothing() -> None:
    history = History()
    history.write("run_a", "notes", {"a": "1"})
    del history.tree.things["notes"]
    assert decisions(history.plan()) == ["already_undone"]


def test_an_action_that_changed_nothing_is_skipped() -> None:
    history = History()
    history.write("elsewhere", "notes", {"a": "1"})
    history.write("run_a", "notes", {"a": "1"})
    assert decisions(history.plan()) == ["skip"]


def test_only_what_is_still_as_the_action_left_it_is_restored_of_an_action_on_several_objects() -> None:
    history = History()
    history.act("run_a", [(name, Tree({name: {"k": "v"}}).look(name)) for name in ("x", "y")])
    del history.tree.things["x"]
    plan = history.plan()
    assert decisions(plan) == ["restore"]
    assert [effect.object for effect in plan.steps[0].effects] == ["y"]


def test_a_change_elsewhere_in_the_file_is_merged() -> None:
    history = History()
    history.write("elsewhere", "notes", {"a": "1"})
    history.write("run_a", "notes", {"a": "2"})
    history.tree.things["notes"] = {"a": "2", "mine": "kept"}
    plan = history.plan()
    assert decisions(plan) == ["merge"]
    execute(plan, history.tree)
    assert history.tree.things["notes"] == {"a": "1", "mine": "kept"}


def test_a_change_at_the_same_place_is_a_conflict_and_nothing_older_is_touched() -> None:
    history = History()
    history.mkdir("run_a", "d")
    history.write("run_a", "d/f", {"a": "1"})
    history.write("run_a", "d/f", {"a": "2"})
    history.write("run_a", "e", {"a": "1"})
    history.tree.things["d/f"] = {"a": "mine"}
    plan = history.plan()
    assert decisions(plan) == ["restore", "conflict", "blocked", "blocked"]
    assert plan.steps[1].wanted[0].before.ref["file"] == {"a": "2"}
    assert plan.steps[1].present[0].ref["file"] == {"a": "mine"}
    assert plan.steps[2].blocked_by == ("act_003",)
    assert plan.steps[3].blocked_by == ("act_002",)


def test_merges_of_several_actions_on_one_object_are_asked_for_one_after_the_other() -> None:
    history = History()
    history.write("elsewhere", "notes", {"a": "0", "b": "0"})
    first = history.write("run_a", "notes", {"a": "1", "b": "0"})
    second = history.write("run_a", "notes", {"a": "1", "b": "1"})
    history.tree.things["notes"] = {"a": "1", "b": "1", "mine": "kept"}
    present = observe(history.tree, history.entries)
    asked = plan_rollback(history.entries, history.goal("run_a"), Observations(present=present))
    assert [need.entry_id for need in asked.needs] == [second.id]
    assert decisions(asked) == ["merge", "merge"]
    assert asked.steps[0].effects == asked.steps[1].effects == ()

    plan = history.plan()
    assert plan.needs == ()
    assert [step.entry_id for step in plan.steps] == [second.id, first.id]
    assert decisions(plan) == ["merge", "merge"]
    assert plan.steps[1].effects[0].before == plan.steps[0].effects[0].after
    execute(plan, history.tree)
    assert history.tree.things["notes"] == {"a": "0", "b": "0", "mine": "kept"}


def test_a_merge_made_with_an_older_state_is_asked_for_again() -> None:
    history = History()
    entry = history.write("run_a", "notes", {"a": "1"})
    stale = MergeAnswer(present=(State(digest="older", kind="file"),), effects=())
    history.tree.things["notes"] = {"a": "1", "mine": "kept"}
    observations = Observations(present=observe(history.tree, history.entries), merges={entry.id: stale})
    assert [need.entry_id for need in plan_rollback([entry], history.goal("run_a"), observations).needs] == [entry.id]


def test_a_merge_that_starts_from_something_else_than_what_stands_there_is_not_followed() -> None:
    history = History()
    entry = history.write("run_a", "notes", {"a": "1"})
    history.tree.things["notes"] = {"a": "1", "mine": "kept"}
    present = observe(history.tree, history.entries)
    for effect in (
        Effect(system="files", object="notes", before=entry.effects[0].after, after=ABSENT),
        Effect(system="files", object="passwords", before=present["files:notes"], after=ABSENT),
    ):
        answer = MergeAnswer(present=(present["files:notes"],), effects=(effect,))
        observations = Observations(present=present, merges={entry.id: answer})
        assert decisions(plan_rollback([entry], history.goal("run_a"), observations)) == ["conflict"]


def test_a_merge_that_changes_nothing_means_that_nothing_of_the_action_is_left() -> None:
    history = History()
    history.write("elsewhere", "notes", {"a": "1", "b": "1"})
    history.write("run_a", "notes", {"a": "2", "b": "1"})
    history.tree.things["notes"] = {"a": "1", "b": "mine"}
    entry = history.entries[1]
    present = observe(history.tree, history.entries)
    now = present["files:notes"]
    same = Effect(system="files", object="notes", before=now, after=now)
    answer = MergeAnswer(present=(now,), effects=(same,))
    plan = plan_rollback(
        history.entries, history.goal("run_a"), Observations(present=present, merges={entry.id: answer})
    )
    assert decisions(plan) == ["already_undone"]


def test_what_could_not_be_looked_at_is_not_touched() -> None:
    history = History()
    entry = history.write("run_a", "notes", {"a": "1"})
    plan = plan_rollback([entry], history.goal("run_a"), Observations(present={}))
    assert decisions(plan) == ["conflict"]
    assert "notes" in plan.steps[0].why


def test_irreversible_acts_and_doubts_are_named_and_block_what_they_stand_on() -> None:
    for more, word in (
        ({"reversibility": "irreversible", "reason": "too large"}, "irreversible"),
        ({"in_doubt": True}, "in_doubt"),
    ):
        history = History()
        history.write("run_a", "notes", {"a": "1"})
        history.write("run_a", "notes", {"a": "2"}, **more)
        history.write("run_a", "other", {"a": "2"})
        assert decisions(history.plan()) == ["restore", word, "blocked"]


def test_a_compensable_act_is_compensated_even_in_doubt_and_without_a_look() -> None:
    history = History()
    history.write("run_a", "ticket", {"a": "1"}, reversibility="compensable", in_doubt=True)
    plan = plan_rollback(history.entries, history.goal("run_a"), Observations(present={}))
    assert decisions(plan) == ["compensate"]


def test_acts_that_name_no_object_do_not_depend_on_each_other() -> None:
    sent = (State(digest="opaque:before", kind="opaque"), State(digest="opaque:after", kind="opaque"))
    effect = Effect(system="crm", object="post", before=sent[0], after=sent[1])
    entries = [
        Entry(id=f"{run}{n}", action_id=f"{run}{n}", run_id=run, position=n, tool="post", effects=(effect,), reversibility=how)
        for n, (run, how) in enumerate([("run_a", "compensable"), ("run_a", "irreversible"), ("run_b", "compensable")])
    ]  # fmt: skip
    plan = plan_rollback(entries, Goal(chosen=("run_a0", "run_a1")), Observations(present={}))
    assert decisions(plan) == ["irreversible", "compensate"]
    assert plan.other_runs == ()


def test_an_opaque_act_blocks_only_what_shares_its_object() -> None:
    sent = (State(digest="opaque:before", kind="opaque"), State(digest="opaque:after", kind="opaque"))

    def entry(n: int, object: str, how: str) -> Entry:
        effect = Effect(system="crm", object=object, before=sent[0], after=sent[1])
        return Entry(
            id=f"e{n}", action_id=f"e{n}", run_id="run_a", position=n, tool="post", effects=(effect,), reversibility=how
        )

    entries = [entry(1, "t/1", "compensable"), entry(2, "t/1/note", "compensable"), entry(3, "t/1", "irreversible")]
    plan = plan_rollback(entries, Goal(chosen=("e1", "e2", "e3")), Observations(present={}))
    assert decisions(plan) == ["irreversible", "compensate", "blocked"]


def test_a_later_run_on_the_same_object_blocks_until_it_is_named() -> None:
    history = History()
    history.write("run_a", "notes", {"a": "1"})
    history.write("run_b", "notes", {"a": "2"})
    history.write("run_b", "unrelated", {"a": "2"})
    history.write("run_b", "notes", {"a": "3"})
    plan = history.plan()
    assert decisions(plan) == ["blocked"]
    assert plan.other_runs == ("run_b",)
    assert plan.steps[0].blocked_by == ("act_002",)

    named = history.plan(cascade=("run_b",))
    assert [(step.entry_id, step.decision) for step in named.steps] == [
        ("act_004", "restore"),
        ("act_002", "restore"),
        ("act_001", "restore"),
    ]
    assert named.other_runs == ()


def test_a_cascade_takes_along_what_builds_on_what_is_taken_along() -> None:
    history = History()
    history.mkdir("run_a", "d")
    history.write("run_b", "unrelated", {"k": "1"})
    history.write("run_b", "d/f", {"k": "1"})
    history.move("run_b", "d/f", "x")
    history.write("run_b", "x", {"k": "2"})
    plan = history.plan(cascade=("run_b",))
    assert [step.entry_id for step in plan.steps] == ["act_005", "act_004", "act_003", "act_001"]
    assert decisions(plan) == ["restore"] * 4
    assert len(execute(plan, history.tree)) == 4
    assert history.tree.things == {"unrelated": {"k": "1"}}


def test_the_folder_in_which_another_run_put_a_file_stays() -> None:
    history = History()
    history.mkdir("run_a", "d")
    history.write("run_a", "d/mine", {"a": "1"})
    history.write("run_b", "d/theirs", {"a": "1"})
    plan = history.plan()
    assert decisions(plan) == ["restore", "blocked"]
    assert plan.other_runs == ("run_b",)


def test_the_folder_in_which_the_run_put_a_file_that_stays_is_not_pulled_away() -> None:
    history = History()
    folder = history.mkdir("run_a", "d")
    file = history.write("run_a", "d/f", {"a": "1"})
    present = observe(history.tree, history.entries)
    plan = plan_rollback(history.entries, Goal(chosen=(folder.id,)), Observations(present=present))
    assert decisions(plan) == ["blocked"]
    assert plan.steps[0].blocked_by == (file.id,)


def test_a_file_whose_folder_was_deleted_later_waits_for_the_folder() -> None:
    history = History()
    history.mkdir("elsewhere", "d")
    history.write("elsewhere", "d/f", {"a": "1"})
    history.delete("run_a", "d/f")
    gone = history.delete("run_a", "d")
    present = observe(history.tree, history.entries)
    plan = plan_rollback(history.entries, Goal(chosen=("act_003",)), Observations(present=present))
    assert decisions(plan) == ["blocked"]
    assert plan.steps[0].blocked_by == (gone.id,)


def test_selected_actions_under_a_later_one_that_stays_are_merged() -> None:
    history = History()
    history.write("elsewhere", "notes", {"a": "0", "b": "0"})
    first = history.write("run_a", "notes", {"a": "1", "b": "0"})
    history.write("run_a", "notes", {"a": "1", "b": "1"})
    present = observe(history.tree, history.entries)
    plan = settled_plan(plan_rollback, history.entries, Goal(chosen=(first.id,)), present)
    assert decisions(plan) == ["merge"]
    execute(plan, history.tree)
    assert history.tree.things["notes"] == {"a": "0", "b": "1"}


def test_a_folder_deleted_whole_comes_back_and_then_its_files_are_taken_back() -> None:
    history = History()
    history.mkdir("run_a", "d")
    history.write("run_a", "d/f", {"a": "1"})
    history.write("run_a", "d/f", {"a": "2"})
    history.delete("run_a", "d")
    plan = history.plan()
    assert decisions(plan) == ["restore"] * 4
    assert [step.assumed for step in plan.steps] == [False, True, False, True]
    assert len(execute(plan, history.tree)) == 4
    assert history.tree.things == {}


def test_a_folder_moved_and_edited_is_taken_back_to_the_start() -> None:
    history = History()
    history.mkdir("elsewhere", "d")
    history.write("elsewhere", "d/f", {"a": "0"})
    before = history.tree.copy()
    history.write("run_a", "d/f", {"a": "1"})
    history.move("run_a", "d", "e")
    history.write("run_a", "e/f", {"a": "2"})
    plan = history.plan()
    assert decisions(plan) == ["restore"] * 3
    assert len(execute(plan, history.tree)) == 3
    assert history.tree == before


def test_a_foreign_file_in_a_copied_folder_is_found_by_the_swap_and_survives() -> None:
    history = History()
    history.mkdir("elsewhere", "d")
    history.write("elsewhere", "d/f", {"a": "0"})
    history.copy("run_a", "d", "e")
    history.write("run_a", "e/f", {"a": "1"})
    history.tree.things["e/mine"] = {"mine": "kept"}
    plan = history.plan()
    assert [step.assumed for step in plan.steps] == [False, True]
    assert execute(plan, history.tree) == ["act_004"]
    assert history.tree.things["e/mine"] == {"mine": "kept"}


def test_a_change_made_between_two_actions_is_merged_when_the_later_one_is_back() -> None:
    history = History()
    history.write("elsewhere", "notes", {"a": "0"})
    history.write("run_a", "notes", {"a": "1"})
    history.tree.things["notes"] = {"a": "1", "mine": "kept"}
    history.write("run_a", "notes", {"a": "1", "mine": "kept", "b": "1"})
    plan = history.plan()
    assert decisions(plan) == ["restore", "merge"]
    execute(plan, history.tree)
    assert history.tree.things["notes"] == {"a": "0", "mine": "kept"}


def test_two_changes_of_one_object_by_one_action_are_taken_back_as_one() -> None:
    states = [State(digest=f"s{n}", kind="file", content=f"c{n}") for n in range(3)]
    effects = tuple(Effect(system="files", object="x", before=states[n], after=states[n + 1]) for n in range(2))
    entry = Entry(
        id="e", action_id="e", run_id="run_a", position=1, tool="t", effects=effects, reversibility="reversible"
    )
    plan = plan_rollback([entry], Goal(chosen=("e",)), Observations(present={object_key("files", "x"): states[2]}))
    assert decisions(plan) == ["restore"]
    assert [(e.before.digest, e.after.digest) for e in plan.steps[0].effects] == [("s2", "s0")]


def test_a_redo_skips_what_was_compensated() -> None:
    history = History()
    history.write("run_a", "mail", {"a": "1"}, reversibility="irreversible", reason="made up for")
    history.write("run_a", "notes", {"a": "1"})
    plan = history.plan(kind="redo")
    assert decisions(plan) == ["restore", "skip"]
    assert plan.steps[1].why == "made up for"


def test_the_digest_names_what_will_be_done_and_nothing_else() -> None:
    history = History()
    history.write("run_a", "notes", {"a": "1"})
    plan = history.plan()
    assert history.plan(label="another text").digest == plan.digest
    assert history.plan(kind="redo").digest != plan.digest
    history.tree.things["notes"] = {"a": "1", "mine": "kept"}
    assert history.plan().digest != plan.digest


def test_names_that_are_no_text_do_not_stop_the_planner() -> None:
    history = History()
    history.write("run_a", "notes\udcff", {"a": "1"})
    assert history.plan().digest.startswith("sha256:")


def test_systems_do_not_mix() -> None:
    states = [State(digest=f"s{n}", kind="file") for n in range(2)]

    def entry(id: str, system: str, n: int, run: str) -> Entry:
        effect = Effect(system=system, object="x", before=states[0], after=states[1])
        return Entry(
            id=id, action_id=id, run_id=run, position=n, tool="t", effects=(effect,), reversibility="reversible"
        )

    plan = plan_rollback(
        [entry("a", "one", 1, "run_a"), entry("b", "two", 2, "run_b")],
        Goal(chosen=("a",)),
        Observations(present={"one:x": states[1], "two:x": states[1]}),
    )
    assert decisions(plan) == ["restore"]


def test_planning_grows_with_the_number_of_entries_and_not_with_its_square() -> None:
    def work(n: int) -> int:
        history = History()
        history.mkdir("run_a", "d")
        for number in range(n):
            history.write("run_a", f"d/f{number % 3}", {"n": str(number)})
        plan = history.plan()
        assert set(decisions(plan)) == {"restore"}
        return sum(len(step.after_steps) for step in plan.steps)

    assert work(200) < 200 * 4
