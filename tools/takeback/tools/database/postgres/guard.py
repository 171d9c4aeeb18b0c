"""What is not run at all, and why: transaction control, what leaves the database, what PostgreSQL cannot take back itself.

This is the first of three walls. The second is the protocol (one statement a message), the third is the role: nothing here can
know what a function does. What gets through is watched while it runs (`capture.py`), and said if it cannot be taken back.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, Literal

from takeback.tools.contract import ToolError
from takeback.tools.database.postgres.scanning import Token, one_statement, scan

Kind = Literal["read", "write", "table", "drop", "truncate", "schema"]
"""What a statement is by its first words: it reads; it changes rows; it makes a table; it drops tables; it empties tables; it
changes the schema in another way."""

READS: Final = frozenset({"select", "values", "table", "with", "show", "explain"})
_WRITES: Final = frozenset({"insert", "update", "delete", "merge", "do", "call"})
_SCHEMA: Final = frozenset(
    {"create", "alter", "drop", "comment", "grant", "revoke", "refresh", "security", "import", "reassign", "analyze"}
)

_TRANSACTION = "It would end or change the transaction in which takeback watches what happens."
_SESSION = "It changes the session, which ends with the call."
_OUTSIDE = "It reaches outside the database, where nothing can be taken back."
_ALONE = "PostgreSQL does not run it inside a transaction, so it could not be taken back."
_PREPARED = "Prepared statements and cursors end with the call."
REFUSED: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"),
        _TRANSACTION,
    ),
    **dict.fromkeys(("set", "reset", "discard", "load"), _SESSION),
    "lock": "Its locks would end with the call.",
    **dict.fromkeys(("prepare", "execute", "deallocate", "declare", "fetch", "move", "close"), _PREPARED),
    **dict.fromkeys(("listen", "unlisten", "notify"), "Who listens cannot be made to forget."),
    "copy": _OUTSIDE,
    **dict.fromkeys(("vacuum", "cluster", "reindex", "checkpoint", "repack"), _ALONE),
}
"""Statements that are never run, by their first word, and why."""
REFUSED_PAIRS: Final[dict[tuple[str, str], str]] = {
    ("alter", "system"): _OUTSIDE,
    **{
        (verb, what): _ALONE
        for verb in ("create", "drop", "alter")
        for what in ("database", "tablespace", "subscription")
    },
    **{
        (verb, what): "Roles belong to the whole server, not to this database."
        for verb in ("create", "drop", "alter")
        for what in ("role", "user", "group")
    },
    ("prepare", "transaction"): _TRANSACTION,
}

# fmt: off
FUNCTIONS: Final = frozenset({
    "cursor_to_xml", "cursor_to_xmlschema", "lo_close", "lo_creat", "lo_create", "lo_export", "lo_from_bytea",
    "lo_get", "lo_import", "lo_lseek", "lo_lseek64", "lo_open", "lo_put", "lo_tell", "lo_tell64", "lo_truncate",
    "lo_truncate64", "lo_unlink", "lo_write", "loread", "lowrite", "pg_backup_start", "pg_backup_stop",
    "pg_buffercache_evict", "pg_cancel_backend", "pg_clear_attribute_stats", "pg_clear_relation_stats",
    "pg_copy_logical_replication_slot", "pg_copy_physical_replication_slot", "pg_create_logical_replication_slot",
    "pg_create_physical_replication_slot", "pg_create_restore_point", "pg_current_logfile",
    "pg_drop_replication_slot", "pg_export_snapshot", "pg_extension_config_dump", "pg_file_rename", "pg_file_sync",
    "pg_file_unlink", "pg_file_write", "pg_import_system_collations", "pg_log_backend_memory_contexts",
    "pg_logdir_ls", "pg_logical_emit_message", "pg_logical_slot_get_binary_changes", "pg_logical_slot_get_changes",
    "pg_logical_slot_peek_changes", "pg_ls_archive_statusdir", "pg_ls_dir", "pg_ls_logdir", "pg_ls_tmpdir",
    "pg_ls_waldir", "pg_nextoid", "pg_notify", "pg_prewarm", "pg_promote", "pg_read_binary_file", "pg_read_file",
    "pg_reload_conf", "pg_replication_origin_advance", "pg_replication_origin_create", "pg_replication_origin_drop",
    "pg_replication_origin_session_reset", "pg_replication_origin_session_setup", "pg_replication_origin_xact_setup",
    "pg_replication_slot_advance", "pg_restore_attribute_stats", "pg_restore_relation_stats", "pg_rotate_logfile",
    "pg_stat_file", "pg_stat_reset", "pg_stat_reset_replication_slot", "pg_stat_reset_shared",
    "pg_stat_reset_single_function_counters", "pg_stat_reset_single_table_counters", "pg_stat_reset_slru",
    "pg_stat_reset_subscription_stats", "pg_stat_statements_reset", "pg_switch_wal", "pg_sync_replication_slots",
    "pg_terminate_backend", "pg_wal_replay_pause", "pg_wal_replay_resume", "query_to_xml",
    "query_to_xml_and_xmlschema", "query_to_xmlschema", "set_config", "ts_stat",
})
# fmt: on
"""Functions that reach outside, outlive the transaction or run other texts. `READ ONLY` lets most of them through."""
_FUNCTION_FAMILIES: Final = re.compile(
    r"(pg_(try_)?advisory_\w+|dblink\w*|postgres_fdw_\w+|crosstab\w*|connectby|xpath_table|pg_logical_\w+|http(_\w+)?"
    r"|pg_binary_upgrade_\w+|binary_upgrade_\w+|heap_force_\w+|cron\w*|pgstattuple\w*|lo_\w+)\Z"
)

_TOLD: Final = frozenset({"notify", "listen", "unlisten", "copy", "load"})
"""Statements that a DO block may not hold either; PostgreSQL itself refuses it those that end transactions."""
_BEGINNINGS: Final = frozenset(
    {Token("sign", ";"), *(Token("word", word) for word in ("begin", "then", "else", "loop", "exception", "execute"))}
)
"""What stands before a statement in a block."""


def kind_of(sql: str) -> Kind:
    """What a statement is.

    :raises ToolError: it is refused, with the reason; or it is not exactly one statement.
    """
    tokens = one_statement(sql)
    words = [token.text for token in tokens if token.kind == "word"]
    first, second = _leading(tokens)
    if (why := REFUSED_PAIRS.get((first, second)) or REFUSED.get(first)) is not None:
        raise _refusal(f"{first.upper()} {second.upper()}" if (first, second) in REFUSED_PAIRS else first.upper(), why)
    _check_functions(tokens)
    if "concurrently" in words and first in ("create", "drop", "refresh", "alter"):
        raise _refusal(f"{first.upper()} … CONCURRENTLY", _ALONE)
    if first in READS:
        made = first in ("select", "with", "table", "values") and _selects_into(tokens)
        return "table" if made else "read"
    if first == "do":
        for token in tokens:
            if token.kind == "text":
                _check_block(token.text)
    if first in _WRITES:
        return "write"
    if first == "truncate":
        return "truncate"
    if first in _SCHEMA:
        if first == "create" and "table" in words[1:5] and "foreign" not in words[1:3]:
            return "table"
        return "drop" if (first, second) == ("drop", "table") else "schema"
    raise ToolError(
        f"{first.upper() or tokens[0].text[:20]!s} begins no statement that is known here.",
        advice="Use SELECT, INSERT, UPDATE, DELETE, MERGE, TRUNCATE, CREATE, ALTER, DROP, DO or CALL.",
        code="refused",
    )


def check_query(sql: str) -> None:
    """Hold a statement of `query` against what a read may be.

    :raises ToolError: it is none.
    """
    tokens = one_statement(sql)
    first, second = _leading(tokens)
    if (why := REFUSED_PAIRS.get((first, second)) or REFUSED.get(first)) is not None:
        raise _refusal(first.upper(), why)
    _check_functions(tokens)
    if first not in READS or _selects_into(tokens):
        raise ToolError(
            f"{first.upper() or 'This'} does not only read.",
            advice="Use execute_sql, which can be taken back.",
            code="read_only",
        )


def gently(sql: str) -> tuple[str, bool] | None:
    """A DROP with RESTRICT, and whether it said CASCADE; `None` if it cannot be told where that stands."""
    tokens = one_statement(sql)
    if Token("word", "cascade") not in tokens:
        return sql, False
    bare = sql.rstrip().rstrip("; \t\r\n")
    if tokens[-1] != Token("word", "cascade") or not bare.lower().endswith("cascade"):
        return None
    return bare[: -len("cascade")] + "RESTRICT", True


def _leading(tokens: list[Token]) -> tuple[str, str]:
    rest = [token for token in tokens if token != Token("sign", "(")]
    words = [token.text if token.kind == "word" else "" for token in rest[:2]]
    return (*words, "", "")[0], (*words, "", "")[1]


def _selects_into(tokens: list[Token]) -> bool:
    # INTO after a top-level SELECT makes a table; INSERT INTO and MERGE INTO stand right behind their verb
    for before, token in pairwise(tokens):
        if token == Token("word", "into") and before not in (Token("word", "insert"), Token("word", "merge")):
            return True
    return False


def _check_functions(tokens: list[Token]) -> None:
    for token, following in zip(tokens, [*tokens[1:], Token("sign", "")], strict=True):
        if token.kind in ("word", "name") and token.text == "takeback" and following == Token("sign", "."):
            raise _refusal("What lies in the schema takeback", "It is how changes are seen.")
        if token.kind not in ("word", "name") or following != Token("sign", "("):
            continue
        name = token.text.lower()
        if name in FUNCTIONS or _FUNCTION_FAMILIES.match(name):
            raise _refusal(f"The function {name}", "It reaches outside, outlives the transaction or runs another text.")


def _check_block(body: str) -> None:
    # a block that puts its statements together from pieces is not read: there the role is the wall
    tokens = scan(body)
    _check_functions(tokens)
    for before, token in zip([Token("sign", ";"), *tokens], tokens, strict=False):
        if token.kind == "text":
            if before == Token("word", "execute"):
                _check_block(token.text.replace("''", "'"))
        elif token.kind == "word" and token.text in _TOLD and before in _BEGINNINGS:
            raise _refusal(token.text.upper(), REFUSED[token.text])


def _refusal(what: str, why: str) -> ToolError:
    return ToolError(
        f"{what} is not run here. {why}",
        advice="Do without it, or ask whoever runs the database.",
        code="refused",
    )
