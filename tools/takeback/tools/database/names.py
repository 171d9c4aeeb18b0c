"""How the objects of a database are called.

=============================  ==========================================================
`shop`                         the database as a whole (`[databases.shop]`)
`shop//orders`                 a table
`shop//orders/5`               a row, by its primary key
`shop//order_items/5,2`        a row whose key has two columns
`shop//@sequence/orders`       a counter
`files:/home/me/app.db//t/1`   a row of a SQLite file in the workspace: the part before `//` is the file's own key, so that
                               whoever plans a rollback knows that the row goes where the file goes
=============================  ==========================================================

What is deeper lives in what it is named under; the engine's rules for folders (order, what builds on what) hold as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from pydantic import JsonValue

SYSTEM: Final = "database"
"""The name of the target system in effects."""
SEQUENCE: Final = "@sequence"
"""Stands in the place of a table for counters."""
INSIDE: Final = "//"
"""Between a database and what is in it."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_ .:@+-]*\Z")
_WORDS = frozenset({"null", "true", "false", "NaN", "Infinity"})
_SAFE = " ,:@.+-_\"'[]{}()"


@dataclass(frozen=True, slots=True)
class Name:
    """An object of a database, taken apart."""

    database: str
    table: str | None = None
    key: tuple[JsonValue, ...] | None = None
    """Values of the key's columns, encoded as in `rows.py`; of a counter its name."""

    def __str__(self) -> str:
        if self.table is None:
            return self.database
        inside = f"{self.database}{INSIDE}{_escaped(self.table)}"
        return inside if self.key is None else f"{inside}/{key_text(self.key)}"


def parse(object: str) -> Name:
    """Take a name apart.

    :raises ValueError: it is not one.
    """
    database, inside, rest = object.partition(INSIDE)
    if not inside:
        return Name(database)
    table, slash, key = rest.partition("/")
    return Name(database, unquote(table), _key(key) if slash else None)


def row(database: str, table: str, key: Sequence[JsonValue]) -> str:
    """The object that a row is."""
    return str(Name(database, table, tuple(key)))


def sequence(database: str, name: str) -> str:
    """The object that a counter is."""
    return str(Name(database, SEQUENCE, (name,)))


def key_text(key: Sequence[JsonValue]) -> str:
    """A key in one line: `5`, `5,2`, `Berlin`. Texts that could be taken for something else are written as JSON."""
    return ",".join(map(_part, key))


def _part(value: JsonValue) -> str:
    if type(value) is int:  # most are; a bool is none here
        return str(value)
    if isinstance(value, str) and _PLAIN.match(value) and value not in _WORDS:
        return _escaped(value)
    return _escaped(json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")))


def _escaped(text: str) -> str:
    return quote(text, safe=_SAFE)


def _key(text: str) -> tuple[JsonValue, ...]:
    text = unquote(text)
    decoder = json.JSONDecoder()
    found: list[JsonValue] = []
    at = 0
    while True:
        end = text.find(",", at)
        word = text[at:] if end < 0 else text[at:end]
        if _PLAIN.match(word) and word not in _WORDS:
            found.append(word)
            at += len(word)
        else:
            value, at = decoder.raw_decode(text, at)
            found.append(value)
        if at == len(text):
            return tuple(found)
        if text[at] != ",":
            raise ValueError(f"{text!r} is not a key")
        at += 1
