"""Guests of events where something dies, is out of reach, or somebody is faster: event and messages stay together."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from tests.server.engine.bench import ALICE
from tests.server.engine.guest_house import GUESTS, MEETING, House, house
from tests.server.engine.reaper import Died, Reaper, interpose

from takeback.journal.ids import RunId
from takeback.journal.views import ActionView
from takeback.tools.system import Unavailable

__all__ = ["house"]

RACES = 200 if os.environ.get("TAKEBACK_RACES") == "full" else 10


async def test_a_death_at_any_step_leaves_event_and_message_together_or_neither(house: House):
    for at in range(1, 60):
        run = (await house.engine.start_run(ALICE, f"death {at}")).run_id
        reaper = Reaper(at)
        interpose(house.core, reaper)
        finished = True
        try:
            await house.bench.call("create_event", run, calendar="work", attendees=GUESTS, **MEETING)
            if at % 2:
                await house.bench.back(run_id=run)
        except (Died, BaseExceptionGroup):  # steps of a rollback die in their group
            finished = False
        await house.core.journal.close()  # the process is gone, and what it held with it
        house.core.outbox.close()
        await house.open()
        actions = await house.core.journal.find(ActionView, run_id=RunId(run))
        stands = bool(actions) and actions[0].stands
        held = [row for row in await house.rows() if row.status == "HELD"]
        assert bool(house.contents()) == stands, (at, actions)
        assert [row.action_id for row in held] == ([actions[0].id] if stands else []), (at, held)
        if stands:
            back = await house.bench.back(run_id=run)
            assert back.status == "complete", (at, back.report)
        assert house.contents() == {}
        assert await house.send() == [], at
        if finished and at % 2:
            break
    else:
        pytest.fail("it never came to its end")
    assert at > 8


async def test_a_death_while_a_told_event_is_taken_back_is_made_good_at_the_next_start(house: House):
    for at in range(1, 60):
        run = (await house.engine.start_run(ALICE, f"death {at}")).run_id
        await house.act("create", run, attendees=GUESTS, **{**MEETING, "summary": f"Try {at}"})
        assert len(await house.send()) == 1
        reaper = Reaper(at)
        interpose(house.core, reaper)
        finished = True
        try:
            await house.bench.back(run_id=run)
        except (Died, BaseExceptionGroup):  # steps of a rollback die in their group
            finished = False
        await house.core.journal.close()
        house.core.outbox.close()
        await house.open()
        if house.contents():
            await house.bench.back(run_id=run)
        assert house.contents() == {}, at
        assert [each.method for each in await house.agree()] == ["CANCEL"], at
        if finished:
            break
    else:
        pytest.fail("it never came to its end")
    assert at > 4


async def died(house: House, at: int) -> str:
    """A run whose only act dies at that step."""
    run = (await house.engine.start_run(ALICE, "dies")).run_id
    interpose(house.core, Reaper(at))
    with pytest.raises(Died):
        await house.bench.call("create_event", run, calendar="work", attendees=GUESTS, **MEETING)
    await house.core.journal.close()
    house.core.outbox.close()
    return run


async def test_an_event_that_a_person_deletes_before_its_act_is_settled_takes_its_message_along(house: House):
    run = await died(house, 7)
    [row] = await house.rows()
    assert row.status == "HELD", "written and held, and not concluded"
    for path in house.folder.glob("*.ics"):
        path.unlink()
    await house.open()
    assert await house.statuses() == ["CANCELLED"]
    [action] = await house.core.journal.find(ActionView, run_id=RunId(run))
    assert action.status == "not_applied"


async def test_a_message_that_is_held_only_long_after_its_event_was_written_is_late(house: House):
    await died(house, 5)
    assert (len(house.contents()), await house.rows()) == (1, [])
    house.settings = house.settings.model_copy(
        update={"outbox": house.settings.outbox.model_copy(update={"late_seconds": 0.001})}
    )
    await house.open()
    [row] = await house.rows()
    assert (row.status, row.window) == ("HELD", 120.0)
    assert row.release_at < row.held_at + 120
    assert await house.send() == []
    assert await house.statuses() == ["LATE"]


async def test_while_the_outbox_is_out_of_reach_nothing_is_called_done(house: House):
    run = await house.bench.start()
    swap = house.core.outbox.swap

    async def away(effects: Any) -> Any:
        raise Unavailable("it is away", advice="Wait.")

    house.core.outbox.swap = away  # type: ignore[method-assign] -- a fault, not a mock: the real outbox is behind it
    answer = await house.bench.call("create_event", run, calendar="work", attendees=GUESTS, **MEETING)
    assert answer.status == "in_doubt", answer
    house.core.outbox.swap = swap  # type: ignore[method-assign] -- as above
    assert len(house.contents()) == 1
    [item] = await house.items()
    await house.engine.resolve_conflict(ALICE, item.id, "theirs")
    [action] = await house.core.journal.find(ActionView, run_id=RunId(run))
    assert [effect.system for effect in action.effects] == ["calendar"], "what is there counts, and no message is"
    assert await house.send() == []
    assert (await house.bench.back(run_id=run)).status == "complete"
    assert house.contents() == {}


@pytest.mark.parametrize(
    ("theirs", "outcome", "message"),
    [(b"SUMMARY:Ours too", "conflict", "LATE"), (b"X-WHERE:x\r\nSUMMARY:Ours", "merged", "CANCELLED")],
    ids=["the same", "another"],
)
async def test_who_saves_in_the_instant_between_message_and_event_is_kept(
    house: House, theirs: bytes, outcome: str, message: str
):
    run = await house.bench.start()
    made = await house.act("create", run, attendees=GUESTS, **MEETING)
    await house.send()
    other = await house.bench.start()
    await house.act("update", other, event_id=made["event_id"], summary="Ours")
    swap = house.core.outbox.swap
    saved: list[bytes] = []

    async def swap_then_saved(effects: Any) -> Any:
        swapped = await swap(effects)
        if not saved:
            saved.append(theirs)
            house.person(made["event_id"], b"SUMMARY:Ours", theirs)
        return swapped

    house.core.outbox.swap = swap_then_saved  # type: ignore[method-assign] -- somebody is faster; the real outbox is behind it
    back = await house.bench.back(run_id=other)
    assert [step.outcome for step in back.steps] == [outcome], back.report
    assert await house.statuses() == sorted([message, "SENT"])
    [data] = house.contents().values()
    assert (b"SUMMARY:Ours too" in data, b"X-WHERE:x" in data) == (outcome == "conflict", outcome == "merged")
    assert await house.send() == []


async def test_of_taking_back_and_sending_an_invitation_exactly_one_wins(house: House):
    won = {"SENT": 0, "CANCELLED": 0}
    for turn in range(RACES):
        run = await house.bench.start()
        made = await house.act("create", run, attendees=GUESTS, **{**MEETING, "summary": f"Race {turn}"})
        await house.sender.round()
        house.wall, house.steady = house.wall + 121, house.steady + 121
        before = len(house.sink.taken)
        async with anyio.create_task_group() as group:
            group.start_soon(_after, turn % 12, house.sender.round)
            group.start_soon(_after, turn * 5 % 17, lambda run=run: house.bench.back(run_id=run))
        await house.sender.round()
        row = await house.core.outbox.get(made["outbox_ids"][0])
        assert row is not None
        won[row.status] += 1
        assert len(house.sink.taken) - before == (1 if row.status == "SENT" else 0)
        if row.status == "CANCELLED":
            assert house.contents() == {}
        else:
            await house.bench.back(run_id=run)  # it may have been refused while the message was on its way
            assert house.contents() == {}
            assert [each.method for each in await house.agree()] == ["CANCEL"]
    assert sum(won.values()) == RACES
    if RACES == 200:  # of a few, one side may win all
        assert min(won.values()) > 0, won


async def _after(turns: int, act: Callable[[], Any]) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    await act()
