"""Two ways of seeing what a transaction changed agree, while others write; and the way by triggers takes back the same."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter

import psycopg
import pytest
from tests.tools.database.postgres.conftest import Shop
from tests.tools.database.postgres.test_mutants import between, put_back
from tests.tools.database.postgres.test_taking_back import STATEMENTS
from tests.tools.database.postgres.world import difference, statement

from takeback.tools.contract import ToolError
from takeback.tools.database.postgres import catalog, guard, snapshot, triggers
from takeback.tools.database.postgres.changes import TableChange
from takeback.tools.database.postgres.connecting import fix
from takeback.tools.database.postgres.failures import ServerFailure
from takeback.tools.database.postgres.preparing import prepare, unprepare
from takeback.tools.database.postgres.reading import Budget
from takeback.tools.database.postgres.rehearsal import SCHEMA_KINDS
from takeback.tools.database.postgres.threads import Watch
from takeback.tools.database.postgres.traces import traces
from takeback.tools.system import Swapped

COMPARED = int(os.environ.get("TAKEBACK_SQL_COMPARED", "40"))
"""Statements that both ways look at."""


def told(change: TableChange | None) -> object:
    if change is None:
        return None
    return Counter(change.pairs), Counter(change.counts)


async def test_both_ways_see_the_same_under_concurrent_writers(shop: Shop) -> None:
    database = shop.open(capture="snapshot")
    prepare(database.connections, act=True)
    stop = threading.Event()
    writes: Counter[str] = Counter()

    def foreign(seed: int) -> None:
        chance = random.Random(seed)
        with psycopg.connect(shop.server.url(shop.name), autocommit=True) as connection:
            while not stop.is_set():
                text = chance.choice(
                    [
                        f"update items set n = n + 1 where line = {chance.randrange(20)}",
                        f"insert into loose values ({chance.randrange(3)}, 'theirs')",
                        "delete from loose where ctid = (select ctid from loose where b = 'theirs' limit 1)",
                        f"insert into odd values ({chance.randrange(1000, 9000)}, 't') on conflict do nothing",
                        f'delete from odd where "Ünï ""code" = {chance.randrange(1000, 9000)}',
                        "insert into orders (customer) select min(id) from customers",
                    ]
                )
                try:
                    connection.execute(text.encode())
                    writes["done"] += 1
                except psycopg.Error:
                    writes["failed"] += 1

    others = [threading.Thread(target=foreign, args=(seed,)) for seed in range(2)]
    for other in others:
        other.start()
    compared = 0
    try:
        watch = Watch()
        acting, observing = database.connections.take(watch), database.connections.take(watch)
        chance = random.Random(5)
        while compared < COMPARED:
            text = statement(chance)
            if guard.kind_of(text) in SCHEMA_KINDS:
                continue
            moment = snapshot.begin(acting)
            triggers.wake(acting)
            snapshot.observe(observing, moment)
            fix(observing)
            try:
                acting.first(text, [], rows=10, size=1000)
                acting.run("SET CONSTRAINTS ALL IMMEDIATE")
                fix(acting)
                for info in catalog.tables(acting, traces(acting).written).values():
                    by_snapshot = snapshot.difference(acting, observing, moment, info, Budget(10**6, 10**9))
                    by_triggers = triggers.difference(acting, info, Budget(10**6, 10**9))
                    assert told(by_snapshot) == told(by_triggers), (text, info.shown)
                compared += 1
                triggers.forget(acting)
                acting.run(chance.choice(("COMMIT", "ROLLBACK")))
            except ServerFailure:
                pass  # a constraint, or a collision with the others
            acting.rollback()
            observing.rollback()
        database.connections.give(acting)
        database.connections.give(observing)
    finally:
        stop.set()
        for other in others:
            other.join()
    assert writes["done"] > 40, writes
    print(f"{compared} statements compared, {writes['done']} written by others meanwhile")


@pytest.mark.parametrize("text", STATEMENTS)
async def test_what_triggers_saw_is_taken_back(newest: Shop, text: str) -> None:
    newest_ = newest.open(capture="auto")
    prepare(newest_.connections, act=True)
    before = newest.dump()
    effects = await newest.do(newest_, text)
    assert isinstance(await newest.undo(newest_, effects), Swapped)
    assert difference(before, newest.dump()) == ""
    assert newest.sql("select count(*) from takeback.changes") == [(0,)], "nothing stays in the log"


async def test_numbers_that_others_drew_meanwhile_are_not_drawn_again(newest: Shop) -> None:
    """Triggers show no moment before: which rows had their numbers then is told by the age of the rows."""
    database = newest.open(capture="triggers")
    prepare(database.connections, act=True)
    ours, theirs = "insert into audit (what) values ('ours')", "insert into audit (what) values ('theirs')"
    await put_back(newest, database, await between(newest, database, ours, theirs, ours))
    assert newest.sql("select count(*) from audit where what = 'theirs'") == [(1,)]
    for _ in range(3):
        newest.sql("insert into audit (what) values ('next')")  # a number drawn twice would be refused here


async def test_prepare_says_what_it_will_do_and_unprepare_leaves_nothing(shop: Shop) -> None:
    database = shop.open()
    schemas = "select nspname from pg_namespace order by 1"
    count = "select count(*) from pg_trigger"
    earlier = shop.sql(schemas), shop.sql(count)
    plan = prepare(database.connections, act=False)
    assert "orders" in plan.installed and not plan.done and (shop.sql(schemas), shop.sql(count)) == earlier
    assert prepare(database.connections, act=True).installed == plan.installed
    again = prepare(database.connections, act=True)
    assert not again.installed and set(again.armed) == set(plan.installed)
    shop.sql("update ruled set v = 'without takeback'")
    assert shop.sql("select count(*) from takeback.changes") == [(0,)], "asleep unless woken"
    assert set(unprepare(database.connections, act=False).removed) == set(plan.installed)
    unprepare(database.connections, act=True)
    assert (shop.sql(schemas), shop.sql(count)) == earlier


async def test_a_table_without_its_trigger_is_seen_the_other_way_or_refused(newest: Shop) -> None:
    auto = newest.open(capture="auto")
    prepare(auto.connections, act=True)
    newest.sql("create table late (id int primary key)")
    effects = await newest.do(auto, "insert into late values (1)")
    assert [effect.object for effect in effects] == ["shop//late/1"]
    strict = newest.open(capture="triggers")
    with pytest.raises(ToolError, match="no trigger"):
        await newest.run(strict, "insert into late values (2)")
    unprepare(auto.connections, act=True)
    with pytest.raises(ToolError, match="not there"):
        await newest.run(strict, "select 1")
