"""A system that raises whatever it likes, wherever it is asked: the step is named, and no run stays sealed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.server.engine.many import failing, status, with_many

from takeback.checkpoints.objects import ObjectMissing
from takeback.journal.log import JournalFull
from takeback.journal.views import OpenItem, RollbackView
from takeback.server.engine.answers import EngineError
from takeback.tools.system import Refused, Unavailable

LINES = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"
ERRORS: list[Callable[[], Exception]] = [
    lambda: RuntimeError("a fault of the system"),
    lambda: OSError(5, "input/output error"),
    lambda: ObjectMissing("no such object"),
    lambda: Refused("not now"),
    lambda: Unavailable("out of reach"),
]
names = ["RuntimeError", "OSError", "ObjectError", "Refused", "Unavailable"]


@pytest.mark.parametrize("error", ERRORS, ids=names)
@pytest.mark.parametrize("verb", ["look", "swap", "merge"])
@pytest.mark.parametrize("nth", [1, 2])
async def test_whatever_a_system_raises_no_rollback_breaks_off_and_no_run_stays_sealed(
    bench: Bench, error: Callable[[], Exception], verb: str, nth: int
) -> None:
    bench.memory.edit("a", LINES)
    run = await bench.start()
    await bench.set(run, "a", LINES.replace("one", "ONE"))
    await bench.set(run, "b", "1")
    theirs = LINES.replace("one", "ONE").replace("six", "six, by a person")
    bench.memory.edit("a", theirs)
    failing(bench, verb, error, at=lambda n: n >= nth)
    try:
        answer = await bench.back(run_id=run)
    except EngineError as failure:
        assert failure.advice
    else:
        said = {step.object: step.outcome for step in answer.steps}
        assert (said["b"] == "restored") == (bench.memory.get("b") is None)
    assert await status(bench, run) != "sealed"
    assert not await bench.engine.core.journal.find(RollbackView, status="running")
    assert bench.memory.get("a") in (theirs, LINES.replace("six", "six, by a person"))


@pytest.mark.parametrize("error", ERRORS, ids=names)
async def test_a_dry_run_is_shown_though_a_change_cannot_be_described(
    bench: Bench, error: Callable[[], Exception]
) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    failing(bench, "describe", error, at=lambda n: True)
    answer = await bench.back(run_id=run, dry_run=True)
    assert answer.status == "planned" and answer.plan_digest


@pytest.mark.parametrize(
    "error", [ERRORS[0], *ERRORS[2:4]], ids=[names[0], *names[2:4]]
)  # those that are not tried again
@pytest.mark.parametrize("verb", ["look", "swap"])
async def test_a_server_starts_although_what_a_process_left_cannot_be_finished_now(
    open_bench: OpenBench, error: Callable[[], Exception], verb: str
) -> None:
    one = await open_bench()
    run = await one.start()
    await one.set(run, "a", "1")
    await _dies_in_swap(one, lambda: one.back(run_id=run))
    from takeback.tools.memory_system import MemorySystem

    real = getattr(MemorySystem, verb)

    async def broken(*args: Any, **more: Any) -> Any:
        raise error()

    setattr(MemorySystem, verb, broken)
    try:
        two = await open_bench()
    finally:
        setattr(MemorySystem, verb, real)
    assert await status(two, run) != "sealed" or await two.engine.core.journal.find(RollbackView, status="running")
    three = await open_bench()
    try:
        await three.back(run_id=run)
    except EngineError as failure:
        assert failure.code == "nothing"
    assert three.memory.get("a") is None and await status(three, run) == "rolled_back"
    assert not await three.engine.core.journal.find(OpenItem, status="open")


async def test_a_rollback_that_cannot_be_read_does_not_keep_the_server_down(open_bench: OpenBench) -> None:
    one = await open_bench()
    run = await one.start()
    await one.set(run, "a", "1")
    await _dies_in_swap(one, lambda: one.back(run_id=run))
    from takeback.server.engine import rollback

    real = rollback.restored

    def unreadable(view: RollbackView) -> Any:
        raise ValueError("a plan of a later version")

    rollback.restored = unreadable
    try:
        await open_bench()
    finally:
        rollback.restored = real


class _Died(BaseException):
    """The process is gone."""


async def _dies_in_swap(bench: Bench, work: Callable[[], Awaitable[Any]]) -> None:
    """Die in the first swap, and write nothing any more."""
    journal = bench.engine.core.journal
    append = journal.append
    dead = False

    async def dying(*args: Any, **more: Any) -> Any:
        if dead:
            raise _Died
        return await append(*args, **more)

    async def die(*args: Any) -> Any:
        nonlocal dead
        dead = True
        raise _Died

    journal.append = dying  # type: ignore[method-assign] -- a fault, not a mock: the real journal is behind it
    bench.memory.swap = die  # type: ignore[method-assign] -- as above
    try:
        await work()
    except (_Died, BaseExceptionGroup):
        return
    raise AssertionError("it did not die")


@pytest.mark.parametrize("error", [ConnectionError("gone"), RuntimeError("odd"), asyncio.InvalidStateError("closed")])
async def test_a_listener_that_has_gone_does_not_stop_a_rollback(bench: Bench, error: Exception) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    await bench.set(run, "b", "1")

    async def gone(done: float, total: float | None, words: str) -> None:
        raise error

    answer = await bench.engine.rollback(ALICE, run_id=run, progress=gone)
    assert answer.status == "complete" and bench.memory.texts() == {} and await status(bench, run) == "rolled_back"


@pytest.mark.parametrize("at", ["lock", "seal", "plan", "swap"])
async def test_a_cancelled_rollback_leaves_no_run_sealed(bench: Bench, at: str) -> None:
    run = await bench.start()
    await bench.set(run, "a", "1")
    await bench.set(run, "b", "1")
    reached, go_on = asyncio.Event(), asyncio.Event()
    journal = bench.engine.core.journal
    append = journal.append

    async def hold() -> None:
        if not reached.is_set():
            reached.set()
            await go_on.wait()

    async def slow(events: Any, **more: Any) -> Any:
        kinds = {event.type for event in events}
        if (at == "seal" and "run.sealed" in kinds) or (at == "plan" and "rollback.started" in kinds):
            await hold()
        return await append(events, **more)

    async def step(name: str) -> None:
        if name == at:
            await hold()

    journal.append = slow  # type: ignore[method-assign] -- only slower
    bench.memory.on_step = step
    task = asyncio.create_task(bench.back(run_id=run))
    if at == "lock":
        reached.set()
    await reached.wait()
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await status(bench, run) in ("open", "rolled_back")
    assert not await journal.find(RollbackView, status="running")
    texts = bench.memory.texts()
    assert texts in ({}, {"a": "1", "b": "1"})
    assert (await status(bench, run) == "rolled_back") == (texts == {})


async def test_a_rollback_that_a_full_disk_stopped_goes_on_when_asked_again(bench: Bench) -> None:
    run = await bench.start()
    for key in "abc":
        await bench.set(run, key, "1")
    journal = bench.engine.core.journal
    append = journal.append
    full = True

    async def sometimes_full(events: Any, **more: Any) -> Any:
        if full and any(event.type == "rollback.finished" for event in events):
            raise JournalFull("the disk is full")
        return await append(events, **more)

    journal.append = sometimes_full  # type: ignore[method-assign] -- a fault, not a mock
    with pytest.raises(EngineError) as caught:
        await bench.back(run_id=run)
    assert "space" in caught.value.advice.lower()
    full = False
    answer = await bench.back(run_id=run)
    assert answer.status == "complete" and [step.outcome for step in answer.steps] == ["restored"] * 3
    assert await status(bench, run) == "rolled_back"


async def test_a_look_that_fails_in_settling_leaves_a_doubt_and_no_exception(bench: Bench) -> None:
    run = await bench.start()

    def fail(name: str) -> None:
        if name in ("swap", "look"):
            raise RuntimeError("odd")

    bench.memory.on_step = fail
    answer = await bench.call("set_value", run, key="a", value="1")
    assert answer.status == "in_doubt" and answer.error
    (item,) = await bench.engine.open_items(ALICE, run_id=run)
    assert item.kind == "in_doubt"


async def test_settling_is_bounded_in_time(open_bench: OpenBench) -> None:
    from takeback.server.settings import LimitSettings

    bench = await open_bench(limits=LimitSettings(ballast_bytes=0, step_seconds=0.05))
    run = await bench.start()

    async def hang(name: str) -> None:
        if name == "swap":
            raise ConnectionResetError("gone")
        if name == "look":
            await asyncio.Event().wait()

    bench.memory.on_step = hang
    answer = await asyncio.wait_for(bench.call("set_value", run, key="a", value="1"), 20)
    assert answer.status == "in_doubt"


async def test_states_of_a_second_drift_are_not_mixed_up_between_objects(bench: Bench) -> None:
    with_many(bench)
    run = await bench.start()
    bench.memory.edit("a", LINES)
    bench.memory.edit("b", LINES)
    one = LINES.replace("one", "ONE")
    await bench.done("set_many", run, values={"a": one, "b": one})
    rounds = 0

    def person(name: str) -> None:
        nonlocal rounds
        if name == "swap":
            rounds += 1
            if rounds == 1:
                bench.memory.edit("b", LINES)  # as it was before: nothing of ours is left there
                bench.memory.edit("a", one.replace("six", "six, by a person"))
            elif rounds == 2:
                bench.memory.edit("a", "all of it is a person's\n")

    bench.memory.on_step = person
    answer = await bench.back(run_id=run)
    assert bench.memory.get("a") == "all of it is a person's\n" and bench.memory.get("b") == LINES
    (item,) = answer.open_items
    assert item.object == "a"
    versions = await bench.engine.conflict_versions(ALICE, item.conflict_id)
    assert versions["theirs"] == b"all of it is a person's\n"


@pytest.mark.parametrize("choice", ["ours", "content"])
@pytest.mark.parametrize("error", ERRORS[:3], ids=names[:3])
async def test_a_resolution_that_fails_is_said_to_have_failed_and_is_not_made_later(
    open_bench: OpenBench, choice: Any, error: Callable[[], Exception]
) -> None:
    bench = await open_bench()
    bench.memory.edit("a", "one\n")
    run = await bench.start()
    await bench.set(run, "a", "two\n")
    bench.memory.edit("a", "theirs\n")
    conflict = (await bench.back(run_id=run)).open_items[0].conflict_id
    failing(bench, "swap", error, at=lambda n: True)
    with pytest.raises(EngineError):
        await bench.engine.resolve_conflict(ALICE, conflict, choice, content="x" if choice == "content" else None)
    assert not await bench.engine.core.journal.find(RollbackView, status="running")
    again = await open_bench()
    assert again.memory.get("a") == "theirs\n"
    assert [item.conflict_id for item in await again.engine.open_items(ALICE)] == [conflict]


@pytest.mark.parametrize("error", ERRORS, ids=names)
async def test_a_version_that_could_not_be_put_back_is_not_put_back_at_the_next_start(
    open_bench: OpenBench, error: Callable[[], Exception]
) -> None:
    bench = await open_bench()
    run = await bench.start()
    first = await bench.set(run, "a", "1")
    await bench.set(run, "a", "2")
    failing(bench, "swap", error, at=lambda n: True)
    with pytest.raises(EngineError):
        await bench.engine.restore_version(ALICE, "a", f"{first.action_id}:after")
    again = await open_bench()
    assert again.memory.get("a") == "2"
    assert not await again.engine.core.journal.find(RollbackView, status="running")


async def test_a_held_object_is_an_engine_error_when_resolving_and_restoring(open_bench: OpenBench) -> None:
    from takeback.server.settings import LimitSettings

    bench = await open_bench(limits=LimitSettings(ballast_bytes=0, step_seconds=0.05))
    bench.memory.edit("a", "one\n")
    run = await bench.start()
    first = await bench.set(run, "a", "two\n")
    bench.memory.edit("a", "theirs\n")
    conflict = (await bench.back(run_id=run)).open_items[0].conflict_id
    async with bench.engine.core.locks.hold(["memory:a"]):
        with pytest.raises(EngineError):
            await bench.engine.resolve_conflict(ALICE, conflict, "ours")
        with pytest.raises(EngineError):
            await bench.engine.restore_version(ALICE, "a", f"{first.action_id}:after")


async def test_a_cancelled_resolution_is_made_to_its_end_and_never_twice(open_bench: OpenBench) -> None:
    bench = await open_bench()
    bench.memory.edit("a", "one\n")
    run = await bench.start()
    await bench.set(run, "a", "two\n")
    bench.memory.edit("a", "theirs\n")
    conflict = (await bench.back(run_id=run)).open_items[0].conflict_id
    journal = bench.engine.core.journal
    append = journal.append
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(events: Any, **more: Any) -> Any:
        if any(event.type == "rollback.started" for event in events):
            reached.set()
            await go_on.wait()
        return await append(events, **more)

    journal.append = slow  # type: ignore[method-assign] -- only slower
    task = asyncio.create_task(bench.engine.resolve_conflict(ALICE, conflict, "ours"))
    await reached.wait()
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not await journal.find(RollbackView, status="running")
    item = await journal.get(OpenItem, conflict)
    assert item is not None and (item.status == "resolved") == (bench.memory.get("a") == "one\n")


async def test_care_never_ends_in_an_exception(bench: Bench) -> None:
    from takeback.server.engine.care import tend

    async def broken(*args: Any, **more: Any) -> int:
        raise Refused("nothing can be collected")

    bench.memory.collect = broken  # type: ignore[method-assign] -- a fault
    await tend(bench.engine.core)
