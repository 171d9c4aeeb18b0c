"""Each defect that the capture or the inverse could have is found by a short scenario: the code broken on purpose dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from tests.tools.database.postgres.conftest import Shop
from tests.tools.database.postgres.world import difference

from takeback.journal.states import Effect, State
from takeback.tools.database.postgres import (
    capture,
    catalog,
    graveyard,
    inverse,
    looking,
    merging,
    references,
    sequences,
    snapshot,
    writing,
)
from takeback.tools.database.postgres.database import PostgresDatabase
from takeback.tools.database.postgres.driver import Connection
from takeback.tools.database.rows import reversed_effects
from takeback.tools.system import Drifted, Merged, Swapped


async def scenario(shop: Shop) -> None:
    """Acts, foreign writes and undos after which everything has to be as it was, but for what others did."""
    database = shop.open()
    for text in (
        "delete from customers where id = 1",
        "update orders set total = total + 1",
        "insert into tree values (20, 21, 'c'), (21, 1, 'p')",
        "update loose set b = 'x' where a = 1",
        "update parts set kind = 'c' where id = 1",
        "update items set what = 'q' where line = 3",
        "drop table optional; truncate customers cascade",
        "create table fresh (id serial primary key, v text)",
    ):
        before = shop.dump()
        undone = await shop.undo(database, await shop.do(database, *text.split("; ")))
        assert isinstance(undone, Swapped), text
        assert difference(before, shop.dump()) == "", text
    shop.sql("update customers set id = 105 where id = 5; select setval('customers_id_seq', 104)")
    before = shop.dump()
    drawn = await shop.do(database, "insert into customers (email) values ('c1') on conflict do nothing")
    assert isinstance(await shop.undo(database, drawn), Swapped)
    assert difference(before, shop.dump()) == "", "a number that a row had before keeps no counter"
    await foreign(shop)


async def foreign(shop: Shop) -> None:
    for ours, theirs in (
        ("update ruled set v = 'ours' where id = 1", "update ruled set v = 'theirs' where id = 1"),
        ("delete from items where line = 1", "delete from orders where id = (select 2)"),
        ("create table fresh (id int)", "insert into fresh values (1)"),
        ("update odd set t = 'x'", "alter table odd drop column _q"),
    ):
        database = shop.open()
        effects = await shop.do(database, ours)
        shop.sql(theirs)
        there = shop.dump()
        assert isinstance(await shop.undo(database, effects), Drifted), ours
        assert difference(there, shop.dump()) == "", ours
    database = shop.open()
    shop.sql("create sequence loose_counter")
    draw = "select nextval('loose_counter')"
    await put_back(shop, database, await between(shop, database, draw, draw, "select 1"))
    assert shop.sql("select last_value from loose_counter") == [(2,)]
    ours, theirs = "insert into audit (what) values ('ours')", "insert into audit (what) values ('theirs')"
    await put_back(shop, database, await between(shop, database, ours, theirs, ours))
    for _ in range(3):
        shop.sql("insert into audit (what) values ('next')")  # a number drawn twice would be refused here
    same = "insert into loose values (9, 'same')"
    effects = await shop.do(database, same)
    shop.sql(same)
    await put_back(shop, database, effects)
    assert shop.sql("select b from loose where a = 9") == [("same",)]


async def between(shop: Shop, database: PostgresDatabase, ours: str, theirs: str, again: str) -> tuple[Effect, ...]:
    """Somebody does something between two statements of an action."""
    asleep = "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(0.7)'"
    effects: list[Effect] = []

    async def act() -> None:
        effects.extend(await shop.do(database, ours, "select pg_sleep(0.7)", again))

    async with anyio.create_task_group() as group:
        group.start_soon(act)
        while shop.sql(asleep) == [(0,)]:
            await anyio.lowlevel.checkpoint()
        shop.sql(theirs)
    return tuple(effects)


async def put_back(shop: Shop, database: PostgresDatabase, effects: tuple[Effect, ...]) -> None:
    """As the engine does it: what drifted is merged."""
    wanted = reversed_effects(effects)
    answer = await database.swap(wanted) if wanted else None
    if isinstance(answer, Drifted):
        merged = await database.merge(wanted, answer.present)
        assert isinstance(merged, Merged)
        await shop.objects.put_blobs(dict(merged.blobs))
        await database.swap(merged.effects)


def without(text: str) -> Callable[..., Any]:
    """A connection that leaves a statement out."""
    real = Connection.run

    def run(self: Connection, sql: str, parameters: Any = ()) -> Any:
        return real(self, "SELECT 1" if sql == text else sql, () if sql == text else parameters)

    return run


def nothing(*_: object, **__: object) -> None:
    return None


def no_insert(connection: Connection, work: Any) -> None:
    for each in work:
        writing.delete(connection, each.info, [place for place, _ in each.gone])


def uncompared(connection: Connection, wants: Any, **more: Any) -> Any:
    """The swap, told that whatever stands there is what the act left."""
    found = looking.look(connection, [want.asked for want in wants])
    believed = [
        replace(want, effect=want.effect.model_copy(update={"before": State(digest=now.digest, kind="row")}))
        if want.effect.before.kind == "row" and now.digest != want.effect.after.digest
        else want
        for want, now in zip(wants, found, strict=True)
    ]
    return _swap(connection, believed, **more)


MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "what stands there is not compared": (inverse, "swap", uncompared),
    "generated columns are put back like others": (catalog.TableInfo, "stored", property(lambda self: self.columns)),
    "a dropped table stays where it waits": (inverse, "_return_tables", nothing),
    "a dropped table comes back without its foreign keys": (inverse, "_bind_tables", nothing),
    "a new table is left standing": (inverse, "_leave_tables", nothing),
    "numbers that rows had before keep a counter": (sequences, "holding", lambda _, change, *__: change),
    "rows are removed and not put back": (writing, "replace", no_insert),
    "foreign keys are not checked": (references, "check", nothing),
    "triggers run while rows are put back": (
        inverse,
        "begin",
        lambda c, *, seconds_ms, quiet: _begin(c, seconds_ms=seconds_ms, quiet=False),
    ),
    "what was there before is not seen": (snapshot, "_OLD", "false"),
    "what is new is not seen": (snapshot, "_NEW", "({first} < 0)"),
    "locked rows count as changed": (snapshot, "_seen", lambda *_: set()),
    "what waits for COMMIT is not seen": (Connection, "run", without("SET CONSTRAINTS ALL IMMEDIATE")),
    "numbers that others drew are drawn again": (sequences, "in_use", lambda *_: False),
    "counters are set whoever used them": (sequences, "_ours", lambda *_: True),
    "counters stay where they are": (inverse, "_count", nothing),
    "rows that others put into a new table go with it": (graveyard, "content", lambda *_: ""),
    "counts are set, not changed by the difference": (merging, "_value", lambda image, base, goal, there: goal),
    "only the table that was named is looked at": (capture, "traces", lambda c: _first_only(c)),
}
_begin, _swap, _traces = inverse.begin, inverse.swap, capture.traces


def _first_only(connection: Connection) -> Any:
    found = _traces(connection)
    found.written = set(sorted(found.written)[:1])
    return found


async def test_the_code_as_it_is_passes(newest: Shop) -> None:
    await scenario(newest)


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_mutant_dies(newest: Shop, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, instead = MUTANTS[name]
    monkeypatch.setattr(where, attribute, instead)
    with pytest.raises(BaseException) as died:
        await scenario(newest)
    assert not isinstance(died.value, KeyboardInterrupt)
