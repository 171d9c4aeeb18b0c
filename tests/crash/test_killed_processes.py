"""`kill -9` of a real server, and of a real `takeback rollback`, at moments that nobody chose.

The client keeps its own list of what was acknowledged. The next process finds all of it in the journal, nothing in doubt, no
half object, and on the disk what the journal says. `TAKEBACK_CRASH_KILLS` says how often.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.crash.scenarios import LARGE
from tests.protocol.conftest import Raw
from tests.signs import SECONDS

from takeback.checkpoints.retention import verify_objects
from takeback.journal.events import Caller
from takeback.journal.views import ActionView, OpenItem, RollbackView, RunView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.calls import Call
from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.principal import local_principal
from takeback.server.settings import LimitSettings, Settings, WorkspaceSettings

KILLS = int(os.environ.get("TAKEBACK_CRASH_KILLS", "5"))
NAMES = [f"f{number}.txt" for number in range(6)]


def settings(folder: Path) -> Settings:
    return Settings(
        workspace=WorkspaceSettings(roots=(folder / "work",)),
        data=folder / "data",
        key_file=folder / "chain.key",
        anchor_file=folder / "anchors",
        limits=LimitSettings(ballast_bytes=0),
        triggers=TriggerSettings.off(),
    )


def command(folder: Path, *words: str) -> list[str]:
    config = folder / "takeback.toml"
    off = "".join(f'[triggers.{name}]\nanswer = "off"\n' for name in TriggerSettings.model_fields)
    config.write_text(
        f"key_file = {json.dumps(str(folder / 'chain.key'))}\nanchor_file = {json.dumps(str(folder / 'anchors'))}\n"
        f"[workspace]\nroots = [{json.dumps(str(folder / 'work'))}]\n[limits]\nballast_bytes = 0\n"
        f"{off}"
    )
    return [sys.executable, "-m", "takeback", *words, "--data", str(folder / "data"), "--config", str(config)]


def plant(folder: Path) -> dict[str, str]:
    (folder / "work").mkdir(parents=True)
    for name in NAMES:
        (folder / "work" / name).write_text(f"before, {name}\n" + (LARGE if name == NAMES[0] else ""))
    return contents(folder)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((folder / "work").iterdir()) if path.is_file()}


async def found(folder: Path, acknowledged: dict[str, tuple[str, str]]) -> Engine:
    """Open the next engine, and hold the client's list against the journal and the disk."""
    engine = await Engine.open(settings(folder))
    journal = engine.core.journal
    for action_id, (name, _) in acknowledged.items():
        action = await journal.get(ActionView, action_id)
        assert action is not None and action.status == "applied", f"{action_id} ({name}) was acknowledged: {action}"
    assert not await journal.find(ActionView, status=("intended", "in_doubt"))
    assert not await journal.find(RunView, status="sealed") and not await journal.find(RollbackView, status="running")
    assert (await journal.verify()).sound
    assert not await verify_objects(journal, engine.core.objects, now=engine.core.now(), keep_days=30)
    return engine


async def _settled(
    folder: Path, acknowledged: dict[str, tuple[str, str]], planted: dict[str, str], sent: set[str] | None = None
) -> None:
    engine = await found(folder, acknowledged)
    try:
        journal = engine.core.journal
        last: dict[str, ActionView] = {}
        for action in await journal.find(ActionView, oldest_first=True):
            if action.stands and action.tool == "write_file":
                last[Path(action.effects[-1].object).name] = action
        now = contents(folder)
        for name in NAMES:
            if name not in last:
                assert now[name] == planted[name], f"{name} is not what the journal says"
                continue
            first = str(last[name].requested["content"]).partition("\n")[0]  # the journal shortens what is long
            assert now[name].startswith(first + "\n"), f"{name} is not what the journal says"
            assert sent is None or now[name] in sent, f"{name} is half written"
        runs = await journal.find(RunView)
        for run in runs:
            try:
                answer = await engine.rollback(run.owner, run_id=run.id)
                assert answer.status == "complete", answer.report
            except EngineError as error:
                assert error.code == "nothing", error
        assert contents(folder) == planted
        assert not await journal.find(OpenItem, status="open")
    finally:
        await engine.close()


@pytest.fixture
def started() -> Iterator[Callable[[list[str]], Raw]]:
    running: list[Raw] = []

    def start(words: list[str]) -> Raw:
        running.append(Raw(words))
        return running[-1]

    yield start
    for raw in running:
        raw.stop()


def test_a_server_killed_at_any_moment_loses_nothing_that_it_acknowledged(
    folder: Path, started: Callable[[list[str]], Raw]
) -> None:
    planted = plant(folder)
    acknowledged: dict[str, tuple[str, str]] = {}
    everything: set[str] = set()
    dice = random.Random(1)
    for turn in range(KILLS):
        client = started(command(folder, "serve"))
        client.ask("run", "tools/call", name="start_run", arguments={"goal": f"turn {turn}"})
        run = client.answer_to("run")["result"]["structuredContent"]["run_id"]
        sent: dict[int, tuple[str, str]] = {}
        for number in range(60):
            name = dice.choice(NAMES)
            content = f"{turn} {number} {dice.random()}\n" * dice.choice([1, 1, 3000])
            sent[number] = (name, content)
            everything.add(content)
            client.call(number, "write_file", path=name, content=content, run_id=run)
        wait = dice.randint(0, 30)
        while wait and (message := client.answer()):
            wait -= "id" in message
            _note(message, sent, acknowledged)
        time.sleep(dice.random() * 0.004)  # a moment between two answers: what is tested is that any will do
        client.process.kill()
        client.process.wait(timeout=SECONDS)
        assert client.process.stdout is not None
        for line in client.process.stdout:  # what it had still said counts as acknowledged
            if line.endswith(b"\n"):
                _note(json.loads(line), sent, acknowledged)
    assert len(acknowledged) > KILLS
    asyncio.run(_settled(folder, acknowledged, planted, everything))


def _note(message: dict[str, Any], sent: dict[int, tuple[str, str]], acknowledged: dict[str, tuple[str, str]]) -> None:
    told = message.get("result", {}).get("structuredContent", {})
    if message.get("id") in sent and told.get("status") == "applied":
        acknowledged[told["action_id"]] = sent[message["id"]]


def test_a_rollback_killed_at_any_moment_is_finished_by_whoever_comes_next(folder: Path) -> None:
    planted = plant(folder)
    dice = random.Random(2)
    caller = Caller(principal=local_principal(), client="test")

    async def write(turn: int) -> str:
        engine = await Engine.open(settings(folder))
        try:
            run = (await engine.start_run(caller, f"turn {turn}")).run_id
            for number in range(40):
                name = NAMES[number % len(NAMES)]
                answer = await engine.call(
                    Call("write_file", {"path": name, "content": f"{turn} {number}\n" * 50}, caller, run_id=run)
                )
                assert answer.status == "applied", answer
            return run
        finally:
            await engine.close()

    halfway = 0
    for turn in range(KILLS):
        run = asyncio.run(write(turn))
        process = subprocess.Popen(
            command(folder, "rollback", run, "--yes", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            _until_it_writes(process, folder, dice.randint(1, 250) * 1000)
        finally:
            process.kill()
            process.communicate(timeout=SECONDS)
        halfway += contents(folder) != planted and process.returncode != 0
        asyncio.run(_settled(folder, {}, planted))
    assert halfway or KILLS < 3, "not one of them was killed in the middle"


def _until_it_writes(process: subprocess.Popen[bytes], folder: Path, size: int) -> None:
    """Wait until its journal has grown so far, or it has ended."""
    wal = folder / "data" / "journal.db-wal"
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        if wal.exists() and wal.stat().st_size >= size:
            return
        select.select([], [], [], 0.0005)
