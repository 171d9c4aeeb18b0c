"""The page on PostgreSQL: its table is the code's, and the code does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from tests.postgres_server import drop, fresh, server

from takeback.tools.conformance import kit_services
from takeback.tools.contract import ToolError
from takeback.tools.database.port import Bounds, Statement
from takeback.tools.database.postgres.classes import CLASSES, Class, table
from takeback.tools.database.postgres.database import PostgresDatabase
from takeback.tools.database.settings import DatabaseSettings

PAGE = Path(__file__).parents[2] / "docs" / "postgresql.md"
BOUNDS = Bounds(seconds=30, returned_rows=10, returned_bytes=1000, capture_rows=1000, capture_bytes=1 << 20)


def test_the_table_on_the_page_is_the_one_in_the_code() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("line", [line for line in CLASSES if line.example], ids=lambda line: line.example)
async def test_each_line_of_the_table_is_true(line: Class, tmp_path: Path) -> None:
    running = server(18)
    name = fresh(running)
    with psycopg.connect(running.url(name), autocommit=True) as person:
        person.execute(
            "create table t (id int primary key, v text); create table keyless (v text); create sequence counter"
        )
        person.execute("insert into t values (1, 'a'); insert into keyless values ('a'), ('a')")
        person.execute("create materialized view m as select * from keyless")
        if "CASCADE" in line.example:
            person.execute("create view depends as select * from t")
    database = PostgresDatabase("shop", DatabaseSettings(url=running.url(name)), kit_services(tmp_path).objects)
    try:
        execution = await database.execute([Statement(line.example)], BOUNDS)
    except ToolError as refused:
        assert line.how == "refused", refused
    else:
        assert {"exact": "reversible"}.get(line.how, line.how) == execution.reversibility, execution.reason
        reshapes = line.example.split()[0] in ("CREATE", "ALTER", "DROP", "COMMENT", "REFRESH")
        assert (execution.schema > 0) is reshapes, "what rules count as changes of the schema"
        await execution.discard()
    await database.close()
    drop(running, name)


async def test_the_role_of_the_page_is_enough(tmp_path: Path) -> None:
    first, second = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    running = server(18)
    name = fresh(running, owner="postgres")
    with running.admin(name) as admin:
        admin.execute("create table t (id serial primary key, v text)")
        for text in (first, second.replace("DATABASE shop", f'DATABASE "{name}"')):
            admin.execute(text.encode())
    database = PostgresDatabase(
        "shop", DatabaseSettings(url=running.url(name, "takeback")), kit_services(tmp_path).objects
    )
    for text in ("insert into t (v) values ('a')", "create table own (id int)"):
        execution = await database.execute([Statement(text)], BOUNDS)
        assert execution.reversibility == "reversible", execution.reason
        await execution.discard()
    await database.close()
    drop(running, name)
    with running.admin() as admin:
        admin.execute("drop owned by takeback; drop role takeback")
