"""Containment: graded and narrow, seen by every process, released by a person only; what is not meant goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench
from tests.server.engine.conftest import bench as bench
from tests.server.engine.conftest import open_bench as open_bench
from tests.server.engine.many import status, with_many

from takeback.journal.events import RunContained
from takeback.journal.guarding import HoldKind
from takeback.journal.ids import RunId
from takeback.server.engine import containment
from takeback.server.engine.answers import EngineError
from takeback.server.engine.calls import Call
from takeback.server.engine.sender import Sender
from takeback.server.settings import ToolSettings
from takeback.tools.system import Unavailable

REAL = {"tools": ToolSettings()}
DATABASE = {"database": "shop.db", "sql": "CREATE TABLE t(a)"}


async def test_a_held_tool_is_refused_in_every_run_and_process_until_a_person_lets_it_go(open_bench: OpenBench) -> None:
    one, two = with_many(await open_bench()), with_many(await open_bench())
    run = await one.start()
    await one.engine.contain_scope(ALICE, "tool", "set_many", "it writes nonsense")
    for each, in_run in ((one, run), (two, run), (two, None)):
        answer = await each.call("set_many", in_run, values={"a": "1"})
        assert answer.status == "denied" and answer.error is not None
        assert answer.error.message == "The tool set_many is contained: it writes nonsense."
    await two.set(run, "b", "1")
    assert one.memory.texts() == {"b": "1"}
    await two.engine.release_scope(ALICE, "tool", "set_many")
    await one.done("set_many", run, values={"a": "1"})
    with pytest.raises(EngineError, match="not contained"):
        await one.engine.release_scope(ALICE, "tool", "set_many")


@pytest.mark.parametrize(
    ("kind", "name", "stopped"),
    [
        ("tool", "files", {"write_file"}),
        ("tool", "execute_sql", {"execute_sql"}),
        ("system", "calendar", {"create_event"}),
        ("system", "shop.db", {"execute_sql"}),
        ("system", "notes/", {"write_file"}),
        ("system", "outbox", {"send_email"}),
        ("system", "elsewhere.db", set()),
        ("principal", ALICE.principal, {"write_file", "execute_sql", "create_event", "send_email"}),
        ("principal", BOB.principal, set()),
    ],
)
async def test_a_hold_stops_what_it_names_and_nothing_else(
    open_bench: OpenBench, kind: HoldKind, name: str, stopped: set[str]
) -> None:
    bench = await open_bench(**REAL)
    (bench.work / "notes").mkdir()
    (bench.work / "shop.db").touch()
    run = await bench.start()
    await bench.engine.contain_scope(ALICE, kind, name, "odd")
    calls: dict[str, dict[str, Any]] = {
        "write_file": {"path": "notes/a.txt", "content": "a"},
        "execute_sql": DATABASE,
        "create_event": {
            "calendar": "default",
            "summary": "Talk",
            "start": "2027-01-01T10:00:00",
            "end": "2027-01-01T11:00:00",
            "timezone": "Europe/Berlin",
        },
        "send_email": {"to": ["bob@example.org"], "subject": "Hi", "body": "Hello"},
    }
    told = {tool: (await bench.call(tool, run, **arguments)).status for tool, arguments in calls.items()}
    assert {tool for tool, each in told.items() if each == "denied"} == stopped
    assert {each for tool, each in told.items() if tool not in stopped} <= {"applied", "held"}
    assert (bench.work / "notes" / "a.txt").exists() is ("write_file" not in stopped)


async def test_what_is_held_is_not_even_prepared(open_bench: OpenBench) -> None:
    bench = await open_bench(**REAL)
    run = await bench.start()
    await bench.engine.contain_scope(ALICE, "tool", "write_file", "odd")
    answer = await bench.call("write_file", run, path="no such folder/a.txt", content="a")
    assert answer.error is not None and answer.error.code == "contained"


async def test_what_is_held_can_still_be_looked_at_and_taken_back_but_not_brought_back(bench: Bench) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    await bench.engine.contain_scope(ALICE, "system", "memory", "odd")
    assert (await bench.engine.read(Call("get_value", {"key": "a"}, ALICE))).error is None
    back = await bench.back(run_id=run)
    assert back.status == "complete" and bench.memory.texts() == {}
    with pytest.raises(EngineError, match="memory is contained"):
        await bench.engine.redo(ALICE, str(back.rollback_id))
    await bench.engine.release_scope(ALICE, "system", "memory")
    await bench.engine.redo(ALICE, str(back.rollback_id))
    assert bench.memory.texts() == {"a": "1"}


async def at_the_intent(bench: Bench, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Let something happen after the next call was admitted and prepared, right before its intent is written."""
    real = bench.engine.core.journal.append
    begun: list[bool] = []

    async def slow(events: Any, **more: Any) -> Any:
        if not begun and any(event.type == "action.intended" for event in events):
            begun.append(True)
            await meanwhile()
        return await real(events, **more)

    bench.engine.core.journal.append = slow  # type: ignore[method-assign]  # the moment that no test hits by itself


async def test_a_call_that_was_admitted_before_a_hold_came_is_refused_before_its_commit(open_bench: OpenBench) -> None:
    one, two = await open_bench(), await open_bench()
    run = await one.start()
    await at_the_intent(one, lambda: two.engine.contain_scope(ALICE, "tool", "set_value", "odd"))
    assert (await one.call("set_value", run, key="a", value="1")).status == "denied" and one.memory.texts() == {}


async def test_a_call_that_was_admitted_before_its_run_or_the_one_above_was_contained_is_refused(
    open_bench: OpenBench,
) -> None:
    one, two = await open_bench(), await open_bench()
    parent = await one.start()
    child = await one.start(parent_run_id=parent)
    journal = two.engine.core.journal
    event = RunContained(
        run_id=RunId(parent), at=two.engine.core.now(), reason="odd", by="anna"
    )  # the child is not named
    await at_the_intent(one, lambda: journal.append([event]))
    assert (await one.call("set_value", child, key="a", value="1")).status == "denied"
    other = await one.start(parent_run_id=None)
    await at_the_intent(one, lambda: two.engine.contain_run(ALICE, other, "odd"))
    assert (await one.call("set_value", other, key="a", value="1")).status == "denied" and one.memory.texts() == {}


async def test_a_call_in_flight_finishes_and_tells_its_outcome(bench: Bench) -> None:
    run = await bench.start()

    async def contain(step: str) -> None:
        if step == "swap":
            await bench.engine.contain_run(ALICE, run, "odd")
            await bench.engine.contain_scope(ALICE, "tool", "set_value", "odd")

    bench.memory.on_step = contain
    assert (await bench.call("set_value", run, key="a", value="1")).status == "applied"
    assert bench.memory.texts() == {"a": "1"} and await status(bench, run) == "contained"


@pytest.mark.parametrize("contained", [False, True])
async def test_an_act_that_is_contained_while_it_waits_to_be_tried_again_is_not_tried_again(
    bench: Bench, contained: bool
) -> None:
    run = await bench.start()
    real, tries = bench.memory.swap, []

    async def away_once(effects: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            if contained:
                await bench.engine.contain_run(ALICE, run, "odd")
            raise Unavailable("it is away")
        return await real(effects)

    bench.memory.swap = away_once  # type: ignore[method-assign]  # a system that is away for a moment
    answer = await bench.call("set_value", run, key="a", value="1")
    assert (answer.status, len(tries)) == (("failed", 1) if contained else ("applied", 2))


async def test_what_was_forked_from_a_contained_run_is_contained_with_it_and_so_are_its_children(bench: Bench) -> None:
    run = await bench.start()
    done = await bench.set(run, "a", "1")
    fork = (await bench.engine.resume_from(ALICE, str(done.checkpoint_id))).run_id
    assert fork is not None
    child = await bench.start(parent_run_id=fork)
    other = await bench.start()
    await bench.engine.contain_run(ALICE, run, "odd")
    assert [await status(bench, each) for each in (run, fork, child, other)] == ["contained"] * 3 + ["open"]
    await bench.engine.release_run(ALICE, run)
    assert [await status(bench, each) for each in (run, fork, child)] == ["open"] * 3


async def test_questions_of_a_contained_run_cannot_be_consented_to_until_it_is_released(bench: Bench) -> None:
    run = await bench.start()
    pending = await bench.call("post_note", run, text="hello")
    await bench.engine.contain_run(ALICE, run, "odd")
    with pytest.raises(EngineError, match="frozen"):
        await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    assert (await bench.call("post_note", run, text="hello")).status == "denied"
    await bench.engine.release_run(ALICE, run)
    await bench.engine.contain_scope(ALICE, "tool", "post_note", "odd")
    with pytest.raises(EngineError, match="post_note is contained"):
        await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    await bench.engine.release_scope(ALICE, "tool", "post_note")
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    assert (await bench.call("post_note", run, text="hello")).status == "applied"


async def test_a_question_of_a_contained_run_can_be_refused(bench: Bench) -> None:
    run = await bench.start()
    pending = await bench.call("post_note", run, text="hello")
    await bench.engine.contain_run(ALICE, run, "odd")
    assert (await bench.engine.deny(ALICE, str(pending.approval_id), lane="test")).status == "denied"


@pytest.mark.parametrize(
    ("kind", "name", "goes"),
    [
        ("tool", "send_email", False),
        ("tool", "email", False),
        ("system", "default", False),
        ("principal", ALICE.principal, False),
        ("tool", "delete_email", True),
        ("system", "work", True),
    ],
)
async def test_mail_that_waits_does_not_leave_while_what_sent_it_is_held(
    open_bench: OpenBench, kind: HoldKind, name: str, goes: bool
) -> None:
    bench = await open_bench(tools=ToolSettings(off=("files", "database")))
    core, clock = bench.engine.core, [1_800_000_000.0]
    core.outbox.now = lambda: clock[0]
    sender = Sender(core, steady=lambda: clock[0])
    answer = await bench.call("send_email", await bench.start(), to=["me@localhost"], subject="Hi", body="Hello")
    assert answer.status == "held"
    await bench.engine.contain_scope(ALICE, kind, name, "odd")
    await sender.round()
    clock[0] += 121
    await sender.round()
    [row] = await core.outbox.rows(ALICE.principal, everything=True)
    assert row.status == ("SENT" if goes else "HELD")
    await bench.engine.release_scope(ALICE, kind, name)
    await sender.round()
    [row] = await core.outbox.rows(ALICE.principal, everything=True)
    assert row.status == "SENT"


async def test_what_is_quarantined_may_not_even_read_and_what_is_contained_may(bench: Bench) -> None:
    async def reads(caller: Any = ALICE) -> str:
        answer = await bench.engine.read(Call("get_value", {"key": "a"}, caller))
        return answer.error.code if answer.error is not None else "read"

    run = await bench.start()
    await bench.set(run, "a", "1")
    await bench.engine.contain_run(ALICE, run, "odd")
    assert await reads() == "read"
    await bench.engine.contain_run(ALICE, run, "worse", level="quarantined")
    assert [await reads(), await reads(BOB)] == ["contained", "read"]
    assert (await bench.engine.get_run(ALICE, run)).run.status == "quarantined"
    assert (await bench.back(run_id=run)).status == "complete"
    await bench.engine.release_run(ALICE, run)
    await bench.engine.contain_scope(BOB, "tool", "get_value", "odd")
    assert await reads() == "read"
    await bench.engine.contain_scope(BOB, "tool", "get_value", "odd", level="quarantined")
    await bench.engine.contain_scope(BOB, "tool", "get_value", "odd")  # only tightens
    assert await reads() == "contained"


async def test_a_hold_needs_a_reason_and_a_name_that_there_is(bench: Bench) -> None:
    for kind, name, reason in (("tool", "set_value", " "), ("tool", "no_such_tool", "odd"), ("principal", "", "odd")):
        with pytest.raises(EngineError):
            await bench.engine.contain_scope(ALICE, kind, name, reason)  # type: ignore[arg-type]  # one of the words
    assert (await bench.engine.contained(ALICE))[1] == ()


async def test_all_that_is_held_is_listed_and_survives_a_rebuild_of_the_views(bench: Bench) -> None:
    run = await bench.start()
    await bench.engine.contain_run(ALICE, run, "odd")
    await bench.engine.contain_scope(ALICE, "tool", "set_value", "odd")
    await bench.engine.contain_scope(ALICE, "principal", BOB.principal, "odd")
    await bench.engine.release_scope(ALICE, "principal", BOB.principal)
    before = await bench.engine.contained(ALICE)
    await bench.engine.core.journal.rebuild()
    runs, holds = await bench.engine.contained(ALICE)
    assert (runs, holds) == before
    assert [each.id for each in runs] == [run] and [(hold.kind, hold.name) for hold in holds] == [("tool", "set_value")]
    assert (await bench.engine.core.journal.verify()).sound


async def test_what_is_held_more_tightly_in_the_moment_of_its_release_stays_held(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await bench.start()
    await bench.engine.contain_run(ALICE, run, "odd")
    real, parts_of = containment.parts_of, []

    async def meanwhile(core: Any, of: Any) -> Any:
        found = await real(core, of)
        if not parts_of:
            parts_of.append(of)
            await bench.engine.contain_run(ALICE, run, "it steals", level="quarantined")
        return found

    monkeypatch.setattr(containment, "parts_of", meanwhile)
    with pytest.raises(EngineError, match="quarantined for another reason by now: it steals"):
        await bench.engine.release_run(ALICE, run)
    assert await status(bench, run) == "quarantined"
    await bench.engine.release_run(ALICE, run)
    assert await status(bench, run) == "open"
