"""What stands now in the place of an object, measured so that it can be compared with a state from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from takeback.checkpoints.objects import ObjectStore
from takeback.journal.states import ABSENT, State
from takeback.tools.database import names, rows
from takeback.tools.database.postgres import catalog, images, reading, sequences
from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.driver import Connection, Line
from takeback.tools.database.postgres.effects import SCHEMA, key_line, row_of, sequence_state, table_state
from takeback.tools.database.postgres.images import Image, Value

What = Literal["row", "rows", "sequence", "table", "database", "schema"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One object to look at."""

    object: str
    what: What
    name: names.Name
    image: Image | None = None
    """Which rows, for `rows`; `None` if their images were not kept."""


@dataclass(frozen=True, slots=True)
class Found:
    """What stands there, not yet a state."""

    asked: Asked
    info: TableInfo | None = None
    line: Line | None = None
    place: str = ""
    values: tuple[Value, ...] = ()
    sequence: sequences.Value | None = None
    oid: int = 0
    definition: str = ""
    in_use: bool = False
    """Of a counter: somebody drew a number that going back would hand out again."""

    @property
    def digest(self) -> str:
        """The fingerprint that its state will have."""
        match self.asked.what:
            case "row":
                return ABSENT.digest if self.info is None else rows.digest_of(row_of(self.info, self.line))
            case "rows":
                image = self.asked.image
                return "rows:unkept" if image is None or not self.comparable else image.state(self.values).digest
            case "sequence":
                if self.sequence is None:
                    return ABSENT.digest
                return sequence_state(self.sequence).digest + (":in use" if self.in_use else "")
            case "table":
                return ABSENT.digest if self.info is None else f"table:{self.definition}"
            case "database" | "schema":
                return self.asked.what

    @property
    def comparable(self) -> bool:
        """Of rows: whether the table is there and has the columns that the image has."""
        image = self.asked.image
        return image is not None and self.info is not None and images.fits(image, self.info)


async def asked(object: str, like: State | None, objects: ObjectStore) -> Asked:
    """What has to be looked at so that it can be compared with `like`."""
    name = names.parse(object)
    if name.table is None:
        return Asked(object, "database", name)
    if name.table == names.SEQUENCE:
        return Asked(object, "sequence", name)
    if name.table == SCHEMA:
        return Asked(object, "schema", name)
    if name.key is not None:
        return Asked(object, "row", name)
    if like is not None and like.kind == images.KIND:
        return Asked(object, "rows", name, await images.load(like, objects))
    return Asked(object, "table", name)


def look(connection: Connection, asks: Sequence[Asked], *, lock: bool = False) -> list[Found]:
    """Look at all of them, in an open transaction.

    :param lock: keep others from changing the rows until the transaction ends.
    """
    shown = [ask.name.table for ask in asks if ask.what in ("row", "rows", "table") and ask.name.table is not None]
    infos = catalog.tables_named(connection, list(dict.fromkeys(shown)))
    found: dict[int, Found] = {}
    by_table: dict[str, list[int]] = {}
    for index, ask in enumerate(asks):
        info = infos.get(ask.name.table or "")
        match ask.what:
            case "row":
                by_table.setdefault(ask.name.table or "", []).append(index)
            case "rows":
                found[index] = _rows(connection, ask, info)
            case "sequence":
                found[index] = _sequence(connection, ask)
            case "table":
                definition = "" if info is None else catalog.definition(connection, info.oid)
                found[index] = Found(ask, info=info, oid=0 if info is None else info.oid, definition=definition)
            case "database" | "schema":
                found[index] = Found(ask)
    for table, indexes in by_table.items():
        info = infos.get(table)
        keys = [key_line(asks[index].name.key or ()) for index in indexes]
        if info is None or any(len(key) != len(info.key) for key in keys):
            found.update({index: Found(asks[index]) for index in indexes})
            continue
        lines, places = reading.present(connection, info, keys, lock=lock)
        for index, line, place in zip(indexes, lines, places, strict=True):
            found[index] = Found(asks[index], info=info, line=line, place=place)
    return [found[index] for index in range(len(asks))]


def _rows(connection: Connection, ask: Asked, info: TableInfo | None) -> Found:
    image = ask.image
    if image is None or info is None or not images.fits(image, info):
        return Found(ask, info=info)
    if info.keyed:
        lines, _ = reading.present(connection, info, image.rows)
        return Found(ask, info=info, values=tuple(lines))
    return Found(ask, info=info, values=tuple(reading.counted(connection, info, image.rows)))


def _sequence(connection: Connection, ask: Asked) -> Found:
    [shown] = ask.name.key or ("",)
    try:
        schema, name = catalog.unqualified(str(shown))
    except ValueError:
        return Found(ask)
    rows = connection.rows(
        "SELECT k.oid FROM pg_class k JOIN pg_namespace n ON n.oid = k.relnamespace"
        " WHERE k.relkind = 'S' AND n.nspname = $1 AND k.relname = $2",
        [schema, name],
    )
    if not rows:
        return Found(ask)
    oid = int(rows[0][0] or 0)
    return Found(ask, oid=oid, sequence=sequences.values(connection, {oid: (schema, name)})[oid])


async def state_of(found: Found, objects: ObjectStore) -> State:
    """The state of what was found; images that it needs are stored."""
    match found.asked.what:
        case "row":
            if found.info is None:
                return ABSENT
            state, blobs = await rows.stored_state(
                row_of(found.info, found.line), objects, **({"shape": found.info.shape} if found.line else {})
            )
            await objects.put_blobs(blobs)
            return state
        case "rows":
            image = found.asked.image
            if image is None or not found.comparable:
                return State(digest="rows:unkept", kind=images.KIND)
            if found.values in (image.before, image.after):
                return image.state(found.values)
            name = await objects.put(images.encoded_values(found.values))
            return image.state(found.values, own=name)
        case "sequence":
            if found.sequence is None:
                return ABSENT
            state = sequence_state(found.sequence)
            return state.model_copy(update={"digest": found.digest}) if found.in_use else state
        case "table":
            return ABSENT if found.info is None else table_state(found.definition, oid=found.oid)
        case "database" | "schema":
            return State(digest=found.asked.what, kind=found.asked.what)
