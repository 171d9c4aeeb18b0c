"""Changesets of SQLite's session extension, read and written as bytes.

The format is documented at the top of SQLite's `sqlite3session.c`, and fixed for good. Reading it here keeps what apsw's own
iteration cannot give: texts that are not valid Unicode. Values are encoded as in `rows.py`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pydantic import JsonValue

from takeback.tools.database.rows import RawText, decode, encode_text


class Op(IntEnum):
    """What happened to a row, as SQLite numbers it."""

    DELETE = 9
    INSERT = 18
    UPDATE = 23


class _Same:
    """Stands for a value that an update leaves as it is."""

    def __repr__(self) -> str:
        return "SAME"


SAME: Final = _Same()
Cell = JsonValue | _Same
Cells = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class TableHead:
    """The table that the changes after it belong to."""

    name: str
    key: tuple[int, ...]
    """Per column, its place in the key from 1 on, or 0. The first column of a table without one is its rowid."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row: its old cells (all of a deleted row; key and changed ones of an updated one), and its new ones."""

    table: TableHead
    op: Op
    old: Cells
    new: Cells

    @property
    def key(self) -> tuple[JsonValue, ...]:
        """Values of the key's columns: an update never changes them."""
        cells = self.new if self.op is Op.INSERT else self.old
        return tuple(
            cell for cell, is_key in zip(cells, self.table.key, strict=True) if is_key and not isinstance(cell, _Same)
        )

    def reversed(self) -> Change:
        """What takes it back."""
        if self.op is Op.INSERT:
            return Change(self.table, Op.DELETE, self.new, ())
        if self.op is Op.DELETE:
            return Change(self.table, Op.INSERT, (), self.old)
        key = self.table.key
        return Change(
            self.table,
            Op.UPDATE,
            tuple(old if k else new for old, new, k in zip(self.old, self.new, key, strict=True)),
            tuple(SAME if k else old for old, k in zip(self.old, key, strict=True)),
        )


_INT = struct.Struct(">q")
_REAL = struct.Struct(">d")


def read(data: bytes) -> Iterator[Change]:
    """The changes of a changeset, in its order."""
    at, end = 0, len(data)
    head = TableHead("", ())
    while at < end:
        if data[at] == 0x54:  # "T"
            count, at = _varint(data, at + 1)
            key = tuple(data[at : at + count])
            at += count
            stop = data.index(0, at)
            head = TableHead(data[at:stop].decode("utf-8"), key)
            at = stop + 1
            continue
        op, at = Op(data[at]), at + 2
        old: Cells = ()
        new: Cells = ()
        if op is not Op.INSERT:
            old, at = _record(data, at, len(head.key))
        if op is not Op.DELETE:
            new, at = _record(data, at, len(head.key))
        yield Change(head, op, old, new)


def write(changes: Iterable[Change]) -> bytes:
    """A changeset of these changes, which come table by table."""
    out = bytearray()
    head: TableHead | None = None
    for change in changes:
        if change.table is not head and change.table != head:
            head = change.table
            out += b"T" + _put_varint(len(head.key)) + bytes(head.key) + head.name.encode("utf-8") + b"\0"
        out += bytes((change.op, 0))
        for cells in (change.old, change.new):
            for cell in cells:
                _put_cell(out, cell)
    return bytes(out)


def _record(data: bytes, at: int, columns: int) -> tuple[Cells, int]:
    cells: list[Cell] = []
    for _ in range(columns):
        kind = data[at]
        at += 1
        match kind:
            case 0:
                cells.append(SAME)
            case 1:
                cells.append(_INT.unpack_from(data, at)[0])
                at += 8
            case 2:
                cells.append({"real": _REAL.unpack_from(data, at)[0].hex()})
                at += 8
            case 5:
                cells.append(None)
            case _:
                size, at = _varint(data, at)
                raw = data[at : at + size]
                cells.append(encode_text(raw) if kind == 3 else {"base64": base64.b64encode(raw).decode("ascii")})
                at += size
    return tuple(cells), at


def _put_cell(out: bytearray, cell: Cell) -> None:
    if isinstance(cell, _Same):
        out.append(0)
        return
    value = decode(cell)
    match value:
        case None:
            out.append(5)
        case int():
            out.append(1)
            out += _INT.pack(value)
        case float():
            out.append(2)
            out += _REAL.pack(value)
        case str():
            raw = value.encode("utf-8")
            out += b"\x03" + _put_varint(len(raw)) + raw
        case bytes():
            out += (b"\x03" if isinstance(value, RawText) else b"\x04") + _put_varint(len(value)) + value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(9):
        byte = data[at + index]
        if index == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    raise AssertionError("a varint ends with its ninth byte")


def _put_varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    parts = [value & 0x7F]
    value >>= 7
    while value:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(reversed(parts))


def project(cells: Sequence[Cell], base: Sequence[JsonValue]) -> tuple[JsonValue, ...]:
    """The cells, with what stands in `base` where they say nothing."""
    return tuple(base[at] if isinstance(cell, _Same) else cell for at, cell in enumerate(cells))
