"""What a person asks for by a swap is tried again where that is safe, and never ended as long as part of it may stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, OpenBench
from tests.server.engine.many import failing

from takeback.journal.states import Effect
from takeback.journal.views import OpenItem, RollbackView
from takeback.server.engine.answers import EngineError
from takeback.tools.system import TargetError


class HalfDone(TargetError):
    code = "half_done"


async def conflict_in(bench: Bench) -> str:
    bench.memory.edit("a", "one\n")
    run = await bench.start()
    await bench.set(run, "a", "two\n")
    bench.memory.edit("a", "theirs\n")
    return (await bench.back(run_id=run)).open_items[0].conflict_id


async def test_a_resolution_that_was_half_done_is_swapped_again(bench: Bench) -> None:
    conflict = await conflict_in(bench)
    failing(bench, "swap", lambda: HalfDone("it stands in part"), at=lambda n: n == 1)
    answer = await bench.engine.resolve_conflict(ALICE, conflict, "ours")
    assert answer.status == "complete" and bench.memory.get("a") == "one\n"


async def test_a_resolution_that_nobody_could_look_at_stays_begun_and_is_finished_at_the_next_start(
    open_bench: OpenBench,
) -> None:
    bench = await open_bench()
    conflict = await conflict_in(bench)
    swap, look, away = bench.memory.swap, bench.memory.look, False

    async def torn(effects: Sequence[Effect]) -> Any:
        nonlocal away
        await swap(effects)
        away = True
        raise OSError(5, "input/output error")

    async def blind(*given: Any, **more: Any) -> Any:
        if away:
            raise OSError(5, "input/output error")
        return await look(*given, **more)

    bench.memory.swap = torn  # type: ignore[method-assign] -- a fault, not a mock: the real system is behind it
    bench.memory.look = blind  # type: ignore[method-assign] -- as above
    with pytest.raises(EngineError) as failure:
        await bench.engine.resolve_conflict(ALICE, conflict, "ours")
    assert failure.value.code == "in_doubt" and failure.value.advice
    journal = bench.engine.core.journal
    assert [view.kind for view in await journal.find(RollbackView, status="running")] == ["resolve"]
    again = await open_bench()
    item = await again.engine.core.journal.get(OpenItem, conflict)
    assert item is not None and item.status == "resolved" and again.memory.get("a") == "one\n"
    assert not await again.engine.core.journal.find(RollbackView, status="running")


async def test_a_version_that_stays_half_done_is_not_told_as_if_nothing_had_happened(open_bench: OpenBench) -> None:
    bench = await open_bench()
    run = await bench.start()
    first = await bench.set(run, "a", "1")
    await bench.set(run, "a", "2")
    failing(bench, "swap", lambda: HalfDone("it stands in part"), at=lambda n: True)
    with pytest.raises(EngineError) as failure:
        await bench.engine.restore_version(ALICE, "a", f"{first.action_id}:after")
    assert failure.value.code == "in_doubt"
    again = await open_bench()
    assert again.memory.get("a") == "1"  # by then the system could finish it
    assert not await again.engine.core.journal.find(RollbackView, status="running")
