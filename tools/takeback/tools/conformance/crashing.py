"""What a tool does when it dies or fails on the way there or back."""

from __future__ import annotations

from typing import Any, cast

import pytest

from takeback.journal.states import Effect
from takeback.tools.conformance.base import ToolChecks, for_kinds, told
from takeback.tools.conformance.driver import Driver, journaled
from takeback.tools.conformance.faults import MOST_LINES, Broke, Died, LineFault
from takeback.tools.conformance.world import forgot
from takeback.tools.contract import (
    CompensableTool,
    IrreversibleTool,
    Prepared,
    ReadTool,
    Tool,
    ToolError,
    Unknown,
)
from takeback.tools.system import Swapped


class CrashChecks(ToolChecks):
    """After each of these the world is as if nothing had been done, or it is said."""

    @for_kinds(Tool, but=ReadTool)
    async def test_crash_before_the_act_can_be_settled(self, driver: Driver) -> None:
        """The process died after the intent and before the act: that is found out, and nothing is made up for."""
        before = await driver.world.look()
        prepared = await driver.prepared()
        driver.objects.keep(prepared.blobs)
        await self.settled(driver, prepared, before, acted=False)

    @for_kinds(Tool, but=ReadTool)
    async def test_crash_after_the_act_can_be_settled(self, driver: Driver) -> None:
        """The process died after the act and before its outcome was recorded: that is found out, and can be taken back."""
        before = await driver.world.look()
        prepared = await driver.prepared()
        await driver.commit(prepared)
        await self.settled(driver, prepared, before, acted=await driver.world.look() != before)

    @for_kinds(Tool, but=(ReadTool, IrreversibleTool))
    async def test_crash_at_any_line_of_the_act_can_be_settled(self, driver: Driver) -> None:
        """Dead at each line of `apply` (or `commit` and the system's `swap`) in turn, settled, taken back."""
        for at in range(1, MOST_LINES):
            before = await driver.world.look()
            prepared = await driver.prepared()
            fault = LineFault(self.act_codes(driver, prepared), at, Died())
            try:
                with fault.armed():
                    await (driver.commit(prepared) if driver.restores else driver.apply(prepared))
            except Died:
                pass
            await self.settled(driver, prepared, before, acted=None)
            if not fault.fired:
                return

    @for_kinds(Tool, but=(ReadTool, IrreversibleTool))
    async def test_crash_at_any_line_of_the_undo_can_be_repaired(self, driver: Driver) -> None:
        """Dead at each line of the undo in turn, and the undo simply done again."""
        for at in range(1, MOST_LINES):
            before = await driver.world.look()
            done = await driver.act()
            acted = await driver.world.look()
            fault = LineFault(self.undo_codes(driver, done), at, Died())
            try:
                with fault.armed():
                    await driver.undo(done)
            except Died:
                pass
            await (self.undone(driver, done) if driver.restores else self.compensated(driver, done))
            await self.is_as_before(driver, before, acted, f" (after a crash at step {at} of the first try)")
            if not fault.fired or not self.exact:
                return

    @for_kinds(CompensableTool)
    async def test_failures_are_told(self, driver: Driver) -> None:
        """A broken connection at each line of `apply` and `compensate`: raised, or mended; never called a success."""
        if not self.exact:
            pytest.skip("the compensation leaves a trace on purpose, so that its success cannot be seen from outside")
        await self.failed_acts_are_told(driver)
        for at in range(1, MOST_LINES):
            before = await driver.world.look()
            done = await driver.act()
            acted = await driver.world.look()
            fault = LineFault(self.undo_codes(driver, done), at, Broke("the connection broke"))
            told = False
            try:
                with fault.armed():
                    await driver.compensate(done.memo, done.outcome)
            except Exception:
                told = True
            if not told and acted != before and await driver.world.look() != before:
                forgot(
                    f"{driver.label}.compensate swallows an error: it failed, and says that it worked.",
                    "Take out the `except` around the act (or raise again): it is retried, then left open for a person.",
                )
            await self.compensated(driver, done)
            if not fault.fired:
                return

    async def failed_acts_are_told(self, driver: Driver) -> None:
        """The same for `apply`: a ToolError proves that nothing happened, an outcome that it did."""
        for at in range(1, MOST_LINES):
            before = await driver.world.look()
            prepared = await driver.prepared()
            memo = journaled(prepared.memo)
            fault = LineFault(self.act_codes(driver, prepared), at, Broke("the connection broke"))
            error: Exception | None = None
            try:
                with fault.armed():
                    await driver.apply(prepared)
            except Exception as raised:
                error = raised
            changed = await driver.world.look() != before
            if isinstance(error, ToolError) and changed:
                forgot(
                    f"{driver.label}.apply raises a ToolError after it has acted.",
                    "A ToolError proves that nothing happened; let every other error through, and it is looked into.",
                )
            await driver.compensate(memo, None)
            if error is None and not changed and fault.fired and await self.normally_changes(driver):
                forgot(
                    f"{driver.label}.apply swallows an error: it failed, and says that it worked.",
                    "Take out the `except` around the act, or raise again.",
                )
            if not fault.fired:
                return

    async def normally_changes(self, driver: Driver) -> bool:
        """Whether the call changes anything that the snapshot shows."""
        before = await driver.world.look()
        done = await driver.act()
        changed: bool = await driver.world.look() != before
        await driver.undo(done)
        return changed

    async def settled(self, driver: Driver, prepared: Prepared, before: Any, *, acted: bool | None) -> None:
        """Find out from the world alone whether the act took effect, and take it back if so.

        :param acted: what is true; `None` where that is not known.
        """
        if driver.restores:
            await self.settled_by_looking(driver, prepared, acted)
            await prepared.discard()
        else:
            await self.settled_by_asking(driver, prepared, acted)
            if not isinstance(driver.tool, CompensableTool):
                return
        now = await driver.world.look()
        if now != before and (self.exact or driver.restores):
            forgot(
                f"{driver.label} died {_when(acted)}, and taking it back leaves the world changed:"
                f"\n  before: {before!r}\n  now:    {now!r}",
                "With `UNKNOWN` as outcome, `compensate` looks (by what the memo says) whether there is anything to undo.",
            )

    async def settled_by_looking(self, driver: Driver, prepared: Prepared, acted: bool | None) -> None:
        """All objects are as before, or all as intended."""
        for name in {effect.system for effect in prepared.effects}:
            system = driver.systems[name]
            effects = [effect for effect in prepared.effects if effect.system == name]
            first: dict[str, Effect] = {}
            last: dict[str, Effect] = {}
            for effect in effects:
                first.setdefault(effect.object, effect)
                last[effect.object] = effect
            now = await system.look(list(first), [effect.before for effect in first.values()])
            after = await system.look(list(last), [effect.after for effect in last.values()])
            untouched = all(state.same(effect.before) for state, effect in zip(now, first.values(), strict=True))
            complete = all(state.same(effect.after) for state, effect in zip(after, last.values(), strict=True))
            if not untouched and not complete:
                forgot(
                    f"After a crash the objects of {driver.label} are neither as before nor as intended.",
                    "Let `swap` make all effects visible in one step, or be able to tell and to go on.",
                )
            if acted is not None and complete != acted and not (untouched and complete):
                forgot(
                    f"After a crash {_when(acted)} the objects of {driver.label} say the opposite.",
                    "`look` reads the world.",
                )
            if complete and not untouched:
                answer = await system.swap([effect.reversed() for effect in reversed(effects)])
                assert isinstance(answer, Swapped), answer

    async def settled_by_asking(self, driver: Driver, prepared: Prepared, acted: bool | None) -> None:
        """The tool says whether it happened, truthfully; then it is compensated without knowing."""
        memo = journaled(prepared.memo)
        said: Any = await driver.happened(memo)
        if said is not False and not isinstance(said, Unknown | cast("Any", driver.tool).outcome):
            forgot(
                f"{driver.label}.happened answers {said!r}.",
                "Return the outcome, `False` for a proven no, or `UNKNOWN`.",
            )
        if acted is not None and not isinstance(said, Unknown) and acted != (said is not False):
            forgot(
                f"{driver.label}.happened says {'no' if said is False else 'yes'} of an act that died {_when(acted)}.",
                "Look for the act by something in the memo; return `UNKNOWN` if that cannot be told.",
            )
        if isinstance(driver.tool, CompensableTool):
            try:
                await driver.compensate(memo, None)
            except Exception as error:
                forgot(
                    f"{driver.label}.compensate fails when it is not known whether the act took effect ({told(error)}).",
                    "With `UNKNOWN` as outcome, look first; if there is nothing to undo, say so and return.",
                )


def _when(acted: bool | None) -> str:
    return {True: "after the act", False: "before the act", None: "during the act"}[acted]
