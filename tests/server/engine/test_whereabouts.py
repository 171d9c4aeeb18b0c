"""What `get_run` and `show RUN` say of an act that holds messages: where they are, and not that they were "applied"."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, OpenBench
from tests.server.engine.postoffice import PAPER, Post

from takeback.server.cli import render
from takeback.server.cli.blocks import Cell, Table


@pytest.fixture
async def post(open_bench: OpenBench) -> Post:
    return Post(await open_bench(**PAPER))


async def row(post: Post, run: str) -> dict[str, Any]:
    """The act in the run's summary."""
    [found] = (await post.engine.get_run(ALICE, run)).actions
    return found


async def test_a_held_act_is_told_with_its_time_and_so_it_is_on_the_timeline(post: Post):
    run = await post.bench.start()
    id = await post.hold(run)
    told = await row(post, run)
    assert (told["status"], told["release_at"]) == ("held", "2027-01-15T08:02:00.000Z")
    assert [(one["outbox_id"], one["status"]) for one in told["messages"]] == [(id, "held")]
    [table] = [one for one in render.timeline(await post.engine.get_run(ALICE, run)) if isinstance(one, Table)]
    status, what = table.rows[0][3], table.rows[0][5]
    assert isinstance(status, Cell)
    assert status.text == "held"
    assert "leaves at 2027-01-15 08:02:00Z" in str(what)
    report = (await post.engine.get_run(ALICE, run, view="report")).report
    assert report is not None
    assert any("is held until 2027-01-15T08:02:00.000Z" in line for line in report.done)
    [timed] = report.timeline
    assert ", held: " in timed
    assert timed.endswith(" Held until 2027-01-15T08:02:00.000Z.")


async def sent(post: Post, run: str, id: str) -> None:
    await post.send()


async def cancelled(post: Post, run: str, id: str) -> None:
    await post.engine.desk.cancel(ALICE, id)


async def late(post: Post, run: str, id: str) -> None:
    await post.send(120 + 3601)


async def unknown(post: Post, run: str, id: str) -> None:
    post.carrier.mode = "lost, blind"
    await post.send()


async def longer(post: Post, run: str, id: str) -> None:
    await post.engine.desk.hold_longer(ALICE, id, 600)


@pytest.mark.parametrize(
    ("meanwhile", "status", "words"),
    [
        (sent, "sent", "Sent, noted at "),
        (cancelled, "cancelled", "Cancelled at "),
        (late, "late", "Waits for a person since "),
        (unknown, "unknown", "Nobody knows whether it went out."),
        (longer, "held", "Held until 2027-01-15T08:12:00.000Z."),
    ],
)
async def test_what_became_of_it_is_told_afterwards(
    post: Post, meanwhile: Callable[[Post, str, str], Awaitable[None]], status: str, words: str
):
    run = await post.bench.start()
    await meanwhile(post, run, await post.hold(run))
    assert (await row(post, run))["status"] == status
    report = (await post.engine.get_run(ALICE, run, view="report")).report
    assert report is not None
    assert words in report.text


async def test_of_several_messages_the_one_that_is_still_to_come_says_where_the_act_is(post: Post):
    run = await post.bench.start()
    await post.hold(run, copies=3)
    first = (await post.core.outbox.rows(None))[0]
    await post.engine.desk.send_now(ALICE, first.id)
    await post.sender.round()
    told = await row(post, run)
    assert told["status"] == "held"
    assert sorted(one["status"] for one in told["messages"]) == ["held", "held", "sent"]
    report = (await post.engine.get_run(ALICE, run, view="report")).report
    assert report is not None
    assert "2 of 3 messages held until" in report.text


async def test_a_correction_is_told_beside_the_message_that_went_out(post: Post):
    run = await post.bench.start()
    await post.hold(run)
    await post.send()
    await post.bench.back(run_id=run)
    [correction] = [one for one in await post.core.outbox.rows(None) if one.corrects]
    await post.engine.desk.approve(ALICE, correction.id)
    await post.sender.round()
    told = await row(post, run)
    assert told["status"] == "sent"
    assert [one.get("correction", False) for one in told["messages"]] == [False, True]


async def test_what_holds_nothing_is_told_as_ever_and_costs_no_reading(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
):
    bench = await open_bench()
    run = await bench.start()
    await bench.set(run, "a", "1")

    async def never(*given: Any, **more: Any) -> Any:
        raise AssertionError("the journal was read")

    monkeypatch.setattr(bench.engine.core.journal, "read", never)
    [told] = (await bench.engine.get_run(ALICE, run)).actions
    assert told["status"] == "applied"
    assert "messages" not in told
