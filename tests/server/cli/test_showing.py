from __future__ import annotations

import io
import json
from collections import Counter

import pytest
from rich.console import Console

from takeback.server.cli import render
from takeback.server.cli.blocks import Cell, Diff, Id, Table, line, short
from takeback.server.cli.codes import ExitCode, code_of
from takeback.server.cli.commands import in_commands
from takeback.server.cli.failures import explain
from takeback.server.cli.terminal import Terminal, _print_rich, plain
from takeback.server.engine.answers import (
    CheckpointInfo,
    CheckpointPage,
    EngineError,
    OpenItemAnswer,
    RollbackAnswer,
    RunDetail,
    RunPage,
    RunSummary,
    StepAnswer,
    VersionInfo,
    VersionPage,
)
from takeback.server.engine.report import shown, shown_lines

RUN = "run_" + "a" * 26
ACTION = "act_" + "b" * 26

summary = RunSummary(
    run_id=RUN,
    goal="Write the report",
    status="open",
    owner="local:ada",
    client="claude-code",
    default=False,
    started_at="2026-11-20T18:00:00.000Z",
    last_at="2026-11-20T18:31:33.123Z",
    actions=3,
    standing=2,
)


def text(blocks) -> str:
    return "\n".join(plain(blocks))


@pytest.mark.parametrize(
    ("raw", "visible"),
    [
        ("plain", "plain"),
        ("zwölf Ämter, 日本", "zwölf Ämter, 日本"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("two\nlines", "two\\nlines"),
        ("back\rto start", "back\\rto start"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("filler\u3164", "filler\\u3164"),
        ("half\ud800", "half\\ud800"),
    ],
)
def test_what_cannot_be_seen_is_written_as_its_code(raw: str, visible: str):
    assert shown(raw) == visible


def test_contents_keep_their_lines_but_not_their_carriage_returns():
    assert shown_lines("a\r\n\tb\x07\n") == "a\\r\n\tb\\x07\n"


def test_nothing_from_outside_reaches_the_output_raw():
    evil = "x\x1b]0;owned\x07\u202e"
    page = RunPage(runs=[summary.model_copy(update={"goal": evil, "client": evil})])
    detail = RunDetail(run=page.runs[0], summary=evil, why=evil, steps=[evil], diff=evil)
    answer = RollbackAnswer(
        status="partial",
        rollback_id="rbk_1",
        steps=[
            StepAnswer(action_id=ACTION, run_id=RUN, tool=evil, object=evil, outcome="conflict", why=evil, preview=evil)
        ],
    )
    for blocks in (
        render.runs(page),
        render.timeline(detail),
        render.diff(detail),
        render.plan(answer),
        render.rollback(answer),
    ):
        shown_text = text(blocks)
        assert "\x1b" not in shown_text
        assert "\x07" not in shown_text
        assert "\u202e" not in shown_text


def test_ids_are_whole_in_a_pipe():
    assert RUN in text(render.runs(RunPage(runs=[summary])))


def test_columns_are_aligned_in_a_pipe():
    table = Table(("a", "long heading"), (("wide cell", "x"), ("y", "z")))
    assert text([table]).splitlines() == ["a          long heading", "wide cell  x", "y          z"]


def letters(blocks, width: int) -> Counter[str]:
    console = Console(width=width, file=io.StringIO(), legacy_windows=False)
    _print_rich(console, blocks)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert max(map(len, printed.splitlines())) <= width
    return Counter(sign for sign in printed if not sign.isspace() and sign != "─")


@pytest.mark.parametrize("width", [50, 60, 80, 100, 120])
def test_nothing_of_a_table_is_cut_off_however_narrow_the_terminal(width: int):
    version = VersionInfo(
        version=f"{ACTION}:before", object="notes.txt", at="2026-11-20T18:00:00Z", run_id=RUN, action_id=ACTION,
        tool="execute_sql", size=123_456, what="as execute_sql left it",
    )  # fmt: skip
    checkpoint = CheckpointInfo(
        checkpoint_id="chk_" + "c" * 26,
        run_id=RUN,
        at="2026-11-20T18:00:00Z",
        label="before the move",
        recommended=True,
    )
    for blocks in (
        render.runs(RunPage(runs=[summary.model_copy(update={"status": "rolled_back"})])),
        render.versions(VersionPage(versions=[version])),
        render.checkpoints(CheckpointPage(checkpoints=[checkpoint])),
    ):
        assert letters(blocks, width) == letters(blocks, 1000)


def test_ids_stay_whole_on_a_usual_terminal():
    console = Console(width=80, file=io.StringIO(), legacy_windows=False)
    _print_rich(console, render.runs(RunPage(runs=[summary])))
    assert short(RUN) in console.file.getvalue()  # type: ignore[attr-defined] -- it is the text above


def test_a_list_that_goes_on_says_how():
    assert "--cursor more" in text(render.runs(RunPage(runs=[summary], cursor="more")))


def test_an_empty_list_says_so():
    assert text(render.runs(RunPage(runs=[]))) == "No runs."


def test_a_timeline_names_actions_with_what_became_of_them():
    detail = RunDetail(
        run=summary,
        actions=[
            {
                "action_id": ACTION,
                "at": "2026-11-20T18:00:00Z",
                "tool": "write_file",
                "status": "applied",
                "summary": "Wrote notes.txt.",
                "undo_outcome": "restored",
            }
        ],
    )
    shown_text = text(render.timeline(detail))
    assert ACTION in shown_text
    assert "Wrote notes.txt." in shown_text
    assert "restored" in shown_text


@pytest.mark.parametrize(
    ("stands", "outcome", "word"),
    [
        (True, "restored", "applied"),
        (True, "conflict", "conflict"),
        (False, "merged", "merged"),
        (True, None, "applied"),
    ],
)
def test_what_was_brought_back_is_not_shown_as_taken_back(stands: bool, outcome: str | None, word: str):
    action = {"action_id": ACTION, "tool": "write_file", "status": "applied", "stands": stands, "undo_outcome": outcome}
    row = text(render.timeline(RunDetail(run=summary, actions=[action]))).splitlines()[-1]
    assert row.split()[2] == word


def test_a_plan_says_that_nothing_has_been_done():
    step = StepAnswer(
        action_id=ACTION, run_id=RUN, tool="write_file", object="notes.txt", outcome="restored", preview="-a\n+b"
    )
    shown_text = text(render.plan(RollbackAnswer(status="planned", steps=[step])))
    assert "Nothing has been done yet" in shown_text
    assert "+b" in shown_text


def test_of_very_many_steps_the_first_are_shown_and_the_others_counted():
    step = StepAnswer(
        action_id=ACTION, run_id=RUN, tool="write_file", object="notes.txt", outcome="restored", preview="-a"
    )
    lines = text(render.plan(RollbackAnswer(status="planned", steps=[step] * 1234))).splitlines()
    assert lines[0] == "Plan: 1,234 steps. Nothing has been done yet."
    assert any("1,034 more" in each for each in lines)
    assert len(lines) < 500


def test_somebody_at_a_terminal_is_told_of_commands():
    item = OpenItemAnswer(
        conflict_id="cfl_1", kind="conflict", run_id=RUN, action_id=ACTION, system="files", object="notes.txt", why="why",
        next_step="Compare the three versions, then call resolve_conflict with theirs or ours.",
    )  # fmt: skip
    assert "then call takeback resolve with theirs or ours." in text(render.open_items([item]))
    failure = explain(EngineError("nothing", "There is nothing to take back.", "Look at what was done with get_run."))
    assert failure is not None and failure.advice == "Look at what was done with takeback show."
    assert in_commands("restore_version, my_get_run") == "takeback versions --restore, my_get_run"


def test_a_redo_says_how_it_is_taken_back():
    step = StepAnswer(action_id=ACTION, run_id=RUN, tool="write_file", object="notes.txt", outcome="restored")
    answer = RollbackAnswer(status="complete", rollback_id="rbk_1", steps=[step])
    assert "To bring it back: takeback redo rbk_1" in text(render.rollback(answer))
    assert "To take it back again: takeback redo rbk_1" in text(render.rollback(answer, "To take it back again"))


def test_a_plan_names_the_runs_in_the_way():
    step = StepAnswer(action_id=ACTION, run_id=RUN, tool="write_file", object="notes.txt")
    shown_text = text(render.plan(RollbackAnswer(status="planned", steps=[step], other_runs=["run_other"])))
    assert "run_other" in shown_text
    assert "--cascade" in shown_text


def test_a_partial_rollback_shows_what_is_open_and_how_to_bring_it_back():
    item = OpenItemAnswer(
        conflict_id="cfl_1",
        kind="conflict",
        run_id=RUN,
        action_id=ACTION,
        system="files",
        object="notes.txt",
        why="Somebody changed the same lines.",
        next_step="takeback resolve cfl_1",
    )
    step = StepAnswer(action_id=ACTION, run_id=RUN, tool="write_file", object="notes.txt", outcome="conflict")
    shown_text = text(
        render.rollback(RollbackAnswer(status="partial", rollback_id="rbk_1", steps=[step], open_items=[item]))
    )
    assert "Somebody changed the same lines." in shown_text
    assert "takeback redo rbk_1" in shown_text


def test_a_conflict_shows_its_three_versions_and_says_what_each_is():
    item = OpenItemAnswer(
        conflict_id="cfl_1",
        kind="conflict",
        run_id=RUN,
        action_id=ACTION,
        system="files",
        object="notes.txt",
        why="why",
        next_step="",
    )
    shown_text = text(render.conflict(item, {"base": b"agent\n", "ours": None, "theirs": b"\xff\xfe"}))
    assert "agent" in shown_text
    assert "(does not exist)" in shown_text
    assert "2 B that are not text" in shown_text


def test_the_recommended_checkpoint_is_marked():
    page = CheckpointPage(
        checkpoints=[
            CheckpointInfo(
                checkpoint_id="chk_1", run_id=RUN, at="", label="before", verified_safe=True, recommended=True
            ),
            CheckpointInfo(checkpoint_id="chk_2", run_id=RUN, at="", drift=["notes.txt"]),
        ]
    )
    rows = text(render.checkpoints(page)).splitlines()
    assert "recommended" in rows[1]
    assert "drifted" in rows[2]
    assert "notes.txt" in rows[2]


def test_short_ids_keep_their_kind():
    assert short(RUN) == "run_aaaaaaaa"
    assert text([line(Id(RUN), Cell("x"))]) == f"{RUN} x"


def test_json_is_one_document_that_cannot_act_on_a_terminal(capsys: pytest.CaptureFixture[str]):
    Terminal(as_json=True).show([Diff("ignored")], {"goal": "\u202e\x1b[0m\x9b", "run": summary})
    out = capsys.readouterr().out
    assert json.loads(out)["goal"] == "\u202e\x1b[0m\x9b"
    assert json.loads(out)["run"]["run_id"] == RUN
    assert out.isascii()
    assert all(char == "\n" or char.isprintable() for char in out)


def test_an_error_is_told_in_two_sentences(capsys: pytest.CaptureFixture[str]):
    Terminal().fail("not_found", "There is no run 'x'.", "takeback runs lists them.")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "There is no run 'x'.\ntakeback runs lists them.\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineError("not_found", "There is no run.", "Look."), ExitCode.NOT_FOUND),
        (EngineError("stale_read", "It changed.", "Read it again."), ExitCode.REFUSED),
        (ExceptionGroup("one", [EngineError("not_found", "There is no run.")]), ExitCode.NOT_FOUND),
        (FileNotFoundError(2, "No such file or directory", "/x"), ExitCode.REFUSED),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ZeroDivisionError("division"), ExitCode.INTERNAL),
    ],
)
def test_every_error_has_an_exit_code_and_a_sentence(error: BaseException, code: ExitCode):
    failure = explain(error)
    assert failure is not None
    assert failure.code is code
    assert failure.message.endswith(".")


def test_a_process_that_is_told_to_end_ends():
    assert explain(SystemExit(3)) is None


def test_unknown_words_are_refusals():
    assert code_of("something_new") is ExitCode.REFUSED


def test_what_people_know_by_a_title_is_shown_by_it_and_not_by_its_id():
    called = "“Review with Dana”, Thu 3 Dec 2026 14:00 Europe/Berlin, in work (4711)"
    step = StepAnswer(
        action_id=ACTION, run_id=RUN, tool="create_event", object="work//4711", objects=["work//4711"], called=[called],
        outcome="restored",
    )  # fmt: skip
    item = OpenItemAnswer(
        conflict_id="cfl_" + "c" * 26, kind="conflict", run_id=RUN, action_id=ACTION, system="calendar",
        object="work//4711", called=called, why="w", next_step="n",
    )  # fmt: skip
    for blocks in ([render.steps([step])], render.open_items([item]), render.conflict(item, {})):
        assert called in text(blocks) and "work//4711" not in text(blocks)
