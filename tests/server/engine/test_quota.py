"""What would exceed a quota is said before it happens, and waits for a person."""

from __future__ import annotations

from tests.server.engine.bench import ALICE, OpenBench

from takeback.server.settings import LimitSettings, ToolSettings

BIG = 200_000


async def test_a_file_too_large_for_the_trash_is_deleted_only_with_consent(open_bench: OpenBench) -> None:
    bench = await open_bench(
        tools=ToolSettings(), limits=LimitSettings(ballast_bytes=4096, trash_bytes=100_000, object_bytes=100_000)
    )
    big = bench.work / "big.bin"
    big.write_bytes(b"x" * BIG)
    run = await bench.start()
    shown = await bench.call("delete_file", run, path="big.bin", dry_run=True)
    assert shown.reversibility == "irreversible" and shown.warnings and big.exists()
    pending = await bench.call("delete_file", run, path="big.bin")
    assert pending.status == "pending_approval" and big.exists()
    assert pending.question and "big.bin" in pending.question and "irreversible" in pending.question
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    done = await bench.call("delete_file", run, path="big.bin")
    assert done.status == "applied" and done.undo is None and not big.exists()
    back = await bench.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["irreversible"] and back.status == "partial"
    assert back.open_items and back.open_items[0].kind == "irreversible"


async def test_consent_is_void_when_the_file_changed_meanwhile(open_bench: OpenBench) -> None:
    bench = await open_bench(
        tools=ToolSettings(), limits=LimitSettings(ballast_bytes=4096, trash_bytes=100_000, object_bytes=100_000)
    )
    big = bench.work / "big.bin"
    big.write_bytes(b"x" * BIG)
    run = await bench.start()
    pending = await bench.call("delete_file", run, path="big.bin")
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    big.write_bytes(b"y" * BIG)
    again = await bench.call("delete_file", run, path="big.bin")
    assert again.status == "pending_approval" and again.approval_id != pending.approval_id and big.exists()


async def test_small_files_are_undoable_beside_a_full_trash(open_bench: OpenBench) -> None:
    bench = await open_bench(tools=ToolSettings(), limits=LimitSettings(ballast_bytes=4096, trash_bytes=1))
    (bench.work / "a.txt").write_text("before")
    run = await bench.start()
    await bench.done("write_file", run, path="a.txt", content="after")
    back = await bench.back(run_id=run)
    assert back.status == "complete" and (bench.work / "a.txt").read_text() == "before"
