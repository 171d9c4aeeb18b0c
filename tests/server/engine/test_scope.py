"""A run with a scope changes what its patterns name: files by their paths, anything else by its system and name."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import Bench, OpenBench

from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import ToolSettings
from takeback.tools.email.settings import MailboxSettings

EVENT = {"calendar": "default", "summary": "Review", "start": "2026-03-01T10:00:00Z", "end": "2026-03-01T11:00:00Z"}
MAIL = {"to": ["bob@example.org", "eve@example.net"], "subject": "Hi", "body": "Hello"}


@pytest.fixture
async def bench(open_bench: OpenBench, tmp_path: Path) -> Bench:
    box = MailboxSettings(path=tmp_path / "box", address="me@example.org")
    with sqlite3.connect(tmp_path / "shop.db") as db:
        db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER)")
    db.close()
    bench = await open_bench(tools=ToolSettings(), mailboxes={"work": box}, triggers=TriggerSettings.off())
    (tmp_path / "shop.db").rename(bench.work / "shop.db")
    return bench


ACTS: dict[str, tuple[str, dict[str, Any]]] = {
    "write": ("write_file", {"path": "docs/a.txt", "content": "x"}),
    "send": ("send_email", MAIL),
    "draft": ("draft_email", MAIL),
    "event": ("create_event", EVENT),
    "row": ("execute_sql", {"database": "shop.db", "sql": "INSERT INTO orders (total) VALUES (2)"}),
}


SCOPES: list[tuple[list[str], set[str]]] = [
    ([], {"write", "send", "draft", "event", "row"}),
    (["docs/**"], {"write"}),
    (["files:docs/**"], {"write"}),
    (["docs"], {"write"}),
    (["files:*"], {"write", "row"}),
    (["shop.db"], {"row"}),
    (["outbox:mail:work"], {"send"}),
    (["outbox:*"], {"send"}),
    (["outbox:mail:work/bob@example.org", "outbox:*@example.net"], {"send"}),
    (["outbox:*@example.org"], set()),
    (["email:work"], {"draft"}),
    (["email:*"], {"draft"}),
    (["email:home"], set()),
    (["calendar:default"], {"event"}),
    (["docs/**", "calendar:*", "outbox:mail:*"], {"write", "event", "send"}),
]


async def test_a_scope_names_files_by_path_and_anything_else_by_system(bench: Bench):
    (bench.work / "docs").mkdir()
    for scope, allowed in SCOPES:
        run = await bench.start(scope=scope)
        answers = {name: await bench.call(tool, run, **arguments) for name, (tool, arguments) in ACTS.items()}
        done = {name for name, answer in answers.items() if answer.status in ("applied", "held")}
        assert done == allowed, (scope, {name: answer.error for name, answer in answers.items()})
        assert {answer.status for name, answer in answers.items() if name not in allowed} <= {"denied"}, scope


async def test_a_refusal_names_the_pattern_that_would_allow_it(bench: Bench):
    (bench.work / "docs").mkdir()
    for tool, arguments in ACTS.values():
        scope, wider = ["elsewhere/**"], ""
        for _ in range(3):  # one for each recipient
            answer = await bench.call(tool, await bench.start(scope=scope), **arguments)
            if answer.status != "denied":
                break
            assert answer.error is not None
            advice = answer.error.advice.partition("also names ")[2]
            wider = advice.partition(" (or ")[2].partition(",")[0]
            scope.append(advice.partition(" (or ")[0].rstrip("."))
        assert answer.status in ("applied", "held"), scope
        if wider:
            answer = await bench.call(tool, await bench.start(scope=[wider]), **arguments)
            assert answer.status in ("applied", "held"), wider


async def test_a_file_that_is_called_like_a_system_can_still_be_named(bench: Bench):
    run = await bench.start(scope=["files:email:work"])
    assert (await bench.call("write_file", run, path="email:work", content="x")).status == "applied"
    assert (await bench.call("draft_email", run, **MAIL)).status == "denied"
