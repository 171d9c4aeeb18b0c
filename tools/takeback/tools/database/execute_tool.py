"""`execute_sql`: statements run in a transaction that stays open until the intent is durable, then are committed or dropped."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from takeback.tools.contract import (
    Arguments,
    CallContext,
    Committed,
    Prepared,
    Result,
    ReversibleTool,
    Target,
    ToolError,
)
from takeback.tools.database.port import Changed, Done, Execution, Statement
from takeback.tools.database.rows import diff_of
from takeback.tools.database.toolkit import (
    RETURNING_ROWS,
    DatabaseName,
    DatabaseTool,
    Sql,
    Values,
    statement,
    told,
)
from takeback.tools.recovery import Recovery
from takeback.tools.system import Preview

STATEMENTS = 1000
"""Statements that one call may hold."""


class OneStatement(Arguments):
    """One of `statements`."""

    sql: Sql
    parameters: Values = None


class ExecuteSql(Arguments):
    """Arguments of `execute_sql`."""

    database: DatabaseName
    sql: Sql | None = Field(default=None, description="One statement; or pass `statements`.")
    parameters: Values = None
    statements: list[OneStatement] | None = Field(
        default=None,
        min_length=1,
        max_length=STATEMENTS,
        description="Several statements in one transaction, all or nothing, instead of `sql`.",
    )


class Executed(Result):
    """What `execute_sql` answers."""

    database: str
    statements: list[Done] = Field(description="One for each statement.")
    tables: list[Changed] = Field(description="What changed, triggers and cascades included.")


class ExecuteSqlTool(DatabaseTool, ReversibleTool[ExecuteSql]):
    """Changes a database."""

    name = "execute_sql"
    title = "Execute SQL"
    description = (
        "Runs one statement (or `statements`, all or nothing) on a database; whatever it changed can be taken back, or it is"
        " said beforehand that it cannot. Pass values as parameters; dry_run shows the rows it would change."
    )
    arguments = ExecuteSql
    result = Executed
    recovery = Recovery(
        "the earlier rows are put back in one transaction, by columns where others changed the same row; SQLite puts a changed"
        " schema back with the whole database, PostgreSQL gets dropped tables out of their graveyard",
        unless="somebody changed the same columns since, or anything at all where the whole database is put back",
        worse=("compensable", "irreversible"),
        worse_if="PostgreSQL runs triggers again when rows are put back (compensable), or the change is beyond `capture_rows`"
        " or `capture_bytes` or one that PostgreSQL keeps no image of, such as most of DDL (irreversible)",
        effects={"database": ("created", "changed", "deleted")},
        counts=("rows", "deleted", "schema_changes"),
    )

    async def targets(self, arguments: ExecuteSql, context: CallContext) -> Sequence[Target]:
        statements_of(arguments)
        return self.targets_of(self.id_of(arguments.database))

    async def prepare(self, arguments: ExecuteSql, context: CallContext) -> Prepared:
        id = self.id_of(arguments.database)
        shown = self.shown(id)
        if self.settings_of(id).read_only:
            raise ToolError(
                f"{shown} is configured as read only.",
                advice="Use query_database, or another database.",
                code="read_only",
            )
        with told():
            execution = await self.opened(id).execute(statements_of(arguments), self.bounds(id, rows=RETURNING_ROWS))
        return SqlPrepared(execution, shown)


class SqlPrepared(Prepared):
    """Statements that ran and are not committed yet."""

    def __init__(self, execution: Execution, shown: str) -> None:
        self.execution, self.shown = execution, shown
        self.effects = execution.effects
        self.reversibility, self.reason, self.how = execution.reversibility, execution.reason, execution.how
        self.blobs = execution.blobs
        rows = sum(table.inserted + table.updated + table.deleted for table in execution.changed)
        self.counts = {
            "rows": rows,
            "tables": len(execution.changed),
            "deleted_rows": sum(table.deleted for table in execution.changed),
            "schema": execution.schema,
        }

    async def commit(self) -> Committed:
        with told():
            effects = await self.execution.commit()
        done = self.execution
        return Committed(
            effects=effects,
            result=Executed(database=self.shown, statements=list(done.done), tables=list(done.changed)),
            summary=f"{summary_of(done.changed, len(done.done))} in {self.shown}.",
            warnings=done.warnings,
        )

    async def discard(self) -> None:
        await self.execution.discard()

    async def preview(self) -> Sequence[Preview]:
        done = self.execution
        if not done.changed:
            return [Preview(f"{self.shown}: no row would change")]
        previews: list[Preview] = []
        for table in done.changed:
            pairs = done.samples.pairs.get(table.table, [])
            rows = table.inserted + table.updated + table.deleted
            previews.append(Preview(f"{self.shown}: {told_of(table)}", diff_of(pairs, rows - len(pairs))))
        return previews


def statements_of(arguments: ExecuteSql) -> list[Statement]:
    """The statements of a call.

    :raises ToolError: neither or both of `sql` and `statements` are there.
    """
    if arguments.sql is not None and arguments.statements is None:
        return [statement(arguments.sql, arguments.parameters)]
    if arguments.statements is not None and arguments.sql is None and arguments.parameters is None:
        return [statement(each.sql, each.parameters) for each in arguments.statements]
    raise ToolError(
        "A call takes either sql (with parameters) or statements (each with its own).",
        advice="Pass exactly one of the two.",
    )


def told_of(table: Changed) -> str:
    """`orders: 2 rows updated, 1 deleted`."""
    counts = ((table.inserted, "inserted"), (table.updated, "updated"), (table.deleted, "deleted"))
    words = [f"{count:,} {word}" for count, word in counts if count]
    rows = table.inserted + table.updated + table.deleted
    if words:
        first, *others = words
        count, _, word = first.partition(" ")
        words = [f"{count} row{'s' if rows != 1 else ''} {word}", *others]
    return f"{table.table}: {', '.join([*words, *([table.note] if table.note else [])]) or 'unchanged'}"


def summary_of(changed: Sequence[Changed], statements: int) -> str:
    """What was done, without the database's name and the full stop."""
    ran = f"Ran {statements} statements" if statements != 1 else "Ran the statement"
    if not changed:
        return f"{ran}; no row changed"
    return f"{ran}: {'; '.join(map(told_of, changed))},"
