"""Target systems that break a promise, one each, and the check of the kit that tells their author."""

import asyncio
import dataclasses

import pytest

from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.conformance import SystemConformance, World
from takeback.tools.memory import MemorySystem
from takeback.tools.system import Clash, Drifted, Merged, Preview, Swapped


class Kit(SystemConformance):
    contents = [("list", b'{"milk": 3}'), ("new/one", b"hello")]


Kit.__test__ = False


async def told(check: str, system: MemorySystem, *, effects: bool = True) -> str:
    system.edit("list", '{"milk": 1, "bread": 2}')
    kit, world = Kit(), World(system.texts)
    made = []
    for name, content in Kit.contents:
        (present,) = await MemorySystem.look(system, [name])
        made.append(await MemorySystem.write(system, name, content, present))
    arguments = {"system": system, "world": world, "effects": made, "changes": Kit.contents, "missing": "nowhere"}
    wanted = getattr(kit, check).__code__.co_varnames[1 : getattr(kit, check).__code__.co_argcount]
    with pytest.raises((pytest.fail.Exception, AssertionError)) as caught:
        await getattr(kit, check)(**{name: arguments[name] for name in wanted})
    return str(caught.value)


async def test_a_look_in_another_order_is_told():
    class System(MemorySystem):
        async def look(self, objects, like=()):
            return await super().look(sorted(objects), like)

    assert "in the order asked for" in await told("test_looking_changes_nothing", System())


async def test_a_look_that_writes_is_told():
    class System(MemorySystem):
        async def look(self, objects, like=()):
            self.edit("seen", "yes")
            return await super().look(objects, like)

    assert "`look` changes something" in await told("test_looking_changes_nothing", System())


async def test_an_absent_object_of_its_own_making_is_told():
    class System(MemorySystem):
        async def look(self, objects, like=()):
            return [State(digest="nothing", kind="gone") for _ in objects]

    assert "that is not there" in await told("test_what_is_not_there_is_a_state_too", System())


async def test_a_description_without_words_is_told():
    class System(MemorySystem):
        async def describe(self, effect):
            return Preview("")

    assert "Say in one line" in await told("test_describing_changes_nothing", System())


async def test_an_object_that_lives_in_itself_is_told():
    class System(MemorySystem):
        def ancestors(self, object):
            return [object]

    assert "is said to live in" in await told("test_ancestors_are_above", System())


async def test_a_swap_that_loses_what_it_brings_out_is_told():
    class System(MemorySystem):
        async def swap(self, effects):
            answer = await super().swap(effects)
            blank = State(digest="blake3:00", kind="text", ref={"text": ""})
            lost = [effect.model_copy(update={"before": blank}) for effect in effects]
            return Swapped(tuple(lost)) if isinstance(answer, Swapped) else answer

    assert "returns other effects" in await told("test_swap_makes_all_true_and_back", System())


async def test_a_swap_that_does_not_put_everything_there_is_told():
    class System(MemorySystem):
        async def swap(self, effects):
            answer = await super().swap(effects)
            self.edit("new/one", "hell")
            return answer

    assert "not as its effects say" in await told("test_swap_makes_all_true_and_back", System())


async def test_a_swap_that_cannot_be_repeated_is_told():
    class System(MemorySystem):
        async def swap(self, effects):
            answer = await super().swap(effects)
            return dataclasses.replace(answer, already=False) if isinstance(answer, Swapped) else answer

    assert "Repeating a swap" in await told("test_swap_can_be_repeated", System())


async def test_a_swap_of_a_part_is_told():
    class System(MemorySystem):
        async def swap(self, effects):
            answers = [await MemorySystem.swap(self, [effect]) for effect in effects]
            drift = [answer for answer in answers if isinstance(answer, Drifted)]
            present = tuple([(await self.look([effect.object]))[0] for effect in effects])
            return Drifted(present, "drift") if drift else Swapped(tuple(effects))

    assert "changes some of the objects" in await told("test_swap_is_all_or_nothing", System())


async def test_a_swap_that_overwrites_is_told():
    class System(MemorySystem):
        async def swap(self, effects):
            for effect in effects:
                self.edit(effect.object, await self._text(effect.after))
            return Swapped(tuple(effects))

    assert "overwrites what somebody else" in await told("test_swap_is_all_or_nothing", System())


async def test_drift_that_does_not_tell_what_is_there_is_told():
    class System(MemorySystem):
        async def swap(self, effects):
            answer = await super().swap(effects)
            return Drifted((), "drift") if isinstance(answer, Drifted) else answer

    assert "does not tell what is there" in await told("test_swap_is_all_or_nothing", System())


async def test_check_then_write_is_told():
    class System(MemorySystem):
        async def swap(self, effects):
            now = await self.look([effect.object for effect in effects])
            if not all(state.same(effect.before) for state, effect in zip(now, effects, strict=True)):
                return Drifted(tuple(now), "drift")
            await asyncio.sleep(0)
            for effect in effects:
                self.edit(effect.object, await self._text(effect.after))
            return Swapped(tuple(effects))

    assert "2 won" in await told("test_of_two_swaps_one_wins", System())


async def test_a_swap_that_is_torn_by_a_crash_is_told():
    class System(MemorySystem):
        async def swap(self, effects):
            now = await self.look([effect.object for effect in effects])
            for state, effect in zip(now, effects, strict=True):
                if state.same(effect.before):
                    self.edit(effect.object, await self._text(effect.after))
            return Swapped(tuple(effects))

    assert "neither as before" in await told("test_crash_at_any_line_of_swap_can_be_settled", System())


async def test_a_merge_that_sees_conflicts_everywhere_is_told():
    class System(MemorySystem):
        async def merge(self, wanted, present):
            return Clash("no")

    assert "where nobody changed anything" in await told("test_merge_without_drift_is_what_was_wanted", System())


async def test_a_merge_that_acts_is_told():
    class System(MemorySystem):
        async def merge(self, wanted, present):
            self.edit("list", "merged")
            return Clash("no")

    assert "`merge` changes something" in await told("test_merge_never_loses_a_foreign_change", System())


async def test_a_merge_that_forgets_the_others_is_told():
    class System(MemorySystem):
        async def merge(self, wanted, present):
            pairs = zip(wanted, present, strict=True)
            return Merged(tuple(effect.model_copy(update={"before": state}) for effect, state in pairs))

    assert "loses what somebody else" in await told("test_merge_never_loses_a_foreign_change", System())


async def test_a_place_beside_that_is_taken_is_told():
    class System(MemorySystem):
        async def beside(self, effect):
            return Effect(system=self.name, object=effect.object, before=ABSENT, after=effect.after)

    assert "`beside` gives" in await told("test_beside_takes_a_free_name", System())


async def test_contents_that_are_not_those_written_are_told():
    class System(MemorySystem):
        async def read(self, state):
            return b"something"

    assert "does not give what is written" in await told("test_contents_can_be_read_back", System())
