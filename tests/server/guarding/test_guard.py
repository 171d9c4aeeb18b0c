"""What the engine does about triggers: before an act where it can be, in the journal, and seen by every process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, BOB, Bench, OpenBench
from tests.server.engine.conftest import bench as bench
from tests.server.engine.conftest import open_bench as open_bench
from tests.server.engine.many import failing, status, with_many

from takeback.journal.events import RunContained, TriggerFired
from takeback.journal.ids import RunId
from takeback.server.engine.policy_rules import Rule, RulesPolicy
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import ToolSettings
from takeback.tools.system import Refused


def triggers(**settings: Any) -> dict[str, TriggerSettings]:
    return {"triggers": TriggerSettings.model_validate(settings)}


async def fired(bench: Bench, run: str) -> list[TriggerFired]:
    events = await bench.engine.core.journal.read(RunId(run))
    return [recorded.event for recorded in events if isinstance(recorded.event, TriggerFired)]


async def try_(bench: Bench, run: str, key: str, **more: Any) -> str:
    return (await bench.call("set_value", run, key=key, value="1", **more)).status


async def test_the_act_that_would_pass_a_bound_is_not_made_and_the_run_is_contained(open_bench: OpenBench) -> None:
    bench = await open_bench(**triggers(blast_radius={"objects": 3}))
    run = await bench.start()
    for key in "abc":
        await bench.set(run, key, "1")
    answer = await bench.call("set_value", run, key="d", value="1")
    assert answer.status == "denied" and answer.error is not None and answer.error.code == "contained"
    assert answer.error.message.startswith(
        "A call would bring the run to 4 objects in all, more than 3 (blast_radius)."
    )
    assert bench.memory.texts() == {"a": "1", "b": "1", "c": "1"} and await status(bench, run) == "contained"
    (firing,) = await fired(bench, run)
    assert firing.answer == "contain" and firing.evidence["threshold"] == 3 and firing.evidence["would_be"] == 4
    assert (await bench.back(run_id=run)).status == "complete" and bench.memory.texts() == {}


async def test_another_run_goes_on_and_a_release_lets_the_run_go_on_with_new_counts(open_bench: OpenBench) -> None:
    bench = await open_bench(**triggers(blast_radius={"objects": 2}))
    run, other = await bench.start(), await bench.start()
    assert [await try_(bench, run, key) for key in "abc"] == ["applied", "applied", "denied"]
    assert await try_(bench, other, "x") == "applied"
    await bench.engine.release_run(ALICE, run)
    assert [await try_(bench, run, key) for key in "cde"] == ["applied", "applied", "denied"]


async def test_calls_made_at_the_same_time_do_not_pass_a_bound_together(open_bench: OpenBench) -> None:
    bench = await open_bench(**triggers(blast_radius={"objects": 5}))
    run = await bench.start()
    told = await asyncio.gather(*(try_(bench, run, f"k{number}") for number in range(20)))
    assert len(bench.memory.texts()) <= 5 and told.count("applied") == len(bench.memory.texts())
    assert await status(bench, run) == "contained"


async def test_two_processes_count_together(open_bench: OpenBench) -> None:
    settings = triggers(blast_radius={"objects": 6})
    one, two = await open_bench(**settings), await open_bench(**settings)
    run = await one.start()
    told = [await try_(each, run, f"k{number}{name}") for number in range(3) for name, each in (("a", one), ("b", two))]
    assert told == ["applied"] * 6
    assert await try_(two, run, "more") == "denied" and await try_(one, run, "even more") == "denied"
    assert [firing.trigger for firing in await fired(one, run)] == ["blast_radius"]


async def test_an_intent_of_another_process_that_came_first_stops_the_act_between_intent_and_commit(
    open_bench: OpenBench,
) -> None:
    settings = triggers(blast_radius={"objects": 3})
    one, two = await open_bench(**settings), await open_bench(**settings)
    run = await one.start()
    await one.set(run, "a", "1")
    real = one.engine.core.journal.append
    others: list[str] = []

    async def slow(events: Any, **more: Any) -> Any:
        if not others and any(event.type == "action.intended" for event in events):
            others.append("begun")
            others[:] = [await try_(two, run, "b"), await try_(two, run, "c")]
        return await real(events, **more)

    one.engine.core.journal.append = slow  # type: ignore[method-assign]  # the moment that no test hits by itself
    answer = await one.call("set_value", run, key="d", value="1")
    assert others == ["applied", "applied"] and answer.status == "denied"
    assert one.memory.get("d") is None and await status(one, run) == "contained"
    actions = (await one.engine.get_run(ALICE, run, view="journal")).model_dump_json()
    assert "together with other calls" in actions


async def test_a_warning_stands_in_the_answer_and_in_the_journal_once(open_bench: OpenBench) -> None:
    bench = await open_bench(**triggers(step_count={"threshold": 2}))
    run = await bench.start()
    told = [(await bench.set(run, key, "1")).warnings for key in "abcd"]
    assert [len(warnings) for warnings in told] == [0, 0, 1, 0] and "(step_count)" in told[2][0]
    assert [firing.answer for firing in await fired(bench, run)] == ["warn"] and await status(bench, run) == "open"


async def test_read_only_holds_the_run_alone_and_contain_holds_what_belongs_to_it(open_bench: OpenBench) -> None:
    bench = await open_bench(**triggers(step_count={"threshold": 1, "answer": "read_only"}))
    parent = await bench.start()
    child = await bench.start(parent_run_id=parent)
    assert [await try_(bench, parent, key) for key in "ab"] == ["applied", "denied"]
    assert await status(bench, parent) == "contained" and await status(bench, child) == "open"
    assert await try_(bench, await bench.start(), "c") == "applied" and await try_(bench, child, "d") == "applied"
    await bench.engine.contain_run(ALICE, parent, "it is worse than that")
    assert await status(bench, child) == "contained" and await try_(bench, await bench.start(), "e") == "denied"


async def test_contain_and_roll_back_leaves_nothing_of_the_run(open_bench: OpenBench) -> None:
    bench = await open_bench(**triggers(step_count={"threshold": 2, "answer": "rollback"}))
    for run in (await bench.start(), None):
        assert await try_(bench, run, "a") == "applied" and await try_(bench, run, "b") == "applied"
        answer = await bench.call("set_value", run, key="c", value="1")
        assert (
            answer.status == "denied" and "The run was taken back, as the trigger demands: complete." in answer.warnings
        )
        assert bench.memory.texts() == {} and await status(bench, answer.run_id) == "contained"
        await bench.engine.release_run(ALICE, answer.run_id)


async def test_failures_are_counted_and_end_in_a_run_that_may_only_read(open_bench: OpenBench) -> None:
    bench = await open_bench(**triggers(retry_storm={"threshold": 3}))
    run = await bench.start()
    failing(bench, "swap", lambda: Refused("it does not want to"), at=lambda count: True)
    told = [await bench.call("set_value", run, key="a", value=str(number)) for number in range(3)]
    assert [answer.status for answer in told] == ["failed"] * 3
    assert await status(bench, run) == "contained"
    assert told[2].warnings[-1].endswith("The run may only read now.")


async def test_denied_calls_contain_the_run(open_bench: OpenBench) -> None:
    bench = await open_bench(**triggers(policy_violation={"threshold": 9}, target_confusion={"threshold": 2}))
    run = await bench.start(scope=["mine"])
    assert [await try_(bench, run, key) for key in ("mine", "theirs", "theirs", "mine")] == [
        "applied",
        "denied",
        "denied",
        "denied",
    ]
    assert [firing.trigger for firing in await fired(bench, run)] == ["target_confusion"]


async def test_a_tool_that_changes_while_a_run_uses_it_is_noticed(open_bench: OpenBench) -> None:
    bench = with_many(await open_bench(**triggers(schema_drift={"answer": "contain"})))
    run = await bench.start()
    await bench.done("set_many", run, values={"a": "1"})
    bench.engine.core.tools["set_many"].__class__.version = "2"
    try:
        answer = await bench.call("set_many", run, values={"a": "2"})
    finally:
        bench.engine.core.tools["set_many"].__class__.version = "1"
    assert answer.status == "denied" and bench.memory.get("a") == "1"


async def test_a_failed_postcondition_is_answered_as_configured(open_bench: OpenBench) -> None:
    bench = await open_bench(**triggers(failed_postcondition={"answer": "contain"}))
    run = await bench.start()
    real = bench.memory.swap

    async def meddled(effects: Any) -> Any:
        swapped = await real(effects)
        bench.memory.edit("a", "somebody was there")
        return type(swapped)(
            tuple(
                effect.model_copy(update={"after": bench.memory.image("somebody was there")[0]})
                for effect in swapped.effects
            )
        )

    bench.memory.swap = meddled  # type: ignore[method-assign]  # somebody who saves at the worst moment
    answer = await bench.call("set_value", run, key="a", value="1")
    assert answer.status == "applied" and "no longer as it left them" in " ".join(answer.warnings)
    assert await status(bench, run) == "contained"


async def test_a_dry_run_is_no_act_and_fires_nothing(open_bench: OpenBench) -> None:
    bench = await open_bench(**triggers(step_count={"threshold": 1, "answer": "contain"}))
    run = await bench.start()
    assert [await try_(bench, run, "a", dry_run=True) for _ in range(3)] == ["shadowed"] * 3
    assert await fired(bench, run) == []


async def test_containment_by_a_trigger_does_not_loosen_what_a_person_tightened(open_bench: OpenBench) -> None:
    bench = await open_bench()
    run = await bench.start()
    await bench.engine.contain_run(ALICE, run, "stop", level="quarantined")
    journal = bench.engine.core.journal
    await journal.append([RunContained(run_id=RunId(run), at=bench.engine.core.now(), reason="x", by="trigger:x")])
    assert await status(bench, run) == "quarantined"
    assert (await bench.engine.start_run(BOB, "another")).status == "open"


@pytest.mark.parametrize("objects", [1, 3])
async def test_one_act_alone_can_pass_a_bound(open_bench: OpenBench, objects: int) -> None:
    bench = with_many(await open_bench(**triggers(blast_radius={"objects": 2})))
    run = await bench.start()
    answer = await bench.call("set_many", run, values={str(number): "1" for number in range(objects)})
    assert answer.status == ("applied" if objects == 1 else "denied")
    assert len(bench.memory.texts()) == (1 if objects == 1 else 0)


async def test_people_that_are_written_to_are_counted_for_policies_too(open_bench: OpenBench) -> None:
    bench = await open_bench(tools=ToolSettings(off=("files", "database")))
    rule = {"id": "crowd", "when": {"more_than": {"recipients": 2}}, "then": "deny"}
    bench.engine.core.policy = RulesPolicy([Rule.model_validate(rule)])
    run = await bench.start()
    told = [
        (await bench.call("send_email", run, to=people, subject="Hi", body="Hello")).status
        for people in (["a@x.org", "b@x.org"], ["a@x.org", "b@x.org", "c@x.org"])
    ]
    assert told == ["held", "denied"]
