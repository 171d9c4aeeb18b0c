"""What stands in a database now, for the objects that effects name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import apsw
from blake3 import blake3
from pydantic import JsonValue

from takeback.journal.states import ABSENT, State
from takeback.tools.database import names
from takeback.tools.database.names import Name, key_text
from takeback.tools.database.rows import Row, canonical
from takeback.tools.database.sqlite import cells, whole
from takeback.tools.database.sqlite.cells import SAME, Change, Op
from takeback.tools.database.sqlite.images import Moved, RowsImage
from takeback.tools.database.sqlite.reading import Encoded, Reader, counters, named
from takeback.tools.database.sqlite.schema import Schema
from takeback.tools.database.sqlite.states import counter_state, whole_state

CACHED: Final = 50
"""Statements that a connection which looks keeps ready."""
Images = Mapping[str, RowsImage]
Found = State | tuple[Row | None]
"""A state, or a row (`None`: there is none) of which somebody has yet to make one."""


class Looker:
    """Looks at objects through one connection, in whatever transaction it is."""

    def __init__(self, connection: apsw.Connection, images: Images) -> None:
        self.connection, self.images = connection, images
        self.schema = Schema(connection)
        self._readers: dict[str, Reader | None] = {}
        self._counters: dict[str, JsonValue] | None = None

    def reader(self, table: str) -> Reader | None:
        """What reads rows of that table; `None` if there is no such table."""
        if table not in self._readers:
            info = self.schema.table(table)
            self._readers[table] = None if info is None else Reader(self.connection, info)
        return self._readers[table]

    def look(self, object: str, like: State | None) -> Found:
        """One object."""
        name = names.parse(object)
        if name.table is None:
            return whole_state(whole.content_of(self.connection).digest, (), None)
        if name.table == names.SEQUENCE:
            return self._counter(str((name.key or ("",))[0]))
        if name.key is not None:
            return (self.row(name),)
        reader = self.reader(name.table)
        if reader is None:
            return ABSENT
        image = None if like is None else self.images.get(str(like.ref.get("image")))
        if like is None or image is None:
            rows, digest = whole.fingerprint(self.connection, self.schema, name.table)
            return State(digest=f"table:{rows}:{digest}", kind="table")
        return self.compared(name.table, image, like)

    def row(self, name: Name) -> Row | None:
        """A row by its name."""
        reader = self.reader(name.table or "")
        found = reader.cells(name.key or ()) if reader is not None else None
        return None if reader is None or found is None else named(reader.table, found)

    def _counter(self, name: str) -> State:
        if self._counters is None:
            self._counters = counters(self.connection)
        return counter_state(self._counters[name]) if name in self._counters else ABSENT

    # -- many rows -----------------------------------------------------------------------------------------------------------

    def compared(self, table: str, image: RowsImage, like: State) -> State:
        """Which side of the image stands there; if neither, a fingerprint of the mixture."""
        before = after = True
        mixture = blake3()
        for at in self.entries(table, image):
            was, now = at.sides()
            before, after = before and was, after and now
            mixture.update(canonical({"key": key_text(at.key), "there": list(at.there()) if at.present else None}))
        id, side = str(like.ref["image"]), like.ref.get("side")
        for found, word in ((before, "before"), (after, "after")):
            if found:
                digest = like.digest if side == word else f"rows:{id}:{word}"
                return State(digest=digest, kind="rows", objects=like.objects, ref={"image": id, "side": word})
        return State(
            digest=f"rows:{id}:mixed:{mixture.hexdigest()[:32]}",
            kind="rows",
            objects=like.objects,
            ref={"image": id, "side": ""},
        )

    def entries(self, table: str, image: RowsImage) -> Iterator[Entry]:
        """The rows of an image beside what stands there."""
        reader = self.reader(table)
        if reader is None:
            return
        moved = {key_text(each.key): each for each in image.moved.get(reader.table.name, ())}
        for change in cells.read(image.changeset):
            if change.table.name == reader.table.name:
                key = change.key
                yield Entry(reader, change, key, moved.pop(key_text(key), None) if moved else None, reader.cells(key))
        for each in moved.values():
            yield Entry(reader, None, each.key, each, reader.cells(each.key))


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of an image, and the present row under its key."""

    reader: Reader
    change: Change | None
    """`None`: only where it lies has changed."""
    key: tuple[JsonValue, ...]
    moved: Moved | None
    present: Encoded | None

    @property
    def stored(self) -> tuple[JsonValue, ...]:
        """The present cells, as the changeset counts them."""
        cells_now = self.present or ()
        if self.reader.table.tracked:
            cells_now = cells_now[:-1]
        return (self.key[0], *cells_now) if self.reader.table.keyless else cells_now

    @property
    def lies(self) -> JsonValue:
        """The present rowid, where that is tracked."""
        return self.present[-1] if self.present is not None and self.reader.table.tracked else None

    def there(self) -> Sequence[JsonValue]:
        """The present cells that the action changed."""
        change = self.change
        if change is None or change.op is not Op.UPDATE:
            return (*self.stored, self.lies)
        return (*(now for now, new in zip(self.stored, change.new, strict=False) if new is not SAME), self.lies)

    def sides(self) -> tuple[bool, bool]:
        """Whether it is as before the action, and whether it is as after it."""
        change, moved = self.change, self.moved
        if self.present is None:
            op = None if change is None else change.op
            return op is Op.INSERT, op is Op.DELETE
        lay = moved is None or self.lies == moved.before
        lies = moved is None or self.lies == moved.after
        if change is None:
            return lay, lies
        stored = self.stored
        if change.op is Op.INSERT:
            return False, lies and _equal(stored, change.new)
        if change.op is Op.DELETE:
            return lay and _equal(stored, change.old), False
        if len(stored) != len(change.new):
            return False, False
        before = all(new is SAME or old == now for old, new, now in zip(change.old, change.new, stored, strict=True))
        after = all(new is SAME or new == now for new, now in zip(change.new, stored, strict=True))
        return lay and before, lies and after


def _equal(stored: Sequence[JsonValue], told: Sequence[cells.Cell]) -> bool:
    return len(stored) == len(told) and all(one == other for one, other in zip(stored, told, strict=True))
