"""Answers keep to what was listed, errors too, and say in words what they say in structure."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from tests.server.mcp.eras import Connect, data, words

from takeback.server.engine.answers import (
    CallAnswer,
    CallStatus,
    ErrorInfo,
    OpenItemAnswer,
    RollbackAnswer,
    StepAnswer,
    UndoInfo,
)
from takeback.server.mcp.replies import call_reply, refusal, rollback_reply

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("write_file", {"path": "a.txt", "content": "a", "idempotency_key": "k"}),
    ("write_file", {"path": "a.txt", "content": "a", "idempotency_key": "k"}),
    ("write_file", {"path": "a.txt", "content": "b", "idempotency_key": "k"}),
    ("write_file", {"path": "a.txt", "content": "b", "dry_run": True}),
    ("write_file", {"path": "a.txt"}),
    ("write_file", {"path": "a.txt", "content": "b", "run_id": 3}),
    ("write_file", {"path": "a.txt", "content": "b", "run_id": "run_unknown"}),
    ("delete_file", {"path": "missing.txt"}),
    ("announce", {"text": "needs a person"}),
    ("read_file", {"path": "a.txt"}),
    ("read_file", {"path": "missing.txt"}),
    ("read_file", {"path": "a.txt", "nonsense": 1}),
    ("explode", {}),
    ("list_runs", {}),
    ("list_runs", {"nonsense": 1}),
    ("get_run", {"run_id": "run_unknown"}),
    ("list_checkpoints", {}),
    ("list_versions", {"object": "a.txt"}),
    ("start_run", {"goal": "x"}),
    ("start_run", {}),
    ("rollback_run", {}),
    ("rollback_run", {"run_id": "run_unknown"}),
    ("rollback_run", {"last": 1}),
    ("redo_rollback", {"rollback_id": "rbk_unknown"}),
    ("resume_from", {"checkpoint_id": "chk_unknown"}),
    ("resolve_conflict", {"conflict_id": "cfl_unknown", "choice": "ours"}),
    ("restore_version", {"object": "a.txt", "version": "unknown"}),
    ("contain_run", {"run_id": "run_unknown", "reason": "x"}),
    ("create_checkpoint", {"run_id": "run_unknown", "label": "x"}),
    ("finish_run", {"run_id": "run_unknown"}),
]


async def test_every_answer_keeps_to_the_schema_of_its_tool_and_errors_do_too(connect: Connect) -> None:
    async with connect() as client:
        schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
        for name, arguments in CALLS:
            result = await client.call_tool(name, arguments)
            answer = data(result)
            jsonschema.validate(answer, schemas[name])
            assert words(result), (name, arguments)
            if result.is_error and answer.get("status") != "pending_approval":
                assert answer["error"]["message"] in words(result)
                assert answer["error"]["advice"] in words(result)


ANSWER = CallAnswer(
    status="applied", run_id="run_1", action_id="act_1", checkpoint_id="chk_1", reversibility="reversible",
    undo=UndoInfo(how="Put it back.", until="2026-12-01T00:00:00Z"), summary="Wrote a.txt.", warnings=["Mind the gap."],
)  # fmt: skip


@pytest.mark.parametrize(
    ("status", "change", "said"),
    [
        ("applied", {}, ["Wrote a.txt.", "run_1", "act_1", "chk_1", "rollback_run", "until 2026-12-01", "Note: Mind the gap."]),
        ("replayed", {}, ["Done before, not done again. Wrote a.txt."]),
        ("held", {"release_at": "2026-11-20T12:00:00Z"}, ["Held until 2026-11-20T12:00:00Z."]),
        ("staged", {}, ["Wrote a.txt."]),
        ("shadowed", {"preview": ["change a.txt"]}, ["Nothing was done. It would:", "change a.txt"]),
        ("failed", {"error": ErrorInfo(code="x", message="It broke.", advice="Mend it.")}, ["It broke. Mend it.", "run_1"]),
        ("in_doubt", {"error": ErrorInfo(code="x", message="Nobody knows.", advice="Look.")}, ["Nobody knows. Look."]),
        ("denied", {"error": ErrorInfo(code="x", message="A person refused this.", advice="")}, ["A person refused this."]),
        (
            "pending_approval",
            {"approval_id": "apr_1", "question": "Send the mail?"},
            ["Nothing was done: pending approval apr_1. Send the mail?", "takeback approve apr_1", "repeat exactly"],
        ),
    ],
)  # fmt: skip
def test_each_status_is_said_in_plain_words(status: CallStatus, change: dict[str, Any], said: list[str]) -> None:
    result = call_reply(ANSWER.model_copy(update={"status": status, **change}))
    assert result.is_error == (status in {"pending_approval", "denied", "failed", "in_doubt"})
    assert (result.pending is not None) == (status == "pending_approval")
    for part in said:
        assert part in words(result)
    assert "rollback_run" not in words(result) or not result.is_error


def test_nothing_is_said_to_be_taken_back_of_what_was_only_shown_or_never_was() -> None:
    assert "take it back" not in words(call_reply(ANSWER.model_copy(update={"status": "shadowed", "preview": ["a"]})))
    unknown = ErrorInfo(code="not_found", message="There is no run 'x'.", advice="Look.")
    assert words(call_reply(CallAnswer(status="failed", run_id="x", error=unknown))) == "There is no run 'x'. Look."


def test_what_is_left_open_is_told_once() -> None:
    item = OpenItemAnswer(
        conflict_id="cfl_1", kind="conflict", run_id="run_1", action_id="act_2", system="files", object="b.txt",
        why="somebody changed it", next_step="choose",
    )  # fmt: skip
    answer = RollbackAnswer(status="partial", open_items=[item], report="`b.txt` (cfl_1): Somebody changed it. choose.")
    assert words(rollback_reply(answer)).count("cfl_1") == 1


def test_what_is_promised_is_always_there_and_what_is_not_said_is_left_out() -> None:
    answer = data(call_reply(CallAnswer(status="shadowed", run_id="run_1")))
    assert answer.keys() == {
        "status", "run_id", "action_id", "checkpoint_id", "reversibility", "undo", "summary", "result", "digest", "warnings",
    }  # fmt: skip
    answer = data(rollback_reply(RollbackAnswer(status="planned")))
    assert {"status", "rollback_id", "plan_digest", "steps", "retracted", "open_items", "report"} <= answer.keys()
    assert "error" not in answer


def test_a_rollback_says_what_became_of_each_step_and_what_is_left_open() -> None:
    item = OpenItemAnswer(
        conflict_id="cfl_1", kind="conflict", run_id="run_1", action_id="act_2", system="files", object="b.txt",
        why="somebody changed it", next_step="choose",
    )  # fmt: skip
    steps = [
        StepAnswer(action_id=f"act_{n}", run_id="run_1", tool="t", object=f"{n}.txt", outcome="restored")
        for n in range(30)
    ]
    answer = RollbackAnswer(
        status="partial", rollback_id="rbk_1", run_id="run_1", steps=steps, retracted=["act_1"], open_items=[item],
        other_runs=["run_9"],
    )  # fmt: skip
    result = rollback_reply(answer)
    assert not result.is_error
    for part in (
        "0.txt: restored",
        "and 10 more",
        "Open: cfl_1 b.txt: somebody changed it. choose.",
        "run_9",
        "act_1",
        "rbk_1",
    ):
        assert part in words(result)


def test_a_rollback_that_needs_consent_is_an_error_that_waits() -> None:
    result = rollback_reply(
        RollbackAnswer(status="pending_approval", approval_id="apr_1", question="Take 40 files back?")
    )
    assert result.is_error
    assert result.pending is not None
    assert result.pending.approval_id == "apr_1"


def test_a_plan_says_how_to_carry_it_out() -> None:
    assert "plan_digest d1" in words(rollback_reply(RollbackAnswer(status="planned", plan_digest="d1")))


def test_a_refusal_is_one_sentence_of_fact_and_one_of_advice() -> None:
    assert words(refusal("x", "It is so", "Do that")) == "It is so. Do that."
