"""How far each kind of statement can be taken back, as a table: for people, and held against the code by a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

How = Literal["exact", "compensable", "irreversible", "refused"]


@dataclass(frozen=True, slots=True)
class Class:
    """One line of the table."""

    what: str
    how: How
    why: str
    example: str
    """A statement of that kind on the tables `t (id int primary key, v text)` and `keyless (v text)`."""


CLASSES: Final = (
    Class("INSERT, UPDATE, DELETE, MERGE, upserts", "exact", "every row, by its key", "UPDATE t SET v = 'x'"),
    Class("the same on a table without a key", "exact", "rows are counted", "DELETE FROM keyless"),
    Class(
        "cascades, triggers, rules, views, functions, DO, CALL",
        "exact",
        "what they changed is seen too",
        "DO $$ BEGIN DELETE FROM t; END $$",
    ),
    Class(
        "the same where the role may not keep triggers and cascades silent",
        "compensable",
        "they run again when rows are put back",
        "",
    ),
    Class("counters (sequences)", "exact", "set back if nobody else drew from them", "SELECT nextval('counter')"),
    Class("TRUNCATE", "exact", "all rows are kept", "TRUNCATE t"),
    Class(
        "CREATE TABLE, CREATE TABLE AS, SELECT INTO",
        "exact",
        "moved aside if nobody put rows in",
        "CREATE TABLE n (id int)",
    ),
    Class("DROP TABLE", "exact", "moved into the graveyard instead", "DROP TABLE t"),
    Class(
        "DROP TABLE … CASCADE where something depends on it",
        "irreversible",
        "what depends on it goes",
        "DROP TABLE t CASCADE",
    ),
    Class(
        "partitions and tables that inherit: CREATE, DROP",
        "irreversible",
        "they cannot be moved aside",
        "CREATE TABLE n () INHERITS (t)",
    ),
    Class("ALTER TABLE", "irreversible", "the order and content of columns is lost", "ALTER TABLE t DROP COLUMN v"),
    Class("CREATE, ALTER, DROP of anything else", "irreversible", "no image is kept", "CREATE INDEX ON t (v)"),
    Class("GRANT, REVOKE, COMMENT", "irreversible", "no image is kept", "COMMENT ON TABLE t IS 'x'"),
    Class("more rows or bytes than are kept (`capture_rows`, `capture_bytes`)", "irreversible", "no image is kept", ""),
    Class(
        "foreign tables, large objects, REFRESH MATERIALIZED VIEW",
        "irreversible",
        "no image is kept",
        "REFRESH MATERIALIZED VIEW m",
    ),
    Class(
        "tables that the role may not read or not write, or of which row security hides rows",
        "irreversible",
        "images would have gaps",
        "",
    ),
    Class("BEGIN, COMMIT, ROLLBACK, SAVEPOINT, SET, RESET, LOCK", "refused", "the transaction is takeback's", "COMMIT"),
    Class("VACUUM, REINDEX, CREATE DATABASE, … CONCURRENTLY", "refused", "not inside a transaction", "VACUUM"),
    Class("CREATE, ALTER, DROP ROLE", "refused", "roles belong to the whole server", "DROP ROLE somebody"),
    Class("COPY, LISTEN, NOTIFY", "refused", "reaches outside", "COPY t TO '/tmp/x'"),
    Class(
        "functions that reach outside or outlive the transaction",
        "refused",
        "`pg_notify`, `dblink`, `lo_*`, advisory locks …",
        "SELECT pg_notify('a', 'b')",
    ),
)


def table() -> str:
    """The table in Markdown."""
    lines = ["| statement | undo | why |", "|---|---|---|"]
    lines += [f"| {each.what} | {each.how} | {each.why} |" for each in CLASSES]
    return "\n".join(lines)
