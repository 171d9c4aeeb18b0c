"""A database with everything that makes undoing hard, random statements on it, and an independent dump to compare."""

from __future__ import annotations

import random
from typing import Any

import psycopg

SCHEMA = """
create type mood as enum ('sad', 'ok', 'happy');
create domain positive as numeric(10,3) check (value >= 0);
create type pair as (x int, y text);
create table customers (id serial primary key, email text unique, name char(8), mood mood default 'ok', credit positive,
  tags text[], meta jsonb, span int4range, raw bytea, seen timestamptz default '2026-01-01 00:00+00', weight float8, p pair);
create table orders (id bigint generated always as identity primary key,
  customer int not null references customers on delete cascade on update cascade, total numeric not null default 0,
  twice numeric generated always as (total * 2) stored, note varchar(40), at interval);
create table items (order_id bigint references orders on delete cascade, line int, what text, n int default 1,
  primary key (order_id, line));
create table loose (a int, b text, c jsonb, d inet);
create table audit (id serial primary key, what text, row_id text);
create table totals (customer int primary key, orders int not null default 0);
create table optional (id int primary key, customer int references customers on delete set null on update cascade, v text);
create table parts (id int not null, kind text not null, v numeric, primary key (id, kind)) partition by list (kind);
create table parts_a partition of parts for values in ('a', 'b');
create table parts_b partition of parts default;
create table odd ("Ünï ""code" int primary key, "select" text, t text, _t text, "_q" text);
create table tree (id int primary key, parent int references tree deferrable initially deferred, name text);
create view rich as select id, email, credit from customers where credit > 10;
create view named as select id, name from customers;
create table ruled (id int primary key, v text);
create table ruled_log (id int, v text, at text);
create rule keep as on delete to ruled do also insert into ruled_log values (old.id, old.v, 'gone');
create index on orders (customer);
create function note() returns trigger language plpgsql as $$ begin
  begin
    insert into audit (what, row_id) values (tg_op, coalesce(new.id, old.id)::text);
    if coalesce(new.id, old.id) % 5 = 0 then raise exception 'no'; end if;
  exception when others then
    insert into audit (what, row_id) values ('caught', coalesce(new.id, old.id)::text);
  end;
  return null; end $$;
create trigger b_note after insert or update or delete on orders for each row execute function note();
create function recount() returns trigger language plpgsql as $$ begin
  insert into totals (customer, orders) select customer, count(*) from orders group by 1
    on conflict (customer) do update set orders = excluded.orders;
  return null; end $$;
create trigger recount after insert or update or delete on orders for each statement execute function recount();
create function stamp() returns trigger language plpgsql as $$ begin
  new.seen := coalesce(new.seen, now()) + interval '1 hour'; return new; end $$;
create trigger stamp before update on customers for each row execute function stamp();
create function instead() returns trigger language plpgsql as $$ begin
  update customers set name = new.name where id = new.id; return new; end $$;
create trigger instead instead of update on named for each row execute function instead();
create function later() returns trigger language plpgsql as $$ begin
  insert into audit (what, row_id) values ('later', new.id::text); return null; end $$;
create constraint trigger later after insert on tree deferrable initially deferred for each row execute function later();
create procedure raise_all(by numeric) language plpgsql as $$ begin
  update orders set total = total + by where id % 2 = 0; end $$;
insert into customers (email, name, credit, tags, meta, span, raw, weight, p)
  select 'c' || i, 'n' || i, i * 1.5, array['a', null, 'b"\\' || i], jsonb_build_object('i', i, 'u', 'ü'), int4range(i, i + 3),
  decode('00ff', 'hex'), case when i = 1 then 'NaN'::float8 when i = 2 then '-0'::float8 else i / 3.0 end, row(i, null)::pair
  from generate_series(1, 6) i;
insert into orders (customer, total, note, at) select 1 + i % 6, i, 'o' || i, make_interval(mins => i) from generate_series(1, 14) i;
insert into items select 1 + i % 14, i, 'w' || i from generate_series(1, 20) i;
insert into loose select i % 3, null, '{"a": 1}', '10.0.0.1/32' from generate_series(1, 9) i;
insert into parts select i, (array['a', 'b', 'c'])[1 + i % 3], i from generate_series(1, 9) i;
insert into odd select i, 's' || i from generate_series(1, 4) i;
insert into tree values (1, null, 'root'), (2, 1, 'a'), (3, 1, 'b');
insert into optional select i, 1 + i % 6, 'v' from generate_series(1, 6) i;
insert into ruled select i, 'r' || i from generate_series(1, 5) i;
"""
VIRTUAL = "alter table items add column double int generated always as (n * 2) virtual;"


def build(connection: psycopg.Connection[Any]) -> None:
    """Make the world."""
    connection.execute(SCHEMA.encode())
    if connection.info.server_version >= 180000:
        connection.execute(VIRTUAL)


def statement(chance: random.Random) -> str:
    """A random statement; some of them fail."""
    i, j = chance.randrange(1, 16), chance.randrange(1, 16)
    return chance.choice(
        [
            f"delete from customers where id = {i % 7}",
            f"update customers set credit = credit + {j}, mood = 'happy' where id % 3 = {i % 3}",
            f"update customers set id = id + 100 where id = {i % 7}",
            f"update customers set tags = tags || 'x{j}', meta = meta || '{{\"k\": {j}}}', span = int4range({i}, {i + j}) where id = {i % 7}",
            f"insert into customers (email, name, credit, raw, p) values ('c{i}', 'new', {j}, '\\x{i:02x}', row({i}, 'a,\"(')) on conflict (email) do update set credit = excluded.credit",
            f"insert into customers (email) values ('c{i % 8}') on conflict do nothing",
            f"insert into orders (customer, total) values ({1 + i % 6}, {j}), ({1 + j % 6}, {i})",
            f"update orders set total = total * 1.10, note = null where id between {i} and {i + j}",
            f"delete from orders where id = {i}",
            f"delete from items where line % 3 = {i % 3}",
            f"insert into items values ({i}, {100 + j}, 'it''s', {j}) on conflict do nothing",
            f"update items set n = n + 1 where order_id = {i}",
            f"insert into loose values ({i % 3}, null, '{{\"a\": 1}}', '10.0.0.1/8'), ({i % 3}, null, '{{\"a\": 1}}', '10.0.0.1/8')",
            f"delete from loose where a = {i % 3}",
            f"update loose set b = 'x' where a = {i % 3}",
            f"delete from loose where ctid in (select ctid from loose limit {1 + i % 3})",
            f"with gone as (delete from orders where id = {i} returning customer) insert into loose select customer, 'cte' from gone",
            f"merge into totals t using (select {1 + i % 6} as c, {j} as n) s on t.customer = s.c when matched then update set orders = t.orders + s.n when not matched then insert values (s.c, s.n)",
            f"do $$ begin update items set what = 'do' where line = {i}; begin delete from orders where id = {j}; raise exception 'x'; exception when others then null; end; end $$",
            f"call raise_all({j})",
            f"update parts set kind = 'c' where id = {i}",
            "update parts set v = v + 1 where kind = 'a'",
            f"insert into parts values ({i + 20}, 'z', 1), ({j + 40}, 'a', 2) on conflict do nothing",
            f"delete from parts where id % 4 = {i % 4}",
            f'update odd set "select" = \'y\', t = \'{j}\', _q = null where "Ünï ""code" = {i % 5}',
            f"insert into tree values ({i + 10}, {i + 11}, 'child'), ({i + 11}, 1, 'p') on conflict do nothing",
            f"update tree set parent = null where id = {i}",
            f"update rich set credit = credit - 1 where id = {i % 7}",
            f"update named set name = 'inst' where id = {i % 7}",
            f"delete from ruled where id = {i % 6}",
            f"delete from ruled where id = {i % 6} or id = {j % 6}",
            f"insert into ruled values ({i}, 'r') on conflict (id) do update set v = 'again'",
            "truncate loose",
            "truncate items restart identity",
            "truncate customers cascade",
            "truncate audit restart identity",
            "select nextval('audit_id_seq')",
            f"select setval('customers_id_seq', {100 + i})",
            "drop table optional",
            "drop table if exists ruled_log",
            "drop table items",
            f"create table made_{i} (id serial primary key, v text default 'd')",
            f"create table copied_{i} as select * from orders where id < {j}",
            f"select id into kept_{i} from customers",
            f"insert into optional values ({i}, {1 + j % 6}, 'n') on conflict do nothing",
            "update customers set weight = 'Infinity' where id = 2",
            f"update customers set name = name, weight = weight where id = {i % 7}",
        ]
    )


def dump(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Every table's definition and every cell as text, every counter; by other queries than the product's own."""
    found: dict[str, Any] = {}
    with connection.cursor() as cursor:
        cursor.execute("set datestyle = 'ISO'; set timezone = 'UTC'; set extra_float_digits = 1")
        cursor.execute(
            "select quote_ident(schemaname) || '.' || quote_ident(tablename) from pg_tables"
            " where schemaname not in ('pg_catalog', 'information_schema', 'takeback') and schemaname not like 'takeback_graveyard%' order by 1"
        )
        for (table,) in cursor.fetchall():
            cursor.execute(f"select t::text from only {table} t")  # type: ignore[arg-type]  # a name the server quoted
            found[table] = sorted(str(row[0]) for row in cursor.fetchall())
        cursor.execute(
            "select table_schema, table_name, column_name, data_type, column_default, is_nullable, is_generated, is_identity"
            " from information_schema.columns where table_schema not in ('pg_catalog', 'information_schema', 'takeback')"
            " and table_schema not like 'takeback_graveyard%' order by table_schema, table_name, ordinal_position"
        )
        found["columns"] = cursor.fetchall()
        cursor.execute(
            "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint"
            " where connamespace::regnamespace::text not like 'takeback%' and contype <> 'n' order by 1, 2"
        )
        found["constraints"] = cursor.fetchall()
        cursor.execute(
            "select schemaname, indexname, indexdef from pg_indexes where schemaname not like 'pg_%'"
            " and schemaname not like 'takeback%' order by 1, 2"
        )
        found["indexes"] = cursor.fetchall()
        cursor.execute(
            "select tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) from pg_trigger"
            " where not tgisinternal and tgname not like '!takeback%' order by 1, 2"
        )
        found["triggers"] = cursor.fetchall()
        cursor.execute(
            "select schemaname, sequencename from pg_sequences where schemaname not like 'takeback%' order by 1, 2"
        )
        for schema, name in cursor.fetchall():
            cursor.execute(f'select last_value, is_called from "{schema}"."{name}"')  # type: ignore[arg-type]  # a name
            found[f"counter {name}"] = cursor.fetchone()
    return found


def difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """What differs between two dumps, in a few lines; empty if nothing does."""
    lines: list[str] = []
    for name in sorted({*one, *other}):
        left, right = one.get(name), other.get(name)
        if left != right:
            if isinstance(left, list) and isinstance(right, list):
                left = [each for each in left if each not in right] or left
                right = [each for each in right if each not in (one.get(name) or [])] or right
            lines.append(f"{name}: {str(left)[:300]} -> {str(right)[:300]}")
    return "\n".join(lines)
