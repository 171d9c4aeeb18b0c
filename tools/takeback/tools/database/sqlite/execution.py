"""One call's statements, run in a transaction that stays open until it is committed or dropped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import apsw

from takeback.checkpoints.objects import ObjectStore, QuotaExceeded
from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.contract import ToolError
from takeback.tools.database import names, rows
from takeback.tools.database.port import Bounds, Changed, Done, Execution, Samples, Statement
from takeback.tools.database.sqlite import statements as running
from takeback.tools.database.sqlite import whole
from takeback.tools.database.sqlite.capture import Captured, CounterChange, Escalate, RowCapture
from takeback.tools.database.sqlite.guard import DDL, Guard
from takeback.tools.database.sqlite.images import store_bytes, store_rows
from takeback.tools.database.sqlite.looking import CACHED
from takeback.tools.database.sqlite.opening import DatabaseFile
from takeback.tools.database.sqlite.reading import named
from takeback.tools.database.sqlite.refusals import bare, tool_error
from takeback.tools.database.sqlite.statements import Clock
from takeback.tools.database.sqlite.states import counter_state, unkept_state, whole_state
from takeback.tools.database.sqlite.threads import in_thread


@dataclass(slots=True)
class Ran:
    """What a thread hands over: an open transaction, and what is in it."""

    connection: apsw.Connection
    done: list[Done]
    rows: Captured | None = None
    image: bytes | None = None
    before: whole.Content | None = None
    after: whole.Content | None = None
    why: str = ""
    """Why the whole database is kept, or cannot be."""
    changed: list[Changed] = field(default_factory=lambda: list[Changed]())
    schema: int = 0


class Runner:
    """Runs one call's statements, in a worker thread."""

    def __init__(self, file: DatabaseFile, statements: Sequence[Statement], bounds: Bounds) -> None:
        self.file, self.statements, self.bounds = file, running.all_of(statements), bounds
        self.clock = Clock(bounds.seconds)

    def go(self) -> Ran:
        """Run them.

        :raises ToolError: refused, failed or too slow; nothing has changed.
        """
        connection = self.file.connect(write=True, cached=CACHED)
        try:
            try:
                return self._by_rows(connection)
            except Escalate as error:
                connection.set_progress_handler(None)
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                return self._whole(connection, str(error))
        except apsw.Error as error:
            connection.close(True)
            raise tool_error(error, preparing=False) from error
        except BaseException:
            connection.close(True)
            raise

    def _begin(self, connection: apsw.Connection) -> None:
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1)
        connection.execute("BEGIN IMMEDIATE")

    def _by_rows(self, connection: apsw.Connection) -> Ran:
        self._begin(connection)
        guard = Guard(reading=False)
        capture = RowCapture(self.file, connection, guard, self.bounds)
        try:
            self.clock.watch(connection, capture.bound)
            done = self._run(connection, guard, capture)
            connection.set_progress_handler(None)
            return Ran(connection, done, rows=capture.finish())
        finally:
            capture.close()

    def _run(self, connection: apsw.Connection, guard: Guard, capture: RowCapture | None) -> list[Done]:
        done: list[Done] = []
        for statement in self.statements:
            done.append(
                running.run(
                    connection,
                    guard,
                    statement,
                    self.bounds,
                    ready=capture.ready if capture is not None else lambda: None,
                    known=lambda: triggers_of(connection, guard),
                )
            )
            if not connection.in_transaction:
                # RAISE(ROLLBACK) and ON CONFLICT ROLLBACK end the transaction, and with it the call
                raise ToolError(
                    "A statement ended the transaction.", advice="Do without ON CONFLICT ROLLBACK.", code="constraint"
                )
        return done

    def _whole(self, connection: apsw.Connection, why: str) -> Ran:
        self._begin(connection)
        ran = Ran(connection, [], why=why)
        if whole.size_of(connection) <= self.bounds.capture_bytes:
            beside = self.file.connect(write=False)
            try:
                beside.execute("BEGIN")
                ran.before = whole.content_of(beside)
                ran.image = whole.image_of(beside)
            finally:
                beside.close()
        else:
            ran.why = (
                f"{why}, and the database is larger than the {self.bounds.capture_bytes // 1024**2:,} MiB that are kept"
                " of it (capture_bytes)"
            )
        guard = Guard(reading=False)
        self.clock.watch(connection)
        ran.done = self._run(connection, guard, None)
        connection.set_progress_handler(None)
        connection.execute("SAVEPOINT takeback")
        connection.execute("RELEASE takeback")
        if connection.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]:
            raise ToolError(
                "SQLite refuses it: FOREIGN KEY constraint failed.",
                advice="Change parents and children in one call, in `statements`.",
                code="constraint",
            )
        if ran.before is not None:
            ran.after = whole.content_of(connection)
            ran.changed = whole.differences(ran.before, ran.after)
            ran.schema = whole.reshaped(ran.before, ran.after)
        else:
            ran.changed = [Changed(table=name, note="changed") for name in sorted(guard.written)]
            ran.changed += [Changed(table="(schema)", note=word) for word in guard.whole]
            ran.schema = sum(word in DDL.values() for word in guard.whole)
        return ran


def triggers_of(connection: apsw.Connection, guard: Guard) -> str:
    """What the schema's triggers say, for telling their messages from data."""
    guard.internal = True
    try:
        found = connection.execute("SELECT sql FROM main.sqlite_schema WHERE type = 'trigger'")
        return "\n".join(str(sql) for (sql,) in found)
    except apsw.Error:
        return ""
    finally:
        guard.internal = False


class SqliteExecution(Execution):
    """See `Execution`."""

    def __init__(self, ran: Ran) -> None:
        self._connection: apsw.Connection | None = ran.connection
        self._whole = ran.rows is None
        self.done = tuple(ran.done)
        self.effects: tuple[Effect, ...] = ()
        self.changed: tuple[Changed, ...] = ()

    async def commit(self) -> tuple[Effect, ...]:
        connection = self._connection
        if connection is None:
            raise ToolError("The statements were dropped.", advice="Repeat the call.", code="dropped")
        wrote = self._whole or bool(self.effects)
        await in_thread(lambda: _commit(connection, wrote), lambda: None)
        self._connection = None
        return self.effects

    async def discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await in_thread(lambda: _drop(connection), lambda: None)


def _commit(connection: apsw.Connection, wrote: bool) -> None:
    try:
        connection.execute("COMMIT" if wrote or not _untouched(connection) else "ROLLBACK")
    except apsw.BusyError as error:
        # a reader is in the way; the transaction is still open, and can be tried again
        fact, advice, code = bare(error, preparing=False)
        raise ToolError(fact, advice=advice, code=code) from error
    _close(connection)


def _untouched(connection: apsw.Connection) -> bool:
    """Whether this is an empty file in which nothing was written: to commit that alone would make a database of it."""
    return not connection.total_changes() and not any(
        connection.pragma(name) for name in ("schema_version", "user_version", "application_id")
    )


def _drop(connection: apsw.Connection) -> None:
    with suppress(apsw.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    _close(connection)


def _close(connection: apsw.Connection) -> None:
    with suppress(apsw.Error):  # what is committed is committed, whatever tidying up fails
        connection.close(True)


async def executed(id: str, ran: Ran, objects: ObjectStore) -> SqliteExecution:
    """What ran, with its states stored.

    :raises ObjectError: the states cannot be stored.
    """
    execution = SqliteExecution(ran)
    try:
        if ran.rows is not None:
            await _by_rows(id, execution, ran.rows, objects)
        else:
            await _as_whole(id, execution, ran, objects)
    except BaseException:
        await execution.discard()
        raise
    return execution


async def _by_rows(id: str, execution: SqliteExecution, captured: Captured, objects: ObjectStore) -> None:
    effects: list[Effect] = []
    blobs: dict[str, bytes] = {}
    for row in captured.rows:
        object = names.row(id, row.table.name, row.key)
        before = None if row.before is None else named(row.table, row.before)
        after = None if row.after is None else named(row.table, row.after)
        states: list[State] = []
        for side in (before, after):
            state, small = await rows.stored_state(side, objects)
            blobs.update(small)
            states.append(state)
        if not states[0].same(states[1]):
            effects.append(Effect(system=names.SYSTEM, object=object, before=states[0], after=states[1]))
    tables = [str(names.Name(id, table)) for table in captured.tables] if not captured.rows else []
    unkept = captured.unkept
    if captured.image is not None:
        try:
            stored = await store_rows(captured.image, objects)
        except QuotaExceeded as error:
            unkept = f"what it changes cannot be kept: {error}"
        else:
            blobs.update(stored.blobs)
            effects.extend(
                Effect(system=names.SYSTEM, object=table, before=stored.state("before"), after=stored.state("after"))
                for table in tables
            )
    effects.extend(
        Effect(system=names.SYSTEM, object=names.sequence(id, each.name), before=before, after=after)
        for each in captured.counters
        for before, after in (_counter(each),)
    )
    execution.effects, execution.blobs = tuple(effects), blobs
    execution.changed, execution.samples = tuple(captured.changed), captured.samples
    if unkept:
        _irreversible(execution, tables, unkept)


def _counter(change: CounterChange) -> tuple[State, State]:
    return (
        ABSENT if change.before is None else counter_state(change.before[0]),
        ABSENT if change.after is None else counter_state(change.after[0]),
    )


async def _as_whole(id: str, execution: SqliteExecution, ran: Ran, objects: ObjectStore) -> None:
    execution.changed, execution.schema = tuple(ran.changed), ran.schema
    execution.samples = Samples()
    execution.how = "Put the whole database back as it was before, if nobody has changed it since."
    why = ran.why
    if ran.before is None or ran.after is None or ran.image is None:
        _irreversible(execution, [id], why)
        return
    if ran.before.digest == ran.after.digest:
        execution.effects, execution.blobs = (), {}
        return
    try:
        kept, blobs = await store_bytes(ran.image, objects)
    except QuotaExceeded as error:
        _irreversible(execution, [id], f"{why}, and the database cannot be kept: {error}")
        return
    before = whole_state(ran.before.digest, kept, len(ran.image))
    after = whole_state(ran.after.digest, (), None)
    execution.effects = (Effect(system=names.SYSTEM, object=id, before=before, after=after),)
    execution.blobs = blobs
    execution.warnings = (f"The whole database is kept, because {why}.",)


def _irreversible(execution: SqliteExecution, tables: Sequence[str], why: str) -> None:
    execution.reversibility, execution.reason, execution.how = "irreversible", _sentence(why), "Nothing can undo it."
    execution.effects = tuple(
        Effect(system=names.SYSTEM, object=table, before=unkept_state("before"), after=unkept_state("after"))
        for table in tables
    )
    execution.blobs = {}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
