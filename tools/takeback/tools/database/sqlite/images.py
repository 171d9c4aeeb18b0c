"""The image of many changed rows: a changeset, and the rowids that no changeset tells.

One image holds what one action changed in all tables; a state names the image, the table and the side.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from blake3 import blake3
from pydantic import JsonValue

from takeback.checkpoints.objects import SMALL, ObjectStore
from takeback.journal.states import State

Side = Literal["before", "after"]
_MAGIC: Final = b"takeback rows 1\n"
_BLOCK: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Moved:
    """Where a row with a key and a rowid of its own lay."""

    key: tuple[JsonValue, ...]
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class RowsImage:
    """What an action did to rows."""

    changeset: bytes
    moved: Mapping[str, Sequence[Moved]] = field(default_factory=lambda: dict[str, Sequence[Moved]]())
    """By table."""
    tables: Mapping[str, Sequence[int]] = field(default_factory=lambda: dict[str, Sequence[int]]())
    """The tables it tells of, and per column its place in the key (`TableHead`)."""

    def to_bytes(self) -> bytes:
        """For the object store."""
        moved = {
            table: [[list(each.key), each.before, each.after] for each in moved]
            for table, moved in self.moved.items()
            if moved
        }
        head = {"moved": moved, "tables": {table: list(places) for table, places in self.tables.items()}}
        text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        return b"".join((_MAGIC, len(text).to_bytes(8, "big"), text, self.changeset))

    @classmethod
    def from_bytes(cls, data: bytes) -> RowsImage:
        """The opposite.

        :raises ValueError: it is no such image.
        """
        start = len(_MAGIC) + 8
        if not data.startswith(_MAGIC):
            raise ValueError("it is no image of rows")
        size = int.from_bytes(data[len(_MAGIC) : start], "big")
        head = json.loads(data[start : start + size])
        moved = {
            table: [Moved(tuple(key), before, after) for key, before, after in entries]
            for table, entries in head["moved"].items()
        }
        return cls(data[start + size :], moved, {table: tuple(places) for table, places in head["tables"].items()})


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in the object store."""

    id: str
    names: tuple[str, ...]
    size: int
    blobs: Mapping[str, bytes]
    """What still has to be made durable."""

    def state(self, side: Side) -> State:
        """What a table looked like on that side of the action, as far as the action changed it."""
        return State(
            digest=f"rows:{self.id}:{side}",
            kind="rows",
            size=self.size,
            objects=self.names,
            ref={"image": self.id, "side": side},
        )


async def store_rows(image: RowsImage, objects: ObjectStore) -> StoredImage:
    """Keep an image.

    :raises QuotaExceeded: it is too large.
    """
    data = image.to_bytes()
    id = blake3(data).hexdigest()[:40]
    names, blobs = await store_bytes(data, objects)
    return StoredImage(id, names, len(data), blobs)


async def store_bytes(data: bytes, objects: ObjectStore) -> tuple[tuple[str, ...], Mapping[str, bytes]]:
    """Keep bytes: what is small travels with the intent, the rest is stored at once."""
    if len(data) <= SMALL:
        name, blobs = objects.small(data)
        return (name,), blobs
    if len(data) <= _BLOCK:
        return (await objects.put(data),), {}
    return await objects.put_stream(io.BytesIO(data), len(data)), {}


async def load_bytes(names: Sequence[str], objects: ObjectStore) -> bytes:
    """What `store_bytes` kept.

    :raises ObjectError: it cannot be read.
    """
    if len(names) == 1:
        return await objects.get(names[0])
    return b"".join([await objects.get(name) for name in names])
