"""Acts of tools that declare `hold`: called off inside their window, done once after it, then made up for by their tool."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests import ticketing
from tests.server.engine.bench import ALICE, OpenBench, settings_for
from tests.server.engine.postoffice import Post

from takeback.journal.ids import RunId
from takeback.journal.views import ActionView
from takeback.server.engine.held_acts import MADE_UP_FOR
from takeback.server.engine.policy_rules import Rule, RulesPolicy
from takeback.server.settings import OutboxSection, ToolSettings
from takeback.tools.registry import BUILT_IN

TICKETS = {"tools": ToolSettings(modules=(Path(ticketing.__file__),), off=tuple(BUILT_IN))}


class Desk(Post):
    """A bench with a tool whose acts wait."""

    def __init__(self, bench: Any) -> None:
        self.tool: Any = bench.engine.core.tools["open_ticket"]
        super().__init__(bench, carrier="act:open_ticket")
        self.texts = itertools.count()

    async def hold(self, run: str, **more: Any) -> str:
        answer = await self.bench.call("open_ticket", run, text=f"ticket {next(self.texts)}", **more)
        assert answer.status == "held", answer
        assert answer.result is not None
        return str(answer.result["outbox_id"])

    async def action(self, run: str) -> ActionView:
        [action] = await self.core.journal.find(ActionView, run_id=RunId(run))
        return action


@pytest.fixture
async def desk(open_bench: OpenBench) -> Desk:
    return Desk(await open_bench(**TICKETS))


async def test_an_act_that_waits_is_answered_held_and_is_listed_and_nothing_of_it_is_done(desk: Desk):
    run = await desk.bench.start()
    answer = await desk.bench.call("open_ticket", run, text="It is cold.", idempotency_key="k")
    assert (answer.status, answer.reversibility, answer.release_at) == (
        "held",
        "compensable",
        "2027-01-15T08:01:00.000Z",
    )
    assert "Close the ticket again." in str(answer.undo)
    [row] = await desk.engine.desk.rows(ALICE)
    assert (row.status, row.message.carrier) == ("HELD", "act:open_ticket")
    assert "It is cold." in row.message.subject
    assert (await desk.action(run)).policy_rule == "default.held"
    again = await desk.bench.call("open_ticket", run, text="It is cold.", idempotency_key="k")
    assert (again.status, again.action_id) == ("replayed", answer.action_id)
    assert desk.tool.tickets() == []


async def test_a_dry_run_shows_what_would_be_done_and_holds_nothing(desk: Desk):
    answer = await desk.bench.call("open_ticket", text="It is cold.", dry_run=True)
    assert answer.status == "shadowed"
    assert "It is cold." in answer.preview[0]
    assert await desk.core.outbox.rows(None) == []


async def test_called_off_inside_its_window_it_is_never_done_and_can_be_held_again(desk: Desk):
    run = await desk.bench.start()
    id = await desk.hold(run)
    back = await desk.bench.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["restored"]
    await desk.send()
    assert (await desk.status(id), desk.tool.lines("opened")) == ("CANCELLED", [])
    assert (await desk.engine.redo(ALICE, back.rollback_id)).status == "complete"
    await desk.send()
    assert (await desk.status(id), len(desk.tool.tickets())) == ("SENT", 1)


async def test_after_its_window_it_is_done_once_and_is_made_up_for_with_what_it_returned(desk: Desk):
    run = await desk.bench.start()
    id = await desk.hold(run)
    await desk.send(59)
    assert desk.tool.tickets() == []
    await desk.send(1)
    await desk.send()
    assert await desk.status(id) == "SENT"
    assert len(desk.tool.lines("opened")) == 1
    assert (await desk.action(run)).outcome == {"key": desk.tool.lines("opened")[0], "number": 1}
    [told] = (await desk.engine.get_run(ALICE, run)).actions
    assert told["status"] == "sent"
    back = await desk.bench.back(run_id=run)
    assert [(step.outcome, step.why) for step in back.steps] == [("compensated", "Closed the ticket.")]
    assert (desk.tool.tickets(), desk.tool.lines("told")) == ([], ["1"])
    assert await desk.open_items() == []


async def test_a_person_may_do_it_at_once_or_move_its_time_or_cancel_it(desk: Desk):
    run = await desk.bench.start()
    first, second, third = [await desk.hold(run) for _ in range(3)]
    await desk.engine.desk.send_now(ALICE, first)
    await desk.engine.desk.hold_longer(ALICE, second, 600)
    await desk.engine.desk.cancel(ALICE, third)
    await desk.sender.round()
    assert desk.tool.tickets() == ["ticket 0"]
    await desk.send(61)
    assert [await desk.status(id) for id in (first, second, third)] == ["SENT", "HELD", "CANCELLED"]
    back = await desk.bench.back(run_id=run)
    assert [step.outcome for step in back.steps] == ["already_undone", "restored", "compensated"]


async def test_a_run_that_is_contained_does_nothing_until_a_person_releases_it(desk: Desk):
    run = await desk.bench.start()
    id = await desk.hold(run)
    await desk.engine.contain_run(ALICE, run, "odd")
    await desk.send()
    assert (await desk.status(id), desk.tool.tickets()) == ("HELD", [])
    await desk.engine.release_run(ALICE, run, "")
    await desk.sender.round()
    assert (await desk.status(id), desk.tool.tickets()) == ("SENT", ["ticket 0"])


async def test_what_cannot_be_done_is_tried_again_and_then_left_to_a_person(desk: Desk):
    run = await desk.bench.start()
    id = await desk.hold(run)
    desk.tool.mode = "away"
    await desk.send(61)
    pauses = []
    while await desk.status(id) == "HELD":
        pauses.append((await desk.row(id)).release_at - desk.wall)
        await desk.send(pauses[-1])
    assert (pauses, await desk.status(id)) == ([15, 30, 60, 120, 240], "DEAD")
    [item] = await desk.open_items()
    assert "could not be done (6 attempts): nobody answers" in item.why
    desk.tool.mode = "well"
    await desk.engine.desk.send_now(ALICE, id)
    await desk.sender.round()
    assert (desk.tool.tickets(), await desk.open_items()) == (["ticket 0"], [])


async def test_what_its_tool_refuses_is_dead_and_can_be_called_off(desk: Desk):
    run = await desk.bench.start()
    id = await desk.hold(run)
    desk.tool.mode = "refused"
    await desk.send()
    assert await desk.status(id) == "DEAD"
    assert (await desk.bench.back(run_id=run)).status == "complete"
    assert await desk.status(id) == "CANCELLED"


async def test_a_tool_that_is_not_installed_any_more_leaves_its_act_to_a_person(desk: Desk):
    run = await desk.bench.start()
    id = await desk.hold(run)
    desk.core.outbox.carriers = {}
    await desk.send()
    assert "nobody here delivers by act:open_ticket" in (await desk.row(id)).detail
    assert await desk.status(id) == "HELD"


@pytest.mark.parametrize("way", ["rollback", "sent", "not sent"])
async def test_an_act_of_which_nobody_knows_is_not_repeated_and_its_tool_or_a_person_settles_it(desk: Desk, way: str):
    run = await desk.bench.start()
    id = await desk.hold(run)
    desk.tool.mode = "lost, blind"
    await desk.send()
    await desk.new_sender().start()
    await desk.send()
    assert (await desk.status(id), len(desk.tool.lines("opened"))) == ("UNKNOWN", 1)
    [item] = await desk.open_items()
    assert "nobody knows whether the act" in item.why
    if way == "rollback":
        back = await desk.bench.back(run_id=run)
        assert (back.status, back.steps[0].outcome) == ("complete", "compensated")
        assert (desk.tool.lines("told"), desk.tool.tickets()) == (["unknown"], [])
        assert await desk.status(id) == "CANCELLED"
        await desk.new_sender().start()
        assert (await desk.row(id)).told == "CANCELLED"
        report = (await desk.engine.get_run(ALICE, run, view="report")).report
        assert report is not None
        assert MADE_UP_FOR in report.text and "nobody got it" not in report.text
    else:
        await desk.engine.desk.settle(ALICE, id, sent=way == "sent")
        back = await desk.bench.back(run_id=run)
        assert back.steps[0].outcome == ("compensated" if way == "sent" else "restored")
        assert await desk.status(id) == ("SENT" if way == "sent" else "CANCELLED")
    assert await desk.open_items() == []
    await desk.send()
    assert len(desk.tool.lines("opened")) == 1


class Stopped(BaseException):
    """The process dies."""


def _die_at(step: str) -> Callable[[str], None]:
    def on_step(at: str) -> None:
        if at == step:
            raise Stopped

    return on_step


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("step", ["due", "claimed", "told", "delivered", "noted", "journaled"])
async def test_wherever_the_sender_dies_the_act_is_done_at_most_once_and_can_be_taken_back(
    desk: Desk, step: str, blind: bool
):
    run = await desk.bench.start()
    id = await desk.hold(run)
    desk.tool.mode = "well, blind" if blind else "well"
    desk.sender.on_step = _die_at(step)
    await desk.sender.round()
    desk.later(61)
    with pytest.raises(Stopped):
        await desk.sender.round()
    desk.sender = desk.new_sender()
    await desk.sender.start()
    await desk.send()
    ended = await desk.status(id)
    assert ended == ("UNKNOWN" if blind and step in ("told", "delivered") else "LATE" if step == "told" else "SENT")
    assert len(desk.tool.lines("opened")) == (0 if step == "told" else 1)
    back = await desk.bench.back(run_id=run)
    assert (back.status, desk.tool.tickets()) == ("complete", [])
    assert [one.outcome for one in back.steps] == ["restored" if ended == "LATE" else "compensated"]
    assert await desk.open_items() == []


@pytest.mark.parametrize("step", ["delivered", "noted"])
async def test_what_was_done_is_made_up_for_although_the_sender_never_came_to_write_it_down(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str
):
    monkeypatch.setattr("takeback.tools.outbox.system.SENDING_WAIT", 0)
    run = await desk.bench.start()
    await desk.hold(run)
    desk.sender.on_step = _die_at(step)
    await desk.sender.round()
    desk.later(61)
    with pytest.raises(Stopped):
        await desk.sender.round()
    back = await desk.bench.back(run_id=run)
    if step == "noted":  # the outbox knows
        assert (back.status, desk.tool.lines("told"), desk.tool.tickets()) == ("complete", ["1"], [])
        return
    assert (back.status, back.steps[0].outcome) == ("partial", "conflict")  # for all that is known it is at work
    await desk.new_sender().start()
    assert (await desk.bench.back(run_id=run)).status == "complete"
    assert (desk.tool.tickets(), await desk.open_items()) == ([], [])


async def test_of_calling_off_and_doing_exactly_one_wins_in_48_races(desk: Desk):
    won = {"SENT": 0, "CANCELLED": 0}
    for turn in range(48):
        run = await desk.bench.start()
        id = await desk.hold(run)
        await desk.sender.round()
        desk.later(61)
        opened, closed = len(desk.tool.lines("opened")), len(desk.tool.lines("closed"))
        async with anyio.create_task_group() as group:
            group.start_soon(_after, turn % 8 * 2, desk.sender.round)
            group.start_soon(_after, turn // 8 * 2, lambda run=run: desk.bench.back(run_id=run))
        await desk.sender.round()
        status = await desk.status(id)
        won[status] += 1
        done = 1 if status == "SENT" else 0
        assert len(desk.tool.lines("opened")) - opened == done
        if (
            done and not len(desk.tool.lines("closed")) - closed
        ):  # the rollback came while it was being done, and said so
            assert (await desk.bench.back(run_id=run)).status == "complete"
        assert len(desk.tool.lines("closed")) - closed == done
        assert desk.tool.tickets() == []
    assert sum(won.values()) == 48
    assert min(won.values()) > 0, won


async def _after(turns: int, act: Callable[[], Any]) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    await act()


async def test_an_act_that_is_done_while_it_is_to_be_called_off_is_made_up_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    run = await desk.bench.start()
    id = await desk.hold(run)
    real = desk.core.outbox.swap

    async def too_slow(effects: Any) -> Any:
        monkeypatch.undo()
        outcome = {"key": (await desk.action(run)).memo["memo"]["key"], "number": 7}  # type: ignore[index, call-overload]  # JSON
        await desk.core.outbox.move(id, "SENT", only=("HELD",), content=b"returned\0" + _json(outcome))
        return await real(effects)

    monkeypatch.setattr(desk.core.outbox, "swap", too_slow)
    back = await desk.bench.back(run_id=run)
    assert (back.status, [step.outcome for step in back.steps]) == ("complete", ["compensated"])
    assert desk.tool.lines("told") == ["7"]


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


async def test_rules_are_about_what_will_be_done_and_not_about_the_waiting(desk: Desk):
    rule = Rule.model_validate({"id": "no-tickets", "when": {"systems": ["tickets"]}, "then": "deny"})
    desk.core.policy = RulesPolicy([rule])
    answer = await desk.bench.call("open_ticket", text="It is cold.")
    assert (answer.status, await desk.core.outbox.rows(None)) == ("denied", [])


async def test_windows_keep_within_the_settings(open_bench: OpenBench):
    desk = Desk(await open_bench(**TICKETS, outbox=OutboxSection(minimum_seconds=90)))
    row = await desk.row(await desk.hold(await desk.bench.start()))
    assert row.release_at == desk.wall + 90


@pytest.mark.parametrize("mode", ["well", "die before", "die after"])
async def test_another_process_does_it_and_its_death_is_settled(desk: Desk, tmp_path: Path, mode: str):
    run = await desk.bench.start()
    desk.core.outbox.now = time.time
    id = await desk.hold(run)
    await desk.engine.desk.send_now(ALICE, id)
    desk.tool.mode = mode
    sent = _sender(tmp_path)
    assert sent.returncode == (0 if mode == "well" else -signal.SIGKILL), sent.stderr
    desk.tool.mode = "well"
    if mode != "well":
        assert await desk.status(id) == "SENDING"
        assert _sender(tmp_path).returncode == 0
    assert await desk.status(id) == ("LATE" if mode == "die before" else "SENT")
    assert desk.tool.tickets() == ([] if mode == "die before" else ["ticket 0"])
    assert (await desk.bench.back(run_id=run)).status == "complete"
    assert desk.tool.tickets() == []


def _sender(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "takeback", "outbox", "run", "--settings", "-"],
        input=settings_for(folder, **TICKETS).model_dump_json(),
        text=True,
        capture_output=True,
        check=False,
    )


async def test_a_crash_between_intent_and_outcome_is_settled_by_the_outbox_and_not_by_the_tool(
    desk: Desk, open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
):
    run = await desk.bench.start()
    real = desk.core.journal.append

    async def dies(events: Any, **more: Any) -> Any:
        if any(event.type == "action.applied" for event in events):
            raise Stopped
        return await real(events, **more)

    monkeypatch.setattr(desk.core.journal, "append", dies)
    with pytest.raises(BaseException):  # noqa: B017 -- whatever the death of a process looks like from inside
        await desk.hold(run)
    await desk.send()
    assert desk.tool.tickets() == []  # its act is not concluded
    again = Desk(await open_bench(**TICKETS))
    again.wall, again.steady = desk.wall, desk.steady
    action = await again.action(run)
    assert (action.status, action.stands, await again.told(run)) == ("applied", True, ["mail.held"])
    await again.send()
    assert again.tool.tickets() == ["ticket 0"]
    assert (await again.bench.back(run_id=run)).status == "complete"
    assert again.tool.tickets() == []


async def test_an_act_does_not_get_around_a_hold_on_what_it_would_change_by_waiting(desk: Desk):
    run = await desk.bench.start()
    id = await desk.hold(run)
    await desk.engine.contain_scope(ALICE, "system", "tickets", "odd")  # where the act takes effect
    assert (await desk.bench.call("open_ticket", run, text="later")).status == "denied"
    await desk.send(61)
    assert (await desk.status(id), desk.tool.tickets()) == ("HELD", [])
    await desk.engine.release_scope(ALICE, "system", "tickets")
    await desk.sender.round()
    assert (await desk.status(id), len(desk.tool.tickets())) == ("SENT", 1)
