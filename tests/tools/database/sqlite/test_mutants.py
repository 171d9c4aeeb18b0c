"""The inverse, broken on purpose in one place each time: what the other tests would let through is caught here.

`check` is a small story that needs every part of the inverse. Each mutant has to make it fail.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.server.engine.bench import ALICE, Bench
from tests.tools.database.sqlite.outside import Outside, difference

from takeback.journal.events import Caller
from takeback.journal.views import ActionView
from takeback.tools.database.sqlite import capture, cells, execution, guard, merging, restoring, schema, swapping, whole
from takeback.tools.database.sqlite.cells import SAME, Change, Op
from takeback.tools.system import Drifted

MANY = "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 150) INSERT INTO log SELECT n, n, n FROM i"
STATEMENTS: tuple[tuple[str, ...], ...] = (
    ("UPDATE parent SET amount = 5",),
    ("DELETE FROM parent WHERE id = 1",),
    ("INSERT INTO parent(name) VALUES ('new')",),
    ("REPLACE INTO keyed VALUES ('k1', 1, 'w')",),
    ("REPLACE INTO keyed SELECT k, v, w FROM keyed",),
    (MANY, "DELETE FROM log WHERE rowid > 2"),
    (MANY,),
    ("UPDATE log SET old = 7",),
    ("UPDATE made SET base = base + 1", "DELETE FROM made WHERE id = 2"),
    ("CREATE TABLE more(x)",),
    ("INSERT INTO keyed VALUES (NULL, 1, 2)",),
)


async def act(bench: Bench, run: str, *sql: str) -> str:
    caller = Caller(principal=ALICE.principal, client=secrets.token_hex(8))  # nobody who could have seen something else
    answer = await bench.call(
        "execute_sql", run, caller=caller, database="app.db", statements=[{"sql": each} for each in sql]
    )
    assert answer.status == "applied", answer.error
    return str(answer.action_id)


async def check(bench: Bench, db: Path, outside: Outside) -> None:
    """All of it back, all of it again, all of it back; then what others did in between."""
    run, before = await bench.start(), outside.dump(db)
    for sql in STATEMENTS:
        await act(bench, run, *sql)
    done = outside.dump(db)
    back = await bench.back(run_id=run)
    assert back.status == "complete", back.report
    assert outside.dump(db) == before, difference(before, outside.dump(db))
    redone = await bench.engine.redo(ALICE, str(back.rollback_id))
    assert redone.status == "complete", redone.report
    assert outside.dump(db) == done, difference(done, outside.dump(db))
    assert (await bench.back(run_id=run)).status == "complete"
    assert outside.dump(db) == before

    # a child of theirs keeps our parent there
    ours = await act(bench, await bench.start(), "INSERT INTO parent(name) VALUES ('ours')")
    outside.run(db, "INSERT INTO child(parent, note) SELECT id, 'theirs' FROM parent WHERE name = 'ours'")
    assert (await bench.back(actions=[ours])).status == "partial"
    assert outside.run(db, "PRAGMA foreign_key_check") == []
    # another column of theirs stays, the same one is a conflict
    ours = await act(bench, await bench.start(), "UPDATE keyed SET v = 9 WHERE k = 'k1'")
    outside.run(db, "UPDATE keyed SET w = 'theirs' WHERE k = 'k1'")
    assert (await bench.back(actions=[ours])).status == "complete"
    assert outside.run(db, "SELECT v, w FROM keyed WHERE k = 'k1'") == [[1, "theirs"]]
    await act(bench, await bench.start(), MANY)
    ours = await act(bench, await bench.start(), "UPDATE log SET new = 'ours'")
    outside.run(db, "UPDATE log SET new = 'theirs' WHERE rowid = 5")
    assert (await bench.back(actions=[ours])).status == "partial"
    assert outside.run(db, "SELECT new FROM log WHERE rowid = 5") == [["theirs"]]
    # where they have put one of many rows back themselves, the others follow
    [[earlier]] = outside.run(db, "SELECT what FROM log WHERE rowid = 6")
    ours = await act(bench, await bench.start(), "UPDATE log SET what = 'ours'")
    outside.run(db, "UPDATE log SET what = ? WHERE rowid = 6", earlier)
    back = await bench.back(actions=[ours])
    assert [step.outcome for step in back.steps] == ["merged"]
    assert outside.run(db, "SELECT count(*) FROM log WHERE what = 'ours'") == [[0]]


class Other:
    """A module of which some names mean something else."""

    def __init__(self, real: Any, **instead: Any) -> None:
        self._real, self._instead = real, instead

    def __getattr__(self, name: str) -> Any:
        return self._instead[name] if name in self._instead else getattr(self._real, name)


def blind(*turns: str) -> Callable[..., Any]:
    """A look at the world that says, in these turns of each swap, what one would like to see."""
    real, seen = swapping.look_all, [0]

    def look_all(connection: Any, wanted: Any, images: Any) -> Any:
        turn = ("before", "after")[seen[0] % 2]
        seen[0] += 1
        if turn in turns:
            return tuple(getattr(each.effect, turn) for each in wanted)
        return real(connection, wanted, images)

    return look_all


def overwriting(entry: Any, change: Change, stored: Any) -> Change:
    old = tuple(
        now if k or new is not SAME else SAME for now, new, k in zip(stored, change.new, change.table.key, strict=True)
    )
    return Change(change.table, Op.UPDATE, old, change.new)


def nothing(*_: Any, **__: Any) -> None:
    return None


def with_apsw(module: Any, **instead: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(module, "apsw", Other(apsw, **instead))


def with_other(module: Any, name: str, value: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(module, name, value)


def with_generated(connection: apsw.Connection, name: str, real: Any = schema._read) -> Any:
    found = real(connection, name)
    if found is None or found.name != "made":
        return found
    columns = (*found.columns[:2], "twice", *found.columns[2:])
    return replace(found, columns=columns, places=(*found.places[:2], 0, *found.places[2:]))


QPSG = apsw.SQLITE_DBCONFIG_ENABLE_QPSG  # a switch that does nothing here
MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "triggers left on": with_apsw(swapping, SQLITE_DBCONFIG_ENABLE_TRIGGER=QPSG),
    "foreign keys not held": with_apsw(swapping, SQLITE_DBCONFIG_ENABLE_FKEY=QPSG),
    "foreign key actions on": with_apsw(swapping, SQLITE_CHANGESETAPPLY_FKNOACTION=0),
    "no enforcement while a statement runs": with_apsw(execution, SQLITE_DBCONFIG_ENABLE_FKEY=QPSG),
    "rowids left where they are": with_other(swapping._Change, "_place", nothing),
    "counters left where they are": with_other(swapping._Change, "_count", nothing),
    "keys without rows unseen": with_apsw(capture, SQLITE_SESSION_OBJCONFIG_ROWID=apsw.SQLITE_SESSION_OBJCONFIG_SIZE),
    "the extension's account believed": with_other(capture, "_SURE", 10**9),
    "moved rows not followed": with_other(capture.RowCapture, "_on_write", nothing),
    "NULL in a key overlooked": with_other(capture.RowCapture, "_check_key", nothing),
    "DDL taken for rows": with_other(guard, "DDL", {}),
    "generated columns taken for stored ones": with_other(schema, "_read", with_generated),
    "many rows merged forwards instead of back": with_other(cells.Change, "reversed", lambda self: self),
    "their cells overwritten": with_other(merging, "_update", overwriting),
}


async def test_the_story_holds(bench: Bench, db: Path, outside: Outside) -> None:
    await check(bench, db, outside)


@pytest.mark.parametrize("db", ["wal"], indirect=True)  # once is enough
@pytest.mark.parametrize("name", MUTANTS)
async def test_a_mutant_is_caught(
    bench: Bench, db: Path, outside: Outside, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises((AssertionError, KeyError, AttributeError)):
        await check(bench, db, outside)


async def test_without_the_comparison_somebody_elses_row_would_be_lost(
    bench: Bench, db: Path, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same story with the comparison keeps their row, and without it does not."""
    for mutant, theirs in ((False, [["theirs"]]), (True, [[1]])):
        outside.run(db, "UPDATE keyed SET v = 1 WHERE k = 'k1'")
        ours = await act(bench, await bench.start(), "UPDATE keyed SET v = 9 WHERE k = 'k1'")
        plan = await bench.back(actions=[ours], dry_run=True)
        [step] = plan.steps
        assert step.outcome == "restored"
        [action] = [a for a in await actions(bench) if a.id == ours]
        outside.run(db, "UPDATE keyed SET v = 'theirs' WHERE k = 'k1'")
        if mutant:
            monkeypatch.setattr(swapping, "look_all", blind("before", "after"))
            monkeypatch.setattr(
                swapping, "apsw", Other(apsw, SQLITE_CHANGESET_ABORT=apsw.SQLITE_CHANGESET_REPLACE)
            )  # SQLite compares once more itself
        swapped = await bench.engine.core.systems["database"].swap([effect.reversed() for effect in action.effects])
        assert isinstance(swapped, Drifted) is not mutant
        assert outside.run(db, "SELECT v FROM keyed WHERE k = 'k1'") == theirs


@pytest.mark.parametrize("mutant", [False, True], ids=["kept", "lost by a mutant"])
async def test_among_many_rows_sqlite_itself_finds_theirs(
    bench: Bench, db: Path, outside: Outside, monkeypatch: pytest.MonkeyPatch, mutant: bool
) -> None:
    await act(bench, await bench.start(), MANY)
    ours = await act(bench, await bench.start(), "UPDATE log SET new = 'ours and long enough to be many bytes'")
    [action] = [a for a in await actions(bench) if a.id == ours]
    outside.run(db, "UPDATE log SET new = 'theirs' WHERE rowid = 5")
    if mutant:
        instead = {"SQLITE_CHANGESET_ABORT": apsw.SQLITE_CHANGESET_REPLACE}
        monkeypatch.setattr(swapping, "apsw", Other(apsw, **instead))
    swapped = await bench.engine.core.systems["database"].swap([effect.reversed() for effect in action.effects])
    assert isinstance(swapped, Drifted) is not mutant
    assert outside.run(db, "SELECT new FROM log WHERE rowid = 5") == [[5 if mutant else "theirs"]]


async def actions(bench: Bench) -> list[Any]:
    return list(await bench.engine.core.journal.find(ActionView))


async def test_what_is_not_what_was_wanted_is_never_called_restored(
    bench: Bench, db: Path, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that does not get through is found by reading back, and nothing of the rest is kept."""
    ours = await act(bench, await bench.start(), "UPDATE keyed SET v = 9")
    before = outside.dump(db)
    monkeypatch.setattr(swapping.cells, "write", lambda changes, real=swapping.cells.write: real(list(changes)[:-1]))
    assert (await bench.back(actions=[ours])).status != "complete"
    assert outside.dump(db) == before
    monkeypatch.setattr(swapping, "look_all", blind("after"))
    assert (await bench.back(actions=[ours])).status == "complete", "the mutant without reading back lives"
    assert outside.dump(db) != before


@pytest.mark.parametrize("mutant", [False, True], ids=["kept", "lost by a mutant"])
async def test_what_somebody_writes_just_before_a_database_is_put_back_is_kept(
    bench: Bench, db: Path, outside: Outside, monkeypatch: pytest.MonkeyPatch, mutant: bool
) -> None:
    """Between the look and the lock: without a fingerprint over every cell the copying would lose it."""
    if mutant:
        monkeypatch.setattr(whole, "fingerprint", lambda *_: (0, ""))
    ours = await act(bench, await bench.start(), "CREATE TABLE more(x)")
    real = restoring.restore

    def restore(*given: Any) -> Any:
        outside.run(db, "INSERT INTO log VALUES ('theirs', 1, 2)")
        return real(*given)

    monkeypatch.setattr(restoring, "restore", restore)
    assert (await bench.back(actions=[ours])).status == ("complete" if mutant else "partial")
    assert outside.run(db, "SELECT count(*) FROM log WHERE what = 'theirs'") == [[0 if mutant else 1]]
