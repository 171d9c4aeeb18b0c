"""One attempt at running statements in a transaction that stays open, and at finding out what they changed.

Blocking: runs in a thread.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from takeback.tools.contract import ToolError
from takeback.tools.database.port import Bounds, Statement
from takeback.tools.database.postgres import catalog, graveyard, guard, sequences, snapshot, triggers
from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.changes import Captured, SequenceChange, TableTurn
from takeback.tools.database.postgres.connecting import Connections, fix, unfix
from takeback.tools.database.postgres.driver import Answer, Connection, Line, array
from takeback.tools.database.postgres.failures import ServerFailure
from takeback.tools.database.postgres.graveyard import Yard
from takeback.tools.database.postgres.reading import Budget, TooMuch, whole
from takeback.tools.database.postgres.rehearsal import SCHEMA_KINDS, Plan
from takeback.tools.database.postgres.snapshot import Snapshot, change_of, difference, observe
from takeback.tools.database.postgres.texts import bound
from takeback.tools.database.postgres.threads import Watch
from takeback.tools.database.postgres.traces import Traces, mark, traces

EXPLAINED = frozenset(
    {
        "pg_class", "pg_attribute", "pg_type", "pg_depend", "pg_shdepend", "pg_constraint", "pg_index", "pg_attrdef",
        "pg_trigger", "pg_sequence", "pg_namespace",
    }
)  # fmt: skip
"""Catalogs that making, dropping and emptying tables writes to."""


class Rehearse(Exception):
    """The statements change the schema, which has to be looked at before they run."""


@dataclass(slots=True)
class Opened:
    """Statements that ran, in a transaction that is still open."""

    connections: Connections
    connection: Connection
    answers: list[Answer]
    captured: Captured
    xid: str
    """Number of the transaction; empty if it changed nothing."""
    over: bool = False

    def drop(self) -> None:
        """ROLLBACK."""
        if not self.over:
            self.over = True
            self.connections.give(self.connection)


class Attempt:
    """One attempt."""

    def __init__(self, connections: Connections, yard: Yard, plan: Plan, bounds: Bounds, watch: Watch) -> None:
        self.connections, self.yard, self.plan, self.bounds, self.watch = connections, yard, plan, bounds, watch
        self.budget = Budget(bounds.capture_rows, bounds.capture_bytes)
        self.captured = Captured()
        self.acting = connections.take(watch)
        self.observing: Connection | None = None
        self.snapshot: Snapshot | None = None
        self.emptied: dict[int, list[Line]] = {}
        self.buried: list[TableTurn] = []

    def run(self) -> Opened:
        """Run the statements and look at what they did.

        :raises ServerFailure, Lost, ToolError, Rehearse, Unseen: nothing has changed.
        """
        done = False
        try:
            answers = self._statements()
            self._capture()
            # a transaction that has no number has changed nothing that COMMIT would keep
            xid = mark(self.acting)
            done = True
            return Opened(self.connections, self.acting, answers, self.captured, xid)
        finally:
            if self.observing is not None:
                self.connections.give(self.observing)
            if not done:
                self.connections.give(self.acting)

    # -- running -----------------------------------------------------------------------------------------------------------

    def _begin(self) -> str:
        acting, plan = self.acting, self.plan
        self.which = sequences.readable(acting)
        if plan.by_triggers:
            if plan.counters is None:
                plan.moment = sequences.moment(acting)
                plan.counters = sequences.values(acting, self.which)
            acting.run("BEGIN")
            triggers.wake(acting)
            return snapshot.virtual(acting)
        acting.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
        if plan.truncated:
            self._limit()
            # what is emptied at once is read by this side alone, and nobody may add to it in between
            names = ", ".join(f"ONLY {info.sql}" for info in self._named(plan.truncated))
            if names:
                acting.run(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
        self.snapshot = snapshot.take(acting)
        self.observing = self.connections.take(self.watch)
        observe(self.observing, self.snapshot)
        fix(self.observing, seconds_ms=self.watch.left_ms())
        if plan.counters is None:
            plan.moment = sequences.moment(self.observing)
            self.observing.run("SAVEPOINT _takeback_counters")
            plan.counters = sequences.values(self.observing, self.which)
            # TRUNCATE … RESTART IDENTITY needs the counters alone
            self.observing.run("ROLLBACK TO SAVEPOINT _takeback_counters")
        return self.snapshot.transaction

    def _named(self, oids: Sequence[int]) -> list[TableInfo]:
        # names are looked up by another connection: a look of one's own would be the transaction's first, and fix its snapshot
        with self.connections.use(self.watch) as other:
            other.run("BEGIN READ ONLY")
            fix(other)
            return list(catalog.tables(other, oids).values())

    def _limit(self) -> None:
        self.acting.run(
            f"SET LOCAL statement_timeout = {self.watch.left_ms()}",
        )
        self.acting.run("SET LOCAL lock_timeout = 10000")

    def _statements(self) -> list[Answer]:
        acting = self.acting
        transaction = self._begin()
        if self.plan.truncated:
            self._read_emptied()
        answers: list[Answer] = []
        for statement, kind in zip(self.plan.statements, self.plan.kinds, strict=True):
            self._limit()
            if kind == "drop" and self._bury(statement):
                answers.append(Answer((), (), [], None))
                continue
            answers.append(
                acting.first(
                    statement.sql,
                    bound(acting, statement),
                    rows=self.bounds.returned_rows,
                    size=self.bounds.returned_bytes,
                )
            )
            if not acting.in_transaction:
                raise ToolError(
                    "The statement ended the transaction in which it was to be watched.",
                    advice="Leave COMMIT and ROLLBACK to takeback.",
                    code="refused",
                )
        self._limit()
        acting.run("SET CONSTRAINTS ALL IMMEDIATE")  # what waits for COMMIT happens now, where it can be seen
        if snapshot.virtual(acting) != transaction:
            raise ToolError(
                "The statement ended the transaction in which it was to be watched.",
                advice="Nothing of what came before is sure: look at the database.",
                code="refused",
            )
        return answers

    def _read_emptied(self) -> None:
        acting = self.acting
        acting.run("SAVEPOINT _takeback_whole")
        fix(acting, seconds_ms=self.watch.left_ms())
        try:
            for oid, info in catalog.tables(acting, self.plan.truncated).items():
                try:
                    if not info.readable or info.secured:
                        raise TooMuch
                    self.emptied[oid] = whole(acting, info, self.budget)
                except TooMuch:
                    self.captured.unkept.append((info, self.bounds.capture_rows))
        finally:
            if acting.alive:
                acting.run("ROLLBACK TO SAVEPOINT _takeback_whole")  # the caller's own settings are back

    def _bury(self, statement: Statement) -> bool:
        """Move tables aside instead of dropping them; whether that was possible."""
        acting = self.acting
        gentle = guard.gently(statement.sql)
        if gentle is None:
            return False
        text, cascades = gentle
        earlier = len(self.buried)
        acting.run("SAVEPOINT _takeback_bury")
        try:
            busy = traces(acting)
            found = graveyard.doomed(acting, text)
            for info in found:
                if info.oid in busy.written | busy.strong:
                    raise graveyard.CannotWait(f"rows or columns of {info.shown} are changed in the same call")
            fix(acting, seconds_ms=self.watch.left_ms())
            infos = catalog.tables(acting, [info.oid for info in found])
            for info in infos.values():
                self.buried.append(graveyard.bury(acting, info, self.yard, fingerprint=False))
            unfix(acting)
            return True
        except graveyard.CannotWait as error:
            acting.run("ROLLBACK TO SAVEPOINT _takeback_bury")
            self.captured.lasting.append(f"what it drops cannot wait: {error}")
            self.captured.reshaped += 1
            del self.buried[earlier:]
            return False
        except ServerFailure as error:
            acting.run("ROLLBACK TO SAVEPOINT _takeback_bury")
            if error.code != "2BP01" or not cascades:
                raise
            self.captured.lasting.append("it also drops what depends on the table")
            self.captured.reshaped += 1
            return False

    # -- looking -----------------------------------------------------------------------------------------------------------

    def _capture(self) -> None:
        acting, captured = self.acting, self.captured
        fix(acting, seconds_ms=self.watch.left_ms())
        found = traces(acting)
        if found.catalogs and not self.plan.rehearsed:
            raise Rehearse
        self._outside(found)
        infos = catalog.tables(acting, found.written | found.strong)
        made = self._made(found) if found.catalogs else {}
        if found.catalogs:
            self._schema(found, infos, made)
        buried = {turn.info.oid for turn in self.buried}
        counters = self._counters(found, made.keys() | buried)
        moved, stay = sequences.moved(acting, self.plan.counters or {}, self.which, counters)
        captured.sequences = [self._holding(change, found.exclusive | self.emptied.keys()) for change in moved]
        captured.warnings += stay
        captured.turns += self.buried
        tables = [
            infos[oid]
            for oid in sorted(found.written | self.emptied.keys())
            if oid in infos and infos[oid].kind == "r" and oid not in made and oid not in buried
        ]
        for info in tables:
            self._rows(info, hidden=info.oid in found.exclusive)
        if self.plan.by_triggers:
            triggers.forget(acting)
        for info in (*tables, *(turn.info for turn in captured.turns)):
            if not info.writable and info.kind == "r":
                captured.lasting.append(
                    f"the role may not write rows of {info.shown} itself, so it could not put them back"
                )

    def _counters(self, found: Traces, turned: set[int]) -> set[int]:
        if not turned:
            return found.sequences
        # counters of a table that comes or goes come and go with it
        own = {
            int(oid or 0)
            for (oid,) in self.acting.rows(
                "SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND refobjid = ANY($1::oid[])"
                " AND deptype IN ('a', 'i')",
                [array(map(str, turned))],
            )
        }
        return {oid for oid in found.sequences if oid not in own}

    def _holding(self, change: SequenceChange, locked: Collection[int]) -> SequenceChange:
        if change.back:
            return change
        sees = self.acting if self.observing is None else self.observing
        return sequences.holding(sees, change, self.plan.moment, locked if sees is self.observing else ())

    def _rows(self, info: TableInfo, *, hidden: bool) -> None:
        captured = self.captured
        if hidden and info.oid not in self.emptied and not self.plan.by_triggers:
            captured.unkept.append((info, 0))
            captured.lasting.append(f"it locks {info.shown} so that nobody can see what its rows were before")
            return
        if any(kept.oid == info.oid for kept, _ in captured.unkept):
            captured.lasting.append(f"the rows of {info.shown} are more than are kept, or may not be read")
            return
        if not info.readable or info.secured:
            why = "row security may hide some of them" if info.secured else "the role may not read them"
            captured.unkept.append((info, 0))
            captured.lasting.append(f"rows of {info.shown} may have changed, and {why}")
            return
        if not info.stored:
            captured.lasting.append(f"{info.shown} has no columns to keep")
            return
        try:
            if info.oid in self.emptied:
                change = change_of(self.acting, info, self.emptied[info.oid], whole(self.acting, info, self.budget))
            elif self.plan.by_triggers:
                change = triggers.difference(self.acting, info, self.budget)
            else:
                assert self.observing is not None and self.snapshot is not None
                change = difference(self.acting, self.observing, self.snapshot, info, self.budget)
        except TooMuch:
            captured.unkept.append((info, self.bounds.capture_rows))
            captured.lasting.append(
                f"it changes more rows of {info.shown} than images are kept of"
                f" ({self.bounds.capture_rows:,} rows, {self.bounds.capture_bytes:,} bytes)"
            )
            return
        if change is not None:
            captured.tables.append(change)

    def _outside(self, found: Traces) -> None:
        lasting = self.captured.lasting
        lasting += [f"the table {name} lies on another server" for name in found.foreign]
        lasting += [f"the materialized view {name} is refreshed" for name in found.materialized]
        if found.large_objects:
            lasting.append("it changes large objects, of which no image is kept")
        if found.shared:
            lasting.append(f"it changes the whole server ({', '.join(sorted(set(found.shared)))})")

    # -- the schema --------------------------------------------------------------------------------------------------------

    def _made(self, found: Traces) -> dict[int, TableInfo]:
        assert self.snapshot is not None and self.observing is not None
        new = [
            int(oid or 0)
            for (oid,) in self.acting.rows(
                "SELECT _t.oid FROM pg_class _t WHERE _t.relkind IN ('r', 'p') AND _t.relpersistence <> 't'"
                f" AND ((_t.xmin::text::bigint - {self.snapshot.first}) & 4294967295) < 2147483648"
            )
        ]
        known = {
            int(oid or 0)
            for (oid,) in self.observing.rows(
                "SELECT oid FROM pg_class WHERE oid = ANY($1::oid[])", [array(map(str, new))]
            )
        }
        return catalog.tables(self.acting, [oid for oid in new if oid not in known])

    def _only_temporary(self, found: Traces) -> bool:
        """Whether all that was made ends with the call."""
        assert self.snapshot is not None
        lasting = self.acting.value(
            "SELECT count(*) FROM pg_class _t WHERE _t.relpersistence <> 't' AND _t.relnamespace::regnamespace::text"
            f" NOT LIKE 'pg\\_toast%' AND ((_t.xmin::text::bigint - {self.snapshot.first}) & 4294967295) < 2147483648"
        )
        return lasting == "0" and not found.strong and not found.gone and "pg_sequence" not in found.catalogs

    def _schema(self, found: Traces, infos: dict[int, TableInfo], made: dict[int, TableInfo]) -> None:
        acting, captured = self.acting, self.captured
        settled = found.catalogs <= EXPLAINED
        if SCHEMA_KINDS.isdisjoint(self.plan.kinds):
            settled = settled and self._only_temporary(found)  # some function did it
        elif "schema" in self.plan.kinds:
            settled = False
        for oid, before in self.plan.definitions.items():
            if any(turn.info.oid == oid for turn in self.buried):
                continue
            info = infos.get(oid) or catalog.tables(acting, [oid]).get(oid)
            if info is None or catalog.definition(acting, oid) != before:
                settled = False
                if info is not None:
                    captured.altered.append(info)
        for info in made.values():
            try:
                graveyard.check(acting, info)
                grave, _ = graveyard.grave_for(acting, info, self.yard)
            except graveyard.CannotWait as error:
                captured.lasting.append(f"{info.shown}, which it makes, could not be moved aside: {error}")
                captured.reshaped += 1
                continue
            definition, content = catalog.definition(acting, info.oid), graveyard.content(acting, info)
            captured.turns.append(TableTurn(info, definition, content, dropped=False, grave=grave))
        if not settled:
            captured.lasting.append("it changes the schema in a way that cannot be put back")
            captured.reshaped += not captured.altered
