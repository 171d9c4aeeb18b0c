"""A tool that changes several objects in one action, and short ways to let parts of a system fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel
from tests.server.engine.bench import ALICE, Bench

from takeback.journal.ids import RunId
from takeback.journal.states import Effect
from takeback.journal.views import ActionView, RunView
from takeback.tools.contract import Arguments, CallContext, Prepared, ReversibleTool, SwapPrepared, Target
from takeback.tools.memory_system import MemorySystem


class ManyArguments(Arguments):
    """Several values at once."""

    values: dict[str, str]


class ManyResult(BaseModel):
    """Nothing to say."""


class SetMany(ReversibleTool[ManyArguments]):
    """Writes several values in one swap."""

    name, title, description = "set_many", "Set values", "Writes several values at once."
    arguments, result = ManyArguments, ManyResult

    def __init__(self, system: MemorySystem) -> None:
        self.system = system

    async def targets(self, arguments: ManyArguments, context: CallContext) -> Sequence[Target]:
        return [Target(self.system.name, key) for key in arguments.values]

    async def prepare(self, arguments: ManyArguments, context: CallContext) -> Prepared:
        effects = [
            Effect(
                system=self.system.name,
                object=key,
                before=self.system.image(self.system.get(key))[0],
                after=self.system.stage(value),
            )
            for key, value in arguments.values.items()
        ]
        return SwapPrepared(self.system, effects, result=lambda _: ManyResult(), summary="Set them.")


def with_many(bench: Bench) -> Bench:
    """The bench with that tool among its tools."""
    core = bench.engine.core
    core.tools = {**core.tools, "set_many": SetMany(bench.memory)}
    return bench


def failing(bench: Bench, verb: str, error: Callable[[], BaseException], *, at: Callable[[int], bool]) -> None:
    """Let a verb of the memory system raise, at those of its calls (counted from 1) that `at` names."""
    real = getattr(bench.memory, verb)
    count = 0

    async def broken(*args: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if at(count):
            raise error()
        return await real(*args, **more)

    setattr(bench.memory, verb, broken)


async def status(bench: Bench, run: str) -> str:
    """Of a run."""
    view = await bench.engine.core.journal.get(RunView, run)
    assert view is not None
    return view.status


async def action(bench: Bench, action_id: str | None) -> ActionView:
    """One action."""
    view = await bench.engine.core.journal.get(ActionView, str(action_id))
    assert view is not None
    return view


async def actions(bench: Bench, run: str) -> list[ActionView]:
    """All of a run."""
    return list(await bench.engine.core.journal.find(ActionView, run_id=RunId(run), oldest_first=True))


async def approved(bench: Bench, tool: str, run: str, **arguments: Any) -> str:
    """Ask, let a person consent; the approval's id. The act is still to be made."""
    pending = await bench.call(tool, run, **arguments)
    await bench.engine.approve(ALICE, str(pending.approval_id), lane="test")
    return str(pending.approval_id)
