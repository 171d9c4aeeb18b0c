"""People know an event by its title and start, and a mail by its subject and recipients: so these are called."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.tools.email import maildirs

from takeback.server.engine.export import export_run
from takeback.server.engine.policy_rules import Rule, RulesPolicy
from takeback.server.engine.sender import Sender
from takeback.server.settings import ToolSettings

DINNER = {
    "calendar": "default", "summary": "Review with Dana", "start": "2026-12-03T14:00:00", "end": "2026-12-03T15:00:00",
    "timezone": "Europe/Berlin",
}  # fmt: skip
CALLED = "“Review with Dana”, Thu 3 Dec 2026 14:00 Europe/Berlin, in default"
ASK = RulesPolicy([Rule.model_validate({"id": "ask-all", "when": {}, "then": "ask"})])


@pytest.fixture
async def bench(open_bench: OpenBench) -> Bench:
    bench = await open_bench(tools=ToolSettings(off=("files", "database")))
    bench.engine.core.outbox.now = lambda: 1_800_000_000.0
    return bench


def files_of(bench: Bench) -> list[Path]:
    return sorted((bench.engine.core.settings.data / "calendar" / "default").glob("*.ics"))


async def booked(bench: Bench, run: str, **more: str) -> str:
    answer = await bench.done("create_event", run, **DINNER | more)
    assert answer.result is not None
    return str(answer.result["event_id"])


def bare(text: str, id: str) -> Iterator[str]:
    """Where an id stands otherwise than behind what the object is called."""
    return (line for line in text.splitlines() if id in line.replace(f"in default ({id})", ""))


async def test_an_event_is_called_by_its_title_and_start_in_plan_report_and_what_is_open(bench: Bench) -> None:
    run = await bench.start()
    event = await booked(bench, run)
    called = f"{CALLED} ({event})"
    plan = await bench.back(run_id=run, dry_run=True)
    assert plan.steps[0].called == [called] and called in plan.report and called in plan.steps[0].preview
    [file] = files_of(bench)
    file.write_bytes(file.read_bytes().replace(b"Review with Dana", b"Review with Eve"))
    back = await bench.back(run_id=run)
    assert back.status != "complete"
    told = await bench.engine.rollback_told(ALICE, back.rollback_id)
    assert not isinstance(told, str)
    [thing] = await bench.engine.everything_open(ALICE)
    [item] = await bench.engine.open_items(ALICE)
    report = (await bench.engine.get_run(ALICE, run, view="report")).report
    assert report is not None
    for said in (back.report, told.report, report.text, thing.object):
        assert called in said
        assert not list(bare(said, event)), said
    assert item.called == told.open_items[0].called == back.steps[0].called[0] == called
    assert item.object != called, "the id by which it is told to programs stays"


async def test_an_event_is_called_so_in_a_question_and_after_it_was_deleted(bench: Bench) -> None:
    run = await bench.start()
    event = await booked(bench, run)
    await bench.done("delete_event", run, calendar="default", event_id=event)
    plan = await bench.back(run_id=run, dry_run=True)
    assert f"{CALLED} ({event})" in plan.report
    bench.engine.core.policy = ASK
    asked = await bench.call("create_event", run, **DINNER)
    assert asked.question is not None and asked.question.startswith(f"create {CALLED} (")


async def test_an_event_of_a_whole_day_has_no_time(bench: Bench) -> None:
    run = await bench.start()
    await bench.done("create_event", run, calendar="default", summary="Fair", start="2026-12-03", end="2026-12-05")
    assert "“Fair”, Thu 3 Dec 2026, in default (" in (await bench.back(run_id=run)).report


async def test_mail_is_called_by_its_subject_and_recipients_in_the_outbox_and_in_mailboxes(bench: Bench) -> None:
    box = bench.engine.core.settings.data / "mail" / "default"
    run = await bench.start()
    sent = await bench.call("send_email", run, to=["ann@example.org", "bob@example.org"], subject="Offer", body="Hello")
    assert sent.result is not None
    [id] = sent.result["outbox_ids"]  # type: ignore[misc]  # a list of texts
    called = f"“Offer” to ann@example.org, bob@example.org ({id})"
    assert called in (await bench.back(run_id=run, dry_run=True)).report
    await bench.engine.desk.send_now(ALICE, str(id))
    await Sender(bench.engine.core, steady=lambda: 1000.0).round()
    back = await bench.back(run_id=run)
    assert back.steps[0].called == [called] and called in back.report
    things = await bench.engine.everything_open(ALICE)
    assert things and all(each.object.startswith(("“Offer” to ", "“Correction: ")) for each in things)

    (box / "cur").mkdir(exist_ok=True)
    maildirs.put(box, "1.host:2,", b"From: eve@example.org\nTo: me@example.org\nSubject: Lunch?\n\nx\n", sub="cur")
    [key] = [path.name.partition(":")[0] for path in (box / "cur").iterdir() if "1.host" in path.name]
    run = await bench.start()
    await bench.done("flag_email", run, mailbox="default", message_ids=[key], add=["flagged"])
    assert f"“Lunch?” to me@example.org, in default ({key})" in (await bench.back(run_id=run)).report


async def test_a_title_is_data_that_cannot_get_out_of_its_quotation_marks(bench: Bench) -> None:
    run = await bench.start()
    token = "ghp_" + "a1B2" * 8
    await booked(bench, run, summary=f"Tea” is restored\u202e `x` {token}")
    await booked(bench, run, summary="long " * 100)
    [second, first] = (await bench.back(run_id=run, dry_run=True)).steps
    assert first.called[0].startswith('“Tea" is restored\\u202e `x` ') and token not in first.called[0]
    assert len(second.called[0]) < 200 and "…”" in second.called[0]
    report = (await bench.back(run_id=run)).report
    assert '`“Tea" is restored\\u202e \\x60x\\x60 ' in report and "\u202e" not in report and token not in report


async def test_a_bundle_for_support_calls_events_by_their_ids(bench: Bench, tmp_path: Path) -> None:
    event = await booked(bench, await bench.start(), summary="Layoffs of 2027")
    run = await bench.start()
    await bench.done("update_event", run, calendar="default", event_id=event, location="Room 1")
    [file] = files_of(bench)
    file.write_bytes(file.read_bytes().replace(b"Room 1", b"Room 2"))
    await bench.back(run_id=run)
    assert "Layoffs" in (await bench.engine.everything_open(ALICE))[0].object
    path = await export_run(bench.engine.core, ALICE, run, tmp_path / "support.zip", redacted=True)
    with zipfile.ZipFile(path) as bundle:
        everything = "\n".join(bundle.read(name).decode() for name in bundle.namelist())
    assert event in everything and "“Layoffs" not in everything and "\\u201cLayoffs" not in everything
