"""What is asked of a target system: the promises of `TargetSystem`, one check each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import pytest
import pytest_asyncio

from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.conformance.driver import again
from takeback.tools.conformance.faults import MOST_LINES, Died, LineFault, codes_of
from takeback.tools.conformance.world import World, forgot
from takeback.tools.system import Clash, Drifted, Merged, Refused, Swapped, TargetSystem


@pytest.mark.asyncio
class SystemConformance:
    """Derive from it and give the fixtures `system`, `world` and `effects`, or `contents` for systems that can `write`."""

    contents: ClassVar[Sequence[tuple[str, bytes]]] = ()
    """Objects and what is to be put there: the changes that the kit makes. Some there already, some not."""
    foreign: ClassVar[bytes] = b'{"somebody else": "was here"}'
    """What somebody else puts there; content that does not merge with `contents`."""

    @pytest.fixture
    def system(self) -> TargetSystem:
        """The system, with something in it."""
        forgot("The kit has not been given a system.", "Add a fixture `system` that returns one.")

    @pytest.fixture
    def world(self) -> World:
        """How to look at what the system holds, without the system."""
        forgot("The kit cannot look at the world.", "Add a fixture `world` that returns World(snapshot=…).")

    @pytest.fixture
    def changes(self) -> Sequence[tuple[str, bytes]]:
        """`contents`, where names are only known when the test runs. Empty if the changes are not given as contents."""
        return self.contents

    @pytest.fixture
    def missing(self) -> str:
        """The name of an object that is not there."""
        return "surely-not-there"

    @pytest_asyncio.fixture
    async def effects(self, system: TargetSystem, changes: Sequence[tuple[str, bytes]]) -> Sequence[Effect]:
        """Changes of different objects, ready to be swapped."""
        if not changes:
            forgot(
                "The kit has no changes to make.", 'Add `contents = [("name", b"text"), …]`, or a fixture `effects`.'
            )
        made: list[Effect] = []
        for name, content in changes:
            (present,) = await system.look([name])
            made.append(await system.write(name, content, present))
        return made

    # -- looking -------------------------------------------------------------------------------------------------------

    async def test_looking_changes_nothing(self, system: TargetSystem, world: World, effects: Sequence[Effect]) -> None:
        """`look` answers in order, twice the same, and leaves everything as it is."""
        before = await world.look()
        names = [effect.object for effect in effects]
        once = await system.look(names, [effect.before for effect in effects])
        twice = await system.look(list(reversed(names)))
        if [state.digest for state in once] != [state.digest for state in reversed(twice)]:
            forgot(
                "`look` does not give the same states in the order asked for.", "Answer one state per name, in order."
            )
        for effect, state in zip(effects, once, strict=True):
            if not state.same(effect.before):
                forgot(
                    f"`look` sees {effect.object!r} otherwise than the prepared effect.",
                    "Measure both in the same way.",
                )
        if await world.look() != before:
            forgot("`look` changes something.", "It only reads.")

    async def test_what_is_not_there_is_a_state_too(self, system: TargetSystem, missing: str) -> None:
        """An absent object is looked at like any other."""
        (state,) = await system.look([missing])
        if state != ABSENT:
            forgot(
                f"`look` answers {state!r} for an object that is not there.", "Answer takeback.journal.states.ABSENT."
            )

    async def test_describing_changes_nothing(
        self, system: TargetSystem, world: World, effects: Sequence[Effect]
    ) -> None:
        """Each effect, and its reverse once it is made, has a title of one line."""
        before = await world.look()
        for effect in effects:
            preview = await system.describe(effect)
            if not preview.title.strip() or "\n" in preview.title:
                forgot(
                    f"The effect on {effect.object!r} is described by {preview.title!r}.",
                    "Say in one line what it does.",
                )
        assert await world.look() == before

    async def test_ancestors_are_above(self, system: TargetSystem, effects: Sequence[Effect]) -> None:
        """Nearest first, without the object itself, and the same for all that live there."""
        for effect in effects:
            above = list(system.ancestors(effect.object))
            if effect.object in above or len(set(above)) != len(above):
                forgot(
                    f"{effect.object!r} is said to live in {above}.", "Name what it lives in, nearest first, each once."
                )
            for place, name in enumerate(above):
                if list(system.ancestors(name)) != above[place + 1 :]:
                    forgot(f"{name!r} does not live where {effect.object!r} in it lives.", "Ancestors are a chain.")

    # -- swapping ------------------------------------------------------------------------------------------------------

    async def test_swap_makes_all_true_and_back(
        self, system: TargetSystem, world: World, effects: Sequence[Effect]
    ) -> None:
        """There, back, there and back again: each time exactly."""
        before = await world.look()
        there = await self.swapped(system, effects)
        acted = await world.look()
        now = await system.look([effect.object for effect in effects], [effect.after for effect in effects])
        if not all(state.same(effect.after) for state, effect in zip(now, effects, strict=True)):
            forgot(
                "After a swap the objects are not as its effects say.", "Put exactly `after` there, and read it back."
            )
        if [(e.object, e.before.digest, e.after.digest) for e in there] != [
            (e.object, e.before.digest, e.after.digest) for e in effects
        ]:
            forgot(
                "`swap` returns other effects than it was given.",
                "Same objects, same digests, only the references are new.",
            )
        back = await self.swapped(system, _back(there))
        if await world.look() != before:
            forgot("Swapped there and back, the world is not as before.", "Keep all of what the swap brings out.")
        again_there = await self.swapped(system, _back(back))
        assert await world.look() == acted, "a redo gives what the act gave"
        await self.swapped(system, _back(again_there))
        assert await world.look() == before, "and can be taken back like it"

    async def test_swap_can_be_repeated(self, system: TargetSystem, world: World, effects: Sequence[Effect]) -> None:
        """After a crash the same swap is tried again: that is success, and nothing is done."""
        await self.swapped(system, effects)
        acted = await world.look()
        answer = await system.swap([again(effect) for effect in effects])
        if not isinstance(answer, Swapped) or not answer.already:
            forgot(
                f"Repeating a swap answers {answer!r}.", "If all objects are as `after` says: Swapped(…, already=True)."
            )
        assert await world.look() == acted

    async def test_swap_is_all_or_nothing(self, system: TargetSystem, world: World, effects: Sequence[Effect]) -> None:
        """One object was changed by somebody else: none is swapped, and all present states are told."""
        await self.meddle(system, effects[-1].object)
        theirs = await world.look()
        answer = await system.swap(effects)
        if not isinstance(answer, Drifted):
            forgot("`swap` overwrites what somebody else changed.", "Compare with `before` while swapping.")
        if await world.look() != theirs:
            forgot("`swap` finds drift and changes some of the objects.", "All of them, or none.")
        now = await system.look([effect.object for effect in effects])
        if [state.digest for state in answer.present] != [state.digest for state in now] or not answer.why.strip():
            forgot(
                "`Drifted` does not tell what is there.", "Give the present state of each effect's object, and say why."
            )

    async def test_of_two_swaps_one_wins(self, system: TargetSystem, effects: Sequence[Effect]) -> None:
        """Two callers expect the same state: exactly one gets its way."""
        (present,) = await system.look([effects[0].object])
        other = await system.write(effects[0].object, self.foreign, present)
        answers = await asyncio.gather(system.swap([effects[0]]), system.swap([other]))
        won = [answer for answer in answers if isinstance(answer, Swapped)]
        if len(won) != 1:
            forgot(
                f"Of two swaps of one object {len(won)} won.",
                "Compare and swap in one step that nobody can get between.",
            )

    async def test_crash_at_any_line_of_swap_can_be_settled(
        self, system: TargetSystem, world: World, effects: Sequence[Effect]
    ) -> None:
        """Dead at each line of `swap` in turn: the objects are as before, or as intended; then the swap is simply repeated."""
        before = await world.look()
        for at in range(1, MOST_LINES):
            fault = LineFault(codes_of(type(system).swap), at, Died())
            try:
                with fault.armed():
                    await system.swap(effects)
            except Died:
                pass
            now = await system.look([effect.object for effect in effects])
            sides = ([effect.before.digest for effect in effects], [effect.after.digest for effect in effects])
            if [state.digest for state in now] not in sides:
                forgot(
                    "After a crash in `swap` the objects are neither as before nor as intended.", "One step for all."
                )
            answer = await system.swap(effects)
            if not isinstance(answer, Swapped):
                forgot("A swap that died cannot be repeated.", "`swap` is safe to repeat after a crash.")
            await self.swapped(system, _back(effects))
            if await world.look() != before:
                forgot(
                    "After a crash in `swap` and its undo the world is not as before.",
                    "Keep what is brought out first.",
                )
            if not fault.fired:
                return

    # -- merging -------------------------------------------------------------------------------------------------------

    async def test_merge_without_drift_is_what_was_wanted(
        self, system: TargetSystem, world: World, effects: Sequence[Effect]
    ) -> None:
        """Nobody else changed anything: the merge is the plain undo."""
        before = await world.look()
        there = await self.swapped(system, effects)
        wanted = _back(there)
        answer = await system.merge(wanted, await system.look([effect.object for effect in wanted]))
        if not isinstance(answer, Merged):
            forgot(f"`merge` sees a conflict where nobody changed anything: {answer.why}", "Then the merge is `after`.")
        await self.swapped(system, answer.effects)
        assert await world.look() == before

    async def test_merge_never_loses_a_foreign_change(
        self, system: TargetSystem, world: World, effects: Sequence[Effect]
    ) -> None:
        """Somebody put something else there: that is a clash, decided without touching anything."""
        there = await self.swapped(system, effects)
        wanted = _back(there)
        await self.meddle(system, wanted[0].object)
        theirs = await world.look()
        answer = await system.merge(wanted, await system.look([effect.object for effect in wanted]))
        if await world.look() != theirs:
            forgot("`merge` changes something.", "It only decides; `swap` acts.")
        if isinstance(answer, Clash):
            assert answer.why.strip()
            return
        goal = next(effect.after for effect in reversed(answer.effects) if effect.object == wanted[0].object)
        content = await system.read(goal)
        if content is None or self.foreign_part not in content:
            forgot(
                "`merge` loses what somebody else put there.", "Remove only our change; where both meet, it is a Clash."
            )

    foreign_part: ClassVar[bytes] = b"somebody else"
    """A part of `foreign` that has to be found in whatever it is merged into."""

    # -- resolving -----------------------------------------------------------------------------------------------------

    async def test_beside_takes_a_free_name(
        self, system: TargetSystem, world: World, effects: Sequence[Effect]
    ) -> None:
        """Putting a version beside an object overwrites nothing."""
        try:
            effect = await system.beside(effects[0])
        except Refused as error:
            assert error.advice
            pytest.skip("the system has no place beside an object")
        wanted = effects[0].after
        alike = effect.after.same(wanted) or (wanted.content is not None and effect.after.content == wanted.content)
        if not effect.before.absent or effect.object == effects[0].object or not alike:
            forgot(f"`beside` gives {effect!r}.", "An effect from ABSENT to the content, under a name that is free.")
        await self.swapped(system, [effect])
        assert (await system.look([effect.object], [effect.after]))[0].same(effect.after)

    async def test_contents_can_be_read_back(
        self, system: TargetSystem, effects: Sequence[Effect], changes: Sequence[tuple[str, bytes]]
    ) -> None:
        """What `write` prepared is what `read` gives, before and after it is swapped."""
        if not changes:
            pytest.skip("the changes are not given as contents")
        for (name, content), effect in zip(changes, effects, strict=True):
            if await system.read(effect.after) != content:
                forgot(f"`read` does not give what is written to {name!r}.", "Read the image that the state refers to.")
        await self.swapped(system, effects)
        now: Sequence[State] = await system.look([effect.object for effect in effects])
        assert [await system.read(state) for state in now] == [content for _, content in changes]

    # -- helpers -------------------------------------------------------------------------------------------------------

    async def swapped(self, system: TargetSystem, effects: Sequence[Effect]) -> tuple[Effect, ...]:
        """Swap, which has to work; the effects as the journal would give them back."""
        answer = await system.swap([again(effect) for effect in effects])
        if not isinstance(answer, Swapped):
            forgot(f"`swap` refuses effects that fit the world: {answer.why}", "Compare digests, nothing else.")
        return tuple(again(effect) for effect in answer.effects)

    async def meddle(self, system: TargetSystem, name: str) -> None:
        """Change an object as somebody else would. To be overridden if the system cannot `write`."""
        (present,) = await system.look([name])
        await self.swapped(system, [await system.write(name, self.foreign, present)])


def _back(effects: Sequence[Effect]) -> list[Effect]:
    return [effect.reversed() for effect in reversed(effects)]
