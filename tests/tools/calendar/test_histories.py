"""Random histories of events through the whole engine, in a folder and on a server, taken back: bytes and ETags as before,
others' changes kept, what a death leaves settled.

`TAKEBACK_CALENDAR_HISTORIES` sets how many in a folder, a fifth of them on a server (`make calendar-histories` runs 1,000).
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.server.engine.reaper import Died, Reaper, interpose
from tests.tools.calendar.caldav.conftest import Radicale
from tests.tools.calendar.histories import Collection, Folder, Foreign, World, act, plant, somebody_else

from takeback.journal.views import ActionView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.engine.plan import COVERED, IN_PART
from takeback.server.settings import LimitSettings, ToolSettings
from takeback.tools.calendar.settings import CalendarSettings

HISTORIES = int(os.environ.get("TAKEBACK_CALENDAR_HISTORIES", "20"))
FIRST = int(os.environ.get("TAKEBACK_CALENDAR_FIRST", "0"))
"""The seed to begin with, for looking at one history."""
PASSWORD = "CALENDAR_PASSWORD"


class Place:
    """One calendar and what opens an engine on it."""

    def __init__(self, folder: Path, kind: str, world: World, calendar: CalendarSettings) -> None:
        self.folder, self.kind, self.world, self.calendar = folder, kind, world, calendar
        self.seeds = range(FIRST, FIRST + (HISTORIES if kind == "folder" else max(HISTORIES // 5, 1)))

    async def open(self) -> Bench:
        settings = settings_for(
            self.folder,
            tools=ToolSettings(off=("files", "database", "email")),
            limits=LimitSettings(ballast_bytes=4096, step_seconds=20),
            calendars={"work": self.calendar},
        )
        engine = await Engine.open(settings)
        engine.core.retry_pauses = ()
        return Bench(engine, self.folder / "work")


@pytest.fixture(params=["folder", "server"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    # memory-backed where there is such a place: these tests are about what happens, not about the disk
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="takeback-", dir=base))
    if request.param == "folder":
        events = folder / "events"
        yield Place(folder, "folder", Folder(events), CalendarSettings(path=events, timezone="Europe/Berlin"))
    else:
        radicale: Radicale = request.getfixturevalue("radicale")
        monkeypatch.setenv(PASSWORD, radicale.password)
        there = CalendarSettings(
            url=radicale.url, username=radicale.user, password_variable=PASSWORD, timezone="Europe/Berlin"
        )
        world = Collection(radicale)
        yield Place(folder, "server", world, there)
        world.close()
    shutil.rmtree(folder, ignore_errors=True)


async def test_random_histories_are_taken_back_to_bytes_and_etags(place: Place) -> None:
    bench = await place.open()
    applied = 0
    try:
        for seed in place.seeds:
            chance = random.Random(f"calendar {seed}")
            plant(place.world, chance)
            states = [place.world.whole()]
            run = await bench.start(str(seed))
            actions: list[str] = []
            for _ in range(chance.randrange(1, 8)):
                answer = await act(bench, run, chance)
                now = place.world.whole()
                if answer.status == "applied":
                    actions.append(answer.action_id)
                    states.append(now)
                else:
                    assert answer.status == "failed" and answer.error.code not in ("internal", "storage"), answer
                    assert now == states[-1], (seed, answer)
            applied += len(actions)
            if not actions:
                continue
            match chance.randrange(3):
                case 0:
                    await _whole(bench, place.world, run, states, seed)
                case 1:
                    for action, state in zip(reversed(actions), reversed(states[:-1]), strict=True):
                        answer = await bench.back(run_id=run, actions=[action])
                        assert answer.status == "complete", (seed, answer.report)
                        assert place.world.whole() == state, (seed, action)
                case _:
                    chosen = chance.sample(actions, chance.randrange(1, len(actions) + 1))
                    answer = await bench.back(run_id=run, actions=chosen)
                    await _outcomes_are_true(bench, run, answer.steps)
                    if any(step.outcome in ("restored", "merged") for step in answer.steps):
                        redone = await bench.engine.redo(ALICE, str(answer.rollback_id))
                        assert redone.status == "complete", (seed, redone.report)
                    assert place.world.whole() == states[-1], (seed, "redo")
                    await _whole(bench, place.world, run, states, seed)
    finally:
        await bench.engine.close()
    assert applied > len(place.seeds)


async def _whole(bench: Bench, world: World, run: str, states: list[Any], seed: int) -> None:
    answer = await bench.back(run_id=run)
    assert answer.status == "complete", (seed, answer.report)
    assert world.whole() == states[0], seed
    redone = await bench.engine.redo(ALICE, str(answer.rollback_id))
    assert redone.status == "complete", (seed, redone.report)
    assert world.whole() == states[-1], (seed, "redo")
    again = await bench.engine.redo(ALICE, str(redone.rollback_id))
    assert again.status == "complete", (seed, again.report)
    assert world.whole() == states[0], (seed, "and back")


async def test_what_somebody_else_did_in_between_always_survives(place: Place) -> None:
    bench = await place.open()
    outcomes: Counter[str] = Counter()
    try:
        for seed in place.seeds:
            chance = random.Random(f"calendar foreign {seed}")
            plant(place.world, chance)
            before = place.world.whole()
            run = await bench.start(str(seed))
            actions: list[str] = []
            foreign = Foreign()
            for _ in range(chance.randrange(2, 8)):
                answer = await act(bench, run, chance)
                if answer.status == "applied":
                    actions.append(answer.action_id)
                while chance.random() < 0.5:
                    somebody_else(place.world, chance, foreign)
            if not actions:
                continue
            chosen = chance.sample(actions, chance.randrange(1, len(actions) + 1)) if chance.random() < 0.4 else None
            there = place.world.whole()
            answer = await bench.back(run_id=run, **({"actions": chosen} if chosen else {}))
            now = place.world.whole()
            assert foreign.lost(there, now) == [], (seed, answer.report)
            outcomes.update(step.outcome for step in answer.steps)
            assert all(step.outcome != "failed" for step in answer.steps), (seed, answer.report)
            assert all(step.why for step in answer.steps if step.outcome == "conflict"), (seed, answer.report)
            await _outcomes_are_true(bench, run, answer.steps)
            if answer.status == "complete" and chosen is None:
                untouched = (before.keys() | now.keys()) - foreign.touched
                for name in untouched:
                    assert now.get(name) == before.get(name), (seed, name)
            if any(step.outcome in ("restored", "merged") for step in answer.steps):
                redone = await bench.engine.redo(ALICE, str(answer.rollback_id))
                assert redone.status == "complete", (seed, "redo", redone.report)
            assert place.world.whole() == there, (seed, "redo")
    finally:
        await bench.engine.close()
    print(place.kind, dict(outcomes))
    assert HISTORIES < 100 or {"restored", "merged", "conflict"} <= outcomes.keys()


async def test_a_death_at_any_step_of_a_history_is_settled(place: Place) -> None:
    for seed in place.seeds[: max(len(place.seeds) // 4, 2)]:
        chance = random.Random(f"calendar death {seed}")
        plant(place.world, chance)
        before = place.world.whole()
        bench = await place.open()
        run = await bench.start(str(seed))
        interpose(bench.engine.core, Reaper(chance.randrange(1, 16)))
        try:
            for _ in range(chance.randrange(1, 5)):
                await act(bench, run, chance)
            await bench.back(run_id=run)
            await bench.engine.close()
        except EngineError as error:
            assert error.code == "nothing"
            await bench.engine.close()
        except (Died, BaseExceptionGroup) as error:
            assert isinstance(error, Died) or error.split(Died)[1] is None
            await bench.engine.core.journal.close()  # the process is gone, and what it held with it
            await bench.engine.core.systems["calendar"].close()  # type: ignore[attr-defined] -- the system of calendars
        bench = await place.open()
        try:
            if place.world.whole() != before:
                answer = await bench.back(run_id=run)
                assert answer.status == "complete", (seed, answer.report)
            assert place.world.whole() == before, seed
            assert not await bench.engine.open_items(ALICE, run_id=run), seed
        finally:
            await bench.engine.close()


async def _outcomes_are_true(bench: Bench, run: str, steps: list[Any]) -> None:
    good = {"restored", "merged", "already_undone", "compensated"}
    steps = [step for step in steps if step.why != "it changed nothing"]
    for step in steps:
        action = await bench.engine.core.journal.get(ActionView, step.action_id)
        assert action is not None
        assert action.stands == (step.outcome not in good or step.why.startswith((COVERED, IN_PART))), step
    blocked = [step for step in steps if step.outcome not in good]
    assert bool(blocked) == bool(await bench.engine.open_items(ALICE, run_id=run))
