"""Several processes on one data directory: servers under load, rollbacks at once, holders that die."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.crash.test_killed_processes import command, contents, plant, settings
from tests.protocol.conftest import Raw
from tests.races.conftest import Spawn
from tests.races.scale import measure
from tests.signs import SECONDS

from takeback.journal.events import Caller
from takeback.journal.views import ActionView, RollbackView, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.calls import Call
from takeback.server.engine.engine import Engine
from takeback.server.engine.locks import Locks
from takeback.server.principal import local_principal

ME = Caller(principal=local_principal(), client="test")


@pytest.fixture
def servers(folder: Path) -> Iterator[Callable[[], Raw]]:
    running: list[Raw] = []

    def start() -> Raw:
        running.append(Raw(command(folder, "serve")))
        return running[-1]

    yield start
    for raw in running:
        raw.stop()


def test_two_servers_under_load_keep_one_history(folder: Path, servers: Callable[[], Raw]) -> None:
    planted = plant(folder)
    clients = [servers(), servers()]
    dice = random.Random(3)
    names = list(planted)
    runs: list[str] = []
    count = measure(80, 1500)
    for client in clients:
        client.ask("run", "tools/call", name="start_run", arguments={"goal": "load"})
        runs.append(client.answer_to("run")["result"]["structuredContent"]["run_id"])
    contents_sent: set[str] = set()
    for number in range(count):
        for index, client in enumerate(clients):
            content = f"{index} {number}\n" * dice.choice([1, 500])
            contents_sent.add(content)
            client.call(number, "write_file", path=dice.choice(names), content=content, run_id=runs[index])
    applied: list[str] = []
    for client in clients:
        left = set(range(count))
        while left:
            message = client.answer()
            left.discard(message.get("id"))  # type: ignore[arg-type] -- notifications have none
            told = message.get("result", {}).get("structuredContent", {})
            # the other server's write came first: this agent has not seen it
            refused = told.get("error", {}).get("code")  # locked: it waited for a minute, and had not begun
            assert told.get("status") == "applied" or refused in ("stale_read", "busy", "locked"), message
            if told["status"] == "applied":
                applied.append(told["action_id"])
    for client in clients:
        client.process.stdin.close()  # type: ignore[union-attr] -- it is a pipe
        assert client.process.wait(timeout=SECONDS) == 0
    assert len(applied) > count // 4
    asyncio.run(_one_history(folder, planted, applied, runs, contents_sent))


async def _one_history(
    folder: Path, planted: dict[str, str], applied: list[str], runs: list[str], sent: set[str]
) -> None:
    engine = await Engine.open(settings(folder))
    try:
        journal = engine.core.journal
        assert (await journal.verify()).sound
        actions = [action for action in await journal.find(ActionView, oldest_first=True) if action.stands]
        assert {action.id for action in actions} == set(applied)
        last = {Path(action.effects[-1].object).name: action for action in actions}
        now = contents(folder)
        for name, action in last.items():
            assert now[name].startswith(str(action.requested["content"]).partition("\n")[0] + "\n"), name
            assert now[name] in sent, f"{name} is mixed of two writes"
        # each effect begins where the one before it on the same object ended
        ends: dict[str, Any] = {}
        for action in actions:
            for effect in action.effects:
                if effect.object in ends:
                    assert effect.before.same(ends[effect.object]), (action.id, effect.object)
                ends[effect.object] = effect.after
        answer = await engine.rollback(ME, run_id=runs[0], cascade=[runs[1]])
        if contents(folder) != planted:
            answer = await engine.rollback(ME, run_id=runs[1])
        assert answer.status == "complete", answer.report
        assert contents(folder) == planted
    finally:
        await engine.close()


async def written(folder: Path, goal: str, count: int) -> str:
    """A run with so many writes, by a process that has ended."""
    engine = await Engine.open(settings(folder))
    try:
        run = (await engine.start_run(ME, goal)).run_id
        names = sorted(contents(folder))
        for number in range(count):
            call = Call("write_file", {"path": names[number % 6], "content": f"{number}\n"}, ME, run_id=run)
            assert (await engine.call(call)).status == "applied"
        return run
    finally:
        await engine.close()


def test_of_two_rollbacks_of_one_run_at_once_each_action_is_taken_back_by_one(folder: Path) -> None:
    planted = plant(folder)
    for turn in range(measure(2, 30)):
        run = asyncio.run(written(folder, f"turn {turn}", 30))
        both = [
            subprocess.Popen(
                command(folder, "rollback", run, "--yes", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for _ in range(2)
        ]
        try:
            outcomes = [process.communicate(timeout=60) for process in both]
        finally:
            for process in both:
                process.kill()
        codes = [process.returncode for process in both]
        assert 0 in codes, outcomes
        assert contents(folder) == planted
        told = asyncio.run(_taken_back(folder, run))
        assert told == {"status": "rolled_back", "concluded once": True}, (told, codes, outcomes)


async def _taken_back(folder: Path, run: str) -> dict[str, Any]:
    engine = await Engine.open(settings(folder))
    try:
        journal = engine.core.journal
        assert (await journal.verify()).sound
        view = await journal.get(RunView, run)
        assert view is not None
        done: list[str] = []
        for rollback in await journal.find(RollbackView, run_id=view.run_id):
            done += [step.action_id for step in rollback.steps if step.outcome == "restored"]
        return {"status": view.status, "concluded once": len(done) == len(set(done)) and bool(done)}
    finally:
        await engine.close()


HOLDER = """
import asyncio, os, sys
from pathlib import Path
from takeback.checkpoints.oslock import held
from takeback.journal.oslock import FileLock
from takeback.server.engine.locks import Locks

async def main():
    data = Path(sys.argv[1])
    names = sys.argv[2:]
    async with Locks(data / "locks" / "objects").hold(names), Locks(data / "locks" / "runs").hold(names):
        with held(os.fspath(data / "objects" / "collect.lock"), wait=False) as alone:
            assert alone
            print("held", flush=True)
            sys.stdin.readline()

asyncio.run(main())
"""


async def test_locks_of_a_process_that_was_killed_are_gone_with_it(folder: Path, spawn: Spawn) -> None:
    plant(folder)
    run = await written(folder, "before", 2)
    names = sorted(contents(folder))
    objects = [f"files:{folder / 'work' / name}" for name in names]
    data = folder / "data"
    process = spawn(HOLDER, str(data), f"run:{run}", *objects)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    locks = Locks(data / "locks" / "runs")
    with pytest.raises(Exception, match="holds the object"):
        async with locks.hold([f"run:{run}"], timeout=0):
            pass
    process.kill()
    process.wait(timeout=SECONDS)
    engine = await Engine.open(settings(folder))
    try:
        call = Call("write_file", {"path": names[0], "content": "free\n"}, ME, run_id=run)
        assert (await asyncio.wait_for(engine.call(call), SECONDS)).status == "applied"
        assert (await asyncio.wait_for(engine.rollback(ME, run_id=run), SECONDS)).status == "complete"
    finally:
        await engine.close()


async def test_a_rollback_while_tools_run_leaves_every_action_either_refused_or_taken_back(folder: Path) -> None:
    planted = plant(folder)
    engine = await Engine.open(settings(folder))
    dice = random.Random(4)
    names = sorted(planted)
    try:
        for turn in range(measure(12, 200)):
            run = (await engine.start_run(ME, f"turn {turn}")).run_id

            async def agent(number: int, run: str = run, turn: int = turn) -> list[Any]:
                answers: list[Any] = []
                for step in range(6):
                    me = Caller(principal=ME.principal, client=f"{turn} {number} {step}")
                    arguments = {"path": names[(number + step) % 6], "content": f"{turn} {number} {step}\n"}
                    answers.append(await engine.call(Call("write_file", arguments, me, run_id=run)))
                    for _ in range(dice.randrange(3)):
                        await asyncio.sleep(0)
                return answers

            async def person(run: str = run) -> Any:
                for _ in range(dice.randrange(1, 60)):
                    await asyncio.sleep(0)
                try:
                    return await engine.rollback(ME, run_id=run)
                except EngineError as error:
                    assert error.code in ("nothing", "busy"), error
                    return None

            *told, answer = await asyncio.gather(agent(0), agent(1), agent(2), person())
            assert answer is None or answer.status == "complete", answer.report
            standing = [action for action in await engine.core.journal.find(ActionView) if action.stands]
            if answer is not None:
                assert not standing, "an act went on in a run that was taken back"
                for one in (each for answers in told for each in answers):
                    assert one.status == "applied" or one.error.code in ("sealed", "run_ended"), one.error
            elif standing:
                assert (await engine.rollback(ME, run_id=run)).status == "complete"
            assert contents(folder) == planted
        assert (await engine.core.journal.verify()).sound
    finally:
        await engine.close()


async def test_clocks_that_jump_change_no_order_and_stop_nothing(folder: Path) -> None:
    from datetime import UTC, datetime, timedelta

    planted = plant(folder)
    engine = await Engine.open(settings(folder))
    dice = random.Random(5)
    jumped = [datetime.now(UTC)]

    def jump() -> datetime:
        jumped.append(jumped[0] + timedelta(seconds=dice.randrange(-(10**9), 10**9)))
        return jumped[-1]

    engine.core.now = jump
    try:
        run = (await engine.start_run(ME, "through time")).run_id
        names, worlds = sorted(planted), [planted]
        for number in range(measure(20, 300)):
            answer = await engine.call(
                Call("write_file", {"path": names[number % 6], "content": f"{number}\n"}, ME, run_id=run)
            )
            assert answer.status == "applied", answer
            worlds.append(contents(folder))
        order = await engine.core.journal.find(ActionView, oldest_first=True)
        assert [action.requested["content"] for action in order] == [f"{number}\n" for number in range(len(order))]
        await engine.rollback(ME, run_id=run, last=3)
        assert contents(folder) == worlds[-4]
        answer = await engine.rollback(ME, run_id=run)
        assert answer.status == "complete" and contents(folder) == planted
        assert answer.rollback_id is not None
        await engine.redo(ME, answer.rollback_id)
        assert contents(folder) == worlds[-4]
        assert (await engine.core.journal.verify()).sound
    finally:
        await engine.close()
