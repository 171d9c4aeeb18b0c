"""What people read about a run, a rollback, and what others can verify of it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.queries_world import ME, SOMEBODY, World, world

from takeback.journal.events import ActionDenied, RunContained, UndoOutcome
from takeback.journal.ids import RunId, new_action_id
from takeback.journal.views import ActionView, OpenItem
from takeback.server.engine.answers import EngineError, FailureReport, OpenItemAnswer, StepAnswer
from takeback.server.engine.export import export_run, verify_bundle
from takeback.server.engine.report import failure_report, name, rollback_report, shown, shown_lines


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def report_of(here: World, run_id: RunId) -> FailureReport:
    run = await here.core.run(ME, run_id)
    actions = await here.journal.find(ActionView, run_id=run_id)
    return failure_report(run, actions, await here.journal.find(OpenItem, run_id=run_id), here.core.now())


# --- what is shown is what is there ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("notes.txt", "notes.txt"),
        ("Übung 📄 日本", "Übung 📄 日本"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("invoice\u202egpj.exe", "invoice\\u202egpj.exe"),
        ("a\u200bb\ufeffc", "a\\u200bb\\ufeffc"),
        ("a\u2028b", "a\\u2028b"),
        ("a\u2066b\u2069", "a\\u2066b\\u2069"),
        ("a\u3164b", "a\\u3164b"),
        ("a\udcffb", "a\\udcffb"),
        ("a\U000e0041b", "a\\U000e0041b"),
    ],
)
def test_invisible_characters_are_shown_escaped(text: str, seen: str) -> None:
    assert shown(text) == seen


@given(st.text())
def test_whatever_is_shown_is_one_line_of_visible_text(text: str) -> None:
    line = shown(text)
    assert line.splitlines() in ([], [line])
    assert shown(line) == line
    line.encode("utf-8")


def test_a_diff_keeps_its_lines_and_tabs() -> None:
    assert shown_lines("+a\tb\n-c\r\n") == "+a\tb\n-c\\r\n"


def test_a_name_cannot_leave_its_place_in_a_sentence() -> None:
    assert name("a` is restored. `b") == "`a\\x60 is restored. \\x60b`"


# --- a run -----------------------------------------------------------------------------------------------------------


async def test_the_accomplished_comes_first(here: World) -> None:
    run = await here.run(goal="Publish the report", steps=("write", "check", "send"))
    await here.act(run, "draft", "1", step="write")
    await here.act(run, "draft", "2", step="check")
    await here.fail(run, "The mailbox is full.", "Empty the mailbox, then send again.", step="send")
    report = await report_of(here, run)
    assert report.done[0] == "2 of 3 steps done."
    assert report.failed == ["set_value failed in the step `send`: The mailbox is full."]
    assert report.remaining == ["The step `send`: what was tried in it failed."]
    assert report.first_step == "See to the step `send`: Empty the mailbox, then send again."
    places = [
        report.text.index(part) for part in ("# Publish the report", "## Done", "## Kept", "## Failed", "## Left to do")
    ]
    assert places == sorted(places)


async def test_what_is_preserved_is_named_with_the_way_to_get_it(here: World) -> None:
    here.system.edit("old", "before")
    run = await here.run()
    changed = await here.act(run, "old", "after")
    new = await here.act(run, "new", "1")
    report = await report_of(here, run)
    assert any("`old`" in line and f"{changed}:before" in line for line in report.preserved)
    assert any("`new`" in line and new in line and "removes it" in line for line in report.preserved)
    assert "checkpoint chk_" in report.preserved[-1]


async def test_a_call_that_worked_at_the_second_try_is_no_failure(here: World) -> None:
    run = await here.run()
    await here.fail(run, "Locked.", step="write")
    await here.act(run, "notes", "1", step="write")
    report = await report_of(here, run)
    assert report.failed == []
    assert report.first_step == "Nothing needs to be done."


async def test_a_doubt_comes_before_everything_else(here: World) -> None:
    run = await here.run(steps=("pay",))
    await here.fail(run, "No.", "Try again.")
    await here.doubt(run, "invoice")
    report = await report_of(here, run)
    assert "Nobody knows whether set_value took effect on `invoice`." in report.failed
    assert report.first_step.startswith("Find out whether set_value took effect")
    assert report.done == ["0 of 1 steps done."]


async def test_open_items_are_failures_and_what_is_left_to_do(here: World) -> None:
    run = await here.run()
    item = await here.open_item(run, await here.act(run, "notes", "1"), "notes")
    report = await report_of(here, run)
    assert report.failed == ["`notes` was not taken back, because somebody else changed it: both changed line 1."]
    assert report.first_step == f"Settle {item} (`notes`): Choose with resolve_conflict."
    assert any(item in line for line in report.preserved)


async def test_a_contained_run_names_the_reason_and_who_can_release_it(here: World) -> None:
    run = await here.run()
    await here.journal.append([RunContained(run_id=run, at=here.tick(), reason="200 deletions", by="anna")])
    report = await report_of(here, run)
    assert report.failed == ["The run was contained: 200 deletions."]
    assert f"takeback release {run}" in report.first_step


async def test_what_policy_refused_is_not_advised_to_be_called_again(here: World) -> None:
    run = await here.run()
    await here.fail(run, "no", requested={"key": "first"})
    denied = ActionDenied(
        run_id=run, at=here.tick(), action_id=new_action_id(), tool="set_value", requested={"key": "second"},
        policy_rule="r", reason="not for agents",
    )  # fmt: skip
    await here.journal.append([denied])
    report = await report_of(here, run)
    assert report.first_step == "Do without it, or ask the person in charge of the policy."
    assert "`second`" in report.remaining[0]  # the newest is what a caller has just been told of


async def test_what_was_taken_back_can_be_redone_and_is_not_called_done(here: World) -> None:
    run = await here.run()
    await here.take_back(run, await here.act(run, "notes", "1"), "notes", None)
    report = await report_of(here, run)
    assert report.done == ["Nothing has been changed."]
    assert any("redo_rollback with rbk_" in line for line in report.preserved)
    assert "Taken back since: restored." in report.text


async def test_a_long_run_gives_a_short_report_that_counts_the_rest(here: World) -> None:
    run = await here.run()
    for n in range(60):
        await here.act(run, f"notes{n}", "1")
    report = await report_of(here, run)
    assert report.done[0] == "60 actions done."
    assert report.done[-1] == "… and 42 more."
    assert "checkpoint chk_" in report.preserved[-1]
    assert len(report.text.splitlines()) < 120


async def test_names_in_a_report_are_shown_escaped(here: World) -> None:
    run = await here.run(goal="Tidy\u202e up\n# Done\n- everything")
    await here.act(run, "a\u200bb`c", "1")
    report = await report_of(here, run)
    assert report.text.splitlines()[0] == "# Tidy\\u202e up # Done - everything"
    assert "\u200b" not in report.text
    assert any("`a\\u200bb\\x60c`" in line for line in report.preserved)


# --- a rollback --------------------------------------------------------------------------------------------------------


def step(outcome: Any, object: str = "notes", why: str = "") -> StepAnswer:
    return StepAnswer(action_id="act", run_id="run", tool="write_file", object=object, outcome=outcome, why=why)


def test_a_complete_rollback_says_so_by_its_outcomes() -> None:
    text = rollback_report([step("restored"), step("merged", "b"), step("already_undone", "c")], "complete", [])
    assert text.startswith("All 3 actions taken back (1 restored, 1 merged, 1 already undone).")


@given(
    st.lists(st.sampled_from([*get_args(UndoOutcome), None]), max_size=6),
    st.sampled_from(["complete", "partial", "failed"]),
)
def test_restored_is_said_only_of_what_was_restored(outcomes: list[Any], status: str) -> None:
    text = rollback_report([step(outcome, f"o{n}") for n, outcome in enumerate(outcomes)], status, [])
    assert ("restored" in text) == ("restored" in outcomes)
    for n, outcome in enumerate(outcomes):
        (line,) = [line for line in text.splitlines() if f"`o{n}`" in line]
        assert ("restored" in line) == (outcome == "restored")
        assert ("conflict" in line) == (outcome == "conflict")
    if any(outcome not in ("restored", "merged", "already_undone", "compensated") for outcome in outcomes):
        assert not text.startswith("All")


def test_a_plan_says_that_nothing_has_been_done() -> None:
    text = rollback_report([step("restored"), step("irreversible", "mail", "it was sent")], "planned", [])
    assert text.startswith("A plan, nothing has been done: 1 of 2 actions can be taken back, 1 cannot.")
    assert "would be restored" in text
    assert "- `mail` (write_file): irreversible" not in text
    assert text.index("`mail`") < text.index("`notes`")


def test_what_needs_attention_is_not_hidden_by_what_went_well() -> None:
    steps = [step("restored", f"o{n}") for n in range(100)] + [step("conflict", "mine", "line 3")]
    item = OpenItemAnswer(
        conflict_id="cfl_1", kind="conflict", run_id="r", action_id="a", system="files", object="mi\u202ene",
        why="line 3", next_step="Choose.",
    )  # fmt: skip
    text = rollback_report(steps, "partial", [item])
    assert text.startswith("100 of 101 actions taken back (100 restored); 1 not.")
    assert "`mine` (write_file): conflict, not touched. Line 3." in text
    assert "`mi\\u202ene` (cfl_1): Line 3. Choose." in text


def test_a_redo_is_said_to_bring_back() -> None:
    steps = [step("restored"), step("merged", "b"), step("already_undone", "c")]
    done, would = (rollback_report(steps, status, [], "redo") for status in ("complete", "planned"))
    assert done.startswith("All 3 actions brought back (1 restored, 1 merged, 1 already undone).")
    assert would.startswith("A plan, nothing has been done: 3 of 3 actions can be brought back.")
    for text in (done, would):
        assert "taken back" not in text and "removed" not in text and "undone," not in text.split("\n", 1)[1]
    assert rollback_report([step("failed")], "failed", [], "redo").startswith(
        "Nothing was brought back: none of 1 action."
    )


def test_what_had_changed_nothing_is_not_counted_as_left() -> None:
    idle = StepAnswer(
        action_id="a", run_id="r", tool="execute_sql", object="", outcome="skipped", why="it changed nothing"
    )
    text = rollback_report([step("restored"), idle], "complete", [])
    assert text.startswith("The 1 action taken back (1 restored). 1 action had changed nothing.")
    assert "- execute_sql: skipped. It changed nothing." in text
    planned = rollback_report([step("restored"), idle, idle], "planned", [])
    assert planned.startswith(
        "A plan, nothing has been done: 1 of 1 action can be taken back. 2 actions had changed nothing."
    )
    assert rollback_report([idle], "planned", []).startswith(
        "Nothing would be taken back. 1 action had changed nothing."
    )
    assert rollback_report([step("skipped", why="built upon")], "partial", []).startswith(
        "Nothing was taken back: none"
    )


# --- the evidence ------------------------------------------------------------------------------------------------------


async def exported(here: World, tmp_path: Path) -> Path:
    here.system.edit("notes", "before " * 20_000)
    run = await here.run()
    await here.act(run, "notes", "after " * 20_000)
    await here.fail(run, "no")
    await here.act(await here.run(), "elsewhere", "not in the bundle")
    return await export_run(here.core, ME, run, tmp_path / "evidence.zip")


def key_file(here: World, tmp_path: Path) -> Path:
    key = here.journal._ring.current  # the journal in memory keeps its key to itself
    path = tmp_path / "chain.key"
    path.write_text(json.dumps({"current": key.id, "keys": {key.id: key.secret.hex()}}))
    path.chmod(0o600)
    return path


async def test_a_bundle_can_be_verified_by_others(here: World, tmp_path: Path) -> None:
    path = await exported(here, tmp_path)
    assert verify_bundle(path) == []
    assert verify_bundle(path, key_file(here, tmp_path)) == []
    with zipfile.ZipFile(path) as bundle:
        names = bundle.namelist()
        assert {"manifest.json", "events.jsonl", "report.md", "views/action.json"} <= set(names)
        assert sum(name.startswith("objects/") for name in names) >= 1
        assert b"elsewhere" not in b"".join(bundle.read(name) for name in names)


def rewritten(path: Path, change: dict[str, Any], *, manifest: bool) -> Path:
    """The bundle with some files changed by functions, and the manifest brought in line with that or not."""
    with zipfile.ZipFile(path) as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist()}
    for each, how in change.items():
        files[each] = how(files[each])
        if manifest:
            told = json.loads(files["manifest.json"])
            told["files"][each]["sha256"] = hashlib.sha256(files[each]).hexdigest()
            told["events"] = len(files["events.jsonl"].splitlines())
            files["manifest.json"] = json.dumps(told).encode()
    other = path.with_name("other.zip")
    with zipfile.ZipFile(other, "w") as bundle:
        for name, data in files.items():
            bundle.writestr(name, data)
    return other


def edited(events: bytes) -> bytes:
    lines = [json.loads(line) for line in events.splitlines()]
    lines[1]["payload"] = lines[1]["payload"].replace("set_value", "get_value")
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def forged(events: bytes) -> bytes:
    lines = [json.loads(line) for line in events.splitlines()]
    lines[1]["payload"] = lines[1]["payload"].replace("set_value", "get_value")
    lines[1]["payload_digest"] = hashlib.sha256(
        bytes.fromhex(lines[1]["salt"]) + lines[1]["payload"].encode()
    ).hexdigest()
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def test_a_changed_bundle_is_found_out(here: World, tmp_path: Path) -> None:
    path, key = await exported(here, tmp_path), key_file(here, tmp_path)
    assert verify_bundle(rewritten(path, {"report.md": lambda data: data + b"."}, manifest=False)) == [
        "report.md is not what the manifest says."
    ]
    assert verify_bundle(rewritten(path, {"events.jsonl": edited}, manifest=True)) == [
        "The content of event 2 is not the one that was written."
    ]
    forgery = rewritten(path, {"events.jsonl": forged}, manifest=True)
    assert verify_bundle(forgery) == []
    assert verify_bundle(forgery, key) == ["The mac of event 2 is wrong."]
    cut = rewritten(path, {"events.jsonl": lambda data: b"".join(data.splitlines(keepends=True)[:-1])}, manifest=True)
    assert verify_bundle(cut) == ["The events do not end where the manifest says."]


@pytest.mark.parametrize("junk", [b"", b"PK\x03\x04 not a zip", b"x" * 1000])
def test_what_is_no_bundle_is_a_problem_and_not_an_accident(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "junk.zip"
    path.write_bytes(junk)
    assert len(verify_bundle(path)) == 1
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("manifest.json", '{"format": "takeback-bundle/1"}')
    assert len(verify_bundle(path)) == 1


async def test_an_export_overwrites_nothing_and_leaves_nothing_half_done(here: World, tmp_path: Path) -> None:
    path = await exported(here, tmp_path)
    run = await here.run()
    with pytest.raises(EngineError) as refused:
        await export_run(here.core, ME, run, path)
    assert refused.value.code == "exists"
    with pytest.raises(EngineError):
        await export_run(here.core, ME, run, tmp_path / "nowhere" / "evidence.zip")
    with pytest.raises(EngineError):
        await export_run(here.core, SOMEBODY, run, tmp_path / "theirs.zip")
    assert sorted(each.name for each in tmp_path.glob("*.zip*")) == ["evidence.zip"]
    assert list(tmp_path.glob(".*.part")) == []


async def test_what_is_too_large_for_a_bundle_is_named(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from takeback.server.engine import export

    monkeypatch.setattr(export, "OBJECT_BYTES", 1000)
    path = await exported(here, tmp_path)
    assert verify_bundle(path) == []
    with zipfile.ZipFile(path) as bundle:
        manifest = json.loads(bundle.read("manifest.json"))
    assert manifest["objects_left_out"]
    assert "larger than the bundle takes" in manifest["objects_left_out"][0]["why"]
