"""Statements that nobody here wrote: pgbench's transactions, and the SQL that PostgreSQL's own packages carry. Run through
`execute_sql`'s way of running, taken back one by one, and the whole database hashed."""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
from pathlib import Path

import pytest
from tests.postgres_server import DEBIAN, needed
from tests.tools.database.postgres.conftest import Shop

from takeback.journal.states import Effect
from takeback.tools.contract import ToolError
from takeback.tools.database.postgres.scanning import scan
from takeback.tools.system import Swapped


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


async def test_pgbench_transactions_are_taken_back(shop: Shop, version: int) -> None:
    program = pgbench(version)
    shown = subprocess.run([str(program), "--show-script=tpcb-like"], capture_output=True, text=True, check=True)
    script = [line.strip() for line in (shown.stdout + shown.stderr).splitlines()]
    statements = [
        line for line in script if line.endswith(";") and line not in ("BEGIN;", "END;") and not line.startswith("--")
    ]
    assert len(statements) == 5
    shop.server.run(str(program), "-i", "-q", "--foreign-keys", "-h", shop.server.host, "-U", "agent", shop.name)
    database = shop.open()
    before = hash_of(shop)
    chance = random.Random(version)
    done: list[tuple[Effect, ...]] = []
    for _ in range(3):
        values = {
            "aid": chance.randrange(1, 100_001),
            "bid": 1,
            "tid": chance.randrange(1, 11),
            "delta": chance.randrange(-5000, 5001),
        }
        done.append(await shop.do(database, *(filled(each, values) for each in statements)))
    assert hash_of(shop) != before
    for effects in reversed(done):
        assert isinstance(await shop.undo(database, effects), Swapped)
    assert hash_of(shop) == before


def split(text: str) -> list[str]:
    """The statements of a script for psql, roughly: what does not parse is left to the server to refuse."""
    found: list[str] = []
    kept = ""
    for line in text.splitlines():
        if line.startswith("\\"):
            continue
        kept += line + "\n"
        if line.rstrip().endswith(";"):
            try:
                scan(kept)
            except ToolError:
                continue  # inside a quote
            found.append(kept)
            kept = ""
    return found


FOLDERS = ("/usr/share/postgresql/15", "/usr/share/postgresql/15/tsearch_data", "/usr/share/postgresql-common")


async def test_scripts_of_postgresql_itself_are_taken_back(newest: Shop) -> None:
    scripts = sorted(
        path
        for folder in (newest.server.bin.parent / "share", *map(Path, FOLDERS))
        if folder.is_dir()
        for path in folder.rglob("*.sql")
        if path.stat().st_size < 60_000
    )
    statements = [each for path in scripts for each in split(path.read_text(errors="replace"))]
    assert len(statements) > 100
    database = newest.open()
    before = hash_of(newest)
    done: list[tuple[Effect, ...]] = []
    ran = refused = asked = 0
    for text in random.Random(1).sample(statements, min(400, len(statements))):
        try:
            execution = await newest.run(database, text)
        except ToolError:
            refused += 1
            continue
        if execution.reversibility != "reversible":
            asked += 1
            await execution.discard()
            continue
        await newest.objects.put_blobs(execution.blobs)
        done.append(await execution.commit())
        ran += 1
    for effects in reversed(done):
        assert isinstance(await newest.undo(database, effects), Swapped)
    assert hash_of(newest) == before
    assert ran + refused + asked > 100
