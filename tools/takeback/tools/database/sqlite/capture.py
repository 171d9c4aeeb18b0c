"""Seeing which rows a call changes, while it runs: SQLite's session extension, and what that does not see.

The extension keeps the old values of every row that comes, goes or changes, whoever changed it: the statement, a trigger, a
cascade, a virtual table. It does not see

- rows with NULL in their key, tables without a key whose rowid nobody can name, and everything that is not rows: then the call
  is run again with the whole database kept (`Escalate`);
- the rowid that a row with a key of another kind has beside it: the update hook tells which rows of such tables were written,
  and a second connection, which still sees the state before, where they lay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import apsw
from pydantic import JsonValue

from takeback.tools.contract import ToolError
from takeback.tools.database.names import key_text
from takeback.tools.database.port import Bounds, Changed, Samples
from takeback.tools.database.rows import AS_OBJECTS, SHOWN
from takeback.tools.database.sqlite import cells, surveying
from takeback.tools.database.sqlite.cells import Change, Op, project
from takeback.tools.database.sqlite.changes import change_of, head_of
from takeback.tools.database.sqlite.guard import Guard
from takeback.tools.database.sqlite.images import Moved, RowsImage
from takeback.tools.database.sqlite.looking import CACHED
from takeback.tools.database.sqlite.opening import DatabaseFile
from takeback.tools.database.sqlite.reading import Encoded, Reader, counters, named
from takeback.tools.database.sqlite.schema import Schema, TableInfo, quoted

_SURE = 20
"""Up to so many changed rows the session extension's account of tables without a key is right (see `_mended`)."""


class Escalate(Exception):
    """Rows do not tell everything about this call: the sentence says why."""


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row before and after, all stored cells (and its own rowid last, where that is tracked)."""

    table: TableInfo
    key: tuple[JsonValue, ...]
    before: Encoded | None
    after: Encoded | None


@dataclass(frozen=True, slots=True)
class CounterChange:
    """A counter before and after; `None`: there is none."""

    name: str
    before: tuple[JsonValue] | None
    after: tuple[JsonValue] | None


@dataclass(slots=True)
class Captured:
    """What a call did."""

    changed: list[Changed] = field(default_factory=lambda: list[Changed]())
    samples: Samples = field(default_factory=Samples)
    rows: list[RowChange] = field(default_factory=lambda: list[RowChange]())
    """Each changed row, where they are few."""
    image: RowsImage | None = None
    """All of them, where they are many."""
    tables: list[str] = field(default_factory=lambda: list[str]())
    """The tables of the image."""
    counters: list[CounterChange] = field(default_factory=lambda: list[CounterChange]())
    unkept: str = ""
    """Why the image is not kept, where it is not."""


class RowCapture:
    """Watches one connection from BEGIN on."""

    def __init__(self, file: DatabaseFile, connection: apsw.Connection, guard: Guard, bounds: Bounds) -> None:
        self.file, self.connection, self.guard, self.bounds = file, connection, guard, bounds
        self.schema = Schema(connection)
        self._counters = counters(connection)
        self._start = connection.total_changes()
        self._judged: set[str] = set()
        self._written: dict[str, set[int]] = {}
        """Rowids written in tables whose rows have one beside their key."""
        self._before: apsw.Connection | None = None
        self._moved: dict[str, dict[str, Moved]] = {}
        """By table and key."""
        self._alone: dict[str, list[Moved]] = {}
        """Those of rows in which nothing else has changed."""
        self._too_large = False
        self._readers: dict[str, Reader] = {}
        self._session = apsw.Session(connection, "main")
        self._session.config(apsw.SQLITE_SESSION_OBJCONFIG_ROWID, 1)
        self._session.table_filter(lambda name: not name.startswith("sqlite_"))  # counters are looked at by themselves
        self._session.attach()

    def close(self) -> None:
        """Stop watching."""
        self._session.close()
        self.connection.set_update_hook(None)
        if self._before is not None:
            self._before.close()
            self._before = None

    def bound(self) -> None:
        """Called while a statement runs: stop keeping what is too much to be kept."""
        if not self._too_large and self._session.memory_used > 2 * self.bounds.capture_bytes:
            self._too_large = True
            self._session.enabled = False

    def ready(self) -> None:
        """Called when a statement is prepared: make sure that its rows can be told apart.

        :raises Escalate: they cannot.
        """
        if self.guard.whole:
            raise Escalate(f"{', '.join(self.guard.whole)} changes more than rows")
        self.guard.internal = True
        try:
            for name in self.guard.written - self._judged:
                self._judged.add(name)
                table = self.schema.table(name)
                if table is not None:
                    self._judge(table)
        finally:
            self.guard.internal = False

    def _judge(self, table: TableInfo) -> None:
        if table.keyless and not table.rowid:
            raise Escalate(f"{table.name} has no key, and columns with all the names of a rowid")
        self._check_key(table)
        if table.tracked:
            self._written.setdefault(table.name, set())
            self.connection.set_update_hook(self._on_write)
            if self._before is None:
                self._before = self._look_back()

    def _look_back(self) -> apsw.Connection:
        try:
            before = self.file.connect(write=False, cached=CACHED)
        except Exception as error:
            # an earlier statement of the call has written so much that SQLite lets nobody read any more
            raise Escalate("the rows before the call cannot be read beside it") from error
        before.execute("BEGIN")
        list(before.execute("SELECT count(*) FROM main.sqlite_schema"))
        return before

    def _on_write(self, op: int, database: str, table: str, rowid: int) -> None:
        if op != apsw.SQLITE_DELETE and (known := self._written.get(table)) is not None and database == "main":
            known.add(rowid)

    def _check_key(self, table: TableInfo) -> None:
        if not table.loose_key or table.shadow:
            return
        nulls = " OR ".join(f"{quoted(column)} IS NULL" for column in table.key)
        if list(self.connection.execute(f"SELECT 1 FROM main.{quoted(table.name)} WHERE {nulls} LIMIT 1")):
            raise Escalate(f"{table.name} has rows with NULL in their key")

    # -- afterwards ----------------------------------------------------------------------------------------------------------

    def finish(self) -> Captured:
        """What was changed. Call it when all statements have run, before COMMIT.

        :raises Escalate: rows do not tell it.
        :raises ToolError: a foreign key would be violated by the COMMIT.
        """
        # virtual tables write what they have gathered when a savepoint is set
        self.connection.execute("SAVEPOINT takeback")
        self.connection.execute("RELEASE takeback")
        if self.connection.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]:
            raise ToolError(
                "SQLite refuses it: FOREIGN KEY constraint failed.",
                advice="Change parents and children in one call, in `statements`.",
                code="constraint",
            )
        for name in self._judged:
            table = self.schema.table(name)
            if table is not None:
                self._check_key(table)
        captured = Captured(counters=self._counter_changes())
        if self._too_large:
            captured.unkept = _too_much(self.bounds)
            captured.tables = sorted(self._judged)
            captured.changed = [Changed(table=name, note="too much to be kept") for name in captured.tables]
            return captured
        try:
            changeset = self._session.changeset()
        except apsw.SchemaChangeError as error:
            raise Escalate("the tables themselves were changed") from error
        counts, samples, changes = self._survey(changeset)
        keyless = [name for name in counts if (table := self.schema.table(name)) is not None and table.keyless]
        if keyless and self.connection.total_changes() - self._start >= _SURE:
            changeset = self._mended(changeset, keyless)
            counts, samples, changes = self._survey(changeset)
        self._follow(changeset, counts)
        for name, alone in self._alone.items():
            if alone:
                ops = counts.setdefault(name, {})
                ops[Op.UPDATE] = ops.get(Op.UPDATE, 0) + len(alone)
        total = sum(sum(ops.values()) for ops in counts.values())
        captured.tables = list(counts)
        captured.changed = self._changed(counts)
        if total <= AS_OBJECTS:
            every = changes if changes is not None else cells.read(changeset)
            captured.rows = [*map(self._row, every), *self._replaced()]
            captured.samples = _samples(captured.rows)
        else:
            captured.samples = _samples(map(self._row, samples))
            if len(changeset) > self.bounds.capture_bytes or total > self.bounds.capture_rows:
                captured.unkept = _too_much(self.bounds)
            else:
                captured.image = RowsImage(
                    changeset,
                    {name: list(moved.values()) for name, moved in self._moved.items()},
                    {name: head_of(self._info(name)).key for name in counts},
                )
        return captured

    def _survey(self, changeset: bytes) -> tuple[dict[str, dict[Op, int]], list[Change], list[Change] | None]:
        """Rows per table and kind, the first of each table, and all of them where they are few."""
        if len(changeset) < 65536:
            changes = list(cells.read(changeset))
            found: dict[str, dict[Op, int]] = {}
            first: list[Change] = []
            for change in changes:
                ops = found.setdefault(change.table.name, {})
                if sum(ops.values()) < SHOWN:
                    first.append(change)
                ops[change.op] = ops.get(change.op, 0) + 1
            return found, first, changes
        return (*surveying.survey(changeset), None)

    def _changed(self, counts: dict[str, dict[Op, int]]) -> list[Changed]:
        shown: list[Changed] = []
        inside: dict[str, None] = {}
        for name, ops in counts.items():
            table = self.schema.table(name)
            if table is not None and table.shadow:
                inside[surveying.owner_of(self.connection, name)] = None
                continue
            shown.append(
                Changed(
                    table=name,
                    inserted=ops.get(Op.INSERT, 0),
                    updated=ops.get(Op.UPDATE, 0),
                    deleted=ops.get(Op.DELETE, 0),
                )
            )
        shown.extend(Changed(table=name, note="content of the virtual table changed") for name in inside)
        return shown

    def _counter_changes(self) -> list[CounterChange]:
        now = counters(self.connection)
        return [
            CounterChange(name, _one(self._counters, name), _one(now, name))
            for name in dict.fromkeys([*self._counters, *now])
            if _one(self._counters, name) != _one(now, name)
        ]

    # -- rows ----------------------------------------------------------------------------------------------------------------

    def _info(self, name: str) -> TableInfo:
        table = self.schema.table(name)
        if table is None:
            raise Escalate(f"{name} is no table any more")
        return table

    def _reader(self, table: TableInfo) -> Reader:
        # what reads the rows as they are now
        reader = self._readers.get(table.name)
        if reader is None:
            reader = self._readers[table.name] = Reader(self.connection, table)
        return reader

    def _row(self, change: Change) -> RowChange:
        table = self._info(change.table.name)
        key = change.key
        first = 1 if table.keyless else 0  # the rowid comes before the columns there
        after = None if change.op is Op.DELETE else self._reader(table).cells(key)
        if change.op is not Op.DELETE and after is None:
            raise Escalate(f"a changed row of {table.name} cannot be found again")
        if change.op is Op.INSERT:
            return RowChange(table, key, None, after)
        extra: Encoded = (self._moved[table.name][key_text(key)].before,) if table.tracked else ()
        if after is None:
            return RowChange(table, key, (*project(change.old[first:], ()), *extra), None)
        now = after[:-1] if table.tracked else after
        return RowChange(table, key, (*project(change.old[first:], now), *extra), after)

    def _replaced(self) -> Iterator[RowChange]:
        """Rows of which nothing changed but where they lie."""
        for name, alone in self._alone.items():
            table = self._info(name)
            for each in alone:
                after = self._reader(table).cells(each.key)
                if after is not None:
                    yield RowChange(table, each.key, (*after[:-1], each.before), after)

    def _mended(self, changeset: bytes, keyless: Sequence[str]) -> bytes:
        """The changeset with the rows of tables without a key read anew, from both sides.

        Of such a table the extension loses sight of what it has recorded once its own index grows (from 128 rows on): a row
        that is touched again is recorded a second time, with what stood there in between.
        """
        touched: dict[str, dict[int, None]] = {name: {} for name in keyless}
        others: list[Change] = []
        for change in cells.read(changeset):
            rowids = touched.get(change.table.name)
            if rowids is None:
                others.append(change)
            else:
                rowids[int(str(change.key[0]))] = None
        if self._before is None:
            self._before = self._look_back()
        for name, rowids in touched.items():
            table = self._info(name)
            before, after = Reader(self._before, table), Reader(self.connection, table)
            for rowid in rowids:
                was, now = before.cells((rowid,)), after.cells((rowid,))
                found = change_of(
                    table,
                    (rowid,),
                    None if was is None else named(table, was),
                    None if now is None else named(table, now),
                )
                if found is not None:
                    others.append(found)
        return cells.write(others)

    def _follow(self, changeset: bytes, counts: Mapping[str, object]) -> None:
        """Where changed rows lay and lie that have a rowid of their own."""
        tracked = {name for name in counts if (table := self.schema.table(name)) is not None and table.tracked}
        if tracked - self._written.keys():
            raise Escalate("rows were changed in a table that nobody had announced")
        if not self._written or self._before is None:
            return
        readers = {
            name: (Reader(self._before, self._info(name)), Reader(self.connection, self._info(name)))
            for name in self._written
        }
        self._moved = {name: {} for name in readers}
        if tracked:
            for change in cells.read(changeset):
                pair = readers.get(change.table.name)
                if pair is not None:
                    was = None if change.op is Op.INSERT else pair[0].rowid_of(change.key)
                    now = None if change.op is Op.DELETE else pair[1].rowid_of(change.key)
                    self._moved[change.table.name][key_text(change.key)] = Moved(change.key, was, now)
        for name, rowids in self._written.items():
            before, after = readers[name]
            for rowid in sorted(rowids):
                key = after.key_at(rowid)
                if key is None or key_text(key) in self._moved[name]:
                    continue
                was = before.rowid_of(key)
                if was != rowid:
                    self._moved[name][key_text(key)] = Moved(key, was, rowid)
                    self._alone.setdefault(name, []).append(self._moved[name][key_text(key)])


def _samples(rows: Iterable[RowChange]) -> Samples:
    samples = Samples()
    for row in rows:
        if row.table.shadow:
            continue
        pairs = samples.pairs.setdefault(row.table.name, [])
        if len(pairs) < SHOWN:
            pairs.append(
                (
                    None if row.before is None else named(row.table, row.before),
                    None if row.after is None else named(row.table, row.after),
                )
            )
    return samples


def _too_much(bounds: Bounds) -> str:
    return (
        f"it changes more than {bounds.capture_rows:,} rows or {bounds.capture_bytes // 1024**2:,} MiB, which are not kept"
        " (capture_rows and capture_bytes of the database)"
    )


def _one(found: dict[str, JsonValue], name: str) -> tuple[JsonValue] | None:
    return (found[name],) if name in found else None
