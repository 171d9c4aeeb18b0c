"""Dropped tables wait as long as something may need them, and not for good."""

from __future__ import annotations

import psycopg
from tests.tools.database.postgres.conftest import Shop
from tests.tools.database.postgres.world import difference

from takeback.tools.conformance.world import KitObjects
from takeback.tools.database.postgres.database import PostgresDatabase
from takeback.tools.database.postgres.preparing import prepare
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.database.system import DatabaseSystem
from takeback.tools.system import Drifted, Swapped

LONG_AGO = -(10**18)
"""Whatever is there is older."""
GRAVES = "select count(*) from pg_namespace where nspname like 'takeback_graveyard%'"


async def test_a_dropped_table_that_nothing_needs_goes_for_good(shop: Shop) -> None:
    database = shop.open()
    effects = await shop.do(database, "drop table optional")
    there = shop.dump()
    system = DatabaseSystem({"shop": lambda: database}, shop.objects)
    freed = await system.collect([], older_than_ns=LONG_AGO)
    assert freed > 0 and shop.sql(GRAVES) == [(0,)]
    assert difference(there, shop.dump()) == "", "nothing else has changed"
    gone = await shop.undo(database, effects)
    assert isinstance(gone, Drifted) and "for good" in gone.why
    assert await system.collect([], older_than_ns=LONG_AGO) == 0


async def test_what_is_needed_or_young_waits(newest: Shop) -> None:
    database = newest.open()
    before = newest.dump()
    effects = await newest.do(database, "drop table optional")
    assert await database.collect([effect.before for effect in effects], older_than_ns=LONG_AGO) == 0
    assert await database.collect([], older_than_ns=0) == 0, "a journal may be about to tell of it"
    assert newest.sql(GRAVES) == [(1,)]
    assert isinstance(await newest.undo(database, effects), Swapped)
    assert difference(before, newest.dump()) == "" and newest.sql(GRAVES) == [(0,)]


async def test_a_new_table_that_was_taken_back_waits_for_its_redo(newest: Shop) -> None:
    database = newest.open()
    effects = await newest.do(database, "create table fresh (id serial primary key)", "insert into fresh values (7)")
    undone = await newest.undo(database, effects)
    assert isinstance(undone, Swapped)
    assert await database.collect([effect.before for effect in undone.effects], older_than_ns=LONG_AGO) == 0
    redone = await newest.undo(database, undone.effects)
    assert isinstance(redone, Swapped) and newest.sql("select id from fresh") == [(7,)]
    assert isinstance(await newest.undo(database, redone.effects), Swapped)
    assert await database.collect([], older_than_ns=LONG_AGO) > 0
    assert newest.sql(GRAVES) == [(0,)]


class Elsewhere(KitObjects):
    """The store of another data directory: another key, so other names for the same bytes."""

    def name(self, data: bytes) -> str:
        return super().name(b"elsewhere" + data)


async def test_what_another_installation_moved_aside_is_not_touched(newest: Shop) -> None:
    database = newest.open()
    effects = await newest.do(database, "drop table optional")
    other = PostgresDatabase("shop", DatabaseSettings(url=newest.server.url(newest.name)), Elsewhere())
    try:
        assert await other.collect([], older_than_ns=LONG_AGO) == 0
    finally:
        await other.close()
    assert isinstance(await newest.undo(database, effects), Swapped)


async def test_what_somebody_built_on_a_waiting_table_keeps_it(newest: Shop) -> None:
    database = newest.open()
    await newest.do(database, "drop table optional")
    [(grave,)] = newest.sql("select nspname from pg_namespace where nspname like 'takeback_graveyard%'")
    newest.sql(f"create view looked_at as select v from {grave}.optional")
    assert await database.collect([], older_than_ns=LONG_AGO) == 0
    assert newest.sql("select count(*) from looked_at") == [(6,)]
    newest.sql("drop view looked_at")
    newest.sql(f"create table {grave}.theirs ()")
    assert await database.collect([], older_than_ns=LONG_AGO) == 0
    newest.sql(f"drop table {grave}.theirs")
    with psycopg.connect(newest.server.url(newest.name)) as reader:
        reader.execute(f"select from {grave}.optional".encode())
        assert await database.collect([], older_than_ns=LONG_AGO) == 0, "somebody is looking at it"
    assert await database.collect([], older_than_ns=LONG_AGO) > 0


async def test_a_database_that_is_only_read_is_left_alone(newest: Shop) -> None:
    await newest.do(newest.open(), "drop table optional")
    assert await newest.open(read_only=True).collect([], older_than_ns=LONG_AGO) == 0
    assert newest.sql(GRAVES) == [(1,)]


async def test_what_waits_is_no_table_of_the_database(newest: Shop) -> None:
    database = newest.open(graveyard="at.tic")
    newest.sql('create schema "at.tic_of_mine"; create table "at.tic_of_mine".chest (id int primary key)')
    await newest.do(database, "drop table optional")
    told = {table.name for table in (await database.describe_all()).tables}
    assert not any("optional" in name for name in told) and any("chest" in name for name in told)
    assert not any("optional" in name for name in prepare(database.connections, act=False).installed)
    assert await database.collect([], older_than_ns=LONG_AGO) > 0
