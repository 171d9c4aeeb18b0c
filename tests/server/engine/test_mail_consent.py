"""A person's consent to what is new in a mailbox or in the outbox: good for the same call, once, and for no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests import ticketing
from tests.server.engine.bench import ALICE, OpenBench

from takeback.server.engine.policy_rules import Rule, RulesPolicy
from takeback.server.settings import OutboxSection, ToolSettings
from takeback.tools import memory
from takeback.tools.registry import BUILT_IN
from takeback.tools.system import Preview

ASK = RulesPolicy([Rule.model_validate({"id": "ask-all", "when": {}, "then": "ask"})])
LETTER = {"to": ["bob@example.org"], "subject": "Hi", "body": "Hello"}
CALLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "send_email": (LETTER, {"to": ["eve@example.net"]}),
    "draft_email": (LETTER, {"body": "Other words"}),
    "open_ticket": ({"text": "It is cold."}, {"text": "It is warm."}),
}


@pytest.mark.parametrize("tool", CALLS)
async def test_the_same_call_is_done_once_after_a_consent_and_another_one_is_asked_for(
    open_bench: OpenBench, tool: str
):
    bench = await open_bench(
        tools=ToolSettings(modules=(Path(ticketing.__file__),), off=("files", "database", "calendar"))
    )
    bench.engine.core.policy = ASK
    run = await bench.start()
    arguments, other = CALLS[tool]
    pending = await bench.call(tool, run, **arguments)
    assert pending.status == "pending_approval"
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    assert (await bench.call(tool, run, **{**arguments, **other})).status == "pending_approval"
    assert (await bench.call(tool, run, **arguments)).status in ("held", "applied")
    assert (await bench.call(tool, run, **arguments)).status == "pending_approval"


async def test_without_a_window_a_message_is_sent_after_a_consent(open_bench: OpenBench):
    bench = await open_bench(tools=ToolSettings(off=("files", "database", "calendar")))
    run = await bench.start()
    pending = await bench.call("send_email", run, **LETTER, hold_seconds=0)
    assert pending.status == "pending_approval"
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    assert (await bench.call("send_email", run, **LETTER, hold_seconds=0)).status == "held"


@pytest.mark.parametrize(("seconds", "asks"), [(0.001, True), (119, True), (120, False), (3600, False)])
async def test_a_window_that_leaves_a_person_less_time_than_the_settings_give_them_is_asked_about(
    open_bench: OpenBench, seconds: float, asks: bool
):
    bench = await open_bench(tools=ToolSettings(off=("files", "database")), outbox=OutboxSection(hold_seconds=120))
    answer = await bench.call("send_email", **LETTER, hold_seconds=seconds)
    assert answer.status == ("pending_approval" if asks else "held")
    assert len(await bench.engine.core.outbox.rows(None)) == (0 if asks else 1)


@pytest.mark.parametrize("tool", ["send_email", "draft_email"])
async def test_a_consent_is_void_once_an_attached_file_holds_something_else(open_bench: OpenBench, tool: str):
    bench = await open_bench(tools=ToolSettings(off=("database", "calendar")))
    bench.engine.core.policy = ASK
    run = await bench.start()
    report = bench.work / "report.txt"
    report.write_bytes(b"what was shown")
    call: dict[str, Any] = {**LETTER, "attachments": ["report.txt"]}
    pending = await bench.call(tool, run, **call)
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    report.write_bytes(b"what is secret")
    again = await bench.call(tool, run, **call)
    assert again.status == "pending_approval" and again.approval_id != pending.approval_id
    await bench.engine.approve(ALICE, str(again.approval_id), lane="test")
    assert (await bench.call(tool, run, **call)).status in ("held", "applied")


@pytest.mark.parametrize("mode", ["act", "plan"])
@pytest.mark.parametrize("tool", ["open_ticket", "post_note"])
async def test_a_consent_is_void_once_what_was_shown_of_an_act_is_something_else(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch, tool: str, mode: Any
):
    """A tool looks up how much it pays back, tells that to the person, and looks it up again when it is called again."""
    modules = (Path(ticketing.__file__), Path(memory.__file__))
    bench = await open_bench(tools=ToolSettings(modules=modules, off=tuple(BUILT_IN)))
    bench.engine.core.policy = ASK
    price = ["10"]
    monkeypatch.setattr(bench.engine.core.tools[tool], "describe", lambda *_: Preview(f"pay {price[0]} back"))
    run = await bench.start(mode=mode)

    async def again() -> Any:
        if mode == "plan":
            return await bench.engine.finish_run(ALICE, run)
        return await bench.call(tool, run, text="hello")

    if mode == "plan":
        await bench.call(tool, run, text="hello")
    pending = await again()
    assert "pay 10 back" in str(pending.question)
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    price[0] = "1000"
    asked = await again()
    assert asked.status == ("pending_approval" if mode == "act" else "open")
    assert "pay 1000 back" in str(asked.question) and asked.approval_id != pending.approval_id
    await bench.engine.approve(ALICE, str(asked.approval_id), lane="test")
    assert (await again()).status in ("held", "applied", "finished")


async def test_a_person_reads_what_they_are_asked_to_let_leave(open_bench: OpenBench):
    bench = await open_bench(tools=ToolSettings(off=("database", "calendar")))
    (bench.work / "q3.csv").write_bytes(b"a,b\n")
    body = "Dear Bob,\nyour price\u202e is 1000.\nThis is reversible: really\n" + "x\n" * 70 + "ghp_" + "a1B2" * 9
    call: dict[str, Any] = {**LETTER, "body": body, "attachments": ["q3.csv"], "hold_seconds": 0}
    asked = await bench.call("send_email", await bench.start(), **call)
    lines = str(asked.question).splitlines()
    assert "bob@example.org" in lines[0] and lines[1].startswith("This is compensable")
    assert lines[2:5] == ["> Dear Bob,", "> your price\\u202e is 1000.", "> This is reversible: really"]
    assert all(line.startswith("> ") for line in lines[2:])
    assert lines[-2:] == ["> (… 14 lines more)", "> (attached: q3.csv, 4 bytes)"]
    assert len(lines) == 2 + 60 + 2
    short = await bench.call(
        "send_email", await bench.start(), **{**LETTER, "body": "Key: ghp_" + "a1B2" * 9, "hold_seconds": 0}
    )
    assert "> Key: " in str(short.question) and "a1B2" not in str(short.question)


async def test_a_person_reads_the_mail_of_a_plan_too(open_bench: OpenBench):
    bench = await open_bench(tools=ToolSettings(off=("files", "database", "calendar")))
    run = await bench.start(mode="plan")
    await bench.call("send_email", run, **LETTER)
    await bench.call("send_email", run, **{**LETTER, "body": "Good\nbye"})
    lines = str((await bench.engine.finish_run(ALICE, run)).question).splitlines()
    assert [line[:3] for line in lines] == ["Car", "1. ", ">  ", "2. ", ">  ", ">  "]
    assert [line for line in lines if line.startswith(">")] == [">   Hello", ">   Good", ">   bye"]
