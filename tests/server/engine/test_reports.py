"""A task of six steps over files, a database, a calendar and mail that fails at each of them: what its report says, whole."""

from __future__ import annotations

import re
import sqlite3
from datetime import timedelta
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench

from takeback.server.engine import runs
from takeback.server.engine.answers import EngineError, FailureReport
from takeback.server.settings import ToolSettings

STEPS = ["write the report", "record the figures", "book the meeting", "tell Bob", "announce it", "close the ticket"]
MEETING = {"calendar": "default", "summary": "Review", "timezone": "Europe/Berlin"}
WORK: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("write_file", {"path": "reports/q3.md", "content": "# Third quarter\n"}, {"path": "notes/q3.md"}),
    (
        "execute_sql",
        {"database": "figures.db", "sql": "INSERT INTO figures VALUES (3, 106)"},
        {"sql": "INSERT INTO quarters VALUES (3, 106)"},
    ),
    (
        "create_event",
        {**MEETING, "start": "2026-12-01T10:00:00", "end": "2026-12-01T11:00:00"},
        {"end": "2026-12-01T09:00:00"},
    ),
    ("send_email", {"to": ["bob@example.org"], "subject": "It grew", "body": "Dear Bob, it grew."}, {"to": ["bob@"]}),
    (
        "edit_file",
        {"path": "site.toml", "edits": [{"old_text": "Second quarter", "new_text": "Third quarter"}]},
        {"edits": [{"old_text": "First quarter", "new_text": "Third quarter"}]},
    ),
    (
        "execute_sql",
        {"database": "figures.db", "sql": "UPDATE tickets SET state = 'closed'"},
        {"sql": "UPDATE tickets SET state = 'done'"},
    ),
]
"""Per step the tool, what works, and what does not."""

DONE = [
    "In the step `write the report`: Created reports/q3.md (16 bytes).",
    "In the step `record the figures`: Ran the statement: figures: 1 row inserted, in figures.db.",
    "In the step `book the meeting`: Created Review in default.",
    "In the step `tell Bob`: Put a message for 1 recipient into the outbox, to leave at TIME.",
    "In the step `announce it`: Changed site.toml in 1 edit.",
]
HELD = "The message `It grew` to bob@example.org is held until TIME, and can be called back until then."
KEPT = [
    "`reports` and `reports/q3.md` are new and stand; taking back ACT removes them.",
    "`figures 3 in figures.db` is new and stands; taking back ACT removes it.",
    "Created Review in default: it stands; taking back ACT removes it.",
    None,
    "The file `site.toml` as it was before this run is kept: put it back with restore_version, version ACT:before.",
]
DOWNLOADS = [
    "`reports/q3.md`, as write_file left it: takeback://objects/ACT/1/after",
    None,
    "`“Review”, Tue 1 Dec 2026 10:00 Europe/Berlin, in default (EVENT)`, as create_event left it (Created Review in default):"
    " takeback://objects/ACT/0/after",
    None,
    "`site.toml`, as edit_file left it: takeback://objects/ACT/0/after",
]
FAILED = [
    (
        "Write file (`notes/q3.md`) failed in the step `write the report`: A part of notes/q3.md is a file, not a folder.",
        "Check the path.",
        "Write file, with path `notes/q3.md` and content `# Third quarter`.",
    ),
    (
        "Execute SQL failed in the step `record the figures`: SQLite refuses it: no such table: quarters.",
        "Look at the tables with describe_database.",
        "Execute SQL, with database `figures.db` and sql `INSERT INTO quarters VALUES (3, 106)`.",
    ),
    (
        "Create event (`Review`) failed in the step `book the meeting`: The event would end before it starts.",
        "For all-day events, `end` is the day after the last.",
        "Create event, with calendar `default`, summary `Review`, timezone `Europe/Berlin`, start `2026-12-01T10:00:00` and"
        " end `2026-12-01T09:00:00`.",
    ),
    (
        "Send email (`bob@`) failed in the step `tell Bob`: Address 1 in to has a domain that is none ('').",
        "Write it in full, as in anna@example.org.",
        "Send email, with to `bob@`, subject `It grew` and body `Dear Bob, it grew.`.",
    ),
    (
        "Edit file (`site.toml`) failed in the step `announce it`: old_text was not found.",
        "Read the file again and copy the text exactly, blanks included.",
        "Edit file, with path `site.toml` and edits old_text `First quarter` and new_text `Third quarter`.",
    ),
    (
        "Execute SQL failed in the step `close the ticket`: SQLite refuses it: CHECK constraint failed: state IN"
        " ('open', 'closed').",
        "Look at the tables with describe_database.",
        "Execute SQL, with database `figures.db` and sql `UPDATE tickets SET state = 'done'`.",
    ),
]


@pytest.fixture
async def bench(open_bench: OpenBench) -> Bench:
    bench = await open_bench(tools=ToolSettings())
    (bench.work / "site.toml").write_text('title = "Second quarter"\n')
    (bench.work / "notes").write_text("a file\n")
    with sqlite3.connect(bench.work / "figures.db") as database:
        database.executescript(
            "CREATE TABLE figures (quarter INTEGER PRIMARY KEY, revenue INTEGER);"
            "CREATE TABLE tickets (id INTEGER PRIMARY KEY, state TEXT CHECK (state IN ('open', 'closed')));"
            "INSERT INTO tickets VALUES (1, 'open');"
        )
    database.close()
    return bench


def plain(text: str) -> str:
    """Without what differs from run to run."""
    for what, pattern in (
        ("ACT", r"act_[a-z2-7]{26}"),
        ("CHK", r"chk_[a-z2-7]{26}"),
        ("RUN", r"run_[a-z2-7]{26}"),
        ("EVENT", r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        ("TIME", r"\d{4}-\d\d-\d\dT[\d:.]+Z"),
        ("NOW", r"(?:\d{4}-\d\d-\d\d )?(?<!T)\d\d:\d\d:\d\d"),
    ):
        text = re.sub(pattern, what, text)
    return text


def section(title: str, lines: list[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def expected(step: int) -> str:
    """The report of the task that failed in its step number `step` (from 0)."""
    failed, advice, by_hand = FAILED[step]
    reached = range(step)
    kept = [line for n in reached if (line := KEPT[n])]
    if step:
        kept.append("Everything up to here: checkpoint CHK; go on from it with resume_from.")
    left = [f"The step `{STEPS[step]}`: what was tried in it failed."]
    left += [f"The step `{name}`." for name in STEPS[step + 1 :]]
    called = ["Write file", "Execute SQL", "Create event", "Send email", "Edit file", "Execute SQL"]
    what = [line.partition(": ")[2] for line in DONE[:step]]
    went = ["held" if n == 3 else "applied" for n in reached]
    when = [f"NOW, {called[n]} in the step `{STEPS[n]}`, {went[n]}: {what[n]}" for n in reached]
    if step > 3:
        when[3] += " Held until TIME."
    when.append(f"NOW, {called[step]} in the step `{STEPS[step]}`, failed: {failed.partition('`: ')[2]}")
    when.append("NOW, the run is failed.")
    parts = [
        "# Publish the third quarter",
        "Run RUN is failed, as of NOW UTC.",
        f"**First: See to the step `{STEPS[step]}`: {advice}**",
        section("Done", [f"{step} of 6 steps done.", *DONE[:step], *([HELD] if step > 3 else [])]),
        section("Kept", kept),
        section("To download", [line for n in reached if (line := DOWNLOADS[n])]),
        section("Failed", ["The run was given up: it could not be finished.", failed]),
        section("Left to do", [*left, f"To do it by hand: {by_hand}"]),
        section("What happened when", when),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


async def until(bench: Bench, step: int) -> tuple[str, FailureReport]:
    """The task up to the step that fails; its run, and what the failed call answered."""
    run = await bench.start("Publish the third quarter", steps=STEPS)
    for n in range(step):
        tool, arguments, _ = WORK[n]
        answer = await bench.call(tool, run, step=STEPS[n], **arguments)
        assert answer.status in ("applied", "held"), answer
    tool, arguments, wrong = WORK[step]
    answer = await bench.call(tool, run, step=STEPS[step], **(arguments | wrong))
    assert answer.status == "failed"
    assert answer.report is not None
    return run, answer.report


@pytest.mark.parametrize("step", range(6), ids=STEPS)
async def test_the_report_is_right_for_a_failure_at_each_step(bench: Bench, step: int) -> None:
    run, at_once = await until(bench, step)
    assert at_once.done[0] == f"{step} of 6 steps done."
    assert at_once.failed == [FAILED[step][0]]
    assert at_once.first_step == f"See to the step `{STEPS[step]}`: {FAILED[step][1]}"
    [by_hand] = at_once.by_hand
    tool, arguments, wrong = WORK[step]
    assert (by_hand.tool, by_hand.step, by_hand.arguments) == (tool, STEPS[step], arguments | wrong)

    ended = await bench.engine.finish_run(ALICE, run, status="failed", summary="it could not be finished")
    assert ended.report is not None
    assert plain(ended.report.text) == expected(step)
    assert [told.status for told in ended.report.steps] == ["done"] * step + ["failed"] + ["not_begun"] * (5 - step)
    shown = await bench.engine.get_run(ALICE, run, view="report")
    assert shown.report is not None
    assert plain(shown.report.text) == expected(step)
    assert (await bench.engine.get_run(ALICE, run)).progress == f"{step} of 6 steps done."


async def test_what_the_report_names_can_be_fetched_and_by_nobody_else(bench: Bench) -> None:
    run, _ = await until(bench, 5)
    report = (await bench.engine.get_run(ALICE, run, view="report")).report
    assert report is not None

    def place(uri: str) -> list[str]:
        return uri.removeprefix("takeback://objects/").split("/")

    contents = {each.name: await bench.engine.stored_content(ALICE, *place(each.uri)) for each in report.downloads}
    assert contents["reports/q3.md"] == b"# Third quarter\n"
    assert contents["site.toml"] == b'title = "Third quarter"\n'
    assert b"SUMMARY:Review" in next(content for name, content in contents.items() if "default" in name)
    action = place(report.downloads[0].uri)[0]
    for caller, given in (
        (BOB, (action, "1", "after")),
        (ALICE, (action, "9", "after")),
        (ALICE, (action, "-1", "after")),
        (ALICE, (action, "1", "middle")),
        (ALICE, ("act_x", "0", "after")),
    ):
        with pytest.raises(EngineError) as refused:
            await bench.engine.stored_content(caller, *given)
        assert refused.value.code == "not_found"

    # taken back, it is kept all the same; and a file that somebody else has changed is not passed off as the agent's
    await bench.back(run_id=run)
    (bench.work / "site.toml").write_text("mine\n")
    again = (await bench.engine.get_run(ALICE, run, view="report")).report
    assert again is not None
    assert {told.status for told in again.steps} == {"taken_back", "failed"}
    taken = {each.name: await bench.engine.stored_content(ALICE, *place(each.uri)) for each in again.downloads}
    assert taken["reports/q3.md"] == b"# Third quarter\n"
    assert taken["site.toml"] == b'title = "Third quarter"\n'
    assert all("taken back since" in each.what for each in again.downloads)


async def test_a_step_of_which_a_part_failed_remains_for_whoever_resumes(bench: Bench) -> None:
    run = await bench.start("half", steps=["one", "two", "three"])
    await bench.done("write_file", run, step="one", path="a", content="1")
    done = await bench.done("write_file", run, step="two", path="b", content="1")
    wrong = {"path": "site.toml", "edits": [{"old_text": "not there", "new_text": "x"}]}
    await bench.call("edit_file", run, step="two", **wrong)
    assert done.checkpoint_id is not None
    brief = await bench.engine.resume_from(ALICE, done.checkpoint_id)
    assert (brief.remaining, brief.next_step) == (["two", "three"], "two")
    assert [step.step for step in brief.done] == ["one", "two"]
    assert "**Next step:** two" in brief.text
    assert brief.run_id is not None
    report = (await bench.engine.get_run(ALICE, brief.run_id, view="report")).report
    assert report is not None
    assert report.done[0] == "1 of 3 steps done."
    assert report.remaining == ["The rest of the step `two`: only a part of it is done.", "The step `three`."]
    right = {"path": "site.toml", "edits": [{"old_text": "Second", "new_text": "Third"}]}
    await bench.done("edit_file", brief.run_id, step="two", **right)
    assert (await bench.engine.get_run(ALICE, brief.run_id)).progress == "2 of 3 steps done."


async def test_what_was_open_before_does_not_push_aside_what_a_failed_call_needs(bench: Bench) -> None:
    run = await bench.start("tidy up")
    done = await bench.done("write_file", run, path="site.toml", content="ours\n")
    (bench.work / "site.toml").write_text("mine\n")
    assert done.action_id is not None
    assert (await bench.back(actions=[done.action_id])).status == "partial"
    wrong = {"path": "notes", "edits": [{"old_text": "not there", "new_text": "x"}]}
    failed = await bench.call("edit_file", run, **wrong)
    assert failed.report is not None
    assert failed.report.first_step == "Read the file again and copy the text exactly, blanks included."
    report = (await bench.engine.get_run(ALICE, run, view="report")).report
    assert report is not None
    assert report.first_step.startswith("Settle cfl_")


async def test_messages_are_told_as_they_stand(bench: Bench) -> None:
    run, _ = await until(bench, 4)
    [row] = await bench.engine.desk.rows(ALICE)
    await bench.engine.desk.cancel(ALICE, row.id)
    report = (await bench.engine.get_run(ALICE, run, view="report")).report
    assert report is not None
    assert "The message `It grew` to bob@example.org was called back, and nobody got it." in report.done


async def test_an_idle_run_stalls_while_a_step_is_only_partly_done(bench: Bench) -> None:
    half = await bench.start("half", steps=["one"])
    await bench.done("write_file", half, step="one", path="a", content="1")
    wrong = {"path": "site.toml", "edits": [{"old_text": "not there", "new_text": "x"}]}
    await bench.call("edit_file", half, step="one", **wrong)
    whole = await bench.start("whole", steps=["one"])
    await bench.done("write_file", whole, step=" ONE ", path="b", content="1")
    said = await bench.start("said", steps=["read it"])
    await bench.engine.create_checkpoint(ALICE, said, "read", step="read it")
    now = bench.engine.core.now()
    bench.engine.core.now = lambda: now + timedelta(days=2, hours=1)
    await runs.tidy(bench.engine.core)
    status = [(await bench.engine.core.run(ALICE, run)).status for run in (half, whole, said)]
    assert status == ["stalled", "finished", "finished"]
    bench.engine.core.now = lambda: now + timedelta(days=5, hours=2)
    report = (await bench.engine.get_run(ALICE, half, view="report")).report
    assert report is not None
    assert report.done == ["0 of 1 steps done.", "In the step `one`: Created a (1 byte)."]
    assert report.failed[0].startswith("The run has stalled: ")
    assert report.remaining[0] == "The rest of the step `one`: only a part of it is done."
    assert "It has been so for 3 days." in report.text
