"""What must not run is refused with one sentence and one of advice, and nothing has changed."""

from __future__ import annotations

import os

import pytest
from tests.tools.database.postgres.conftest import BOUNDS, Shop
from tests.tools.database.postgres.world import difference

from takeback.tools.contract import ToolError
from takeback.tools.database.port import Statement
from takeback.tools.database.postgres.guard import kind_of
from takeback.tools.database.postgres.scanning import one_statement
from takeback.tools.system import Refused, TargetError

NEVER = [
    "commit",
    "rollback",
    "begin",
    "start transaction",
    "end",
    "abort",
    "savepoint a",
    "release a",
    "/* x */ -- y\n commit",
    "((commit))",
    "prepare transaction 'x'",
    "set transaction read write",
    "set session characteristics as transaction read write",
    "set session_replication_role = replica",
    "set role postgres",
    "reset all",
    "discard all",
    "load 'x'",
    "lock table orders",
    "listen a",
    "notify a",
    "unlisten *",
    "copy orders to program 'touch /tmp/owned'",
    "copy orders to '/tmp/owned'",
    "copy orders from stdin",
    "copy (delete from orders returning *) to stdout",
    "vacuum",
    "vacuum full orders",
    "cluster",
    "reindex database x",
    "checkpoint",
    "create database x",
    "drop database x",
    "alter system set fsync = off",
    "create tablespace x location '/tmp'",
    "create role x superuser",
    "drop role plain",
    "alter user agent superuser",
    "create index concurrently i on orders (id)",
    "refresh materialized view concurrently x",
    "prepare p as delete from orders",
    "execute p",
    "declare c cursor with hold for select 1",
    "select 1; commit; drop table orders",
    "delete from orders; commit",
    "delete from orders; delete from items",
    ";",
    "",
    "-- nothing",
    "select 'open",
    'select "open',
    "select $$open",
    "/* open",
    "select pg_notify('a', 'b')",
    "select pg_catalog . pg_notify('a', 'b')",
    "select \"pg_notify\"('a', 'b')",
    "select U&\"pg\\005fnotify\"('a', 'b')",
    "select pg_advisory_lock(1)",
    "select pg_try_advisory_xact_lock(1)",
    "select pg_reload_conf()",
    "select pg_switch_wal()",
    "select pg_read_file('postgresql.conf')",
    "select pg_ls_dir('.')",
    "select lo_create(0)",
    "select lo_import('/etc/passwd')",
    "select lo_export(1, '/tmp/x')",
    "select dblink_exec('', 'delete from orders')",
    "select pg_terminate_backend(1)",
    "select set_config('session_replication_role', 'replica', false)",
    "select query_to_xml('delete from orders', true, true, '')",
    "select pg_export_snapshot()",
    "select pg_logical_emit_message(true, 'a', 'b')",
    "select * from takeback.changes",
    "frobnicate",
    "set transaction read write; insert into ruled values (99)",
    "select lo_creat(-1)",
    "select lo_from_bytea(0, 'x')",
    "select lo_unlink(1)",
    "with x as (select pg_notify('a', 'b')) select * from x",
    "select * from orders where pg_advisory_lock(id) is not null",
    "do $$ begin perform pg_notify('a', 'b'); end $$",
    "do $$ begin if true then notify a; end if; end $$",
    "do 'begin listen a; end'",
    "do $$ begin execute 'notify a'; end $$",
    "do $$ begin execute 'select lo_create(0)'; end $$",
    "do $$ begin perform pg_advisory_lock(1); end $$",
    "do $$ begin delete from ruled; commit; end $$",
    "do $$ begin delete from ruled; rollback; end $$",
    "do $$ begin copy orders to program 'touch /tmp/owned'; end $$",
    "import foreign schema a from server b into public",
    "reassign owned by agent to plain",
    "drop owned by plain",
    "security label on table orders is 'x'",
    "alter database postgres set work_mem = '1MB'",
    "grant postgres to agent",
    "create extension plpython3u",
    "create subscription s connection '' publication p",
    "explain analyze execute p",
]
INSISTED = [
    "copy orders to program 'touch /tmp/owned'",
    "copy orders to '/tmp/owned'",
    "select pg_read_file('postgresql.conf')",
    "select pg_ls_dir('.')",
    "select lo_import('/etc/passwd')",
    "select pg_reload_conf()",
    "select pg_switch_wal()",
    "select pg_terminate_backend(pg_backend_pid())",
    "alter system set fsync = off",
    "create role x superuser",
    "set session_replication_role = replica",
    "do $$ begin perform pg_reload_conf(); end $$",
    "do $$ begin execute 'copy orders to program ''touch /tmp/owned'''; end $$",
]
NOT_READS = [
    "delete from orders",
    "insert into ruled values (99)",
    "with gone as (delete from orders returning *) select * from gone",
    "select nextval('audit_id_seq')",
    "select setval('audit_id_seq', 9)",
    "explain analyze delete from orders",
    "select * from orders for update",
    "do $$ begin delete from orders; end $$",
    "call raise_all(1)",
    "create table x (id int)",
    "create temp table x as select 1",
    "select 1 into x",
    "truncate loose",
    "select writer()",
    "merge into totals using (select 1) s on false when not matched then insert values (99, 1)",
]


@pytest.mark.parametrize("text", NEVER)
async def test_what_is_never_run_changes_nothing(newest: Shop, text: str) -> None:
    database = newest.open()
    before = newest.dump()
    for run in (
        database.execute([Statement(text)], BOUNDS),
        database.execute([Statement("select 1"), Statement(text)], BOUNDS),
        database.query(Statement(text), BOUNDS),
    ):
        with pytest.raises(ToolError) as refused:
            await run
        assert str(refused.value).endswith(".") and refused.value.advice
    assert difference(before, newest.dump()) == ""


@pytest.mark.parametrize("text", NOT_READS)
async def test_nothing_that_writes_gets_through_a_query(shop: Shop, text: str) -> None:
    shop.sql(
        "create or replace function writer() returns int language sql volatile as 'delete from orders returning 1'"
    )
    database = shop.open()
    before = shop.dump()
    with pytest.raises(ToolError) as refused:
        await database.query(Statement(text), BOUNDS)
    assert refused.value.advice
    assert difference(before, shop.dump()) == ""


@pytest.mark.parametrize(
    "text",
    ["select 1;", "table orders", "values (1), (2)", "show server_version", "explain select 1", "(select 1) union select 2",
     "with a as (select 1) select * from a", "select 'a;b', $$;commit;$$, \"id\" from orders -- ; commit"],
)  # fmt: skip
async def test_what_reads_gets_through(newest: Shop, text: str) -> None:
    assert (await newest.open().query(Statement(text), BOUNDS)).columns


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("select 1", "read"),
        ("insert into a select 1 into_b", "write"),
        ("select 1 into b", "table"),
        ("with a as (select 1) select * into b from a", "table"),
        ("create table if not exists a (id int)", "table"),
        ("create unlogged table a (id int)", "table"),
        ("drop table a, b cascade", "drop"),
        ("truncate a", "truncate"),
        ("create index on a (b)", "schema"),
        ("alter table a add b int", "schema"),
        ("merge into a using b on true when matched then delete", "write"),
    ],
)
def test_statements_are_told_apart(text: str, kind: str) -> None:
    assert kind_of(text) == kind


def test_semicolons_inside_quotes_and_comments_end_nothing() -> None:
    for text in (
        "select 'a;b'",
        "select $x$ a; b $$ ; $x$",
        "select E'it\\'s; here'",
        'select "a;b"',
        "select 1 /* ; /* nested ; */ ; */",
        "select 1 -- ; x",
        "select 1 ; ; ",
    ):
        assert one_statement(text)


async def test_errors_carry_nobody_elses_data(newest: Shop) -> None:
    database = newest.open()
    newest.sql("insert into customers (id, email) values (77, 'secret@example.com')")
    for text in (
        "insert into customers (email) values ('c1')",
        "update customers set email = 'c1' where id = 77",
        "update customers set email = (select email from customers where id = 77) where id = 1",
        "select email::int from customers where id = 77",
        "update customers set credit = -1 where id = 77",
        "insert into orders (customer) values (4711)",
    ):
        with pytest.raises(ToolError) as refused:
            await database.execute([Statement(text)], BOUNDS)
        assert "secret" not in f"{refused.value} {refused.value.advice}", refused.value


async def test_a_superuser_is_refused_unless_the_configuration_insists(newest: Shop) -> None:
    with pytest.raises((ToolError, TargetError)) as refused:
        await newest.open(user="postgres").query(Statement("select 1"), BOUNDS)
    assert "superuser" in str(refused.value)
    assert await newest.open(user="postgres", superuser=True).query(Statement("select 1"), BOUNDS)


@pytest.mark.parametrize("text", INSISTED)
async def test_a_superuser_whom_the_configuration_insists_on_gets_no_further(newest: Shop, text: str) -> None:
    """`READ ONLY` would let most of these through."""
    database = newest.open(user="postgres", superuser=True)
    before = newest.dump()
    for run in (database.execute([Statement(text)], BOUNDS), database.query(Statement(text), BOUNDS)):
        with pytest.raises(ToolError) as refused:
            await run
        assert str(refused.value).endswith(".") and refused.value.advice
    assert difference(before, newest.dump()) == "" and not os.path.exists("/tmp/owned")


async def test_a_role_that_may_only_read_makes_no_large_object(newest: Shop) -> None:
    with newest.server.admin(newest.name) as admin:
        admin.execute("grant select on all tables in schema public to plain")
    database = newest.open(user="plain")
    for text in ("select lo_create(0)", "select lo_creat(-1)", "select lo_from_bytea(0, 'x')"):
        for run in (database.execute([Statement(text)], BOUNDS), database.query(Statement(text), BOUNDS)):
            with pytest.raises(ToolError):
                await run
    assert newest.sql("select count(*) from pg_largeobject_metadata") == [(0,)]


async def test_a_block_that_only_changes_rows_runs(newest: Shop) -> None:
    database = newest.open()
    text = "do $$ declare told int := 1; begin update ruled set v = 'copy; notify a' where id = told; end $$"
    assert [effect.object for effect in await newest.do(database, text)] == ["shop//ruled/1"]


async def test_a_server_that_is_not_there_is_said_in_one_sentence(
    newest: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from takeback.tools.database.postgres.database import PostgresDatabase
    from takeback.tools.database.settings import DatabaseSettings

    monkeypatch.setenv("PGPASSWORD", "very-secret")
    nowhere = PostgresDatabase(
        "shop", DatabaseSettings(url="postgresql://agent@/none?host=/nonexistent"), newest.objects
    )
    with pytest.raises(ToolError) as refused:
        await nowhere.query(Statement("select 1"), BOUNDS)
    assert "cannot be reached" in str(refused.value) and "very-secret" not in str(refused.value)
    with pytest.raises(TargetError):
        await nowhere.look(["shop//orders/1"], [None])


async def test_a_statement_that_takes_too_long_is_cancelled(newest: Shop) -> None:
    from takeback.tools.database.port import Bounds

    database = newest.open()
    before = newest.dump()
    short = Bounds(seconds=0.2, returned_rows=1, returned_bytes=1, capture_rows=1, capture_bytes=1)
    for run in (
        database.query(Statement("select pg_sleep(30)"), short),
        database.execute([Statement("update ruled set v = 'x'"), Statement("select pg_sleep(30)")], short),
    ):
        with pytest.raises(ToolError) as refused:
            await run
        assert refused.value.code == "timeout"
    assert difference(before, newest.dump()) == ""


async def test_a_cancelled_caller_stops_the_statement_at_the_server(newest: Shop) -> None:
    import anyio

    database = newest.open()
    before = newest.dump()
    busy = (
        "select count(*) from pg_stat_activity where query like '%pg_sleep(31)%' and pid <> pg_backend_pid()"
        " and state = 'active'"
    )

    async def run() -> None:
        await database.execute([Statement("update ruled set v = 'x' where pg_sleep(31) is not null")], BOUNDS)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        while newest.sql(busy) == [(0,)]:
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert newest.sql(busy) == [(0,)]
    assert difference(before, newest.dump()) == ""


async def test_names_are_not_values(newest: Shop) -> None:
    database = newest.open()
    with pytest.raises(ToolError, match="numbered"):
        await database.query(Statement("select $1", {"a": 1}), BOUNDS)
    with pytest.raises((ToolError, Refused), match="NUL"):
        await database.query(Statement("select $1::text", ["a\0b"]), BOUNDS)
    with pytest.raises(ToolError):
        await database.query(Statement("select $1 || $2", ["a"]), BOUNDS)


async def test_a_missing_driver_is_said_with_what_to_install(newest: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ToolError) as refused:
        await newest.open().query(Statement("select 1"), BOUNDS)
    assert "takeback[postgres]" in refused.value.advice


async def test_a_password_comes_from_the_keyring(newest: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    import keyring
    from keyring.backend import KeyringBackend

    asked: list[tuple[str, str]] = []

    class Kept(KeyringBackend):
        priority = 1  # type: ignore[assignment]  # a property there

        def get_password(self, service: str, username: str) -> str | None:
            asked.append((service, username))
            return "from the keyring"

        def set_password(self, service: str, username: str, password: str) -> None:
            raise AssertionError

        def delete_password(self, service: str, username: str) -> None:
            raise AssertionError

    earlier = keyring.get_keyring()
    keyring.set_keyring(Kept())
    try:
        assert await newest.open().query(Statement("select 1"), BOUNDS)
    finally:
        keyring.set_keyring(earlier)
    assert asked == [("takeback", "database/shop")]
