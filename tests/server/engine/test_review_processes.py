"""Real processes on one data directory: one default run, and a rollback that leaves nothing of what another one does."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.server.engine.bench import ALICE, OpenBench
from tests.server.engine.many import status

from takeback.server.engine.answers import EngineError

ACTOR = """
import asyncio, sys
from pathlib import Path
from tests.server.engine.bench import ALICE, settings_for
from takeback.server.engine.calls import Call
from takeback.server.engine.engine import Engine

async def main(folder: Path, name: str, run: str | None, count: int) -> None:
    engine = await Engine.open(settings_for(folder))
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        arguments = {"key": f"{name}/{number}", "value": "1"}
        answer = await engine.call(Call(tool="set_value", arguments=arguments, caller=ALICE, run_id=run))
        print(answer.status, answer.run_id, flush=True)
        if answer.error and answer.error.code == "run_ended":
            break
    await engine.close()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] or None, int(sys.argv[4])))
"""
HERE = Path(__file__).parents[3]


async def actor(folder: Path, name: str, run: str, count: int) -> asyncio.subprocess.Process:
    """Another process, ready to act."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", ACTOR, str(folder), name, run, str(count)),
        cwd=HERE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and (await process.stdout.readline()) == b"ready\n"
    return process


async def test_processes_that_begin_at_once_share_one_default_run(open_bench: OpenBench, tmp_path: Path) -> None:
    await open_bench()
    processes = await asyncio.gather(*(actor(tmp_path, name, "", 3) for name in ("one", "two", "three")))
    told = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    lines = [line.split() for out, _ in told for line in out.decode().splitlines()]
    assert len(lines) == 9 and {line[0] for line in lines} == {"applied"}
    assert len({line[1] for line in lines}) == 1


async def test_a_rollback_leaves_nothing_of_what_another_process_does_meanwhile(
    open_bench: OpenBench, tmp_path: Path
) -> None:
    bench = await open_bench()
    run = await bench.start()
    await bench.set(run, "first", "1")
    process = await actor(tmp_path, "other", run, 500)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"go\n")
    for _ in range(3):
        await process.stdout.readline()
    answer = await bench.engine.rollback(ALICE, run_id=run)
    assert answer.status == "complete" and await status(bench, run) == "rolled_back"
    await process.communicate()
    assert bench.memory.texts() == {}
    assert (await bench.engine.get_run(ALICE, run)).run.standing == 0
    try:
        await bench.back(run_id=run)
    except EngineError as error:
        assert error.code == "nothing"
