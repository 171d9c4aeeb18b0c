"""Tools for tests of the surface: slow ones that wait for a file, one that breaks, one that says too much."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Self

import anyio

from takeback.journal.states import Effect
from takeback.tools.contract import (
    Arguments,
    CallContext,
    Committed,
    Prepared,
    ReadTool,
    Result,
    ReversibleTool,
    SwapPrepared,
    Target,
)
from takeback.tools.memory_system import MemorySystem
from takeback.tools.registry import Family, Services


class Nothing(Arguments):
    """No arguments."""


class Count(Arguments):
    to: int


class Counted(Result):
    counted: int


class CountUp(ReadTool[Count]):
    name, title, description = "count_up", "Count up", "Counts, and tells how far it is."
    arguments, result = Count, Counted

    async def run(self, arguments: Count, context: CallContext) -> Counted:
        print("what a library prints does not get into the protocol")
        os.write(1, b"nor what goes to the descriptor itself\n")
        for number in range(arguments.to):
            await context.progress(number + 1, arguments.to, f"at {number + 1}")
        return Counted(counted=arguments.to)


class Text(Result):
    text: str


class SayMuch(ReadTool[Count]):
    name, title, description = "say_much", "Say much", "Answers a text of that many characters."
    arguments, result = Count, Text

    async def run(self, arguments: Count, context: CallContext) -> Text:
        return Text(text="x" * arguments.to)


class Explode(ReadTool[Nothing]):
    name, title, description = "explode", "Explode", "Fails in a way that nobody foresaw."
    arguments, result = Nothing, Counted

    async def run(self, arguments: Nothing, context: CallContext) -> Counted:
        raise RuntimeError("the password is hunter2")


class Wait(ReadTool[Nothing]):
    name, title, description = "wait_forever", "Wait", "Never answers."
    arguments, result = Nothing, Counted

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def run(self, arguments: Nothing, context: CallContext) -> Counted:
        (self.folder / "waiting").touch()
        await anyio.sleep_forever()
        raise AssertionError("nobody wakes it")


class Slowly(Arguments):
    key: str
    value: str


class Written(Result):
    value: str


class _Gated(SwapPrepared):
    """Says `committing` and waits for the file `go` before it does anything."""

    def __init__(self, folder: Path, system: MemorySystem, effect: Effect, value: str) -> None:
        super().__init__(
            system, [effect], result=lambda _: Written(value=value), summary=f"Set {effect.object} slowly."
        )
        self.folder = folder

    async def commit(self) -> Committed:
        (self.folder / "committing").touch()
        while not (self.folder / "go").exists():  # noqa: ASYNC110 -- another process says go
            await anyio.sleep(0.01)
        return await super().commit()


def _gate(folder: Path) -> Callable[[str], Awaitable[None]]:
    """Waits, before or after a swap, while there is a file `hold_before` or `hold_after`; says so by a file `held`."""
    gates = {"swap": folder / "hold_before", "swapped": folder / "hold_after"}

    async def step(name: str) -> None:
        gate = gates.get(name)
        if gate is not None and gate.exists():
            (folder / "held").touch()
            while gate.exists():  # noqa: ASYNC110 -- another process lets go
                await anyio.sleep(0.01)

    return step


class SetSlowly(ReversibleTool[Slowly]):
    name, title, description = "set_slowly", "Set slowly", "Sets a value, but not before it is told to."
    arguments, result = Slowly, Written

    def __init__(self, folder: Path, system: MemorySystem) -> None:
        self.folder, self.system = folder, system

    async def targets(self, arguments: Slowly, context: CallContext) -> Sequence[Target]:
        return [Target(self.system.name, arguments.key)]

    async def prepare(self, arguments: Slowly, context: CallContext) -> Prepared:
        before, _ = await self.system.stored(self.system.get(arguments.key))
        after, _ = await self.system.stored(arguments.value)
        effect = Effect(system=self.system.name, object=arguments.key, before=before, after=after)
        return _Gated(self.folder, self.system, effect, arguments.value)


class SlowFamily(Family):
    """Its gate is the family's folder in the data directory."""

    name = "slow_tools"

    def __init__(self, folder: Path) -> None:
        self.system = MemorySystem("slow", file=folder / "slow.db")
        self.system.on_step = _gate(folder)
        self.systems = (self.system,)
        self.tools = (CountUp(), SayMuch(), Explode(), Wait(folder), SetSlowly(folder, self.system))

    @classmethod
    async def open(cls, services: Services) -> Self:
        folder = services.data / cls.name
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    async def close(self) -> None:
        self.system.close()
