"""Arguments nobody meant to send: made from a valid example by spoiling one place at a time. The same ones every time."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, cast

STRINGS = (
    "",
    " ",
    ".",
    "..",
    "/",
    "\x00",
    "a\x00b",
    "a\r\nBcc: b@example.org",
    "../../etc/passwd",
    "C:\\Windows\\x",
    "\u202etxt.exe",
    "\ufeff",
    "e\u0301",
    "'; DROP TABLE notes; --",
    "{{7*7}}${7*7}%s%n",
    "<script>alert(1)</script>",
    "-rf",
    "NaN",
    "x" * 70_000,
    "\U0001f9e8" * 300,
    "\ud800",
)
NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**30)
FLOATS = (0.0, -0.0, 1e308, float("inf"), float("-inf"), float("nan"))
Path = tuple[str | int, ...]


def leaves(value: object, at: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every place in a JSON value, with what stands there; containers are places too."""
    if at:
        yield at, value
    if isinstance(value, dict):
        for key, part in cast("dict[str, object]", value).items():
            yield from leaves(part, (*at, key))
    elif isinstance(value, list):
        for index, part in enumerate(cast("list[object]", value)):
            yield from leaves(part, (*at, index))


def spoiled(example: Mapping[str, Any], at: Path, value: object) -> dict[str, Any]:
    """The example with another value at one place."""
    changed: dict[str, Any] = copy.deepcopy(dict(example))
    holder: Any = changed
    for step in at[:-1]:
        holder = holder[step]
    holder[at[-1]] = value
    return changed


def odd(example: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Calls of the right types with values that are not meant, also in the optional fields that the example leaves out."""
    whole = {**{name: filler(field) for name, field in _fields(schema).items() if name not in example}, **example}
    for at, value in leaves(dict(whole)):
        first = str(at[0])
        base = dict(example) if first in example else {**example, first: whole[first]}
        for other in _like(value):
            yield spoiled(base, at, other)


def wrong(example: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Calls that have to be refused, each with what is wrong with it."""
    yield "an unknown field", {**example, "surely_unknown_field": 1}
    for name in cast("list[str]", schema.get("required", [])):
        yield f"no {name}", {field: value for field, value in example.items() if field != name}
    for name, field in _fields(schema).items():
        if all("$ref" in option or option.get("type", "object") != "object" for option in field.get("anyOf", [field])):
            yield f"an object that is no {name}", {**example, name: {"surely": {"unknown": [1]}}}


def filler(field: Mapping[str, Any]) -> Any:
    """Something of a field's type."""
    if "default" in field and field["default"] is not None:
        return field["default"]
    options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    kind = options[0].get("type") if options else None
    some: dict[object, Any] = {"string": "x", "integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
    return some.get(kind)


def _fields(schema: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return cast("Mapping[str, Mapping[str, Any]]", schema.get("properties", {}))


def _like(value: object) -> Iterator[object]:
    yield None
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, str):
        yield from STRINGS
    elif isinstance(value, int):
        yield from NUMBERS
    elif isinstance(value, float):
        yield from FLOATS
    elif isinstance(value, list):
        yield []
        yield cast("list[object]", value) * 300
