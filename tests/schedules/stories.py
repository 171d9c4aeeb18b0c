"""What happens at once. Each story says what has to be so whatever the order; `World.sound` says what always has to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from itertools import chain
from typing import Any

from tests.schedules.world import KEYS, World
from tests.server.engine.bench import ALICE, Bench
from tests.server.engine.many import approved

from takeback.journal.events import Caller
from takeback.journal.views import ActionView, RunView
from takeback.server.engine.answers import CallAnswer, EngineError

GOES_ON_LATER = ("busy", "in_flight")
"""A refusal that changes nothing: the caller repeats it."""
OVER = ("sealed", "run_ended", "busy", "not_found")
"""What an act is told that comes too late."""


async def calls_at_once(world: World) -> None:
    """Four agents, in two processes, on two texts and one inside the other."""
    one, two = await world.open(), await world.open()
    world.plant(one)
    run = await one.start()

    async def agent(number: int) -> list[CallAnswer]:
        answers: list[CallAnswer] = []
        for step in range(3):
            await world.pause()
            key, bench = world.dice.choice(KEYS), world.dice.choice([one, two])
            tool = world.dice.choice(["set_value", "set_value", "delete_value"])
            more = {"value": f"{number}.{step}\n"} if tool == "set_value" else {}
            answers.append(await world.act(bench, tool, run, f"{number}.{step}", key=key, **more))
        return answers

    for answer in chain(*await asyncio.gather(*map(agent, range(4)))):
        assert answer.status == "applied" or (answer.error and answer.error.code in ("not_found", "busy")), answer
    await world.one_line(one)
    answer = await one.back(run_id=run)
    assert answer.status == "complete" and one.memory.texts() == world.planted, answer.report
    await world.sound(two)


async def a_rollback_while_tools_run(world: World) -> None:
    """Whoever comes too late is told so, and nothing of theirs stays."""
    one, two = await world.open(), await world.open()
    world.plant(one)
    run = await one.start()

    async def agent(number: int) -> None:
        for step in range(3):
            await world.pause()
            key = world.dice.choice(KEYS)
            answer = await world.act(one, "set_value", run, f"{number}.{step}", key=key, value=f"{number}.{step}\n")
            assert answer.status == "applied" or (answer.error and answer.error.code in OVER), answer

    async def person() -> bool:
        await world.pause()
        try:
            answer = await two.back(run_id=run)
        except EngineError as error:
            assert error.code == "nothing", error
            return False
        assert answer.status == "complete", answer.report
        return True

    *_, taken_back = await asyncio.gather(agent(0), agent(1), agent(2), person())
    if taken_back:
        assert one.memory.texts() == world.planted, "an act went on in a run that was taken back"
        assert not [each for each in await one.engine.core.journal.find(ActionView) if each.stands]
    await world.one_line(one)
    await world.sound(two)


async def two_rollbacks_at_once(world: World) -> None:
    """From two processes: each act is taken back by one of them, and what cannot be put back is made up for once."""
    one, two = await world.open(), await world.open()
    world.plant(one)
    run, other = await one.start(), await one.start("another")
    made_up_for = 0

    def count(step: str) -> None:
        nonlocal made_up_for
        made_up_for += step == "delete"

    one.memory.on_step = two.memory.on_step = count
    await approved(one, "post_note", run, text="hello")
    for tool, arguments in (
        ("set_value", {"key": "a", "value": "new\n"}),
        ("post_note", {"text": "hello"}),
        ("delete_value", {"key": "b"}),
    ):
        answer = await one.call(tool, run, **arguments)
        assert answer.status == "applied", answer
        world.note("acknowledged", str(answer.action_id))
    await world.act(one, "set_value", other, "another", key="a", value="another's\n")

    async def person(bench: Bench, **wish: Any) -> str:
        await world.pause()
        try:
            return (await bench.back(**wish)).status
        except EngineError as error:
            assert error.code in ("nothing", "busy"), error
            return error.code

    told = await asyncio.gather(
        person(one, run_id=run, cascade=[other]), person(two, run_id=run, cascade=[other]), person(two, run_id=other)
    )
    assert "complete" in told, told
    if one.memory.texts() != world.planted:  # somebody was told that something else was busy
        assert "busy" in told, told
        await person(one, run_id=run, cascade=[other])
    assert one.memory.texts() == world.planted and not one.memory.notes(), (told, one.memory.texts())
    assert made_up_for == 1, f"the note was deleted {made_up_for} times"
    await world.sound(two)


async def one_key_many_callers(world: World) -> None:
    """The same act under one key, asked for by several at once, some of whom go away: it is done once."""
    one, two = await world.open(), await world.open()
    world.plant(one)
    run = await one.start()
    arguments = {"text": "hello", "idempotency_key": "once"}
    pending = await one.call("post_note", run, **arguments)
    await one.engine.approve(ALICE, str(pending.approval_id), lane="test")

    async def caller(tool: str, **wanted: Any) -> CallAnswer:
        await world.pause()
        return await world.act(world.dice.choice([one, two]), tool, run, "test", **wanted)

    callers = [asyncio.create_task(caller("post_note", **arguments)) for _ in range(4)]
    # nobody has to consent to these, so that only the key says that they are the same
    callers += [asyncio.create_task(caller("set_value", key="a", value="1", idempotency_key="a")) for _ in range(3)]
    await world.pause()
    callers[0].cancel()
    for answer in await asyncio.gather(*callers, return_exceptions=True):
        if isinstance(answer, asyncio.CancelledError):
            continue
        assert not isinstance(answer, BaseException), answer
        codes = ("in_flight", "busy", "pending_approval")
        assert answer.status in ("applied", "replayed") or (answer.error and answer.error.code in codes), answer
    again = await one.call("post_note", run, **arguments)
    assert again.status == "replayed", again
    assert len(one.memory.notes()) == 1, f"it was posted {len(one.memory.notes())} times"
    done = await one.engine.core.journal.find(ActionView, status="applied")
    assert [action.tool for action in done].count("set_value") == 1, "the same value was set twice"
    other = await one.call("post_note", run, text="something else", idempotency_key="once")
    assert other.error is not None and other.error.code == "key_reused", other
    assert (await one.back(run_id=run)).status == "complete" and not one.memory.notes()
    await world.sound(two)


async def one_transaction_for_many(world: World) -> None:
    """Callers that wait together share a transaction; one that goes away takes nobody with it."""
    one = await world.open()
    world.plant(one)
    journal = one.engine.core.journal
    before = journal.transactions  # type: ignore[attr-defined] -- of SQLite's journal, which it is

    async def agent(number: int) -> CallAnswer:
        run = await one.start(str(number))
        return await world.act(one, "set_value", run, str(number), key=f"k{number}", value="x\n")

    agents = [asyncio.create_task(agent(number)) for number in range(6)]
    for _ in range(world.dice.randrange(60)):
        await asyncio.sleep(0)
    agents[0].cancel()
    told = await asyncio.gather(*agents, return_exceptions=True)
    for answer in told[1:]:
        assert not isinstance(answer, BaseException) and answer.status == "applied", answer
    spent = journal.transactions - before  # type: ignore[attr-defined] -- as above
    assert spent < 24, f"{spent} transactions for six agents who wrote four times each"
    await world.one_line(one)
    await world.sound(one)


async def a_person_in_between(world: World) -> None:
    """Somebody else changes the same texts while agents write and take back: nothing of theirs is lost."""
    one, two = await world.open(), await world.open()
    world.plant(one)
    run = await one.start()

    async def agent(number: int) -> None:
        for step in range(2):
            await world.pause()
            key = world.dice.choice(KEYS[:2])
            old = one.memory.get(key) or ""  # an agent that keeps what it finds
            await world.act(
                one, "set_value", run, f"{number}.{step}", key=key, value=old + f"agent {number}.{step}\n",
                expected_digest=one.memory.image(old)[0].digest,
            )  # fmt: skip

    async def taking_back(**wish: Any) -> None:
        await world.pause()
        try:
            answer = await two.back(**wish)
        except EngineError as error:
            assert error.code in ("nothing", "busy"), error
            return
        assert answer.status != "complete" or not answer.open_items, answer

    work: list[Awaitable[None]] = [agent(0), agent(1), taking_back(run_id=run, last=1), taking_back(run_id=run)]
    work += [world.person(one, KEYS[number % 2], f"a person's line {number}\n") for number in range(4)]
    await asyncio.gather(*work)
    await world.sound(two)


async def a_consent_is_spent_once(world: World) -> None:
    """The same approved act, asked for by several at once from two processes, happens once."""
    one, two = await world.open(), await world.open()
    world.plant(one)
    run = await one.start()
    await approved(one, "announce", run, text="hear")

    async def caller(number: int) -> CallAnswer:
        await world.pause()
        return await world.act(world.dice.choice([one, two]), "announce", run, "test", text="hear")

    told = await asyncio.gather(*map(caller, range(3)))
    assert [answer.status for answer in told].count("applied") == 1, told
    assert len(one.memory.notes("announcement")) == 1
    assert all(answer.status in ("applied", "pending_approval") or answer.error.code == "busy" for answer in told), told  # type: ignore[union-attr] -- an answer that is not good says why
    await world.sound(two)


async def redo_and_rollback_at_once(world: World) -> None:
    """Whichever comes first, the world is all the way there or all the way back, and the run says which."""
    one, two = await world.open(), await world.open()
    world.plant(one)
    run = await one.start()
    await world.act(one, "set_value", run, "1", key="a", value="new\n")
    await world.act(one, "delete_value", run, "2", key="b")
    there = one.memory.texts()
    rollback = str((await one.back(run_id=run)).rollback_id)

    async def trying(work: Any) -> str:
        await world.pause()
        try:
            return str((await work).status)
        except EngineError as error:
            assert error.code in ("redone", "nothing", "busy"), error
            return error.code

    me = Caller(principal=ALICE.principal, client="terminal")
    told = await asyncio.gather(
        trying(one.engine.redo(ALICE, rollback)), trying(two.engine.redo(me, rollback)), trying(two.back(run_id=run))
    )
    view = await one.engine.core.journal.get(RunView, run)
    assert view is not None
    assert one.memory.texts() == (world.planted if view.status == "rolled_back" else there), (told, view.status)
    assert told[:2].count("complete") == 1, told
    await world.sound(two)


STORIES = (
    calls_at_once,
    a_rollback_while_tools_run,
    two_rollbacks_at_once,
    one_key_many_callers,
    one_transaction_for_many,
    a_person_in_between,
    a_consent_is_spent_once,
    redo_and_rollback_at_once,
)
