"""A process that dies, or whose disk fails, at any of its system calls: before it, after it, or in the middle of a write.

What the next process finds is the world and the journal of some step of the story, never one in between, and never an earlier
one than was acknowledged. `TAKEBACK_CRASH_EVERY=1` (`make crash`) tries every call.
"""

from __future__ import annotations

import errno
import random
from typing import Any

import pytest
from tests.crash.power import cut
from tests.crash.scenarios import SCENARIOS
from tests.crash.shim import KILLED, Worker, every

STICKY = [pytest.param(False, id="once"), pytest.param(True, id="from then on")]
ERRORS = [pytest.param(errno.EIO, id="EIO"), pytest.param(errno.ENOSPC, id="ENOSPC")]


def found(worker: Worker, scenario: str, untouched: dict[str, Any], at: str, **order: Any) -> dict[str, Any]:
    """What the next process says; fails with its words."""
    answer = worker.ask("check", scenario, worlds=untouched["worlds"], standing=untouched["standing"], **order)
    assert "told" in answer, f"{scenario}, {at}:\n{answer.get('error', 'it died')}"
    told: dict[str, Any] = answer["told"]
    return told


def points(name: str, count: int, stride: int) -> range:
    """Which calls are tried: other ones for each test, so that together they cover more."""
    step = every(stride)
    return range(1 + random.Random(name).randrange(step), count + 1, step)


@pytest.mark.parametrize("mode", ["before", "after", "torn"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_death_at_any_call_leaves_a_world_that_the_journal_tells_of(worker: Worker, scenario: str, mode: str) -> None:
    untouched = worker.untouched(scenario)
    for n in points(f"{scenario} {mode}", untouched["count"], 67):
        worker.clean()
        answer = worker.ask("work", scenario, at=n, mode=mode)
        assert answer["died"] == KILLED or n > untouched["count"] - 20, answer
        found(worker, scenario, untouched, f"died {mode} call {n}")


@pytest.mark.parametrize("power", ["nothing unsynced survives", "some of it survives"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_power_cut_at_any_call_takes_nothing_that_was_acknowledged(worker: Worker, scenario: str, power: str) -> None:
    untouched = worker.untouched(scenario)
    lost = 0
    for n in points(f"{scenario} {power}", untouched["count"], 53):
        worker.clean()
        dice = random.Random(n) if power.startswith("some") else None
        lost += power_cut(worker, scenario, n, dice)
        found(worker, scenario, untouched, f"power cut at call {n}, {power}")
    assert lost, "a power cut that takes nothing proves nothing"


def power_cut(worker: Worker, scenario: str, n: int, dice: random.Random | None, mutant: str | None = None) -> int:
    """Do the scenario up to its n-th call, and leave the disk as a power cut would; how many changes that unmade."""
    log = worker.folder / "one.log"
    worker.ask("work", scenario, at=n, mode="before", log=str(log), mutant=mutant)
    return cut(log, worker.folder / "one", worker.folder / "one.grave", dice)


@pytest.mark.parametrize("sticky", STICKY)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("mode", ["fail", "effect and fail"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_disk_that_fails_makes_no_answer_untrue(
    worker: Worker, scenario: str, mode: str, error: int, sticky: bool
) -> None:
    if mode != "fail" and (sticky or error == errno.ENOSPC):
        pytest.skip("an effect that is reported as an error comes once, and as EIO")
    untouched = worker.untouched(scenario)
    for n in points(f"{scenario} {mode} {error} {sticky}", untouched["count"], 101):
        worker.clean()
        at = f"call {n} failed ({mode}, {errno.errorcode[error]}, sticky {sticky})"
        answer = worker.ask("work", scenario, at=n, mode=mode, errno=error, sticky=sticky)
        assert "told" in answer, f"{scenario}, {at}:\n{answer.get('error', 'it died')}"
        told = answer["told"]
        if told["stopped"] and not told["doubt"]:
            assert told["now"] == untouched["worlds"][1 + told["done"]], f"{at}: {told['stopped']}, and yet it changed"
        found(worker, scenario, untouched, at, mode=mode)


@pytest.mark.parametrize("sticky", STICKY)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("scenario", ["overwrite", "tree and back"])
def test_errors_inside_the_journals_database_cost_nothing_that_was_acknowledged(
    worker: Worker, scenario: str, error: int, sticky: bool
) -> None:
    # to the end: when the last connection closes, the log is written back into the database
    untouched = worker.untouched(scenario, filter="/journal.db", close=True)
    assert untouched["count"] > worker.untouched(scenario, filter="/journal.db")["count"] > 20
    for n in points(f"sqlite {scenario} {error} {sticky}", untouched["count"], 47):
        worker.clean()
        at = f"call {n} on the journal's files failed ({errno.errorcode[error]}, sticky {sticky})"
        answer = worker.ask(
            "work", scenario, filter="/journal.db", at=n, mode="fail", errno=error, sticky=sticky, close=True
        )
        assert "told" in answer, f"{scenario}, {at}:\n{answer.get('error', 'it died')}"
        found(worker, scenario, untouched, at, mode="fail")
