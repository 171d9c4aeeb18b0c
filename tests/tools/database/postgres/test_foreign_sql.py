"""Statements that nobody here wrote: pgbench's transactions, and what SQLAlchemy's test suite sends. Run, taken back, and the
whole database hashed."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.other_peoples_sql import recorded, verb
from tests.postgres_server import DEBIAN, drop, fresh, needed, server
from tests.server.engine.bench import Bench, settings_for
from tests.tools.database.postgres.conftest import Shop

from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import ToolSettings
from takeback.tools.database.settings import DatabaseSettings


def hash_of(shop: Shop) -> str:
    """Over everything that pg_dump writes."""
    told = subprocess.run(
        [
            str(shop.server.bin / "pg_dump"),
            "--restrict-key=x",
            "-N",
            "takeback_graveyard*",
            shop.server.url(shop.name, "postgres"),
        ],
        capture_output=True,
        check=False,
    )
    if told.returncode:  # older ones do not know the option
        told = subprocess.run(
            [str(shop.server.bin / "pg_dump"), "-N", "takeback_graveyard*", shop.server.url(shop.name, "postgres")],
            capture_output=True,
            check=True,
        )
    # the order of rows in a table is nobody's promise
    lines = [line for line in told.stdout.splitlines() if not line.startswith((b"\\restrict", b"\\unrestrict"))]
    return hashlib.sha256(b"\n".join(sorted(lines))).hexdigest()


def pgbench(version: int) -> Path:
    for folder in (needed(version), DEBIAN / "15" / "bin", Path("/usr/bin")):
        if (folder / "pgbench").exists():
            return folder / "pgbench"
    pytest.fail("there is no pgbench")


def filled(script: str, values: dict[str, int]) -> str:
    return re.sub(r":(\w+)", lambda found: str(values[found[1]]), script)


@asynccontextmanager
async def engine_on(shop: Shop, folder: Path) -> AsyncGenerator[Bench]:
    """An engine that works on the shop's database."""
    databases = {"shop": DatabaseSettings(url=shop.server.url(shop.name))}
    engine = await Engine.open(
        settings_for(folder, tools=ToolSettings(), databases=databases, triggers=TriggerSettings.off())
    )
    try:
        yield Bench(engine, folder / "work")
    finally:
        await engine.close()


@pytest.mark.parametrize(("script", "length"), [("tpcb-like", 5), ("simple-update", 3)])
async def test_pgbench_transactions_are_taken_back(
    shop: Shop, version: int, script: str, length: int, tmp_path: Path
) -> None:
    program = pgbench(version)
    shown = subprocess.run([str(program), f"--show-script={script}"], capture_output=True, text=True, check=True)
    lines = [line.strip() for line in (shown.stdout + shown.stderr).splitlines()]
    statements = [line for line in lines if line.endswith(";") and line not in ("BEGIN;", "END;")]
    statements = [line for line in statements if not line.startswith("--")]
    assert len(statements) == length
    shop.server.run(str(program), "-i", "-q", "--foreign-keys", "-h", shop.server.host, "-U", "agent", shop.name)
    before = hash_of(shop)
    chance = random.Random(version)
    async with engine_on(shop, tmp_path) as bench:
        run = await bench.start()
        for _ in range(10):
            values = {
                "aid": chance.randrange(1, 100_001),
                "bid": 1,
                "tid": chance.randrange(1, 11),
                "delta": chance.randrange(-5000, 5001),
            }
            several = [{"sql": filled(each, values)} for each in statements]
            await bench.done("execute_sql", run, database="shop", statements=several)
        assert hash_of(shop) != before
        assert (await bench.back(run_id=run)).status == "complete"
    assert hash_of(shop) == before


STATEMENTS = int(os.environ.get("TAKEBACK_FOREIGN_STATEMENTS", "600"))
"""Of the suite's, run through the tool."""


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What SQLAlchemy's test suite sends. Recorded on 15, whose package has the extensions that it asks for."""
    running = server(15)
    name = fresh(running)
    with running.admin(name) as admin:
        admin.execute("create schema test_schema authorization agent")
    try:
        url = f"postgresql+psycopg://agent@/{name}?host={running.host}"
        return recorded(url, tmp_path_factory.mktemp("suite") / "suite")
    finally:
        drop(running, name)


async def test_a_public_test_suite_is_taken_back(newest: Shop, suite: list[str], tmp_path: Path) -> None:
    newest.sql("create schema test_schema")
    before = hash_of(newest)
    writing = [text for text in suite if verb(text) not in ("SELECT", "SHOW", "")]
    told: Counter[str] = Counter()
    ran: Counter[str] = Counter()
    async with engine_on(newest, tmp_path) as bench:
        run = await bench.start()
        changed = False
        for number, text in enumerate(writing[:STATEMENTS]):
            answer = await bench.call("execute_sql", run, database="shop", sql=text)
            assert answer.error is None or answer.error.code != "target_error", (text, answer.error)
            told[answer.status] += 1
            if answer.status == "applied":
                ran[verb(text)] += 1
            if number % 200 == 100:  # in the end the suite has tidied up
                changed = changed or hash_of(newest) != before
        back = await bench.back(run_id=run)
        assert back.status == "complete", back.report
    print(f"{told.total()} statements: {dict(told)}; ran: {dict(ran)}")
    assert changed and hash_of(newest) == before
    # the others PostgreSQL refuses: the suite had rolled the earlier table of that name back
    assert ran.total() >= 400 and told["pending_approval"] <= 0.05 * told.total()
    assert ran["INSERT"] >= 300 and ran["DELETE"] >= 50 and ran["CREATE"] >= 15 and ran["DROP"] >= 10
