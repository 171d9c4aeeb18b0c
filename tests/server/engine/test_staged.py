"""Staged runs: their own changes are seen by them and by nobody else, and are published all or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench
from tests.server.engine.many import status
from tests.server.engine.test_plans import collected, finish
from tests.server.engine.test_shadow import plant, world
from tests.tools.files_system.signature import signature

from takeback.server.engine.calls import Call
from takeback.server.settings import ToolSettings


@pytest.fixture
async def files(open_bench: OpenBench) -> Bench:
    bench = await open_bench(tools=ToolSettings())
    (bench.work / "d" / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "d/f", "d/sub/g"):
        (bench.work / name).write_text(f"one {name}\n")
    return bench


async def staged(bench: Bench, run: str, tool: str, **arguments: Any) -> Any:
    answer = await bench.call(tool, run, **arguments)
    assert answer.status == "staged", answer.error
    return answer


async def read(bench: Bench, tool: str, run: str | None, **arguments: Any) -> dict[str, Any]:
    answer = await bench.engine.read(Call(tool=tool, arguments=arguments, caller=ALICE, run_id=run))
    return {"error": answer.error.code} if answer.error is not None else dict(answer.result or {})


async def names(bench: Bench, run: str | None, path: str = "") -> list[str]:
    listing = await read(bench, "list_directory", run, path=path, recursive=True)
    return [entry["path"] for entry in listing["entries"]]


async def test_a_run_reads_lists_and_searches_what_it_has_staged_and_nobody_else_sees_it(files: Bench) -> None:
    before = signature(files.work, folder_times=False)
    run = await files.start(mode="staged")
    answer = await staged(files, run, "write_file", path="new/x.txt", content="staged\n")
    assert answer.result["created"] is True and answer.preview and any("finish_run" in text for text in answer.warnings)
    edit = [{"old_text": "staged", "new_text": "edited"}]
    await staged(files, run, "edit_file", path="new/x.txt", edits=edit, expected_digest=answer.digest)
    await staged(files, run, "move_file", source="d", destination="e")
    await staged(files, run, "edit_file", path="e/f", edits=[{"old_text": "one", "new_text": "two"}])
    await staged(files, run, "copy_file", source="e/sub", destination="copied")
    dry = await files.call("delete_file", run, path="copied/g", dry_run=True)
    assert dry.status == "shadowed" and "delete copied/g" in dry.summary
    await staged(files, run, "delete_file", path="b.txt")
    assert (await read(files, "read_file", run, path="new/x.txt"))["content"] == "edited\n"
    assert (await read(files, "read_file", run, path="e/f"))["content"] == "two d/f\n"
    assert (await read(files, "read_file", run, path="copied/g"))["content"] == "one d/sub/g\n"
    assert (await read(files, "read_file", run, path="d/f"))["error"] == "not_found"
    assert (await read(files, "get_file_info", run, path="b.txt"))["error"] == "not_found"
    assert await names(files, run) == [
        "a.txt", "copied", "copied/g", "e", "e/f", "e/sub", "e/sub/g", "new", "new/x.txt",
    ]  # fmt: skip
    assert await names(files, run, "e") == ["e/f", "e/sub", "e/sub/g"]
    found = await read(files, "search_files", run, pattern="**", content="two|edited")
    assert [match["path"] for match in found["matches"]] == ["e/f", "new/x.txt"]
    assert "b.txt" in await names(files, None) and (await read(files, "read_file", None, path="d/f"))["content"]
    foreign = await files.engine.read(Call(tool="read_file", arguments={"path": "a.txt"}, caller=BOB, run_id=run))
    assert foreign.error is not None and foreign.error.code == "not_found"
    assert signature(files.work, folder_times=False) == before
    done = await finish(files, run)
    assert done.error is None, done.error
    there = sorted(str(path.relative_to(files.work)) for path in files.work.rglob("*") if ".takeback" not in path.parts)
    assert there == ["a.txt", "copied", "copied/g", "e", "e/f", "e/sub", "e/sub/g", "new", "new/x.txt"]
    assert (files.work / "e" / "f").read_text() == "two d/f\n" and (files.work / "new/x.txt").read_text() == "edited\n"
    assert (await files.back(run_id=run)).status == "complete"
    assert signature(files.work, folder_times=False) == before, "once published, it is taken back as usual"


async def test_what_cannot_be_on_the_stage_is_refused_as_it_would_be(files: Bench) -> None:
    run = await files.start(mode="staged")
    await staged(files, run, "delete_file", path="a.txt")
    for tool, arguments, code in (
        ("edit_file", {"path": "a.txt", "edits": [{"old_text": "one", "new_text": "two"}]}, "not_found"),
        ("delete_file", {"path": "a.txt"}, "not_found"),
        ("move_file", {"source": "b.txt", "destination": "d/f"}, "exists"),
        ("delete_file", {"path": "d"}, "not_empty"),
        ("move_file", {"source": "d", "destination": "d/sub/x"}, "into_itself"),
        ("write_file", {"path": "d", "content": "x"}, "is_directory"),
        ("create_directory", {"path": "d"}, "exists"),
    ):
        answer = await files.call(tool, run, **arguments)
        assert answer.error is not None and answer.error.code == code, (tool, answer)
    await staged(files, run, "write_file", path="a.txt", content="anew")
    assert (await read(files, "read_file", run, path="a.txt"))["content"] == "anew"
    assert await collected(files, run) == ["collected", "collected"]


async def test_drift_of_anything_means_that_nothing_is_published_and_says_of_what(files: Bench) -> None:
    run = await files.start(mode="staged")
    await staged(files, run, "write_file", path="new", content="x")
    await staged(files, run, "write_file", path="b.txt", content="ours")
    (files.work / "b.txt").write_text("theirs")
    refused = await finish(files, run)
    assert refused.error is not None and refused.error.code == "drifted", refused
    assert "Step 2" in refused.error.message and "b.txt" in refused.error.message
    assert not (files.work / "new").exists() and (files.work / "b.txt").read_text() == "theirs"
    assert await collected(files, run) == ["collected", "collected"] and await status(files, run) == "open"
    assert (await files.back(run_id=run)).status == "complete"
    await staged(files, run, "write_file", path="b.txt", content="ours, having seen it")
    assert (await finish(files, run)).status == "finished"
    assert (files.work / "b.txt").read_text() == "ours, having seen it"


async def test_a_failure_on_the_way_takes_back_what_was_published_before_it(files: Bench) -> None:
    before = signature(files.work, folder_times=False)
    run = await files.start(mode="staged")
    await staged(files, run, "write_file", path="a.txt", content="ours")
    await staged(files, run, "write_file", path="z.txt", content="ours")
    system: Any = files.engine.core.systems["files"]
    swap = system.swap

    async def meddled(effects: Any) -> Any:
        result = await swap(effects)
        (files.work / "z.txt").write_text("theirs, at the worst moment")
        return result

    system.swap = meddled
    refused = await finish(files, run)
    system.swap = swap
    assert refused.error is not None and "taken back" in refused.error.message, refused
    assert refused.made == []
    assert (files.work / "z.txt").read_text() == "theirs, at the worst moment"
    (files.work / "z.txt").unlink()
    assert signature(files.work, folder_times=False) == before
    assert await collected(files, run) == ["taken_back", "taken_back"]


async def test_all_families_are_held_back_and_published_together(open_bench: OpenBench) -> None:
    bench = await open_bench(tools=ToolSettings())
    data = plant(bench)
    await bench.call("execute_sql", await bench.start(), database="app.db", sql="UPDATE t SET v = v")
    before = world(bench, data)
    run = await bench.start(mode="staged")
    await staged(bench, run, "write_file", path="a.txt", content="new")
    sql = await staged(bench, run, "execute_sql", database="app.db", sql="INSERT INTO t (v) VALUES ('staged')")
    assert any("without it" in warning for warning in sql.warnings), "reads do not see it, and that is said"
    await staged(bench, run, "update_event", calendar="default", event_id="standup", summary="Other")
    await staged(bench, run, "send_email", to=["bob@example.org"], subject="Hi", body="Hello")
    assert world(bench, data) == before and not await bench.engine.core.outbox.rows(ALICE.principal)
    done = await finish(bench, run)
    assert done.error is None and len(done.made) == 4, done.error
    assert (bench.work / "a.txt").read_text() == "new"
    assert [row.status for row in await bench.engine.core.outbox.rows(ALICE.principal)] == ["HELD"]
    rows = await read(bench, "query_database", None, database="app.db", sql="SELECT v FROM t")
    assert "staged" in str(rows)
    assert (await bench.back(run_id=run)).status == "complete"


async def test_what_cannot_be_put_back_is_not_staged(bench: Bench) -> None:
    run = await bench.start(mode="staged")
    for tool in ("announce", "post_note"):
        answer = await bench.call(tool, run, text="hello")
        assert answer.error is not None and answer.error.code == "not_staged", tool
    assert await collected(bench, run) == []


async def test_another_process_sees_the_stage_as_well(open_bench: OpenBench) -> None:
    one, two = await open_bench(tools=ToolSettings()), await open_bench(tools=ToolSettings())
    run = await one.start(mode="staged")
    await staged(one, run, "write_file", path="a.txt", content="1")
    assert (await read(two, "read_file", run, path="a.txt"))["content"] == "1"
    await staged(two, run, "write_file", path="b.txt", content="2")
    assert await names(one, run) == ["a.txt", "b.txt"]
    assert (await finish(two, run)).status == "finished"
    assert await names(one, run) == ["a.txt", "b.txt"], "they are real now"


async def test_a_stage_that_no_longer_fits_the_world_is_not_shown_half(open_bench: OpenBench) -> None:
    bench = await open_bench(tools=ToolSettings())
    (bench.work / "a.txt").write_text("one")
    run = await bench.start(mode="staged")
    await staged(bench, run, "edit_file", path="a.txt", edits=[{"old_text": "one", "new_text": "two"}])
    (bench.work / "a.txt").write_text("something else")
    other = await open_bench(tools=ToolSettings())
    assert (await read(other, "read_file", run, path="a.txt"))["error"] == "stage_drifted"
    assert (await other.back(run_id=run)).status == "complete"
    assert (await read(other, "read_file", run, path="a.txt"))["content"] == "something else"


async def test_a_file_read_on_the_stage_and_changed_by_somebody_since_is_stale(files: Bench) -> None:
    run = await files.start(mode="staged")
    await read(files, "read_file", run, path="a.txt")
    (files.work / "a.txt").write_text("somebody else's")
    answer = await files.call("write_file", run, path="a.txt", content="unseen")
    assert answer.error is not None and answer.error.code == "stale_read"
