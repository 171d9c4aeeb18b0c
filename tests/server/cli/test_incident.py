"""take, return, recover: a person steps in."""

from __future__ import annotations

import pytest

from takeback.journal.events import Caller, RunReconciled
from takeback.journal.ids import RunId
from takeback.journal.views import CollectedCall
from takeback.server.engine.engine import Call, Engine
from takeback.server.principal import local_principal

AGENT = Caller(principal=local_principal(), client="some-agent", client_version="1")


def statuses(desk, *calls: tuple[str, dict[str, object]], run_id: str | None = None) -> list[str]:
    """How these calls end for the agent."""

    async def act(engine: Engine) -> list[str]:
        found: list[str] = []
        for tool, arguments in calls:
            answer = await engine.call(Call(tool, dict(arguments), AGENT, run_id=run_id or desk.run_id))
            found.append(answer.error.code if answer.error else answer.status)
        return found

    return desk.ask(act)


# -- take and return ------------------------------------------------------------------------------------------------------


def test_a_run_that_was_taken_over_only_reads_until_it_is_returned(desk) -> None:
    run = desk.agent(("write_file", {"path": "a.txt", "content": "agent"}))
    taken = desk("take", run, "--reason", "I'll do this", "--json")
    assert (taken.code, taken.json["status"]) == (0, "contained")
    assert statuses(desk, ("write_file", {"path": "b.txt", "content": "x"})) == ["contained"]
    returned = desk("return", run, "--json")
    assert (returned.code, returned.json["status"], returned.json["changes"]) == (0, "open", [])
    assert statuses(desk, ("write_file", {"path": "b.txt", "content": "x"})) == ["applied"]


def test_the_agent_is_told_what_the_person_changed_and_a_rollback_keeps_it(desk) -> None:
    run = desk.agent(
        ("write_file", {"path": "kept.txt", "content": "agent\n"}),
        ("write_file", {"path": "edited.txt", "content": "one\ntwo\nthree\nfour\n"}),
        ("write_file", {"path": "gone.txt", "content": "agent\n"}),
    )
    desk("take", run)
    (desk.site / "edited.txt").write_text("one\ntwo\nthree\nFOUR\n")
    (desk.site / "gone.txt").unlink()
    (desk.site / "new.txt").write_text("the person's\n")
    returned = desk("return", run, "--note", "The last line is mine.", "--json").json
    assert {(each["shown"], each["change"]) for each in returned["changes"]} == {
        ("edited.txt", "changed"),
        ("gone.txt", "deleted"),
    }
    checkpoints = desk("checkpoints", run, "--json").json["checkpoints"]
    [named] = [each for each in checkpoints if each["checkpoint_id"] == returned["checkpoint_id"]]
    assert named["label"] == "returned"
    brief = desk("resume", returned["checkpoint_id"], "--json").json
    assert brief["notes"]["note"] == "The last line is mine."
    assert set(brief["notes"]["changed_by_the_person"]) == {"changed edited.txt", "deleted gone.txt"}
    desk("rollback", run, "--yes")
    assert not (desk.site / "kept.txt").exists()
    assert (desk.site / "edited.txt").read_text().endswith("FOUR\n"), "what the person wrote is not taken back"
    assert (desk.site / "new.txt").read_text() == "the person's\n"


def test_what_happened_before_the_takeover_is_not_called_the_persons_doing_during_it(desk) -> None:
    run = desk.agent(("write_file", {"path": "a.txt", "content": "agent\n"}))
    (desk.site / "a.txt").write_text("somebody, earlier\n")
    desk("take", run)
    assert desk("return", run, "--json").json["changes"] == []


def test_only_a_run_that_was_taken_over_can_be_returned(desk) -> None:
    run = desk.agent(("write_file", {"path": "a.txt", "content": "agent\n"}))
    assert desk("return", run).code == 4
    desk("contain", run, "--reason", "it looped")
    answered = desk("return", run)
    assert answered.code == 4
    assert "not taken over" in answered.err
    again = desk("take", run)
    assert again.code == 4
    assert "it looped" in again.err


# -- recover ---------------------------------------------------------------------------------------------------------------


def test_recovery_contains_keeps_takes_back_and_leaves_the_run_contained(desk) -> None:
    (desk.site / "report.md").write_text("before\n")
    run = desk.agent(("write_file", {"path": "report.md", "content": "damage\n"}))
    answered = desk("recover", run, "--yes", "--json")
    told = answered.json
    assert answered.code == 0, answered.err
    assert (desk.site / "report.md").read_text() == "before\n"
    assert told["classes"] == {"restored": 1}
    assert told["rollback"]["status"] == "complete"
    checkpoints = desk("checkpoints", run, "--json").json["checkpoints"]
    assert told["secured"]["checkpoint_id"] in {each["checkpoint_id"] for each in checkpoints}
    assert desk("runs", "--json").json["runs"][0]["status"] == "contained"
    assert statuses(desk, ("write_file", {"path": "b.txt", "content": "x"})) == ["contained"]


def test_a_dry_run_of_a_recovery_contains_nothing(desk) -> None:
    run = desk.agent(("write_file", {"path": "a.txt", "content": "x"}))
    answered = desk("recover", run, "--dry-run", "--json")
    assert (answered.json["secured"], answered.json["classes"]) == (None, {"restored": 1})
    assert desk("runs", "--json").json["runs"][0]["status"] == "open"
    assert (desk.site / "a.txt").exists()


def test_after_recovery_the_work_goes_on_from_a_safe_place_and_only_within_the_given_scope(desk) -> None:
    run = desk.agent(
        ("write_file", {"path": "docs/a.md", "content": "good\n"}),
        ("write_file", {"path": "config.ini", "content": "damage\n"}),
    )
    checkpoint = desk.answers[0].checkpoint_id
    answered = desk("recover", run, "--to", checkpoint, "--scope", "docs/**", "--yes", "--json")
    assert answered.code == 0, answered.err
    fork = answered.json["resumed"]["run_id"]
    assert (desk.site / "docs" / "a.md").read_text() == "good\n"
    assert not (desk.site / "config.ini").exists()
    assert (
        statuses(
            desk,
            ("write_file", {"path": "docs/b.md", "content": "x"}),
            ("write_file", {"path": "config.ini", "content": "x"}),
            run_id=fork,
        )[0]
        == "applied"
    )
    assert not (desk.site / "config.ini").exists()


def test_a_recovery_of_the_whole_run_goes_on_from_where_it_began(desk) -> None:
    run = desk.agent(("write_file", {"path": "docs/a.md", "content": "damage\n"}))
    answered = desk("recover", run, "--scope", "docs/**", "--yes", "--json")
    assert answered.code == 0, answered.err
    start = desk("checkpoints", run, "--json").json["checkpoints"][-1]
    assert start["label"] == "start"
    assert answered.json["resumed"]["forked_from"] == start["checkpoint_id"]


def test_what_a_person_changed_since_stays_open_and_nothing_goes_on(desk) -> None:
    (desk.site / "a.txt").write_text("one\n")
    run = desk.agent(("write_file", {"path": "a.txt", "content": "two\n"}))
    (desk.site / "a.txt").write_text("three\n")
    answered = desk("recover", run, "--scope", "docs/**", "--yes", "--json")
    assert answered.code == 1
    assert answered.json["classes"] == {"conflict": 1}
    assert answered.json["resumed"] is None
    assert (desk.site / "a.txt").read_text() == "three\n"
    assert desk("runs", "--json").json["runs"][0]["status"] == "contained"


def test_a_recovery_that_was_begun_can_be_begun_again(desk) -> None:
    run = desk.agent(("write_file", {"path": "a.txt", "content": "x"}))
    declined = desk("recover", run)  # nobody is there to be asked
    assert declined.code == 4
    assert (desk.site / "a.txt").exists()
    assert desk("runs", "--json").json["runs"][0]["status"] == "contained", "what was contained stays so"
    assert desk("recover", run, "--yes").code == 0
    assert not (desk.site / "a.txt").exists()
    again = desk("recover", run, "--yes")
    assert again.code == 0
    assert "nothing to take back" in again.out


@pytest.mark.parametrize("words", [("take", "nothing"), ("return", "nothing"), ("recover", "nothing")])
def test_unknown_runs_are_refused(desk, words: tuple[str, ...]) -> None:
    desk.agent()
    assert desk(*words).code == 3


def test_no_tool_offers_what_only_a_person_may_do(desk) -> None:
    async def names(engine: Engine) -> list[str]:
        return [tool.name for tool in engine.tools]

    assert not {"take_run", "return_run", "recover_run", "release_run"} & set(desk.ask(names))


# -- what has to be true in the end ------------------------------------------------------------------------------------------

TOTALS = """
[[checks]]
name = "notes-say-good"
objects = ["notes.txt"]
command = ["grep", "-q", "good", "{path}"]

[[checks]]
name = "all-is-there"
command = ["test", "-e", "index.html"]
"""
ODD = '[[checks]]\nname = "odd"\ncommand = ["no-such-program-anywhere"]\n'


def checked(told: dict[str, object], when: str) -> list[tuple[str, str]]:
    found = told[f"checks_{when}"]
    assert isinstance(found, dict)
    return [(each["check"], each["status"]) for each in found["checks"]]


def damaged(desk, checks: str) -> str:
    (desk.settings.data.parent / "config.toml").write_text(checks)
    (desk.site / "notes.txt").write_text("good\n")
    (desk.site / "index.html").write_text("home\n")
    return desk.agent(
        ("write_file", {"path": "notes.txt", "content": "damage\n"}), ("delete_file", {"path": "index.html"})
    )


def test_what_has_to_hold_is_looked_at_before_and_after_and_stands_in_the_journal(desk) -> None:
    run = damaged(desk, TOTALS)
    told = desk("recover", run, "--dry-run", "--json").json
    assert checked(told, "before") == [("notes-say-good", "fails"), ("all-is-there", "fails")]
    assert told["checks_after"] is None
    answered = desk("recover", run, "--scope", "docs/**", "--yes", "--json")
    assert answered.code == 0 and answered.json["resumed"] is not None
    assert checked(answered.json, "before") == [("notes-say-good", "fails"), ("all-is-there", "fails")]
    assert checked(answered.json, "after") == [("notes-say-good", "holds"), ("all-is-there", "holds")]

    async def read(engine: Engine) -> list[tuple[str, list[str]]]:
        events = [recorded.event for recorded in await engine.core.journal.read(RunId(run))]
        return [
            (event.moment, [one.status for one in event.checks]) for event in events if isinstance(event, RunReconciled)
        ]

    assert desk.ask(read) == [("before", ["fails", "fails"]), ("after", ["holds", "holds"])]


@pytest.mark.parametrize(
    ("checks", "status", "words"),
    [
        (TOTALS.replace('"good"', '"better"'), "fails", "1 failed"),
        (TOTALS + ODD, "unknown", "could not be made, so nobody knows"),
    ],
)
def test_nothing_goes_on_unless_everything_that_has_to_hold_is_known_to(
    desk, checks: str, status: str, words: str
) -> None:
    run = damaged(desk, checks)
    answered = desk("recover", run, "--scope", "docs/**", "--yes", "--json")
    assert (answered.code, answered.json["rollback"]["status"], answered.json["resumed"]) == (1, "complete", None)
    assert status in dict(checked(answered.json, "after")).values()
    assert words in answered.json["checks_after"]["text"]
    shown = desk("recover", run, "--yes")
    assert shown.code == 1 and words in shown.out and (desk.site / "notes.txt").read_text() == "good\n"


def test_without_checks_it_is_said_that_nobody_looked(desk) -> None:
    run = desk.agent(("write_file", {"path": "a.txt", "content": "x"}))
    answered = desk("recover", run, "--yes")
    assert answered.code == 0 and "No checks are configured" in " ".join(answered.out.split())


# -- going on with less -------------------------------------------------------------------------------------------------------


def test_after_recovery_only_what_a_person_let_go_on_may_act(desk) -> None:
    (desk.site / "docs").mkdir()
    run = desk.agent(("write_file", {"path": "docs/a.md", "content": "damage\n"}))
    fork = desk("recover", run, "--scope", "docs/**", "--yes", "--json").json["resumed"]["run_id"]
    write = ("write_file", {"path": "docs/b.md", "content": "x"})
    assert statuses(desk, write, run_id=fork) == ["applied"]
    assert statuses(desk, write, run_id=run) == ["contained"]
    desk.agent(write)
    assert desk.answers[-1].status == "denied", "its client begins nothing else"
    desk("release", run)
    assert statuses(desk, write, run_id=run) == ["applied"]


def test_what_goes_on_by_plan_or_only_shows_does_nothing_by_itself(desk) -> None:
    run = desk.agent(("write_file", {"path": "a.txt", "content": "damage\n"}))
    for mode in ("plan", "shadow"):
        fork = desk("recover", run, "--mode", mode, "--yes", "--json").json["resumed"]["run_id"]
        assert statuses(desk, ("write_file", {"path": "a.txt", "content": "again"}), run_id=fork) == ["shadowed"]
        assert not (desk.site / "a.txt").exists()
        collected = desk.ask(lambda engine: engine.core.journal.find(CollectedCall, run_id=RunId(fork)))  # noqa: B023  # asked at once
        assert len(collected) == (mode == "plan")


@pytest.mark.parametrize("wider", ["*", "docs", "docs/../**", "notes/**"])
def test_nothing_goes_on_with_more_than_the_run_had(desk, wider: str) -> None:
    async def start(engine: Engine) -> str:
        return (await engine.start_run(AGENT, "Write", scope=["docs/**"])).run_id

    (desk.site / "docs").mkdir()
    run = desk.run_id = desk.ask(start)
    desk.again(("write_file", {"path": "docs/a.md", "content": "damage\n"}))
    answered = desk("recover", run, "--scope", wider, "--yes")
    assert answered.code == 2 and "more than run" in answered.err
    assert (desk.site / "docs" / "a.md").exists(), "and nothing was done"
    assert desk("recover", run, "--scope", "docs/new/**", "--yes").code == 0


def test_a_checkpoint_of_another_run_is_none_of_this_one(desk) -> None:
    other = desk.agent(("write_file", {"path": "other.txt", "content": "x"}))
    start = desk("checkpoints", other, "--json").json["checkpoints"][-1]["checkpoint_id"]
    run = desk.agent(("write_file", {"path": "a.txt", "content": "x"}))
    assert desk("recover", run, "--to", start, "--yes").code == 2
    assert (desk.site / "other.txt").exists() and (desk.site / "a.txt").exists()


def test_what_runs_that_are_a_part_of_it_did_is_named(desk) -> None:
    parent = desk.agent(("write_file", {"path": "a.txt", "content": "x"}))

    async def start(engine: Engine) -> str:
        return (await engine.start_run(AGENT, "A part", parent_run_id=parent)).run_id

    part = desk.run_id = desk.ask(start)
    desk.again(("write_file", {"path": "b.txt", "content": "x"}))
    answered = desk("recover", parent, "--yes", "--json")
    assert answered.json["parts_standing"] == {part: 1}
    assert desk("recover", part, "--yes").code == 0 and not (desk.site / "b.txt").exists()
