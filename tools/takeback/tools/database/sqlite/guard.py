"""What a statement may do, as SQLite's authorizer sees it: while it is prepared, in triggers and in whatever it calls.

`KINDS` is also what the table in the documentation is made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import apsw

from takeback.tools.contract import ToolError

READING_PRAGMAS: Final = frozenset(
    [
        "application_id",
        "auto_vacuum",
        "collation_list",
        "compile_options",
        "data_version",
        "encoding",
        "foreign_key_check",
        "foreign_key_list",
        "foreign_keys",
        "freelist_count",
        "function_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "journal_mode",
        "module_list",
        "page_count",
        "page_size",
        "pragma_list",
        "quick_check",
        "recursive_triggers",
        "schema_version",
        "synchronous",
        "table_info",
        "table_list",
        "table_xinfo",
        "user_version",
    ]
)
"""Those that tell something, without a value or with the name of a thing."""
NAMING_PRAGMAS: Final = frozenset(
    [
        "foreign_key_check",
        "foreign_key_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "quick_check",
        "table_info",
        "table_list",
        "table_xinfo",
    ]
)
"""Those of them whose value is such a name."""
KEPT_PRAGMAS: Final = frozenset({"application_id", "user_version"})
"""Those that may be set: what they change lies in the file and comes back with its image."""

DDL: Final = {
    apsw.SQLITE_ALTER_TABLE: "ALTER TABLE",
    apsw.SQLITE_ANALYZE: "ANALYZE",
    apsw.SQLITE_CREATE_INDEX: "CREATE INDEX",
    apsw.SQLITE_CREATE_TABLE: "CREATE TABLE",
    apsw.SQLITE_CREATE_TRIGGER: "CREATE TRIGGER",
    apsw.SQLITE_CREATE_VIEW: "CREATE VIEW",
    apsw.SQLITE_CREATE_VTABLE: "CREATE VIRTUAL TABLE",
    apsw.SQLITE_DROP_INDEX: "DROP INDEX",
    apsw.SQLITE_DROP_TABLE: "DROP TABLE",
    apsw.SQLITE_DROP_TRIGGER: "DROP TRIGGER",
    apsw.SQLITE_DROP_VIEW: "DROP VIEW",
    apsw.SQLITE_DROP_VTABLE: "DROP TABLE",
    apsw.SQLITE_REINDEX: "REINDEX",
}
"""What no rows can tell: the whole database is kept."""
_TEMPORARY: Final = frozenset(
    {
        apsw.SQLITE_CREATE_TEMP_INDEX,
        apsw.SQLITE_CREATE_TEMP_TABLE,
        apsw.SQLITE_CREATE_TEMP_TRIGGER,
        apsw.SQLITE_CREATE_TEMP_VIEW,
        apsw.SQLITE_DROP_TEMP_INDEX,
        apsw.SQLITE_DROP_TEMP_TABLE,
        apsw.SQLITE_DROP_TEMP_TRIGGER,
        apsw.SQLITE_DROP_TEMP_VIEW,
    }
)
_FUNCTIONS: Final = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})
_WRITES: Final = frozenset({apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE})


@dataclass(frozen=True, slots=True)
class Denied:
    """A refusal."""

    fact: str
    advice: str
    code: str = "denied_sql"

    def error(self) -> ToolError:
        """As the tools say it."""
        return ToolError(self.fact, advice=self.advice, code=self.code)


TRANSACTIONS: Final = Denied(
    "A call is one transaction already; BEGIN, COMMIT, ROLLBACK and SAVEPOINT are not for its statements.",
    "Pass several statements as `statements`: all of them happen, or none.",
)
ATTACHING: Final = Denied(
    "Statements reach one database only: ATTACH and DETACH are refused.",
    "Read from the one and write to the other in two calls.",
)
VACUUMING: Final = Denied(
    "VACUUM writes the whole file anew, or another one, and is refused.", "Run it with SQLite's own program."
)
EXTENSIONS: Final = Denied("Functions that reach files or code outside of the database are refused.", "Use SQL alone.")
TEMPORARY: Final = Denied(
    "Temporary tables, views and triggers would be gone with the call.",
    "Use a CTE (WITH ... AS), or an ordinary table.",
)
PRAGMA: Final = Denied(
    "This PRAGMA changes how the database works or is stored, and is refused.",
    "Do without it; user_version and application_id may be set, and those that only tell something are allowed.",
)
WRITING: Final = Denied("query_database only reads, and this statement writes.", "Use execute_sql for it.", "writes")


@dataclass(slots=True)
class Guard:
    """One statement's, or one call's, authorizer. `denied` says why something was refused."""

    reading: bool
    """Nothing that writes gets through."""
    written: set[str] = field(default_factory=lambda: set[str]())
    """Tables of the main database that rows are written to."""
    whole: dict[str, None] = field(default_factory=lambda: dict[str, None]())
    """What changes the database beyond its rows (`DDL`), in words."""
    denied: Denied | None = None
    wrote: bool = False
    """Rows are written; whoever asks per statement clears it before each."""
    internal: bool = False
    """Our own statements are running."""

    def __call__(
        self, op: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        """SQLite's question."""
        if self.internal:
            return apsw.SQLITE_OK
        refused = self._judge(op, first, second)
        if refused is None:
            return apsw.SQLITE_OK
        if self.denied is None:
            self.denied = refused
        return apsw.SQLITE_DENY

    def _judge(self, op: int, first: str | None, second: str | None) -> Denied | None:
        if op in (apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT):
            return TRANSACTIONS
        if op in (apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH):
            return ATTACHING
        if op == apsw.SQLITE_FUNCTION:
            return EXTENSIONS if (second or "").lower() in _FUNCTIONS else None
        if op == apsw.SQLITE_PRAGMA:
            return self._pragma((first or "").lower(), second)
        if op in _TEMPORARY:
            return WRITING if self.reading else TEMPORARY
        if op in DDL:
            if self.reading:
                return WRITING
            self.whole[DDL[op]] = None
        elif op in _WRITES and first is not None:
            return self._write(first)
        return None

    def _write(self, table: str) -> Denied | None:
        if self.reading:
            return WRITING
        folded = table.lower()
        if folded.startswith("sqlite_stat"):
            self.whole["changing SQLite's statistics"] = None
        if not folded.startswith("sqlite_"):
            self.written.add(table)
        self.wrote = True
        return None

    def _pragma(self, name: str, value: str | None) -> Denied | None:
        if name in READING_PRAGMAS and (value is None or name in NAMING_PRAGMAS):
            return None
        if self.reading:
            return WRITING if name in KEPT_PRAGMAS else PRAGMA
        if name not in KEPT_PRAGMAS:
            return PRAGMA
        self.whole[f"PRAGMA {name}"] = None
        return None


Tier = Literal["rows", "database", "refused"]

KINDS: Final[tuple[tuple[str, Tier, str], ...]] = (
    ("INSERT, UPDATE, DELETE, REPLACE, upserts, WITH", "rows", "cascades, triggers and generated columns included"),
    ("changes through views with INSTEAD OF triggers", "rows", "as the triggers' own changes"),
    ("changes of FTS5, FTS4 and R-Tree tables", "rows", "as rows of the tables they keep their content in"),
    ("changes of tables with NULL in their key", "database", "such rows cannot be told apart"),
    (", ".join(dict.fromkeys(DDL.values())), "database", "the whole database is kept as it was"),
    (" and ".join(f"PRAGMA {name} = …" for name in sorted(KEPT_PRAGMAS)), "database", "lies in the file itself"),
    ("BEGIN, COMMIT, ROLLBACK, SAVEPOINT", "refused", TRANSACTIONS.fact),
    ("ATTACH, DETACH", "refused", ATTACHING.fact),
    ("VACUUM, VACUUM INTO", "refused", VACUUMING.fact),
    ("load_extension() and the like", "refused", EXTENSIONS.fact),
    ("temporary tables, views, triggers", "refused", TEMPORARY.fact),
    ("all other PRAGMAs that change something", "refused", PRAGMA.fact),
)
"""Kinds of statements, how each is taken back, and a word on it."""
