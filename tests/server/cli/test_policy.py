"""takeback policy: check, explain, test."""

from __future__ import annotations

from pathlib import Path

import pytest

RULES = """\
version: 1
rules:
  - id: keep-finance
    when: {systems: [files], objects: ["*/finance/*"], verbs: [deleted]}
    then: deny
    reason: Finance keeps its files for ten years.
  - id: large
    when: {more_than: {rows: 1000}}
    then: ask
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "policy.yaml"
    path.write_text(RULES)
    return str(path)


def test_the_rules_are_listed_in_their_order(desk, file: str) -> None:
    answered = desk("policy", "check", "--file", file)
    assert answered.code == 0
    assert answered.out.index("keep-finance") < answered.out.index("large")
    assert [rule["id"] for rule in desk("policy", "check", "--file", file, "--json").json["rules"]] == [
        "keep-finance",
        "large",
    ]


def test_a_file_with_a_mistake_is_refused_with_its_place(desk, file: str) -> None:
    Path(file).write_text(RULES + "  - {id: x, then: never}\n")
    answered = desk("policy", "check", "--file", file)
    assert answered.code == 2
    assert "rule 'x': then" in answered.err


@pytest.mark.parametrize(
    ("words", "decision", "rule"),
    [
        (("delete_file", "--object", "/w/finance/q3", "--verb", "deleted"), "deny", "keep-finance"),
        (("delete_file", "--object", "/w/other", "--verb", "deleted"), "allow", "default.reversible"),
        (("execute_sql", "--system", "database", "--object", "shop//t", "--rows", "1001"), "ask", "large"),
        (("send_email", "--reversibility", "compensable"), "ask", "default.compensable"),
        (("send_email", "--reversibility", "compensable", "--held"), "allow", "default.held"),
    ],
)
def test_the_rule_that_meets_a_call_is_named(desk, file: str, words: tuple[str, ...], decision: str, rule: str) -> None:
    answered = desk("policy", "explain", *words, "--file", file, "--json")
    assert (answered.json["decision"], answered.json["rule"]) == (decision, rule)


def test_past_calls_are_judged_again_by_a_changed_policy(desk, file: str) -> None:
    (desk.site / "finance").mkdir()
    (desk.site / "finance" / "q3").write_text("figures")
    desk.agent(("write_file", {"path": "a", "content": "a"}), ("delete_file", {"path": "finance/q3"}))
    told = desk("policy", "test", "--file", file, "--json").json
    assert told["judged"] == 2
    assert [(each["tool"], each["was"], each["would_be"]) for each in told["differing"]] == [
        ("delete_file", "allow", "deny")
    ]
    assert "1 of 2 calls would be decided otherwise." in desk("policy", "test", "--file", file).out
    assert desk("policy", "test", "--json").json["differing"] == []
