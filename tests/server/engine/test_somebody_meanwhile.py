"""Somebody is at the files while a process dies, or something is taken back: nothing of theirs is lost, all of it is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.server.engine.reaper import Died, Reaper, interpose

from takeback.journal.views import ActionView, OpenItem
from takeback.server.settings import ToolSettings

LARGE = b"what was there before\n" * 3000
"""More than travels with an intent: the trash alone has it."""


async def killed_after_its_swap(bench: Bench, name: str, tool: str, run: str, **arguments: Any) -> None:
    """A call whose process dies when the change is visible in a system, and nothing says so yet."""
    reaper, system = Reaper(0), bench.engine.core.systems[name]
    interpose(bench.engine.core, reaper)
    swap = system.swap

    async def dying(*given: Any) -> Any:
        await swap(*given)
        reaper.dead = True
        raise Died

    system.swap = dying  # type: ignore[method-assign] -- a fault, not a mock: the real system is behind it
    with pytest.raises(Died):
        await bench.call(tool, run, **arguments)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("delete_file", {}), ("write_file", {"content": "the agent's\n"})],
    ids=["delete", "write"],
)
@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
async def test_what_a_killed_call_took_away_can_be_had_though_somebody_made_the_file_anew(
    open_bench: OpenBench, tool: str, arguments: dict[str, Any], portable: bool
) -> None:
    first = await open_bench(tools=ToolSettings(), portable_files=portable)
    path = first.work / "f"
    path.write_bytes(LARGE)
    run = await first.start()
    await killed_after_its_swap(first, "files", tool, run, path="f", **arguments)
    path.unlink(missing_ok=True)
    path.write_bytes(b"theirs\n")
    second = await open_bench(tools=ToolSettings(), portable_files=portable)
    [action] = await second.engine.core.journal.find(ActionView)
    assert action.status == "applied", action
    answer = await second.back(run_id=run)
    assert [step.outcome for step in answer.steps] == ["conflict"]
    assert path.read_bytes() == b"theirs\n"
    [item] = answer.open_items
    await second.engine.resolve_conflict(ALICE, item.conflict_id, "ours")
    assert path.read_bytes() == LARGE


async def test_what_no_look_can_tell_after_a_death_is_left_to_a_person(open_bench: OpenBench) -> None:
    first = await open_bench()
    run = await first.start()
    await first.set(run, "k", "before")
    await killed_after_its_swap(first, "memory", "set_value", run, key="k", value="the agent's")
    first.memory.edit("k", "theirs, made of the agent's")
    second = await open_bench()
    [action] = await second.engine.core.journal.find(ActionView, status="in_doubt")
    [item] = await second.engine.core.journal.find(OpenItem, status="open")
    assert item.action_id == action.id and item.kind == "in_doubt"
    await second.engine.resolve_conflict(ALICE, item.id, "theirs")
    assert second.memory.get("k") == "theirs, made of the agent's"


def once(calls: Any, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Do something just before the next call of this name, and just after it."""
    call = getattr(calls, name)

    def wrapped(*given: Any) -> Any:
        setattr(calls, name, call)
        before()
        result = call(*given)
        after()
        return result

    setattr(calls, name, wrapped)


def save(path: Path, content: bytes) -> None:
    (path.parent / "fresh").write_bytes(content)
    os.replace(path.parent / "fresh", path)


def lines(first: str, last: str) -> bytes:
    return "".join(f"{line}\n" for line in [first, *range(2, 9), last]).encode()


async def test_where_a_save_lies_that_fell_between_two_is_told_though_the_step_was_merged_afterwards(
    open_bench: OpenBench,
) -> None:
    bench = await open_bench(tools=ToolSettings())
    path = bench.work / "f"
    path.write_bytes(lines("1", "9"))
    run = await bench.start()
    await bench.done("edit_file", run, path="f", edits=[{"old_text": "1\n", "new_text": "one\n"}])
    save(path, lines("one", "nine"))
    files: Any = bench.engine.core.systems["files"]
    once(
        files._calls,
        "exchange",
        lambda: save(path, b"saved just before\n"),
        lambda: save(path, lines("one", "neuf")),
    )
    answer = await bench.back(run_id=run)
    [step] = answer.steps
    assert step.outcome == "merged", step
    assert path.read_bytes() == lines("1", "neuf")
    [kept] = bench.work.parent.glob("data/**/trash/kept-*")
    assert kept.read_bytes() == b"saved just before\n"
    assert kept.name in " ".join(answer.warnings)
