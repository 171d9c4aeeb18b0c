"""What all checks of a tool share: what its author gives, and the questions that are asked more than once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ClassVar, cast

import pytest

from takeback.tools.conformance.driver import Done, Driver
from takeback.tools.conformance.faults import codes_of, own_codes
from takeback.tools.conformance.world import KitObjects, World, call_context, find_secrets, forgot
from takeback.tools.contract import (
    AnyTool,
    Prepared,
    ReadTool,
    Tool,
    ToolError,
)
from takeback.tools.system import Drifted, TargetError, TargetSystem

Kinds = type | tuple[type, ...]
Check = Callable[[Any, Driver], Awaitable[None]]


def for_kinds(kind: Kinds, but: Kinds = ()) -> Callable[[Check], Check]:
    """Marks a check that says nothing about other kinds of tools.

    Where the suite names its `tool_class` it is not even collected for them; else it is skipped when the tool is seen.
    """

    def mark(check: Check) -> Check:
        @wraps(check)
        async def checked(self: Any, driver: Driver) -> None:
            if not isinstance(driver.tool, kind) or isinstance(driver.tool, but):
                pytest.skip("not for this kind of tool")
            await check(self, driver)

        vars(checked)["kinds"] = (kind, but)
        return checked

    return mark


@pytest.mark.asyncio
class ToolChecks:
    """What a suite says of its tool, and how the kit gets hold of it."""

    tool_class: ClassVar[type[AnyTool] | None] = None
    """The tool's class, if the suite cares to say: then checks that say nothing about its kind are left out."""
    examples: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Arguments of calls that can be carried out, as JSON. Each check is run with each of them."""
    refused: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Arguments that are well-formed and have to be refused in this world: what does not exist, what is not allowed."""
    secrets: ClassVar[Sequence[str]] = ()
    """Strings that the tool knows and must not let out. What is named like a secret is found without it."""
    old_memos: ClassVar[Sequence[tuple[int, Any]]] = ()
    """For tools whose memo has changed: of each earlier `memo_version` a memo as it was written then."""
    exact: ClassVar[bool] = True
    """False if a compensation leaves a trace on purpose (a correction that was sent)."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        tool = cls.tool_class
        if tool is None:
            return
        for name in dir(cls):
            kind, but = getattr(getattr(cls, name), "kinds", (object, ()))
            if not issubclass(tool, kind) or (but and issubclass(tool, but)):
                setattr(cls, name, None)
        if not cls.refused:
            setattr(cls, "test_what_is_impossible_is_refused_with_advice", None)  # noqa: B010 -- declared in a subclass
        if not getattr(tool, "hold", 0):
            setattr(cls, "test_what_waits_is_done_by_another_process", None)  # noqa: B010 -- as above
        if not tool.idempotent:
            setattr(cls, "test_what_is_idempotent_can_be_repeated", None)  # noqa: B010 -- as above

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each check with each example."""
        if self.examples and "arguments" in metafunc.fixturenames:
            metafunc.parametrize(
                "arguments", self.examples, ids=[f"example{n}" for n in range(1, len(self.examples) + 1)]
            )

    @pytest.fixture
    def tool(self) -> AnyTool:
        """The tool, working on a world made for this one test."""
        forgot("The kit has not been given a tool.", "Add a fixture `tool` that returns an instance of it.")

    @pytest.fixture
    def arguments(self) -> Mapping[str, Any]:
        """A call that can be carried out."""
        forgot("The kit has not been given an example.", 'Add `examples = [{"text": "hello"}]` to the class.')

    @pytest.fixture
    def world(self) -> World:
        """How to look at what the tool changes."""
        forgot("The kit cannot look at the world.", "Add a fixture `world` that returns World(snapshot=…).")

    @pytest.fixture
    def systems(self, tool: AnyTool) -> Sequence[TargetSystem]:
        """The target systems that the tool works on; found among its attributes."""
        return [value for value in vars(tool).values() if isinstance(value, TargetSystem)]

    @pytest.fixture
    def objects(self) -> KitObjects:
        """The object store that calls are given."""
        return KitObjects()

    @pytest.fixture
    def driver(
        self,
        tool: AnyTool,
        arguments: Mapping[str, Any],
        world: World,
        systems: Sequence[TargetSystem],
        objects: KitObjects,
    ) -> Driver:
        """Not to be overridden: calls the tool as the server would."""
        return Driver(tool, {system.name: system for system in systems}, objects, world, arguments)

    def check_error(self, driver: Driver, error: ToolError | TargetError) -> None:
        """An error's text is for somebody who has to mend the call."""
        text = str(error).strip()
        if not text or not str(error.advice).strip():
            forgot(
                f"{driver.label} refuses a call with {text!r} and does not say what to do about it.",
                'Raise ToolError("one sentence of fact.", advice="one sentence of what to do.").',
            )
        self.check_secrets(driver, "an error", f"{text} {error.advice}", ours=False)

    def check_secrets(self, driver: Driver, place: str, text: str, *, ours: bool = True) -> None:
        """Nothing secret in this text.

        :param ours: look for secrets among the arguments too (an error may name what its caller sent).
        """
        known = {*self.secrets, *find_secrets(vars(driver.tool)), *(find_secrets(driver.raw) if ours else ())}
        for secret in known:
            if secret in text or json.dumps(secret, ensure_ascii=False)[1:-1] in text:
                forgot(
                    f"{driver.label} lets a secret into {place}.",
                    "Keep it out of what is shown and journaled; fetch it again (keyring, environment) where it is needed.",
                )

    def act_codes(self, driver: Driver, prepared: Prepared) -> Any:
        """The code that may die while acting."""
        if not driver.restores:
            return own_codes(type(driver.tool), Tool)
        systems = {effect.system for effect in prepared.effects}
        return codes_of(type(prepared).commit, *(type(driver.systems[name]).swap for name in systems))

    def undo_codes(self, driver: Driver, done: Done) -> Any:
        """The code that may die while undoing."""
        if not driver.restores:
            return own_codes(type(driver.tool), Tool)
        return codes_of(*(type(driver.systems[effect.system]).swap for effect in done.intended))

    async def is_as_before(self, driver: Driver, before: Any, acted: Any, after: str = "") -> None:
        """The world is as it was before the act (or, where a trace is left on purpose, no longer as the act left it)."""
        now = await driver.world.look()
        if now == before or (not self.exact and not driver.restores and (now != acted or acted == before)):
            return
        forgot(
            f"After {driver.label} was taken back the world is not as before{after}:\n  before: {before!r}\n  now:    {now!r}",
            "Name every changed object as an effect."
            if driver.restores
            else "`compensate` has to find and undo everything that `apply` does, from memo and outcome alone.",
        )

    async def compensated(self, driver: Driver, done: Done) -> Any:
        """Compensate, which has to work."""
        try:
            return await driver.compensate(done.memo, done.outcome)
        except Exception as error:
            forgot(
                f"{driver.label}.compensate fails with nothing but the memo and the outcome ({told(error)}).",
                "Whatever it needs has to stand in the memo: another process may run it, next week.",
            )

    async def undone(self, driver: Driver, done: Done) -> None:
        """Swap back, whether or not that was done already."""
        for answer in await driver.swap_again(done.committed.effects):
            if isinstance(answer, Drifted):
                forgot(f"A swap that died cannot be repeated: {answer.why}", "`swap` is safe to repeat after a crash.")


async def run_read(driver: Driver, raw: Mapping[str, Any]) -> Any:
    """One call of a tool that reads."""
    tool = cast("ReadTool[Any]", driver.tool)
    context = call_context(driver.objects)
    arguments = driver.arguments(raw)
    await tool.targets(arguments, context)
    return await tool.run(arguments, context)


def told(error: BaseException) -> str:
    """An exception in a few words."""
    return f"{type(error).__name__}: {error}"
