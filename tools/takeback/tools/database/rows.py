"""Rows as states: encoded, fingerprinted, merged column by column, described. Nothing here knows a database.

A row is a mapping of its stored columns (generated ones are left out) to encoded values. Encoded values are JSON that says
exactly what was stored: `None`, `bool`, `int`, `str`, a float as `{"real": "0x1.8p+0"}` (its exact bits), bytes as
`{"base64": "…"}`, a text that is not valid Unicode as the bytes it consists of, `{"text": "…"}`. A database that has exact
texts for all its values (PostgreSQL) encodes each as that text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from blake3 import blake3
from pydantic import JsonValue

from takeback.checkpoints.objects import SMALL, ObjectStore
from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.system import Clash

Row = Mapping[str, JsonValue]

INLINE: Final = 2048
"""Bytes up to which a row travels in its state; longer ones lie in the object store."""
AS_OBJECTS: Final = 100
"""An action that changes at most so many rows names each of them; beyond, it names the tables."""
SHOWN: Final = 10
"""Rows of a table that a preview shows."""
CELL: Final = 60
"""Characters of a value that a preview shows."""


def encode(value: object) -> JsonValue:
    """A value as Python's database drivers give it, so that JSON keeps it exactly.

    :raises TypeError: a type that no driver should give.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"real": value.hex()}
    if isinstance(value, bytes | bytearray):
        return {"base64": base64.b64encode(value).decode("ascii")}
    raise TypeError(f"a {type(value).__name__} cannot be kept")


class RawText(bytes):
    """A text that is not valid Unicode, by its bytes: SQLite keeps what it is given."""


def encode_text(data: bytes) -> JsonValue:
    """A text by its bytes: UTF-8, or what somebody once stored as such."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"text": base64.b64encode(data).decode("ascii")}


def decode(value: JsonValue) -> bool | int | float | str | bytes | None:
    """The opposite of `encode` and `encode_text`.

    :raises ValueError: it was not encoded by it.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict) and len(value) == 1:
        [(kind, text)] = value.items()
        if kind == "real" and isinstance(text, str):
            return float.fromhex(text)
        if kind == "base64" and isinstance(text, str):
            return base64.b64decode(text, validate=True)
        if kind == "text" and isinstance(text, str):
            return RawText(base64.b64decode(text, validate=True))
    raise ValueError(f"{value!r} is not an encoded value")


_spell = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def canonical(row: Row) -> bytes:
    """One spelling of a row, whatever the order of its columns."""
    return _spell(row).encode("utf-8", "surrogatepass")


def state_of(row: Row | None, objects: ObjectStore, **ref: JsonValue) -> tuple[State, dict[str, bytes]]:
    """The state of a row (`None`: there is no such row), and the small objects to store along with the intent.

    :param ref: what else the database wants to find in the state again; not part of the fingerprint.
    :raises ValueError: the row is larger than `SMALL` bytes: use `stored_state`.
    """
    if row is None:
        return (ABSENT if not ref else ABSENT.model_copy(update={"ref": dict(ref)})), {}
    data = canonical(row)
    if len(data) > SMALL:
        raise ValueError("the row is too large to travel with the intent")
    return _travelling(row, data, objects, dict(ref))


def _travelling(
    row: Row, data: bytes, objects: ObjectStore, ref: dict[str, JsonValue]
) -> tuple[State, dict[str, bytes]]:
    if len(data) <= INLINE:
        return _state(data, (), {**ref, "row": dict(row)}), {}
    name, blobs = objects.small(data)
    return _state(data, (name,), ref), dict(blobs)


async def stored_state(row: Row | None, objects: ObjectStore, **ref: JsonValue) -> tuple[State, dict[str, bytes]]:
    """`state_of` for rows of any size: what is too large to travel with the intent is stored at once.

    :raises ObjectError: it cannot be stored.
    """
    if row is None:
        return state_of(row, objects, **ref)
    data = canonical(row)
    if len(data) > SMALL:
        return _state(data, (await objects.put(data),), dict(ref)), {}
    return _travelling(row, data, objects, dict(ref))


def digest_of(row: Row | None) -> str:
    """The fingerprint of a row, as its state has it."""
    return ABSENT.digest if row is None else f"blake3:{blake3(canonical(row)).hexdigest()}"


def _state(data: bytes, objects: tuple[str, ...], ref: dict[str, JsonValue]) -> State:
    digest = f"blake3:{blake3(data).hexdigest()}"
    return State(digest=digest, kind="row", content=digest, size=len(data), objects=objects, ref=ref)


async def row_of(state: State, objects: ObjectStore) -> Row | None:
    """The row of a state; `None` if it says that there is none.

    :raises ObjectError: its image cannot be read.
    """
    if state.absent:
        return None
    row = state.ref.get("row")
    if isinstance(row, dict):
        return row
    return cast(
        "dict[str, JsonValue]", json.loads((await objects.get(state.objects[0])).decode("utf-8", "surrogatepass"))
    )


def merge(base: Row | None, wanted: Row | None, present: Row | None) -> Row | Clash | None:
    """Remove our change from a row that somebody else changed too: column by column. Pure.

    :param base: as we left it.
    :param wanted: as it was before us.
    :param present: as it is now.
    """
    if present == base:
        return wanted
    if present == wanted:
        return present
    if base is None:
        return Clash("somebody else put another row under the same key")
    if present is None:
        return Clash("somebody else deleted the row")
    if wanted is None:
        return Clash("somebody else changed the row, which was not there before")
    if base.keys() != present.keys() or wanted.keys() != present.keys():
        return Clash("the columns of the table are not what they were")
    merged = dict(present)
    for column, old in wanted.items():
        if base[column] == old:
            continue
        if present[column] == base[column]:
            merged[column] = old
        elif present[column] != old:
            return Clash(f"somebody else changed the same column, {column}")
    return merged


def text_of(value: JsonValue) -> str:
    """A value for people, in one line, cut where it is long."""
    if value is None:
        return "NULL"
    if isinstance(value, dict):
        if isinstance(real := value.get("real"), str):
            return repr(float.fromhex(real))
        if isinstance(raw := value.get("text"), str):
            value = base64.b64decode(raw).decode("utf-8", "backslashreplace")
        else:
            return f"<{len(base64.b64decode(str(value.get('base64', ''))))} bytes>"
    text = str(value).replace("\n", "\\n")
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"


def changes_of(before: Row | None, after: Row | None) -> str:
    """What differs between two rows: `status: open → shipped`."""
    if before is None or after is None:
        row = after if before is None else before
        return ", ".join(f"{column}: {text_of(value)}" for column, value in (row or {}).items())
    return ", ".join(
        f"{column}: {text_of(before.get(column))} → {text_of(after.get(column))}"
        for column in dict.fromkeys([*before, *after])
        if before.get(column) != after.get(column)
    )


def diff_of(pairs: Sequence[tuple[Row | None, Row | None]], more: int = 0) -> str:
    """Rows before and after, one line a side, for a preview.

    :param more: how many rows are not shown.
    """
    lines: list[str] = []
    for before, after in pairs:
        if before is not None:
            lines.append("- " + ", ".join(f"{column}={text_of(value)}" for column, value in before.items()))
        if after is not None:
            lines.append("+ " + ", ".join(f"{column}={text_of(value)}" for column, value in after.items()))
    if more > 0:
        lines.append(f"… and {more} more row{'s' if more != 1 else ''}")
    return "\n".join(lines)


def to_json(row: Row) -> bytes:
    """A row as a person reads and edits it."""
    return json.dumps(row, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")


def from_json(content: bytes) -> dict[str, JsonValue]:
    """A row that a person wrote.

    :raises ValueError: it is not a JSON object of encoded values.
    """
    row: Any = json.loads(content.decode("utf-8"))
    if not isinstance(row, dict):
        raise ValueError("it is not a JSON object")
    return {column: _spelled(value) for column, value in cast("dict[str, JsonValue]", row).items()}


def _spelled(value: JsonValue) -> JsonValue:
    # numbers as people write them, in the one spelling that fingerprints are taken over
    raw = value if isinstance(value, float) else decode(value)
    return encode(raw) if isinstance(raw, float) else value


def reversed_effects(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    """What takes these effects back, the last first."""
    return tuple(effect.reversed() for effect in reversed(effects))
