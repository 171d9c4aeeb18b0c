"""The commands, on a real data directory after real work."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from takeback.journal.events import Caller
from takeback.server.cli.blocks import short
from takeback.server.principal import local_principal
from takeback.server.settings import ToolSettings
from takeback.tools.scaffold import new_tool

REPORT = ("write_file", {"path": "report.md", "content": "# Third quarter\n"})
SITE = "title = 'second'\n\nkept = 1\n\nmail = 'office'\n"


@pytest.fixture
def worked(desk):
    (desk.site / "site.toml").write_text(SITE)
    (desk.site / "old").mkdir()
    (desk.site / "old" / "draft.md").write_text("draft\n")
    desk.agent(
        REPORT,
        ("edit_file", {"path": "site.toml", "edits": [{"old_text": "'second'", "new_text": "'third'"}]}),
        ("delete_file", {"path": "old", "recursive": True}),
    )
    assert [answer.status for answer in desk.answers] == ["applied"] * 3
    return desk


def untouched(site: Path) -> bool:
    return (
        not (site / "report.md").exists()
        and (site / "site.toml").read_text() == SITE
        and (site / "old" / "draft.md").read_text() == "draft\n"
    )


def test_runs_are_listed_with_what_stands(worked):
    done = worked("runs")
    assert done.code == 0
    assert worked.run_id in done.out
    assert "3/3" in done.out
    assert worked("runs", "--json").json["runs"][0]["goal"] == "Publish the report"


def test_an_incident_is_answered_by_who_touched_an_object(worked):
    other = worked.agent(("write_file", {"path": "else.txt", "content": "x"}), goal="Something else")
    touched = worked("runs", "--touched", "report.md", "--since", "1h", "--json").json["runs"]
    assert [run["run_id"] for run in touched] != [other]
    assert len(touched) == 1
    assert worked("runs", "--touched", "report.md", "--principal", "local:nobody", "--json").json["runs"] == []
    assert worked("runs", "--status", "finished", "--json").json["runs"] == []


def test_a_file_that_is_gone_is_still_meant_from_where_one_stands(worked, monkeypatch: pytest.MonkeyPatch):
    (worked.site / "deep").mkdir()
    worked.agent(("write_file", {"path": "deep/x.txt", "content": "x"}), ("delete_file", {"path": "deep/x.txt"}))
    monkeypatch.chdir(worked.site / "deep")
    assert len(worked("runs", "--touched", "x.txt", "--json").json["runs"]) == 1
    assert worked("versions", "x.txt", "--json").json["versions"]


def test_a_run_is_found_by_the_first_characters_of_its_id(worked):
    whole = worked.run_id
    for given in (whole, whole[:12], whole.removeprefix("run_")[:8]):
        assert worked("show", given, "--json").json["run"]["run_id"] == whole


def test_a_beginning_that_several_ids_share_is_refused(worked):
    worked.agent(("write_file", {"path": "else.txt", "content": "x"}))
    done = worked("show", "run_")
    assert done.code == 2
    assert "2 ids begin with" in done.err


def test_an_unknown_run_and_a_foreign_run_give_the_same_answer(worked):
    foreign = worked.agent(caller=Caller(principal="local:somebody-else", client="x"))
    answers = [worked("show", given) for given in (foreign[:14], foreign, "run_" + "a" * 26, "run_aaaaaaaaaa")]
    assert [answer.code for answer in answers] == [3] * 4
    assert (
        len({answer.err.replace(given, "") for answer, given in zip(answers, (foreign[:14], foreign), strict=False)})
        <= 2
    )


def test_a_timeline_tells_each_action(worked):
    done = worked("show", worked.run_id)
    assert done.code == 0
    for tool in ("write_file", "edit_file", "delete_file"):
        assert tool in done.out


def test_a_diff_shows_what_changed(worked):
    done = worked("diff", worked.run_id)
    assert done.code == 0
    assert "+title = 'third'" in done.out
    assert "-title = 'second'" in done.out


def test_a_rollback_shows_its_plan_and_does_nothing_before_a_person_says_yes(worked):
    done = worked("rollback", worked.run_id)
    assert done.code == 4
    assert "Nothing has been done yet" in done.out
    assert "Add --yes" in done.err
    assert (worked.site / "report.md").exists()


def test_a_person_who_says_no_is_obeyed(worked, says: Callable[[Sequence[str]], None]):
    says(["no"])
    assert worked("rollback", worked.run_id).code == 4
    assert (worked.site / "report.md").exists()


def test_a_person_who_says_yes_gets_everything_back(worked, says: Callable[[Sequence[str]], None]):
    says(["yes"])
    done = worked("rollback", worked.run_id)
    assert done.code == 0, done
    assert untouched(worked.site)


def test_a_dry_run_changes_nothing_and_says_so_in_json(worked):
    done = worked("rollback", worked.run_id, "--dry-run", "--json")
    assert done.code == 0
    assert done.json["status"] == "planned"
    assert len(done.json["steps"]) == 3
    assert (worked.site / "report.md").exists()


def test_with_json_only_json_is_printed(worked):
    done = worked("rollback", worked.run_id, "--yes", "--json")
    assert done.code == 0
    assert done.json["status"] == "complete"
    assert done.err == ""
    assert untouched(worked.site)


def test_only_the_latest_actions_can_be_taken_back(worked):
    assert worked("rollback", "--last", "1", "--yes").code == 0
    assert (worked.site / "old" / "draft.md").exists()
    assert (worked.site / "report.md").exists()


def test_without_a_target_the_latest_action_is_meant(worked):
    assert worked("rollback", "--yes").code == 0
    assert (worked.site / "old" / "draft.md").exists()
    assert (worked.site / "report.md").exists()


def test_chosen_actions_can_be_taken_back_by_the_first_characters_of_their_ids(worked):
    action = worked.answers[0].action_id
    assert worked("rollback", "--action", action[:14], "--yes").code == 0
    assert not (worked.site / "report.md").exists()
    assert not (worked.site / "old").exists()


def test_what_happened_since_a_time_can_be_taken_back(worked):
    assert worked("rollback", "--since", "1h", "--yes").code == 0
    assert untouched(worked.site)


def test_a_person_pins_what_must_not_be_collected(worked):
    pinned = worked("checkpoints", worked.run_id, "--pin", "before the audit", "--json").json["checkpoints"]
    assert [(each["label"], each["pinned"]) for each in pinned if each["pinned"]] == [("before the audit", True)]
    assert "before the audit (pinned)" in worked("checkpoints", worked.run_id).out
    assert worked("checkpoints", "--pin", "of which run?").code == 2


def test_a_run_can_be_taken_back_to_a_checkpoint(worked):
    first = worked.answers[0].checkpoint_id
    assert worked("rollback", "--to", first[:14], "--yes").code == 0
    assert (worked.site / "report.md").exists()
    assert (worked.site / "site.toml").read_text() == SITE


@pytest.mark.parametrize(
    "words",
    [["--to", "chk_x", "--last", "1"], ["--last", "1", "--since", "1h"], ["--since", "lately"], ["--last", "0"]],
)
def test_targets_that_contradict_each_other_are_refused(worked, words: list[str]):
    done = worked("rollback", *words)
    assert done.code == 2
    assert (worked.site / "report.md").exists()


def test_redo_brings_back_the_latest_rollback(worked):
    assert worked("rollback", worked.run_id, "--yes").code == 0
    done = worked("redo", "--yes")
    assert done.code == 0, done
    assert (worked.site / "report.md").exists()
    assert not (worked.site / "old").exists()
    assert worked("redo", "--yes").code == 3


def test_a_persons_edit_at_another_place_is_merged(worked):
    path = worked.site / "site.toml"
    path.write_text(path.read_text().replace("'office'", "'press'"))
    assert worked("rollback", worked.run_id, "--yes").code == 0
    assert path.read_text() == SITE.replace("'office'", "'press'")


@pytest.fixture
def conflicted(worked):
    path = worked.site / "site.toml"
    path.write_text(path.read_text().replace("'third'", "'mine'"))
    done = worked("rollback", worked.run_id, "--yes")
    assert done.code == 1, done
    assert path.read_text() == SITE.replace("'second'", "'mine'")
    return worked


def test_a_persons_edit_at_the_same_place_stays_and_is_listed(conflicted):
    done = conflicted("conflicts", "--json")
    assert done.code == 1
    [item] = done.json["open_items"]
    assert item["kind"] == "conflict"
    shown = conflicted("resolve", item["conflict_id"])
    assert shown.code == 1
    for version in ("'second'", "'third'", "'mine'"):
        assert version in shown.out
    told = conflicted("resolve", item["conflict_id"][:14], "--json").json
    assert told["versions"]["theirs"]["content"].startswith("title = 'mine'")


@pytest.mark.parametrize(
    ("choice", "left"), [("theirs", "'mine'"), ("ours", "'second'"), ("beside", "'mine'"), ("content", "'agreed'")]
)
def test_a_conflict_is_settled_as_the_person_chooses(conflicted, choice: str, left: str, tmp_path: Path):
    [item] = conflicted("conflicts", "--json").json["open_items"]
    text = tmp_path / "agreed.toml"
    text.write_text(SITE.replace("'second'", "'agreed'"))
    words = ["--content", str(text)] if choice == "content" else ["--keep", choice]
    done = conflicted("resolve", item["conflict_id"], *words)
    assert done.code == 0, done
    assert left in (conflicted.site / "site.toml").read_text()
    others = [path for path in conflicted.site.iterdir() if path.name not in {"site.toml", "old", ".takeback"}]
    assert [path.read_text() for path in others] == ([SITE] if choice == "beside" else [])
    assert conflicted("conflicts").code == 0


def test_earlier_versions_are_listed_and_put_back(worked):
    listed = worked("versions", "site.toml", "--json").json["versions"]
    assert listed
    oldest = listed[-1]["version"]
    assert worked("versions", "site.toml", "--restore", oldest).code == 4
    done = worked("versions", "site.toml", "--restore", short(oldest), "--yes")
    assert done.code == 0, done
    assert (worked.site / "site.toml").read_text() == SITE


def test_resuming_opens_a_new_run_that_knows_what_is_done(worked):
    checkpoint = worked("checkpoints", worked.run_id, "--json").json["checkpoints"][0]["checkpoint_id"]
    done = worked("resume", checkpoint, "--json")
    assert done.code == 0, done
    assert done.json["run_id"] != worked.run_id
    assert len(done.json["done"]) == 3


def test_resuming_can_first_take_back_what_came_later(worked):
    first = worked.answers[0].checkpoint_id
    assert worked("resume", first, "--restore").code == 4
    assert not (worked.site / "old").exists()
    done = worked("resume", first, "--restore", "--yes")
    assert done.code == 0, done
    assert (worked.site / "old" / "draft.md").exists()
    assert (worked.site / "report.md").exists()


def test_a_contained_run_is_released_by_a_person(worked):
    assert worked("contain", worked.run_id, "--reason", "odd").code == 0
    assert worked("runs", "--status", "contained", "--json").json["runs"]
    assert worked("doctor").code == 1
    assert worked("release", worked.run_id, "--reason", "fine").code == 0
    assert worked("release", worked.run_id).code == 4


def test_nothing_waits_for_a_person_at_first(worked):
    assert worked("approvals").out == "Nothing waits for a person.\n"
    assert worked("approve", "apr_aaaa", "--yes").code == 3
    assert worked("deny", "apr_aaaa").code == 3


def test_a_sound_journal_is_found_sound(worked):
    done = worked("verify", "--objects", "--json")
    assert done.code == 0, done
    assert done.json["sound"]
    assert done.json["events"] > 6


def test_a_changed_journal_is_found_out(worked):
    import sqlite3

    with sqlite3.connect(worked.settings.data / "journal.db") as journal:
        journal.execute("UPDATE events SET payload = x'7b7d' WHERE position = 2")
    journal.close()
    done = worked("verify")
    assert done.code == 5
    assert "changed" in done.out


def test_a_missing_key_is_said_and_not_replaced(worked):
    Path(worked.settings.key_file).unlink()
    done = worked("rollback", worked.run_id, "--yes")
    assert done.code == 5, done
    assert (worked.site / "report.md").exists()
    assert not Path(worked.settings.key_file).exists()


def test_the_collector_says_what_it_would_free_and_frees_nothing_young(worked):
    assert worked("gc", "--dry-run", "--json").json["dry_run"]
    assert worked("gc").code == 0
    assert worked("rollback", worked.run_id, "--yes").code == 0
    assert untouched(worked.site)


def test_doctor_shows_where_each_value_came_from(worked):
    done = worked("doctor", "--json")
    assert done.code == 0, done
    assert done.json["settings"]["data"]["from"] == "TAKEBACK_DATA"
    assert done.json["settings"]["workspace.roots"]["from"] == "servers started on this data directory"
    assert done.json["facts"]["Workspace"][str(worked.site)]
    assert "SQLite" in done.json["facts"]["Versions"]


def test_doctor_tells_of_a_variable_that_means_nothing(worked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAKEBACK_DATTA", "/x")
    assert "TAKEBACK_DATTA" in worked("doctor").out


def test_doctor_works_before_there_is_anything(desk, tmp_path: Path):
    done = desk("doctor", "--data", str(tmp_path / "nothing"))
    assert done.code == 0
    assert not (tmp_path / "nothing").exists()


def test_a_run_is_exported_as_a_bundle_that_others_can_verify(worked, tmp_path: Path):
    bundle = tmp_path / "bundle.zip"
    assert worked("export", worked.run_id[:14], "-o", str(bundle)).code == 0
    assert worked("verify", "--bundle", str(bundle)).code == 0
    with_key = worked("verify", "--bundle", str(bundle), "--key", str(worked.settings.key_file), "--json")
    assert (with_key.code, with_key.json) == (0, {"sound": True, "chain_verified": True, "problems": []})
    assert worked("export", worked.run_id, "-o", str(bundle)).code == 4
    assert worked("verify", "--bundle", str(tmp_path / "none.zip")).code == 3
    assert worked("export", worked.run_id).code == 0
    assert (worked.site / f"{short(worked.run_id)}.zip").exists()


def test_a_bundle_that_somebody_changed_is_found_out(worked, tmp_path: Path):
    bundle, other = tmp_path / "bundle.zip", tmp_path / "other.zip"
    assert worked("export", worked.run_id, "-o", str(bundle)).code == 0
    with zipfile.ZipFile(bundle) as whole, zipfile.ZipFile(other, "w") as changed:
        for name in whole.namelist():
            changed.writestr(name, whole.read(name).replace(b"write_file", b"read_files"))
    assert worked("verify", "--bundle", str(other)).code == 5


def test_stats_count_what_was_done(worked):
    assert worked("stats").code == 0
    assert worked("stats", "--json").json


@pytest.fixture
def asked(desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An agent wants to do something that cannot be taken back."""
    [tool, _] = new_tool("announce", "irreversible", tmp_path / "own")
    monkeypatch.setenv("TAKEBACK_TOOLS__MODULES", str(tool))
    desk.settings = desk.settings.model_copy(update={"tools": ToolSettings(modules=(tool,))})
    desk.agent(("announce", {"text": "Everybody, listen!"}))
    assert desk.answers[-1].status == "pending_approval", desk.answers[-1]
    return desk


def test_a_person_sees_the_question_and_consents_to_one_act(asked, says: Callable[[Sequence[str]], None]):
    [question] = asked("approvals", "--json").json["approvals"]
    assert asked("approve", question["approval_id"][:14]).code == 4
    says(["yes"])
    done = asked("approve", question["approval_id"][:14])
    assert done.code == 0, done
    assert "listen" in done.err
    assert asked("approvals", "--json").json["approvals"] == []
    [settled] = asked("approvals", "--all", "--json").json["approvals"]
    assert settled["status"] == "granted"
    assert settled["by"] == local_principal()


def test_a_person_refuses(asked):
    [question] = asked("approvals", "--json").json["approvals"]
    assert asked("deny", question["approval_id"]).code == 0
    assert asked("approve", question["approval_id"], "--yes").code == 4


def test_a_question_of_a_run_that_has_ended_is_void_and_says_why(asked):
    approval = asked.answers[-1].approval_id
    asked.ask(lambda engine: engine.finish_run(Caller(principal=local_principal()), asked.run_id))
    assert asked("approvals", "--json").json["approvals"] == []
    assert "(void: the run has finished)" in " ".join(asked("approvals", "--all").out.split())
    for command in ("approve", "deny"):  # nobody is asked for consent first
        answered = asked(command, approval)
        assert answered.code == 4
        assert f"Approval {approval} is void: the run has finished." in " ".join(answered.err.split())


def test_a_file_that_is_no_journal_is_said_to_be_none(desk):
    desk.settings.data.mkdir(exist_ok=True)
    (desk.settings.data / "journal.db").write_bytes(b"this is no database" * 100)
    done = desk("runs")
    assert done.code == 5
    assert desk("doctor").code == 5
    assert len(done.err.strip().splitlines()) == 2


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(worked):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "takeback", "runs"], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_debug_shows_where_a_mistake_was_made(worked, monkeypatch: pytest.MonkeyPatch):
    def broken(page):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("takeback.server.cli.render.runs", broken)
    done = worked("runs")
    assert done.code == 70
    assert "a mistake" in done.err
    assert "Traceback" not in done.err
    with pytest.raises(ZeroDivisionError):
        worked("runs", "--debug")


@pytest.fixture
def posted(desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An agent did something that can only be made up for."""
    [tool, _] = new_tool("post_note", "compensable", tmp_path / "own")
    monkeypatch.setenv("TAKEBACK_TOOLS__MODULES", str(tool))
    desk.settings = desk.settings.model_copy(update={"tools": ToolSettings(modules=(tool,))})
    call = ("post_note", {"text": "Hello"})
    desk.agent(call)
    if desk.answers[-1].status == "pending_approval":
        assert desk("approve", desk.answers[-1].approval_id, "--yes").code == 0
        desk.again(call)
    assert desk.answers[-1].status == "applied", desk.answers[-1]
    return desk


def test_what_can_only_be_made_up_for_is_made_up_for_with_consent(posted):
    plan = posted("rollback", posted.run_id, "--dry-run", "--json")
    assert [step["outcome"] for step in plan.json["steps"]] == ["compensated"]
    assert posted("rollback", posted.run_id).code == 4
    done = posted("rollback", posted.run_id, "--yes", "--json")
    assert (done.code, done.json["status"]) == (0, "complete"), done
    assert [step["outcome"] for step in done.json["steps"]] == ["compensated"]


def test_the_tools_are_listed_with_how_far_each_can_be_taken_back(desk) -> None:
    told = {each["tool"]: each for each in desk("tool", "list", "--json").json["tools"]}
    assert told["read_file"]["reversibility"] == "read only"
    assert (told["send_email"]["reversibility"], told["execute_sql"]["worse"][-1]) == ("compensable", "irreversible")
    printed = desk("tool", "list")
    assert printed.code == 0
    assert "delete_file" in printed.out
