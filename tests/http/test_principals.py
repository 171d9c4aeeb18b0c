"""Two people on one server: neither sees, acts on, approves or takes back what the other did."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult, PromptReference
from tests.http.house import ADA, BOB, ENVELOPE, House, Issuer, call_body, call_headers, data, headers

from takeback.journal.ids import new_rollback_id
from takeback.server.mcp.task_store import TaskRecord, TaskStore, fresh_task_id

FOREIGN = re.compile(r"There is no |has no version|not_found")


class Work:
    """What ada did: the ids of it."""

    run: str
    checkpoint: str
    action: str
    second: str
    rollback: str
    version: str
    conflict: str


@pytest.fixture(scope="module")
def work(house: House) -> Work:
    return asyncio.run(_work(house))


async def _work(house: House) -> Work:
    done, file = Work(), house.workspace / "ada.txt"
    file.write_text("zero\n")
    async with house.connected(ADA, "modern") as ada:
        done.run = data(await ada.call_tool("start_run", {"goal": "a secret goal"}))["run_id"]
        for number, content in enumerate(("one\n", "two\n", "three\n")):
            answer = data(
                await ada.call_tool("write_file", {"path": "ada.txt", "content": content, "run_id": done.run})
            )
            if number == 0:
                done.action, done.checkpoint = answer["action_id"], answer["checkpoint_id"]
            if number == 1:
                done.second = answer["action_id"]
        taken = await ada.call_tool("rollback_run", {"run_id": done.run, "last": 1})
        done.rollback = data(taken)["rollback_id"]
        done.version = f"{done.action}:before"
        file.write_text("somebody else was here\n")
        await ada.call_tool("rollback_run", {"actions": [done.second]})
        detail = data(await ada.call_tool("get_run", {"run_id": done.run}))
        done.conflict = detail["open_items"][0]["conflict_id"]
    return done


def calls(work: Work) -> dict[str, tuple[str, dict[str, Any]]]:
    """Every way to name something of ada's."""
    write = {"path": "bob-was-here.txt", "content": "x", "run_id": work.run}
    return {
        "get_run": ("get_run", {"run_id": work.run}),
        "get_run journal": ("get_run", {"run_id": work.run, "view": "journal"}),
        "list_checkpoints": ("list_checkpoints", {"run_id": work.run}),
        "start_run below hers": ("start_run", {"goal": "mine", "parent_run_id": work.run}),
        "finish_run": ("finish_run", {"run_id": work.run}),
        "create_checkpoint": ("create_checkpoint", {"run_id": work.run, "label": "mine"}),
        "resume_from": ("resume_from", {"checkpoint_id": work.checkpoint}),
        "resume_from with restore": ("resume_from", {"checkpoint_id": work.checkpoint, "restore": True}),
        "rollback a run": ("rollback_run", {"run_id": work.run}),
        "rollback to a checkpoint": ("rollback_run", {"to_checkpoint": work.checkpoint}),
        "rollback actions": ("rollback_run", {"actions": [work.action]}),
        "rollback the last": ("rollback_run", {"run_id": work.run, "last": 1}),
        "rollback, seen": ("rollback_run", {"run_id": work.run, "dry_run": True}),
        "redo_rollback": ("redo_rollback", {"rollback_id": work.rollback}),
        "redo_rollback, seen": ("redo_rollback", {"rollback_id": work.rollback, "dry_run": True}),
        "restore_version": ("restore_version", {"object": "ada.txt", "version": work.version}),
        "resolve_conflict": ("resolve_conflict", {"conflict_id": work.conflict, "choice": "ours"}),
        "contain_run": ("contain_run", {"run_id": work.run, "reason": "spite"}),
        "an act in her run": ("write_file", write),
    }


def said(result: CallToolResult) -> str:
    return " ".join(getattr(block, "text", "") for block in result.content) + str(result.structured_content)


async def look(house: House, work: Work) -> list[Any]:
    async with house.connected(ADA, "modern") as ada:
        detail = data(await ada.call_tool("get_run", {"run_id": work.run, "view": "journal"}))
        return [detail["journal"], (house.workspace / "ada.txt").read_text()]


async def test_no_tool_reaches_what_is_somebody_elses(house: House, work: Work, era: str) -> None:
    before = await look(house, work)
    async with house.connected(BOB, era) as bob:
        for name, (tool, arguments) in calls(work).items():
            result = await bob.call_tool(tool, arguments)
            assert result.is_error, (name, said(result))
            assert FOREIGN.search(said(result)), (name, said(result))
            assert "a secret goal" not in said(result), name
    assert not (house.workspace / "bob-was-here.txt").exists()
    assert await look(house, work) == before


async def test_an_id_that_is_somebody_elses_and_one_that_is_nobodys_get_the_same_answer(
    house: House, work: Work
) -> None:
    nobodys = Work()
    for name, value in vars(work).items():
        kind, _, rest = value.partition("_")
        setattr(nobodys, name, f"{kind}_{'a' * 26}{rest[26:]}")
    async with house.connected(BOB, "modern") as bob:
        for (name, (tool, foreign)), (_, unknown) in zip(calls(work).items(), calls(nobodys).values(), strict=True):
            theirs, none = said(await bob.call_tool(tool, foreign)), said(await bob.call_tool(tool, unknown))
            for mine, other in zip(vars(work).values(), vars(nobodys).values(), strict=True):
                theirs, none = theirs.replace(mine, "ID"), none.replace(other, "ID")
            assert theirs == none, name


async def test_no_list_names_what_is_somebody_elses(house: House, work: Work, era: str) -> None:
    async with house.connected(BOB, era) as bob:
        for tool, arguments in (
            ("list_runs", {"limit": 500}),
            ("list_runs", {"touched": "ada.txt"}),
            ("list_checkpoints", {}),
            ("list_versions", {"object": "ada.txt"}),
            ("rollback_run", {"dry_run": True}),
        ):
            result = said(await bob.call_tool(tool, arguments))
            assert not any(id in result for id in vars(work).values()), (tool, result)


async def test_no_resource_shows_what_is_somebody_elses(house: House, work: Work, era: str) -> None:
    async with house.connected(BOB, era) as bob:
        assert work.run not in str(await bob.read_resource("takeback://runs"))
        for uri in (
            *(f"takeback://runs/{work.run}/{view}" for view in ("report", "journal", "diff")),
            *(f"takeback://conflicts/{work.conflict}/{which}" for which in ("base", "ours", "theirs")),
            *(f"takeback://objects/{work.action}/0/{side}" for side in ("before", "after")),
        ):
            with pytest.raises(MCPError):
                await bob.read_resource(uri)
    async with house.connected(ADA, era) as ada:
        assert work.run in str(await ada.read_resource("takeback://runs"))
        assert await ada.read_resource(f"takeback://conflicts/{work.conflict}/theirs")
        assert await ada.read_resource(f"takeback://objects/{work.action}/0/after")


async def test_no_completion_offers_what_is_somebody_elses(house: House, work: Work, era: str) -> None:
    prompt = PromptReference(type="ref/prompt", name="resume")
    kinds = {"run_id": work.run, "checkpoint_id": work.checkpoint, "rollback_id": work.rollback}
    kinds["conflict_id"] = work.conflict
    for token, sees in ((BOB, False), (ADA, True)):
        async with house.connected(token, era) as client:
            for name, id in kinds.items():
                offered = await client.complete(prompt, {"name": name, "value": id[:8]}, {"run_id": work.run})
                assert (id in offered.completion.values) is sees, (name, sees)


async def test_a_default_run_is_one_persons(house: House, era: str) -> None:
    runs = []
    for token in (ADA, BOB):
        async with house.connected(token, era) as client:
            done = await client.call_tool("write_file", {"path": f"default-{era}-{len(runs)}.txt", "content": "x"})
            runs.append(data(done)["run_id"])
    assert runs[0] != runs[1]


async def test_a_key_of_one_person_is_free_for_another(house: House, era: str) -> None:
    for token, content in ((ADA, "hers"), (BOB, "his")):
        async with house.connected(token, era) as client:
            path = f"key-{era}-{content}.txt"
            call = {"path": path, "content": content, "idempotency_key": f"same-{era}"}
            assert data(await client.call_tool("write_file", call))["status"] == "applied"


async def test_one_person_does_not_consent_for_another(house: House) -> None:
    announce = call_body("announce", {"text": "only with her consent", "idempotency_key": "consent"})
    announce["params"]["_meta"] = ENVELOPE | {
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}
    }
    async with httpx2.AsyncClient() as http:
        asked = (await http.post(house.url, json=announce, headers=call_headers(ADA, "announce"))).json()["result"]
        assert asked["resultType"] == "input_required"
        announce["params"] |= {
            "requestState": asked["requestState"],
            "inputResponses": {"approval": {"action": "accept", "content": {"approve": True}}},
        }
        stolen = (await http.post(house.url, json=announce, headers=call_headers(BOB, "announce"))).json()
        assert "requestState" in stolen["error"]["message"]
        hers = (await http.post(house.url, json=announce, headers=call_headers(ADA, "announce"))).json()
        assert hers["result"]["structuredContent"]["status"] == "applied"


async def test_the_same_question_of_two_people_is_two_questions(house: House) -> None:
    asked: list[str] = []

    async def refuse(context: Any, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="decline")

    for token in (ADA, BOB):
        async with house.connected(token, "modern", elicitation_callback=refuse) as client:
            result = await client.call_tool("announce", {"text": "asked of both"})
            assert data(result)["status"] == "denied"
    assert len(asked) == 2


@pytest.mark.parametrize("signed", [False, True])
async def test_a_session_is_of_no_use_to_anybody_else(house: House, issuer: Issuer, signed: bool) -> None:
    hers, his = (issuer.token("carol"), issuer.token("dave")) if signed else (ADA, BOB)
    begin = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
    }  # fmt: skip
    legacy = {"mcp_protocol_version": "2025-11-25"}
    async with httpx2.AsyncClient() as http:
        session = (await http.post(house.url, json=begin, headers=headers(hers, **legacy))).headers["mcp-session-id"]
        for method in ("POST", "GET", "DELETE"):
            answer = await http.request(
                method,
                house.url,
                json={"jsonrpc": "2.0", "id": 2, "method": "tools/list"} if method == "POST" else None,
                headers=headers(his, mcp_session_id=session, **legacy),
            )
            assert answer.status_code == 404, method
        mine = await http.delete(house.url, headers=headers(hers, mcp_session_id=session, **legacy))
        assert mine.status_code == 200


async def test_a_task_is_one_persons(house: House) -> None:
    now = "2026-11-20T18:30:00.000Z"
    task = TaskRecord(
        id=fresh_task_id(), principal="token:ada", tool="rollback_run", rollback_id=new_rollback_id(),
        created_at=now, updated_at=now, status="completed", result={},
    )  # fmt: skip
    TaskStore(house.data).save(task)
    extension = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    params = {"taskId": task.id, "_meta": ENVELOPE | {"io.modelcontextprotocol/clientCapabilities": extension}}
    async with httpx2.AsyncClient() as http:
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            more = {"inputResponses": {}} if method == "tasks/update" else {}
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | more}
            for token, answered in ((BOB, False), (ADA, True)):
                named = headers(token, mcp_method=method, mcp_name=task.id)
                answer = (await http.post(house.url, json=body, headers=named)).json()
                assert ("result" in answer) is answered, answer
                assert answered or "no such task" in answer["error"]["message"]


async def test_who_watches_is_told_of_their_own_runs_only(house: House) -> None:
    async def listen(client: Client, told: asyncio.Event) -> None:
        async with client.listen(resource_subscriptions=["takeback://runs"]) as events:
            ready.release()
            async for _ in events:
                told.set()

    ready, told = asyncio.Semaphore(0), {ADA: asyncio.Event(), BOB: asyncio.Event()}
    async with house.connected(ADA, "modern") as ada, house.connected(BOB, "modern") as bob:
        watching = [asyncio.create_task(listen(client, told[token])) for token, client in ((ADA, ada), (BOB, bob))]
        try:
            await ready.acquire()
            await ready.acquire()
            await ada.call_tool("start_run", {"goal": "watched"})
            async with asyncio.timeout(10):
                await told[ADA].wait()
            await bob.list_tools()  # by now bob would have been told too
            assert not told[BOB].is_set()
            await bob.call_tool("start_run", {"goal": "his own"})
            async with asyncio.timeout(10):
                await told[BOB].wait()
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
