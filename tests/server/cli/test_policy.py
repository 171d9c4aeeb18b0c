"""takeback policy: check, explain, test."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from takeback.journal.events import Caller
from takeback.server.engine.engine import Call
from takeback.server.principal import local_principal

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
  - id: bulk
    when: {more_than: {deleted: 50, schema_changes: 0}}
    then: deny
  - id: strangers
    when: {addressed_beyond: ["*@example.org"]}
    then: ask
  - id: saturdays
    when: {tools: [water_plants], hours: {days: [sat]}}
    then: shadow
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
        "bulk",
        "strangers",
        "saturdays",
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
        (("execute_sql", "--deleted", "51"), "deny", "bulk"),
        (("execute_sql", "--schema-changes", "1"), "deny", "bulk"),
        (("send_email", "--to", "ada@example.org", "--to", "eve@elsewhere.net"), "ask", "strangers"),
        (("send_email", "--to", "ada@example.org"), "allow", "default.reversible"),
        (("water_plants", "--at", "2026-11-28T12:00Z"), "shadow", "saturdays"),
        (("water_plants", "--at", "2026-11-27T12:00Z"), "allow", "default.reversible"),
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


def test_past_calls_are_judged_by_what_their_tools_counted_then(desk, tmp_path: Path) -> None:
    with closing(sqlite3.connect(desk.site / "shop.db")) as shop, shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT)")
        shop.executemany("INSERT INTO orders VALUES (?, 'open')", [(number,) for number in range(150)])

    def close(first: int) -> dict[str, Any]:
        return {"database": "shop.db", "sql": f"UPDATE orders SET status = 'closed' WHERE id >= {first}"}

    desk.agent(("execute_sql", close(20)), ("execute_sql", close(60)))
    redo = {"database": "shop.db", "sql": "UPDATE orders SET status = 'open'"}
    letter = {"to": [f"{name}@example.org" for name in "abc"], "subject": "Hello", "body": "Hello"}
    desk.again(("send_email", letter))
    caller = Caller(principal=local_principal(), client="some-agent")
    desk.ask(lambda engine: engine.call(Call("execute_sql", redo, caller, run_id=desk.run_id, dry_run=True)))
    rules = tmp_path / "counts.yaml"
    rules.write_text(
        "version: 1\nrules:\n  - {id: many, when: {more_than: {rows: 120, recipients: 2}}, then: deny}\n", "utf-8"
    )
    told = desk("policy", "test", "--file", str(rules), "--json").json
    assert told["judged"] == 4
    assert [(each["tool"], each["was"], each["would_be"]) for each in told["differing"]] == [
        ("execute_sql", "allow", "deny"),
        ("send_email", "allow", "deny"),
        ("execute_sql", "shadow", "deny"),
    ]
