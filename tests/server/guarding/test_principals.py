"""Several runs of one principal together: what none of them does too much of by itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench
from tests.server.engine.conftest import bench as bench
from tests.server.engine.conftest import open_bench as open_bench
from tests.server.engine.many import status, with_many
from tests.server.guarding.test_guard import fired, triggers, try_
from tests.server.guarding.world import NOON, History, change, message

from takeback.journal import events as e
from takeback.journal.events import Recorded
from takeback.journal.guarding import HOLDS
from takeback.journal.ids import RunId
from takeback.server.engine.triggers.principals import Principals
from takeback.server.engine.triggers.settings import BlastRadius, PrincipalRadius

LOOSE = {"objects": 0, "objects_per_minute": 0}


class Day:
    """Acts of several runs, one after the other, as all of the journal tells them."""

    def __init__(self, **settings: Any) -> None:
        self.settings = PrincipalRadius.model_validate(settings)
        self.told = Principals(self.settings)
        self.now = NOON

    def hear(self, event: e.BaseEvent, run: str) -> None:
        made = Recorded.model_construct(
            position=self.told.position + 1, seq=1, mac="", key_id="", event=event, type="", run_id=RunId(run)
        )
        self.told.take([made])

    def act(self, run: str, *objects: str, people: tuple[str, ...] = (), consented: bool = False) -> str:
        history = History()
        heard: list[e.BaseEvent] = []
        history.tell = heard.append  # type: ignore[method-assign]  # only what it would write is wanted
        history.now = self.now
        effects = [*map(change, objects), *([message(*people, id=f"msg_{self.told.position}")] if people else [])]
        action = f"act_{self.told.position}"
        history.intend(*effects, consented=consented)
        [event] = heard
        self.hear(event.model_copy(update={"run_id": RunId(run), "action_id": action}), run)
        return action

    def would(self, *objects: str, people: tuple[str, ...] = (), principal: str = "local:alice") -> list[str]:
        history = History()
        history.now = self.now
        effects = [*map(change, objects), *([message(*people)] if people else [])]
        return [firing.about for firing in self.told.would_pass(principal, history.attempt(*effects))]


def test_the_default_is_what_two_runs_may_that_are_both_at_their_bounds() -> None:
    one, both = BlastRadius().model_dump(), PrincipalRadius().model_dump()
    for name in ("objects", "deleted", "rows", "recipients"):
        assert both[f"{name}_per_hour"] == 2 * one[name]
        assert both[f"{name}_per_minute"] == 2 * one[f"{name}_per_minute"]


@pytest.mark.parametrize(("people", "fires"), [(9, []), (10, ["recipients_per_minute"])])
def test_three_runs_that_write_to_people_are_one_crowd(people: int, fires: list[str]) -> None:
    day = Day(recipients_per_minute=30)
    for run in ("run_a", "run_b", "run_c"):
        day.act(run, people=tuple(f"{run}{number}@x" for number in range(7)))
    assert day.would(people=tuple(f"{number}@x" for number in range(people))) == fires
    assert day.would(people=tuple(f"{number}@x" for number in range(people)), principal="local:bob") == []


def test_an_hour_and_a_minute_pass() -> None:
    day = Day(objects_per_hour=4, objects_per_minute=3)
    day.act("run_a", "1", "2")
    assert day.would("3", "4") == ["objects_per_minute"] and day.would("3") == [] and day.would("1", "2", "3") == []
    day.now += timedelta(seconds=60)
    assert day.would("3", "4") == [] and day.would("3", "4", "5") == ["objects_per_hour"]
    day.now += timedelta(minutes=59)
    assert day.would("3", "4", "5") == []


def test_what_failed_was_consented_to_or_was_looked_at_by_a_person_is_not_counted() -> None:
    day = Day(objects_per_hour=3)
    day.act("run_a", "1", "2", consented=True)
    failed = day.act("run_a", "3", "4")
    code = {"tool": "write_file", "code": "x", "message": ""}
    day.hear(e.ActionFailed.model_validate({"run_id": "run_a", "at": NOON, "action_id": failed, **code}), "run_a")
    assert day.would("7", "8", "9") == []
    day.act("run_a", "5", "6")
    day.act("run_b", "7")
    assert day.would("8") == ["objects_per_hour"]
    day.hear(e.RunReleased(run_id=RunId("run_a"), at=NOON, by="local:alice"), "run_a")
    assert day.would("8", "9") == [] and day.would("8", "9", "10") == ["objects_per_hour"]
    released = e.ScopeReleased(run_id=HOLDS, at=NOON, kind="principal", name="local:alice", by="local:alice")
    day.hear(released, HOLDS)
    assert day.would("8", "9", "10") == []


# -- in the engine ------------------------------------------------------------------------------------------------------------


async def test_runs_that_together_touch_too_much_are_stopped_with_whatever_else_their_principal_runs(
    open_bench: OpenBench,
) -> None:
    bench = await open_bench(**triggers(principal_radius={"objects_per_hour": 6}, blast_radius={"objects": 4}))
    one, other = await bench.start(), await bench.start()
    fork = await bench.engine.resume_from(ALICE, str((await bench.set(one, "a", "1")).checkpoint_id))
    told = [
        await try_(bench, run, key) for run, key in ((other, "b"), (str(fork.run_id), "c"), (one, "d"), (other, "e"))
    ]
    assert told == ["applied"] * 4 and await try_(bench, one, "f") == "applied"
    answer = await bench.call("set_value", other, key="g", value="1")
    assert answer.status == "denied" and answer.error is not None and answer.error.code == "contained"
    assert "all runs of local:alice to 7 objects within an hour, more than 6 (principal_radius)" in answer.error.message
    assert "Whatever local:alice runs may only read now." in answer.error.message
    [firing] = await fired(bench, other)
    assert firing.evidence["of_runs"] == 3 and firing.evidence["threshold"] == 6
    assert [await try_(bench, run, "h") for run in (one, str(fork.run_id), None)] == ["denied"] * 3
    assert [await status(bench, run) for run in (one, other)] == ["open", "open"], "it is the principal that is held"
    bobs = (await bench.engine.start_run(BOB, "Somebody else's")).run_id
    assert await try_(bench, bobs, "bob", caller=BOB) == "applied", "nobody else is stopped"
    assert (await bench.back(run_id=other)).status == "complete", "what is held can be taken back"
    await bench.engine.release_scope(ALICE, "principal", ALICE.principal)
    assert await try_(bench, one, "g") == "applied", "a person looked: the counts begin anew"


async def test_runs_that_stay_within_the_bound_together_go_on(open_bench: OpenBench) -> None:
    bench = await open_bench(**triggers(principal_radius={"objects_per_hour": 6}, blast_radius=LOOSE))
    runs = [await bench.start() for _ in range(3)]
    told = [await try_(bench, run, f"{run}{number}") for number in range(2) for run in runs]
    assert told == ["applied"] * 6 and await fired(bench, runs[0]) == []
    assert await try_(bench, runs[0], f"{runs[1]}0") == "applied", "the same object again is no object more"


async def test_processes_count_together_also_what_was_there_when_they_began(open_bench: OpenBench) -> None:
    settings = triggers(principal_radius={"objects_per_hour": 6}, blast_radius=LOOSE)
    one = await open_bench(**settings)
    for key in "ab":
        await one.set(await one.start(), key, "1")
    two = await open_bench(**settings)
    mine, theirs = await one.start(), await two.start()
    told = [
        await try_(each, run, f"{run}{number}") for number in range(2) for each, run in ((one, mine), (two, theirs))
    ]
    assert told == ["applied"] * 4
    assert await try_(two, theirs, "more") == "denied" and await try_(one, mine, "more") == "denied"


async def test_calls_of_several_runs_at_the_same_time_do_not_pass_the_bound_together(open_bench: OpenBench) -> None:
    bench = await open_bench(**triggers(principal_radius={"objects_per_hour": 5}, blast_radius=LOOSE))
    runs = [await bench.start() for _ in range(4)]
    told = await asyncio.gather(*(try_(bench, runs[number % 4], f"k{number}") for number in range(20)))
    assert len(bench.memory.texts()) <= 5 and told.count("applied") == len(bench.memory.texts())


async def test_what_happened_more_than_an_hour_ago_is_not_even_read(open_bench: OpenBench) -> None:
    settings = triggers(principal_radius={"objects_per_hour": 3}, blast_radius=LOOSE)
    bench: Bench = with_many(await open_bench(**settings))
    real, back = bench.engine.core.now, timedelta(hours=2)
    bench.engine.core.now = lambda: real() - back
    for number in range(12):
        run = await bench.start()
        await bench.set(run, f"old {number % 3}", str(number))
    bench.engine.core.now = real
    run = await bench.start()
    await bench.set(run, "a", "1")
    later = await open_bench(**settings)
    asked: list[int] = []
    read = later.engine.core.journal.read

    async def noted(run_id: RunId | None = None, *, after: int = 0, limit: int = 1000) -> Any:
        if run_id is None and limit > 1:
            asked.append(after)
        return await read(run_id, after=after, limit=limit)

    later.engine.core.journal.read = noted  # type: ignore[method-assign]  # to see from where on it is read
    assert await try_(later, run, "b") == "applied" and await try_(later, run, "c") == "applied"
    assert await try_(later, run, "d") == "denied"
    [old] = [each for each in await read() if each.event and each.event.type == "run.started" and each.run_id == run]
    assert min(asked) >= old.position - 1


async def test_a_principal_may_be_warned_only(open_bench: OpenBench) -> None:
    settings = {"objects_per_hour": 1, "answer": "warn"}
    bench = await open_bench(**triggers(principal_radius=settings, blast_radius=LOOSE))
    run = await bench.start()
    await bench.set(run, "a", "1")
    answer = await bench.set(run, "b", "1")
    assert any("(principal_radius)" in warning for warning in answer.warnings)
    assert [firing.answer for firing in await fired(bench, run)] == ["warn"]


async def test_the_run_that_passes_the_bound_is_taken_back_if_that_is_wished(open_bench: OpenBench) -> None:
    settings = {"objects_per_hour": 2, "answer": "rollback"}
    bench = await open_bench(**triggers(principal_radius=settings, blast_radius=LOOSE))
    one, other = await bench.start(), await bench.start()
    assert [await try_(bench, one, "a"), await try_(bench, other, "b"), await try_(bench, other, "c")] == [
        "applied",
        "applied",
        "denied",
    ]
    assert bench.memory.texts() == {"a": "1"} and await status(bench, other) == "contained"
    assert await try_(bench, one, "d") == "denied"


async def test_what_this_process_wrote_is_not_read_again_and_what_another_one_wrote_is_read_once(
    open_bench: OpenBench,
) -> None:
    settings = triggers(blast_radius=LOOSE)
    one, two = await open_bench(**settings), await open_bench(**settings)
    mine, theirs = await one.start(), await two.start()
    await one.set(mine, "first", "1")
    asked: list[int] = []
    read = one.engine.core.journal.read

    async def noted(run_id: RunId | None = None, *, after: int = 0, limit: int = 1000) -> Any:
        asked.extend([after] if run_id is None else [])
        return await read(run_id, after=after, limit=limit)

    one.engine.core.journal.read = noted  # type: ignore[method-assign]  # to see what is read
    await asyncio.gather(*(try_(one, mine, f"k{number}") for number in range(8)))
    assert asked == []
    await two.set(theirs, "x", "1")
    for number in range(4):
        await one.set(mine, f"l{number}", "1")
    assert len(asked) == 1


async def test_an_act_that_is_too_much_for_its_run_alone_stops_the_run_alone(open_bench: OpenBench) -> None:
    settings = triggers(principal_radius={"objects_per_hour": 4}, blast_radius={"objects": 3})
    bench = with_many(await open_bench(**settings))
    one, other = await bench.start(), await bench.start()
    await bench.set(other, "a", "1")
    answer = await bench.call("set_many", one, values=dict.fromkeys("bcdefgh", "1"))
    assert answer.status == "denied" and await status(bench, one) == "contained"
    assert await try_(bench, other, "b") == "applied" and [each.trigger for each in await fired(bench, one)] == [
        "blast_radius"
    ]
