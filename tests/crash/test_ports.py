"""The engine over ports that stop, fail, or act and then fail, at the first, second, third … call, until one run passes.

The next engine finds the world and the journal of some step of the story, never of one between two steps; nothing that was
acknowledged is missing; and all of it can be taken back. The in-memory system is tried at every call in `tests/server/engine`;
here it is real files, all ports, errors beside deaths, and recovery and collection beside calls and rollbacks.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.crash.ports import HOW, Faults, How
from tests.crash.scenarios import SCENARIOS, Scenario, Step, Story, Told, call, open_bench, plant, take_back, world
from tests.crash.shim import every
from tests.crash.worker import UNWRITTEN, check, standing_of
from tests.server.engine.bench import Bench, settings_for
from tests.server.engine.reaper import Died

from takeback.journal.log import JournalError
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.settings import ToolSettings

FILES = 8


async def _many(story: Story) -> Told:
    """Every file of a folder is written; one answer for all."""
    told = Told(True)
    for number in range(FILES):
        one = await call("write_file", path=f"many/{number}", content=f"{number}\n")(story)
        told.actions += one.actions if one.good else []
        if not one.good:
            return Told(False, doubt=True, actions=told.actions, words=one.words)
    return told


async def _plant_many(story: Story) -> None:
    (story.bench.work / "many").mkdir()
    for number in range(FILES):
        (story.bench.work / "many" / f"{number}").write_text(f"before {number}\n")
    await _many(story)


STORIES: dict[str, Scenario] = {
    **{name: scenario for name, scenario in SCENARIOS.items() if name != "recovery"},
    "a folder of many files": Scenario((take_back,), prepare=_plant_many, back_to=-1),
}


async def work(folder: Path, scenario: Scenario, faults: Faults | None) -> dict[str, Any]:
    """Do the story's steps; what was acknowledged is written down beside the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    plant(folder / "work")
    worlds = [world(folder / "work", links=not scenario.portable)]
    story = Story(await open_bench(folder, portable=scenario.portable))
    story.run = await story.bench.start()
    if scenario.prepare is not None:
        await scenario.prepare(story)
    folder.with_name(folder.name + ".run").write_text(story.run)
    worlds.append(world(folder / "work", links=not scenario.portable))
    standing = [await standing_of(story.bench, story.run)]
    acks = folder.with_name(folder.name + ".acks")
    acks.write_text("")
    if faults is not None:
        faults.interpose(story.bench.engine.core)
    for step in scenario.steps:
        told = await _one(step, story)
        if told is None:
            break
        with acks.open("a") as file:
            file.write(json.dumps(told.__dict__) + "\n")
        if not told.good:
            break
        if faults is None:
            worlds.append(world(folder / "work", links=not scenario.portable))
            standing.append(await standing_of(story.bench, story.run))
    if faults is not None:
        faults.dead = faults.broken = False
        faults.at = 0
    await story.bench.engine.close()
    return {"worlds": worlds, "standing": standing}


async def _one(step: Step, story: Story) -> Told | None:
    """One step; `None` if the process died in it."""
    try:
        return await step(story)
    except Died:
        return None
    except EngineError as error:
        return Told(False, doubt=error.code in UNWRITTEN, words=error.message)
    except (JournalError, OSError) as error:
        return Told(False, doubt=True, words=repr(error))
    except BaseExceptionGroup as group:
        if group.split(Died)[1] is not None:
            raise
        return None


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", STORIES)
async def test_whatever_a_port_does_the_next_engine_finds_a_world_that_the_journal_tells_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: How
) -> None:
    scenario = STORIES[name]
    monkeypatch.setitem(SCENARIOS, name, scenario)
    untouched = await work(folder / "one", scenario, None)
    step = every(29 if name.startswith("a folder") else 13)
    for n in range(1 + (len(name) * 3 + len(how)) % step, 1000, step):
        faults = Faults(n, how)
        await work(folder / "one", scenario, faults)
        order = {"folder": str(folder / "one"), "scenario": name, "mode": "fail" if "fails" in how else "before"}
        try:
            await check({**order, **untouched})
        except Exception as error:
            error.add_note(f"{name}: call {n} of the ports {how}")
            raise
        if faults.count < n:
            return
    raise AssertionError("the story never ran through")


@pytest.mark.parametrize("how", ["stops before", "stops after"])
async def test_a_death_in_the_recovery_from_a_death_is_recovered_from(folder: Path, how: How) -> None:
    scenario = SCENARIOS["recovery"]
    untouched = await work(folder / "one", scenario, None)
    step = every(5)
    for n in range(1, 1000, step):
        shutil.rmtree(folder / "one")
        (folder / "one").mkdir()
        plant(folder / "one" / "work")
        story = Story(await open_bench(folder / "one"))
        story.run = await story.bench.start()
        assert scenario.prepare is not None
        await scenario.prepare(story)
        (folder / "one.run").write_text(story.run)
        (folder / "one.acks").write_text("")
        await story.bench.engine.close()
        reached = False
        for _ in range(2):  # the second recovery dies too, further on
            faults = Faults(n, how)
            engine = await Engine.open(settings_for(folder / "one", tools=ToolSettings()), recover=False)
            engine.core.retry_pauses = ()
            faults.interpose(engine.core)
            assert await _one(_recover, Story(Bench(engine, folder / "one" / "work"))) is None or not faults.dead
            reached |= faults.count >= n
            faults.dead = False
            faults.at = 0
            await engine.close()
        await check({"folder": str(folder / "one"), "scenario": "recovery", **untouched})
        if not reached:
            assert n > 3
            return
    raise AssertionError("recovery never ran through")


async def _recover(story: Story) -> Told:
    await story.bench.engine.recover()
    return Told(True)
