"""The processes of a rehearsal: one that makes the calls and may be killed, one that looks at what it left.

Each runs in a process of its own, because what is rehearsed is that a process dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
from pydantic import JsonValue

from takeback.journal.events import Caller
from takeback.journal.ids import RunId
from takeback.journal.views import ActionView, RollbackView
from takeback.server.drill.calls import Learned, Repeat, changed
from takeback.server.drill.sandbox import Shape
from takeback.server.drill.world import World, differences, world
from takeback.server.engine.answers import EngineError, RollbackAnswer
from takeback.server.engine.engine import Call, Engine

CALLER = Caller(principal="drill", client="takeback-drill", client_version="1")
_NAMED = 5
"""Names of a difference that are told."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a process needs to know."""

    shape: Shape
    sandbox: Path
    calls: tuple[Repeat, ...]
    start: World
    """What the world looks like before the first call."""

    @property
    def notes(self) -> Path:
        """Where the acting process writes down how far it is, for the one that looks."""
        return self.sandbox / "notes.jsonl"

    def world(self) -> World:
        """What it looks like now."""
        return world(self.shape.parts(self.sandbox))


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of one call and its undo, undisturbed."""

    action_id: str
    tool: str
    refused: str = ""
    """Why the call did not go through here; then nothing was proven."""
    different: str = ""
    """In what the world was not as before once it had been taken back."""
    seconds: float = 0.0
    """That taking it back took."""


_inside: ContextVar[bool] = ContextVar("_inside", default=False)
"""Whether a call was made within another one that counts. By task, because systems are put back beside each other: every run
has as many points, if not in the same order."""


class Deaths:
    """Counts the calls to whatever makes something durable or visible, and dies before or after one of them."""

    def __init__(self, at: int | None) -> None:
        self._at, self.points = at, list[str]()

    def _pass(self, point: str) -> None:
        self.points.append(point)
        if self._at is not None and len(self.points) - 1 == self._at:
            # what the system cannot catch: nothing is closed, nothing is written any more
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    def counted(self, call: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
        """The same call, with a point before it and one after it."""

        async def port(*given: Any, **more: Any) -> Any:
            if _inside.get():
                return await call(*given, **more)
            token = _inside.set(True)
            try:
                self._pass(f"before {name}")
                result = await call(*given, **more)
                self._pass(f"after {name}")
            finally:
                _inside.reset(token)
            return result

        return port

    def interpose(self, engine: Engine) -> None:
        """Let everything that changes something pass through here."""
        core = engine.core
        ports: list[tuple[object, str, str]] = [(core.journal, "append", "an entry in the journal")]
        for name, system in core.systems.items():
            ports += [(system, verb, f"a change of {name}") for verb in ("swap", "swap_each")]
        for port, verb, name in ports:
            setattr(port, verb, self.counted(getattr(port, verb), name))
        for tool in core.tools.values():
            prepare = getattr(tool, "prepare", None)
            if prepare is not None:
                setattr(tool, "prepare", self._preparing(prepare, tool.name))  # noqa: B010 -- the type knows no such field

    def _preparing(self, prepare: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
        async def prepared(*given: Any) -> Any:
            made = await prepare(*given)
            made.commit = self.counted(made.commit, f"the effect of {name}")
            return made

        return prepared


class Acting:
    """One process that makes the calls."""

    def __init__(self, task: Task, at: int | None = None) -> None:
        self.task, self.deaths, self.learned = task, Deaths(at), Learned()
        self.engine: Engine
        self.run_id = ""

    async def open(self) -> None:
        """Open the engine in the sandbox."""
        self.engine = await Engine.open(self.task.shape.settings_in(self.task.sandbox))
        self.deaths.interpose(self.engine)

    def note(self, **facts: JsonValue) -> None:
        """Write down how far this process is."""
        with self.task.notes.open("a") as file:
            file.write(json.dumps(facts) + "\n")

    async def start(self) -> None:
        """Begin the run."""
        self.run_id = (await self.engine.start_run(CALLER, "drill")).run_id
        self.note(phase="there", run_id=self.run_id)

    async def repeat(self, call: Repeat) -> tuple[str, str]:
        """Make a call again: its new id, and why it was refused (or nothing)."""
        sandbox = self.task.sandbox
        arguments = changed(self.learned.applied(call.arguments), lambda text: self.task.shape.path_in(sandbox, text))
        assert isinstance(arguments, dict)
        answer = await self.engine.call(Call(call.tool, arguments, CALLER, run_id=self.run_id))
        if answer.error is not None or answer.action_id is None:
            return "", answer.error.message if answer.error is not None else f"the answer was {answer.status}"
        self.learned.compare(call.answer, {"result": answer.result, "digest": answer.digest})
        return answer.action_id, ""


async def one_by_one(task: Task) -> list[Proof]:
    """Make all calls, then take each back by itself, the last one first, and hold the world against what it was."""
    acting = Acting(task)
    await acting.open()
    proofs: list[Proof] = []
    made: list[tuple[Repeat, str, World]] = []
    try:
        await acting.start()
        before = task.world()
        for call in task.calls:
            action_id, refused = await acting.repeat(call)
            if refused:
                proofs.append(Proof(call.action_id, call.tool, refused=refused))
                continue
            made.append((call, action_id, before))
            before = task.world()
        for call, action_id, expected in reversed(made):
            began = perf_counter()
            answer = await acting.engine.rollback(CALLER, actions=[action_id])
            seconds = perf_counter() - began
            different = _not_complete(answer) or _different(expected, task.world())
            proofs.append(Proof(call.action_id, call.tool, different=different, seconds=seconds))
    finally:
        await acting.engine.close()
    return proofs


async def there_and_back(task: Task, at: int | None) -> list[str]:
    """All calls, the way back, and the way there once more; the points at which it can be killed.

    :param at: die at this point.
    """
    acting = Acting(task, at)
    await acting.open()
    try:
        await acting.start()
        for call in task.calls:
            await acting.repeat(call)
        acting.note(phase="back", end=dict(task.world()))
        answer = await acting.engine.rollback(CALLER, run_id=acting.run_id)
        acting.note(phase="again", rollback_id=answer.rollback_id)
        if answer.rollback_id is not None:
            await acting.engine.redo(CALLER, answer.rollback_id)
        acting.note(phase="over")
    finally:
        await acting.engine.close()
    return acting.deaths.points


async def look(task: Task) -> list[str]:
    """What the next process finds: what was interrupted is settled, and the world is as it was or can be put back so."""
    facts: dict[str, Any] = {}
    for line in task.notes.read_text().splitlines() if task.notes.exists() else ():
        facts.update(json.loads(line))
    engine = await Engine.open(task.shape.settings_in(task.sandbox))
    wrong: list[str] = []
    try:
        if (calendars := engine.core.systems.get("calendar")) is not None:
            # a death within a change leaves a file beside the events that is cleared away later: here, at once
            await calendars.collect((), older_than_ns=0)
        run_id = str(facts.get("run_id", ""))
        if not run_id:
            return _said("nothing had begun, yet", _different(task.start, task.world()))
        for action in await engine.core.journal.find(ActionView, status=("intended", "in_doubt")):
            wrong.append(f"{action.tool} was left in doubt")
        if facts["phase"] in ("again", "over"):
            wrong += await _brought_back(task, engine, facts)
        wrong += await _taken_back(task, engine, run_id)
        if not (await engine.core.journal.verify()).sound:
            wrong.append("the journal is not sound")
    finally:
        await engine.close()
    return wrong


async def _brought_back(task: Task, engine: Engine, facts: dict[str, Any]) -> list[str]:
    rollback_id = facts.get("rollback_id")
    if rollback_id is None:
        return ["the rollback had no result"]
    rollback = await engine.core.journal.get(RollbackView, rollback_id)
    if rollback is not None and rollback.redone_by is None:
        await engine.redo(CALLER, str(rollback_id))
    return _said("brought back, yet", _different(facts["end"], task.world()))


async def _taken_back(task: Task, engine: Engine, run_id: str) -> list[str]:
    actions = await engine.core.journal.find(ActionView, run_id=RunId(run_id))
    if any(action.stands for action in actions):
        try:
            answer = await engine.rollback(CALLER, run_id=run_id)
        except EngineError as error:
            return [f"it could not be taken back: {error.message}"]
        if _not_complete(answer):
            return [_not_complete(answer)]
    return _said("taken back, yet", _different(task.start, task.world()))


def _not_complete(answer: RollbackAnswer) -> str:
    if answer.status == "complete" and not answer.open_items:
        return ""
    reasons = [f"{step.outcome}: {step.why}" for step in answer.steps if step.outcome not in ("restored", "skipped")]
    return f"it was taken back only in part ({'; '.join(reasons[:_NAMED]) or answer.status})"


def _different(expected: World, found: World) -> str:
    names = differences(expected, found)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"not as before: {', '.join(names[:_NAMED])}{more}" if names else ""


def _said(words: str, different: str) -> list[str]:
    return [f"{words} {different}"] if different else []


def in_process(what: str, task: Task, at: int | None, answer: Any) -> None:
    """Entry of a process: do one of the above and send what came of it.

    :param answer: the sending end of a pipe.
    """
    sys.stdin = open(os.devnull)  # noqa: SIM115 -- for as long as the process lives
    match what:
        case "one by one":
            answer.send(anyio.run(one_by_one, task))
        case "there and back":
            answer.send(anyio.run(there_and_back, task, at))
        case _:
            answer.send(anyio.run(look, task))
    answer.close()
