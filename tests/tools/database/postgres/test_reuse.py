"""Connections are used again: what was done on one before is not blamed on the next statement."""

from __future__ import annotations

from tests.tools.database.postgres.conftest import Shop

from takeback.tools.system import Swapped


async def test_what_a_connection_did_before_is_not_blamed_on_the_next_statement(shop: Shop) -> None:
    database = shop.open()
    for text in (
        "insert into audit (what) values ('x')",
        "drop table optional",
        "create table fresh (id int)",
        "truncate loose",
    ):
        effects = await shop.do(database, text)
        assert isinstance(await shop.undo(database, effects), Swapped)
        execution = await shop.run(database, "update ruled set v = 'x' where id = 1")
        assert (execution.reversibility, execution.reason) == ("reversible", ""), text
        await execution.discard()


async def test_nothing_of_a_session_stays(shop: Shop) -> None:
    database = shop.open()
    await shop.do(database, "create temp table mine (id int)", "insert into mine values (1)")
    for _ in range(4):
        execution = await shop.run(database, "select to_regclass('mine')")
        assert execution.done[0].returned is not None and execution.done[0].returned.rows == [[None]]
        await execution.discard()
