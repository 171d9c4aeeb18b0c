"""The suite finds what it is there for: each broken journal fails a test that a sound one passes."""

from __future__ import annotations

import hashlib
import inspect
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.journal import test_frames, test_journal, test_projections, test_sqlite, test_verify
from tests.journal.conftest import SqliteJournalOpening

from takeback.journal import chain, kept, projections, rows, schema, stored, tables, verification, writer
from takeback.journal.anchors import AnchorFile
from takeback.journal.folds import actions, undo
from takeback.journal.log import JournalError
from takeback.journal.sqlite import SqliteJournal
from takeback.journal.views import ActionView

Patch = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, tuple[Patch, Callable[..., Any], dict[str, Any]]] = {}

CAUGHT = (AssertionError, pytest.fail.Exception, JournalError, ValueError)
"""How a test of the suite fails, or a journal says that it cannot be read. Anything else would be the mutant falling over by
itself."""


class Place(SqliteJournalOpening):
    """Closes what a test that failed left open."""

    left: ClassVar[list[SqliteJournal]] = []

    async def open(self, *, read_only: bool = False) -> SqliteJournal:
        journal = await super().open(read_only=read_only)
        self.left.append(journal)
        return journal


def mutant(caught_by: Callable[..., Any], **arguments: Any) -> Callable[[Patch], Patch]:
    def keep(patch: Patch) -> Patch:
        MUTANTS[patch.__name__] = (patch, caught_by, arguments)
        return patch

    return keep


async def judged(test: Callable[..., Any], make: Any, tmp_path: Path, arguments: dict[str, Any]) -> None:
    """Run a test of the suite on a journal on disk."""
    place = Place(tmp_path)
    given: dict[str, Any] = {"place": place, "make": make, "tmp_path": tmp_path, **arguments}
    wanted = inspect.signature(test).parameters
    try:
        if {"journal", "sqlite_journal"} & set(wanted):
            given["journal"] = given["sqlite_journal"] = await place.open()
        await test(**{name: given[name] for name in wanted})
    finally:
        while Place.left:
            await Place.left.pop().close()


# --- the chain ----------------------------------------------------------------------------------------------------


@mutant(test_verify.test_an_event_that_was_written_on_a_copy_does_not_fit_in_the_place_of_another)
def chain_without_predecessor(patch: pytest.MonkeyPatch) -> None:
    sound = chain.mac
    patch.setattr(chain, "mac", lambda key, **said: sound(key, **{**said, "previous": b""}))


@mutant(test_verify.test_equal_words_leave_different_digests_behind)
def salt_not_used(patch: pytest.MonkeyPatch) -> None:
    for module in (chain, rows, verification):
        patch.setattr(module, "digest", lambda salt, payload: hashlib.sha256(payload).digest())


@mutant(test_verify.test_tampering_is_found, tampering="the time is another")
def chain_without_time(patch: pytest.MonkeyPatch) -> None:
    sound = chain.mac
    patch.setattr(chain, "mac", lambda key, **said: sound(key, **{**said, "at": ""}))
    # the payload tells the time as well, so both have to be looked away from
    patch.setattr(verification.Checker, "_content", lambda self, row: None)


@mutant(test_verify.test_tampering_is_found, tampering="the payload is that of another event")
def verify_without_payloads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(verification, "holds", lambda *_, **__: True)
    patch.setattr(verification, "_projections", lambda *_: iter(()))
    patch.setattr(verification.Checker, "_content", lambda self, row: None)


@mutant(test_journal.test_a_fresh_journal_and_a_used_one_verify)
def verify_skips_the_last_event(patch: pytest.MonkeyPatch) -> None:
    sound = verification.rows
    patch.setattr(verification, "rows", lambda connection: iter(list(sound(connection))[:-1]))


@mutant(test_verify.test_tampering_is_found, tampering="a view is gone")
def verify_without_views(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(verification, "_projections", lambda *_: iter(()))


@mutant(test_verify.test_an_old_copy_that_was_put_back_is_found)
def heads_not_anchored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AnchorFile, "append", lambda self, *_: None)


@mutant(test_sqlite.test_unanchored_heads_fail_nobody_and_are_anchored_with_the_next_commit)
def unanchored_heads_forgotten(patch: pytest.MonkeyPatch) -> None:
    sound = writer.Writer._anchor

    def forgetful(self: writer.Writer, batch: Any) -> None:
        self._to_anchor = {}
        sound(self, batch)

    patch.setattr(writer.Writer, "_anchor", forgetful)


@mutant(test_sqlite.test_a_lost_key_is_refused_and_not_replaced)
def a_lost_key_is_replaced(patch: pytest.MonkeyPatch) -> None:
    def replaced(self: writer.Writer, newest: str | None) -> Any:
        self._ring.create()
        return self._ring.current

    patch.setattr(writer.Writer, "key", replaced)


# --- writing ------------------------------------------------------------------------------------------------------


@mutant(test_journal.test_of_two_that_expect_the_same_one_wins_and_bystanders_are_unharmed)
def expectations_checked_outside_the_transaction(patch: pytest.MonkeyPatch) -> None:
    sound = SqliteJournal.append

    async def early(self: SqliteJournal, events: Any, *, blobs: Any = None, expect: Any = None) -> Any:
        for key, version in (expect or {}).items():
            view = await self.get(projections.KINDS[key.kind], key.id)  # type: ignore[type-var] -- one of several kinds of views
            assert (0 if view is None else view.version) == version
        return await sound(self, events, blobs=blobs)

    patch.setattr(SqliteJournal, "append", early)


@mutant(test_journal.test_of_two_that_expect_the_same_one_wins_and_bystanders_are_unharmed)
def one_stale_caller_fails_all(patch: pytest.MonkeyPatch) -> None:
    sound = tables.write_batch

    def strict(*arguments: Any) -> Any:
        batch = sound(*arguments)
        for written in batch.written:
            if written.refused is not None:
                raise written.refused
        return batch

    patch.setattr(tables, "write_batch", strict)


@mutant(test_journal.test_an_expectation_that_does_not_hold_fails_and_writes_nothing)
def a_stale_caller_is_written_all_the_same(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tables, "_judge", lambda views, expect: None)


@mutant(test_sqlite.test_callers_at_the_same_time_share_a_transaction)
def a_transaction_for_each_caller(patch: pytest.MonkeyPatch) -> None:
    sound = writer.Writer._take

    def one_by_one(self: writer.Writer, connection: sqlite3.Connection, loop: Any) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        for each in waiting:
            self._waiting.append(each)
            sound(self, connection, loop)

    patch.setattr(writer.Writer, "_take", one_by_one)


@mutant(test_sqlite.test_a_cancelled_caller_takes_neither_its_own_events_nor_those_of_others_along)
def a_cancelled_caller_is_not_written(patch: pytest.MonkeyPatch) -> None:
    sound = writer._drained

    def still_there(waiting: Any) -> Iterator[Any]:
        return (each for each in list(sound(waiting)) if not each[1].done())

    patch.setattr(writer, "_drained", still_there)


@mutant(test_sqlite.test_a_commit_waits_for_the_disk)
def synchronous_normal(patch: pytest.MonkeyPatch) -> None:
    _with_pragma(patch, "synchronous=NORMAL")


@mutant(test_sqlite.test_after_a_failed_write_nothing_is_acknowledged_until_it_is_opened_anew)
def acknowledged_after_a_failed_write(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writer.Writer, "check", lambda self: None)


@mutant(test_journal.test_small_objects_are_kept_once_listed_and_dropped)
def small_objects_overwritten(patch: pytest.MonkeyPatch) -> None:
    sound = tables.write_batch

    def overwriting(connection: sqlite3.Connection, entries: Any, *more: Any) -> Any:
        batch = sound(connection, entries, *more)
        for entry in entries:
            connection.executemany("INSERT OR REPLACE INTO blobs(name, data) VALUES (?, ?)", entry.blobs.items())
        return batch

    patch.setattr(tables, "write_batch", overwriting)


@mutant(test_sqlite.test_what_another_writer_committed_in_between_is_built_upon)
def commits_of_others_go_unnoticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kept.Kept, "check", lambda self, connection: None)


@mutant(test_sqlite.test_what_was_not_committed_is_not_built_upon)
def what_was_rolled_back_is_remembered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kept.Kept, "forget", lambda self: None)


@mutant(test_sqlite.test_what_was_erased_in_between_is_not_remembered)
def what_was_erased_is_remembered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kept.Kept, "forget", lambda self: None)


@mutant(test_journal.test_actions_are_found_by_what_they_touch)
def what_an_intent_touches_goes_for_all_of_its_action(patch: pytest.MonkeyPatch) -> None:
    class All(set[tuple[str, str]]):
        def __contains__(self, place: object) -> bool:
            return True

    sound = stored.Views._said
    patch.setattr(stored.Views, "_said", lambda self, action_id: All() if sound(self, action_id) else set())


@mutant(test_sqlite.test_a_newer_schema_is_refused_and_left_alone)
def any_schema_will_do(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(schema, "_check", lambda connection: None)


# --- frames -------------------------------------------------------------------------------------------------------


@mutant(test_frames.test_what_an_action_of_another_run_says_is_not_rested_on)
def frames_rest_on_other_runs(patch: pytest.MonkeyPatch) -> None:
    def careless(self: stored.Views, event: Any) -> int | None:
        action = self.get("action", getattr(event, "action_id", ""))
        return action.position if isinstance(action, ActionView) else None

    patch.setattr(stored.Views, "like", careless)


@mutant(test_frames.test_an_action_takes_less_than_two_kibibytes)
def frames_rest_on_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rows, "pack", lambda payload, bases: payload)


@mutant(test_frames.test_a_view_that_many_events_went_into_is_written_down)
def views_forget_their_first_events(patch: pytest.MonkeyPatch) -> None:
    sound = stored.point
    patch.setattr(stored, "point", lambda events: sound(events[-2:]))


# --- erasing ------------------------------------------------------------------------------------------------------


@mutant(test_journal.test_erasing_takes_the_words_and_leaves_the_bones)
def erasing_keeps_the_salt(patch: pytest.MonkeyPatch) -> None:
    sound = tables.destroy

    def half(connection: sqlite3.Connection, positions: Any) -> None:
        kept = connection.execute("SELECT salt, position FROM events").fetchall()
        sound(connection, positions)
        connection.executemany("UPDATE events SET salt = ? WHERE position = ?", kept)

    patch.setattr(tables, "destroy", half)


@mutant(test_frames.test_erasing_an_intent_leaves_what_rested_on_it_readable)
def erasing_leaves_frames_without_their_base(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rows, "bases_of", lambda frame: ())
    patch.setattr(test_frames, "rests_on", lambda place, position: (2,) if position == 3 else ())


@mutant(test_journal.test_erasing_takes_the_words_and_leaves_the_bones)
def erasing_leaves_the_views(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tables, "refold", lambda connection: 0)


@mutant(test_sqlite.test_what_was_erased_is_nowhere_in_the_files)
def erasing_leaves_the_wal(patch: pytest.MonkeyPatch) -> None:
    async def nothing(self: writer.Writer) -> None:
        return None

    patch.setattr(writer.Writer, "empty_wal", nothing)


@mutant(test_sqlite.test_what_was_erased_is_nowhere_in_the_files)
def erasing_only_unlinks(patch: pytest.MonkeyPatch) -> None:
    _with_pragma(patch, "secure_delete=OFF")


# --- the fold -----------------------------------------------------------------------------------------------------


def _without(patch: pytest.MonkeyPatch, event: type[Any], **forgotten: Any) -> None:
    """The fold of an event, with something in the view of its action that it should not be."""
    sound = projections._HANDLERS[event]

    def folded(said: Any, position: int, get: Any) -> Any:
        return [
            change._replace(view=change.view.model_copy(update=forgotten)) if change.kind == "action" else change
            for change in sound(said, position, get)
        ]

    patch.setitem(projections._HANDLERS, event, folded)


@mutant(test_projections.test_taking_back_and_redoing_moves_the_action_and_its_key)
def taking_back_forgets_stands(patch: pytest.MonkeyPatch) -> None:
    _without(patch, projections.e.RollbackStep, stands=True)


@mutant(test_projections.test_an_intent_does_not_stand_until_it_is_applied)
def an_intent_stands_at_once(patch: pytest.MonkeyPatch) -> None:
    _without(patch, projections.e.ActionIntended, stands=True)


@mutant(test_projections.test_what_did_not_happen_frees_its_key, end=test_projections.FAILED, status="failed")
def a_failed_action_keeps_its_key(patch: pytest.MonkeyPatch) -> None:
    sound = actions.key_becomes
    patch.setattr(actions, "key_becomes", lambda *said: [] if said[-1] == "free" else sound(*said))


@mutant(test_projections.test_taking_back_and_redoing_moves_the_action_and_its_key)
def taking_back_keeps_the_key(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(undo, "key_becomes", lambda *_: [])


@mutant(test_projections.test_a_key_that_another_action_uses_by_now_is_not_moved_by_the_first)
def a_key_follows_whoever_had_it(patch: pytest.MonkeyPatch) -> None:
    def careless(action: Any, position: int, get: Any, status: str) -> list[Any]:
        key = get("key", f"{action.run_id}/{action.tool}/{action.idempotency_key}")
        return [] if key is None else [projections.Change("key", key.id, key.model_copy(update={"status": status}))]

    patch.setattr(undo, "key_becomes", careless)


# --- reading ------------------------------------------------------------------------------------------------------


@mutant(test_journal.test_actions_are_found_by_what_they_touch)
def touching_without_what_lies_below(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stored, "below", lambda object: (object, object))


@mutant(test_journal.test_actions_are_found_by_what_they_touch)
def touching_without_what_lies_above(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stored, "ancestors", lambda object: [])


@mutant(test_journal.test_actions_are_found_by_what_they_touch)
def names_that_begin_alike_are_taken_for_children(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stored, "below", lambda object: (object, f"{object}\uffff"))


@mutant(test_journal.test_events_of_one_run_are_found_behind_any_position_between_those_of_others)
def positions_taken_for_places_in_the_run(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rows, "_seq_at", lambda connection, run_id, position: position)


def _with_pragma(patch: pytest.MonkeyPatch, pragma: str) -> None:
    from takeback.journal import sqlite

    sound = sqlite.connect_writer

    def connected(path: Path) -> sqlite3.Connection:
        connection = sound(path)
        connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    patch.setattr(sqlite, "connect_writer", connected)


@pytest.mark.parametrize("name", MUTANTS)
async def test_the_suite_finds(name: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, test, arguments = MUTANTS[name]
    patch(monkeypatch)
    with pytest.raises(CAUGHT):
        await judged(test, make, tmp_path, arguments)


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_sound_journal_passes_what_finds(name: str, make: Any, tmp_path: Path) -> None:
    _, test, arguments = MUTANTS[name]
    await judged(test, make, tmp_path, arguments)
