"""What a tool does, and what taking it back does: preview, round trip, repetition, what others changed."""

from __future__ import annotations

import contextlib
from typing import Any, cast

import pytest

from takeback.tools.adapt import apply, load_memo
from takeback.tools.conformance.base import ToolChecks, for_kinds, told
from takeback.tools.conformance.driver import Done, Driver, journaled
from takeback.tools.conformance.faults import run_verb
from takeback.tools.conformance.world import forgot
from takeback.tools.contract import (
    CompensableTool,
    IrreversibleTool,
    Prepared,
    ReadTool,
    Tool,
    ToolError,
)
from takeback.tools.system import Clash, Refused, Swapped

FOREIGN = b'{"somebody else": "was here"}'


class ActChecks(ToolChecks):
    """Nothing fails here."""

    @for_kinds(Tool, but=ReadTool)
    async def test_preparing_changes_nothing(self, driver: Driver) -> None:
        """Prepared, previewed and left: the world is as it was, and nothing is left over."""
        before, remains = await driver.world.look(), await driver.world.remains()
        prepared = await driver.prepared()
        async with prepared:
            await prepared.preview()
            if await driver.world.look() != before:
                forgot(
                    f"{driver.label} changes the world before it is told to commit.",
                    "Everything before `commit` (or in `capture`) only looks; move the change into `commit` or `apply`.",
                )
        await prepared.discard()
        if await driver.world.look() != before:
            forgot(
                f"Discarding a prepared {driver.label} changes the world.",
                "`discard` removes what was staged, no more.",
            )
        if await driver.world.remains() != remains:
            forgot(
                f"A discarded preparation of {driver.label} leaves something behind.",
                "Remove in `discard` what `prepare` staged (SwapPrepared takes a function for it).",
            )

    @for_kinds(Tool, but=ReadTool)
    async def test_preview_is_what_happens(self, driver: Driver) -> None:
        """What a person was shown is what the world then looks like, and the reversibility is said with its reason."""
        prepared = await driver.prepared()
        async with prepared:
            if prepared.reversibility != "reversible" and not prepared.reason.strip():
                forgot(
                    f"{driver.label} does not say why it is {prepared.reversibility}.",
                    "Give a reason, in the user's words.",
                )
            if not prepared.effects:
                forgot(f"{driver.label} prepares no effects.", "Name each object that is changed, before and after.")
            shown = await prepared.preview()
            if not shown or not all(preview.title.strip() and "\n" not in preview.title for preview in shown):
                forgot(f"{driver.label} shows no preview.", "Return at least one Preview with a title of one line.")
            if driver.restores:
                await self.shown_and_true(driver, prepared)
            before = await driver.world.look()
            done = await driver.commit(prepared)
        self.check_answer(driver, done)
        if driver.restores:
            await self.as_intended(driver, done, changed=await driver.world.look() != before)

    async def shown_and_true(self, driver: Driver, prepared: Prepared) -> None:
        """Each effect starts from what is there, and is shown."""
        shown = await prepared.preview()
        words = "\n".join(f"{preview.title}\n{preview.diff}" for preview in shown)
        seen: set[str] = set()
        for effect in prepared.effects:
            system = driver.systems[effect.system]
            (now,) = await system.look([effect.object], [effect.before])
            if effect.object not in seen and not now.same(effect.before):
                forgot(
                    f"{driver.label} says of {effect.object!r} what it was like before, and it is not like that.",
                    "Take `before` from what is there when the call is prepared.",
                )
            seen.add(effect.object)
            named = effect.object in words or effect.object.rstrip("/").rsplit("/", 1)[-1] in words
            if effect.verb != "unchanged" and not named and await system.describe(effect) not in shown:
                forgot(
                    f"The preview of {driver.label} does not show that it changes {effect.object!r}.",
                    "Leave `preview` to SwapPrepared, or describe each effect in it.",
                )

    async def as_intended(self, driver: Driver, done: Done, *, changed: bool) -> None:
        """The intended effects are those of the world."""
        last = {(effect.system, effect.object): effect.after for effect in done.intended}
        for (system, name), after in last.items():
            (now,) = await driver.systems[system].look([name], [after])
            if not now.same(after):
                forgot(
                    f"{driver.label} said that {name!r} would become something else than it did.",
                    "Make the effect's `after` from the very content that is committed.",
                )
        observed = {(effect.system, effect.object): effect.after for effect in done.committed.effects}
        if {key: state.digest for key, state in observed.items()} != {key: state.digest for key, state in last.items()}:
            forgot(
                f"{driver.label} reports other effects than it intended.",
                "Return from `commit` the effects as the swap gave them back.",
            )
        if changed and all(effect.verb == "unchanged" for effect in done.intended):
            forgot(
                f"{driver.label} says that nothing changes, and changes something.", "Name each object that is changed."
            )
        if not driver.tool.destructive and any(effect.verb == "deleted" for effect in done.intended):
            forgot(
                f"{driver.label} deletes and says that it is not destructive.",
                "Leave `destructive` as it is by default.",
            )

    def check_answer(self, driver: Driver, done: Done) -> None:
        """The answer has the promised type, and is said in words."""
        committed, result = done.committed, driver.tool.result
        if not isinstance(committed.result, result):
            forgot(
                f"{driver.label} answers {type(committed.result).__name__}.",
                f"Answer a {result.__name__}, as `result` says.",
            )
        if not committed.summary.strip() or "\n" in committed.summary.strip():
            forgot(
                f"{driver.label} does not say in one sentence what it did.", "Return one plain sentence as the summary."
            )

    @for_kinds(Tool, but=(ReadTool, IrreversibleTool))
    async def test_round_trip_is_exact(self, driver: Driver) -> None:
        """Done, taken back from what the journal knows: the world is as it was. Redone and taken back once more: again."""
        before = await driver.world.look()
        done = await driver.act()
        acted = await driver.world.look()
        if driver.restores:
            for effect in done.committed.effects:
                for name in effect.before.objects:
                    if not await driver.objects.has(name):
                        forgot(
                            f"{driver.label} refers to a stored image of {effect.object!r} that was never stored.",
                            "Hand small images over as `blobs` of the preparation, `put` large ones while preparing.",
                        )
            undone = await driver.swap_back(done.committed.effects)
            await self.is_as_before(driver, before, acted)
            redone = await driver.swap_back(undone)
            if await driver.world.look() != acted:
                forgot(
                    f"Redoing {driver.label} gives another world than doing it.",
                    "`swap` has to keep what it brings out.",
                )
            await driver.swap_back(redone)
            await self.is_as_before(driver, before, acted)
            return
        told = await self.compensated(driver, done)
        await self.is_as_before(driver, before, acted)
        if not isinstance(told, str) or not told.strip() or "\n" in told.strip():
            forgot(
                f"{driver.label}.compensate does not say what it did.",
                'Return one sentence, such as "Deleted the note."; what could not be done is raised, not returned.',
            )

    @for_kinds(CompensableTool)
    async def test_what_waits_is_done_by_another_process(self, driver: Driver) -> None:
        """A tool that declares `hold`: the act is done later, by somebody who has only what was written down of the call."""
        if not cast("CompensableTool[Any, Any, Any]", driver.tool).hold:
            pytest.skip("the tool does not let its acts wait")
        before = await driver.world.look()
        prepared = await driver.prepared()
        if await driver.world.look() != before:
            forgot(f"{driver.label} changes the world before its time.", "Let `capture` only look; act in `apply`.")
        later = driver.later
        advice = "Take all that `apply` needs from its arguments and the memo: another process calls it."
        try:
            arguments = later.arguments.model_validate_json(driver.example().model_dump_json())
            outcome, told = await apply(later, arguments, load_memo(later, journaled(prepared.memo)))
        except Exception as error:
            forgot(f"{driver.label} cannot do later what was held ({type(error).__name__}: {error}).", advice)
        acted = await driver.world.look()
        if acted == before:
            forgot(f"{driver.label}, done later, changes nothing.", advice)
        if not told.strip() or "\n" in told.strip():
            forgot(f"{driver.label} does not say in one sentence what it did.", "Let `summary` return one sentence.")
        await driver.compensate(journaled(prepared.memo), journaled(outcome))
        await self.is_as_before(driver, before, acted)

    @for_kinds(Tool, but=(ReadTool, IrreversibleTool))
    async def test_undo_twice_is_undo_once(self, driver: Driver) -> None:
        """After a crash nobody knows whether the undo was done: doing it again changes nothing."""
        done = await driver.act()
        await driver.undo(done)
        once = await driver.world.look()
        advice = "Look first: what is gone already counts as done, and nothing else is touched."
        if driver.restores:
            answers = await driver.swap_again(done.committed.effects)
            if not all(isinstance(answer, Swapped) for answer in answers):
                forgot(
                    f"Undoing {driver.label} a second time is refused.", "`swap` answers `already` if all is as wanted."
                )
        else:
            try:
                await driver.compensate(done.memo, done.outcome)
            except Exception as error:
                forgot(f"{driver.label}.compensate fails when called again ({told(error)}).", advice)
        if await driver.world.look() != once:
            forgot(f"Undoing {driver.label} a second time changes something again.", advice)

    @for_kinds(Tool, but=ReadTool)
    async def test_what_is_idempotent_can_be_repeated(self, driver: Driver) -> None:
        """A tool that says it is idempotent: twice is as once."""
        if not driver.tool.idempotent:
            pytest.skip("the tool does not say that it is idempotent")
        await driver.act()
        once = await driver.world.look()
        with contextlib.suppress(ToolError):  # there may be nothing left to do
            await driver.act()
        if await driver.world.look() != once:
            forgot(
                f"{driver.label} says that it is idempotent, and acts anew when repeated.", "Leave `idempotent` out."
            )

    @for_kinds(Tool, but=(ReadTool, IrreversibleTool))
    async def test_what_others_changed_is_kept(self, driver: Driver) -> None:
        """Somebody changed the same thing after the call: taking the call back does not destroy their change."""
        if driver.world.foreign_edit is None and not driver.restores:
            pytest.skip("the world has no `foreign_edit`")
        done = await driver.act()
        survives = await (
            self.foreign_write(driver, done) if driver.world.foreign_edit is None else driver.world.edit()
        )
        theirs = await driver.world.look()
        if driver.restores:
            await self.keep_drift(driver, done, theirs)
        else:
            try:
                await driver.compensate(done.memo, done.outcome)
            except Exception:
                if await driver.world.look() != theirs:
                    forgot(
                        f"{driver.label}.compensate fails half-way.", "Look first; raise before anything is touched."
                    )
        if survives is not None and not await run_verb(survives):
            forgot(
                f"Taking {driver.label} back destroys what somebody else changed meanwhile.",
                "Compare with the memo or outcome before touching anything; raise if it is not as the call left it.",
            )

    async def foreign_write(self, driver: Driver, done: Done) -> None:
        """Let somebody else write to the first object that the system can write as bytes."""
        for effect in done.committed.effects:
            system = driver.systems[effect.system]
            (now,) = await system.look([effect.object], [effect.after])
            try:
                answer = await system.swap([await system.write(effect.object, FOREIGN, now)])
            except Refused:
                continue
            assert isinstance(answer, Swapped)
            return
        pytest.skip("the world has no `foreign_edit`, and the system's objects cannot be written as bytes")

    async def keep_drift(self, driver: Driver, done: Done, theirs: Any) -> None:
        """Swap refuses; merge, if it can, removes only our change."""
        for system in {effect.system for effect in done.committed.effects}:
            back = [effect.reversed() for effect in reversed(done.committed.effects) if effect.system == system]
            port = driver.systems[system]
            answer = await port.swap(back)
            if isinstance(answer, Swapped):
                continue
            if await driver.world.look() != theirs:
                forgot(
                    f"The system {system!r} refuses a swap and changes something.", "All effects of a swap, or none."
                )
            merged = await port.merge(back, answer.present)
            if await driver.world.look() != theirs:
                forgot(
                    f"The system {system!r} changes something while it merges.", "`merge` only decides; `swap` acts."
                )
            if not isinstance(merged, Clash):
                driver.objects.keep(dict(merged.blobs))
                assert isinstance(await port.swap(merged.effects), Swapped)
