"""One PostgreSQL database, as the tools and the engine use it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import ClassVar, Literal, TypeVar

from takeback.checkpoints.objects import ObjectStore
from takeback.journal.states import Effect, State
from takeback.tools.contract import ToolError
from takeback.tools.database import names, rows
from takeback.tools.database.port import Bounds, Database, Description, Execution, Rows, Statement
from takeback.tools.database.postgres import (
    capture,
    clearing,
    describing,
    effects,
    images,
    inverse,
    looking,
    merging,
    trying,
)
from takeback.tools.database.postgres.connecting import Connections, fix
from takeback.tools.database.postgres.driver import Connection, transient
from takeback.tools.database.postgres.execution import PostgresExecution, patiently, settle, status
from takeback.tools.database.postgres.failures import CommitUnknown, Lost, ServerFailure, as_target, told
from takeback.tools.database.postgres.graveyard import Yard
from takeback.tools.database.postgres.guard import check_query
from takeback.tools.database.postgres.inverse import Drift, Swap, Want
from takeback.tools.database.postgres.texts import bound, shown
from takeback.tools.database.postgres.threads import Watch, in_thread
from takeback.tools.database.postgres.traces import mark
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.system import Clash, Drifted, Merged, Preview, Refused, Swapped, TargetError, Unavailable

T = TypeVar("T")
SWAP_RETRIES = 5
"""How often a swap that collided with somebody else's transaction is tried again."""


class PostgresDatabase(Database):
    """A database of a PostgreSQL server."""

    kind: ClassVar[Literal["sqlite", "postgresql"]] = "postgresql"

    def __init__(self, name: str, settings: DatabaseSettings, objects: ObjectStore) -> None:
        super().__init__(name, objects)
        self.settings = settings
        self.connections = Connections(name, settings)
        owner = objects.name(b"takeback's graves").rpartition(":")[2][:12]
        self.yard = Yard(settings.graveyard, owner)

    async def close(self) -> None:
        self.connections.close()

    # -- reading -----------------------------------------------------------------------------------------------------------

    async def describe_all(self) -> Description:
        return await self._reading(
            lambda connection: describing.describe(connection, self.id, self.settings), "It cannot be described"
        )

    async def query(self, statement: Statement, bounds: Bounds) -> Rows:
        check_query(statement.sql)
        watch = Watch(bounds.seconds)

        def work() -> Rows:
            with self.connections.use(watch) as connection:
                connection.run("BEGIN READ ONLY")
                connection.run(f"SET LOCAL statement_timeout = {watch.left_ms()}")
                connection.run("SET LOCAL lock_timeout = 10000")
                answer = connection.first(
                    statement.sql, bound(connection, statement), rows=bounds.returned_rows, size=bounds.returned_bytes
                )
                return shown(answer)  # what notifies or locks ends here: the transaction is never committed

        try:
            return await in_thread(work, watch)
        except ServerFailure as error:
            raise told(error) from error
        except (Lost, TargetError) as error:
            raise _refusal(error) from error

    # -- acting ------------------------------------------------------------------------------------------------------------

    async def execute(self, statements: Sequence[Statement], bounds: Bounds) -> Execution:
        watch = Watch(bounds.seconds)

        def work() -> tuple[capture.Opened, bool]:
            opened = trying.run(self.connections, self.yard, statements, bounds, watch)
            try:
                return opened, inverse.silent(opened.connection)
            except BaseException:
                opened.drop()
                raise

        try:
            opened, quiet = await in_thread(work, watch)
        except ServerFailure as error:
            raise told(error) from error
        except (Lost, TargetError) as error:
            raise _refusal(error) from error
        try:
            said = await effects.tell(self.id, opened.captured, opened.xid, silent=quiet, objects=self.objects)
        except BaseException:
            opened.drop()
            raise
        return PostgresExecution(opened, said)

    # -- the verbs of `TargetSystem` ---------------------------------------------------------------------------------------

    async def look(self, objects: Sequence[str], like: Sequence[State | None]) -> Sequence[State]:
        asks = [await looking.asked(object, each, self.objects) for object, each in zip(objects, like, strict=True)]
        found = await self._reading(lambda connection: looking.look(connection, asks), "It cannot be looked at")
        return [await looking.state_of(each, self.objects) for each in found]

    async def swap(self, effects: Sequence[Effect]) -> Swapped | Drifted:
        wants = [await self._want(effect) for effect in effects]
        watch = Watch()
        outcome = await in_thread(lambda: self._swap(wants, watch), watch)
        states = [await looking.state_of(each, self.objects) for each in outcome.found]
        if isinstance(outcome, Drift):
            return Drifted(tuple(states), outcome.why)
        made = tuple(
            inverse.with_refs(effect, state, outcome.refs) for effect, state in zip(effects, states, strict=True)
        )
        return Swapped(made, warnings=outcome.warnings, already=outcome.already)

    async def merge(self, wanted: Sequence[Effect], present: Sequence[State]) -> Merged | Clash:
        return await merging.merge(wanted, present, self.objects)

    async def happened(self, effects: Sequence[Effect]) -> bool | None:
        numbers = {str(xid) for effect in effects if (xid := effect.after.ref.get("xid"))}
        if not numbers:
            return None
        if len(numbers) > 1:
            raise TargetError("The effects name several transactions.", advice="Settle it by hand.")
        [number] = numbers
        found = await in_thread(lambda: patiently(lambda: status(self.connections, number)), Watch())
        return found if found is not None else await self._found(effects)

    async def _found(self, effects: Sequence[Effect]) -> bool:
        """The same by what is there."""
        objects = [effect.object for effect in effects]
        after = await self.look(objects, [effect.after for effect in effects])
        if all(now.same(effect.after) for now, effect in zip(after, effects, strict=True)):
            return True
        before = await self.look(objects, [effect.before for effect in effects])
        if all(now.same(effect.before) for now, effect in zip(before, effects, strict=True)):
            return False
        raise TargetError(
            "The server has started anew since, and what is there now is neither what was there before nor what was to be.",
            advice="Look at the rows, then settle it by hand.",
        )

    async def describe(self, effect: Effect) -> Preview:
        return await _described(effect, self.objects)

    async def collect(self, keep: Collection[State], *, older_than_ns: int) -> int:
        if self.settings.read_only:
            return 0
        watch = Watch()

        def work() -> int:
            with self.connections.use(watch) as connection:
                # a statement may have been at work for so long before its COMMIT showed the grave
                seconds = older_than_ns / 1e9 + self.settings.statement_seconds
                return clearing.clear(connection, self.yard, keep, older_than=seconds)

        try:
            return await in_thread(work, watch)
        except ServerFailure as error:
            raise as_target(error, "Dropped tables that nobody needs cannot be removed") from error
        except Lost as error:
            raise Unavailable("The connection to the database was lost.", advice="Try again.") from error

    # -- within ------------------------------------------------------------------------------------------------------------

    async def _reading(self, work: Callable[[Connection], T], doing: str) -> T:
        watch = Watch(self.settings.statement_seconds)

        def run() -> T:
            with self.connections.use(watch) as connection:
                connection.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                fix(connection, seconds_ms=watch.left_ms())
                return work(connection)

        try:
            return await in_thread(run, watch)
        except ServerFailure as error:
            raise as_target(error, doing) from error
        except Lost as error:
            raise Unavailable(f"{doing}: {error}", advice="Try again.") from error

    async def _want(self, effect: Effect) -> Want:
        asked = await looking.asked(
            effect.object, effect.before if effect.before.kind == images.KIND else effect.after, self.objects
        )
        if asked.what not in inverse.UNDOABLE or (asked.what == "rows" and asked.image is None):
            raise Refused(f"Nothing is kept by which {effect.object} could be put back.", advice="Settle it by hand.")
        if asked.what == "row":
            return Want(effect, asked, row=await rows.row_of(effect.after, self.objects))
        if asked.what == "rows" and asked.image is not None:
            return Want(effect, asked, values=await images.values_of(effect.after, asked.image, self.objects))
        return Want(effect, asked)

    def _swap(self, wants: Sequence[Want], watch: Watch) -> Swap | Drift:
        left = SWAP_RETRIES
        while True:
            try:
                return self._swap_once(wants, watch)
            except ServerFailure as error:
                if not transient(error) or left == 0:
                    raise as_target(error, "It could not be put back") from error
                left -= 1

    def _swap_once(self, wants: Sequence[Want], watch: Watch) -> Swap | Drift:
        try:
            with self.connections.use(watch) as connection:
                quiet = inverse.silent(connection)
                inverse.begin(connection, seconds_ms=0, quiet=quiet)
                outcome = inverse.swap(connection, wants, quiet=quiet, yard=self.yard)
                if isinstance(outcome, Drift) or outcome.already:
                    return outcome
                xid = mark(connection)
                try:
                    connection.run("COMMIT")
                except Lost:
                    if not xid or not settle(self.connections, xid):
                        raise
                return outcome
        except CommitUnknown as error:
            unknown = TargetError("The connection was lost while it was put back.", advice="Try again.")
            unknown.code = "half_done"  # trying again is safe: what is there already is found to be
            raise unknown from error
        except Lost as error:
            raise Unavailable("The connection to the database was lost.", advice="Try again.") from error


def _refusal(error: Lost | TargetError) -> ToolError:
    if isinstance(error, TargetError):
        return ToolError(str(error), advice=error.advice, code=error.code)
    return ToolError(f"{error} Nothing has changed.", advice="Try again.", code="unavailable")


async def _described(effect: Effect, objects: ObjectStore) -> Preview:
    name = names.parse(effect.object)
    what = f"{name.table} {names.key_text(name.key)}" if name.key is not None else str(name.table or name.database)
    verbs = {"created": "insert", "deleted": "delete", "changed": "change", "unchanged": "leave"}
    kind = effect.after.kind if not effect.after.absent else effect.before.kind
    match kind:
        case "row":
            before, after = [await rows.row_of(state, objects) for state in (effect.before, effect.after)]
            return Preview(f"{verbs[effect.verb]} row {what}", rows.diff_of([(before, after)]))
        case "rows":
            count = effect.after.ref.get("rows", effect.before.ref.get("rows"))
            return Preview(f"change {count if isinstance(count, int) else 'many'} rows of {what}")
        case "sequence":
            was, is_ = (state.ref.get("value", "?") for state in (effect.before, effect.after))
            return Preview(f"set the counter {names.key_text(name.key or ())} from {was} to {is_}")
        case "table":
            verbs = {"created": "make", "deleted": "drop", "changed": "alter", "unchanged": "leave"}
            return Preview(f"{verbs[effect.verb]} table {what}")
        case _:
            return Preview(f"change {what}")


__all__ = ["PostgresDatabase"]
