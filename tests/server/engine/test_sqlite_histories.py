"""Random histories of statements through the whole engine, taken back: to the last bit, or the report says exactly where not.

`TAKEBACK_SQL_HISTORIES` sets how many (`make sql-histories` runs 3,000).
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.tools.database.sqlite.histories import SCHEMA, foreign, statement
from tests.tools.database.sqlite.outside import Outside, OutsideError, difference

from takeback.journal.events import Caller
from takeback.journal.views import ActionView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.engine.plan import COVERED, IN_PART
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import LimitSettings, ToolSettings

FIRST = int(os.environ.get("TAKEBACK_SQL_FIRST", "0"))
"""The seed to begin with, for looking at one history."""
HISTORIES = int(os.environ.get("TAKEBACK_SQL_HISTORIES", "100"))


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
    engine = await Engine.open(
        settings_for(folder, tools=ToolSettings(), limits=limits, triggers=TriggerSettings.off())
    )
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
            outside.run(path, *_plain(*statement(chance, ddl=0)))
        except OutsideError:
            continue
    return path


def _plain(sql: str, values: list[Any]) -> list[Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if "real" in value:
                return float.fromhex(value["real"])
            return {"hex": base64.b64decode(value["base64"]).hex()}
        return value

    return [sql, *map(plain, values)]


async def act(bench: Bench, run: str, chance: random.Random, *, ddl: float = 0.12) -> Any:
    """One random call; refusals are fine, lies are not."""
    # a caller who has not seen anything yet is not refused for having seen something else
    caller = Caller(principal=ALICE.principal, client=str(chance.random()))
    if chance.random() < 0.2:
        several = [statement(chance, ddl=ddl) for _ in range(chance.randrange(2, 5))]
        arguments: dict[str, Any] = {"statements": [{"sql": sql, "parameters": values} for sql, values in several]}
    else:
        sql, values = statement(chance, ddl=ddl)
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


async def test_what_others_wrote_in_between_always_survives(folder: Path, outside: Outside) -> None:
    """Their rows and cells are there afterwards, whatever was taken back around them; and every outcome is true."""
    bench = await open_engine(folder)
    complete = partial = merged = 0
    try:
        for seed in range(FIRST, FIRST + HISTORIES):
            chance = random.Random(f"sql foreign {seed}")
            path = plant(outside, bench.work, chance)
            run = await bench.start(str(seed))
            actions: list[str] = []
            for _ in range(chance.randrange(2, 7)):
                answer = await act(bench, run, chance, ddl=0.03)
                if answer.status == "applied":
                    actions.append(answer.action_id)
                if chance.random() < 0.5:
                    try:
                        outside.run(path, *_plain(*foreign(chance)))
                    except OutsideError:
                        continue
            there = marks_in(outside.dump(path))
            chosen = None
            if chance.random() < 0.4 and actions:
                chosen = chance.sample(actions, chance.randrange(1, len(actions) + 1))
            untouched = outside.dump(path)
            try:
                answer = await bench.back(run_id=run, **({"actions": chosen} if chosen else {}))
            except EngineError as error:
                assert error.code == "nothing"
                continue
            now = outside.dump(path)
            for mark in there:
                assert mark in marks_in(now), (seed, mark, answer.report)
            assert all(step.outcome != "failed" for step in answer.steps), (seed, answer.report)
            if not any(step.outcome in ("restored", "merged") for step in answer.steps):
                assert now == untouched, (seed, difference(untouched, now))
            complete += answer.status == "complete"
            partial += answer.status == "partial"
            merged += any(step.outcome == "merged" for step in answer.steps)
            await _outcomes_are_true(bench, run, answer.steps)
            outside.check(path)
            if any(step.outcome in ("restored", "merged") for step in answer.steps):
                redone = await bench.engine.redo(ALICE, str(answer.rollback_id))
                assert redone.status == "complete", (seed, "redo", redone.report)
                again = outside.dump(path)
                assert again == untouched, (seed, "redo", difference(untouched, again))
    finally:
        await bench.engine.close()
    assert HISTORIES < 50 or (complete and partial and merged)


def marks_in(told: dict[str, Any]) -> set[str]:
    """What somebody else wrote, as it stands in a dump."""
    pattern = re.compile("74686569727320(?:3[0-9])+")  # "theirs " in hexadecimal
    return set(pattern.findall(json.dumps({key: told[key] for key in told if key.startswith("table ")})))


async def _outcomes_are_true(bench: Bench, run: str, steps: list[Any]) -> None:
    good = {"restored", "merged", "already_undone", "compensated"}
    for step in steps:
        if step.why == "it changed nothing":
            continue
        action = await bench.engine.core.journal.get(ActionView, step.action_id)
        assert action is not None
        assert action.stands == (step.outcome not in good or step.why.startswith((COVERED, IN_PART))), step
    blocked = [step for step in steps if step.outcome not in good and step.why != "it changed nothing"]
    assert bool(blocked) == bool(await bench.engine.open_items(ALICE, run_id=run))
