"""What every journal does: writing, expecting, reading, finding, touching, blobs, erasing, rebuilding."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from takeback.journal import events as e
from takeback.journal.ids import RunId
from takeback.journal.log import Journal, JournalError, Stale, ViewKey
from takeback.journal.views import ActionView, CheckpointView, KeyView, RunView

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RUN = RunId("run_a")
OTHER = RunId("run_b")


async def test_what_was_appended_is_read_back_in_order_with_its_place(journal: Journal, make: Any) -> None:
    first = await journal.append([make.started(RUN), make.intended(RUN, "act_1")])
    second = await journal.append([make.started(OTHER)])
    assert [(each.position, each.seq, each.run_id) for each in [*first, *second]] == [
        (1, 1, RUN),
        (2, 2, RUN),
        (3, 1, OTHER),
    ]
    assert list(await journal.read()) == [*first, *second]
    assert list(await journal.read(RUN)) == list(first)
    assert list(await journal.read(after=1, limit=1)) == [first[1]]
    assert list(await journal.read(RUN, after=1)) == [first[1]]
    assert list(await journal.read(OTHER, after=2)) == list(second)
    assert list(await journal.read(OTHER, after=3)) == []
    assert await journal.position() == 3


async def test_events_of_one_run_are_found_behind_any_position_between_those_of_others(
    journal: Journal, make: Any
) -> None:
    for number in range(12):
        await journal.append([make.started(RUN if number % 3 else OTHER, goal=str(number))])
    everything = await journal.read(RUN)
    for position in range(14):
        expected = [each for each in everything if each.position > position]
        assert list(await journal.read(RUN, after=position)) == expected


async def test_an_empty_append_writes_nothing_and_fails_nobody(journal: Journal) -> None:
    assert list(await journal.append([])) == []
    assert await journal.position() == 0


async def test_an_expectation_that_does_not_hold_fails_and_writes_nothing(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN)], expect={ViewKey("run", RUN): 0})
    with pytest.raises(Stale) as stale:
        await journal.append([make.intended(RUN, "act_1")], blobs={"blake3:x": b"x"}, expect={ViewKey("run", RUN): 7})
    assert (stale.value.kind, stale.value.id, stale.value.expected, stale.value.found) == ("run", RUN, 7, 1)
    assert await journal.position() == 1
    assert await journal.blob("blake3:x") is None
    assert await journal.get(ActionView, "act_1") is None


async def test_of_two_that_expect_the_same_one_wins_and_bystanders_are_unharmed(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN)])
    claim = {ViewKey("run", RUN): 1}
    results = await asyncio.gather(
        journal.append([e.RunStalled(run_id=RUN, at=NOW, reason="first")], expect=claim),
        journal.append([e.RunStalled(run_id=RUN, at=NOW, reason="second")], expect=claim),
        journal.append([make.started(OTHER)]),
        return_exceptions=True,
    )
    assert [isinstance(each, Stale) for each in results] == [False, True, False]
    run = await journal.get(RunView, RUN)
    assert run is not None
    assert (run.status, run.why, run.version) == ("stalled", "first", 2)


async def test_views_are_found_by_run_and_status_newest_first_with_a_cursor(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN), make.started(OTHER)])
    for number in range(6):
        run_id = RUN if number % 2 == 0 else OTHER
        await journal.append([make.intended(run_id, f"act_{number}")])
    for number in range(3):
        await journal.append([make.applied(RUN if number % 2 == 0 else OTHER, f"act_{number}")])

    async def ids(**query: Any) -> list[str]:
        return [view.id for view in await journal.find(ActionView, **query)]

    assert await ids() == ["act_5", "act_4", "act_3", "act_2", "act_1", "act_0"]
    assert await ids(oldest_first=True, limit=2) == ["act_0", "act_1"]
    assert await ids(run_id=RUN) == ["act_4", "act_2", "act_0"]
    assert await ids(status="applied") == ["act_2", "act_1", "act_0"]
    assert await ids(status=["intended", "in_doubt"]) == ["act_5", "act_4", "act_3"]
    assert await ids(status=["intended", "applied"], run_id=OTHER) == ["act_5", "act_3", "act_1"]
    assert await ids(status=[]) == []
    # act_0 was first written at position 3, and the answers since then do not move it
    assert await ids(after=4, before=7, oldest_first=True) == ["act_2", "act_3"]
    assert await journal.find(KeyView) == []
    assert [view.action_id for view in await journal.find(CheckpointView)] == ["act_2", "act_1", "act_0"]


async def test_an_action_that_was_said_twice_is_found_once(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN)])
    await journal.append([make.intended(RUN, "act_1", "/w/a")])
    await journal.append([make.intended(RUN, "act_1", "/w/a", "/w/b")])
    for objects in (["/w/a"], ["/w/b"], ["/w/a", "/w/b"]):
        assert [action.id for action in await journal.touching("files", objects)] == ["act_1"]


async def test_actions_are_found_by_what_they_touch(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN)])
    await journal.append([make.intended(RUN, "act_1", "/w/a", "/w/a/b.txt")])
    await journal.append([make.intended(RUN, "act_2", "/w/a/b.txt/c")])
    await journal.append([make.intended(RUN, "act_3", "/w/a0", "/w/a-b", "/w/ab")])
    await journal.append([make.intended(RUN, "act_4", "/w")])
    await journal.append([make.intended(RUN, "act_5", "/w/a", system="other")])
    await journal.append([make.applied(RUN, "act_2", "/w/a/b.txt/c", "/w/d")])

    async def touching(*objects: str, **query: Any) -> list[str]:
        return [action.id for action in await journal.touching("files", objects, **query)]

    assert await touching("/w/a") == ["act_1"]
    assert await touching("/w/a", "/w/a0", "/w/a") == ["act_1", "act_3"]
    assert await touching("/w/a", nested=True) == ["act_1", "act_2", "act_4"]
    assert await touching("/w/a/b.txt", nested=True) == ["act_1", "act_2", "act_4"]
    assert await touching("/w/a/b.txt/c/d", nested=True) == ["act_1", "act_2", "act_4"]
    assert await touching("/w/a", nested=True, after=2) == ["act_2", "act_4"]
    assert await touching("/w/d") == ["act_2"]
    assert await touching("/", nested=True) == ["act_1", "act_2", "act_3", "act_4"]
    assert await touching() == []


async def test_what_a_dry_run_would_have_touched_is_not_found(journal: Journal, make: Any) -> None:
    await journal.append(
        [
            e.ActionShadowed(
                run_id=RUN,
                at=NOW,
                action_id=make.intended(RUN, "act_1").action_id,
                tool="write_file",
                requested={},
                effects=(make.effect("/w/a"),),
                reversibility="reversible",
            )
        ]
    )
    assert await journal.touching("files", ["/w/a"], nested=True) == []


async def test_small_objects_are_kept_once_listed_and_dropped(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN)], blobs={"blake3:b": b"bb", "blake3:a": b"a"})
    await journal.append([make.started(OTHER)], blobs={"blake3:b": b"other bytes"})
    assert await journal.blob("blake3:b") == b"bb"
    assert [each async for each in journal.blob_names()] == [("blake3:a", 1), ("blake3:b", 2)]
    assert await journal.drop_blobs(["blake3:b", "blake3:unknown", "blake3:b"]) == 2
    assert [each async for each in journal.blob_names()] == [("blake3:a", 1)]
    assert await journal.blob("blake3:b") is None


async def test_many_small_objects_are_all_listed(journal: Journal, make: Any) -> None:
    blobs = {f"blake3:{number:05d}": b"x" for number in range(1203)}
    await journal.append([make.started(RUN)], blobs=blobs)
    assert [name async for name, _ in journal.blob_names()] == sorted(blobs)


async def test_heads_say_where_each_run_ends(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN), make.started(OTHER)])
    last = await journal.append([make.intended(RUN, "act_1")])
    heads = await journal.heads()
    assert set(heads) == {RUN, OTHER}
    assert heads[RUN] == (2, last[0].mac)
    assert await journal.heads([RUN, RunId("run_unknown")]) == {RUN: (2, last[0].mac)}


async def test_a_fresh_journal_and_a_used_one_verify(journal: Journal, make: Any) -> None:
    assert (await journal.verify()).sound
    await journal.append([make.started(RUN), make.intended(RUN, "act_1"), make.started(OTHER)])
    found = await journal.verify()
    assert (found.events, found.runs, found.erased, found.problems) == (3, 2, 0, ())


async def test_a_rebuild_gives_the_same_views(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN), make.intended(RUN, "act_1", key="k"), make.applied(RUN, "act_1")])
    before = [await journal.find(kind) for kind in (RunView, ActionView, KeyView, CheckpointView)]
    assert await journal.rebuild() == 4
    assert [await journal.find(kind) for kind in (RunView, ActionView, KeyView, CheckpointView)] == before
    assert (await journal.verify()).sound


async def test_erasing_takes_the_words_and_leaves_the_bones(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN), make.intended(RUN, "act_1", "/w/private.txt", key="k", content="salary")])
    await journal.append([make.applied(RUN, "act_1", "/w/private.txt", content="salary")])
    await journal.append([make.intended(RUN, "act_2", "/w/private.txt", content="kept")])
    await journal.erase([2, 3], by="me", why="asked for", at=NOW)

    events = await journal.read()
    assert [each.event is None for each in events] == [False, True, True, False, False]
    assert isinstance(events[4].event, e.Erased)
    assert events[4].event.positions == (2, 3)
    action = await journal.get(ActionView, "act_1")
    assert action is not None
    assert "salary" not in action.model_dump_json()
    assert "private" not in action.model_dump_json()
    assert (action.status, action.tool, action.effects, action.stands, action.checkpoint_id) == (
        "applied",
        "write_file",
        (),
        True,
        "chk_act_1",
    )
    key = (await journal.find(KeyView))[0]
    assert (key.status, key.action_id) == ("taken", "act_1")  # else a repeated call would act twice
    assert [each.id for each in await journal.touching("files", ["/w/private.txt"])] == ["act_2"]
    untouched = await journal.get(ActionView, "act_2")
    assert untouched is not None
    assert untouched.requested == {"content": "kept"}
    found = await journal.verify()
    assert found.sound, found.problems
    assert found.erased == 2
    before = await journal.find(ActionView)
    await journal.rebuild()
    assert await journal.find(ActionView) == before


async def test_erasing_twice_changes_nothing_and_erasing_nothing_is_refused(journal: Journal, make: Any) -> None:
    await journal.append([make.started(RUN), make.started(OTHER)])
    await journal.erase([1, 2], by="me", why="asked for", at=NOW)
    count = await journal.position()
    assert count == 4  # one record for each run
    await journal.erase([1], by="me", why="again", at=NOW)
    assert await journal.position() == count
    for position in (0, 99, 3):
        with pytest.raises(JournalError):
            await journal.erase([position], by="me", why="what for", at=NOW)
    assert await journal.position() == count
    run = await journal.get(RunView, RUN)
    assert run is not None
    assert (run.goal, run.steps, run.owner.principal, run.status) == ("", (), "me", "open")


async def test_a_journal_goes_on_after_its_key_was_rotated(journal: Any, make: Any) -> None:
    first = await journal.append([make.started(RUN)])
    journal.rotate_key()
    second = await journal.append([make.intended(RUN, "act_1")])
    assert first[0].key_id != second[0].key_id
    assert (await journal.verify()).sound


async def test_a_closed_journal_refuses(journal: Journal, make: Any) -> None:
    await journal.close()
    with pytest.raises(JournalError):
        await journal.append([make.started(RUN)])
    with pytest.raises(JournalError):
        await journal.position()


async def test_whoever_listens_hears_everything_in_order_before_it_is_acknowledged(journal: Journal, make: Any) -> None:
    heard: list[int] = []
    journal.listeners = (lambda told: heard.extend(recorded.position for recorded in told),)

    async def append(number: int) -> None:
        [recorded] = await journal.append([make.started(RunId(f"run_{number}"))])
        assert recorded.position in heard

    await asyncio.gather(*map(append, range(20)))
    assert heard == sorted(heard) and len(heard) == 20
