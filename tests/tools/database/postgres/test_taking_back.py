"""What a statement did is found, told and taken back; what others did since stays."""

from __future__ import annotations

import pytest
from tests.tools.database.postgres.conftest import BOUNDS, Shop
from tests.tools.database.postgres.world import difference

from takeback.tools.contract import ToolError
from takeback.tools.database import rows
from takeback.tools.database.port import Bounds, Statement
from takeback.tools.database.rows import reversed_effects
from takeback.tools.system import Clash, Drifted, Merged, Swapped

STATEMENTS = [
    "delete from customers where id = 1",
    "update customers set id = id + 50",
    "insert into customers (email, name) values ('c2', 'x') on conflict (email) do update set name = 'y'",
    "delete from loose where a = 1",
    "insert into loose values (1, null, '{\"a\": 1}', '10.0.0.1/32')",
    "update loose set b = 'x'",
    "insert into items (order_id, line, what) select 1, 1000 + i, 'many' from generate_series(1, 300) i",
    "update parts set kind = 'c'",
    "delete from ruled",
    "update named set name = 'inst' where id = 3",
    "call raise_all(3)",
    "truncate customers, orders, items, optional restart identity",
    "drop table optional",
    "create table fresh (id serial primary key, v text)",
    "create table copied as select * from customers",
    "insert into tree values (20, 21, 'c'), (21, 1, 'p')",
    "do $$ begin begin delete from customers; raise exception 'x'; exception when others then"
    " update items set what = 'caught'; end; end $$",
]


@pytest.mark.parametrize("text", STATEMENTS)
async def test_a_statement_is_taken_back_and_brought_back(shop: Shop, text: str) -> None:
    database = shop.open()
    before = shop.dump()
    effects = await shop.do(database, text)
    done = shop.dump()
    assert done != before
    looked = await database.look([effect.object for effect in effects], [effect.after for effect in effects])
    assert [now.digest for now in looked] == [effect.after.digest for effect in effects]
    undone = await shop.undo(database, effects)
    assert isinstance(undone, Swapped) and not undone.already, undone
    assert difference(before, shop.dump()) == ""
    again = await shop.undo(database, effects)
    assert isinstance(again, Swapped) and again.already, "putting back twice does nothing twice"
    redone = await shop.undo(database, undone.effects)
    assert isinstance(redone, Swapped), redone
    assert difference(done, shop.dump()) == ""
    assert isinstance(await shop.undo(database, redone.effects), Swapped)
    assert difference(before, shop.dump()) == ""


@pytest.mark.parametrize("text", STATEMENTS)
async def test_what_is_not_committed_leaves_no_trace(newest: Shop, text: str) -> None:
    database = newest.open()
    before = newest.dump()
    execution = await newest.run(database, text)
    await execution.discard()
    await execution.discard()
    after = newest.dump()
    for told in (before, after):
        for name in [name for name in told if name.startswith("counter ")]:
            del told[name]  # numbers that were drawn stay drawn
    assert difference(before, after) == ""


async def test_columns_that_others_changed_stay(shop: Shop) -> None:
    database = shop.open()
    effects = await shop.do(database, "update orders set total = 99, note = 'ours' where id = 1")
    shop.sql("update orders set at = '5 days' where id = 1")
    wanted = [effect for effect in reversed_effects(effects) if effect.object == "shop//orders/1"]
    present = await database.look([effect.object for effect in wanted], [effect.before for effect in wanted])
    assert isinstance(await database.swap(wanted), Drifted)
    merged = await database.merge(wanted, present)
    assert isinstance(merged, Merged)
    await shop.objects.put_blobs(dict(merged.blobs))
    assert isinstance(await database.swap(merged.effects), Swapped)
    assert shop.sql("select total, note, at from orders where id = 1")[0][:2] == (1, "o1")
    assert str(shop.sql("select at from orders where id = 1")[0][0]) == "5 days, 0:00:00"


async def test_the_same_column_is_a_clash(newest: Shop) -> None:
    database = newest.open()
    effects = await newest.do(database, "update ruled set v = 'ours' where id = 1")
    newest.sql("update ruled set v = 'theirs' where id = 1")
    wanted = reversed_effects(effects)
    present = await database.look([effect.object for effect in wanted], [effect.before for effect in wanted])
    assert isinstance(await database.merge(wanted, present), Clash)
    assert isinstance(await database.swap(wanted), Drifted)
    assert newest.sql("select v from ruled where id = 1") == [("theirs",)]


async def test_of_many_rows_those_that_others_changed_are_merged(shop: Shop) -> None:
    database = shop.open()
    shop.sql("insert into odd select i, 's' from generate_series(100, 400) i")
    effects = await shop.do(database, 'update odd set t = \'ours\' where "Ünï ""code" >= 100')
    assert [effect.before.kind for effect in effects] == ["rows"]
    shop.sql('update odd set _t = \'theirs\' where "Ünï ""code" = 200')
    wanted = reversed_effects(effects)
    present = await database.look([effect.object for effect in wanted], [effect.before for effect in wanted])
    merged = await database.merge(wanted, present)
    assert isinstance(merged, Merged), merged
    await shop.objects.put_blobs(dict(merged.blobs))
    swapped = await database.swap(merged.effects)
    assert isinstance(swapped, Swapped), swapped
    assert shop.sql("select count(*) from odd where t is not null") == [(0,)]
    assert shop.sql('select _t from odd where "Ünï ""code" = 200') == [("theirs",)]
    back = await database.swap(reversed_effects(swapped.effects))
    assert isinstance(back, Swapped) and shop.sql("select count(*) from odd where t = 'ours'") == [(301,)]


async def test_rows_without_a_key_are_counted(shop: Shop) -> None:
    database = shop.open()
    same = "insert into loose values (7, 'same', null, null)"
    shop.sql(same)
    effects = await shop.do(database, same, same)
    shop.sql(same)
    wanted = reversed_effects(effects)
    assert isinstance(await database.swap(wanted), Drifted)
    present = await database.look([effect.object for effect in wanted], [effect.before for effect in wanted])
    merged = await database.merge(wanted, present)
    assert isinstance(merged, Merged)
    await shop.objects.put_blobs(dict(merged.blobs))
    assert isinstance(await database.swap(merged.effects), Swapped)
    assert shop.sql("select count(*) from loose where b = 'same'") == [(2,)], "theirs, before and after"


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        ("delete from items where line = 1", "delete from customers where id = 3", "foreign key"),
        ("delete from customers where id = 1", "insert into customers (email) values ('c1')", "unique"),
        ('delete from odd where "Ünï ""code" = 1', "alter table odd drop column t", ""),
        (
            "insert into customers (email) values ('new')",
            "insert into orders (customer) select max(id) from customers",
            "foreign key",
        ),
        ("create table fresh (id int)", "insert into fresh values (1)", "rows into the table"),
        (
            "create table fresh (id int primary key)",
            "create table other (id int references fresh)",
            "depend on the table",
        ),
        ("drop table optional", "create table optional (id int)", "another"),
        ("update ruled set v = 'x'", "alter table ruled add column more int", ""),
        ("truncate loose", "insert into loose values (1, null, '{\"a\": 1}', '10.0.0.1/32')", ""),
        ("update ruled set v = 'x' where id = 1", "drop table ruled", "not there any more"),
    ],
)
async def test_what_others_did_since_is_never_overwritten(shop: Shop, ours: str, theirs: str, why: str) -> None:
    database = shop.open()
    effects = await shop.do(database, ours)
    shop.sql(theirs)
    before = shop.dump()
    answer = await shop.undo(database, effects)
    assert isinstance(answer, Drifted), answer
    assert why in answer.why or why == "another", answer.why
    assert difference(before, shop.dump()) == ""


async def test_a_number_that_somebody_else_drew_is_not_drawn_again(shop: Shop) -> None:
    database = shop.open()
    execution = await shop.run(database, "insert into audit (what) values ('ours')")
    shop.sql("insert into audit (what) values ('theirs')")
    effects = await execution.commit()
    drawn = shop.sql("select max(id) from audit")
    wanted = reversed_effects(effects)
    answer = await database.swap(wanted)
    if isinstance(answer, Drifted):
        merged = await database.merge(wanted, answer.present)
        assert isinstance(merged, Merged)
        assert isinstance(await database.swap(merged.effects), Swapped)
    assert shop.sql("select last_value from audit_id_seq") == drawn
    assert shop.sql("select what from audit where what in ('ours', 'theirs')") == [("theirs",)]


async def test_a_number_that_a_row_had_before_anybody_drew_it_keeps_no_counter(shop: Shop) -> None:
    """A key that was moved to where the counter has yet to come; the counter's own act is taken back first."""
    database = shop.open()
    shop.sql("select setval('customers_id_seq', 104)")
    before = shop.dump()
    moved = await shop.do(database, "update customers set id = id + 100 where id = 5")
    between = shop.dump()
    drawn = await shop.do(database, "insert into customers (email) values ('c1') on conflict do nothing")
    assert [effect.object for effect in drawn] == ["shop//@sequence/customers_id_seq"]
    undone = await shop.undo(database, drawn)
    assert isinstance(undone, Swapped) and difference(between, shop.dump()) == ""
    redone = await shop.undo(database, undone.effects)
    assert isinstance(redone, Swapped) and isinstance(await shop.undo(database, redone.effects), Swapped)
    assert difference(between, shop.dump()) == ""
    assert isinstance(await shop.undo(database, moved), Swapped) and difference(before, shop.dump()) == ""


async def test_a_number_that_a_row_took_since_keeps_the_counter(shop: Shop) -> None:
    database = shop.open()
    shop.sql("select setval('customers_id_seq', 104)")
    drawn = await shop.do(database, "select nextval('customers_id_seq')")
    shop.sql("update customers set id = 105 where id = 5")
    assert isinstance(await shop.undo(database, drawn), Drifted)
    assert shop.sql("select last_value from customers_id_seq") == [(105,)]


async def test_numbers_that_cannot_be_compared_keep_the_counter_and_nothing_else(shop: Shop) -> None:
    database = shop.open()
    shop.sql("create table words (id serial primary key, v text)")
    shop.sql("alter table words alter id drop default, alter id type text")
    effects = await shop.do(database, "insert into words select 'w' || nextval('words_id_seq'), 'x'")
    wanted = reversed_effects(effects)
    answer = await database.swap(wanted)
    assert isinstance(answer, Drifted)
    merged = await database.merge(wanted, answer.present)
    assert isinstance(merged, Merged) and isinstance(await database.swap(merged.effects), Swapped)
    assert shop.sql("select count(*) from words") == [(0,)]
    assert shop.sql("select last_value from words_id_seq") == [(1,)]


async def test_triggers_and_cascades_stay_silent_while_rows_are_put_back(shop: Shop) -> None:
    database = shop.open()
    effects = await shop.do(database, "delete from orders where id = 2")
    count = shop.sql("select count(*) from audit")
    await shop.undo(database, effects)
    assert shop.sql("select count(*) from audit") == [(count[0][0] - 2,)] or shop.sql("select count(*) from audit") == [
        (count[0][0] - 1,)
    ]


async def test_a_role_that_cannot_keep_triggers_silent_is_told_so_beforehand(shop: Shop) -> None:
    with shop.server.admin(shop.name) as admin:
        admin.execute("grant all on all tables in schema public to plain")
        admin.execute("grant all on all sequences in schema public to plain")
    database = shop.open(user="plain")
    noisy = await shop.run(database, "update orders set note = 'n' where id = 1")
    assert noisy.reversibility == "compensable" and "triggers" in noisy.reason
    await noisy.discard()
    for text in (
        "update odd set t = 'x'",
        "delete from parts",
        "insert into items values (1, 500)",
        "delete from loose",
    ):
        before = shop.dump()
        quiet = await shop.run(database, text)
        assert quiet.reversibility == "reversible", (text, quiet.reason)
        await shop.objects.put_blobs(quiet.blobs)
        answer = await shop.undo(database, await quiet.commit())
        assert isinstance(answer, Swapped), (text, answer)
        assert difference(before, shop.dump()) == ""
    effects = await shop.do(database, "update orders set note = 'n' where id = 1")
    answer = await shop.undo(
        database, tuple(effect for effect in effects if "audit" not in effect.object and "totals" not in effect.object)
    )
    assert isinstance(answer, Swapped) and answer.warnings
    assert shop.sql("select note from orders where id = 1") == [("o1",)]


async def test_what_cannot_be_read_or_written_is_said_before(newest: Shop) -> None:
    with newest.server.admin(newest.name) as admin:
        admin.execute("grant update, select on ruled to plain")
        admin.execute("grant select, insert, update, delete on optional to plain")
        admin.execute("alter table optional enable row level security")
        admin.execute("create policy part on optional to plain using (id < 3)")
    database = newest.open(user="plain")
    for text, why in (
        ("update ruled set v = 'x'", "could not put them back"),
        ("update optional set v = 'x'", "row security"),
    ):
        execution = await newest.run(database, text)
        assert execution.reversibility == "irreversible" and why in execution.reason, execution.reason
        await execution.discard()


async def test_more_rows_than_are_kept_is_said_before(newest: Shop) -> None:
    database = newest.open()
    few = Bounds(seconds=30, returned_rows=10, returned_bytes=1000, capture_rows=10, capture_bytes=1 << 20)
    small = Bounds(seconds=30, returned_rows=10, returned_bytes=1000, capture_rows=1000, capture_bytes=100)
    for bounds in (few, small):
        execution = await newest.run(database, "update items set what = 'x'", bounds=bounds)
        assert execution.reversibility == "irreversible" and "more rows of items than images" in execution.reason
        await execution.discard()


@pytest.mark.parametrize(
    "text",
    [
        "alter table odd drop column t",
        "alter table odd alter column t type int using null",
        "create function f() returns int language sql as 'select 1'",
        "grant select on odd to public",
        "do $$ begin create table hidden (id int); execute 'comment on table odd is ''x'''; end $$",
        "do $$ begin execute 'create role sneaky'; end $$",
        "drop table customers cascade",
        "create extension if not exists plpgsql_check_nothing",
    ],
)
async def test_changes_of_the_schema_that_cannot_be_taken_back_are_said_before(newest: Shop, text: str) -> None:
    database = newest.open()
    before = newest.dump()
    try:
        execution = await newest.run(database, text)
    except ToolError:
        pass
    else:
        assert execution.reversibility == "irreversible" and execution.reason
        assert execution.effects
        await execution.discard()
    assert difference(before, newest.dump()) == ""


async def test_collisions_with_others_are_tried_again(newest: Shop) -> None:
    database = newest.open()
    newest.sql(
        "create function slow() returns int language plpgsql as $$ begin perform pg_sleep(0.4); return 1; end $$"
    )
    import anyio

    answers: list[object] = []

    async def act() -> None:
        answers.append(
            await newest.do(database, "update ruled set v = v || slow() where id = 1 and (select slow()) = 1")
        )

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(act)
    assert len(answers) == 3 and newest.sql("select v from ruled where id = 1") == [("r1111",)]


async def test_values_come_back_as_the_caller_can_use_them(shop: Shop) -> None:
    database = shop.open()
    answer = await database.query(
        Statement(
            "select 1::int4 a, 9007199254740993::int8 b, 1.50::numeric c, 'NaN'::float8 d, true e, '\\x00ff'::bytea f,"
            " '{\"x\": [1]}'::jsonb g, null h, $1::int[] i, $2::jsonb j, $3 k, '2026-01-02'::date l",
            [[1, 2, None], {"a": 'b"'}, "ü'--"],
        ),
        BOUNDS,
    )
    assert answer.rows == [
        [
            1,
            "9007199254740993",
            "1.50",
            "NaN",
            True,
            {"base64": "AP8="},
            {"x": [1]},
            None,
            "{1,2,NULL}",
            {"a": 'b"'},
            "ü'--",
            "2026-01-02",
        ]
    ]
    cut = await database.query(Statement("select generate_series(1, 1000)"), Bounds(30, 10, 1000, 1, 1))
    assert len(cut.rows) == 10 and cut.truncated


async def test_rows_are_named_by_their_key(newest: Shop) -> None:
    database = newest.open()
    effects = await newest.do(
        database, "update parts set v = 0 where id = 1 and kind = 'b'", "update ruled set v = 'x' where id = 2"
    )
    assert {effect.object for effect in effects} == {"shop//parts_a/1,b", "shop//ruled/2"}
    told = await rows.row_of(effects[0].before, newest.objects)
    assert told == {"id": "1", "kind": "b", "v": "1"}


async def test_what_comes_after_a_dropped_table_in_the_same_call_finds_its_tables(shop: Shop) -> None:
    database = shop.open()
    before = shop.dump()
    effects = await shop.do(
        database, "drop table optional", "update loose set b = 'y'", "insert into tree values (9, 1, 'x')"
    )
    assert shop.sql("select count(*) from loose where b = 'y'") == [(9,)]
    assert isinstance(await shop.undo(database, effects), Swapped)
    assert difference(before, shop.dump()) == ""


async def test_a_dropped_table_comes_back_before_its_foreign_keys_do(shop: Shop) -> None:
    """What they refer to was emptied by the same call, and is put back in between."""
    database = shop.open()
    before = shop.dump()
    effects = await shop.do(database, "drop table optional", "truncate customers cascade")
    assert shop.sql("select count(*) from customers") == [(0,)]
    assert isinstance(await shop.undo(database, effects), Swapped)
    assert difference(before, shop.dump()) == ""
