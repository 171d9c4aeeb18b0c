"""The in-memory system: what it merges, what other processes see, and where a test can step in."""

import asyncio
import subprocess
import sys

import pytest

from takeback.journal.states import ABSENT, Effect
from takeback.tools.conformance import KitObjects
from takeback.tools.memory import MemorySystem
from takeback.tools.memory_system import CLASH, INLINE, merge_texts
from takeback.tools.system import Clash, Drifted, Merged, Refused, Swapped, Unavailable


@pytest.mark.parametrize(
    ("base", "wanted", "present", "merged"),
    [
        ('{"a": 1, "b": 1}', '{"a": 2, "b": 1}', '{"a": 1, "b": 5}', '{"a": 2, "b": 5}'),
        ('{"a": 1}', "{}", '{"a": 1, "c": 3}', '{"c": 3}'),
        ('{"a": 1}', None, '{"a": 1, "c": 3}', '{"c": 3}'),
        ('{"a": 1}', None, '{"a": 1}', None),
        ("{}", '{"a": 1}', '{"c": 3}', '{"a": 1, "c": 3}'),
        ('{"a": 1}', '{"a": 2}', '{"a": 2, "c": 3}', '{"a": 2, "c": 3}'),
        ('{"a": 1}', '{"a": 2}', '{"a": 3}', CLASH),
        ('{"a": 1}', "{}", '{"a": true}', CLASH),
        ('{"a": 1}', '{"a": 2}', None, CLASH),
        (None, '{"a": 2}', '{"a": 3}', CLASH),
        ('{"a": 1}', '{"a": 2}', '{"a": 1, "b": 1, "b": 2}', CLASH),
        ("one\ntwo\nthree\nfour\n", "ONE\ntwo\nthree\nfour\n", "one\ntwo\nthree\nFOUR\n", "ONE\ntwo\nthree\nFOUR\n"),
        ("one\n", "two\n", "three\n", CLASH),
        ("one\n", None, "three\n", CLASH),
    ],
)
def test_only_our_change_is_removed(base, wanted, present, merged):
    assert merge_texts(base, wanted, present) == merged


async def test_a_merge_of_several_changes_of_one_object_is_one_chain():
    memory = MemorySystem()
    states = [memory.image(text)[0] for text in ('{"a": 1}', '{"a": 2}', '{"a": 2, "b": 1}')]
    steps = [Effect(system="memory", object="x", before=states[n], after=states[n + 1]) for n in (0, 1)]
    memory.edit("x", '{"a": 2, "b": 1, "theirs": 1}')
    present = await memory.look(["x", "x"])
    merged = await memory.merge([step.reversed() for step in reversed(steps)], present)
    assert isinstance(merged, Merged)
    assert isinstance(await memory.swap(merged.effects), Swapped)
    assert memory.get("x") == '{"a": 1, "theirs": 1}'


def test_another_process_sees_the_same_texts(tmp_path):
    file = tmp_path / "memory.db"
    memory = MemorySystem(file=file)
    memory.edit("x", "ours")
    code = (
        f"from takeback.tools.memory import MemorySystem; m = MemorySystem(file={str(file)!r});"
        "print(m.get('x')); m.edit('x', 'theirs')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "ours"
    assert memory.get("x") == "theirs"
    memory.close()


async def test_a_swap_loses_against_a_change_that_comes_in_between():
    memory = MemorySystem()
    (before,) = await memory.look(["x"])
    effect = await memory.write("x", b"ours", before)
    memory.on_step = lambda step: memory.edit("x", "theirs") if step == "swap" else None
    answer = await memory.swap([effect])
    assert isinstance(answer, Drifted)
    assert memory.get("x") == "theirs"


async def test_a_test_can_fail_a_step_or_wait_in_it():
    memory = MemorySystem()
    effect = await memory.write("x", b"ours", ABSENT)

    def out_of_reach(step: str) -> None:
        raise Unavailable("The system is out of reach.", advice="Try again.")

    memory.on_step = out_of_reach
    with pytest.raises(Unavailable):
        await memory.swap([effect])
    assert memory.texts() == {}
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def wait(step: str) -> None:
        if step == "swapped":
            reached.set()
            await go_on.wait()

    memory.on_step = lambda step: wait(step)
    swap = asyncio.create_task(memory.swap([effect]))
    await reached.wait()
    assert memory.get("x") == "ours"
    assert not swap.done()
    go_on.set()
    assert isinstance(await swap, Swapped)


async def test_long_texts_travel_with_the_intent_and_longer_ones_are_stored_at_once():
    objects = KitObjects()
    memory = MemorySystem(objects=objects)
    short, blobs = await memory.stored("x" * INLINE)
    assert (short.ref, blobs) == ({"text": "x" * INLINE}, {})
    long, blobs = await memory.stored("x" * (INLINE + 1))
    assert list(blobs) == list(long.objects)
    assert objects.kept == {}
    longer, blobs = await memory.stored("x" * 100_000)
    assert blobs == {}
    assert await memory.read(longer) == b"x" * 100_000
    objects.kept.clear()
    with pytest.raises(Refused, match="cannot be read"):
        await memory.read(longer)


async def test_what_a_swap_brings_out_is_kept_until_it_is_collected():
    memory = MemorySystem(objects=KitObjects())
    memory.edit("x", "long " * 1000)
    (before,) = await memory.look(["x"])
    await memory.swap([await memory.write("x", b"short", before)])
    assert await memory.read(before) == b"long " * 1000
    assert await memory.collect([before], older_than_ns=0) == 0
    assert await memory.collect([], older_than_ns=10**18) == 0
    assert await memory.collect([], older_than_ns=-1) == 5000
    with pytest.raises(Refused, match="was not kept"):
        await memory.read(before)


async def test_only_text_can_be_written_and_a_place_beside_is_free():
    memory = MemorySystem()
    with pytest.raises(Refused, match="holds text"):
        await memory.write("x", b"\xff", ABSENT)
    memory.edit("x (earlier)", "taken")
    effect = await memory.beside(await memory.write("x", b"ours", ABSENT))
    assert effect.object == "x (earlier 1)"
    assert memory.ancestors("a/b/c") == ["a/b", "a"]


async def test_a_clash_is_told_with_its_object():
    memory = MemorySystem()
    effect = await memory.write("x", b"ours", ABSENT)
    memory.edit("x", "theirs")
    answer = await memory.merge([effect.reversed()], await memory.look(["x"]))
    assert isinstance(answer, Clash)
    assert answer.why.startswith("x ")
