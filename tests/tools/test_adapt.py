"""Simple tools seen through the one protocol: what is journaled, what comes back, and that threads are awaited to their end."""

import asyncio
import threading
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from takeback.tools import adapt
from takeback.tools.conformance import KitObjects
from takeback.tools.conformance.world import call_context
from takeback.tools.contract import UNKNOWN, Target, ToolError
from takeback.tools.memory import (
    Announce,
    GetValue,
    MemorySystem,
    NoteArguments,
    NoteMemo,
    NotePosted,
    PostNote,
    SetArguments,
    SetValue,
)

NOTE = NoteArguments(text="hello")


@pytest.fixture
def memory():
    memory = MemorySystem()
    yield memory
    memory.close()


@pytest.fixture
def context():
    return call_context(KitObjects())


async def test_a_compensable_call_says_how_and_why_it_is_taken_back(memory, context):
    tool = PostNote(memory)
    tool.family = "notes"
    prepared = await adapt.prepare(tool, NOTE, context)
    assert memory.notes() == {}
    assert (prepared.reversibility, prepared.how) == ("compensable", "Delete the note again.")
    assert "follow-up act" in prepared.reason
    (effect,) = prepared.effects
    assert (effect.system, effect.object, effect.verb) == ("notes", "post_note", "changed")
    assert isinstance(prepared.memo, dict)
    assert {key: prepared.memo[key] for key in ("tool", "version", "memo_version")} == {
        "tool": "post_note",
        "version": "1",
        "memo_version": 1,
    }
    committed = await prepared.commit()
    assert committed.outcome == prepared.memo["memo"]
    assert await adapt.compensate(tool, prepared.memo, committed.outcome) == "Deleted the note."
    assert await adapt.compensate(tool, prepared.memo, None) == "There was no note any more."


async def test_effects_stand_on_the_targets_that_the_tool_names(memory, context):
    class Named(PostNote):
        async def targets(self, arguments, context):
            return [Target("board", "first"), Target("board", "second")]

    prepared = await adapt.prepare(Named(memory), NOTE, context)
    assert [(effect.system, effect.object) for effect in prepared.effects] == [("board", "first"), ("board", "second")]


async def test_an_irreversible_call_gives_the_tools_reason(memory, context):
    prepared = await adapt.prepare(Announce(memory), NOTE, context)
    assert (prepared.reversibility, prepared.reason) == ("irreversible", "Everybody hears an announcement at once.")
    with pytest.raises(TypeError):
        await adapt.compensate(Announce(memory), prepared.memo, None)


async def test_reversible_tools_prepare_themselves_and_tools_that_read_do_not(memory, context):
    prepared = await adapt.prepare(SetValue(memory), SetArguments(key="x", value="y"), context)
    assert prepared.effects[0].verb == "created"
    with pytest.raises(TypeError, match="changes nothing"):
        await adapt.prepare(GetValue(memory), NOTE, context)


async def test_it_is_found_out_whether_an_act_took_effect(memory, context):
    tool = PostNote(memory)
    prepared = await adapt.prepare(tool, NOTE, context)
    assert await adapt.happened(tool, prepared.memo) is False
    committed = await prepared.commit()
    found = await adapt.happened(tool, prepared.memo)
    assert isinstance(found, NotePosted)
    assert adapt.dump_outcome(tool, found) == committed.outcome
    assert await adapt.happened(Announce(memory), {**prepared.memo, "tool": "announce"}) is UNKNOWN


async def test_an_answer_can_be_a_part_of_the_outcome(memory, context):
    class Answer(BaseModel):
        note_id: str

    class Outcome(Answer):
        internal: str = "not for the caller"

    class Narrow(PostNote):
        outcome, result = Outcome, Answer

        async def apply(self, arguments, memo):
            return Outcome(note_id=memo.note_id)

    committed = await (await adapt.prepare(Narrow(memory), NOTE, context)).commit()
    assert type(committed.result) is Answer
    assert committed.outcome["internal"] == "not for the caller"


async def test_old_memos_are_migrated_and_newer_ones_refused(memory):
    class Newer(PostNote):
        memo_version = 2

        @classmethod
        def migrate(cls, memo: Any, version: int) -> Any:
            return {"note_id": memo["id"]}

    def memo(version: int, value: Any, tool: str = "post_note") -> Any:
        return {"tool": tool, "version": "1", "memo_version": version, "memo": value}

    assert adapt.load_memo(Newer(memory), memo(1, {"id": "x"})) == NoteMemo(note_id="x")
    assert adapt.load_memo(Newer(memory), memo(2, {"note_id": "x"})) == NoteMemo(note_id="x")
    for value, fact in (
        (memo(3, {"note_id": "x"}), "newer"),
        (memo(1, {}), "KeyError"),
        (memo(2, {}), "ValidationError"),
        (memo(2, {"note_id": "x"}, "other"), "written by other"),
        (None, "is not one"),
    ):
        with pytest.raises(adapt.MemoError, match=fact) as refused:
            adapt.load_memo(Newer(memory), value)
        assert refused.value.advice
    assert adapt.load_outcome(Newer(memory), None) is UNKNOWN
    with pytest.raises(adapt.MemoError, match="cannot read the outcome"):
        adapt.load_outcome(Newer(memory), {"other": 1})


async def test_a_memo_that_cannot_be_journaled_stops_the_call_before_it_acts(memory, context):
    class Anything(BaseModel):
        value: Any

    for bad in (lambda: None, ("a", "tuple"), float("nan"), {1: "a"}):

        class Broken(PostNote):
            memo = Anything
            value = staticmethod(lambda bad=bad: bad)

            async def capture(self, arguments, context):
                return Anything(value=self.value())

        with pytest.raises(ToolError) as refused:
            await adapt.prepare(Broken(memory), NOTE, context)
        assert refused.value.code == "broken_tool"
    assert memory.notes() == {}


async def test_a_compensation_that_says_nothing_is_still_told_in_words(memory, context):
    class Silent(PostNote):
        async def compensate(self, memo, outcome):
            self.system.unpin(memo.note_id)

    prepared = await adapt.prepare(Silent(memory), NOTE, context)
    await prepared.commit()
    assert await adapt.compensate(Silent(memory), prepared.memo, None) == "Post a note: made up for."


class InThreads(PostNote):
    """Plain functions, which take their time."""

    def __init__(self, system):
        super().__init__(system)
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.threads: list[str] = []

    def capture(self, arguments, context):
        self.threads.append(threading.current_thread().name)
        return NoteMemo(note_id="n")

    def apply(self, arguments, memo):
        self.reached.set()
        assert self.go_on.wait(10)
        self.system.pin(memo.note_id, "note", arguments.text)
        return NotePosted(note_id=memo.note_id)

    def compensate(self, memo, outcome):
        self.system.unpin(memo.note_id)
        return "Deleted the note."


async def reached(tool: InThreads) -> None:
    await asyncio.to_thread(tool.reached.wait, 10)


async def test_plain_functions_run_in_threads(memory, context):
    tool = InThreads(memory)
    tool.go_on.set()
    prepared = await adapt.prepare(tool, NOTE, context)
    committed = await prepared.commit()
    assert tool.threads != [threading.current_thread().name]
    assert await adapt.compensate(tool, prepared.memo, committed.outcome) == "Deleted the note."


async def test_a_cancelled_act_in_a_thread_is_awaited_to_its_true_end(memory, context):
    tool = InThreads(memory)
    prepared = await adapt.prepare(tool, NOTE, context)
    act = asyncio.create_task(prepared.commit())
    await reached(tool)
    act.cancel()
    await asyncio.sleep(0)
    assert not act.done()
    act.cancel()
    tool.go_on.set()
    committed = await act
    assert committed.outcome == {"note_id": "n"}
    assert memory.notes() == {"n": "hello"}


async def test_a_cancelled_scope_waits_for_the_thread_too(memory, context):
    tool = InThreads(memory)
    prepared = await adapt.prepare(tool, NOTE, context)
    seen = []
    with anyio.CancelScope() as scope:

        async def act() -> None:
            seen.append(await prepared.commit())

        async with anyio.create_task_group() as group:
            group.start_soon(act)
            await reached(tool)
            scope.cancel()
            asyncio.get_running_loop().call_later(0.01, tool.go_on.set)
    assert len(seen) == 1
    assert memory.notes() == {"n": "hello"}


async def test_a_cancelled_capture_is_cancelled_once_its_thread_is_done(memory, context):
    class Slow(InThreads):
        def capture(self, arguments, context):
            self.reached.set()
            assert self.go_on.wait(10)
            return NoteMemo(note_id="n")

    tool = Slow(memory)
    call = asyncio.create_task(adapt.prepare(tool, NOTE, context))
    await reached(tool)
    call.cancel()
    tool.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_what_a_thread_raises_is_raised(memory, context):
    class Failing(InThreads):
        def apply(self, arguments, memo):
            raise ToolError("No room on the board.", advice="Try tomorrow.")

    prepared = await adapt.prepare(Failing(memory), NOTE, context)
    with pytest.raises(ToolError, match="No room"):
        await prepared.commit()
