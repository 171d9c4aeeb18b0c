"""Long rollbacks as tasks: for clients that know tasks, durable, and true to the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp_types import (
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    Request,
    Result,
)
from tests.server.mcp.eras import data
from tests.signs import SECONDS, appeared

from takeback.server.engine.engine import Engine
from takeback.server.mcp.app import TakebackServer, build_server
from takeback.server.mcp.approval_lanes import SCHEMA
from takeback.server.mcp.long_calls import LongCall
from takeback.server.mcp.task_store import TaskRecord, TaskStore
from takeback.server.mcp.tasks import TasksExtension
from takeback.server.principal import local_principal
from takeback.server.settings import Settings


class Made(Result):
    """A task, where a result was expected."""

    result_type: Literal["task"] = "task"
    task_id: str
    status: str


class KnowsTasks(ClientExtension):
    """Declares the extension, and hands out the task itself."""

    identifier = TasksExtension.identifier

    def __init__(self) -> None:
        self.made: list[str] = []

    def claims(self) -> Any:
        async def resolve(made: Made, context: ClaimContext) -> CallToolResult:
            self.made.append(made.task_id)
            return CallToolResult(
                content=[], structured_content={"task": made.task_id}, is_error=True
            )  # no schema for it

        return [ResultClaim(result_type="task", model=Made, resolve=resolve)]


class TaskRequest(Request[dict[str, Any], str]):
    name_param: ClassVar[str | None] = "taskId"


class Anything(Result):
    model_config = {"extra": "allow"}


async def send(client: Client, method: str, task: str, **params: Any) -> dict[str, Any]:
    request = TaskRequest(method=method, params={"taskId": task, **params})
    answer: Anything = await client.session.send_request(request, Anything)
    return answer.model_dump(by_alias=True, exclude={"meta"})


async def until(client: Client, task: str, status: str) -> dict[str, Any]:
    with anyio.fail_after(SECONDS):
        while (told := await send(client, "tasks/get", task))["status"] != status:  # noqa: ASYNC110 -- as clients do
            await anyio.sleep(0.01)
    return told


@pytest.fixture
def tasks(server: TakebackServer) -> TasksExtension:
    """Impatient: whatever may become a task becomes one."""
    found = [one for one in server._extensions if isinstance(one, TasksExtension)]  # pyright: ignore[reportPrivateUsage] -- the one that is mounted
    [extension] = found
    extension.patience = 0
    return extension


@pytest.fixture
def gate(settings: Settings) -> Path:
    """Where the slow system is held."""
    return settings.data / "slow_tools"


def knowing(server: TakebackServer) -> Client:
    return Client(server, extensions=[KnowsTasks()])


async def slow_run(client: Client, gate: Path, value: str = "new") -> str:
    """A run with one action whose rollback can be held."""
    (gate / "go").touch()
    run = data(await client.call_tool("start_run", {"goal": "a task"}))["run_id"]
    await client.call_tool("set_slowly", {"key": "a", "value": value, "run_id": run})
    return str(run)


def present(engine: Engine) -> Any:
    system: Any = engine.core.systems["slow"]
    return system.get("a")


async def held(gate: Path) -> None:
    await appeared(gate / "held")


async def test_a_rollback_that_takes_long_is_a_task_with_the_rollbacks_answer(
    server: TakebackServer, tasks: TasksExtension, engine: Engine, settings: Settings, gate: Path
) -> None:
    async with knowing(server) as client:
        run = await slow_run(client, gate)
        (gate / "hold_before").touch()
        task = data(await client.call_tool("rollback_run", {"run_id": run}))["task"]
        await held(gate)
        told = await send(client, "tasks/get", task)
        assert told["status"] == "working"
        assert "result" not in told
        kept = TaskStore(settings.data).read(task)
        assert kept is not None
        assert kept.status == "working"
        assert present(engine) == "new"
        (gate / "hold_before").unlink()
        told = await until(client, task, "completed")
        assert told["result"]["structuredContent"]["status"] == "complete"
        assert present(engine) is None
        redo = {"rollback_id": told["result"]["structuredContent"]["rollback_id"]}
        again = data(await client.call_tool("redo_rollback", redo))["task"]
        assert (await until(client, again, "completed"))["result"]["structuredContent"]["status"] == "complete"
        assert present(engine) == "new"


async def test_going_on_from_a_checkpoint_is_a_task_if_something_is_taken_back_for_it(
    server: TakebackServer, tasks: TasksExtension, engine: Engine, gate: Path
) -> None:
    async with knowing(server) as client:
        started = data(await client.call_tool("start_run", {"goal": "a task"}))
        (gate / "go").touch()
        await client.call_tool("set_slowly", {"key": "a", "value": "new", "run_id": started["run_id"]})
        place = {"checkpoint_id": started["checkpoint_id"]}
        assert data(await client.call_tool("resume_from", place))["run_id"]
        task = data(await client.call_tool("resume_from", {**place, "restore": True}))["task"]
        brief = (await until(client, task, "completed"))["result"]["structuredContent"]
        assert brief["run_id"] != started["run_id"]
        assert brief["rollback"]["status"] == "complete"
        assert present(engine) is None


async def test_what_is_over_in_moments_is_answered_as_always(server: TakebackServer, gate: Path) -> None:
    async with knowing(server) as client:
        run = await slow_run(client, gate)
        assert data(await client.call_tool("rollback_run", {"run_id": run}))["status"] == "complete"


async def test_a_plan_is_never_a_task(server: TakebackServer, tasks: TasksExtension, gate: Path) -> None:
    async with knowing(server) as client:
        run = await slow_run(client, gate)
        plan = data(await client.call_tool("rollback_run", {"run_id": run, "dry_run": True}))
        assert plan["status"] == "planned"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_clients_that_do_not_know_tasks_get_the_answer(
    server: TakebackServer, tasks: TasksExtension, gate: Path, mode: Any
) -> None:
    async with Client(server, mode=mode) as client:
        run = await slow_run(client, gate)
        assert data(await client.call_tool("rollback_run", {"run_id": run}))["status"] == "complete"
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            with pytest.raises(MCPError) as refused:
                await send(client, method, "none", inputResponses={})
            assert refused.value.error.code == (-32021 if mode == "auto" else -32601)


async def test_a_rollback_that_has_not_begun_can_be_cancelled(
    server: TakebackServer, tasks: TasksExtension, engine: Engine, gate: Path
) -> None:
    async with knowing(server) as client:
        run = await slow_run(client, gate)
        async with engine.core.run_locks.hold([f"run:{run}"]):
            task = data(await client.call_tool("rollback_run", {"run_id": run}))["task"]
            await send(client, "tasks/cancel", task)
        told = await until(client, task, "cancelled")
        assert "result" not in told
        assert present(engine) == "new"
        await send(client, "tasks/cancel", task)
        assert (await send(client, "tasks/get", task))["status"] == "cancelled"


async def test_a_rollback_that_has_begun_is_finished_though_it_is_cancelled(
    server: TakebackServer, tasks: TasksExtension, engine: Engine, gate: Path
) -> None:
    async with knowing(server) as client:
        run = await slow_run(client, gate)
        (gate / "hold_after").touch()
        task = data(await client.call_tool("rollback_run", {"run_id": run}))["task"]
        await held(gate)
        await send(client, "tasks/cancel", task)
        told = await send(client, "tasks/get", task)
        assert told["status"] == "working"
        assert "redo_rollback" in told["statusMessage"]
        (gate / "hold_after").unlink()
        told = await until(client, task, "completed")
        assert told["result"]["structuredContent"]["status"] == "complete"
        assert present(engine) is None


async def test_a_task_that_is_over_is_known_to_the_next_process(
    server: TakebackServer, tasks: TasksExtension, engine: Engine, settings: Settings, gate: Path
) -> None:
    async with knowing(server) as client:
        run = await slow_run(client, gate)
        task = data(await client.call_tool("rollback_run", {"run_id": run}))["task"]
        told = await until(client, task, "completed")
    async with knowing(build_server(engine, settings)) as client:
        again = await send(client, "tasks/get", task)
    assert again["result"] == told["result"]


def left_behind(settings: Settings, **fields: Any) -> str:
    """The file of a task whose process died."""
    record = TaskRecord.model_validate(
        {
            "id": "0123456789abcdef",
            "principal": local_principal(),
            "tool": "rollback_run",
            "created_at": "2026-11-20T00:00:00Z",
            "updated_at": "2026-11-20T00:00:00Z",
            **fields,
        }
    )
    TaskStore(settings.data).save(record)
    return record.id


@pytest.mark.parametrize("tool", ["rollback_run", "resume_from"])
async def test_what_became_of_a_task_whose_process_died_the_journal_tells(
    server: TakebackServer, settings: Settings, gate: Path, tool: str
) -> None:
    async with knowing(server) as client:
        run = await slow_run(client, gate)
        done = data(await client.call_tool("rollback_run", {"run_id": run}))
        task = left_behind(settings, rollback_id=done["rollback_id"], tool=tool)
        told = await send(client, "tasks/get", task)
        assert told["status"] == "completed"
        if tool == "resume_from":
            assert told["result"]["isError"]
            assert "without restore" in told["result"]["content"][0]["text"]
        else:
            assert told["result"]["structuredContent"] == done
            assert not told["result"].get("isError")


async def test_a_task_whose_process_died_before_anything_began_says_so(
    server: TakebackServer, settings: Settings
) -> None:
    task = left_behind(settings, rollback_id="rbk_none")
    async with knowing(server) as client:
        told = await send(client, "tasks/get", task)
        assert told["status"] == "failed"
        assert "nothing was taken back" in told["error"]["message"]


async def test_a_task_that_another_process_is_at_works(server: TakebackServer, settings: Settings) -> None:
    task = left_behind(settings, rollback_id="rbk_none")
    async with TaskStore(settings.data).alive(task), knowing(server) as client:
        assert (await send(client, "tasks/get", task))["status"] == "working"


@pytest.mark.parametrize("id", ["unknown", "", "../tasks/0123456789abcdef", "a/b", "x" * 5000])
async def test_unknown_tasks_and_ids_that_are_none_are_refused(
    server: TakebackServer, settings: Settings, id: str
) -> None:
    left_behind(settings, rollback_id="rbk_none")
    async with knowing(server) as client:
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            with pytest.raises(MCPError) as refused:
                await send(client, method, id, inputResponses={})
            assert refused.value.error.code == -32602


async def test_somebody_elses_task_is_answered_like_one_that_is_not_there(
    server: TakebackServer, settings: Settings
) -> None:
    task = left_behind(settings, rollback_id="rbk_none", principal="local:somebody-else")
    async with knowing(server) as client:
        with pytest.raises(MCPError) as refused:
            await send(client, "tasks/get", task)
        assert refused.value.error.code == -32602


async def test_where_no_task_can_be_kept_the_client_waits_for_the_answer(
    server: TakebackServer, tasks: TasksExtension, settings: Settings, gate: Path
) -> None:
    (settings.data / "tasks").write_text("in the way")
    async with knowing(server) as client:
        run = await slow_run(client, gate)
        assert data(await client.call_tool("rollback_run", {"run_id": run}))["status"] == "complete"


@pytest.mark.parametrize(("action", "status"), [("accept", "applied"), ("decline", "denied")])
async def test_a_person_can_be_asked_through_a_task(
    server: TakebackServer, tasks: TasksExtension, engine: Engine, action: str, status: str
) -> None:
    async def nobody(context: Any, params: Any) -> Any:
        raise AssertionError("asked through the task, not through the call")

    tasks.eligible = lambda params: params.name == "announce"
    answer = {"action": action, **({"content": {"approve": True}} if action == "accept" else {})}
    async with Client(server, extensions=[KnowsTasks()], elicitation_callback=nobody) as client:
        task = data(await client.call_tool("announce", {"text": "hello"}))["task"]
        told = await until(client, task, "input_required")
        [(key, question)] = told["inputRequests"].items()
        assert "irreversible" in question["params"]["message"]
        await send(client, "tasks/update", task, inputResponses={"made up": answer})
        assert (await send(client, "tasks/get", task))["status"] == "input_required"
        await send(client, "tasks/update", task, inputResponses={key: answer})
        told = await until(client, task, "completed")
        assert told["result"]["structuredContent"]["status"] == status
    system: Any = engine.core.systems["memory"]
    assert list(system.notes("announcement").values()) == (["hello"] if status == "applied" else [])


async def test_a_question_that_is_cancelled_is_not_acted_on(
    server: TakebackServer, tasks: TasksExtension, engine: Engine
) -> None:
    async def nobody(context: Any, params: Any) -> Any:
        raise AssertionError("asked through the task, not through the call")

    tasks.eligible = lambda params: params.name == "announce"
    async with Client(server, extensions=[KnowsTasks()], elicitation_callback=nobody) as client:
        task = data(await client.call_tool("announce", {"text": "hello"}))["task"]
        await until(client, task, "input_required")
        await send(client, "tasks/cancel", task)
        await until(client, task, "cancelled")
    system: Any = engine.core.systems["memory"]
    assert not system.notes("announcement")


async def test_no_question_of_a_task_is_asked_under_a_key_that_was_used_before() -> None:
    call = LongCall("rollback_run", "local:me")
    asked = InputRequiredResult(
        input_requests={
            "approval": ElicitRequest(params=ElicitRequestFormParams(message="Go on?", requested_schema=SCHEMA))
        }
    )
    keys: list[str] = []
    for _ in range(2):
        async with anyio.create_task_group() as group:
            group.start_soon(call.ask, asked)
            await anyio.wait_all_tasks_blocked()
            [key] = call.questions
            for late in keys:
                call.answer({late: ElicitResult(action="accept", content={"approve": True})})
            assert list(call.questions) == [key]
            keys.append(key)
            call.answer({key: ElicitResult(action="decline")})
    assert len(set(keys)) == 2


async def test_how_far_a_task_is_stands_in_the_task(server: TakebackServer, tasks: TasksExtension, gate: Path) -> None:
    sign = gate / "held"
    async with knowing(server) as client:
        run = data(await client.call_tool("start_run", {"goal": "a task"}))["run_id"]
        (gate / "go").touch()
        for key in ("a", "b"):
            await client.call_tool("set_slowly", {"key": key, "value": "new", "run_id": run})
        (gate / "hold_after").touch()
        task = data(await client.call_tool("rollback_run", {"run_id": run}))["task"]
        await held(gate)
        (gate / "hold_before").touch()  # for the second step, once the first goes on
        sign.unlink()
        (gate / "hold_after").unlink()
        await held(gate)
        told = await send(client, "tasks/get", task)
        assert (told["status"], told["statusMessage"]) == ("working", "restored: b")
        (gate / "hold_before").unlink()
        assert "statusMessage" not in await until(client, task, "completed")


async def test_what_the_journal_tells_of_a_conflict_is_what_was_answered(
    server: TakebackServer, settings: Settings, workspace: Path
) -> None:
    async with knowing(server) as client:
        run = data(await client.call_tool("start_run", {"goal": "a task"}))["run_id"]
        for name in ("notes.txt", "other.txt"):
            await client.call_tool("write_file", {"path": name, "content": "ours\n", "run_id": run})
        (workspace / "notes.txt").write_text("theirs\n")
        done = data(await client.call_tool("rollback_run", {"run_id": run}))
        assert done["status"] == "partial"
        task = left_behind(settings, rollback_id=done["rollback_id"])
        told = (await send(client, "tasks/get", task))["result"]["structuredContent"]
    assert [item["conflict_id"] for item in told["open_items"]] == [item["conflict_id"] for item in done["open_items"]]
    assert [(step["outcome"], step["objects"]) for step in told["steps"]] == [
        (step["outcome"], step["objects"]) for step in done["steps"]
    ]
    assert told["status"] == "partial"
    assert told["report"] == done["report"]
