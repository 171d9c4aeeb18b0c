"""An agent on PostgreSQL over stdio, a person at psql, a server that dies in between, and the commands for databases."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mcp import Client, StdioServerParameters
from tests.postgres_server import Server, drop, fresh, server

SCHEMA = """
create table customers (id int primary key, name text, city text);
create table orders (id serial primary key, customer int references customers on delete cascade, status text);
insert into customers values (1, 'Ada', 'London'), (2, 'Alan', 'Wilmslow');
insert into orders (customer, status) values (1, 'open'), (1, 'open'), (2, 'open');
"""


@pytest.fixture
def shop() -> Iterator[tuple[Server, str]]:
    running = server(18, durable=True)
    name = fresh(running)
    with psycopg.connect(running.url(name), autocommit=True) as connection:
        connection.execute(SCHEMA)
    yield running, name
    drop(running, name)


def environment(folder: Path, shop: tuple[Server, str]) -> dict[str, str]:
    running, name = shop
    url = running.url(name)
    (folder / "config.toml").write_text(f'[databases.shop]\nurl = "{url}"\n')
    return {
        "TAKEBACK_DATA": str(folder / "data"),
        "TAKEBACK_KEY_FILE": str(folder / "key.json"),
        "TAKEBACK_ANCHOR_FILE": str(folder / "anchors"),
    }


@asynccontextmanager
async def chat(folder: Path, shop: tuple[Server, str]) -> AsyncIterator[Client]:
    (folder / "work").mkdir(exist_ok=True)
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "takeback", "serve", "--workspace", str(folder / "work"), "--config", str(folder / "config.toml")],
        env=environment(folder, shop),
    )
    async with Client(parameters) as client:
        yield client


async def act(client: Client, tool: str, **arguments: Any) -> Mapping[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer
    assert answer.structured_content is not None
    return answer.structured_content


def psql(shop: tuple[Server, str], text: str) -> str:
    running, name = shop
    done = subprocess.run(
        [str(running.bin / "psql"), "-XAtq", "-c", text, running.url(name)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


async def test_an_agent_a_person_and_a_server_that_dies(tmp_path: Path, shop: tuple[Server, str]) -> None:
    everything = (
        "select (select string_agg(c::text, ';' order by id) from customers c),"
        " (select string_agg(o::text, ';' order by id) from orders o)"
    )
    before = psql(shop, everything)
    async with chat(tmp_path, shop) as client:
        run = (await act(client, "start_run", goal="Close the shop"))["run_id"]
        shown = await act(client, "describe_database", database="shop")
        assert {table["name"] for table in shown["tables"]} == {"customers", "orders"}
        gone = await act(
            client,
            "execute_sql",
            database="shop",
            sql="delete from customers where id = $1",
            parameters=[1],
            run_id=run,
        )
        assert gone["reversibility"] == "reversible"
        assert {t["table"]: t["deleted"] for t in gone["result"]["tables"]} == {"customers": 1, "orders": 2}
        await act(client, "execute_sql", database="shop", sql="update orders set status = 'closed'", run_id=run)
        await act(client, "execute_sql", database="shop", sql="update customers set city = 'Manchester'", run_id=run)
        psql(
            shop, "update orders set status = 'by hand' where id = 3; update customers set name = 'Turing' where id = 2"
        )
        shop[0].kill()
        shop[0].start()
        plan = await act(client, "rollback_run", run_id=run, dry_run=True)
        assert psql(shop, "select count(*) from customers") == "1", "a plan does nothing"
        assert {step["outcome"] for step in plan["steps"]} == {"restored", "merged", "conflict"}
        answer = await client.call_tool("rollback_run", {"run_id": run, "plan_digest": plan["plan_digest"]})
        done = answer.structured_content
        assert done is not None and done["status"] == "partial", done
        assert psql(shop, "select count(*) from customers") == "2"
        assert psql(shop, "select name, city from customers where id = 2") == "Turing|Wilmslow"
        assert psql(shop, "select status from orders where id = 3") == "by hand"
        [item] = done["open_items"]
        await act(client, "resolve_conflict", conflict_id=item["conflict_id"], choice="ours")
        assert psql(shop, "select status from orders where id = 3") == "open"
        psql(shop, "update customers set name = 'Alan' where id = 2")
        assert psql(shop, everything) == before
        redone = await act(client, "redo_rollback", rollback_id=done["rollback_id"])
        assert redone["status"] == "complete"
        assert psql(shop, "select count(*) from customers") == "1"
    async with chat(tmp_path, shop) as client:
        again = await act(client, "rollback_run", run_id=run)
        assert again["status"] == "complete", again
        assert psql(shop, everything) == before


def command(folder: Path, shop: tuple[Server, str], *words: str) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "takeback", *words, "--config", str(folder / "config.toml"), "--json"],
        env=environment(folder, shop),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout or done.stderr)


def test_db_prepare_shows_asks_installs_and_unprepare_removes(tmp_path: Path, shop: tuple[Server, str]) -> None:
    triggers = "select count(*) from pg_trigger where tgname = '!takeback'"
    code, plan = command(tmp_path, shop, "db", "prepare", "shop", "--dry-run")
    assert (code, plan["installed"], plan["done"]) == (0, ["customers", "orders"], False)
    assert psql(shop, triggers) == "0"
    assert command(tmp_path, shop, "db", "prepare", "shop")[0] != 0, "nobody is there to be asked"
    assert psql(shop, triggers) == "0"
    code, done = command(tmp_path, shop, "db", "prepare", "shop", "--yes")
    assert (code, done["done"]) == (0, True) and psql(shop, triggers) == "2"
    code, gone = command(tmp_path, shop, "db", "unprepare", "shop", "--yes")
    assert (code, gone["removed"]) == (0, ["customers", "orders"]) and psql(shop, triggers) == "0"
    assert psql(shop, "select count(*) from pg_namespace where nspname = 'takeback'") == "0"
    code, refused = command(tmp_path, shop, "db", "prepare", "nothing")
    assert code != 0 and "nothing" in json.dumps(refused)
