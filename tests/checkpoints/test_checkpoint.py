"""What a checkpoint says of the objects, and when one can go back to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.checkpoints.history import ANNA
from tests.checkpoints.views import act_id, action, approval, checkpoint, chk, effect, merge_step, run, state

from takeback.checkpoints.checkpoint import Assessment, ObjectKey, assess, checkpoint_of, expected_objects, later
from takeback.journal.states import State
from takeback.journal.views import ActionView

A, B = ObjectKey("files", "a"), ObjectKey("files", "b")


def world(**objects: str) -> dict[tuple[str, str], State]:
    return {("files", name): state(value) for name, value in objects.items()}


# -- what it holds ---------------------------------------------------------------------------------------------------


def test_an_object_touched_before_is_as_the_last_action_left_it() -> None:
    actions = [action(1, effect("a", "", "1")), action(3, effect("a", "1", "2")), action(5, effect("a", "2", "3"))]
    assert expected_objects(actions, 3) == {A: state("2")}


def test_an_object_touched_only_afterwards_is_as_the_first_action_found_it() -> None:
    actions = [action(5, effect("a", "1", "2")), action(7, effect("a", "2", "3"))]
    assert expected_objects(reversed(actions), 3) == {A: state("1")}


def test_what_was_taken_back_does_not_count() -> None:
    actions = [action(1, effect("a", "1", "2")), action(2, effect("b", "1", "2"), stands=False)]
    assert expected_objects(actions, 9) == {A: state("2")}


def test_a_checkpoint_holds_everything_to_go_on_from() -> None:
    actions = [
        action(1, effect("a", "", "1"), step="write", summary="Wrote a.", answer={"lines": 3}),
        action(2, step="tell", tool="send", reversibility="irreversible", reason="mail", outcome={"id": "m1"}),
        action(3, step="book", stands=False, undo_outcome="compensated"),
        action(8, tool="send", reversibility="irreversible"),
    ]
    questions = [approval(), approval("used")]
    held = checkpoint_of(checkpoint(4, action_id=act_id(1)), run("write", "tell", "clean"), actions, questions)
    assert (held.owner, held.summary, held.step, held.output) == (ANNA, "Wrote a.", "write", {"lines": 3})
    assert held.next_step == "clean"
    assert held.versions == {A: state("1")}
    assert [(receipt.action_id, receipt.outcome) for receipt in held.receipts] == [(act_id(2), {"id": "m1"})]
    assert held.compensated == (act_id(3),)
    assert [item.approval_id for item in held.pending_approvals] == ["apr_1"]


def test_what_was_said_when_it_was_named_wins() -> None:
    view = checkpoint(4, label="half", step="draft", output="seen", next_step="polish", notes={"n": 1}, pinned=True)
    held = checkpoint_of(view, run("draft", "print"), [])
    assert (held.label, held.step, held.output, held.next_step) == ("half", "draft", "seen", "polish")
    assert (held.notes, held.pinned, held.action_id) == ({"n": 1}, True, None)


# -- whether one can go back -----------------------------------------------------------------------------------------

HISTORY = [action(1, effect("a", "", "1")), action(3, effect("a", "1", "2")), action(5, effect("b", "1", "2"))]
POINTS = [checkpoint(2), checkpoint(4), checkpoint(6)]


def safe(assessments: Mapping[object, Assessment]) -> list[bool]:
    return [assessments[chk(position)].verified_safe for position in (2, 4, 6)]


def test_a_world_as_it_was_left_is_safe_at_every_checkpoint_and_the_newest_is_recommended() -> None:
    found = assess(POINTS, HISTORY, world(a="2", b="2"))
    assert safe(found) == [True, True, True]
    assert [found[chk(position)].recommended for position in (2, 4, 6)] == [False, False, True]


def test_what_somebody_else_changed_is_drift_at_every_checkpoint() -> None:
    found = assess(POINTS, HISTORY, world(a="theirs", b="2"))
    assert safe(found) == [False, False, False]
    assert found[chk(6)].drift == (A,)
    assert not any(assessment.recommended for assessment in found.values())


def test_what_somebody_put_back_is_fine_at_the_checkpoint_that_had_it() -> None:
    found = assess(POINTS, HISTORY, world(a="1", b="2"))
    assert safe(found) == [True, False, False]
    assert found[chk(2)].recommended


def test_what_was_not_looked_at_is_not_called_safe() -> None:
    found = assess(POINTS, HISTORY, world(a="2"))
    assert safe(found) == [False, False, False]
    assert found[chk(2)].unseen == (B,) and found[chk(2)].drift == ()


def test_nothing_before_an_irreversible_act_is_safe() -> None:
    found = assess(POINTS, [*HISTORY, action(3, tool="send", reversibility="irreversible")], world(a="2", b="2"))
    assert safe(found) == [False, True, True]
    assert found[chk(2)].irreversible == (act_id(3),)


@pytest.mark.parametrize("status", ["in_doubt", "intended"])
def test_nothing_before_an_act_in_doubt_is_safe(status: str) -> None:
    doubt = action(5, effect("c", "1", "2"), status=status, stands=False)
    found = assess(POINTS, [*HISTORY, doubt], world(a="2", b="2"))
    assert safe(found) == [False, False, True]
    assert found[chk(4)].in_doubt == (act_id(5),)


def test_what_our_own_merge_left_behind_is_not_drift() -> None:
    history = [action(1, effect("a", "", "1"), stands=False), action(3, effect("a", "1", "2"))]
    found = assess(
        POINTS, history, world(a="2 without 1"), rollbacks=[merge_step(5, 1, effect("a", "2", "2 without 1"))]
    )
    assert all(assessment.drift == () for assessment in found.values())
    assert safe(found) == [False, True, True]  # taking act 3 back would have to merge: not exact


def test_a_file_in_a_folder_that_was_moved_later_is_judged_by_the_folder() -> None:
    history = [
        action(1, effect("d", "", "tree")),
        action(3, effect("d/x", "", "1")),
        action(5, effect("d", "tree with x", ""), effect("e", "", "tree with x")),
    ]
    moved = world(d="", e="tree with x", **{"d/x": ""})
    assert safe(assess(POINTS, history, moved)) == [True, True, True]
    changed = world(d="", e="tree with x and more", **{"d/x": ""})
    assert assess(POINTS, history, changed)[chk(6)].drift == (ObjectKey("files", "e"),)


def test_a_folder_in_which_the_run_worked_later_is_judged_by_what_it_changed_there() -> None:
    history = [action(1, effect("d", "", "tree")), action(3, effect("d/x", "", "1"))]
    assert safe(assess(POINTS, history, world(d="tree with x", **{"d/x": "1"}))) == [True, True, True]
    assert safe(assess(POINTS, history, world(d="tree with x", **{"d/x": "2"}))) == [False, False, False]


def test_a_name_that_begins_alike_is_not_inside() -> None:
    history = [action(1, effect("d", "", "tree")), action(3, effect("dx", "", "1"))]
    assert safe(assess(POINTS, history, world(d="theirs", dx="1"))) == [False, False, False]


# -- laws ------------------------------------------------------------------------------------------------------------

VALUES = ["", "1", "2", "3"]
OBJECTS = ["a", "b", "c"]


@dataclass(frozen=True)
class Story:
    """A run of random acts on three objects, some of the last ones taken back, and a world that others changed."""

    start: dict[str, str]
    actions: list[ActionView]
    final: dict[str, str]
    present: dict[str, str]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    start = {name: draw(st.sampled_from(VALUES)) for name in OBJECTS}
    now = dict(start)
    actions: list[ActionView] = []
    for index in range(draw(st.integers(0, 7))):
        names = draw(st.lists(st.sampled_from(OBJECTS), min_size=1, max_size=2, unique=True))
        effects = []
        for name in names:
            value = draw(st.sampled_from(VALUES))
            effects.append(effect(name, now[name], value))
            now[name] = value
        kind = draw(st.sampled_from(["reversible"] * 5 + ["irreversible"]))
        actions.append(action(2 * index + 1, *effects, reversibility=kind))
    for index in reversed(range(len(actions))):
        if not draw(st.booleans()):
            break
        for change in reversed(actions[index].effects):
            now[change.object] = change.before.digest.removeprefix("v:") if not change.before.absent else ""
        actions[index] = actions[index].model_copy(update={"stands": False})
    present = {name: draw(st.sampled_from([value] * 3 + VALUES)) for name, value in now.items()}
    return Story(start, actions, now, present)


def replayed(story: Story, position: int) -> dict[str, State]:
    """The objects after replaying the standing actions up to a position, from the beginning."""
    objects = {name: state(value) for name, value in story.start.items()}
    for one in story.actions:
        if one.stands and one.position <= position:
            for change in one.effects:
                objects[change.object] = change.after
    return objects


def rolled_back(story: Story, position: int) -> dict[str, State]:
    """The present world after a rollback that follows the three-way rule, object by object, newest first."""
    objects = {name: state(value) for name, value in story.present.items()}
    for one in reversed(later(story.actions, position)):
        for change in reversed(one.effects):
            if objects[change.object].same(change.after):
                objects[change.object] = change.before
    return objects


def points(story: Story) -> list[int]:
    return [0, *(one.position + 1 for one in story.actions)]


@given(stories())
def test_expected_objects_are_what_a_replay_gives(story: Story) -> None:
    touched = {change.object for one in story.actions if one.stands for change in one.effects}
    for position in points(story):
        expected = expected_objects(story.actions, position)
        whole = replayed(story, position)
        assert {key.object: value.digest for key, value in expected.items()} == {
            name: whole[name].digest for name in touched
        }


@given(stories())
def test_a_rollback_to_a_safe_checkpoint_restores_exactly(story: Story) -> None:
    found = assess(map(checkpoint, points(story)), story.actions, world(**story.present))
    for position in points(story):
        if found[chk(position)].verified_safe:
            after = rolled_back(story, position)
            for key, value in expected_objects(story.actions, position).items():
                assert after[key.object].same(value)
            assert all(one.reversibility != "irreversible" for one in later(story.actions, position))


@given(stories())
def test_without_foreign_edits_only_what_is_irreversible_stands_in_the_way(story: Story) -> None:
    found = assess(map(checkpoint, points(story)), story.actions, world(**story.final))
    for position in points(story):
        blocked = any(one.reversibility == "irreversible" for one in later(story.actions, position))
        assert found[chk(position)].verified_safe == (not blocked)
        assert found[chk(position)].recommended == (position == max(points(story)))


@given(stories())
def test_drift_is_only_ever_what_somebody_else_changed_and_new_content_always_is(story: Story) -> None:
    found = assess(map(checkpoint, points(story)), story.actions, world(**story.present))
    foreign = assess(map(checkpoint, points(story)), story.actions, world(**dict.fromkeys(OBJECTS, "foreign")))
    touched = {change.object for one in story.actions if one.stands for change in one.effects}
    for position in points(story):
        for key in found[chk(position)].drift:
            assert story.present[key.object] != story.final[key.object]
        assert {key.object for key in foreign[chk(position)].drift} == touched


@given(stories(), st.randoms(use_true_random=False))
def test_the_order_of_reading_is_irrelevant(story: Story, random: st.DataObject) -> None:
    shuffled = list(story.actions)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    views = [checkpoint(position) for position in points(story)]
    assert assess(views, story.actions, world(**story.present)) == assess(
        reversed(views), shuffled, world(**story.present)
    )
