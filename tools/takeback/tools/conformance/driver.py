"""One call of a tool, there and back, as the engine does it: everything that passes from act to undo goes through JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, JsonValue, ValidationError

from takeback.journal.states import Effect
from takeback.tools.adapt import MemoPrepared, dump_outcome, load_memo, prepare
from takeback.tools.conformance.faults import run_verb
from takeback.tools.conformance.world import KitObjects, World, call_context, forgot
from takeback.tools.contract import (
    UNKNOWN,
    AnyTool,
    Arguments,
    Committed,
    CompensableTool,
    MemoTool,
    Prepared,
    ToolError,
    Unknown,
)
from takeback.tools.system import Drifted, Swapped, TargetError, TargetSystem

AnyMemoTool = MemoTool[Any, Any, Any]


@dataclass(frozen=True)
class Done:
    """A call that was carried out; what the journal would know of it."""

    intended: tuple[Effect, ...]
    committed: Committed
    memo: JsonValue
    outcome: JsonValue


class Driver:
    """Calls one tool in one world."""

    def __init__(
        self,
        tool: AnyTool,
        systems: Mapping[str, TargetSystem],
        objects: KitObjects,
        world: World,
        raw: Mapping[str, Any],
    ) -> None:
        self.tool, self.systems, self.objects, self.world, self.raw = tool, systems, objects, world, raw
        self._fresh = fresh_copy(tool)

    @property
    def label(self) -> str:
        """The tool's class, for messages."""
        return type(self.tool).__name__

    @property
    def restores(self) -> bool:
        """Whether it is taken back by its target system."""
        return not isinstance(self.tool, MemoTool)

    @property
    def later(self) -> AnyTool:
        """The tool as another process would have it next week: made anew, remembering nothing of the call."""
        return fresh_copy(self._fresh)

    def arguments(self, raw: Mapping[str, Any] | None = None) -> Arguments:
        """Validated as the server does it.

        :raises ValidationError: refused.
        """
        return self.tool.arguments.model_validate_json(json.dumps(self.raw if raw is None else raw))

    def example(self) -> Arguments:
        """The arguments of the example call, which have to be valid."""
        try:
            return self.arguments()
        except ValidationError as error:
            forgot(
                f"The example {self.raw!r} is not valid for {self.label}: {error}.",
                "Give an example that can be carried out.",
            )

    async def prepare(self, raw: Mapping[str, Any] | None = None) -> Prepared:
        """Prepare the example, or other arguments.

        :raises ToolError, TargetError, ValidationError: refused.
        """
        arguments = self.arguments(raw)
        context = call_context(self.objects)
        await self.tool.targets(arguments, context)
        return await prepare(self.tool, arguments, context)

    async def prepared(self) -> Prepared:
        """Prepare the example, which has to work."""
        self.example()
        try:
            prepared = await self.prepare()
        except (ToolError, TargetError) as error:
            if getattr(error, "code", "") == "broken_tool":
                forgot(
                    f"The memo of {self.label} does not survive JSON: {error}",
                    "Keep plain values in it, which compare equal after being written and read: no functions, clients, files.",
                )
            forgot(
                f"The example {self.raw!r} was refused: {error}",
                "Give an example that can be carried out in the fixture's world.",
            )
        for effect in prepared.effects:
            if self.restores and effect.system not in self.systems:
                forgot(
                    f"{self.label} has an effect on the system {effect.system!r}, which the kit has not been given.",
                    "Add a fixture `systems` that returns a list with the target system that the tool works on.",
                )
        return prepared

    async def commit(self, prepared: Prepared) -> Done:
        """Write down the intent, then commit."""
        intended, memo = prepared.effects, journaled(prepared.memo)
        self.objects.keep(prepared.blobs)
        committed = await prepared.commit()
        return Done(intended, committed, memo, journaled(committed.outcome))

    async def act(self) -> Done:
        """The whole call."""
        prepared = await self.prepared()
        async with prepared:
            return await self.commit(prepared)

    async def undo(self, done: Done) -> None:
        """Take the call back as the engine would, with everything known."""
        if self.restores:
            await self.swap_back(done.committed.effects)
        else:
            await self.compensate(done.memo, done.outcome)

    async def swap_back(self, effects: Sequence[Effect]) -> tuple[Effect, ...]:
        """Put the effects back, each system at once; the effects that did it."""
        undone: list[Effect] = []
        for system in dict.fromkeys(effect.system for effect in effects):
            back = [again(effect).reversed() for effect in reversed(effects) if effect.system == system]
            answer = await self.systems[system].swap(back)
            if isinstance(answer, Drifted):
                forgot(
                    f"The effects that {self.label} reports cannot be swapped back: {answer.why}",
                    "Let `commit` return the effects as the world shows them afterwards (SwapPrepared does).",
                )
            undone.extend(answer.effects)
        return tuple(undone)

    async def swap_again(self, effects: Sequence[Effect]) -> list[Swapped | Drifted]:
        """The same swap back once more."""
        answers: list[Swapped | Drifted] = []
        for system in dict.fromkeys(effect.system for effect in effects):
            back = [again(effect).reversed() for effect in reversed(effects) if effect.system == system]
            answers.append(await self.systems[system].swap(back))
        return answers

    async def compensate(self, memo: JsonValue, outcome: JsonValue, tool: AnyTool | None = None) -> Any:
        """Compensate with nothing but what was journaled; what the tool says."""
        later = cast("CompensableTool[Any, Any, Any]", tool or self.later)
        value = load_memo(later, memo)
        known: BaseModel | Unknown = (
            UNKNOWN if outcome is None else later.outcome.model_validate_json(json.dumps(outcome))
        )
        return await run_verb(later.compensate, value, known)

    async def apply(self, prepared: Prepared) -> JsonValue:
        """The act alone, in this thread."""
        tool = cast("MemoPrepared", prepared).tool
        outcome = await run_verb(tool.apply, cast("MemoPrepared", prepared).arguments, load_memo(tool, prepared.memo))
        return dump_outcome(tool, outcome)

    async def happened(self, memo: JsonValue) -> Any:
        """What the tool says of an act that nobody knows the end of."""
        later = cast("AnyMemoTool", self.later)
        return await run_verb(later.happened, load_memo(later, memo))


def journaled(value: JsonValue) -> JsonValue:
    """A value as it comes out of the journal."""
    return cast("JsonValue", json.loads(json.dumps(value)))


def again(effect: Effect) -> Effect:
    """An effect as it comes out of the journal."""
    return Effect.model_validate_json(effect.model_dump_json())


def fresh_copy(tool: AnyTool) -> AnyTool:
    """The same tool on the same outside world, with a memory of its own."""
    twin = copy.copy(tool)
    for name, value in vars(tool).items():
        if isinstance(value, dict | list | set):
            setattr(twin, name, copy.copy(cast("Any", value)))
    return twin
