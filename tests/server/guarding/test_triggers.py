"""Each trigger fires where it should, and does not where something only comes close."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.server.guarding.world import NOON, RUN, History, change, message, moved, named, removal

from takeback.journal import events as e
from takeback.journal.ids import ActionId
from takeback.server.engine.triggers import detect
from takeback.server.engine.triggers.values import Firing


def before(history: History, *effects: object, consented: bool = False, **more: object) -> list[Firing]:
    attempt = history.attempt(*effects, **more)  # type: ignore[arg-type]  # handed on as it is
    return detect.before(history.settings, history.tally, attempt, consented=consented)


def after(history: History) -> list[Firing]:
    return detect.after(history.settings, history.tally, history.now)


def made(history: History, acts: int, act: Callable[[int], None]) -> History:
    for number in range(acts):
        act(number)
        history.wait(1)
    return history


@pytest.mark.parametrize(("denials", "fires"), [(4, False), (5, True)])
def test_a_run_that_keeps_trying_what_policy_forbids_is_noticed(denials: int, fires: bool) -> None:
    history = History()
    made(history, denials, lambda _: history.deny())
    assert (named(after(history)) == ["policy_violation"]) is fires


def test_refusals_long_ago_or_because_of_containment_are_no_violations_of_today() -> None:
    history = History()
    made(history, 4, lambda _: history.deny())
    history.wait(600)
    made(history, 4, lambda _: history.deny())
    made(history, 9, lambda _: history.deny("containment"))
    assert after(history) == []


@pytest.mark.parametrize(("times", "fires"), [(19, False), (20, True)])
def test_the_same_call_over_and_over_is_noticed_before_it_is_made_again(times: int, fires: bool) -> None:
    history = History()
    made(history, times, lambda _: history.act(change("a"), arguments="same"))
    assert (named(before(history, change("a"), arguments="same")) == ["repeated_update"]) is fires
    assert before(history, change("a"), arguments="other") == []


def test_calls_that_turned_out_not_to_have_happened_are_no_repetition() -> None:
    history = History()
    made(history, 19, lambda _: history.act(change("a"), arguments="same"))
    history.fail(history.intend(change("a"), arguments="same"))
    assert before(history, change("a"), arguments="same") == []


@pytest.mark.parametrize(("failures", "fires"), [(19, False), (20, True)])
def test_a_storm_of_retries_is_noticed(failures: int, fires: bool) -> None:
    history = History()
    made(history, failures, lambda _: history.fail(code="stale_read"))
    assert (named(after(history)) == ["retry_storm"]) is fires


def test_a_success_in_between_is_no_storm() -> None:
    history = History()
    made(history, 19, lambda _: history.fail(code="stale_read"))
    history.act(change("a"))
    made(history, 19, lambda _: history.fail(code="stale_read"))
    assert after(history) == []


@pytest.mark.parametrize(("acts", "fires"), [(9, False), (10, True)])
def test_a_run_of_too_many_steps_is_noticed(acts: int, fires: bool) -> None:
    history = History(step_count={"threshold": 10})
    made(history, acts, lambda number: history.act(change("a"), arguments=str(number)))
    assert (named(before(history, change("a"))) == ["step_count"]) is fires


@pytest.mark.parametrize(("acts", "fires"), [(9, False), (10, True)])
def test_acts_that_come_too_fast_are_noticed(acts: int, fires: bool) -> None:
    history = History(mutation_rate={"threshold": 10, "window_seconds": 60})
    made(history, 30, lambda number: history.act(change("a"), arguments=f"earlier {number}"))
    history.wait(60)
    made(history, acts, lambda number: history.act(change("a"), arguments=str(number)))
    assert (named(before(history, change("a"))) == ["mutation_rate"]) is fires


RADIUS = {
    "objects": 5,
    "deleted": 2,
    "rows": 100,
    "recipients": 3,
    "systems": 2,
    "objects_per_minute": 4,
    "deleted_per_minute": 0,
}


@pytest.mark.parametrize(
    ("effects", "counts", "bound"),
    [
        ([change("1"), change("2"), change("3"), change("4")], {}, None),
        ([change("1"), change("2"), change("3"), change("4"), change("5")], {}, "objects_per_minute"),
        ([removal("1"), removal("2")], {}, None),
        ([removal("1"), removal("2"), removal("3")], {}, "deleted"),
        ([removal("1"), removal("2"), *moved("3", "4")], {}, None),
        ([removal("1")], {"deleted": 3}, "deleted"),
        ([change("1")], {"rows": 100}, None),
        ([change("1")], {"rows": 101}, "rows"),
        ([message("a@x", "b@x", "c@x", "A@X")], {}, None),
        ([message("a@x", "b@x", "c@x", "d@x")], {}, "recipients"),
        ([change("1")], {"recipients": 4}, "recipients"),
        ([change("1"), change("2", system="b")], {}, None),
        ([change("1"), change("2", system="b"), change("3", system="c")], {}, "systems"),
    ],
)
def test_what_would_pass_a_bound_is_noticed_before_it_is_made(effects, counts, bound) -> None:
    history = History(blast_radius=RADIUS)
    found = before(history, *effects, counts=counts)
    assert [firing.about for firing in found] == ([bound] if bound else [])
    assert all(firing.answer == "contain" for firing in found)


def test_bounds_are_of_all_that_a_run_did_and_each_object_counts_once() -> None:
    history = History(blast_radius=RADIUS)
    for name in "ababcdde":
        history.act(change(name), arguments=name)
        history.wait(61)
    assert before(history, change("a")) == []
    assert [firing.about for firing in before(history, change("f"))] == ["objects"]


def test_a_minute_is_over_after_a_minute() -> None:
    history = History(blast_radius=RADIUS)
    history.act(change("1"), change("2"), change("3"))
    history.wait(59)
    assert [firing.about for firing in before(history, change("4"), change("5"))] == ["objects_per_minute"]
    history.wait(1)
    assert before(history, change("4"), change("5")) == []


def test_what_a_person_consented_to_is_not_counted() -> None:
    history = History(blast_radius=RADIUS)
    crowd = message(*(f"{number}@x" for number in range(100)))
    assert before(history, crowd, consented=True) == []
    history.act(crowd, consented=True)
    assert before(history, message("a@x", "b@x", "c@x")) == []
    assert [firing.about for firing in before(history, crowd)] == ["recipients"]


def test_what_failed_is_not_counted() -> None:
    history = History(blast_radius=RADIUS)
    history.act(change("1"), change("2"))
    history.fail(history.intend(change("2"), change("3"), change("4")))
    assert before(history, change("5"), change("6")) == []


def test_two_hundred_edits_of_a_person_s_afternoon_are_normal_work() -> None:
    history = History()
    for number in range(400):
        assert before(history, change(str(number % 200)), arguments=str(number)) == []
        history.act(change(str(number % 200)), arguments=str(number))
        history.wait(0.5)
    for number in range(40):
        assert before(history, removal(f"old {number}"), tool="delete_file", arguments=str(number)) == []
        history.act(removal(f"old {number}"), tool="delete_file", arguments=str(number))
        history.wait(0.5)
    assert after(history) == []


def test_intents_that_together_pass_a_bound_are_noticed_once_they_stand() -> None:
    history = History(blast_radius=RADIUS)
    history.intend(change("1"), change("2"))
    history.intend(change("3"), change("4"))
    assert detect.intended(history.settings, history.tally, history.now) == []
    history.intend(change("5"))
    assert named(detect.intended(history.settings, history.tally, history.now)) == ["blast_radius"]


TENANTS = {"tenants": ["/data/{tenant}/*", "{tenant}-*//*", "*@{tenant}.example"]}


@pytest.mark.parametrize(
    ("effect", "fires"),
    [
        (change("/data/acme/orders/7"), False),
        (change("/data/Acme/orders/7"), False),
        (change("/elsewhere/globex"), False),
        (change("acme-shop//orders/7", system="database"), False),
        (message("ann@acme.example"), False),
        (change("/data/globex/orders/7"), True),
        (change("globex-shop//orders/7", system="database"), True),
        (message("ann@acme.example", "bob@globex.example"), True),
    ],
)
def test_a_run_keeps_to_the_tenant_it_began_with(effect, fires) -> None:
    history = History(target_confusion=TENANTS)
    history.act(change("/data/acme/readme"))
    assert (named(before(history, effect)) == ["target_confusion"]) is fires


def test_two_tenants_in_one_act_are_confusion_from_the_start() -> None:
    history = History(target_confusion=TENANTS)
    assert before(history, change("/data/acme/a"), change("/data/acme/b")) == []
    assert named(before(history, change("/data/acme/a"), change("/data/globex/a"))) == ["target_confusion"]


@pytest.mark.parametrize(("calls", "fires"), [(2, False), (3, True)])
def test_calls_outside_the_scope_are_noticed(calls: int, fires: bool) -> None:
    history = History()
    made(history, calls, lambda _: history.deny("default.scope"))
    assert (named(after(history)) == ["target_confusion"]) is fires


@pytest.mark.parametrize(
    ("version", "schema", "fires"), [("1", "s", False), ("2", "s", True), ("1", "t", True), ("1", "", False)]
)
def test_a_tool_that_is_not_what_it_was_is_noticed(version: str, schema: str, fires: bool) -> None:
    history = History()
    history.act(change("a"))
    history.act(change("a"), tool="other", version="9", schema="z")
    assert (named(before(history, change("b"), version=version, schema=schema)) == ["schema_drift"]) is fires


@pytest.mark.parametrize(("failures", "fires"), [(4, False), (5, True)])
def test_a_system_that_fails_part_of_the_acts_is_noticed(failures: int, fires: bool) -> None:
    history = History()

    def act(number: int) -> None:
        history.act(change("a"), arguments=f"good {number}")
        history.fail(history.intend(change("b", system="crm"), tool="crm"), tool="crm", code="refused")

    made(history, failures, act)
    assert ([firing.about for firing in after(history)] == ["crm"]) is fires


def test_doubts_and_systems_out_of_reach_count_as_failures_of_the_system() -> None:
    history = History()
    history.act(change("a", system="crm"), tool="crm")
    for _ in range(3):
        action = history.intend(change("a", system="crm"), tool="crm")
        history.tell(e.ActionInDoubt(run_id=RUN, at=history.now, action_id=action, reason="gone"))
    made(history, 2, lambda _: history.fail(tool="crm", code="unavailable"))
    assert [firing.about for firing in after(history)] == ["crm"]


def test_a_warning_is_not_repeated_within_ten_minutes() -> None:
    history = History(step_count={"threshold": 1})
    history.act(change("a"))
    assert named(before(history, change("b"))) == ["step_count"]
    history.tell(e.TriggerFired(run_id=RUN, at=history.now, trigger="step_count", answer="warn", evidence={}))
    history.wait(599)
    assert before(history, change("b")) == []
    history.wait(1)
    assert named(before(history, change("b"))) == ["step_count"]


def test_a_release_by_a_person_begins_the_counts_anew() -> None:
    history = History(blast_radius=RADIUS)
    history.act(change("1"), change("2"), change("3"), change("4"))
    made(history, 5, lambda _: history.deny())
    history.tell(e.RunReleased(run_id=RUN, at=history.now, by="anna"))
    assert after(history) == [] and before(history, change("5"), change("6")) == []


def test_an_answer_that_is_off_says_nothing() -> None:
    history = History(policy_violation={"answer": "off"}, step_count={"threshold": 1, "answer": "off"})
    made(history, 9, lambda _: history.deny())
    history.act(change("a"))
    assert after(history) == [] and before(history, change("a")) == []


def test_counts_are_the_same_whether_events_come_one_by_one_or_twice() -> None:
    history = History()
    action = history.intend(change("a"))
    assert history.tally.seq == 1
    history.tally.take([])
    history.tell(
        e.ActionSettled(run_id=RUN, at=NOON, action_id=ActionId(action), outcome="not_applied", by="x", why="")
    )
    assert history.tally.counts.acts == 0 and not history.tally.counts.total.objects
