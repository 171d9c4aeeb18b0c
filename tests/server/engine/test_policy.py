"""Rules of the policy file, in force on real calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, OpenBench

from takeback.journal.views import ActionView
from takeback.server.settings import PolicySettings, SettingsError, ToolSettings


def written(folder: Path, *rules: str) -> dict[str, Any]:
    file = folder / "policy.yaml"
    file.write_text("version: 1\nrules:\n" + "".join(f"  - {rule}\n" for rule in rules))
    return {"policy": PolicySettings(file=file), "tools": ToolSettings()}


async def test_a_denied_effect_never_comes_about_and_the_journal_names_the_rule(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    rule = "{id: keep, when: {objects: ['*/kept/*'], verbs: [deleted, changed]}, then: deny, reason: it is kept}"
    bench = await open_bench(**written(tmp_path, rule))
    (bench.work / "kept").mkdir()
    (bench.work / "kept" / "a").write_text("as it was")
    run = await bench.start()
    for tool, arguments in (
        ("write_file", {"path": "kept/a", "content": "other"}),
        ("delete_file", {"path": "kept/a"}),
        ("move_file", {"source": "kept/a", "destination": "b"}),
    ):
        answer = await bench.call(tool, run, **arguments)
        assert answer.status == "denied"
        assert answer.error is not None and "it is kept" in answer.error.message
    assert (bench.work / "kept" / "a").read_text() == "as it was"
    recorded = await bench.engine.core.journal.find(ActionView, status="denied")
    assert {action.policy_rule for action in recorded} == {"keep"}
    await bench.done("write_file", run, path="kept/new", content="made")


async def test_an_effect_that_a_rule_asks_about_waits_for_a_person(open_bench: OpenBench, tmp_path: Path) -> None:
    bench = await open_bench(**written(tmp_path, "{id: many, when: {more_than: {bytes: 10}}, then: ask}"))
    run = await bench.start()
    await bench.done("write_file", run, path="small", content="few")
    answer = await bench.call("write_file", run, path="large", content="a great deal more")
    assert answer.status == "pending_approval"
    assert str(answer.question).splitlines()[-2:] == ["This is reversible.", "Rule many of the policy asks."]
    assert not (bench.work / "large").exists()
    await bench.engine.approve(ALICE, str(answer.approval_id), lane="test")
    done = await bench.done("write_file", run, path="large", content="a great deal more")
    action = await bench.engine.core.journal.get(ActionView, str(done.action_id))
    assert action is not None and action.policy_rule == "many"


async def test_a_rules_reason_is_not_given_for_how_far_the_act_can_be_taken_back(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    rule = "{id: care, when: {tools: [write_file]}, then: ask, reason: configuration is changed with care}"
    bench = await open_bench(**written(tmp_path, rule))
    answer = await bench.call("write_file", await bench.start(), path="a", content="x")
    assert str(answer.question).splitlines()[-2:] == [
        "This is reversible.",
        "Rule care of the policy asks: configuration is changed with care",
    ]


async def test_a_rule_can_have_a_tool_only_say_what_it_would_do(open_bench: OpenBench, tmp_path: Path) -> None:
    bench = await open_bench(**written(tmp_path, "{id: dry, when: {tools: [delete_file]}, then: shadow}"))
    (bench.work / "a").write_text("stays")
    answer = await bench.call("delete_file", await bench.start(), path="a")
    assert answer.status == "shadowed"
    assert (bench.work / "a").read_text() == "stays"


async def test_what_was_done_is_taken_back_although_a_rule_denies_such_acts(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    bench = await open_bench(**written(tmp_path, "{id: no-deletes, when: {verbs: [deleted]}, then: deny}"))
    run = await bench.start()
    await bench.done("write_file", run, path="new", content="made by the agent")
    answer = await bench.back(run_id=run)
    assert answer.status == "complete"
    assert not (bench.work / "new").exists()


async def test_a_server_without_the_rules_that_were_meant_for_it_does_not_start(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    broken = written(tmp_path, "{id: a, then: perhaps}")
    with pytest.raises(SettingsError, match="rule 'a'"):
        await open_bench(**broken)
    assert not (tmp_path / "data").exists(), "nothing was opened"
