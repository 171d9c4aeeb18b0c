"""takeback drill: what is rehearsed, what is proven by it, and what it finds."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from pydantic import JsonValue

from takeback.journal.events import Caller
from takeback.journal.states import ABSENT, Effect, State
from takeback.journal.views import ActionView
from takeback.server.cli.app import run as command
from takeback.server.drill import worker
from takeback.server.drill.calls import Learned, choose
from takeback.server.drill.drilling import Processes, drill
from takeback.server.drill.rehearsals import of_demo, of_run
from takeback.server.drill.sandbox import Shape
from takeback.server.drill.worker import Task
from takeback.server.drill.world import Part, world
from takeback.server.engine.engine import Call, Engine
from takeback.server.principal import local_principal
from takeback.server.settings import Settings, WorkspaceSettings
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.email.settings import MailboxSettings

AGENT = Caller(principal=local_principal(), client="some-agent", client_version="1")


def quiet(done: int, total: int, words: str) -> None:
    """Tell nobody."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    work = tmp_path / "work"
    (work / "drafts" / "old").mkdir(parents=True)
    (work / "notes.txt").write_text("one\ntwo\nthree\n")
    (work / "drafts" / "a.md").write_text("# A\n")
    (work / "drafts" / "old" / "b.md").write_text("# B\n")
    os.chmod(work / "drafts" / "a.md", 0o640)
    (work / "link").symlink_to("notes.txt")
    (work / "untouched.bin").write_bytes(b"\0" * 100)
    with closing(sqlite3.connect(work / "shop.db")) as shop, shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT)")
        shop.executemany("INSERT INTO orders VALUES (?, 'open')", [(1,), (2,), (3,)])
    return Settings(
        workspace=WorkspaceSettings(roots=(work,)),
        data=tmp_path / "data",
        key_file=tmp_path / "keys" / "chain.key",
        anchor_file=tmp_path / "anchors.log",
    )


async def agents_run(engine: Engine, work: Path) -> str:
    """A run over the four families, in which later calls need what earlier ones answered."""
    run_id = (await engine.start_run(AGENT, "Publish")).run_id

    async def act(tool: str, **arguments: object) -> dict[str, object]:
        answer = await engine.call(Call(tool, dict(arguments), AGENT, run_id=run_id))  # type: ignore[arg-type] -- plain JSON
        assert answer.error is None, answer
        return answer.result or {}

    await act("edit_file", path="notes.txt", edits=[{"old_text": "two", "new_text": "TWO"}])
    await act("edit_file", path="drafts/a.md", edits=[{"old_text": "# A", "new_text": "# AA"}])
    await act("copy_file", source="link", destination="link2")
    await act("delete_file", path="drafts", recursive=True)
    await act("write_file", path=str(work / "new" / "deep" / "x.txt"), content="x\n")
    await act("execute_sql", database="shop.db", sql="UPDATE orders SET status = 'shipped' WHERE id < 3")
    await act("execute_sql", database="shop.db", sql="INSERT INTO orders VALUES (9, 'new')")
    event = await act(
        "create_event", calendar="default", summary="Review", start="2026-12-01T10:00", end="2026-12-01T11:00"
    )
    await act("update_event", calendar="default", event_id=event["event_id"], summary="The review")
    draft = await act("draft_email", to=["ada@example.org"], subject="Report", body="Here.\n")
    await act("flag_email", mailbox=draft["mailbox"], message_ids=[draft["message_id"]], add=["flagged"])
    return run_id


TOOLS = 11
"""Calls of that run."""


async def test_a_run_over_all_families_is_proven_in_a_copy_of_how_its_world_began(
    settings: Settings, tmp_path: Path
) -> None:
    work = settings.workspace.roots[0]
    engine = await Engine.open(settings)
    try:
        run_id = await agents_run(engine, work)
        here = [Part("work", work), Part("data", tmp_path / "data", times=False)]
        before = world(here)
        task, left, notes = await of_run(engine.core, AGENT, run_id, tmp_path / "drill")
        assert (left, notes) == ([], [])
        assert len(task.calls) == TOOLS
        (copied,) = task.shape.roots_in(task.sandbox)
        assert (copied / "notes.txt").read_text() == "one\ntwo\nthree\n"
        assert (copied / "drafts" / "a.md").read_text() == "# A\n"
        assert (copied / "drafts" / "a.md").stat().st_mode & 0o777 == 0o640
        assert (copied / "drafts" / "old" / "b.md").read_text() == "# B\n"
        assert not (copied / "new").exists() and not os.path.lexists(copied / "link2")
        assert not (copied / "untouched.bin").exists(), "only what the run touched or named is copied"
        with closing(sqlite3.connect(copied / "shop.db")) as shop:
            assert shop.execute("SELECT id, status FROM orders ORDER BY id").fetchall() == [
                (1, "open"),
                (2, "open"),
                (3, "open"),
            ]
        found = await anyio.to_thread.run_sync(lambda: drill(task, left, notes, every=40, progress=quiet))
        assert found.differences == []
        assert [proof.refused for proof in found.proofs] == [""] * TOOLS
        assert sum(row.proven for row in found.coverage) == TOOLS
        assert len(found.kills) >= 3
        assert world(here) == before, "nothing outside the sandbox has changed"
    finally:
        await engine.close()


async def test_a_run_that_was_taken_back_can_be_rehearsed_from_the_world_as_it_is(
    settings: Settings, tmp_path: Path
) -> None:
    engine = await Engine.open(settings)
    try:
        run_id = await agents_run(engine, settings.workspace.roots[0])
        await engine.rollback(AGENT, run_id=run_id)
        task, left, notes = await of_run(engine.core, AGENT, run_id, tmp_path / "drill")
        proofs = await worker.one_by_one(task)
        assert (left, notes) == ([], [])
        assert [
            (proof.tool, proof.refused or proof.different) for proof in proofs if proof.refused or proof.different
        ] == []
    finally:
        await engine.close()


async def test_what_a_person_changed_since_is_named_and_not_taken_for_the_beginning(
    settings: Settings, tmp_path: Path
) -> None:
    work = settings.workspace.roots[0]
    engine = await Engine.open(settings)
    try:
        run_id = await agents_run(engine, work)
        with closing(sqlite3.connect(work / "shop.db")) as shop, shop:
            shop.execute("UPDATE orders SET status = 'lost' WHERE id = 1")
        _, _, notes = await of_run(engine.core, AGENT, run_id, tmp_path / "drill")
        assert len(notes) == 1 and "orders 1" in notes[0]
    finally:
        await engine.close()


async def test_an_inverse_that_leads_elsewhere_is_found(tmp_path: Path) -> None:
    """The negative control: something in the sandbox is not as the way back should have left it."""
    task = of_demo(tmp_path)
    task = Task(task.shape, task.sandbox, task.calls[:2], task.start)
    await worker.there_and_back(task, None)
    (workspace,) = task.shape.roots_in(task.sandbox)
    (workspace / "stray.txt").write_text("left behind")
    assert await worker.look(task) == [
        "brought back, yet not as before: workspace/stray.txt",
        "taken back, yet not as before: workspace/stray.txt",
    ]


@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_process_that_dies_at_a_point_leaves_a_world_that_can_be_put_back(tmp_path: Path, at: int) -> None:
    task = of_demo(tmp_path)
    task = Task(task.shape, task.sandbox, task.calls[:1], task.start)
    processes = Processes()
    assert processes.dies("there and back", task, at)
    assert processes.run("look", task) == []


async def test_what_is_put_back_beside_something_else_counts_and_what_happens_within_it_does_not() -> None:
    """Else runs have more points or fewer, and the process that is to die at one of the last has none to die at."""
    deaths = worker.Deaths(None)
    begun, beside = anyio.Event(), anyio.Event()

    async def note() -> None:
        pass

    async def change() -> None:
        await noting()
        begun.set()
        await beside.wait()

    noting, changing = deaths.counted(note, "an entry"), deaths.counted(change, "a change")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(changing)
        await begun.wait()
        await noting()
        beside.set()
    assert deaths.points == ["before a change", "before an entry", "after an entry", "after a change"]


def acted(**given: object) -> ActionView:
    """An action as the journal tells it."""
    effect = Effect(system="files", object="/w/a", before=ABSENT, after=State(digest="blake3:1", kind="file"))
    facts: dict[str, object] = {
        "id": "act_1", "run_id": "run_1", "version": 1, "position": 1, "tool": "write_file", "status": "applied",
        "at": datetime.now(UTC), "effects": (effect,), "requested": {"path": "a"}, **given,
    }  # fmt: skip
    return ActionView.model_validate(facts)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"requested": {"content": f"redacted:hmac:{'0' * 32}"}}, "a secret"),
        ({"effects": ()}, "known to its tool alone"),
        ({"effects": (Effect(system="crm", object="x", before=ABSENT, after=ABSENT),)}, "crm objects cannot be copied"),
        (
            {"effects": (Effect(system="database", object="shop//t/1", before=ABSENT, after=ABSENT),)},
            "the database shop is on a server",
        ),
        (
            {"effects": (Effect(system="calendar", object="work//a.ics", before=ABSENT, after=ABSENT),)},
            "the calendar work is on a server",
        ),
    ],
)
def test_what_cannot_be_copied_is_left_out_with_its_reason(given: dict[str, object], why: str) -> None:
    shape = Shape(
        Settings(
            databases={"shop": DatabaseSettings(url="postgresql://localhost/shop")},
            calendars={"work": CalendarSettings(url="https://example.org/work/")},
        ),
        (),
    )
    repeats, left = choose([acted(), acted(**given)], shape.elsewhere)
    assert [each.tool for each in repeats] == ["write_file"]
    assert len(left) == 1 and why in left[0].why


def test_a_calendar_that_only_names_its_mailbox_is_in_the_sandbox_too(tmp_path: Path) -> None:
    real = Settings(
        calendars={
            "default": CalendarSettings(mailbox="work"),
            "team": CalendarSettings(path=tmp_path / "team", mailbox="far", organizer="ada@example.org"),
        },
        mailboxes={
            "work": MailboxSettings(path=tmp_path / "mail", address="ada@example.org"),
            "far": MailboxSettings(imap="imaps://mail.example.org:993", username="ada", address="ada@example.org"),
        },
    )
    shape = Shape(real, ())
    there = shape.settings_in(tmp_path / "sandbox")
    assert (there.calendars["default"].path, there.calendars["default"].mailbox) == (None, "work")
    assert (there.calendars["team"].mailbox, there.calendars["team"].organizer) == ("", "")
    assert set(there.mailboxes) == {"work"}
    assert shape.elsewhere(Effect(system="calendar", object="default//a.ics", before=ABSENT, after=ABSENT)) == ""


def test_calls_that_changed_nothing_are_passed_over() -> None:
    assert choose([acted(status="failed"), acted(status="denied"), acted(status="shadowed")], lambda effect: "") == (
        [],
        [],
    )


def test_later_calls_name_what_earlier_ones_made_here() -> None:
    learned = Learned()
    learned.compare(
        {"result": {"event_id": "11111111-1111", "n": 1}, "digest": "blake3:old"},
        {"result": {"event_id": "22222222-2222", "n": 2}, "digest": "blake3:new"},
    )
    given: dict[str, JsonValue] = {
        "event_id": "11111111-1111",
        "expected_digest": "blake3:old",
        "all": ["11111111-1111", "x"],
    }
    assert learned.applied(given) == {
        "event_id": "22222222-2222",
        "expected_digest": "blake3:new",
        "all": ["22222222-2222", "x"],
    }


def test_the_command_says_what_is_covered_and_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = command(["drill", "--data", str(tmp_path / "data"), "--every", "1000", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["sound"], told["kills"], told["refused"]) == (0, True, 1, [])
    assert {row["tool"] for row in told["coverage"]} >= {"write_file", "execute_sql", "create_event", "send_email"}
    assert all(row["proven"] == row["calls"] and row["median_undo_ms"] > 0 for row in told["coverage"])
    assert not list((tmp_path / "data").rglob("*")), "nothing of the sandboxes stays"
