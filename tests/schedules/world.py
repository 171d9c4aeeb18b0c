"""One data directory, engines on it, and a seed that decides about everything: schedules, ids, times, what is asked for."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

from tests.schedules.loop import Killed, SeededLoop, no_threads
from tests.server.engine.bench import ALICE, Bench, settings_for

from takeback.journal.events import Caller
from takeback.journal.views import ActionView, OpenItem, RollbackView, RunView
from takeback.server.engine.answers import CallAnswer, EngineError
from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings

KEYS = ("a", "b", "a/x")
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
Story = Callable[["World"], Awaitable[None]]


@contextmanager
def seeded(loop: SeededLoop) -> Iterator[None]:
    """Threads, ids and random bytes belong to the loop."""
    chance = random.Random(loop.dice.random())
    with (
        no_threads(),
        patch("secrets.token_bytes", chance.randbytes),
        patch("secrets.token_hex", lambda count: chance.randbytes(count).hex()),
        patch("takeback.tools.memory.uuid4", lambda: UUID(bytes=chance.randbytes(16))),
    ):
        yield


class World:
    """What a story plays in."""

    def __init__(self, folder: Path, loop: SeededLoop) -> None:
        self.folder, self.loop = folder, loop
        self.dice = random.Random(loop.dice.random())
        self.engines: list[Engine] = []
        self.planted: dict[str, str] = {}
        self.marks: set[str] = set()
        """What a person wrote and nobody may lose."""
        self.acknowledged: set[str] = set()
        """Actions of which a caller was told that they are done."""

    def note(self, kind: str, words: str) -> None:
        """Something that people and callers remember, whatever becomes of the process."""
        {"mark": self.marks, "acknowledged": self.acknowledged}[kind].add(words)
        with (self.folder / "remembered").open("a") as file:
            file.write(json.dumps([kind, words]) + "\n")

    def remember(self) -> None:
        """What the process before this one had noted."""
        file = self.folder / "remembered"
        for kind, words in map(json.loads, file.read_text().splitlines() if file.exists() else ()):
            {"mark": self.marks, "acknowledged": self.acknowledged}[kind].add(words)

    async def open(self) -> Bench:
        """One more process on the data directory."""
        engine = await Engine.open(settings_for(self.folder, triggers=TriggerSettings.off()))
        engine.core.retry_pauses = (0.0, 0.0)
        engine.core.now = lambda: BEGINNING + timedelta(seconds=self.loop.time())
        self.engines.append(engine)
        return Bench(engine, self.folder / "work")

    async def close(self) -> None:
        """All processes end in order."""
        for engine in self.engines:
            await engine.close()

    def plant(self, bench: Bench) -> None:
        """What is there before anybody comes."""
        for key in KEYS[:2]:
            bench.memory.edit(key, f"before, {key}\n")
        self.planted = bench.memory.texts()

    async def pause(self) -> None:
        """Let others go first, for as long as the seed likes."""
        for _ in range(self.dice.randrange(12)):
            await asyncio.sleep(0)

    async def act(self, bench: Bench, tool: str, run: str, who: str, **arguments: Any) -> CallAnswer:
        """One call, by an agent of its own (that has not read anything yet); remembered if it was acknowledged."""
        caller = Caller(principal=ALICE.principal, client=who)
        answer = await bench.call(tool, run, caller=caller, **arguments)
        if answer.status == "applied":
            self.note("acknowledged", str(answer.action_id))
        return answer

    async def person(self, bench: Bench, key: str, words: str) -> None:
        """Somebody else adds a line to a text, at a moment of their own."""
        await self.pause()
        bench.memory.edit(key, (bench.memory.get(key) or "") + words)
        self.note("mark", words)

    # -- what always holds ----------------------------------------------------------------------------------------------

    async def sound(self, bench: Bench) -> None:
        """Nothing is open, nothing acknowledged is lost, and each object's history is one line that ends in the world."""
        journal = bench.engine.core.journal
        assert not await journal.find(ActionView, status=("intended", "in_doubt")), "something is in doubt"
        assert not await journal.find(RunView, status="sealed"), "a run is sealed"
        assert not await journal.find(RollbackView, status="running"), "a rollback is at work"
        actions = await journal.find(ActionView, oldest_first=True)
        known = {action.id: action for action in actions}
        for action_id in self.acknowledged:
            assert action_id in known and known[action_id].status == "applied", f"{action_id} was acknowledged"
        times: Counter[str] = Counter()
        for view in await journal.find(RollbackView):
            for step in view.steps:
                if step.outcome in UNDONE:
                    times[step.action_id] += -1 if view.kind == "redo" else 1
        assert set(times.values()) <= {0, 1}, f"taken back more often than brought back: {times}"
        found = await journal.verify()
        assert found.sound, found.problems
        await self._nobody_lost(bench)

    async def _nobody_lost(self, bench: Bench) -> None:
        now = "".join(bench.memory.texts().values())
        items = "".join(item.model_dump_json() for item in await bench.engine.core.journal.find(OpenItem))
        for mark in self.marks:
            assert mark in now or mark in items, f"a person's {mark!r} is lost"

    async def one_line(self, bench: Bench) -> None:
        """Where nobody else has been at work: each effect begins where the one before it ended, and the last one is there."""
        actions = await bench.engine.core.journal.find(ActionView, oldest_first=True)
        ends: dict[str, Any] = {}
        for action in (each for each in actions if each.stands):
            for effect in action.effects:
                if effect.object in ends:
                    assert effect.before.same(ends[effect.object]), f"{action.id} is not built on what it followed"
                ends[effect.object] = effect.after
        for key, state in ends.items():
            (now,) = await bench.memory.look([key])
            assert now.same(state), f"{key} is not as the journal says"


UNDONE = ("restored", "merged", "compensated")


@dataclass(frozen=True)
class Played:
    """What became of one schedule."""

    steps: int = 0
    order: str = ""
    """Digest of every choice that was made."""
    wrong: str = ""
    """What did not hold; empty if all did."""


def play(
    folder: Path, story: Story, seed: int, *, dies_at: int | None = None, after: Callable[[], None] | None = None
) -> Played:
    """One schedule of a story, in a process of its own, whose end is the end of everything in it.

    :param dies_at: the process dies before that step, and the next one settles what it left.
    :param after: called in that process first: for a mutant.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    played = _apart(folder, story, SeededLoop(seed, dies_at=dies_at), after)
    if dies_at is not None and not played.wrong:
        settled = _apart(folder, the_next_process, SeededLoop(seed + 1), after)
        played = replace(played, wrong=settled.wrong)
    return played


def _apart(folder: Path, story: Story, loop: SeededLoop, first: Callable[[], None] | None) -> Played:
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        wrong = ""
        try:
            if first is not None:
                first()
            _run(folder, story, loop)
        except Killed:
            pass
        except BaseException:
            wrong = traceback.format_exc()
        order = blake2b(repr(loop.trace).encode()).hexdigest()
        os.write(writing, json.dumps([loop.steps, order, wrong[-3000:]]).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    return Played(*json.loads(told)) if told else Played(wrong="the process died")


def _run(folder: Path, story: Story, loop: SeededLoop) -> None:
    async def whole() -> None:
        world = World(folder, loop)
        await story(world)
        await world.close()

    with seeded(loop):
        loop.run(whole())
    assert not loop.errors, loop.errors
    assert not loop.unfinished(), loop.unfinished()


async def the_next_process(world: World) -> None:
    """Opens the data directory, finds everything settled, and takes back what stands."""
    world.remember()
    bench = await world.open()
    for item in await bench.engine.core.journal.find(OpenItem, status="open"):
        if item.kind == "in_doubt":
            # nobody but a person can tell whether an announcement was heard; this one has heard it, or not
            action = await bench.engine.core.journal.get(ActionView, item.action_id)
            assert action is not None and action.tool == "announce", f"{item.object} could have been looked at"
            heard = bench.memory.notes("announcement")
            await bench.engine.resolve_conflict(ALICE, item.id, "theirs" if heard else "ours")
    await world.sound(bench)
    for run in await bench.engine.core.journal.find(RunView):
        with suppress(EngineError):
            await bench.back(run_id=run.id, cascade=[run.id])
    await world.sound(bench)
