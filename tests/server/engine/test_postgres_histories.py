"""Random histories of statements on PostgreSQL through the whole engine, taken back: every cell as before, or said where not.

`TAKEBACK_SQL_HISTORIES` sets how many (`make sql-histories` sets more than the everyday run).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.postgres_server import Server, drop, fresh, server
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.tools.database.postgres.world import build, difference, dump, statement

from takeback.server.engine.answers import EngineError
from takeback.server.engine.calls import Call
from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import ToolSettings
from takeback.tools.database.postgres.connecting import Connections
from takeback.tools.database.postgres.preparing import prepare
from takeback.tools.database.settings import DatabaseSettings

HISTORIES = int(os.environ.get("TAKEBACK_SQL_HISTORIES", "60"))
FIRST = int(os.environ.get("TAKEBACK_SQL_FIRST", "0"))


@pytest.fixture(params=["18", "16", "15", "18-triggers"])
def world(request: pytest.FixtureRequest) -> Iterator[tuple[Server, str]]:
    version, _, by_triggers = request.param.partition("-")
    running = server(int(version))
    name = fresh(running)
    with psycopg.connect(running.url(name), autocommit=True) as connection:
        build(connection)
    if by_triggers:
        connections = Connections("shop", DatabaseSettings(url=running.url(name)))
        prepare(connections, act=True)
        connections.close()
    yield running, name
    drop(running, name)


async def open_bench(folder: Path, running: Server, name: str, **more: Any) -> Bench:
    settings = settings_for(
        folder,
        tools=ToolSettings(),
        triggers=TriggerSettings.off(),
        databases={"shop": DatabaseSettings(url=running.url(name), **more)},
    )
    engine = await Engine.open(settings)
    engine.core.retry_pauses = ()
    return Bench(engine, folder / "work")


def counters(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name.startswith("counter ")}


async def act(
    bench: Bench, run: str, connection: psycopg.Connection[Any], chance: random.Random, drawn: set[str]
) -> str | None:
    """One random statement, or a few: the action, if it was applied. Numbers that a failed call drew stay drawn."""
    before = counters(dump(connection))
    texts = [statement(chance) for _ in range(chance.choice((1, 1, 1, 3)))]
    given: dict[str, Any] = {"sql": texts[0]} if len(texts) == 1 else {"statements": [{"sql": text} for text in texts]}
    answer = await bench.call("execute_sql", run, database="shop", **given)
    # all of them can be taken back, but for dropping a table that the same call changes
    several = len(texts) > 1 and any(text.startswith("drop table") for text in texts)
    assert answer.status in ("applied", "failed") or several, (texts, answer.question)
    if answer.status != "applied":
        assert answer.error is not None and answer.error.code not in ("target_error",), (texts, answer.error)
        after = counters(dump(connection))
        drawn |= {name for name in {*before, *after} if before.get(name) != after.get(name)}
    return str(answer.action_id) if answer.status == "applied" else None


def without(told: dict[str, Any], drawn: set[str]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in drawn}


Told = dict[str, Any]


def check(connection: psycopg.Connection[Any], state: Told, drawn: set[str], *what: object) -> None:
    """Everything is as it was then, but for numbers that failed calls drew."""
    now = dump(connection)
    assert without(now, drawn) == without(state, drawn), (*what, difference(state, now))


async def whole(
    bench: Bench, run: str, connection: psycopg.Connection[Any], chance: random.Random, drawn: set[str],
    states: list[Told], actions: list[str], seed: int,
) -> None:  # fmt: skip
    """The run as a whole, there and back and there."""
    before, done = states[0], dump(connection)
    try:
        answer = await bench.back(run_id=run)
    except EngineError as error:
        assert error.code == "nothing" and not (actions and without(done, drawn) != without(before, drawn))
        return
    assert answer.status == "complete", (seed, answer.report)
    check(connection, before, drawn, seed)
    if chance.random() < 0.3:
        try:
            redone = await bench.engine.redo(ALICE, str(answer.rollback_id))
        except EngineError as error:
            assert error.code == "nothing" and without(done, drawn) == without(before, drawn)
            return
        assert redone.status == "complete", (seed, redone.report)
        check(connection, done, drawn, seed, "redo")
        answer = await bench.back(run_id=run)
        assert answer.status == "complete", (seed, answer.report)
        check(connection, before, drawn, seed, "again")


async def one_by_one(
    bench: Bench, run: str, connection: psycopg.Connection[Any], chance: random.Random, drawn: set[str],
    states: list[Told], actions: list[str], seed: int,
) -> None:  # fmt: skip
    """The last action first, and every state on the way."""
    for action, state in zip(reversed(actions), reversed(states[:-1]), strict=True):
        answer = await bench.back(run_id=run, actions=[action])
        assert answer.status == "complete", (seed, answer.report)
        check(connection, state, drawn, seed, action)


async def some_of_them(
    bench: Bench, run: str, connection: psycopg.Connection[Any], chance: random.Random, drawn: set[str],
    states: list[Told], actions: list[str], seed: int,
) -> None:  # fmt: skip
    """Chosen ones, around those that stand; redone, everything is as it was before; then the run as a whole."""
    if not actions:
        return
    done = dump(connection)
    chosen = chance.sample(actions, chance.randrange(1, len(actions) + 1))
    try:
        answer = await bench.back(run_id=run, actions=chosen)
    except EngineError as error:
        assert error.code == "nothing"
    else:
        assert all(step.outcome not in ("failed", "irreversible") for step in answer.steps), (seed, answer.report)
        if any(step.outcome in ("restored", "merged") for step in answer.steps):
            redone = await bench.engine.redo(ALICE, str(answer.rollback_id))
            assert redone.status == "complete", (seed, redone.report)
        check(connection, done, drawn, seed, "redo", answer.report)
        if any(step.outcome == "merged" for step in answer.steps):
            return  # a later act had undone part of it, and taking that one back brings it back
    await whole(bench, run, connection, chance, drawn, states, actions, seed)


async def test_random_histories_are_taken_back_cell_by_cell(tmp_path: Path, world: tuple[Server, str]) -> None:
    running, name = world
    bench = await open_bench(tmp_path, running, name)
    try:
        with psycopg.connect(running.url(name), autocommit=True) as connection:
            for seed in range(FIRST, FIRST + HISTORIES):
                chance = random.Random(f"{seed}")
                drawn: set[str] = set()
                before = dump(connection)
                run = await bench.start(str(seed))
                states, actions = [before], list[str]()
                for _ in range(chance.randrange(1, 8)):
                    action = await act(bench, run, connection, chance, drawn)
                    if action is not None:
                        states.append(dump(connection))
                        actions.append(action)
                way = chance.choice((whole, whole, one_by_one, some_of_them))
                await way(bench, run, connection, chance, drawn, states, actions, seed)
    finally:
        await bench.engine.close()


def person(connection: psycopg.Connection[Any], chance: random.Random) -> str | None:
    """Somebody else writes something of their own; the mark by which it is found again."""
    number = chance.randrange(10**9)
    mark, at = f"by-a-person-{number}", chance.randrange(1, 16)
    text = chance.choice(
        [
            f"insert into ruled values ({1000 + number}, '{mark}')",
            f"insert into loose values ({at % 3}, '{mark}')",
            f"update items set what = '{mark}' where line = {at}",
            f"update customers set meta = to_jsonb('{mark}'::text) where id = {at % 7}",
            f"update orders set note = '{mark}' where id = {at}",
            f"insert into orders (customer, note) select min(id), '{mark}' from customers having count(*) > 0",
            f"insert into parts select {1000 + number % 10**6}, '{mark}', 1",
        ]
    )
    try:
        return mark if connection.execute(text.encode()).rowcount > 0 else None
    except psycopg.Error:
        return None


async def test_what_somebody_else_wrote_in_between_survives_histories(
    tmp_path: Path, world: tuple[Server, str]
) -> None:
    running, name = world
    bench = await open_bench(tmp_path, running, name)
    try:
        with psycopg.connect(running.url(name), autocommit=True) as connection:
            for seed in range(FIRST, FIRST + max(1, HISTORIES // 2)):
                chance = random.Random(f"foreign {seed}")
                run = await bench.start(str(seed))
                marks: list[str] = []
                actions: list[str] = []
                for _ in range(chance.randrange(2, 8)):
                    action = await act(bench, run, connection, chance, set())
                    actions += [action] if action is not None else []
                    # who reads in between sees what others wrote, and is let go on
                    look = {"database": "shop", "sql": "select 1"}
                    await bench.engine.read(Call(tool="query_database", arguments=look, caller=ALICE))
                    if chance.random() < 0.4:
                        was = str(dump(connection))
                        mark = person(connection, chance)
                        now = str(dump(connection))
                        # what they overwrite of their own nobody has to bring back
                        marks = [each for each in marks if each in now or each not in was]
                        marks += [mark] if mark is not None else []
                there = [mark for mark in marks if mark in str(dump(connection))]
                chosen: dict[str, Any] = {}
                if chance.random() < 0.4 and actions:
                    chosen = {"actions": chance.sample(actions, chance.randrange(1, len(actions) + 1))}
                try:
                    answer = await bench.back(run_id=run, **chosen)
                except EngineError as error:
                    assert error.code == "nothing"
                    continue
                now = str(dump(connection))
                for mark in there:
                    assert mark in now, (seed, mark, answer.report)
                if answer.status == "complete" and not chosen:
                    for mark in marks:
                        assert mark in now, (seed, "complete, yet lost", mark, answer.report)
                for step in answer.steps:
                    assert step.outcome != "failed", (seed, step)
    finally:
        await bench.engine.close()
