"""The page on reversibility is made from what the tools state; and what they state is what their calls turn out to be."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from takeback.journal.events import Caller
from takeback.journal.views import ActionView
from takeback.server.engine.engine import Call, Engine
from takeback.server.engine.outgoing import has_window
from takeback.server.engine.policy import Judged
from takeback.server.engine.policy_rules import sizes
from takeback.server.engine.replaying import counted
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.mcp.meta_tools import meta_tools
from takeback.server.mcp.run_recovery import STATEMENTS
from takeback.server.reversibility import family_tables, run_table
from takeback.server.settings import LimitSettings, Settings, WorkspaceSettings
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.contract import ReadTool
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.recovery import stated

PAGE = Path(__file__).parents[2] / "docs" / "reversibility.md"
MADE = re.compile(r"(<!-- made by [^\n]* -->\n).*?(<!-- end -->)", re.S)
ADA = Caller(principal="local:ada", client="test")
LARGE = "x" * 40_000
EVENT = {"calendar": "default", "start": "2026-12-01T10:00", "end": "2026-12-01T11:00", "timezone": "Europe/Berlin"}
LETTER = {"to": ["bob@example.org", "eve@example.org"], "subject": "Hello", "body": "Hello"}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    home, work = tmp_path, tmp_path / "work"
    (work / "folder").mkdir(parents=True)
    (work / "folder" / "inside").write_text("a\n")
    (work / "a").write_text("a\n")
    (work / "large").write_text(LARGE)
    for name in ("shop.db", "few.db"):
        with closing(sqlite3.connect(work / name)) as shop, shop:
            shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
            shop.executemany("INSERT INTO t VALUES (?, 'v')", [(number,) for number in range(150)])
    settings = Settings(
        workspace=WorkspaceSettings(roots=(work,)),
        data=home / "data",
        key_file=home / "key.json",
        anchor_file=home / "anchors",
        limits=LimitSettings(trash_bytes=10_000, ballast_bytes=4096),
        databases={"few": DatabaseSettings(url=f"sqlite://{work / 'few.db'}", capture_rows=10)},
        calendars={"default": CalendarSettings(mailbox="default")},
        triggers=TriggerSettings.off(),
    )
    opened = await Engine.open(settings)
    yield opened
    await opened.close()


def test_the_tables_on_the_page_are_those_of_the_code(engine: Engine) -> None:
    titles = [(tool.name, tool.title or "") for tool in meta_tools(engine, engine.core.settings)]
    tables = f"{family_tables(engine.tools)}\n\n{run_table(titles)}\n"
    page = PAGE.read_text("utf-8")
    made = MADE.sub(lambda found: f"{found[1]}{tables}{found[2]}", page)
    if os.environ.get("TAKEBACK_WRITE_DOCS"):
        PAGE.write_text(made, "utf-8")
    else:
        assert made == page, "write it anew with TAKEBACK_WRITE_DOCS=1"


def test_every_tool_states_how_far_it_can_be_taken_back(engine: Engine) -> None:
    silent = [tool.name for tool in engine.tools if not isinstance(tool, ReadTool) and tool.recovery is None]
    assert silent == []
    assert [tool.name for tool in meta_tools(engine, engine.core.settings)] == list(STATEMENTS)


async def shown(engine: Engine, tool: str, **arguments: Any) -> tuple[ActionView, Judged]:
    """A call that is only shown, as policy sees it."""
    answer = await engine.call(Call(tool, arguments, ADA, dry_run=True))
    assert answer.status == "shadowed", answer
    action = await engine.core.journal.get(ActionView, str(answer.action_id))
    assert action is not None
    counts = (await counted(engine.core.journal, [action]))[action.id]
    return action, Judged(
        tool,
        True,
        ADA,
        "act",
        (),
        action.effects,
        action.reversibility,
        "",
        counts=counts,
        held=has_window(action.effects),
    )


CALLS: dict[str, list[dict[str, Any]]] = {
    "write_file": [{"path": "new", "content": "a"}, {"path": "a", "content": "b"}, {"path": "large", "content": "b"}],
    "edit_file": [
        {"path": "a", "edits": [{"old_text": "a", "new_text": "b"}]},
        {"path": "large", "edits": [{"old_text": LARGE, "new_text": "b"}]},
    ],
    "move_file": [
        {"source": "a", "destination": "b"},
        {"source": "a", "destination": "large", "overwrite": True},
    ],
    "copy_file": [
        {"source": "a", "destination": "b"},
        {"source": "a", "destination": "large", "overwrite": True},
    ],
    "delete_file": [{"path": "a"}, {"path": "large"}],
    "create_directory": [{"path": "made/below"}],
    "execute_sql": [
        {"database": "shop.db", "sql": "INSERT INTO t VALUES (1000, 'new')"},
        {"database": "shop.db", "sql": "UPDATE t SET v = 'w' WHERE id = 1"},
        {"database": "shop.db", "sql": "DELETE FROM t WHERE id < 3"},
        {"database": "shop.db", "sql": "DROP TABLE t"},
        {"database": "few", "sql": "DELETE FROM t"},
    ],
    "create_event": [{**EVENT, "summary": "Alone"}, {**EVENT, "summary": "Review", "attendees": ["bob@example.org"]}],
    "draft_email": [LETTER],
    "send_email": [LETTER],
}


async def of_made_things(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Calls on an event, a series and a message that have to be there first."""

    async def made(tool: str, arguments: dict[str, Any]) -> Any:
        answer = await engine.call(Call(tool, arguments, ADA))
        assert answer.status in ("applied", "held"), answer
        return answer.result

    alone = (await made("create_event", {**EVENT, "summary": "Alone"}))["event_id"]
    series = {**EVENT, "summary": "Weekly", "recurrence": "FREQ=WEEKLY;COUNT=5", "attendees": ["bob@example.org"]}
    weekly = (await made("create_event", series))["event_id"]
    later = {"calendar": "default", "event_id": weekly, "occurrence": "2026-12-15T10:00"}
    letter = (await made("draft_email", LETTER))["message_id"]
    mail = {"mailbox": "default", "message_ids": [letter]}
    return {
        "update_event": [
            {"calendar": "default", "event_id": alone, "summary": "Still alone"},
            {**later, "range": "following", "summary": "Fortnightly"},
        ],
        "delete_event": [{"calendar": "default", "event_id": alone}, {**later, "range": "this"}],
        "move_email": [{**mail, "destination": "Trash"}],
        "flag_email": [{**mail, "add": ["flagged"]}],
        "delete_email": [mail],
    }


async def test_what_a_tool_states_is_what_its_calls_turn_out_to_be(engine: Engine) -> None:
    calls = CALLS | await of_made_things(engine)
    assert calls.keys() == {tool.name for tool in engine.tools if not isinstance(tool, ReadTool)}
    for tool in engine.tools:
        its = stated(tool)
        if its is None:
            continue
        seen, kinds, more, held = dict[str, set[str]](), set[str](), set[str](), False
        for arguments in calls[tool.name]:
            action, judged = await shown(engine, tool.name, **arguments)
            kinds.add(action.reversibility)
            held = held or judged.held
            for effect in judged.effects:
                seen.setdefault(effect.system, set()).add(effect.verb)
            more |= {
                name
                for name, count in sizes(judged).items()
                if count and name in ("rows", "recipients", "schema_changes")
            }
            more |= {"deleted"} if judged.counts.get("deleted_rows") or judged.counts.get("deleted") else set()
        expected = {system: set(verbs) for system, verbs in its.effects.items()}
        assert (tool.name, seen) == (tool.name, expected)
        assert (tool.name, more, held) == (tool.name, set(its.counts), its.held)
        # what makes a statement compensable needs PostgreSQL: tests/docs/test_postgresql_page.py
        assert (tool.name, kinds | {"compensable"} if tool.name == "execute_sql" else kinds) == (
            tool.name,
            {its.best, *its.worse},
        )
