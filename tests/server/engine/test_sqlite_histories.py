"""Random histories of statements through the whole engine, taken back: to the last bit, or the report says exactly where not.

`TAKEBACK_SQL_HISTORIES` sets how many (`make sql-histories` runs 3,000).
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.tools.database.sqlite.histories import SCHEMA, statement
from tests.tools.database.sqlite.outside import Outside, OutsideError, difference

from takeback.journal.events import Caller
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.settings import LimitSettings, ToolSettings

FIRST = int(os.environ.get("TAKEBACK_SQL_FIRST", "0"))
"""The seed to begin with, for looking at one history."""
HISTORIES = int(os.environ.get("TAKEBACK_SQL_HISTORIES", "60"))


@pytest.fixture
def folder() -> Iterator[Path]:
    # memory-backed where there is such a place: these tests are about what happens, not about the disk
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="takeback-", dir=base))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    with Outside() as other:
        yield other


async def open_engine(folder: Path) -> Bench:
    limits = LimitSettings(ballast_bytes=4096, step_seconds=20)
    engine = await Engine.open(settings_for(folder, tools=ToolSettings(), limits=limits))
    engine.core.retry_pauses = ()
    return Bench(engine, folder / "work")


def plant(outside: Outside, work: Path, chance: random.Random) -> Path:
    """A new database with some rows."""
    outside.close()
    for old in work.iterdir():
        if old.is_file():
            old.unlink()
    path = work / "app.db"
    outside.run(path, f"PRAGMA journal_mode = {chance.choice(('wal', 'delete'))}")
    outside.script(path, SCHEMA)
    for _ in range(30):
        try:
            outside.run(path, *_plain(*statement(chance, ddl=False)))
        except OutsideError:
            continue
    return path


def _plain(sql: str, values: list[Any]) -> list[Any]:
    import base64

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if "real" in value:
                return float.fromhex(value["real"])
            return {"hex": base64.b64decode(value["base64"]).hex()}
        return value

    return [sql, *map(plain, values)]


async def act(bench: Bench, run: str, chance: random.Random) -> Any:
    """One random call; refusals are fine, lies are not."""
    # a caller who has not seen anything yet is not refused for having seen something else
    caller = Caller(principal=ALICE.principal, client=str(chance.random()))
    if chance.random() < 0.2:
        several = [statement(chance) for _ in range(chance.randrange(2, 5))]
        arguments: dict[str, Any] = {"statements": [{"sql": sql, "parameters": values} for sql, values in several]}
    else:
        sql, values = statement(chance)
        arguments = {"sql": sql, "parameters": values}
    answer = await bench.call("execute_sql", run, caller=caller, database="app.db", **arguments)
    assert answer.status in ("applied", "failed"), answer
    assert answer.error is None or answer.error.code in ("constraint", "sql"), (arguments, answer.error)
    return answer


async def test_random_histories_are_taken_back_to_the_last_bit(folder: Path, outside: Outside) -> None:
    bench = await open_engine(folder)
    try:
        for seed in range(FIRST, FIRST + HISTORIES):
            chance = random.Random(f"sql {seed}")
            path = plant(outside, bench.work, chance)
            before = outside.dump(path)
            run = await bench.start(str(seed))
            states = [before]
            actions: list[str] = []
            for _ in range(chance.randrange(1, 9)):
                answer = await act(bench, run, chance)
                now = outside.dump(path)
                if answer.status == "applied":
                    states.append(now)
                    actions.append(answer.action_id)
                else:
                    assert now == states[-1], (seed, answer, difference(states[-1], now))
            if chance.random() < 0.5:
                try:
                    answer = await bench.back(run_id=run)
                except EngineError as error:
                    assert error.code == "nothing"
                    continue
                assert answer.status == "complete", (seed, answer.report)
            else:
                for action, state in zip(reversed(actions), reversed(states[:-1]), strict=True):
                    answer = await bench.back(run_id=run, actions=[action])
                    assert answer.status == "complete", (seed, answer.report)
                    now = outside.dump(path)
                    assert now == state, (seed, difference(state, now))
            after = outside.dump(path)
            assert after == before, (seed, difference(before, after))
            outside.check(path)
            if (
                actions
                and len(answer.steps) == len(actions)
                and any(step.outcome == "restored" for step in answer.steps)
            ):
                redone = await bench.engine.redo(ALICE, str(answer.rollback_id))
                assert redone.status == "complete", (seed, redone.report)
                now = outside.dump(path)
                assert now == states[-1], (seed, "redo", difference(states[-1], now))
    finally:
        await bench.engine.close()
