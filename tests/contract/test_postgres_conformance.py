"""The database tools on PostgreSQL, and their system, pass the kit."""

import dataclasses

import psycopg
import pytest
import pytest_asyncio
from tests.postgres_server import drop, fresh, server
from tests.tools.database.postgres.world import build, dump

from takeback.tools.conformance import KitObjects, SystemConformance, ToolConformance, World, kit_services
from takeback.tools.database.execute_tool import ExecuteSqlTool
from takeback.tools.database.family import DatabaseFamily
from takeback.tools.database.read_tools import DescribeDatabaseTool, ListDatabasesTool, QueryDatabaseTool
from takeback.tools.database.rows import to_json
from takeback.tools.database.settings import DatabaseSettings


def rows_of(connection):
    """All but counters: numbers that a preparation drew stay drawn."""
    return {name: value for name, value in dump(connection).items() if not name.startswith("counter ")}


@pytest.fixture
def shop():
    running = server(18)
    name = fresh(running)
    connection = psycopg.connect(running.url(name), autocommit=True)
    build(connection)
    yield running.url(name), connection
    connection.close()
    drop(running, name)


@pytest_asyncio.fixture
async def family(shop, tmp_path, objects):
    for name in ("data", "work"):
        (tmp_path / name).mkdir()
    services = dataclasses.replace(
        kit_services(tmp_path),
        roots=(tmp_path / "work",),
        objects=objects,
        databases={"shop": DatabaseSettings(url=shop[0])},
    )
    family = await DatabaseFamily.open(services)
    yield family
    await family.close()


@pytest.fixture
def objects():
    return KitObjects()


class DatabaseConformance(ToolConformance):
    @pytest.fixture
    def tool(self, family):
        return next(tool for tool in family.tools if isinstance(tool, self.tool_class))

    @pytest.fixture
    def systems(self, family):
        return family.systems

    @pytest.fixture
    def world(self, shop):
        return World(lambda: rows_of(shop[1]))


class TestListDatabases(DatabaseConformance):
    tool_class = ListDatabasesTool
    examples = [{}]


class TestDescribeDatabase(DatabaseConformance):
    tool_class = DescribeDatabaseTool
    examples = [{"database": "shop"}]
    refused = [{"database": "nothing"}]


class TestQueryDatabase(DatabaseConformance):
    tool_class = QueryDatabaseTool
    examples = [
        {"database": "shop", "sql": "select * from customers"},
        {"database": "shop", "sql": "select $1::int + 1", "parameters": [1]},
    ]
    refused = [{"database": "shop", "sql": "delete from orders"}, {"database": "shop", "sql": "selec"}]


class TestExecuteSql(DatabaseConformance):
    tool_class = ExecuteSqlTool
    examples = [
        {"database": "shop", "sql": "update ruled set v = $1 where id = $2", "parameters": ["x", 1]},
        {"database": "shop", "sql": "delete from totals where customer = 2"},
        {"database": "shop", "statements": [{"sql": "insert into ruled values (9, 'n')"}, {"sql": "delete from tree"}]},
    ]
    refused = [
        {"database": "shop", "sql": "commit"},
        {"database": "shop", "sql": "delete from nothing"},
        {"database": "shop"},
    ]

    @pytest.fixture
    def world(self, shop):
        def edit():
            shop[1].execute("update ruled set v = 'theirs' where id = 1")
            shop[1].execute("insert into totals values (2, 77) on conflict (customer) do update set orders = 77")
            shop[1].execute("insert into ruled values (9, 'theirs') on conflict (id) do update set v = 'theirs'")
            count = (
                "select count(*) from ruled where v = 'theirs' union all select count(*) from totals where orders = 77"
            )
            return lambda: shop[1].execute(count).fetchall() == [(2,), (1,)]

        return World(lambda: rows_of(shop[1]), foreign_edit=edit)


class TestPostgresSystem(SystemConformance):
    contents = [
        ("shop//ruled/1", to_json({"id": "1", "v": "changed"})),
        ("shop//ruled/77", to_json({"id": "77", "v": None})),
        ("shop//ruled/5", to_json({"id": "5", "v": "five"})),
    ]
    foreign = to_json({"id": "5", "v": "somebody else"})

    @pytest.fixture
    def system(self, family):
        return family.systems[0]

    @pytest.fixture
    def world(self, shop):
        return World(lambda: rows_of(shop[1]))

    @pytest.fixture
    def missing(self):
        return "shop//nothing/1"
