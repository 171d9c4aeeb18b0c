"""Each recipe of the policy cookbook is read as the server reads it, and decides the calls that it is about."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from takeback.journal.events import Caller
from takeback.journal.states import ABSENT, Effect, State
from takeback.server.engine.policy import Judged
from takeback.server.policy_file import read_policy

PAGE = (Path(__file__).parents[2] / "docs" / "policy-cookbook.md").read_text("utf-8")
RECIPES = dict(re.findall(r"^## ([^\n]+)\n.*?^```yaml\n(.*?)^```", PAGE, re.S | re.M))
NOON, NIGHT = datetime(2026, 11, 27, 12, tzinfo=UTC), datetime(2026, 11, 27, 3, tzinfo=UTC)


def on(object: str, verb: str = "changed", *, system: str = "files", size: int = 0) -> Effect:
    before = ABSENT if verb == "created" else State(digest="b", kind="file", size=size)
    after = ABSENT if verb == "deleted" else State(digest="a", kind="file", size=size)
    return Effect(system=system, object=object, before=before, after=after)


def mail(*to: str) -> Effect:
    held = State(digest="held", kind="held", ref={"message": {"recipients": list(to)}})
    return Effect(system="outbox", object="out_1", before=ABSENT, after=held)


def call(*effects: Effect, who: str = "local:ada", label: str = "", **more: Any) -> Judged:
    given: dict[str, Any] = {
        "tool": "some_tool", "known": True, "caller": Caller(principal=who), "mode": "act", "scope": (), "reason": "",
        "reversibility": "reversible", "effects": effects, "labels": ({"env": label},) * len(effects), "at": NOON,
    }  # fmt: skip
    return Judged(**(given | more))


HOUSE = [f"{name}@example.org" for name in "abcdef"]
ROW = on("shop//orders/1", system="database")
GONE = {"reversibility": "irreversible"}
SENT = {"reversibility": "compensable", "held": True}
CLEAN = on("/w/cache/a", "deleted")
TRIED: dict[str, list[tuple[Judged, str]]] = {
    "Ask before mail to many, or to strangers": [
        (call(mail(*HOUSE), **SENT), "ask"),
        (call(mail(*HOUSE[:5]), **SENT), "allow"),
        (call(mail("a@example.org", "x@elsewhere.net"), **SENT), "ask"),
        (call(on("/w/a")), "allow"),
    ],
    "Never write to these": [
        (call(mail("desk@press.example"), **SENT), "deny"),
        (call(mail("Editor@paper.net"), **SENT), "deny"),
        (call(mail("bob@example.org"), **SENT), "allow"),
    ],
    "Nothing that cannot be taken back at night": [
        (call(ROW, at=NIGHT, **GONE), "deny"),
        (call(ROW, **GONE), "ask"),
        (call(mail("bob@example.org"), at=NIGHT, **SENT), "allow"),
        (call(ROW, at=NIGHT), "allow"),
    ],
    "Only show what would happen in a new workspace": [(call(on("/w/a")), "shadow"), (call(ROW, **GONE), "shadow")],
    "Ask before anything is deleted in a folder": [
        (call(on("/w/contracts/a", "deleted")), "ask"),
        (call(on("/w/contracts", "deleted")), "ask"),
        (call(on("/w/contracts/a", "deleted"), on("/w/b", "created")), "ask"),
        (call(on("/w/contracts/a")), "allow"),
        (call(on("/w/other", "deleted")), "allow"),
    ],
    "Deny changes of the schema and large deletions": [
        (call(on("shop", system="database"), counts={"schema": 1}), "deny"),
        (call(ROW, counts={"rows": 51, "deleted_rows": 51, "schema": 0}), "deny"),
        (call(ROW, counts={"rows": 51, "deleted_rows": 50, "schema": 0}), "allow"),
    ],
    "One principal only reads": [(call(on("/w/a"), who="token:auditor"), "deny"), (call(on("/w/a")), "allow")],
    "Staged only": [
        (call(on("/w/a")), "deny"),
        (call(on("/w/a"), mode="staged"), "allow"),
        (call(ROW), "allow"),
    ],
    "Ask before something is made up for": [
        (call(on("note/1", system="crm"), compensation=True, reversibility="compensable"), "ask"),
        (call(on("/w/a"), compensation=True), "allow"),
        (call(mail("bob@example.org"), **SENT), "allow"),
    ],
    "Forbid a system": [(call(on("work//a", system="calendar")), "deny"), (call(ROW), "allow")],
    "Let a scheduled job do more": [
        (call(CLEAN, who="token:cleanup", at=NIGHT), "allow"),
        (call(CLEAN, who="token:cleanup"), "ask"),
        (call(CLEAN, at=NIGHT), "ask"),
        (call(CLEAN, on("/w/a", "deleted"), who="token:cleanup", at=NIGHT), "ask"),
    ],
    "Bounds of rows and bytes": [
        (call(ROW, counts={"rows": 1001}), "ask"),
        (call(on("/w/a", size=10_000_001)), "ask"),
        (call(*(on(f"/w/{number}") for number in range(101))), "ask"),
        (call(ROW, counts={"rows": 1000}), "allow"),
    ],
    "Production is another matter": [(call(ROW, label="production"), "ask"), (call(ROW, label="test"), "allow")],
    "Only within a scope": [(call(on("/w/a")), "ask"), (call(on("/w/a"), scope=("/w",)), "allow")],
}


def test_every_recipe_is_tried() -> None:
    assert len(RECIPES) >= 12
    assert list(RECIPES) == list(TRIED)


@pytest.mark.parametrize("title", TRIED)
def test_a_recipe_decides_what_it_says(title: str, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(RECIPES[title], "utf-8")
    policy = read_policy(tmp_path / "policy.yaml")
    assert [policy.judge(judged).decision for judged, _ in TRIED[title]] == [decision for _, decision in TRIED[title]]
