"""A trigger contains a run and wants it taken back, and the machine dies in between: the next start does the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.server.engine.conftest import open_bench as open_bench
from tests.server.engine.many import status
from tests.server.guarding.test_guard import triggers

from takeback.journal.log import JournalBroken
from takeback.server.settings import ToolSettings

FILES: dict[str, Any] = {"tools": ToolSettings(off=("database", "calendar", "email"))}
TAKEN_BACK = {**FILES, **triggers(blast_radius={"objects": 2, "answer": "rollback"})}


async def dies_after(bench: Bench, *, event: str) -> str:
    """A run passes its bound, and the machine dies as soon as this event is durable."""
    run = await bench.start()
    (bench.work / "a.txt").write_text("before\n")
    for name in "ab":
        await bench.done("write_file", run, path=f"{name}.txt", content="damage\n")
    real = bench.engine.core.journal.append
    gone: list[bool] = []

    async def last(events: Any, **more: Any) -> Any:
        if gone:
            raise JournalBroken("the machine is gone")
        written = await real(events, **more)
        gone.extend(True for each in events if each.type == event)
        return written

    bench.engine.core.journal.append = last  # type: ignore[method-assign]  # a machine that dies at the worst moment
    answer = await bench.call("write_file", run, path="c.txt", content="damage\n")
    assert answer.status in ("denied", "failed") and gone
    bench.engine.core.journal.append = real  # type: ignore[method-assign]  # for what a person does elsewhere
    return run


def files(bench: Bench) -> dict[str, str]:
    return {path.name: path.read_text() for path in bench.work.glob("*.txt")}


@pytest.mark.parametrize("event", ["run.contained", "rollback.started"])
async def test_the_next_start_takes_back_what_a_trigger_wanted_taken_back(open_bench: OpenBench, event: str) -> None:
    bench = await open_bench(**TAKEN_BACK)
    run = await dies_after(bench, event=event)
    assert files(bench) == {"a.txt": "damage\n", "b.txt": "damage\n"}
    later = await open_bench(**TAKEN_BACK)
    assert files(later) == {"a.txt": "before\n"} and await status(later, run) == "contained"
    events = len(await later.engine.core.journal.read())
    await open_bench(**TAKEN_BACK)
    assert len(await later.engine.core.journal.read()) == events, "once"


async def released(bench: Bench, run: str) -> None:
    await bench.engine.release_run(ALICE, run)


async def tightened(bench: Bench, run: str) -> None:
    await bench.engine.contain_run(ALICE, run, "I want to look at it", level="quarantined")


@pytest.mark.parametrize("decide", [released, tightened])
async def test_a_run_that_a_person_has_decided_about_is_theirs(
    open_bench: OpenBench, decide: Callable[[Bench, str], Awaitable[None]]
) -> None:
    bench = await open_bench(**TAKEN_BACK)
    run = await dies_after(bench, event="run.contained")
    await decide(bench, run)
    later = await open_bench(**TAKEN_BACK)
    assert files(later) == {"a.txt": "damage\n", "b.txt": "damage\n"}


async def test_a_run_that_a_trigger_wanted_contained_only_is_not_taken_back(open_bench: OpenBench) -> None:
    settings = {**FILES, **triggers(blast_radius={"objects": 2})}
    bench = await open_bench(**settings)
    run = await dies_after(bench, event="run.contained")
    later = await open_bench(**settings)
    assert files(later) == {"a.txt": "damage\n", "b.txt": "damage\n"} and await status(later, run) == "contained"


async def test_what_a_person_wrote_meanwhile_is_kept_and_stays_open(open_bench: OpenBench) -> None:
    bench = await open_bench(**TAKEN_BACK)
    run = await dies_after(bench, event="run.contained")
    (bench.work / "a.txt").write_text("somebody else's\n")
    later = await open_bench(**TAKEN_BACK)
    assert files(later) == {"a.txt": "somebody else's\n"}
    assert [item.kind for item in await later.engine.open_items(ALICE, run_id=run)] == ["conflict"]
    events = len(await later.engine.core.journal.read())
    await open_bench(**TAKEN_BACK)
    assert len(await later.engine.core.journal.read()) == events, "what is open is a person's, and not tried again"


async def test_what_was_demanded_before_a_release_is_not_demanded_after_it(open_bench: OpenBench) -> None:
    bench = await open_bench(**TAKEN_BACK)
    run = await dies_after(bench, event="run.contained")
    await bench.engine.release_run(ALICE, run)
    milder = {**FILES, **triggers(blast_radius={"objects": 2})}
    again = await open_bench(**milder)
    told = [(await again.call("write_file", run, path=f"{name}.txt", content="more\n")).status for name in "abc"]
    assert told == ["applied", "applied", "denied"] and await status(again, run) == "contained"
    assert files(await open_bench(**milder)) == {"a.txt": "more\n", "b.txt": "more\n"}


async def test_where_nothing_stands_nothing_is_tried(open_bench: OpenBench, caplog: pytest.LogCaptureFixture) -> None:
    bench = await open_bench(**{**FILES, **triggers(target_confusion={"threshold": 1, "answer": "rollback"})})
    run = await bench.start(scope=["docs/**"])
    assert (await bench.call("write_file", run, path="a.txt", content="x")).status == "denied"
    assert await status(bench, run) == "contained"
    caplog.clear()
    await open_bench(**FILES)
    assert caplog.messages == []
