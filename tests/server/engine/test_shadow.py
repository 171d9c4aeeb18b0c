"""Shadow mode: nothing at all is done by any tool, and the log says what would have been, and how it would have gone back."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench
from tests.server.engine.test_calendar import SERIES
from tests.server.engine.test_policy import written
from tests.tools.email import maildirs
from tests.tools.files_system.signature import signature

from takeback.journal.views import ActionView
from takeback.server.engine.answers import EngineError
from takeback.server.settings import ToolSettings
from takeback.tools.contract import ReadTool

CALLS: dict[str, list[dict[str, Any]]] = {
    "write_file": [{"path": "a.txt", "content": "new"}, {"path": "x/y", "content": "new"}],
    "edit_file": [{"path": "a.txt", "edits": [{"old_text": "one", "new_text": "two"}]}],
    "move_file": [{"source": "a.txt", "destination": "b.txt", "overwrite": True}, {"source": "d", "destination": "e"}],
    "copy_file": [{"source": "d", "destination": "e"}],
    "delete_file": [{"path": "d", "recursive": True}],
    "create_directory": [{"path": "p/q"}],
    "execute_sql": [
        {"database": "app.db", "sql": "DELETE FROM t"},
        {"database": "app.db", "sql": "INSERT INTO t (v) VALUES ('x')"},
        {"database": "app.db", "sql": "DROP TABLE t"},
    ],
    "create_event": [
        {"calendar": "default", "summary": "New", "start": "2026-03-02T10:00:00", "end": "2026-03-02T11:00:00"},
        {
            "calendar": "default",
            "summary": "With guests",
            "start": "2026-03-02T10:00:00",
            "end": "2026-03-02T11:00:00",
            "attendees": ["bob@example.org"],
        },
    ],
    "update_event": [{"calendar": "default", "event_id": "standup", "summary": "Other"}],
    "delete_event": [{"calendar": "default", "event_id": "standup"}],
    "draft_email": [{"to": ["bob@example.org"], "subject": "Hi", "body": "Hello"}],
    "send_email": [{"to": ["bob@example.org"], "subject": "Hi", "body": "Hello"}],
    "move_email": [{"mailbox": "default", "message_ids": ["1.a.host"], "destination": "Trash"}],
    "flag_email": [{"mailbox": "default", "message_ids": ["1.a.host"], "add": ["flagged"]}],
    "delete_email": [{"mailbox": "default", "message_ids": ["1.a.host"]}],
}
OURS = ("journal.db", "journal.db-wal", "journal.db-shm", "locks", "ballast", "objects", "outbox")
"""In the data directory: what takeback knows, none of it the world. What is in the outbox is asked of it."""


def plant(bench: Bench) -> Path:
    (bench.work / "d" / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "d/f", "d/sub/g"):
        (bench.work / name).write_text(f"one {name}\n")
    with sqlite3.connect(bench.work / "app.db") as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v)")
        connection.execute("INSERT INTO t (v) VALUES ('kept')")
    connection.close()
    data = bench.engine.core.settings.data
    (data / "calendar" / "default").mkdir(parents=True, exist_ok=True)
    (data / "calendar" / "default" / "standup.ics").write_bytes(SERIES)
    box = data / "mail" / "default"
    for folder in ("", ".Sent", ".Trash", ".Drafts"):
        for sub in ("tmp", "new", "cur"):
            (box / folder / sub).mkdir(parents=True, exist_ok=True)
    maildirs.put(box, "1.a.host:2,S", maildirs.letter(1))
    return data


def world(bench: Bench, data: Path) -> dict[str, Any]:
    """Everything there is, but for takeback's own memory."""
    found: dict[str, Any] = {"work": signature(bench.work, folder_times=False)}
    for path in sorted(data.iterdir()):
        if path.name not in OURS:
            found[path.name] = signature(path, folder_times=False) if path.is_dir() else path.read_bytes()
    return found


async def rows(bench: Bench) -> list[Any]:
    return list(await bench.engine.core.outbox.rows(ALICE.principal))


async def test_no_tool_of_any_family_does_anything_in_shadow_mode(open_bench: OpenBench) -> None:
    bench = await open_bench(tools=ToolSettings())
    data = plant(bench)
    acting = {tool.name for tool in bench.engine.tools if not isinstance(tool, ReadTool)}
    assert acting == set(CALLS), "a test for each"
    shadow, acts, plan = await bench.start(mode="shadow"), await bench.start(), await bench.start(mode="plan")
    for run, more in ((shadow, {}), (acts, {"dry_run": True}), (plan, {})):
        for tool, several in CALLS.items():
            for arguments in several:
                await bench.call(tool, run, **arguments, **more)  # once, so that what is opened at first use is there
                before = world(bench, data), await rows(bench)
                answer = await bench.call(tool, run, **arguments, **more)
                assert answer.status == "shadowed", (tool, answer.error)
                assert answer.preview, tool
                after = world(bench, data), await rows(bench)
                there = {name: after[0].get(name) for name in after[0] if after[0].get(name) != before[0].get(name)}
                assert after == before, f"{tool} did something: {there}"
    assert not [action for action in await bench.engine.core.journal.find(ActionView) if action.stands]


async def test_the_log_says_what_would_have_been_what_policy_says_to_it_and_how_it_would_have_gone_back(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    rule = "{id: kept, when: {objects: ['*/kept'], verbs: [deleted]}, then: deny, reason: it is kept}"
    bench = await open_bench(**(written(tmp_path, rule) | {"tools": ToolSettings(modules=settings_modules())}))
    (bench.work / "kept").write_text("x")
    run = await bench.start(mode="shadow")
    await bench.call("write_file", run, path="a.txt", content="new", step="write")
    await bench.call("delete_file", run, path="kept")
    await bench.call("announce", run, text="hello")
    log = await bench.engine.shadow_log(ALICE, run_id=run)
    told = [(call.tool, call.would, call.rule, call.reversibility) for call in log.calls]
    assert told[0] == ("write_file", "allow", "default.reversible", "reversible")
    assert told[1] == ("announce", "ask", "default.irreversible", "irreversible"), "what is denied is no shadow"
    assert log.calls[0].step == "write" and log.calls[0].how and "create a.txt" in log.calls[0].summary
    assert "could have been put back exactly" in log.rollback and "1 not taken back at all" in log.rollback
    detail = await bench.engine.get_run(ALICE, run, view="shadow")
    assert detail.shadow == log
    assert (await bench.engine.shadow_log(BOB)).calls == []
    with pytest.raises(EngineError, match="There is no run"):
        await bench.engine.shadow_log(BOB, run_id=run)


async def test_a_rule_without_conditions_puts_everything_in_dry_run(open_bench: OpenBench, tmp_path: Path) -> None:
    bench = await open_bench(**written(tmp_path, "{id: dry, then: shadow}"))
    for run in (await bench.start(), await bench.start(mode="plan"), None):
        assert (await bench.call("write_file", run, path="a.txt", content="new")).status == "shadowed"
    assert list(bench.work.iterdir()) == []
    assert {call.would for call in (await bench.engine.shadow_log(ALICE)).calls} == {"shadow"}


async def test_what_is_planned_and_what_was_thrown_away_is_in_the_log_and_what_was_made_is_not(bench: Bench) -> None:
    run = await bench.start(mode="plan")
    await bench.call("set_value", run, key="a", value="1")
    assert [call.status for call in (await bench.engine.shadow_log(ALICE, run_id=run)).calls] == ["collected"]
    pending = await bench.engine.finish_run(ALICE, run)
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    await bench.engine.finish_run(ALICE, run)
    assert (await bench.engine.shadow_log(ALICE, run_id=run)).calls == []


def settings_modules() -> tuple[Path, ...]:
    import takeback.tools.memory

    return (Path(takeback.tools.memory.__file__),)
