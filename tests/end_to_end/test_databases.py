"""An agent at work on a SQLite file of its user's, over stdio; the user with another program on the same file."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from takeback.tools.database.rows import AS_OBJECTS

SCHEMA = """\
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    customer INTEGER REFERENCES customers ON DELETE CASCADE,
    status TEXT, note TEXT, total REAL
);
CREATE TABLE log (what TEXT);
CREATE TRIGGER gone AFTER DELETE ON orders BEGIN INSERT INTO log VALUES ('order ' || old.id); END;
INSERT INTO customers VALUES (1, 'Ada'), (2, 'Grace');
INSERT INTO orders (customer, status, total) VALUES (1, 'open', 10.5), (2, 'open', 20.0), (2, 'paid', 0.1);
"""
ROUNDS = 3 * AS_OBJECTS


class Shop:
    """The user's file, seen and changed without takeback, from a process that is not the server's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(SCHEMA)

    def do(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("PRAGMA foreign_keys = ON")
            return connection.execute(sql, values).fetchall()

    def dump(self) -> list[str]:
        with closing(sqlite3.connect(self.path)) as connection:
            return list(connection.iterdump())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    (tmp_path / "site").mkdir()
    return Shop(tmp_path / "site" / "shop.db")


def environment(folder: Path) -> dict[str, str]:
    (folder / "config.toml").touch()
    return {
        "TAKEBACK_CONFIG": str(folder / "config.toml"),
        "TAKEBACK_DATA": str(folder / "data"),
        "TAKEBACK_KEY_FILE": str(folder / "key.json"),
        "TAKEBACK_ANCHOR_FILE": str(folder / "anchors"),
    }


@asynccontextmanager
async def chat(folder: Path, mode: str = "auto") -> AsyncIterator[Client]:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "takeback", "serve", "--workspace", str(folder / "site")],
        env=environment(folder),
    )
    async with Client(server, mode=mode) as client:
        yield client


async def act(client: Client, tool: str, **arguments: Any) -> Mapping[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.structured_content
    assert answer.structured_content is not None
    return answer.structured_content


async def sql(client: Client, statement: str, *values: Any, **more: Any) -> Mapping[str, Any]:
    return await act(client, "execute_sql", database="shop.db", sql=statement, parameters=list(values), **more)


async def refused(client: Client, tool: str, **arguments: Any) -> Mapping[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error, answer.structured_content
    assert answer.structured_content is not None
    error: Mapping[str, Any] = answer.structured_content["error"]
    assert error["message"] and error["advice"]
    return error


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_cascades_triggers_and_counters_are_taken_back_and_come_again_with_a_redo(tmp_path, shop, era):
    before = shop.dump()
    async with chat(tmp_path, era) as client:
        run_id = (await act(client, "start_run", goal="Tidy the shop"))["run_id"]
        done = await sql(client, "DELETE FROM customers WHERE id = ?", 2, run_id=run_id)
        deleted = {table["table"]: table["deleted"] for table in done["result"]["tables"]}
        assert (deleted["customers"], deleted["orders"]) == (1, 2)
        await sql(client, "INSERT INTO orders (customer, status) VALUES (1, 'new') RETURNING id", run_id=run_id)
        after = shop.dump()
        back = await act(client, "rollback_run", run_id=run_id)
        assert [step["outcome"] for step in back["steps"]] == ["restored", "restored"]
        assert shop.dump() == before
        redone = await act(client, "redo_rollback", rollback_id=back["rollback_id"])
        assert redone["status"] == "complete"
        assert shop.dump() == after


async def test_what_a_person_changed_in_another_column_stays_and_in_the_same_one_it_is_a_conflict(tmp_path, shop):
    async with chat(tmp_path) as client:
        run_id = (await act(client, "start_run", goal="Ship"))["run_id"]
        await sql(client, "UPDATE orders SET status = 'shipped' WHERE id = 1", run_id=run_id)
        await sql(client, "UPDATE orders SET status = 'shipped' WHERE id = 2", run_id=run_id)
        shop.do("UPDATE orders SET note = 'call first' WHERE id = 1")
        shop.do("UPDATE orders SET status = 'returned' WHERE id = 2")
        back = await act(client, "rollback_run", run_id=run_id)
        assert [step["outcome"] for step in back["steps"]] == ["conflict", "merged"]
        assert back["status"] == "partial"
        assert shop.do("SELECT id, status, note FROM orders WHERE id < 3 ORDER BY id") == [
            (1, "open", "call first"),
            (2, "returned", None),
        ]
        [item] = back["open_items"]
        resolved = await act(client, "resolve_conflict", conflict_id=item["conflict_id"], choice="ours")
        assert resolved["status"] == "complete"
        assert shop.do("SELECT status FROM orders WHERE id = 2") == [("open",)]


async def test_a_row_on_which_a_person_has_built_stays_and_the_report_says_what_stands_in_the_way(tmp_path, shop):
    async with chat(tmp_path) as client:
        done = await sql(client, "INSERT INTO customers VALUES (9, 'New')")
        shop.do("INSERT INTO orders (customer, status) VALUES (9, 'theirs')")
        back = await act(client, "rollback_run", actions=[done["action_id"]])
        assert [step["outcome"] for step in back["steps"]] == ["conflict"]
        assert "foreign key" in back["steps"][0]["why"]
        assert "hold still" not in back["report"]
    assert shop.do("SELECT count(*) FROM customers WHERE id = 9") == [(1,)]
    assert shop.do("SELECT status FROM orders WHERE customer = 9") == [("theirs",)]


async def test_a_conflict_can_be_settled_with_a_row_that_a_person_writes(tmp_path, shop):
    async with chat(tmp_path) as client:
        done = await sql(client, "UPDATE orders SET status = 'shipped' WHERE id = 1")
        shop.do("UPDATE orders SET status = 'lost' WHERE id = 1")
        back = await act(client, "rollback_run", actions=[done["action_id"]])
        [item] = back["open_items"]
        row = {"id": 1, "customer": 1, "status": "found", "note": None, "total": {"real": (10.5).hex()}}
        await act(
            client,
            "resolve_conflict",
            conflict_id=item["conflict_id"],
            choice="content",
            content=json.dumps(row),
        )
        assert shop.do("SELECT status, total FROM orders WHERE id = 1") == [("found", 10.5)]


async def test_large_changes_one_upon_the_other_are_taken_back_with_a_persons_rows_among_them(tmp_path, shop):
    async with chat(tmp_path) as client:
        run_id = (await act(client, "start_run", goal="Fill"))["run_id"]
        numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        await sql(client, f"{numbers} INSERT INTO orders (customer, total) SELECT 1, i FROM n", ROUNDS, run_id=run_id)
        await sql(client, "UPDATE orders SET total = total * 2, status = 'sale'", run_id=run_id)
        await sql(client, "UPDATE orders SET note = 'checked' WHERE id = 1", run_id=run_id)
        shop.do("UPDATE customers SET name = 'Augusta' WHERE id = 1")
        shop.do("INSERT INTO orders (customer, status) VALUES (2, 'by hand')")
        shop.do("UPDATE orders SET note = 'fragile' WHERE id = 2")
        back = await act(client, "rollback_run", run_id=run_id)
        assert back["status"] == "complete", back["report"]
        assert shop.do("SELECT id, status, note, total FROM orders ORDER BY id") == [
            (1, "open", None, 10.5),
            (2, "open", "fragile", 20.0),
            (3, "paid", None, 0.1),
            (ROUNDS + 4, "by hand", None, None),
        ]
        assert shop.do("SELECT name FROM customers WHERE id = 1") == [("Augusta",)]


async def test_a_dry_run_shows_the_rows_and_changes_nothing(tmp_path, shop):
    before = shop.path.read_bytes()
    async with chat(tmp_path) as client:
        shown = await sql(client, "DELETE FROM customers WHERE id = 2", dry_run=True)
    assert shown["status"] == "shadowed"
    assert "customers: 1 row deleted" in "\n".join(shown["preview"])
    assert "orders: 2 rows deleted" in "\n".join(shown["preview"])
    assert "name=Grace" in "\n".join(shown["preview"])
    assert shop.path.read_bytes() == before


async def test_several_statements_are_one_act_or_none(tmp_path, shop):
    before = shop.dump()
    async with chat(tmp_path) as client:
        good = [{"sql": "UPDATE orders SET status = 'a'"}, {"sql": "INSERT INTO log VALUES (?)", "parameters": ["x"]}]
        bad = [*good, {"sql": "INSERT INTO customers VALUES (1, 'twice')"}]
        await refused(client, "execute_sql", database="shop.db", statements=bad)
        assert shop.dump() == before
        done = await act(client, "execute_sql", database="shop.db", statements=good)
        assert len(done["result"]["statements"]) == 2
        await act(client, "rollback_run", actions=[done["action_id"]])
        assert shop.dump() == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM orders; DELETE FROM customers",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT x",
        "ATTACH DATABASE '/tmp/other.db' AS other",
        "VACUUM INTO '/tmp/copy.db'",
        "PRAGMA writable_schema = ON",
        "PRAGMA journal_mode = OFF",
        "SELECT load_extension('evil')",
        "this is no SQL",
    ],
)
async def test_what_nobody_can_take_back_is_refused_in_a_sentence_and_nothing_changes(tmp_path, shop, statement):
    before = shop.dump()
    async with chat(tmp_path) as client:
        await refused(client, "execute_sql", database="shop.db", sql=statement)
    assert shop.dump() == before


async def test_nothing_that_writes_gets_through_a_query(tmp_path, shop):
    before = shop.dump()
    async with chat(tmp_path) as client:
        for statement in ("DELETE FROM orders", "INSERT INTO log VALUES ('x') RETURNING 1", "PRAGMA user_version = 7"):
            await refused(client, "query_database", database="shop.db", sql=statement)
        rows = await act(
            client, "query_database", database="shop.db", sql="SELECT id, total FROM orders ORDER BY id", limit=2
        )
    assert (rows["columns"], rows["rows"], rows["truncated"]) == (["id", "total"], [[1, 10.5], [2, 20.0]], True)
    assert shop.dump() == before


@pytest.mark.parametrize("path", ["../outside.db", "data/journal.db", "/etc/passwd", "link.db", "."])
async def test_a_file_that_is_not_the_users_database_is_refused(tmp_path, shop, path):
    (tmp_path / "outside.db").write_bytes(shop.path.read_bytes())
    (tmp_path / "site" / "link.db").symlink_to(tmp_path / "outside.db")
    async with chat(tmp_path) as client:
        await refused(client, "execute_sql", database=path, sql="CREATE TABLE x (y)")
    assert (tmp_path / "outside.db").read_bytes() == shop.path.read_bytes()


async def test_a_second_server_takes_back_what_the_first_did_before_it_was_killed(tmp_path, shop):
    before = shop.dump()
    async with chat(tmp_path) as client:
        run_id = (await act(client, "start_run", goal="Be killed"))["run_id"]
        await sql(client, "UPDATE orders SET status = 'x'", run_id=run_id)
        await sql(client, "CREATE TABLE extra (a)", run_id=run_id)
        await sql(client, "INSERT INTO extra VALUES (1)", run_id=run_id)
    async with chat(tmp_path) as client:
        back = await act(client, "rollback_run", run_id=run_id)
        assert back["status"] == "complete", back["report"]
    assert shop.dump() == before


async def test_a_database_file_that_the_agent_also_deleted_comes_back_with_its_rows(tmp_path, shop):
    before = shop.dump()
    async with chat(tmp_path) as client:
        run_id = (await act(client, "start_run", goal="Wipe"))["run_id"]
        await sql(client, "DELETE FROM orders", run_id=run_id)
        await act(client, "delete_file", path="shop.db", run_id=run_id)
        assert not shop.path.exists()
        back = await act(client, "rollback_run", run_id=run_id)
        assert back["status"] == "complete", back["report"]
    assert shop.dump() == before


async def test_an_agent_does_not_write_over_a_row_that_a_person_changed_since_until_it_looks(tmp_path, shop):
    async with chat(tmp_path) as client:
        await sql(client, "UPDATE orders SET status = 'packed' WHERE id = 1")
        shop.do("UPDATE orders SET status = 'stopped' WHERE id = 1")
        error = await refused(
            client, "execute_sql", database="shop.db", sql="UPDATE orders SET status = 'shipped' WHERE id = 1"
        )
        assert error["code"] == "stale_read"
        await act(client, "query_database", database="shop.db", sql="SELECT * FROM orders WHERE id = 1")
        await sql(client, "UPDATE orders SET status = 'shipped' WHERE id = 1")


async def test_an_earlier_version_of_a_row_can_be_seen_and_put_back(tmp_path, shop):
    async with chat(tmp_path) as client:
        done = await sql(client, "UPDATE orders SET status = 'packed' WHERE id = 1")
        run = await act(client, "get_run", run_id=done["run_id"])
        assert "shop.db" in json.dumps(run)
        row = f"files:{shop.path}//orders/1"
        versions = await act(client, "list_versions", object=row)
        oldest = versions["versions"][-1]["version"]
        await sql(client, "UPDATE orders SET status = 'shipped' WHERE id = 1")
        await act(client, "restore_version", object=row, version=oldest)
        assert shop.do("SELECT status FROM orders WHERE id = 1") == [("open",)]


async def test_databases_are_listed_and_described(tmp_path, shop):
    async with chat(tmp_path) as client:
        listed = await act(client, "list_databases")
        assert [(each["database"], each["kind"]) for each in listed["databases"]] == [("shop.db", "sqlite")]
        described = await act(client, "describe_database", database="shop.db")
    orders = next(table for table in described["tables"] if table["name"] == "orders")
    assert orders["key"] == ["id"]
    assert orders["rows"] == 3
    assert orders["undo"] == "reversible"
    assert orders["foreign_keys"][0]["table"] == "customers"


async def test_a_server_that_dies_in_the_middle_leaves_either_all_of_it_or_nothing_and_knows_which(tmp_path, shop):
    for delay in (0, 1, 2, 4):
        before = shop.dump()
        server = await anyio.open_process(
            [sys.executable, "-m", "takeback", "serve", "--workspace", str(tmp_path / "site")],
            env={**environment(tmp_path), "PATH": os.environ["PATH"]},
        )
        await _send(server, "initialize", _initialize(), 1)
        await _lines(server, 1)
        await _send(server, "tools/call", {"name": "execute_sql", "arguments": _update(delay)}, 2)
        for _ in range(delay * 40):
            await anyio.lowlevel.checkpoint()
        server.send_signal(signal.SIGKILL)
        await server.wait()
        await server.aclose()
        async with chat(tmp_path) as client:
            runs = await act(client, "list_runs")
            changed = shop.dump() != before
            standing = sum(run["standing"] for run in runs["runs"])
            assert standing == (1 if changed else 0), runs
            if changed:
                plan = await act(client, "rollback_run", run_id=runs["runs"][0]["run_id"], dry_run=True)
                await act(client, "rollback_run", run_id=runs["runs"][0]["run_id"], plan_digest=plan["plan_digest"])
        assert shop.dump() == before


def _update(number: int) -> dict[str, Any]:
    return {"database": "shop.db", "sql": f"UPDATE orders SET status = 'killed {number}'"}


def _initialize() -> dict[str, Any]:
    return {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }


async def _send(server: Any, method: str, params: Mapping[str, Any], id: int) -> None:
    frame = json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    await server.stdin.send(frame.encode() + b"\n")


async def _lines(server: Any, count: int) -> None:
    text = b""
    while text.count(b"\n") < count:
        text += await server.stdout.receive()
