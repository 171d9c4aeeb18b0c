"""The way back is judged too: what policy denies stays open for a person, what it asks about waits for their consent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.server.engine.test_policy import written
from tests.server.engine.test_shadow import settings_modules

from takeback.journal.views import ApprovalView
from takeback.server.engine.answers import EngineError
from takeback.server.settings import ToolSettings
from takeback.tools.database.settings import DatabaseSettings


def rules(tmp_path: Path, *rules: str) -> dict[str, Any]:
    return written(tmp_path, *rules) | {"tools": ToolSettings(modules=settings_modules())}


async def three(open_bench: OpenBench, tmp_path: Path, then: str) -> tuple[Bench, str]:
    """Three new files, of which one may not simply be taken away again."""
    about = f"{{compensation: true, objects: ['*/kept'], verbs: [deleted]}}, then: {then}, reason: others rely on it"
    bench = await open_bench(**rules(tmp_path, f"{{id: kept, when: {about}}}"))
    run = await bench.start()
    for name in ("a", "kept", "z"):
        await bench.done("write_file", run, path=name, content="x")
    return bench, run


def names(bench: Bench) -> list[str]:
    return sorted(path.name for path in bench.work.iterdir() if not path.name.startswith("."))


async def test_a_step_that_is_denied_is_an_open_item_and_the_others_go_back(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    bench, run = await three(open_bench, tmp_path, "deny")
    back = await bench.back(run_id=run)
    assert back.status == "partial" and names(bench) == ["kept"]
    [item] = back.open_items
    assert item.kind == "denied" and "kept" in item.why and "others rely on it" in item.why
    again = await bench.back(run_id=run)
    assert again.status in ("partial", "failed") and len(again.open_items) == 1, "it is said anew, not twice"


async def test_a_step_that_asks_waits_and_is_done_by_the_next_rollback_once(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    bench, run = await three(open_bench, tmp_path, "ask")
    back = await bench.back(run_id=run)
    assert back.status == "partial" and names(bench) == ["kept"]
    [asked] = await bench.engine.approvals(ALICE)
    assert asked.approval_id in back.open_items[0].why and "kept" in asked.question
    await bench.engine.approve(ALICE, asked.approval_id, lane="test")
    assert (await bench.back(run_id=run)).status == "complete" and names(bench) == []
    assert [view.status for view in await bench.engine.core.journal.find(ApprovalView)] == ["used"]
    assert not await bench.engine.open_items(ALICE)


async def test_consent_to_a_step_back_is_void_once_somebody_has_changed_what_it_is_about(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    bench, run = await three(open_bench, tmp_path, "ask")
    await bench.back(run_id=run)
    [asked] = await bench.engine.approvals(ALICE)
    await bench.engine.approve(ALICE, asked.approval_id, lane="test")
    (bench.work / "kept").write_text("a person's by now")
    assert (await bench.back(run_id=run)).status != "complete"
    assert (bench.work / "kept").read_text() == "a person's by now"


async def test_what_is_made_up_for_is_judged_as_well(open_bench: OpenBench, tmp_path: Path) -> None:
    made_up = "{compensation: true, reversibility: [compensable]}, then: ask"
    bench = await open_bench(
        **rules(tmp_path, f"{{id: ask, when: {made_up}}}", "{id: free, when: {tools: [post_note]}, then: allow}")
    )
    run = await bench.start()
    await bench.done("post_note", run, text="hello")
    back = await bench.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["failed"] and len(bench.memory.notes("note")) == 1
    [asked] = await bench.engine.approvals(ALICE)
    await bench.engine.deny(ALICE, asked.approval_id, lane="test")
    assert "they refused" in (await bench.back(run_id=run)).open_items[0].why
    assert len(bench.memory.notes("note")) == 1


@pytest.mark.parametrize("env", ["production", "test"])
async def test_rules_know_a_database_by_its_labels(open_bench: OpenBench, tmp_path: Path, env: str) -> None:
    import sqlite3

    for name in ("one", "two"):
        connection = sqlite3.connect(tmp_path / f"{name}.db")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        connection.commit()
        connection.close()
    databases = {
        "one": DatabaseSettings(url=f"sqlite:///{tmp_path}/one.db", labels={"env": env, "team": "shop"}),
        "two": DatabaseSettings(url=f"sqlite:///{tmp_path}/two.db"),
    }
    rule = "{id: prod, when: {labels: {env: prod*}}, then: deny, reason: not there}"
    bench = await open_bench(**rules(tmp_path, rule), databases=databases)
    run = await bench.start()
    insert = {"sql": "INSERT INTO t (v) VALUES ('x')"}
    first = await bench.call("execute_sql", run, database="one", **insert)
    assert first.status == ("denied" if env == "production" else "applied"), first.error
    await bench.done("execute_sql", run, database="two", **insert)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("send_email", {"to": ["bob@example.org"], "subject": "Hi", "body": "Hello"}),
        ("draft_email", {"to": ["bob@example.org"], "subject": "Hi", "body": "Hello"}),
    ],
)
async def test_a_rule_that_asks_about_mail_asks_once(
    open_bench: OpenBench, tmp_path: Path, tool: str, arguments: dict[str, Any]
) -> None:
    """The name of a new message is drawn at each call; the consent is to what goes to whom."""
    bench = await open_bench(**rules(tmp_path, "{id: ask, when: {tools: ['*_email']}, then: ask}"))
    run = await bench.start()
    pending = await bench.call(tool, run, **arguments)
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    done = await bench.call(tool, run, **arguments)
    assert done.status in ("applied", "held"), done.error
    assert (await bench.call(tool, run, **arguments)).status == "pending_approval"


@pytest.mark.parametrize("then", ["deny", "ask"])
async def test_what_a_rollback_may_not_do_is_not_done_by_another_tool_either_and_a_person_may(
    open_bench: OpenBench, tmp_path: Path, then: str
) -> None:
    about = f"{{compensation: true, objects: ['*/kept']}}, then: {then}, reason: others rely on it"
    bench = await open_bench(**rules(tmp_path, f"{{id: kept, when: {about}}}"))
    run = await bench.start()
    (bench.work / "kept").write_text("one")
    await bench.done("write_file", run, path="kept", content="two")
    (bench.work / "kept").write_text("a person's")
    await bench.back(run_id=run)
    [item] = await bench.engine.open_items(ALICE)
    versions = (await bench.engine.list_versions(ALICE, "kept")).versions
    [version] = [each for each in versions if each.version.endswith(":before")]
    before = await bench.engine.core.journal.position()

    async def attempts() -> None:
        await bench.engine.restore_version(ALICE, str(bench.work / "kept"), version.version)

    with pytest.raises(EngineError, match="rule kept does not let restore_version"):
        await attempts()
    with pytest.raises(EngineError, match="rule kept does not let resolve_conflict"):
        await bench.engine.resolve_conflict(ALICE, item.conflict_id, "ours")
    with pytest.raises(EngineError, match="rule kept does not let resolve_conflict"):
        await bench.engine.resolve_conflict(ALICE, item.conflict_id, "content", content="x")
    assert (bench.work / "kept").read_text() == "a person's"
    assert await bench.engine.core.journal.position() == before
    bench.engine.core.persons_door = True
    await attempts()
    assert (bench.work / "kept").read_text() == "one"
