"""What waits for a person: listed with everything they need, closed with a reason, and put together for whoever helps."""

from __future__ import annotations

import json
import zipfile
from datetime import timedelta
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench
from tests.server.notices import sinks
from tests.tools.email import maildirs

from takeback.journal.events import ActionInDoubt, ActionIntended
from takeback.journal.ids import RunId, new_action_id
from takeback.journal.states import ABSENT, Compensation, Effect
from takeback.journal.views import OpenItem
from takeback.server.engine.answers import EngineError, OpenThing
from takeback.server.engine.export import export_run, verify_bundle
from takeback.server.engine.mailing import carrier_for, mail_bundle
from takeback.server.engine.stats import stats
from takeback.server.settings import ToolSettings
from takeback.tools.email.settings import MailboxSettings

TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture
async def bench(open_bench: OpenBench) -> Bench:
    return await open_bench(tools=ToolSettings(off=("database",)))


async def conflicted(bench: Bench) -> tuple[str, str]:
    """A run whose rollback left a conflict; the run and the conflict."""
    notes = bench.work / "notes.txt"
    notes.write_text("one\n")
    run = await bench.start("tidy up", steps=["write"])
    await bench.done("write_file", run, step="write", path="notes.txt", content="two\n")
    notes.write_text("three\n")
    back = await bench.back(run_id=run)
    [item] = back.open_items
    return run, item.conflict_id


async def only(bench: Bench, **more: Any) -> OpenThing:
    [thing] = await bench.engine.everything_open(ALICE, **more)
    return thing


async def test_a_conflict_is_listed_with_what_it_takes_to_do_it_by_hand_and_closed_with_a_reason(bench: Bench) -> None:
    run, item = await conflicted(bench)
    thing = await only(bench)
    assert await bench.engine.everything_open(ALICE, run_id=run) == [thing]
    assert await bench.engine.everything_open(BOB) == []
    assert (thing.item_id, thing.kind, thing.run_id, thing.object) == (item, "conflict", run, "notes.txt")
    assert thing.by_hand[0].startswith("It was Write file (`notes.txt`) at ")
    assert thing.by_hand[0].endswith(" in the step `write`, with path `notes.txt` and content `two`.")
    assert thing.by_hand[1:] == [
        "To take it back means the file of 4 bytes that was there before.",
        f"Look at all versions: takeback resolve {item}",
    ]
    assert thing.details["arguments"] == {"path": "notes.txt", "content": "two\n"}
    assert thing.settle == f"takeback settle {item} --reason …"
    for caller, reason, code in ((ALICE, "  ", "invalid"), (BOB, "mine", "not_found")):
        with pytest.raises(EngineError) as refused:
            await bench.engine.settle(caller, item, reason)
        assert refused.value.code == code
    await bench.engine.settle(ALICE, item, "merged by hand")
    assert await bench.engine.everything_open(ALICE) == []
    assert (bench.work / "notes.txt").read_text() == "three\n"
    closed = await bench.engine.core.journal.get(OpenItem, item)
    assert closed is not None
    assert (closed.status, closed.resolved_by) == ("resolved", ALICE.principal)
    told = [recorded.event for recorded in await bench.engine.core.journal.read(RunId(run))]
    assert any(getattr(event, "why", "") == f"settled by {ALICE.principal}: merged by hand" for event in told)
    with pytest.raises(EngineError):
        await bench.engine.settle(ALICE, item, "once more")


async def test_a_doubt_is_not_closed_by_a_reason(bench: Bench) -> None:
    run = RunId(await bench.start())
    core, action = bench.engine.core, new_action_id()
    effect = Effect(
        system="gone", object="thing", before=ABSENT, after=ABSENT.model_copy(update={"digest": "x", "kind": "y"})
    )
    await core.journal.append(
        [
            ActionIntended(
                run_id=run, at=core.now(), action_id=action, tool="pay", tool_version="1", caller=ALICE,
                requested={"to": "Bob"}, argument_digest="x", effects=(effect,), reversibility="irreversible",
                compensation=Compensation(strategy="none", how=""), policy_rule="default",
            ),
            ActionInDoubt(run_id=run, at=core.now(), action_id=action, reason="the process died"),
        ]
    )  # fmt: skip
    thing = await only(bench)
    assert (thing.item_id, thing.kind, thing.why) == (action, "in_doubt", "the process died")
    assert "It was pay (`Bob`)" in thing.by_hand[0]
    with pytest.raises(EngineError) as refused:
        await bench.engine.settle(ALICE, action, "it will be fine")
    assert refused.value.code == "in_doubt"
    assert await only(bench) == thing


@pytest.mark.parametrize("status", ["DEAD", "LATE", "UNKNOWN"])
async def test_messages_that_did_not_go_out_are_listed_once_and_closed_unless_nobody_knows(
    bench: Bench, status: str
) -> None:
    from takeback.server.engine import sender

    run = await bench.start("write to Bob")
    held = await bench.call("send_email", run, to=["bob@example.org"], subject="Hi", body="Hello")
    assert held.result is not None
    [message] = held.result["outbox_ids"]  # type: ignore[misc]  # JSON
    outbox = bench.engine.core.outbox
    await outbox.move(str(message), status, only=("HELD",), told="", detail="the server is away")  # type: ignore[arg-type]
    await sender.tell(bench.engine.core, str(message))
    thing = await only(bench)
    assert thing.kind == "mail"
    assert "The message `Hi` to bob@example.org" in thing.by_hand[0]
    assert thing.details["message_id"] == message
    if status == "UNKNOWN":
        with pytest.raises(EngineError) as refused:
            await bench.engine.settle(ALICE, thing.item_id, "never mind")
        assert f"takeback outbox settle {message}" in refused.value.advice
        assert await only(bench) == thing
        return
    await bench.engine.settle(ALICE, thing.item_id, "told him by telephone")
    assert await bench.engine.everything_open(ALICE) == []
    row = await outbox.get(str(message))
    assert row is not None
    assert (row.status, row.detail) == ("CANCELLED", f"settled by {ALICE.principal}: told him by telephone")
    assert await bench.engine.open_items(ALICE) == []


# --- for whoever helps ------------------------------------------------------------------------------------------------


async def test_a_bundle_for_support_has_no_contents_secrets_addresses_or_places(bench: Bench, tmp_path: Path) -> None:
    run = await bench.start(f"Deploy with {TOKEN} for anna.miller@example.org")
    await bench.done("write_file", run, path="plan.txt", content="our secret plan " * 20)
    await bench.call("send_email", run, to=["bob@example.org"], subject="Dear Bob", body="private words")
    await bench.call("edit_file", run, path="plan.txt", edits=[{"old_text": "unheard-of", "new_text": "x"}])
    dinner = {"start": "2027-01-01T10:00:00", "end": "2027-01-01T11:00:00", "timezone": "Europe/Berlin"}
    await bench.call("create_event", run, calendar="default", summary="Dinner with Eve", **dinner)
    path = await export_run(bench.engine.core, ALICE, run, tmp_path / "support.zip", redacted=True)
    assert verify_bundle(path) == [], "the chain holds without the payloads"
    with zipfile.ZipFile(path) as bundle:
        files = {name: bundle.read(name).decode() for name in bundle.namelist()}
    everything = "\n".join(files.values())
    for private in (
        TOKEN,
        "secret plan",
        "private words",
        "Dear Bob",
        "unheard-of",
        "Dinner",
        "anna.miller",
        "bob@",
        str(tmp_path),
    ):
        assert private not in everything, private
    assert not any(name.startswith("objects/") for name in files)
    assert "Edit file (`plan.txt`) failed: old_text was not found." in files["report.md"]
    events = [json.loads(line) for line in files["events.redacted.jsonl"].splitlines()]
    assert [event["type"] for event in events].count("action.failed") == 1
    failed = next(event for event in events if event["type"] == "action.failed")
    assert (failed["tool"], failed["code"], failed["requested"]["path"]) == ("edit_file", "no_match", "plan.txt")


async def test_a_bundle_is_mailed_through_a_mailbox_that_sends_and_never_to_this_machine(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    with sinks.mail() as mail:
        box = maildirs.make(tmp_path / "box")
        work = MailboxSettings(path=box, smtp=f"smtp://127.0.0.1:{mail.port}", address="me@example.org")
        away = MailboxSettings(path=box, smtp="smtp://127.0.0.1:9", address="me@example.org")
        here = MailboxSettings(path=maildirs.make(tmp_path / "here"), address="me@localhost")
        tools = ToolSettings(off=("database", "calendar", "files"))
        bench = await open_bench(tools=tools, mailboxes={"here": here, "work": work, "away": away})
        core = bench.engine.core
        assert carrier_for(core) == "work"
        run = await bench.start()
        path = await export_run(core, ALICE, run, tmp_path / "support.zip", redacted=True)
        await mail_bundle(core, "work", "help@example.org", run, path)
        letter = message_from_bytes(await sinks.taken(mail.arrived), policy=SMTP)
    [attached] = letter.iter_attachments()
    assert (letter["To"], run in letter["Subject"]) == ("help@example.org", True)
    assert (attached.get_filename(), attached.get_content()) == ("support.zip", path.read_bytes())
    for mailbox, address, code in (("away", "help@example.org", "not_sent"), ("work", "nobody", "cannot_send")):
        with pytest.raises(EngineError) as refused:
            await mail_bundle(core, mailbox, address, run, path)
        assert refused.value.code == code


# --- numbers ----------------------------------------------------------------------------------------------------------


async def test_numbers_tell_tools_and_systems_apart_and_how_long_recovery_took(bench: Bench) -> None:
    core, start = bench.engine.core, bench.engine.core.now()

    def at(minutes: float) -> None:
        core.now = lambda: start + timedelta(minutes=minutes)

    at(0)
    run = await bench.start()
    await bench.done("write_file", run, path="a.txt", content="1")
    at(10)
    await bench.call("edit_file", run, path="a.txt", edits=[{"old_text": "9", "new_text": "x"}])
    at(15)
    await bench.back(run_id=run)
    at(60)
    _, item = await conflicted(bench)
    at(90)
    await bench.engine.settle(ALICE, item, "done by hand")
    found: Any = await stats(core)
    assert found["actions"]["by_tool"] == {
        "edit_file": {"calls": 1, "failure_rate": 1.0, "undo_success_rate": None},
        "write_file": {"calls": 2, "failure_rate": 0.0, "undo_success_rate": 0.5},
    }
    assert found["actions"]["by_system"] == {
        "files": {"calls": 2, "failure_rate": 0.0, "undo_success_rate": 0.5},
    }
    assert found["recovery"] == {"times": 1, "median_seconds": 300.0}
    assert found["settling"] == {"times": 1, "median_seconds": 1800.0}
    assert found["open_items"] == 0
    later: Any = await stats(core, start + timedelta(minutes=30))
    assert later["actions"]["by_tool"] == {"write_file": {"calls": 1, "failure_rate": 0.0, "undo_success_rate": 0.0}}
    assert later["recovery"] == {"times": 0, "median_seconds": None}
    assert later["runs"]["total"] == 1
