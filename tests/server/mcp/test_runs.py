"""The tools about runs, each through the protocol, on real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.server.mcp.eras import Connect, data, words


async def test_a_task_is_begun_done_taken_back_and_brought_back(connect: Connect, workspace: Path) -> None:
    async with connect() as client:
        started = await client.call_tool("start_run", {"goal": "write two files", "steps": ["a", "b"]})
        run = data(started)["run_id"]
        assert run in words(started)
        for name in ("a", "b"):
            await client.call_tool("write_file", {"path": f"{name}.txt", "content": name, "run_id": run, "step": name})
        ended = await client.call_tool("finish_run", {"run_id": run, "summary": "two files"})
        assert data(ended)["status"] == "finished"

        plan = await client.call_tool("rollback_run", {"run_id": run, "dry_run": True})
        assert data(plan)["status"] == "planned"
        assert data(plan)["plan_digest"] in words(plan)
        assert (workspace / "a.txt").exists()

        back = await client.call_tool("rollback_run", {"run_id": run, "plan_digest": data(plan)["plan_digest"]})
        assert data(back)["status"] == "complete", words(back)
        assert [step["outcome"] for step in data(back)["steps"]] == ["restored", "restored"]
        assert data(back)["open_items"] == []
        assert sorted(path.name for path in workspace.iterdir() if path.suffix) == ["notes.txt"]
        assert data(back)["rollback_id"] in words(back)

        again = await client.call_tool("redo_rollback", {"rollback_id": data(back)["rollback_id"]})
        assert data(again)["status"] == "complete", words(again)
        assert (workspace / "b.txt").read_text() == "b"


async def test_runs_are_listed_and_looked_at_in_every_view(connect: Connect) -> None:
    async with connect() as client:
        run = data(await client.call_tool("start_run", {"goal": "change notes"}))["run_id"]
        await client.call_tool("read_file", {"path": "notes.txt"})
        edit = {"path": "notes.txt", "edits": [{"old_text": "two", "new_text": "2"}], "run_id": run}
        assert not (await client.call_tool("edit_file", edit)).is_error
        listed = await client.call_tool("list_runs", {"status": "open"})
        assert [item["run_id"] for item in data(listed)["runs"]] == [run]
        assert run in words(listed)
        for view in ("summary", "report", "diff", "journal"):
            looked = await client.call_tool("get_run", {"run_id": run, "view": view})
            assert data(looked)["run"]["run_id"] == run
            assert words(looked)
            if view == "diff":
                assert "+2" in words(looked)
            if view == "journal":
                assert data(looked)["journal"]


async def test_a_named_checkpoint_is_resumed_from_in_a_new_run(connect: Connect, workspace: Path) -> None:
    async with connect() as client:
        run = data(await client.call_tool("start_run", {"goal": "two steps", "steps": ["one", "two"]}))["run_id"]
        await client.call_tool("write_file", {"path": "1.txt", "content": "1", "run_id": run, "step": "one"})
        named = await client.call_tool(
            "create_checkpoint",
            {
                "run_id": run,
                "label": "after one",
                "step": "one",
                "output": {"n": 1},
                "next_step": "two",
                "notes": [1, None],
            },
        )
        checkpoint = data(named)["checkpoint_id"]
        listed = data(await client.call_tool("list_checkpoints", {"run_id": run}))["checkpoints"]
        assert checkpoint in [item["checkpoint_id"] for item in listed]
        await client.call_tool("write_file", {"path": "2.txt", "content": "wrong", "run_id": run, "step": "two"})
        resumed = await client.call_tool("resume_from", {"checkpoint_id": checkpoint, "restore": True})
        brief = data(resumed)
    assert not resumed.is_error, words(resumed)
    assert brief["forked_from"]
    assert brief["run_id"] != run
    assert brief["run_id"] in words(resumed)
    assert brief["next_step"] == "two"
    assert brief["notes"] == [1, None]
    assert not (workspace / "2.txt").exists()


async def test_an_earlier_version_is_found_and_put_back(connect: Connect, workspace: Path) -> None:
    async with connect() as client:
        await client.call_tool("write_file", {"path": "notes.txt", "content": "all new\n"})
        versions = data(await client.call_tool("list_versions", {"object": "notes.txt"}))["versions"]
        [earlier] = [item["version"] for item in versions if item["version"].endswith(":before")]
        put = await client.call_tool("restore_version", {"object": "notes.txt", "version": earlier})
    assert not put.is_error, words(put)
    assert (workspace / "notes.txt").read_text() == "one\ntwo\nthree\n"


async def test_a_conflict_is_kept_shown_and_resolved(connect: Connect, workspace: Path) -> None:
    async with connect() as client:
        run = data(await client.call_tool("start_run", {"goal": "clash"}))["run_id"]
        await client.call_tool("write_file", {"path": "notes.txt", "content": "agent\n", "run_id": run})
        (workspace / "notes.txt").write_text("person\n")
        back = await client.call_tool("rollback_run", {"run_id": run})
        assert data(back)["status"] == "partial", words(back)
        [item] = data(back)["open_items"]
        assert item["conflict_id"] in words(back)
        assert (workspace / "notes.txt").read_text() == "person\n"
        for which, text in (("theirs", "person\n"), ("ours", "one\ntwo\nthree\n"), ("base", "agent\n")):
            read = await client.read_resource(f"takeback://conflicts/{item['conflict_id']}/{which}")
            assert read.contents[0].text == text  # type: ignore[union-attr] -- it is a text
        call = {"conflict_id": item["conflict_id"], "choice": "content", "content": "both\n"}
        solved = await client.call_tool("resolve_conflict", call)
    assert not solved.is_error, words(solved)
    assert (workspace / "notes.txt").read_text() == "both\n"


async def test_a_contained_run_reads_and_is_taken_back_but_acts_no_more(connect: Connect, workspace: Path) -> None:
    async with connect() as client:
        run = data(await client.call_tool("start_run", {"goal": "goes wrong"}))["run_id"]
        await client.call_tool("write_file", {"path": "bad.txt", "content": "x", "run_id": run})
        held = await client.call_tool("contain_run", {"run_id": run, "reason": "it writes nonsense"})
        assert data(held)["status"] == "contained"
        more = await client.call_tool("write_file", {"path": "worse.txt", "content": "x", "run_id": run})
        assert more.is_error
        assert (await client.call_tool("get_run", {"run_id": run})).is_error is False
        back = await client.call_tool("rollback_run", {"run_id": run})
    assert data(back)["status"] == "complete", words(back)
    assert not (workspace / "bad.txt").exists()
    assert not (workspace / "worse.txt").exists()


async def test_without_a_run_calls_share_a_default_one_that_is_taken_back_only_by_its_plan(connect: Connect) -> None:
    async with connect() as client:
        first = data(await client.call_tool("write_file", {"path": "a.txt", "content": "a"}))
        second = data(await client.call_tool("write_file", {"path": "b.txt", "content": "b"}))
        assert first["run_id"] == second["run_id"]
        shown = await client.call_tool("rollback_run", {"run_id": first["run_id"]})
        digest = data(shown)["plan_digest"]
        assert data(shown)["status"] in ("planned", "failed")
        done = await client.call_tool("rollback_run", {"run_id": first["run_id"], "plan_digest": digest})
        assert data(done)["status"] == "complete"


async def test_ids_that_are_not_there_are_refused_alike(connect: Connect) -> None:
    strange = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
    calls = [
        ("get_run", {"run_id": f"run_{strange}"}),
        ("finish_run", {"run_id": f"run_{strange}"}),
        ("create_checkpoint", {"run_id": f"run_{strange}", "label": "x"}),
        ("contain_run", {"run_id": f"run_{strange}", "reason": "x"}),
        ("rollback_run", {"run_id": f"run_{strange}"}),
        ("redo_rollback", {"rollback_id": f"rbk_{strange}"}),
        ("resume_from", {"checkpoint_id": f"chk_{strange}"}),
        ("resolve_conflict", {"conflict_id": f"cfl_{strange}", "choice": "theirs"}),
    ]
    async with connect() as client:
        for name, arguments in calls:
            result = await client.call_tool(name, arguments)
            assert result.is_error, name
            assert data(result)["error"]["code"] == "not_found", (name, words(result))


async def test_arguments_of_the_tools_about_runs_are_strict(connect: Connect) -> None:
    calls = [
        ("start_run", {"goal": ""}, "goal"),
        ("start_run", {"goal": "x", "mode": "yolo"}, "mode"),
        ("rollback_run", {"last": "1"}, "last"),
        ("rollback_run", {"last": 0}, "last"),
        ("rollback_run", {"everything": True}, "there is no argument 'everything'"),
        ("resolve_conflict", {"conflict_id": "cfl_x"}, "the argument 'choice' is missing"),
        ("list_runs", {"limit": 100_000}, "limit"),
    ]
    async with connect() as client:
        for name, arguments, fact in calls:
            result = await client.call_tool(name, arguments)
            assert result.is_error, name
            assert data(result)["error"]["code"] == "invalid"
            assert fact in words(result)


async def test_arguments_that_do_not_fit_have_one_code_whatever_the_kind_of_tool(connect: Connect) -> None:
    reading, acting, about_runs = "read_file", "write_file", "rollback_run"
    calls: list[tuple[str, dict[str, Any]]] = [(name, {"nothing": 1}) for name in (reading, acting, about_runs)]
    calls += [(acting, {"path": "a", "content": "b", "run_id": 7}), (about_runs, {"run_id": 7})]
    async with connect() as client:
        refused = [await client.call_tool(name, arguments) for name, arguments in calls]
    assert [data(result)["error"]["code"] for result in refused] == ["invalid"] * len(calls)


async def test_words_call_files_as_people_do_also_where_nothing_is_done(connect: Connect, workspace: Path) -> None:
    async with connect() as client:
        runs = [data(await client.call_tool("start_run", {"goal": goal}))["run_id"] for goal in ("first", "second")]
        await client.call_tool("write_file", {"path": "both.txt", "content": "a\nb\n", "run_id": runs[0]})
        await client.call_tool("write_file", {"path": "both.txt", "content": "c\n", "run_id": runs[1]})
        held = await client.call_tool("rollback_run", {"run_id": runs[0]})
        [item] = data(held)["open_items"]
        assert words(held).count(item["conflict_id"]) == 1
        assert f"`both.txt` ({item['conflict_id']})" in words(held)
        assert str(workspace) not in words(held)


async def test_an_ended_run_says_once_how_it_ended_and_what_is_left(connect: Connect) -> None:
    async with connect() as client:
        run = data(await client.call_tool("start_run", {"goal": "g", "steps": ["a", "b"]}))["run_id"]
        ended = words(await client.call_tool("finish_run", {"run_id": run}))
        assert ended == f"Run {run} is finished. 0 of 2 steps done."
        report = data(await client.call_tool("get_run", {"run_id": run, "view": "report"}))["report"]
        assert report["first_step"] == "Begin with the step `a` in a new run, if it is still wanted."
        failed = data(await client.call_tool("start_run", {"goal": "g"}))["run_id"]
        told = words(await client.call_tool("finish_run", {"run_id": failed, "status": "failed", "summary": "no way"}))
        assert told.startswith(f"Run {failed} is failed.") and "The run was given up: no way." in told


async def test_all_tools_say_in_the_same_words_what_does_not_fit(connect: Connect) -> None:
    calls: list[tuple[str, dict[str, Any], str]] = [
        (
            "write_file",
            {"path": "a", "colour": "red"},
            "the argument 'content' is missing; there is no argument 'colour'",
        ),
        ("write_file", {"path": 3, "content": "x"}, "'path': input should be a valid string"),
        ("edit_file", {"path": "a", "edits": [{"old": "x"}]}, "the argument 'edits.0.old_text' is missing"),
        ("read_file", {}, "the argument 'path' is missing"),
        ("rollback_run", {"all": True}, "there is no argument 'all'"),
    ]
    async with connect() as client:
        for name, arguments, fact in calls:
            said = data(await client.call_tool(name, arguments))["error"]
            assert said["message"].startswith(f"The arguments of {name} do not fit: ") and fact in said["message"]
            assert said["advice"].startswith(("It takes ", "All that it takes is optional: "))
            assert ("idempotency_key" in said["advice"]) == (name in ("write_file", "edit_file"))


async def test_runs_are_read_as_resources_and_ids_are_completed(connect: Connect) -> None:
    from mcp_types import ResourceTemplateReference

    async with connect() as client:
        run = data(await client.call_tool("start_run", {"goal": "resources"}))["run_id"]
        await client.call_tool("write_file", {"path": "r.txt", "content": "r\n", "run_id": run})
        for uri, kind in (
            ("takeback://runs", "application/json"),
            (f"takeback://runs/{run}/report", "text/markdown"),
            (f"takeback://runs/{run}/journal", "application/json"),
            (f"takeback://runs/{run}/diff", "text/x-diff"),
        ):
            [content] = (await client.read_resource(uri)).contents
            assert content.mime_type == kind
            assert content.text  # type: ignore[union-attr] -- it is a text
        template = ResourceTemplateReference(uri="takeback://runs/{run_id}/report")
        offered = await client.complete(template, {"name": "run_id", "value": run[:6]})
        assert offered.completion.values == [run]
        checkpoints = await client.complete(
            template, {"name": "checkpoint_id", "value": "chk_"}, context_arguments={"run_id": run}
        )
        assert all(value.startswith("chk_") for value in checkpoints.completion.values)
        assert checkpoints.completion.values
        assert (await client.complete(template, {"name": "nothing", "value": ""})).completion.values == []
        for prompt, arguments in (
            ("resume", {"run_id": run}),
            ("undo_last", {}),
            ("plan_before_acting", {"task": "tidy up"}),
        ):
            [message] = (await client.get_prompt(prompt, arguments)).messages
            assert message.role == "user"
