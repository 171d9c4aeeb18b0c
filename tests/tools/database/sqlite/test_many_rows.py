"""Statements that change many rows: one image each, compared and put back by SQLite itself, merged row by row."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench
from tests.tools.database.sqlite.outside import Outside, difference

from takeback.journal.events import Caller

MANY = (
    "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 1000)"
    " INSERT INTO parent(id, name, amount) SELECT n + 100, 'row ' || n, n + 1000 FROM i"
)


async def act(bench: Bench, sql: str) -> Any:
    answer = await bench.call(
        "execute_sql",
        await bench.start(),
        caller=Caller(principal=ALICE.principal, client=secrets.token_hex(8)),
        database="app.db",
        sql=sql,
    )
    assert answer.status == "applied", answer.error
    return answer


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE parent SET amount = amount + 1 WHERE id > 100",
        "UPDATE parent SET name = 'other ' || id WHERE id > 500",
        "UPDATE parent SET id = 10000 - id WHERE id > 100",
        "DELETE FROM parent WHERE id <> 3",
        "INSERT INTO keyed SELECT 'k ' || id, id, x'00ff' FROM parent WHERE id > 100",
        "INSERT INTO log SELECT name, amount, 0.5 FROM parent",
    ],
)
async def test_they_come_back_and_again(bench: Bench, db: Path, outside: Outside, sql: str) -> None:
    outside.run(db, MANY)
    before = outside.dump(db)
    answer = await act(bench, sql)
    after = outside.dump(db)
    assert after != before
    back = await bench.back(actions=[answer.action_id])
    assert [step.outcome for step in back.steps] == ["restored"], back.report
    assert outside.dump(db) == before, difference(before, outside.dump(db))
    redone = await bench.engine.redo(ALICE, str(back.rollback_id))
    assert redone.status == "complete", redone.report
    assert outside.dump(db) == after, difference(after, outside.dump(db))


async def test_what_others_changed_among_them_stays(bench: Bench, db: Path, outside: Outside) -> None:
    outside.run(db, MANY)
    answer = await act(bench, "UPDATE parent SET amount = -1 WHERE id > 100")
    outside.run(db, "DROP TRIGGER logged")
    outside.run(db, "UPDATE parent SET name = 'theirs' WHERE id = 200")
    outside.run(db, "UPDATE parent SET amount = 1100 WHERE id = 200")  # as it was before
    back = await bench.back(actions=[answer.action_id])
    assert [step.outcome for step in back.steps] == ["merged"], back.report
    assert outside.run(db, "SELECT name, amount FROM parent WHERE id IN (200, 201)") == [
        ["theirs", 1100],
        ["row 101", 1101],
    ]
    again = await bench.engine.redo(ALICE, str(back.rollback_id))
    assert again.status == "complete", again.report
    assert outside.run(db, "SELECT count(*) FROM parent WHERE amount = -1") == [[999]]

    answer = await act(bench, "UPDATE parent SET name = name || '!' WHERE id > 100")
    outside.run(db, "UPDATE parent SET name = 'theirs too' WHERE id = 300")
    before = outside.dump(db)
    back = await bench.back(actions=[answer.action_id])
    assert [(step.outcome, step.why) for step in back.steps] == [
        ("conflict", "parent 300: somebody else changed the same column, name")
    ]
    assert outside.dump(db) == before


async def test_a_row_of_theirs_that_needs_them_keeps_them(bench: Bench, db: Path, outside: Outside) -> None:
    answer = await act(bench, MANY)
    outside.run(db, "INSERT INTO child(parent, note) VALUES (900, 'theirs')")
    before = outside.dump(db)
    back = await bench.back(actions=[answer.action_id])
    assert [step.outcome for step in back.steps] == ["conflict"]
    assert "foreign key" in back.steps[0].why
    assert outside.dump(db) == before


async def test_a_preview_tells_the_rows_of_each_table_and_the_first_of_them(
    bench: Bench, db: Path, outside: Outside
) -> None:
    outside.run(db, MANY)
    before = outside.dump(db)
    answer = await bench.call(
        "execute_sql", await bench.start(), database="app.db", sql="DELETE FROM parent WHERE id <> 3", dry_run=True
    )
    assert answer.status == "shadowed"
    assert answer.reversibility == "reversible"
    assert answer.preview is not None
    [parents, children] = sorted(answer.preview, reverse=True)
    assert parents.startswith("app.db: parent: 1,002 rows deleted\n- id=")
    assert parents.endswith("… and 992 more rows")
    assert children.startswith("app.db: child: 3 rows deleted\n- id=1, parent=1, note=x")
    assert outside.dump(db) == before
