"""Random statements over a schema that has everything that is hard to take back."""

from __future__ import annotations

import random
from typing import Any

SCHEMA = """
CREATE TABLE parent(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, amount);
CREATE TABLE child(id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent(id) ON DELETE CASCADE ON UPDATE CASCADE, note TEXT);
CREATE TABLE loose(parent INTEGER REFERENCES parent(id) ON DELETE SET NULL, note);
CREATE TABLE tree(id INTEGER PRIMARY KEY, up INTEGER REFERENCES tree(id) ON DELETE CASCADE, label);
CREATE TABLE keyed(k TEXT PRIMARY KEY NOT NULL, v, w);
CREATE TABLE pair(a, b NOT NULL, v, PRIMARY KEY(b, a)) WITHOUT ROWID;
CREATE TABLE both(a INTEGER NOT NULL, b TEXT NOT NULL COLLATE NOCASE, v UNIQUE, PRIMARY KEY(b, a));
CREATE TABLE bare(x, y, z);
CREATE TABLE made(id INTEGER PRIMARY KEY, base INTEGER, twice GENERATED ALWAYS AS (base * 2) STORED,
                  thrice GENERATED ALWAYS AS (base * 3) VIRTUAL, tail TEXT);
CREATE TABLE strict(id INTEGER PRIMARY KEY, r REAL, i INT, t TEXT, b BLOB, a ANY) STRICT;
CREATE TABLE nulls(k TEXT PRIMARY KEY, v);
CREATE TABLE log(id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT, old, new);
CREATE TABLE "odd ""name"" ü/x,1"("a b" INTEGER PRIMARY KEY, "select" TEXT, "100%" REAL);
CREATE INDEX keyed_v ON keyed(v);
CREATE VIEW joined AS SELECT parent.id AS id, parent.name AS name, child.note AS note
  FROM parent LEFT JOIN child ON child.parent = parent.id;
CREATE VIRTUAL TABLE words USING fts5(title, body);
CREATE VIRTUAL TABLE outside USING fts5(note, content='child', content_rowid='id');
CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1, y0, y1);
CREATE TRIGGER logged AFTER UPDATE ON parent BEGIN
  INSERT INTO log(what, old, new) VALUES ('parent', old.amount, new.amount);
END;
CREATE TRIGGER counted AFTER INSERT ON child BEGIN
  UPDATE parent SET amount = coalesce(amount, 0) + 1 WHERE id = new.parent;
END;
CREATE TRIGGER echoed BEFORE DELETE ON keyed BEGIN INSERT INTO log(what, old) VALUES ('keyed', old.v); END;
CREATE TRIGGER through INSTEAD OF INSERT ON joined BEGIN
  INSERT INTO parent(name) VALUES (new.name);
  INSERT INTO child(parent, note) VALUES (last_insert_rowid(), new.note);
END;
CREATE TRIGGER away INSTEAD OF DELETE ON joined BEGIN DELETE FROM parent WHERE id = old.id; END;
CREATE TRIGGER told AFTER INSERT ON child BEGIN INSERT INTO outside(rowid, note) VALUES (new.id, new.note); END;
CREATE TRIGGER untold AFTER DELETE ON child BEGIN
  INSERT INTO outside(outside, rowid, note) VALUES ('delete', old.id, old.note);
END;
CREATE TRIGGER retold AFTER UPDATE OF id, note ON child BEGIN
  INSERT INTO outside(outside, rowid, note) VALUES ('delete', old.id, old.note);
  INSERT INTO outside(rowid, note) VALUES (new.id, new.note);
END;
"""

VALUES: tuple[Any, ...] = (
    None,
    0,
    1,
    -1,
    2**63 - 1,
    -(2**63),
    0.5,
    {"real": (-0.0).hex()},
    {"real": "inf"},
    {"real": (1e300).hex()},
    "",
    "alpha",
    "beta gamma",
    "O'Brien\n\t",
    "äöü 😀",
    {"base64": ""},
    {"base64": "AAH/gA=="},
    {"base64": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"},
)
WORDS = ("alpha", "beta", "gamma", "delta", "alpha beta", "gamma delta alpha")
MANY = "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n"
ODD = '"odd ""name"" ü/x,1"'

Statement = tuple[str, list[Any]]


def statement(chance: random.Random, *, ddl: float = 0.12) -> Statement:
    """One random statement with its values; it may well be refused.

    :param ddl: how often one that changes more than rows.
    """

    def n(high: int = 12) -> int:
        return chance.randrange(1, high)

    def v() -> Any:
        return chance.choice(VALUES)

    def word() -> str:
        return chance.choice(WORDS)

    def key() -> str:
        return chance.choice("abcdeABCDE")

    rows: list[Statement] = [
        ("INSERT INTO parent(name, amount) VALUES (?, ?)", [f"p{n()}", v()]),
        ("INSERT INTO parent(id, name) VALUES (?, ?)", [n(), f"p{n()}"]),
        ("INSERT OR REPLACE INTO parent(id, name, amount) VALUES (?, ?, ?)", [n(), f"p{n()}", v()]),
        (
            "INSERT INTO parent(name, amount) VALUES (?, 1) ON CONFLICT(name) DO UPDATE SET amount = 'again', name = name",
            [f"p{n()}"],
        ),
        ("UPDATE parent SET amount = ? WHERE id < ?", [v(), n()]),
        ("UPDATE parent SET id = id + 100 WHERE id = ?", [n()]),
        ("UPDATE OR REPLACE parent SET name = ? WHERE id = ?", [f"p{n()}", n()]),
        ("DELETE FROM parent WHERE id % 3 = ?", [n(3)]),
        ("DELETE FROM parent", []),
        ("INSERT INTO child(parent, note) SELECT id, ? FROM parent", [word()]),
        ("UPDATE child SET note = ? WHERE id % 2 = 0", [word()]),
        ("DELETE FROM child WHERE id > ?", [n()]),
        ("INSERT INTO loose SELECT id, ? FROM parent LIMIT 3", [v()]),
        ("UPDATE loose SET note = ? WHERE rowid = ?", [v(), n()]),
        ("UPDATE loose SET rowid = rowid + ?", [n()]),
        ("INSERT INTO tree(id, up, label) VALUES (?, ?, ?)", [n(), None, v()]),
        ("INSERT INTO tree(up, label) SELECT id, ? FROM tree LIMIT 2", [v()]),
        ("DELETE FROM tree WHERE id = ?", [n()]),
        ("INSERT INTO keyed VALUES (?, ?, ?)", [key(), v(), v()]),
        ("INSERT OR REPLACE INTO keyed VALUES (?, ?, ?)", [key(), v(), v()]),
        ("INSERT OR REPLACE INTO keyed SELECT * FROM keyed", []),
        ("REPLACE INTO keyed(rowid, k, v) VALUES (?, ?, ?)", [n(), key(), v()]),
        ("INSERT INTO keyed VALUES (?, ?, 1) ON CONFLICT(k) DO UPDATE SET v = excluded.v", [key(), v()]),
        ("UPDATE keyed SET rowid = 20 - rowid WHERE rowid < 20", []),
        ("UPDATE keyed SET k = k || 'x' WHERE rowid = ?", [n()]),
        ("DELETE FROM keyed WHERE rowid >= ?", [n()]),
        ("INSERT OR IGNORE INTO pair VALUES (?, ?, ?)", [n(4), n(4), v()]),
        ("UPDATE OR IGNORE pair SET a = a + 1, v = ? WHERE b = ?", [v(), n(4)]),
        ("DELETE FROM pair WHERE a = ?", [n(4)]),
        ("INSERT OR REPLACE INTO both VALUES (?, ?, ?)", [n(3), key(), v()]),
        ("UPDATE OR REPLACE both SET b = ? WHERE a = ?", [key(), n(3)]),
        ("UPDATE both SET b = upper(b)", []),
        ("DELETE FROM both WHERE b = ?", [key()]),
        ("INSERT INTO bare VALUES (?, ?, ?)", [v(), v(), v()]),
        ("INSERT INTO bare SELECT y, z, x FROM bare LIMIT 4", []),
        ("UPDATE bare SET x = ?, y = z WHERE rowid % 2", [v()]),
        ("DELETE FROM bare WHERE rowid > ?", [n()]),
        ("DELETE FROM bare", []),
        ("INSERT INTO made(base, tail) VALUES (?, ?)", [n(), word()]),
        ("UPDATE made SET base = base + 1", []),
        ("DELETE FROM made WHERE thrice > ?", [n(30)]),
        ("INSERT INTO strict(r, i, t, b, a) VALUES (?, ?, ?, ?, ?)", [0.25, n(), word(), {"base64": "AP8="}, v()]),
        ("UPDATE strict SET a = ?, r = ? WHERE id = ?", [v(), chance.random(), n()]),
        ("INSERT INTO joined(name, note) VALUES (?, ?)", [f"p{n()}", word()]),
        ("DELETE FROM joined WHERE id = ?", [n()]),
        ("INSERT INTO words(title, body) VALUES (?, ?)", [word(), word()]),
        ("UPDATE words SET body = ? WHERE rowid = ?", [word(), n(5)]),
        ("DELETE FROM words WHERE words MATCH ?", [chance.choice(("alpha", "beta"))]),
        ("INSERT INTO words(words) VALUES ('optimize')", []),
        ("INSERT INTO boxes VALUES (?, ?, ?, 0, 1)", [n(), n(), 20]),
        ("DELETE FROM boxes WHERE x0 < ?", [n()]),
        (f"INSERT OR REPLACE INTO {ODD} VALUES (?, ?, ?)", [n(), word(), 1.5]),
        (f'UPDATE {ODD} SET "select" = ? WHERE "a b" = ?', [word(), n()]),
        ("UPDATE bare SET x = CAST(x'ff80fe' AS TEXT) WHERE rowid = ?", [n()]),
        ("INSERT INTO keyed VALUES (CAST(x'c328' AS TEXT), ?, 1)", [v()]),
        (
            f"{MANY} < 150) INSERT INTO bare SELECT n, ?, n FROM i",
            [v()],
        ),
        (
            f"{MANY} < 130) INSERT OR REPLACE INTO keyed SELECT 'm' || n, ?, n FROM i",
            [v()],
        ),
        ("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'parent'", [n()]),
        ("DELETE FROM log", []),
        ("DELETE FROM parent WHERE id IN (SELECT id FROM parent ORDER BY random() LIMIT 1) RETURNING id, name", []),
    ]
    whole: list[Statement] = [
        ("CREATE TABLE IF NOT EXISTS extra(a, b)", []),
        ("INSERT INTO extra VALUES (?, ?)", [v(), v()]),
        ("DROP TABLE IF EXISTS extra", []),
        ("ALTER TABLE made ADD COLUMN more DEFAULT 7", []),
        ("ALTER TABLE made DROP COLUMN more", []),
        ("CREATE INDEX IF NOT EXISTS bare_x ON bare(x)", []),
        ("DROP INDEX IF EXISTS bare_x", []),
        ("DROP TABLE IF EXISTS loose", []),
        ("INSERT INTO nulls VALUES (?, ?)", [chance.choice((None, "a", "b")), v()]),
        ("UPDATE nulls SET v = ?", [v()]),
        (f"PRAGMA user_version = {n()}", []),
        ("CREATE TABLE copied AS SELECT * FROM keyed", []),
        ("DROP TABLE IF EXISTS copied", []),
        ("ANALYZE", []),
        ("REINDEX", []),
    ]
    return chance.choice(whole) if chance.random() < ddl else chance.choice(rows)


def foreign(chance: random.Random) -> Statement:
    """What somebody else does meanwhile. Its mark can be looked for afterwards."""
    mark = f"theirs {chance.randrange(10**9)}"
    choices: list[Statement] = [
        ("INSERT INTO parent(name, amount) VALUES (?, 5)", [mark]),
        ("UPDATE parent SET amount = ? WHERE id = (SELECT min(id) FROM parent)", [mark]),
        ("UPDATE child SET note = ? WHERE id = (SELECT max(id) FROM child)", [mark]),
        ("UPDATE keyed SET w = ? WHERE rowid = (SELECT min(rowid) FROM keyed)", [mark]),
        ("INSERT INTO keyed VALUES (?, 1, 2)", [mark]),
        ("INSERT INTO bare VALUES (?, 1, 2)", [mark]),
        ("UPDATE bare SET z = ? WHERE rowid = (SELECT max(rowid) FROM bare)", [mark]),
        ("UPDATE pair SET v = ? WHERE a = 1", [mark]),
        ("INSERT INTO words(title, body) VALUES (?, 'alpha')", [mark]),
        ("UPDATE made SET tail = ?", [mark]),
    ]
    return chance.choice(choices)
