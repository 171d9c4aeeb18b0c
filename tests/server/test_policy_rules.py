"""Which rule meets which call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from takeback.journal.events import Caller
from takeback.journal.states import ABSENT, Effect, State
from takeback.server.engine.policy import Judged
from takeback.server.engine.policy_rules import PolicyFile, RulesPolicy


def effect(
    object: str, *, system: str = "files", verb: str = "changed", size: int = 0, kind: str = "file", like: str = "a"
) -> Effect:
    before = ABSENT if verb == "created" else State(digest="b", kind=kind, size=size)
    after = ABSENT if verb == "deleted" else State(digest=like, kind=kind, size=size)
    return Effect(system=system, object=object, before=before, after=after)


def gone(*objects: str) -> list[Effect]:
    return [effect(object, verb="deleted") for object in objects]


def message(*to: str) -> Effect:
    held = State(digest="held", kind="held", ref={"message": {"recipients": list(to)}})
    return Effect(system="outbox", object="out_1", before=ABSENT, after=held)


def call(*effects: Effect, **more: Any) -> Judged:
    given: dict[str, Any] = {
        "tool": "write_file",
        "known": True,
        "caller": Caller(principal="local:ada", client="Claude"),
        "mode": "act",
        "scope": (),
        "effects": effects,
        "reversibility": "reversible",
        "reason": "",
        "at": datetime(2026, 11, 27, 12, 0, tzinfo=UTC),  # a Friday
    }
    return Judged(**{**given, **more})


def policy(*rules: dict[str, Any]) -> RulesPolicy:
    named = [{"id": f"r{number}", **rule} for number, rule in enumerate(rules)]
    return RulesPolicy(PolicyFile.model_validate({"version": 1, "rules": named}).rules)


def decided(rule: dict[str, Any], judged: Judged) -> bool:
    return policy(rule).judge(judged).rule == "r0"


def test_the_first_rule_that_meets_decides() -> None:
    rules = policy(
        {"when": {"tools": ["delete_*"]}, "then": "deny", "reason": "nothing is deleted here"},
        {"when": {"tools": ["*_file"]}, "then": "ask"},
        {"then": "allow"},
    )
    assert rules.judge(call(tool="delete_file")).rule == "r0"
    assert rules.judge(call(tool="delete_file")).reason == "nothing is deleted here"
    assert rules.judge(call(tool="write_file")).rule == "r1"
    assert rules.judge(call(tool="execute_sql", reversibility="irreversible")).decision == "allow"


def test_what_no_rule_is_about_is_judged_by_the_default_policy() -> None:
    rules = policy({"when": {"tools": ["delete_file"]}, "then": "deny"})
    assert rules.judge(call()).rule == "default.reversible"
    assert rules.judge(call(reversibility="irreversible", reason="gone for good")).decision == "ask"
    assert rules.judge(call(known=False)).rule == "default.unknown"


def test_conditions_about_objects_have_to_hold_for_one_and_the_same_effect() -> None:
    rule = {"when": {"systems": ["files"], "objects": ["*/finance/*"], "verbs": ["deleted"]}, "then": "deny"}
    assert decided(rule, call(effect("/w/finance/q3", verb="deleted")))
    assert decided(rule, call(effect("/w/a"), effect("/w/finance/q3", verb="deleted")))
    assert not decided(rule, call(effect("/w/a", verb="deleted"), effect("/w/finance/q3")))
    assert not decided(rule, call(effect("/w/finance/q3", system="crm", verb="deleted")))
    assert not decided(rule, call())


def test_a_rule_that_allows_has_to_be_about_all_that_is_touched() -> None:
    rule = {"when": {"objects": ["/w/scratch/*"]}, "then": "allow"}
    scratch, other = effect("/w/scratch/a"), effect("/w/other")
    assert decided(rule, call(scratch, reversibility="irreversible"))
    assert not decided(rule, call(scratch, other, reversibility="irreversible"))
    assert policy(rule).judge(call(scratch, other, reversibility="irreversible")).decision == "ask"
    assert not decided(rule, call(reversibility="irreversible")), (
        "what touches nothing that is known is not allowed by it"
    )


@pytest.mark.parametrize(
    ("limit", "below", "above"),
    [
        ({"objects": 2}, call(effect("a"), effect("b")), call(effect("a"), effect("b"), effect("c"))),
        ({"objects": 2}, call(effect("a")), call(effect("a"), counts={"objects": 3})),
        ({"rows": 10}, call(effect("a"), counts={"rows": 10}), call(effect("a"), counts={"rows": 11})),
        ({"rows": 1}, call(effect("a", kind="row")), call(effect("a", kind="row"), effect("b", kind="row"))),
        ({"recipients": 5}, call(counts={"recipients": 5}), call(counts={"recipients": 6})),
        ({"bytes": 100}, call(effect("a", size=100)), call(effect("a", size=60), effect("b", size=60))),
        ({"objects": 9, "rows": 0}, call(effect("a")), call(effect("a"), counts={"rows": 1})),
        ({"deleted": 1}, call(effect("a"), effect("b", verb="deleted")), call(*gone("a", "b"))),
        ({"deleted": 0}, call(effect("a", verb="deleted"), effect("b", verb="created", like="b")), call(*gone("a"))),
        ({"deleted": 5}, call(counts={"deleted_rows": 5}), call(counts={"deleted_rows": 6})),
        ({"deleted": 5}, call(counts={"deleted": 5}), call(counts={"deleted": 6})),
        ({"schema_changes": 0}, call(counts={"rows": 9, "schema": 0}), call(counts={"schema": 1})),
    ],
)
def test_size_counts_once_a_limit_is_passed(limit: dict[str, int], below: Judged, above: Judged) -> None:
    rule = {"when": {"more_than": limit}, "then": "ask"}
    assert not decided(rule, below)
    assert decided(rule, above)


@pytest.mark.parametrize(
    ("when", "meets", "does_not"),
    [
        ({"reversibility": ["compensable"]}, {"reversibility": "compensable"}, {}),
        ({"held": False}, {"reversibility": "compensable"}, {"held": True}),
        ({"known": False}, {"known": False}, {}),
        ({"modes": ["staged", "plan"]}, {"mode": "plan"}, {}),
        ({"scoped": False}, {}, {"scope": ("/w",)}),
        ({"principals": ["token:*"]}, {"caller": Caller(principal="token:ci")}, {}),
        ({"clients": ["Cursor*"]}, {"caller": Caller(principal="x", client="Cursor 1")}, {}),
    ],
)
def test_each_condition_is_heeded(when: dict[str, Any], meets: dict[str, Any], does_not: dict[str, Any]) -> None:
    assert decided({"when": when, "then": "deny"}, call(**meets))
    assert not decided({"when": when, "then": "deny"}, call(**does_not))


@pytest.mark.parametrize(
    ("hours", "at", "holds"),
    [
        ({"from": "08:00", "to": "18:00"}, "2026-11-27T08:00Z", True),
        ({"from": "08:00", "to": "18:00"}, "2026-11-27T18:00Z", False),
        ({"from": "08:00", "to": "18:00", "zone": "Europe/Berlin"}, "2026-11-27T07:00Z", True),
        ({"from": "22:00", "to": "06:00"}, "2026-11-27T05:59Z", True),
        ({"from": "22:00", "to": "06:00"}, "2026-11-27T06:00Z", False),
        ({"days": ["fri"], "from": "22:00", "to": "06:00"}, "2026-11-28T05:00Z", True),
        ({"days": ["fri"], "from": "22:00", "to": "06:00"}, "2026-11-27T05:00Z", False),
        ({"days": ["mon"], "from": "22:00", "to": "06:00"}, "2026-11-30T05:00Z", False),
        ({"days": ["sun"], "from": "22:00", "to": "06:00"}, "2026-11-30T05:00Z", True),
        ({"days": ["sat", "sun"]}, "2026-11-28T00:00Z", True),
        ({"days": ["sat", "sun"]}, "2026-11-30T00:00Z", False),
    ],
)
def test_hours_are_those_of_their_zone_and_may_pass_midnight(hours: dict[str, Any], at: str, holds: bool) -> None:
    moment = datetime.fromisoformat(at)
    assert decided({"when": {"hours": hours}, "then": "ask"}, call(at=moment)) is holds


HOME = ["*@example.org"]


@pytest.mark.parametrize(
    ("when", "meets", "does_not"),
    [
        ({"addressed_beyond": HOME}, [message("ada@Example.org", "eve@elsewhere.net")], [message("ADA@EXAMPLE.ORG")]),
        ({"addressed_to": ["*@Rival.com"]}, [message("ada@example.org", "x@rival.com")], [message("ada@example.org")]),
        ({"addressed_to": ["*"], "addressed_beyond": HOME}, [message("x@rival.com")], [effect("a")]),
        ({"addressed_beyond": HOME}, [message("a@example.org"), message("b@elsewhere.net")], []),
        ({"addressed_beyond": HOME}, [message("ada@example.org.evil.net")], [message("ada@example.org")]),
    ],
)
def test_rules_name_people_by_their_addresses(when: Any, meets: list[Effect], does_not: list[Effect]) -> None:
    assert decided({"when": when, "then": "ask"}, call(*meets))
    assert not decided({"when": when, "then": "ask"}, call(*does_not))


def test_a_rule_that_allows_has_to_be_about_everybody_who_is_written_to() -> None:
    rule = {"when": {"addressed_to": HOME}, "then": "allow"}
    assert decided(rule, call(message("ada@example.org", "bob@example.org")))
    assert not decided(rule, call(message("ada@example.org", "eve@elsewhere.net")))
    assert not decided(rule, call(effect("a"))), "nobody is written to"


def test_whoever_is_only_counted_may_be_anybody() -> None:
    counted = call(message("ada@example.org"), counts={"recipients": 2})
    assert decided({"when": {"addressed_beyond": HOME}, "then": "ask"}, counted)
    assert not decided({"when": {"addressed_to": HOME}, "then": "allow"}, counted)


def test_a_rule_about_hours_does_not_hold_when_nobody_knows_the_time() -> None:
    assert not decided({"when": {"hours": {}}, "then": "allow"}, call(at=None))


def test_rules_about_acts_say_nothing_of_making_up_for_them() -> None:
    deny_all = {"then": "deny"}
    assert policy(deny_all).judge(call(compensation=True)).rule == "default.compensation"
    about = {"when": {"tools": ["send_*"], "compensation": True}, "then": "deny"}
    assert decided(about, call(tool="send_note", compensation=True))
    assert not decided(about, call(tool="send_note"))


def test_nothing_in_a_shadow_run_is_done_whatever_a_rule_allows() -> None:
    assert policy({"then": "allow"}).judge(call(mode="shadow")).decision == "shadow"
    assert policy({"then": "ask"}).judge(call(mode="shadow")).decision == "shadow"
    assert policy({"then": "deny"}).judge(call(mode="shadow")).decision == "deny"


def test_no_newline_in_a_name_leads_past_a_pattern() -> None:
    assert decided({"when": {"objects": ["/w/secret*"]}, "then": "deny"}, call(effect("/w/secret\nplan")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"then": "maybe"},
        {"then": "deny", "when": {"tool": ["x"]}},
        {"then": "deny", "when": {"more_than": {}}},
        {"then": "deny", "when": {"more_than": {"objects": -1}}},
        {"then": "deny", "when": {"hours": {"zone": "Mars/Olympus"}}},
        {"then": "deny", "when": {"hours": {"zone": "../etc/passwd"}}},
        {"then": "shadow", "when": {"compensation": True}},
        {"then": "deny", "id": "default.reversible"},
        {"then": "deny", "id": "Has Spaces"},
        {},
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        policy(wrong)


def test_two_rules_cannot_have_one_id() -> None:
    with pytest.raises(ValidationError, match="two rules"):
        policy({"id": "a", "then": "deny"}, {"id": "a", "then": "ask"})
