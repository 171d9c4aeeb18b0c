"""The collector takes what nobody needs any more, and never anything else, whatever happens meanwhile."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from tests.checkpoints.history import (
    KEEP_DAYS,
    LATELY,
    LONG_AGO,
    NOW,
    act,
    change,
    finish_run,
    grow_old,
    open_conflict,
    pin,
    resolve,
    roll_back,
    start_run,
    stored,
)

from takeback.checkpoints import retention
from takeback.checkpoints.needed import Reason, what_to_keep
from takeback.checkpoints.objects import ObjectError
from takeback.checkpoints.oslock import held
from takeback.checkpoints.retention import (
    Collected,
    CollectorBusy,
    available,
    collect,
    live_states,
    missing,
    verify_objects,
)
from takeback.checkpoints.store import FileObjectStore
from takeback.journal.events import ActionSettled
from takeback.journal.ids import ActionId, RunId
from takeback.journal.log import Journal
from takeback.journal.states import State
from takeback.journal.views import ActionView, CheckpointView, OpenItem, RollbackView, RunView

BIG = 40_000


async def gather(journal: Journal, store: FileObjectStore, **more: object) -> Collected:
    return await collect(journal, store, now=NOW, keep_days=KEEP_DAYS, **more)  # type: ignore[arg-type]  # tests' short form


async def finished_run_with(journal: Journal, *names: str, **more: object) -> tuple[RunId, ActionId]:
    run_id = await start_run(journal)
    action_id = await act(journal, run_id, change(stored(*names)), **more)  # type: ignore[arg-type]  # passed on
    await finish_run(journal, run_id)
    return run_id, action_id


# -- what is kept ----------------------------------------------------------------------------------------------------


async def reasons(journal: Journal) -> dict[ActionId, Reason]:
    keep = what_to_keep(
        runs=await journal.find(RunView),
        checkpoints=await journal.find(CheckpointView),
        actions=await journal.find(ActionView),
        rollbacks=await journal.find(RollbackView),
        open_items=await journal.find(OpenItem),
        now=NOW,
        keep_days=KEEP_DAYS,
    )
    return keep.actions


async def test_an_old_action_of_a_finished_run_is_not_kept(journal: Journal) -> None:
    await finished_run_with(journal, "x")
    assert await reasons(journal) == {}


async def test_a_live_run_keeps_its_actions_however_old(journal: Journal) -> None:
    action_id = await act(journal, await start_run(journal), change(stored("x")))
    assert await reasons(journal) == {action_id: "live_run"}


async def test_a_run_that_is_being_taken_back_keeps_its_actions(journal: Journal) -> None:
    run_id, action_id = await finished_run_with(journal, "x")
    await roll_back(journal, run_id, action_id, end=False)
    assert await reasons(journal) == {action_id: "live_run"}


async def test_a_pinned_checkpoint_keeps_its_run(journal: Journal) -> None:
    run_id, action_id = await finished_run_with(journal, "x")
    await pin(journal, run_id, pinned=False)
    assert await reasons(journal) == {}
    await pin(journal, run_id)
    assert await reasons(journal) == {action_id: "pinned"}


async def test_a_promise_is_kept_until_its_day(journal: Journal) -> None:
    await finished_run_with(journal, "x", until=(NOW - timedelta(seconds=1)).isoformat())
    assert await reasons(journal) == {}
    _, promised = await finished_run_with(journal, "x", until=(NOW + timedelta(seconds=1)).isoformat())
    _, unreadable = await finished_run_with(journal, "x", until="next spring")
    assert await reasons(journal) == {promised: "promised", unreadable: "promised"}


async def test_an_open_conflict_keeps_its_action_until_it_is_resolved(journal: Journal) -> None:
    run_id, action_id = await finished_run_with(journal, "x")
    conflict_id = await open_conflict(journal, run_id, action_id)
    assert await reasons(journal) == {action_id: "open_item"}
    await resolve(journal, run_id, conflict_id)
    assert await reasons(journal) == {}


async def test_what_nobody_knows_the_outcome_of_is_kept(journal: Journal) -> None:
    _, doubt = await finished_run_with(journal, "x", end="in_doubt")
    _, cut_off = await finished_run_with(journal, "x", end="open")
    assert await reasons(journal) == {doubt: "in_doubt", cut_off: "in_doubt"}


async def test_a_young_action_is_kept_and_so_is_one_whose_run_ended_lately(journal: Journal) -> None:
    run_id = await start_run(journal)
    old = await act(journal, run_id, change(stored("x")))
    await finish_run(journal, run_id, at=LATELY)
    _, young = await finished_run_with(journal, "x", at=LATELY)
    assert await reasons(journal) == {old: "young", young: "young"}


async def test_a_live_rollback_keeps_what_a_redo_needs(journal: Journal) -> None:
    run_id, action_id = await finished_run_with(journal, "x")
    await roll_back(journal, run_id, action_id, change(stored("theirs"), stored("x")), at=LATELY)
    assert (await reasons(journal)).keys() == {action_id}
    live = await live_states(journal, now=NOW, keep_days=KEEP_DAYS)
    assert {name for state in live.states for name in state.objects} == {"theirs", "x"}


async def test_an_old_rollback_keeps_nothing(journal: Journal) -> None:
    run_id, action_id = await finished_run_with(journal, "x")
    await roll_back(journal, run_id, action_id, change(stored("theirs"), stored("x")))
    assert await reasons(journal) == {}
    assert (await live_states(journal, now=NOW, keep_days=KEEP_DAYS)).states == []


# -- what is collected -----------------------------------------------------------------------------------------------


async def test_only_what_nobody_needs_is_collected(journal: Journal, store: FileObjectStore) -> None:
    needed, garbage = await store.put(b"n" * BIG), await store.put(b"g" * BIG)
    await act(journal, await start_run(journal), change(stored(needed)))
    await finished_run_with(journal, garbage)
    grow_old(store)
    collected = await gather(journal, store)
    assert (collected.objects, collected.kept, collected.problems) == (1, 1, ())
    assert await store.has(needed) and not await store.has(garbage)


async def test_long_journals_are_marked_and_swept_in_pages(
    journal: Journal, store: FileObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_EVENTS", 2)
    monkeypatch.setattr(retention, "_VIEWS", 2)
    monkeypatch.setattr(retention, "_BATCH", 2)
    needed = [await store.put(bytes([n]) * BIG) for n in range(5)]
    garbage = [await store.put(bytes([100 + n]) * BIG) for n in range(5)]
    run_id = await start_run(journal)
    for name in needed:
        await act(journal, run_id, change(stored(name)))
    for n in range(5):
        name, blobs = store.small(b"garbage %d" % n)
        await finished_run_with(journal, garbage[n], name, blobs=blobs)
    grow_old(store)
    told: list[tuple[float, float | None, str]] = []

    async def progress(done: float, total: float | None, words: str) -> None:
        told.append((done, total, words))

    collected = await gather(journal, store, progress=progress)
    assert (collected.objects, collected.kept) == (10, 5)
    assert {name async for name, _ in store.names()} == set(needed)
    assert [done for done, _, words in told if "files" in words] == [0, 2, 4]


async def test_a_name_in_a_memo_is_needed_as_well(journal: Journal, store: FileObjectStore) -> None:
    name = await store.put(b"n" * BIG)
    await act(journal, await start_run(journal), memo={"original": [name]})
    grow_old(store)
    assert (await gather(journal, store)).objects == 0


async def test_the_versions_of_an_open_conflict_are_needed(journal: Journal, store: FileObjectStore) -> None:
    name = await store.put(b"theirs" * BIG)
    run_id, action_id = await finished_run_with(journal, "x")
    await open_conflict(journal, run_id, action_id, theirs=stored(name))
    grow_old(store)
    assert (await gather(journal, store)).objects == 0


async def test_a_dry_run_says_what_would_go_and_destroys_nothing(journal: Journal, store: FileObjectStore) -> None:
    name = await store.put(b"g" * BIG)
    small, blobs = store.small(b"small")
    await finished_run_with(journal, small, blobs=blobs)
    grow_old(store)
    would = await gather(journal, store, dry_run=True)
    assert would.objects == 2
    assert await store.has(name) and await store.has(small)
    did = await gather(journal, store)
    assert (did.objects, did.bytes) == (2, would.bytes)
    assert not await store.has(name) and not await store.has(small)
    assert (await store.usage()).stored_bytes == 0


async def test_what_was_put_lately_waits_for_its_intent(journal: Journal, store: FileObjectStore) -> None:
    name = await store.put(b"g" * BIG)
    assert (await gather(journal, store, dry_run=True)).objects == 0
    assert (await gather(journal, store)).objects == 0
    assert await store.has(name)


async def test_putting_again_saves_an_old_object(journal: Journal, store: FileObjectStore) -> None:
    name = await store.put(b"g" * BIG)
    grow_old(store)
    await store.put(b"g" * BIG)
    assert (await gather(journal, store)).objects == 0
    assert await store.has(name)


async def test_files_of_dead_writers_are_swept_once_they_are_old(journal: Journal, store: FileObjectStore) -> None:
    left = store.folder / "tmp" / "0123-dead"
    left.write_bytes(b"half an object")
    assert (await gather(journal, store)).temporary == 0
    grow_old(store)
    assert (await gather(journal, store)).temporary == 1
    assert not left.exists()


async def test_two_collectors_do_not_work_at_once(journal: Journal, store: FileObjectStore) -> None:
    with held(os.fspath(store.folder / "collect.lock")), pytest.raises(CollectorBusy):
        await gather(journal, store)
    await gather(journal, store)


class Attic:
    """A trash that remembers what it was asked to keep."""

    def __init__(self, name: str = "files", *, fails: bool = False) -> None:
        self.name, self.fails = name, fails
        self.kept: list[State] = []
        self.age = 0

    async def collect(self, keep: Collection[State], *, older_than_ns: int) -> int:
        if self.fails:
            raise ConnectionError("out of reach")
        self.kept, self.age = list(keep), older_than_ns
        return 77


async def test_systems_are_told_which_states_to_keep(journal: Journal, store: FileObjectStore) -> None:
    state = State(digest="stat:1", kind="file", ref={"trash": "slot-1"})
    await act(journal, await start_run(journal), change(state))
    await finished_run_with(journal, "x")
    attic = Attic()
    collected = await gather(journal, store, systems=[Attic("mail", fails=True), attic])
    assert attic.kept == [state]
    assert attic.age == 3600 * 10**9
    assert collected.trash_bytes == 77
    assert len(collected.problems) == 1 and "mail" in collected.problems[0]


# -- meanwhile -------------------------------------------------------------------------------------------------------


class Meanwhile:
    """A progress callback that does something at the moment before files, or small objects, are removed."""

    def __init__(self, when: str, what: Callable[[], Awaitable[object]]) -> None:
        self.when, self.what = when, what
        self.done = False

    async def __call__(self, done: float, total: float | None, words: str) -> None:
        if self.when in words and not self.done:
            self.done = True
            await self.what()


async def test_an_intent_written_after_marking_keeps_what_it_names(journal: Journal, store: FileObjectStore) -> None:
    name = await store.put(b"g" * BIG)
    grow_old(store)
    run_id = await start_run(journal)
    late = Meanwhile("files", lambda: act(journal, run_id, change(stored(name))))
    await gather(journal, store, progress=late)
    assert late.done and await store.has(name)


async def test_systems_are_told_what_happened_since_marking_and_nothing_twice(
    journal: Journal, store: FileObjectStore
) -> None:
    def state(digest: str) -> State:
        return State(digest=digest, kind="file", ref={"slot": digest})

    live, ended = await start_run(journal), await start_run(journal)
    early = await act(journal, live, change(state("early")))
    begun = await act(journal, live, change(state("begun")), end="open")
    await act(journal, ended, change(state("beside")))
    taken_back = await act(journal, ended, change(state("taken back")))
    await finish_run(journal, ended)
    attic = Attic()

    async def more() -> None:
        await act(journal, live, change(state("late")))
        await journal.append(
            [
                ActionSettled(
                    run_id=live,
                    at=NOW,
                    action_id=begun,
                    outcome="applied",
                    by="me",
                    why="seen",
                    effects=(change(state("begun"), state("found")),),
                )
            ]
        )
        await roll_back(journal, live, early, change(state("early"), state("redo")))
        await roll_back(journal, ended, taken_back, change(state("theirs"), state("ours")))

    await gather(journal, store, progress=Meanwhile("mail", more), systems=[Attic("mail"), attic])
    kept = Counter(each.digest for each in attic.kept)
    assert kept.keys() == {
        "early", "begun", "beside", "taken back", "late", "found", "redo", "theirs", "ours",
    }  # fmt: skip
    assert kept["beside"] == kept["taken back"] == kept["late"] == 1  # said by nothing else, and not said twice


async def test_a_put_after_marking_keeps_the_object(journal: Journal, store: FileObjectStore) -> None:
    name = await store.put(b"g" * BIG)
    grow_old(store)
    late = Meanwhile("files", lambda: store.put(b"g" * BIG))
    await gather(journal, store, progress=late)
    assert late.done and await store.has(name)


async def test_a_rollback_begun_after_marking_keeps_what_its_run_needs(
    journal: Journal, store: FileObjectStore
) -> None:
    name = await store.put(b"g" * BIG)
    run_id, action_id = await finished_run_with(journal, name)
    grow_old(store)
    late = Meanwhile("files", lambda: roll_back(journal, run_id, action_id, end=False))
    await gather(journal, store, progress=late)
    assert late.done and await store.has(name)


def while_dropping(
    patch: pytest.MonkeyPatch,
    journal: Journal,
    *,
    before: Callable[[], Awaitable[object]] | None = None,
    after: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Do something just before or after the journal drops small objects."""
    drop = journal.drop_blobs

    async def drop_blobs(names: Sequence[str]) -> int:
        if before is not None:
            await before()
        freed = await drop(names)
        if after is not None:
            await after()
        return freed

    patch.setattr(journal, "drop_blobs", drop_blobs)


async def test_a_small_object_named_by_an_intent_while_it_is_dropped_is_kept(
    journal: Journal, store: FileObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"before" * 50
    name, blobs = store.small(data)
    await finished_run_with(journal, name, blobs=blobs)
    run_id = await start_run(journal)
    with monkeypatch.context() as patch:
        while_dropping(patch, journal, before=lambda: act(journal, run_id, change(stored(name)), blobs=blobs))
        assert (await gather(journal, store)).objects == 0
    assert await journal.blob(name) is None
    assert await store.get(name) == data
    assert (await gather(journal, store, grace_seconds=0)).objects == 0
    assert await store.get(name) == data


async def test_a_put_of_a_small_object_while_it_is_dropped_is_kept(
    journal: Journal, store: FileObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"before" * 50
    name, blobs = store.small(data)
    await finished_run_with(journal, name, blobs=blobs)
    with monkeypatch.context() as patch:
        while_dropping(patch, journal, after=lambda: store.put(data))
        await gather(journal, store)
    assert await store.get(name) == data


class Stop(BaseException):
    """The process dies here."""


def calls_that_destroy(patch: pytest.MonkeyPatch, journal: Journal, *, die_at: int, after: bool) -> Callable[[], int]:
    """Count the collector's destructive calls, and die before or after the n-th."""
    count = 0
    unlink, drop, replace = os.unlink, journal.drop_blobs, os.replace

    def strike(done: bool) -> None:
        nonlocal count
        if done == after:
            count += 1
            if count == die_at:
                raise Stop

    def dying_unlink(path: str) -> None:
        strike(False)
        unlink(path)
        strike(True)

    def dying_replace(source: str, target: str) -> None:
        strike(False)
        replace(source, target)
        strike(True)

    async def dying_drop(names: Sequence[str]) -> int:
        strike(False)
        freed = await drop(names)
        strike(True)
        return freed

    patch.setattr(os, "unlink", dying_unlink)
    patch.setattr(os, "replace", dying_replace)
    patch.setattr(journal, "drop_blobs", dying_drop)
    return lambda: count


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_collector_that_dies_at_any_deletion_leaves_everything_that_is_needed(
    journal: Journal, store: FileObjectStore, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    run_id = await start_run(journal)
    needed = {await store.put(bytes([n]) * BIG): bytes([n]) * BIG for n in range(3)}
    for n in range(3):
        data = b"needed %d" % n
        name, blobs = store.small(data)
        needed[name] = data
        await act(journal, run_id, change(stored(name)), blobs=blobs)
    await act(journal, run_id, change(stored(*needed)))
    die_at = 0
    while True:
        die_at += 1
        for n in range(3):
            await store.put(bytes([100 + n]) * BIG)
            name, blobs = store.small(b"garbage %d" % n)
            await finished_run_with(journal, name, blobs=blobs)
        grow_old(store)
        with monkeypatch.context() as patch:
            count = calls_that_destroy(patch, journal, die_at=die_at, after=after)
            try:
                await gather(journal, store)
            except Stop:
                died = True
            else:
                died = False
        for name, data in needed.items():
            assert await store.get(name) == data
        if not died:
            break
    assert count() > 7
    grow_old(store)
    await gather(journal, store)
    assert {name async for name, _ in store.names()} == set(needed)
    assert (await store.usage()).objects == len(needed)


# -- questions -------------------------------------------------------------------------------------------------------


async def test_an_effect_whose_image_is_gone_is_told_before_anybody_tries(
    journal: Journal, store: FileObjectStore
) -> None:
    one, two = await store.put(b"1" * BIG), await store.put(b"2" * BIG)
    effect = change(stored(one, two), stored("blake3:" + "0" * 64))
    assert await available(effect, store)
    assert not await available(effect, store, side="after")
    await store.drop([two])
    assert not await available(effect, store)
    assert await missing(effect, store) == [two]


async def test_verification_finds_what_is_missing_and_what_is_damaged(journal: Journal, store: FileObjectStore) -> None:
    names = [await store.put(bytes([n]) * BIG) for n in range(4)]
    action_id = await act(journal, await start_run(journal), change(stored(*names[:3])))
    assert await verify_objects(journal, store, now=NOW, keep_days=KEEP_DAYS) == []
    await store.drop([names[0]])
    for name in (names[1], names[3]):
        path = Path(store.files.path(name.removeprefix("blake3:")))
        os.chmod(path, 0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    problems = await verify_objects(journal, store, now=NOW, keep_days=KEEP_DAYS)
    assert {(problem.kind, problem.name, problem.needed_by) for problem in problems} == {
        ("missing", names[0], action_id),
        ("corrupt", names[1], action_id),
        ("corrupt", names[3], ""),
    }


async def test_small_objects_that_cannot_be_saved_first_are_not_dropped(
    journal: Journal, store: FileObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, blobs = store.small(b"small")
    await finished_run_with(journal, name, blobs=blobs)

    def full(fd: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        collected = await gather(journal, store)
    assert collected.objects == 0 and len(collected.problems) == 1
    assert await store.get(name) == b"small"
    assert issubclass(CollectorBusy, ObjectError)
    assert LONG_AGO < LATELY < NOW
