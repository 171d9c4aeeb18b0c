"""One side dies in the middle: the next process tells the truth, and the world is as before or as after, never between."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.protocol.conftest import Raw, Start
from tests.signs import SECONDS, until

How = Literal["the server is killed", "the client is killed"]
WAYS: tuple[How, How] = ("the server is killed", "the client is killed")
KNOWS_TASKS = {"io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}}


def end(client: Raw, how: How) -> None:
    """As the system ends what is killed: pipes are closed, nothing is said."""
    if how == "the server is killed":
        client.process.send_signal(signal.SIGKILL)
    else:
        assert client.process.stdin is not None
        assert client.process.stdout is not None
        client.process.stdin.close()
        client.process.stdout.close()
    client.process.wait(timeout=SECONDS)


def told(client: Raw, tool: str, **arguments: Any) -> dict[str, Any]:
    client.call(tool, tool, **arguments)
    return client.answer_to(tool)["result"]["structuredContent"]


def slow_run(client: Raw, gate: Path) -> str:
    """A run with one action whose rollback can be held."""
    run = told(client, "start_run", goal="a task")["run_id"]
    (gate / "go").touch()
    assert told(client, "set_slowly", key="a", value="new", run_id=run)["status"] == "applied"
    return str(run)


@pytest.mark.parametrize(
    ("how", "gate_name"), [(WAYS[0], "hold_before"), (WAYS[0], "hold_after"), (WAYS[1], "hold_after")]
)
def test_a_rollback_that_was_cut_off_is_finished_and_its_task_tells_so(
    start: Start, data: Path, how: How, gate_name: str
) -> None:
    client, gate = start(), data / "slow_tools"
    run = slow_run(client, gate)
    (gate / gate_name).touch()
    client.ask("back", "tools/call", name="rollback_run", arguments={"run_id": run}, _meta=KNOWS_TASKS)
    made = client.answer_to("back")["result"]
    assert made["resultType"] == "task"
    until(gate / "held")
    end(client, how)
    (gate / gate_name).unlink()

    later = start()
    later.ask("task", "tasks/get", taskId=made["taskId"], _meta=KNOWS_TASKS)
    task = later.answer_to("task")["result"]
    assert task["status"] == "completed"
    answer = task["result"]["structuredContent"]
    assert (answer["status"], answer["run_status"]) == ("complete", "rolled_back")
    [action] = told(later, "get_run", run_id=run)["actions"]
    assert action["stands"] is False
    again = told(later, "set_slowly", key="a", value="newer")
    assert again["status"] == "applied"


def test_a_system_that_is_away_does_not_keep_the_next_server_from_answering(
    start: Start, data: Path, workspace: Path
) -> None:
    client, gate = start(), data / "slow_tools"
    run = slow_run(client, gate)
    (gate / "hold_before").touch()
    client.call("back", "rollback_run", run_id=run)
    until(gate / "held")
    end(client, "the server is killed")

    later = start()  # while the system still does not answer
    later.ask("tools", "tools/list")
    assert later.answer_to("tools")["result"]["tools"]
    assert told(later, "get_run", run_id=run)["run"]["status"] == "sealed"
    refused = told(later, "write_file", path="late.txt", content="x", run_id=run)
    assert refused["error"]["code"] == "sealed"
    assert told(later, "write_file", path="other.txt", content="x")["status"] == "applied"
    (gate / "hold_before").unlink()
    while told(later, "get_run", run_id=run)["run"]["status"] == "sealed":
        pass
    detail = told(later, "get_run", run_id=run)
    assert detail["run"]["status"] == "rolled_back"
    assert [action["stands"] for action in detail["actions"] if action["status"] == "applied"] == [False]
    assert not (workspace / "late.txt").exists()


def test_a_server_that_ends_while_it_still_recovers_leaves_that_to_the_next(start: Start, data: Path) -> None:
    client, gate = start(), data / "slow_tools"
    run = slow_run(client, gate)
    (gate / "hold_before").touch()
    client.call("back", "rollback_run", run_id=run)
    until(gate / "held")
    end(client, "the server is killed")
    second = start()
    second.ask("tools", "tools/list")
    second.answer_to("tools")
    second.process.terminate()
    assert second.process.wait(timeout=SECONDS) in (0, 1)
    (gate / "hold_before").unlink()
    third = start()
    assert told(third, "get_run", run_id=run)["run"]["status"] == "rolled_back"


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("seed", range(2))
def test_acts_that_are_cut_off_stand_exactly_as_the_journal_says(
    start: Start, workspace: Path, how: How, seed: int
) -> None:
    client, chance = start(), random.Random(seed)
    run = told(client, "start_run", goal="many")["run_id"]
    content = "".join(f"line {number}\n" for number in range(5000))
    for number in range(30):
        client.call(number, "write_file", path=f"{number}.txt", content=content, run_id=run)
    client.call("notes", "edit_file", path="notes.txt", edits=[{"old": "two", "new": "TWO"}], run_id=run)
    for _ in range(chance.randint(0, 25)):
        client.answer()
    end(client, how)

    later = start()
    found = {path.name: path.read_text() for path in workspace.iterdir()}
    actions = told(later, "get_run", run_id=run)["actions"]
    assert {action["status"] for action in actions} <= {"applied", "failed", "not_applied"}
    standing = sum(action["stands"] for action in actions)
    notes = found.pop("notes.txt")
    assert notes in ("one\ntwo\nthree\n", "one\nTWO\nthree\n")
    assert len(found) + (notes == "one\nTWO\nthree\n") == standing
    assert set(found.values()) <= {content}
    if standing:
        assert told(later, "rollback_run", run_id=run)["status"] == "complete"
    assert {path.name: path.read_text() for path in workspace.iterdir()} == {"notes.txt": "one\ntwo\nthree\n"}


def test_a_call_that_is_cancelled_while_a_rollback_runs_leaves_a_finished_rollback(start: Start, data: Path) -> None:
    client, gate = start(), data / "slow_tools"
    run = slow_run(client, gate)
    (gate / "hold_before").touch()
    client.call("back", "rollback_run", run_id=run)
    until(gate / "held")
    client.tell("notifications/cancelled", requestId="back", reason="the person lost patience")
    (gate / "hold_before").unlink()
    while told(client, "get_run", run_id=run)["run"]["status"] == "sealed":
        pass  # each question takes its time, and the client gives up on an answer that does not come
    detail = told(client, "get_run", run_id=run)
    assert detail["run"]["status"] == "rolled_back"
    assert [action["stands"] for action in detail["actions"]] == [False]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_client_that_dies_within_a_frame_has_asked_for_nothing(start: Start, workspace: Path, legacy: bool) -> None:
    client = start(legacy=legacy)
    if not legacy:
        client.ask("first", "prompts/list")
        client.answer_to("first")
    client.send(b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"delete_file","arguments":{"path":"no')
    end(client, "the client is killed")
    assert [path.name for path in workspace.iterdir()] == ["notes.txt"]
    assert told(start(), "list_runs")["runs"] == []
