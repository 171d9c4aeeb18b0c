"""Runs under the shim: for each order a child is forked, so that Python's start is paid for once and not a thousand times.

An order is a line of JSON, and so is its answer. Phases: `work` (a scenario, disturbed as ordered), and `check` (what the next
process finds). Every assertion is made in the child that looked; its words come back in the answer.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.crash.scenarios import SCENARIOS, Scenario, Story, Told, open_bench, plant, world
from tests.server.engine.bench import Bench

from takeback.checkpoints.retention import verify_objects
from takeback.journal.ids import RunId
from takeback.journal.views import ActionView, OpenItem, RollbackView, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.care import tend  # noqa: F401 -- everything is imported before the first fork

SECONDS = 40
MODES = {"count": 0, "before": 1, "after": 2, "torn": 3, "fail": 4, "effect and fail": 5}
NOTHING_TO_DO = ("nothing", "redone")
UNWRITTEN = ("storage", "journal_broken")
"""What was begun stays begun, and goes on later."""


def arm(order: dict[str, Any], folder: Path) -> ctypes.CDLL:
    """From here on the shim counts, and does what was ordered."""
    shim = ctypes.CDLL(None)
    log = -1
    grave = folder.with_name(folder.name + ".grave")
    if order.get("log"):
        grave.mkdir()
        log = os.open(order["log"], os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    shim.shim_arm(
        os.fsencode(folder),
        order.get("filter", "").encode(),
        ctypes.c_long(order.get("at", 0)),
        MODES[order.get("mode", "count")],
        order.get("errno", 0),
        int(order.get("sticky", False)),
        log,
        os.fsencode(grave),
    )
    return shim


async def work(order: dict[str, Any]) -> dict[str, Any]:
    """Do the scenario's steps; each answer is written down outside as soon as it is there."""
    folder, scenario = Path(order["folder"]), SCENARIOS[order["scenario"]]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    plant(folder / "work")
    planted = world(folder / "work", links=not scenario.portable)
    story = Story(await open_bench(folder, portable=scenario.portable))
    story.run = await story.bench.start()
    with open(folder.with_name(folder.name + ".run"), "w") as file:
        file.write(story.run)
    if scenario.prepare is not None:
        await scenario.prepare(story)
    acks = os.open(folder.with_name(folder.name + ".acks"), os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC)
    worlds = [planted, world(folder / "work", links=not scenario.portable)]
    standing = [await standing_of(story.bench, story.run)]
    shim = arm(order, folder)
    stopped, doubt, done = "", False, 0
    for step in scenario.steps:
        try:
            told = await step(story)
        except Exception as error:  # whatever it is: what counts is what the next process finds
            told = Told(False, doubt=not isinstance(error, EngineError) or error.code in UNWRITTEN, words=repr(error))
        os.write(acks, json.dumps(told.__dict__).encode() + b"\n")
        if not told.good:
            stopped, doubt = told.words or "not done", told.doubt
            break
        done += 1
        if order.get("mode", "count") == "count":
            worlds.append(world(folder / "work", links=not scenario.portable))
            standing.append(await standing_of(story.bench, story.run))
    now = world(folder / "work", links=not scenario.portable)
    if order.get("close"):
        await story.bench.engine.close()
    return {
        "count": shim.shim_disarm(),
        "worlds": worlds,
        "standing": standing,
        "now": now,
        "stopped": stopped,
        "doubt": doubt,
        "done": done,
    }


async def standing_of(bench: Bench, run: str) -> list[int]:
    """Which of the run's actions stand, by their order."""
    found = await bench.engine.core.journal.find(ActionView, run_id=RunId(run), oldest_first=True)
    effective = [action for action in found if action.status in ("applied", "in_doubt", "intended")]
    return [number for number, action in enumerate(effective) if action.stands]


async def check(order: dict[str, Any]) -> dict[str, Any]:
    """Open the next engine; the world, the journal and what was acknowledged have to agree."""
    folder, scenario = Path(order["folder"]), SCENARIOS[order["scenario"]]
    run = folder.with_name(folder.name + ".run").read_text()
    acks = [Told(**json.loads(line)) for line in folder.with_name(folder.name + ".acks").read_text().splitlines()]
    worlds = order["worlds"][1:]
    bench = await open_bench(folder, portable=scenario.portable)
    try:
        return await _check(order, bench, scenario, worlds, run, acks)
    finally:
        await bench.engine.close()


async def _check(
    order: dict[str, Any], bench: Bench, scenario: Scenario, worlds: list[Any], run: str, acks: list[Told]
) -> dict[str, Any]:
    journal = bench.engine.core.journal
    now = world(bench.work, links=not scenario.portable)
    good = [told for told in acks if told.good]
    for told in good:
        for action_id in told.actions:
            action = await journal.get(ActionView, action_id)
            assert action is not None, f"the acknowledged {action_id} is not in the journal"
            assert action.status == "applied", f"the acknowledged {action_id} is {action.status}"
        if told.rollback is not None:
            rollback = await journal.get(RollbackView, told.rollback)
            assert rollback is not None and rollback.status == "complete", (
                f"{told.rollback} was acknowledged: {rollback}"
            )
    assert not await journal.find(ActionView, status=("intended", "in_doubt")), "something is still in doubt"
    assert not await journal.find(RunView, status="sealed") and not await journal.find(RollbackView, status="running")
    standing = await standing_of(bench, run)
    clean_failure = bool(acks) and not acks[-1].good and not acks[-1].doubt
    possible = [len(good)] if clean_failure else [n for n in (len(good), len(good) + 1) if n < len(worlds)]
    found = [n for n in possible if now == worlds[n]]
    partial = bool(await journal.find(OpenItem, status="open")) and order.get("mode", "") in ("fail", "effect and fail")
    if not partial:
        assert found, (
            f"{len(good)} steps were acknowledged ({acks[-1:]}); differs: {_difference(worlds, possible, now)}"
        )
        assert any(standing == order["standing"][n] for n in found), f"the journal says that {standing} stand"
    assert (await journal.verify()).sound, (await journal.verify()).problems
    now_then = bench.engine.core.now() + timedelta(days=scenario.days)
    problems = await verify_objects(journal, bench.engine.core.objects, now=now_then, keep_days=30)
    assert not problems, problems
    try:
        answer = await bench.back(run_id=run)
        assert answer.status == "complete", answer.report
    except EngineError as error:
        assert error.code in NOTHING_TO_DO, error
    before = order["worlds"][scenario.back_to]
    assert world(bench.work, links=not scenario.portable) == before, (
        f"taken back, yet {_difference([before], [0], world(bench.work, links=not scenario.portable))}"
    )
    events = await journal.position()
    views = [await journal.find(kind, oldest_first=True) for kind in (RunView, ActionView, RollbackView, OpenItem)]
    await journal.rebuild()
    assert views == [
        await journal.find(kind, oldest_first=True) for kind in (RunView, ActionView, RollbackView, OpenItem)
    ]
    return {"events": events, "acknowledged": len(good), "reached": found}


def _difference(worlds: list[Any], possible: list[int], now: Any) -> list[Any]:
    return [
        {k: (w.get(k), now.get(k)) for k in w.keys() | now.keys() if w.get(k) != now.get(k)}
        for w in (worlds[n] for n in possible)
    ]


# -- mutants ---------------------------------------------------------------------------------------------------------------


def without_fsync() -> None:
    """Nothing is ever made durable, and everything is acknowledged all the same."""
    os.fsync = lambda fd: None  # type: ignore[assignment] -- the mutant
    _pragma("OFF")


def with_synchronous_normal() -> None:
    """The journal's commits are not synced."""
    _pragma("NORMAL")


def _pragma(level: str) -> None:
    from takeback.journal import sqlite

    connect = sqlite.connect_writer

    def weaker(path: Path) -> Any:
        connection = connect(path)
        connection.execute(f"PRAGMA synchronous={level}")
        return connection

    sqlite.connect_writer = weaker  # type: ignore[attr-defined] -- the mutant


def acting_first() -> None:
    """The act comes before its intent."""
    from takeback.server.engine.acting import Actor

    async def act(self: Any, work: Any, prepared: Any, verdict: Any) -> Any:
        committed = await prepared.commit()
        await self._intend(work, prepared, verdict)
        return await self._conclude(work, prepared, committed)

    Actor.act = act  # type: ignore[method-assign] -- the mutant


def writing_in_place() -> None:
    """Files get their new bytes where they are, instead of changing places with a new file."""
    from takeback.tools.files.native import NativeCalls

    def exchange(self: Any, a: Any, a_name: bytes, b: Any, b_name: bytes) -> None:
        one, two = os.open(a_name, os.O_RDWR, dir_fd=a.fd), os.open(b_name, os.O_RDWR, dir_fd=b.fd)
        try:
            first, second = os.pread(one, 1 << 24, 0), os.pread(two, 1 << 24, 0)
            for fd, content in ((one, second), (two, first)):
                os.pwrite(fd, content, 0)
                os.ftruncate(fd, len(content))
                os.fsync(fd)
        finally:
            os.close(one)
            os.close(two)

    NativeCalls.exchange = exchange  # type: ignore[method-assign] -- the mutant


MUTANTS: dict[str, Callable[[], None]] = {
    "without fsync": without_fsync,
    "synchronous normal": with_synchronous_normal,
    "acting first": acting_first,
    "writing in place": writing_in_place,
}
PHASES = {"work": work, "check": check}


def child(order: dict[str, Any], answer: int) -> None:
    signal.alarm(SECONDS)
    try:
        if order["phase"] == "work" and order.get("mutant"):
            MUTANTS[order["mutant"]]()
        told = {"told": asyncio.run(PHASES[order["phase"]](order))}
    except BaseException:
        told = {"error": traceback.format_exc()}
    with open(answer, "w") as pipe:
        json.dump(told, pipe)


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            child(order, writing)
            os._exit(0)
        os.close(writing)
        with open(reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(pid, 0)
        died = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        print(json.dumps({"died": died, **(json.loads(text) if text else {})}), flush=True)


if __name__ == "__main__":
    main()
