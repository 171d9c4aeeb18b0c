"""What does not fit into a socket at once: many rows, and large values."""

from __future__ import annotations

from tests.tools.database.postgres.conftest import BOUNDS, Shop
from tests.tools.database.postgres.world import difference

from takeback.tools.database.port import Statement
from takeback.tools.system import Swapped


async def test_many_rows_and_large_values_are_taken_back(newest: Shop) -> None:
    newest.sql("create table big (id int primary key, v text, raw bytea)")
    newest.sql(
        "insert into big select i, 'value ' || i, decode(repeat('00ff', i % 50), 'hex') from generate_series(1, 30000) i"
    )
    newest.sql("insert into big values (0, repeat('ü\"\\', 1000000), null)")
    database = newest.open()
    before = newest.dump()
    for text in ("update big set v = v || '!'", "delete from big", "truncate big"):
        effects = await newest.do(database, text)
        assert isinstance(await newest.undo(database, effects), Swapped)
        assert difference(before, newest.dump()) == "", text
    large = "x" * 5_000_000
    answer = await database.query(Statement("select length($1::text)", [large]), BOUNDS)
    assert answer.rows == [[5_000_000]]
