"""Removing our change alone from rows that somebody else has changed too: row by row, column by column, all or nothing.

What stands there is what the caller says: a plan asks for the time when its earlier steps will be done. Only where somebody
has changed some of many rows is the database itself looked at, since no state says what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import apsw
from pydantic import JsonValue

from takeback.journal.states import Effect, State
from takeback.tools.database import names, rows
from takeback.tools.database.names import key_text
from takeback.tools.database.rows import Row
from takeback.tools.database.sqlite import cells
from takeback.tools.database.sqlite.cells import SAME, Cell, Change, Op
from takeback.tools.database.sqlite.changes import head_of
from takeback.tools.database.sqlite.images import Moved, RowsImage
from takeback.tools.database.sqlite.looking import Entry, Images, Looker
from takeback.tools.database.sqlite.schema import TableInfo, quoted
from takeback.tools.system import Clash


@dataclass(frozen=True, slots=True)
class Wish:
    """One wanted effect, and what stands there; with the rows where it is about a row."""

    effect: Effect
    present: State
    base: Row | None = None
    want: Row | None = None
    now: Row | None = None


@dataclass(slots=True)
class MergedRows:
    """What to put there instead: rows by the index of their wish, and one image for each wish about many rows."""

    rows: dict[int, Row | None] = field(default_factory=lambda: dict[int, Row | None]())
    images: dict[int, RowsImage] = field(default_factory=lambda: dict[int, RowsImage]())
    states: dict[int, State] = field(default_factory=lambda: dict[int, State]())
    """Counters, and rows among which nobody changed any: they are put back as they were."""


def merge(connection: apsw.Connection, wishes: Sequence[Wish], images: Images) -> MergedRows | Clash:
    """Decide. Reads only."""
    found = MergedRows()
    looker = Looker(connection, images)
    for index, wish in enumerate(wishes):
        name = names.parse(wish.effect.object)
        if name.table is None:
            return Clash("somebody else has changed the database since, and this can only be put back as a whole")
        if name.table == names.SEQUENCE:
            if wish.present.same(wish.effect.before):
                found.states[index] = wish.effect.after
            continue  # a counter that others have used stays where it is
        info = looker.schema.table(name.table)
        if info is None:
            return Clash(f"there is no table {name.table} any more")
        if name.key is not None:
            merged = _row(connection, info, wish)
            if isinstance(merged, Clash):
                return Clash(f"{info.name} {key_text(name.key)}: {merged.why}")
            found.rows[index] = merged[0]
            continue
        if wish.present.same(wish.effect.before):
            found.states[index] = wish.effect.after
            continue
        if wish.present.same(wish.effect.after):
            continue
        image = images.get(str(wish.effect.after.ref.get("image")))
        if image is None:
            return Clash(f"the rows of {info.name} that were there before are not kept")
        if not looker.compared(name.table, image, wish.present).same(wish.present):
            return Clash(f"somebody else is changing rows of {info.name} just now")
        many = _rows(connection, looker, info, image, to=str(wish.effect.after.ref.get("side")))
        if isinstance(many, Clash):
            return many
        found.images[index] = many
    return found


def _row(connection: apsw.Connection, info: TableInfo, wish: Wish) -> tuple[Row | None] | Clash:
    base, want, now, extra = wish.base, wish.want, wish.now, info.extra
    if extra and now is not None:
        # where a row lies is nobody's change: VACUUM may have moved it
        lies = now.get(extra)
        if base is not None and base.get(extra) != lies:
            base = {**base, extra: lies}
            want = None if want is None else {**want, extra: lies}
        elif want is not None and base is None and rows.digest_of({**want, extra: lies}) == rows.digest_of(now):
            want = dict(now)
    merged = rows.merge(base, want, now)
    if isinstance(merged, Clash):
        return merged
    if extra and merged is not None and now is None:
        merged = {**merged, extra: _free(connection, info, merged.get(extra))}
    return (merged,)


def _free(connection: apsw.Connection, info: TableInfo, wanted: JsonValue) -> JsonValue:
    # the place of a row that is to come back, or another one if somebody else's row lies there by now
    table = f"main.{quoted(info.name)}"
    if isinstance(wanted, int) and not list(
        connection.execute(f"SELECT 1 FROM {table} WHERE {info.rowid} = ?", (wanted,))
    ):
        return wanted
    for (highest,) in connection.execute(f"SELECT max({info.rowid}) FROM {table}"):
        if isinstance(highest, int):
            return highest + 1
    return 1


def _rows(
    connection: apsw.Connection, looker: Looker, info: TableInfo, image: RowsImage, *, to: str
) -> RowsImage | Clash:
    changes: list[Change] = []
    moved: list[Moved] = []
    taken = 0
    for entry in looker.entries(info.name, image):
        if to == "before":
            change, lie = entry.change.reversed() if entry.change is not None else None, _lay(entry)
        else:
            change, lie = entry.change, entry.moved.after if entry.moved is not None else None
        made = _one(entry, change)
        if isinstance(made, Clash):
            return Clash(f"{info.name} {key_text(entry.key)}: {made.why}")
        if made is None:
            continue
        changes.append(made)
        if info.tracked:
            if made.op is Op.INSERT:
                place = _free(connection, info, lie)
                if place != lie and isinstance(place, int):
                    place, taken = place + taken, taken + 1
                moved.append(Moved(entry.key, None, place if isinstance(place, int) else None))
            else:
                now = entry.lies if isinstance(entry.lies, int) else None
                moved.append(Moved(entry.key, now, None if made.op is Op.DELETE else now))
    places = {info.name: head_of(info).key}
    return RowsImage(cells.write(changes), {info.name: moved} if moved else {}, places)


def _lay(entry: Entry) -> int | None:
    return entry.moved.before if entry.moved is not None else None


def _one(entry: Entry, change: Change | None) -> Change | Clash | None:
    """What is left to do to a row; `None`: nothing."""
    if change is None:
        return None  # only its place had changed, which is nobody's business any more
    stored = entry.stored
    present = entry.present is not None
    if change.op is Op.INSERT:
        if not present:
            return change
        return None if _equal(stored, change.new) else Clash("somebody else put another row under the same key")
    if change.op is Op.DELETE:
        if not present:
            return None
        return (
            change if _equal(stored, change.old) else Clash("somebody else changed the row, which was not there before")
        )
    if not present:
        return Clash("somebody else deleted the row")
    if len(stored) != len(change.new):
        return Clash("the columns of the table are not what they were")
    return _update(entry, change, stored)


def _update(entry: Entry, change: Change, stored: Sequence[JsonValue]) -> Change | Clash | None:
    old: list[Cell] = []
    new: list[Cell] = []
    columns = entry.reader.table.columns
    for at, (is_key, was, want, now) in enumerate(zip(change.table.key, change.old, change.new, stored, strict=True)):
        if is_key:
            old.append(now)
            new.append(SAME)
        elif want is SAME or want == now:
            old.append(SAME)
            new.append(SAME)
        elif was == now:
            old.append(now)
            new.append(want)
        else:
            return Clash(f"somebody else changed the same column, {columns[at - entry.reader.table.keyless]}")
    if all(cell is SAME for cell in new):
        return None
    return Change(change.table, Op.UPDATE, tuple(old), tuple(new))


def _equal(stored: Sequence[JsonValue], told: Sequence[Cell]) -> bool:
    return len(stored) == len(told) and all(one == other for one, other in zip(stored, told, strict=True))
