"""Rows of one table as one object: how they are kept in the object store, and fingerprinted.

An image names the rows that one action changed, and how they were on both sides of it. What stands there now is compared with
the two sides; if it is neither, it is kept as an image of its own, over the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from blake3 import blake3
from pydantic import JsonValue

from takeback.checkpoints.objects import SMALL, ObjectStore
from takeback.journal.states import State
from takeback.tools.database.postgres.catalog import TableInfo
from takeback.tools.database.postgres.changes import TableChange
from takeback.tools.database.postgres.driver import Line

KIND: Final = "rows"
Side = Literal["before", "after"]
Value = Line | int | None
"""Of a row with a key: the row, or `None`. Of a row in a table without: how often it stands there."""


@dataclass(frozen=True, slots=True)
class Image:
    """Rows of a table, and how they were before and after an action."""

    name: str
    """In the object store."""
    columns: tuple[str, ...]
    key: tuple[str, ...]
    shape: str
    rows: tuple[Line, ...]
    """The keys; in a table without a key the rows themselves."""
    before: tuple[Value, ...]
    after: tuple[Value, ...]

    def state(self, values: Sequence[Value], own: str | None = None, **ref: JsonValue) -> State:
        """The state in which these rows have those values.

        :param own: name of the object that holds the values, where they are on neither side of the action.
        """
        side = "before" if tuple(values) == self.before else "after" if tuple(values) == self.after else ""
        digest = side or digest_of(values)
        objects = (self.name,) if own is None or side else (self.name, own)
        return State(
            digest=f"{KIND}:{self.name}:{digest}",
            kind=KIND,
            objects=objects,
            ref={**ref, "image": self.name, "side": side, "rows": len(self.rows)},
            content=f"{KIND}:{digest_of(values)}",
        )


def digest_of(values: Sequence[Value]) -> str:
    """Fingerprint of values alone."""
    return blake3(_dump(values)).hexdigest()


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def sides(change: TableChange) -> tuple[list[Line], list[Value], list[Value]]:
    """The rows of a change, and their values on both sides."""
    if not change.info.keyed:
        return (
            [count.row for count in change.counts],
            [count.before for count in change.counts],
            [count.after for count in change.counts],
        )
    places = change.info.places
    keys: list[Line] = []
    for before, after in change.pairs:
        row = before if before is not None else after
        assert row is not None
        keys.append(tuple(row[place] for place in places))
    return keys, [before for before, _ in change.pairs], [after for _, after in change.pairs]


def encoded(change: TableChange) -> bytes:
    """An image as it is stored."""
    keys, before, after = sides(change)
    info = change.info
    return _dump(
        {
            "table": info.shown,
            "columns": [column.name for column in info.stored],
            "key": list(info.key),
            "shape": info.shape,
            "rows": keys,
            "before": before,
            "after": after,
        }
    )


def encoded_values(values: Sequence[Value]) -> bytes:
    """Values over the rows of an image, as they are stored."""
    return _dump({"values": list(values)})


async def store(data: bytes, objects: ObjectStore) -> tuple[str, dict[str, bytes]]:
    """Keep an object: its name, and the bytes to be made durable along with the intent, if they are few."""
    if len(data) > SMALL:
        return await objects.put(data), {}
    name, blobs = objects.small(data)
    return name, dict(blobs)


async def load(state: State, objects: ObjectStore) -> Image | None:
    """The image that a state belongs to; `None` if its rows were not kept.

    :raises ObjectError: it cannot be read.
    """
    name = state.ref.get("image")
    if not isinstance(name, str):
        return None
    return _decoded(name, await objects.get(name))


async def values_of(state: State, image: Image, objects: ObjectStore) -> tuple[Value, ...]:
    """How the rows of the image are in this state.

    :raises ObjectError: it cannot be read.
    """
    match state.ref.get("side"):
        case "before":
            return image.before
        case "after":
            return image.after
        case _:
            return _values(
                json.loads((await objects.get(state.objects[-1])).decode("utf-8", "surrogatepass"))["values"]
            )


def _decoded(name: str, data: bytes) -> Image:
    found: dict[str, Any] = json.loads(data.decode("utf-8", "surrogatepass"))
    return Image(
        name=name,
        columns=tuple(found["columns"]),
        key=tuple(found["key"]),
        shape=str(found["shape"]),
        rows=tuple(tuple(row) for row in found["rows"]),
        before=_values(found["before"]),
        after=_values(found["after"]),
    )


def _values(raw: list[Any]) -> tuple[Value, ...]:
    return tuple(
        tuple(cast("list[str | None]", value)) if isinstance(value, list) else cast("int | None", value)
        for value in raw
    )


def fits(image: Image, info: TableInfo) -> bool:
    """Whether the table still has the columns and the key that it had."""
    return image.shape == info.shape
