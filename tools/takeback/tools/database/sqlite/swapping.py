"""Putting rows and counters back: in one transaction, compared before, read back before COMMIT.

Triggers stay silent, cascades do not run; foreign keys and unique constraints hold afterwards, or nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import apsw
from pydantic import JsonValue

from takeback.journal.states import Effect, State
from takeback.tools.database import names
from takeback.tools.database.names import key_text
from takeback.tools.database.rows import Row, digest_of
from takeback.tools.database.sqlite import cells
from takeback.tools.database.sqlite.cells import Change
from takeback.tools.database.sqlite.changes import Hindered, change_of, head_of
from takeback.tools.database.sqlite.images import RowsImage
from takeback.tools.database.sqlite.looking import Found, Images, Looker
from takeback.tools.database.sqlite.reading import Reader, counters, put_counter
from takeback.tools.database.sqlite.schema import Schema, TableInfo, quoted
from takeback.tools.system import Refused

_LARGE = 4 * 1024
"""Bytes of a changeset from which on SQLite itself compares it, row by row in one go."""
_PARKED = -(2**62)
"""From here down rowids wait that are about to change."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One effect, with the rows of its states where it is about a row."""

    effect: Effect
    before: Row | None = None
    after: Row | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a swap."""

    done: bool
    already: bool = False
    present: tuple[Found, ...] = ()
    why: str = ""


def swap(connection: apsw.Connection, wanted: Sequence[Wanted], images: Images) -> Outcome:
    """Make the effects true, or none of them.

    :raises apsw.Error: nothing was changed.
    :raises Refused: it was read back and found different; nothing was changed.
    """
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1)
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _many_alone(connection, wanted, images):
            if _by_applying(connection, wanted, images):
                connection.execute("COMMIT")
                return Outcome(done=True)
            connection.execute("ROLLBACK")  # which row is in the way is found by looking at each
            connection.execute("BEGIN IMMEDIATE")
        return _by_looking(connection, wanted, images)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _by_looking(connection: apsw.Connection, wanted: Sequence[Wanted], images: Images) -> Outcome:
    present = look_all(connection, wanted, images)
    if all(same(found, each.effect.after) for found, each in zip(present, wanted, strict=True)):
        return Outcome(done=True, already=True, present=present)
    if not all(same(found, each.effect.before) for found, each in zip(present, wanted, strict=True)):
        return Outcome(done=False, present=present, why="somebody else has changed it since")
    try:
        _Change(connection, wanted, images).make()
    except Hindered as error:
        return Outcome(done=False, present=present, why=str(error))
    back = look_all(connection, wanted, images)
    wrong = [each.effect.object for found, each in zip(back, wanted, strict=True) if not same(found, each.effect.after)]
    if wrong:
        raise Refused(
            f"What was put back was read back and found different, so nothing was changed: {wrong[0]}.",
            advice="Look at the table with describe_database, and put the row right by hand.",
        )
    connection.execute("COMMIT")
    return Outcome(done=True, present=present)


def _many_alone(connection: apsw.Connection, wanted: Sequence[Wanted], images: Images) -> bool:
    """Whether it is all about one image of many rows, in tables that SQLite can compare by itself, cell by cell."""
    ids = {str(each.effect.after.ref.get("image")) for each in wanted}
    image = images.get(next(iter(ids))) if len(ids) == 1 else None
    if image is None or len(image.changeset) < _LARGE or any(image.moved.values()):
        return False
    schema = Schema(connection)
    for each in wanted:
        name = names.parse(each.effect.object)
        info = schema.table(name.table or "")
        places = None if info is None else image.tables.get(info.name)
        if info is None or name.key is not None or places is None or tuple(places) != head_of(info).key:
            return False  # SQLite passes over tables that are not what they were
    return True


def _by_applying(connection: apsw.Connection, wanted: Sequence[Wanted], images: Images) -> bool:
    """Let SQLite compare each cell while it changes it, and read all of it back by trying the way there once more."""
    try:
        _Change(connection, wanted, images).make()
        connection.execute("SAVEPOINT back")
        there = [Wanted(each.effect.reversed()) for each in wanted]
        _Change(connection, there, images).make()
        connection.execute("ROLLBACK TO back")
        connection.execute("RELEASE back")
    except Hindered:
        return False
    return True


def look_all(connection: apsw.Connection, wanted: Sequence[Wanted], images: Images) -> tuple[Found, ...]:
    """What stands there, for each effect, measured as its states were."""
    looker = Looker(connection, images)
    found: list[Found] = []
    for each in wanted:
        like = each.effect.before if each.effect.before.kind == "rows" else each.effect.after
        now = looker.look(each.effect.object, like)
        if isinstance(now, State) and now.kind == "rows":
            # the two sides of a merge are named after different images
            now = _as_told(now, each.effect)
        found.append(now)
    return tuple(found)


def _as_told(now: State, effect: Effect) -> State:
    for side in (effect.before, effect.after):
        if side.ref.get("image") == now.ref.get("image") and side.ref.get("side") == now.ref.get("side"):
            return side
    return now


def same(found: Found, state: State) -> bool:
    """Whether this is that state."""
    return found.same(state) if isinstance(found, State) else digest_of(found[0]) == state.digest


@dataclass(slots=True)
class _Change:
    connection: apsw.Connection
    wanted: Sequence[Wanted]
    images: Images
    lies: dict[str, dict[str, tuple[tuple[JsonValue, ...], int]]] = field(
        default_factory=lambda: dict[str, dict[str, tuple[tuple[JsonValue, ...], int]]]()
    )
    """By table and key: where rows have to lie."""

    def make(self) -> None:
        schema, there = Schema(self.connection), counters(self.connection)
        own = list(self._row_changes(schema))
        pieces: dict[str, tuple[RowsImage, str, set[str]]] = {}
        for each in self.wanted:
            name, goal = names.parse(each.effect.object), each.effect.after
            if goal.kind == "rows" and name.table is not None and name.key is None:
                id, side = _direction(each.effect)
                pieces.setdefault(id, (self.images[id], side, set()))[2].add(name.table)
        parts: list[tuple[bytes, Callable[[str], bool]]] = []
        if own:
            parts.append((cells.write(own), lambda _: True))
        for image, side, tables in pieces.values():
            data = image.changeset if side == "after" else apsw.Changeset.invert(image.changeset)
            parts.append((data, tables.__contains__))
            for table in tables:
                for moved in image.moved.get(table, ()):
                    to = moved.after if side == "after" else moved.before
                    if to is not None:
                        self.lies.setdefault(table, {})[key_text(moved.key)] = (moved.key, to)
        if len(parts) > 1:
            parts = [(cells.write(_joined(parts)), lambda _: True)]
        for data, chosen in parts:
            self._apply(data, chosen)
        for table, places in self.lies.items():
            info = schema.table(table)
            if info is not None:
                self._place(info, list(places.values()))
        self._count(there)

    def _count(self, there: dict[str, JsonValue]) -> None:
        """Counters as they are wanted. What was put in may have moved others, which stay where they were."""
        goals = dict(there)
        for each in self.wanted:
            name, goal = names.parse(each.effect.object), each.effect.after
            if name.table == names.SEQUENCE:
                counter = str((name.key or ("",))[0])
                goals.pop(counter, None)
                if not goal.absent:
                    goals[counter] = goal.ref.get("value")
        for counter, value in counters(self.connection).items():
            if counter not in goals or goals[counter] != value:
                put_counter(self.connection, counter, goals.get(counter), there=counter in goals)
            goals.pop(counter, None)
        for counter, value in goals.items():
            put_counter(self.connection, counter, value, there=True)

    def _row_changes(self, schema: Schema) -> Iterator[Change]:
        found: dict[str, list[Change]] = {}
        for each in self.wanted:
            name = names.parse(each.effect.object)
            if name.table is None or name.key is None or name.table == names.SEQUENCE:
                continue
            info = schema.table(name.table)
            if info is None:
                raise Hindered(f"there is no table {name.table} any more")
            change = change_of(info, name.key, each.before, each.after)
            if change is not None:
                found.setdefault(info.name, []).append(change)
            if info.tracked and each.after is not None:
                at = each.after[info.extra]
                if isinstance(at, int):
                    self.lies.setdefault(info.name, {})[key_text(name.key)] = (name.key, at)
        for changes in found.values():
            yield from sorted(changes, key=lambda change: change.op)  # what goes makes room for what comes

    def _apply(self, changeset: bytes, chosen: Callable[[str], bool]) -> None:
        reasons: list[tuple[int, str]] = []

        def conflict(reason: int, change: apsw.TableChange) -> int:
            # of a foreign key SQLite tells the number alone
            reasons.append((reason, "" if reason == apsw.SQLITE_CHANGESET_FOREIGN_KEY else change.name))
            return apsw.SQLITE_CHANGESET_ABORT

        try:
            apsw.Changeset.apply(
                changeset,
                self.connection,
                filter=chosen,
                conflict=conflict,
                flags=apsw.SQLITE_CHANGESETAPPLY_FKNOACTION,
            )
        except apsw.AbortError as error:
            raise Hindered(_reason(reasons)) from error
        except apsw.ConstraintError as error:
            raise Hindered(
                _reason(reasons) if reasons else "another row holds a value by now that has to be unique"
            ) from error

    def _place(self, table: TableInfo, places: Sequence[tuple[tuple[JsonValue, ...], int]]) -> None:
        # all of them step aside first, so that none is in another's way
        reader = Reader(self.connection, table)
        target = f"main.{quoted(table.name)}"
        waiting: list[tuple[int, int]] = []
        for number, (key, wanted) in enumerate(places):
            now = reader.rowid_of(key)
            if now is not None and now != wanted:
                aside = _PARKED - number
                self.connection.execute(f"UPDATE {target} SET {table.rowid} = ? WHERE {table.rowid} = ?", (aside, now))
                waiting.append((aside, wanted))
        for aside, wanted in waiting:
            try:
                self.connection.execute(
                    f"UPDATE {target} SET {table.rowid} = ? WHERE {table.rowid} = ?", (wanted, aside)
                )
            except apsw.ConstraintError as error:
                raise Hindered(f"another row of {table.name} lies by now where the row lay (its rowid)") from error


def _direction(effect: Effect) -> tuple[str, str]:
    """The image that leads from one side of the effect to the other, and to which side of it."""
    before, after = effect.before.ref, effect.after.ref
    sides = (before.get("side"), after.get("side"))
    if before.get("image") != after.get("image") or sides not in (("before", "after"), ("after", "before")):
        raise Refused("The two states are not sides of one image.", advice="Roll back again.")
    return str(after["image"]), str(after["side"])


def _joined(parts: Sequence[tuple[bytes, Callable[[str], bool]]]) -> Iterator[Change]:
    for data, chosen in parts:
        for change in cells.read(data):
            if chosen(change.table.name):
                yield change


def _reason(reasons: Sequence[tuple[int, str]]) -> str:
    if not reasons:
        return "SQLite would not make the change"
    reason, table = reasons[-1]
    if reason == apsw.SQLITE_CHANGESET_FOREIGN_KEY:
        return "rows of another table refer to it by now, or what it refers to is gone (a foreign key)"
    if reason == apsw.SQLITE_CHANGESET_CONSTRAINT:
        return f"another row of {table} holds a value by now that has to be unique, or a constraint forbids it"
    if reason == apsw.SQLITE_CHANGESET_CONFLICT:
        return f"another row of {table} has the same key by now"
    return f"somebody else has changed a row of {table} since"
